#!/usr/bin/env bash
# A private Slurm of N nodes on this machine, without systemd or cgroups, with a munged of its own.
# usage: S=STATE-FOLDER [N=2] tests/slurm/cluster.sh up|down|probe|kill NODE|revive NODE     then: export SLURM_CONF=$S/slurm.conf
# probe: exit 0 when such a cluster can run here; else 77 and the reason. kill: the node's slurmd and all that runs on it, by
# SIGKILL; revive: a new slurmd. Partition urgent pre-empts jobs of main (the default). Logs in $S/log. down removes all but S.
set -uo pipefail
S=${S:?the state folder} N=${N:-2}
export SLURM_CONF=$S/slurm.conf
host=$(hostname -s)

probe() {
    [ "$(id -u)" = 0 ] || { echo "skipped: a private Slurm needs root"; exit 77; }
    local program
    for program in munged slurmctld slurmd sbatch srun scontrol; do
        command -v $program >/dev/null || { echo "skipped: no $program; run jobs/setup.sh"; exit 77; }
    done
}

# free_ports N: the first of N+1 neighbouring ports that nobody listens on, elsewhere for each process
free_ports() {
    local port try
    for try in $(seq 50); do
        port=$((20000 + ($$ + 97 * try) % 1100 * 10))
        ss -Htln | awk -v a=$port -v b=$((port + $1)) '{ sub(/.*:/, "", $4); if ($4 >= a && $4 <= b) exit 1 }' && break
    done
    echo "$port"
}

write_configuration() {
    local port
    port=$(free_ports "$N")
    mkdir -p "$S"/{state,log,pid,munge}
    for i in $(seq "$N"); do mkdir -p "$S/spool/n$i" "$S/tmp/n$i"; done
    echo 'CgroupPlugin=cgroup/v1' >"$S/cgroup.conf" # else slurmd wants a cgroup file system
    cat >"$SLURM_CONF" <<CONF
ClusterName=earshot$port
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$S/munge/socket
CredType=cred/munge
StateSaveLocation=$S/state
SlurmdSpoolDir=$S/spool/%n
TmpFS=$S/tmp/%n
SlurmctldPidFile=$S/pid/slurmctld
SlurmdPidFile=$S/pid/slurmd.%n
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$S/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
MpiDefault=pmix
ReturnToService=2
SlurmdTimeout=5
KillWait=10
KillOnBadExit=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=n[1-$N] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + N))] CPUs=8 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=ALL PriorityTier=10
CONF
}

up() {
    probe
    if ! getent ahostsv4 127.0.0.1 >/dev/null || [ -z "$(ip -4 -o addr show scope global)" ]; then
        ip addr add 10.77.0.254/32 dev lo && touch "$S/lo" # with loopback alone Slurm resolves nothing
    fi
    write_configuration
    chmod 755 "$S" "$S/munge"
    dd if=/dev/urandom of="$S/munge/key" bs=128 count=1 2>/dev/null && chmod 400 "$S/munge/key"
    munged --force --key-file="$S/munge/key" --socket="$S/munge/socket" --pid-file="$S/pid/munged" --log-file="$S/log/munged.log" \
        --seed-file="$S/munge/seed" || { echo "munged did not start; see $S/log" >&2; exit 1; }
    slurmctld || { echo "slurmctld did not start; see $S/log" >&2; exit 1; }
    for i in $(seq "$N"); do slurmd -N "n$i" || { echo "slurmd n$i did not start; see $S/log" >&2; exit 1; }; done
    for _ in $(seq 200); do
        [ "$(timeout -k 1 5 sinfo -h -t idle -p main -o %D 2>/dev/null)" = "$N" ] && exit 0
        sleep 0.1
    done
    echo "the nodes did not come up; see $S/log" >&2
    exit 1
}

down() {
    timeout -k 1 5 scancel -u root 2>/dev/null
    for _ in $(seq 80); do # steps outlive their slurmd: the jobs go first
        [ -z "$(timeout -k 1 5 squeue -h 2>/dev/null)" ] && break
        sleep 0.1
    done
    local pids left=1 i pid
    pids=$(cat "$S"/pid/* 2>/dev/null)
    for i in $(seq 100); do
        left=0
        for pid in $pids; do
            case $(cat "/proc/$pid/comm" 2>/dev/null) in slurmctld | slurmd | munged) ;; *) continue ;; esac
            left=1
            [ "$i" = 1 ] && kill "$pid"
            [ "$i" = 90 ] && kill -KILL "$pid"
        done
        [ $left = 0 ] && break
        sleep 0.1
    done
    [ ! -e "$S/lo" ] || ip addr del 10.77.0.254/32 dev lo
    [ $left = 0 ]
}

# below PID...: these processes and all their children
below() {
    local pid
    for pid; do
        echo "$pid"
        # shellcheck disable=SC2046
        below $(pgrep -P "$pid")
    done
}

kill_node() {
    local stepds
    stepds=$(ss -xlpH | awk -v at="$S/spool/$1/" 'index($0, at)' | grep -o 'pid=[0-9]*' | cut -d = -f 2 | sort -u)
    # shellcheck disable=SC2046,SC2086
    kill -KILL $(below "$(cat "$S/pid/slurmd.$1")" $stepds | sort -u) 2>/dev/null
}

case ${1-} in
kill) kill_node "$2" ;;
revive) slurmd -N "$2" ;;
up) mkdir -p "$S" && up ;;
down) down ;;
probe) probe ;;
*) echo "usage: S=STATE-FOLDER [N=2] $0 up|down|probe|kill NODE|revive NODE" >&2; exit 64 ;;
esac
