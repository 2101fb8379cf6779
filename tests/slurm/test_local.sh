#!/usr/bin/env bash
# LABEL slurm TIMEOUT 600
# On a private Slurm: dependencies, arrays, ranks, signals, 75 -> requeue with a stand-in for earshot, under srun and under
# mpiexec; then, where the release program is built, the first phases of the toy pipeline on 2 ranks.
# Every wait has an end; the cluster goes down however the test ends. EARSHOT_KEEP=1 keeps the folder.
set -euo pipefail
source=${EARSHOT_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
unset EARSHOT_WORK EARSHOT_PROGRAM "${!SLURM_@}" "${!SBATCH_@}"
export S=${TMPDIR:-/tmp}/earshot-slurm.$$ N=2 HOME=/root
bash "$source/tests/slurm/cluster.sh" probe || exit $?
cleanup() {
    local rc=$?
    [ $rc = 0 ] || tail -n 30 "$S"/work*/slurm/*.log 2>/dev/null || true
    bash "$source/tests/slurm/cluster.sh" down || echo "the cluster did not go down; see $S"
    [ -n "${EARSHOT_KEEP-}" ] || rm -rf "$S"
    exit $rc
}
trap cleanup EXIT
trap 'exit 143' TERM INT
bash "$source/tests/slurm/cluster.sh" up
export SLURM_CONF=$S/slurm.conf
cd "$S"
ln -s "$source/slurm" slurm
mkdir configs

fail() { echo "FAILED: $*"; exit 1; }
slurm() { timeout -k 5 20 "$@"; } # a lost controller must not hang the test
state() { slurm scontrol -o show job "$1" | sed -n 's/^.*JobState=\([A-Z]*\) Reason=\([^ ]*\).*$/\1 \2/p'; }
empty() { [ -z "$(slurm squeue -h -r)" ]; }
# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
    local end=$((SECONDS + $1)) text=${*:2}
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { slurm squeue -r || true; fail "waited in vain for: $text"; }
        sleep 0.2
    done
}
# submit GRAPH-LINES [submit.sh's options]: columns separated by commas, several needs by +; fills the array job
declare -A job
submit() {
    sed 's/,/\t/g; s/+/,/g' <<<"$1" >graph.tsv
    shift
    EARSHOT_PROGRAM=$S/standin slurm/submit.sh --graph graph.tsv --site site.sh "$@" >submitted
    while read -r phase _ id; do job[${phase%:}]=$id; done <submitted
}
# cut_wait JOB: once it is back in the queue, it does not serve Slurm's 2 minutes. A start within the second of the requeue
# fails (Slurm 22.05: "Job credential revoked", its times are whole seconds).
cut_wait() {
    wait_for 60 back_in_queue "$1"
    sleep 2
    slurm scontrol update JobId="$1" StartTime=now
}
back_in_queue() { [ "$(state "$1")" = "PENDING BeginTime" ]; }
seen() { grep -qxF -- "$1" "$S/events"; }

# The stand-in: `note X` says so; `train X` is asked to stop in its first run, and finishes in the second; `fail X` fails.
cat >standin <<'STANDIN'
#!/bin/bash
rank=${OMPI_COMM_WORLD_RANK:-$SLURM_PROCID} size=${OMPI_COMM_WORLD_SIZE:-$SLURM_NTASKS}
say() { echo "$*" >>"$EARSHOT_EVENTS"; } # short lines: appended whole
case $1 in
note) [ "$rank" != 0 ] || say "$*" ;;
fail) exit "$2" ;;
train)
    [ "$2" != quick ] || exit 0
    if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
        trap 'say "stopped $2 $rank/$size"; exit 75' USR1
        say "started $2 $rank/$size"
        for _ in $(seq 600); do sleep 0.1; done
        exit 70
    fi
    say "resumed $2 $rank/$size $3 $4" ;;
esac
STANDIN
chmod +x standin
export EARSHOT_EVENTS=$S/events
: >events

echo "== dependencies, arrays, requeue under srun"
echo 'threads=1 launcher=srun' >site.sh
submit $'list,part,x y z\nlist,arch,a quick
one,part,-,-,1,1,1,note one {part}
two,arch,one,afterok,1,3,1,train {arch} ; note two {arch}
three,arch,two,aftercorr,2,1,1,note three {arch}
four,-,three,afterok,1,1,1,note four {arch}'
wait_for 60 seen 'started a 1/2'
wait_for 60 seen 'started a 0/2'
for x in x y z; do seen "note one $x" || fail "two started before one $x"; done
[ "$(grep -c started events)" = 2 ] || fail "training on 3 ranks, want 2"
slurm scancel -s USR1 "${job[two]}_0" # what Slurm does before the time limit
wait_for 60 back_in_queue "${job[two]}_0"
if ! { seen 'stopped a 0/2' && seen 'stopped a 1/2'; }; then fail "USR1 did not reach both ranks"; fi
wait_for 60 seen 'note three quick' # its task of two is done: aftercorr
seen 'note two quick' || fail "three quick ran before two quick was done"
sleep 1
if seen 'note three a' || seen 'note two a' || grep -q four events; then fail "a dependent did not wait for the requeued task"; fi
cut_wait "${job[two]}_0"
wait_for 60 seen 'note four a quick'
wait_for 30 empty
seen 'resumed a 1/2 --set threads_per_rank=1' || fail "the requeued task did not run again"
[ "$(grep -c . events)" = 14 ] || fail "want 14 events, got: $(cat events)"
log=build/quickstart/slurm/two.${job[two]}_0.log
grep -q 'restart 0.*got' "$log" && fail "under srun the signal is the ranks' alone"
if ! { grep -q 'restart 0): stopped early' "$log" && grep -q 'restart 1): done' "$log"; }; then fail "log: $(cat "$log")"; fi
for phase in one two three four; do
    slurm scontrol -o show job "${job[$phase]}" | grep -v 'JobState=COMPLETED .*ExitCode=0:0' && fail "$phase did not complete"
done

echo "== signals under mpiexec"
: >events
echo 'threads=1 launcher=mpiexec launcher_options=(--bind-to none --oversubscribe)' >site.sh
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader
submit $'list,arch,usr1 term\ntwo,arch,-,-,1,2,1,train {arch}\nthree,-,two,afterok,1,1,1,note three {arch}'
wait_for 60 grep -q 'started usr1 1/2' events
wait_for 60 grep -q 'started term 1/2' events
slurm scancel -b -s USR1 "${job[two]}_0"
slurm scancel -b -s TERM "${job[two]}_1"
for i in 0 1; do cut_wait "${job[two]}_$i"; done
wait_for 60 seen 'note three usr1 term'
wait_for 30 empty
[ "$(grep -c '^stopped ' events)" = 4 ] || fail "not all ranks were asked to stop: $(cat events)"
[ "$(grep -c '^resumed ' events)" = 4 ] || fail "not all ranks ran again: $(cat events)"

echo "== failures"
: >events
echo 'threads=1 max_restarts=0' >site.sh
submit $'bad,-,-,-,1,1,1,fail 65 ; note after\nnever,-,bad,afterok,1,1,1,note never\nloop,-,-,-,1,1,1,fail 75'
wait_for 60 empty
slurm scontrol -o show job "${job[bad]}" | grep -q 'JobState=FAILED .*ExitCode=65:0' || fail "bad: want its exit code 65"
slurm scontrol -o show job "${job[loop]}" | grep -q 'JobState=FAILED .*ExitCode=75:0' || fail "loop: want to give up with 75"
[[ $(state "${job[never]}") = CANCELLED* ]] || fail "never: want it cancelled, is $(state "${job[never]}")"
[ ! -s events ] || fail "something ran after a failure: $(cat events)"

program=$source/build/release/earshot
configs=$source/configs/toy
if ! "$program" demo --help >/dev/null 2>&1 || [ ! -e "$configs/it1-stage1-atst.yaml" ]; then
    echo "the toy pipeline is left out: no $program that knows demo, or no configs/toy"
    echo ok
    exit 0
fi

echo "== the first phases of the toy pipeline, 2 ranks"
export EARSHOT_WORK=$S/work OMP_NUM_THREADS=1
timeout -k 5 120 "$program" demo --config "$configs/demo.yaml" --out "$EARSHOT_WORK/demo" --clips 8 --quiet
echo 'threads=1 nodes_max=1 ranks=2 launcher=srun' >site.sh
awk -F'\t' -v OFS='\t' '
    $1 == "pretrain" { $8 = $8 " --set train.max_steps=3" }
    $1 == "it1-stage1" { $8 = $8 " --set train.max_steps=2" }
    $1 !~ /^(it1-(stage2|predict|ensemble)|it2-.*|evaluate)$/ { if ($1 !~ /^(#|list)/) $6 = 2; print }' slurm/graph.tsv >graph.tsv
EARSHOT_PROGRAM=$program slurm/submit.sh --graph graph.tsv --site site.sh --config-dir "$configs" >submitted
wait_for 300 empty
while read -r phase _ id; do
    slurm scontrol -o show job "$id" | grep -v 'JobState=COMPLETED ' && fail "$phase did not complete"
done <submitted
[ "$(wc -l <submitted)" = 3 ] || fail "want 3 phases, got: $(cat submitted)"
for run in pretrain-atst it1-stage1-atst; do
    digest=$("$program" inspect --digest "$EARSHOT_WORK/runs/$run/checkpoint-last.h5")
    [[ $digest =~ ^[0-9a-f]{16}$ ]] || fail "$run: no digest of its checkpoint"
done
echo ok
