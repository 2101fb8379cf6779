#!/usr/bin/env bash
# LABEL slurm TIMEOUT 900
# On a private Slurm: dependencies, arrays, ranks, signals, 75 -> requeue with a stand-in for earshot, under srun and under
# mpiexec; then the program itself: trainings that are pre-empted, lose their node and reach their time limit end as one that was
# left alone; the toy pipeline, all its phases on 2 ranks.
# Every wait has an end; the cluster goes down however the test ends. EARSHOT_KEEP=1 keeps the folder.
set -euo pipefail
source=${EARSHOT_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
unset EARSHOT_WORK EARSHOT_PROGRAM "${!SLURM_@}" "${!SBATCH_@}"
export S=${TMPDIR:-/tmp}/earshot-slurm.$$ N=4 HOME=/root
bash "$source/tests/slurm/cluster.sh" probe || exit $?
cleanup() {
    local rc=$?
    [ $rc = 0 ] || tail -n 30 "$S"/{work,disturbed,build/quickstart}/slurm/*.log 2>/dev/null || true
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
submitted_program=$S/standin
submit() {
    sed 's/,/\t/g; s/+/,/g' <<<"$1" >graph.tsv
    shift
    EARSHOT_PROGRAM=$submitted_program slurm/submit.sh --graph graph.tsv --site site.sh "$@" >submitted
    while read -r phase _ id; do job[${phase%:}]=$id; done <submitted
}
# cut_wait JOB...: once they are back in the queue, they do not serve Slurm's 2 minutes. A start within the second of the requeue
# fails (Slurm 22.05: "Job credential revoked", its times are whole seconds); so does one while the old step still holds its
# socket, 3 s here ("Cannot bind() UNIX socket").
cut_wait() {
    local id raw
    for id; do wait_for 90 back_in_queue "$id"; done
    sleep 2
    for id; do
        [[ $(state "$id") != RUNNING* ]] || continue # this machine was so slow that it did serve them
        raw=$(slurm scontrol -o show job "$id" | sed 's/^JobId=\([0-9]*\) .*/\1/')
        wait_for 30 no_step "$raw"
        rm -f "$S"/spool/*/stepd.slurm.pmix."$raw".* # of a step that was killed
        slurm scontrol update JobId="$id" StartTime=now
    done
}
no_step() { ! ss -xlH | grep -q "stepd.slurm.pmix.$1[.]"; }
back_in_queue() { slurm scontrol -o show job "$1" | grep -Eq 'JobState=PENDING Reason=BeginTime |Restarts=[1-9].* JobState=RUNNING|JobState=RUNNING .*Restarts=[1-9]'; }
seen() { grep -qxF -- "$1" "$S/events"; }

# The stand-in: `note X` says so; `train X` is asked to stop in its first run, and finishes in the second; `fail X` fails.
cat >standin <<'STANDIN'
#!/bin/bash
rank=${OMPI_COMM_WORLD_RANK:-$SLURM_PROCID} size=${OMPI_COMM_WORLD_SIZE:-$SLURM_NTASKS}
say() { echo "$*" >>"$EARSHOT_EVENTS"; } # short lines: appended whole
all="$*"
if [[ "$rank $all" = 0\ *\ --json\ * ]]; then result=${all##*--json }; fi
finish() { [ -z "${result-}" ] || echo '{}' >"$result"; }
case $1 in
note) [ "$rank" != 0 ] || say "${all%% --*}"; finish ;;
mute) ;; # exit code 0, but no result
fail) exit "$2" ;;
train)
    [ "$2" != quick ] || { finish; exit 0; }
    if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
        trap 'say "stopped $2 $rank/$size"; exit 75' USR1 TERM
        say "started $2 $rank/$size"
        for _ in $(seq 600); do sleep 0.1; done
        exit 70
    fi
    say "resumed $2 $rank/$size $3 $4"
    finish ;;
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
if ! { grep -q 'restart 0): back into the queue' "$log" && grep -q 'restart 1): done' "$log"; }; then fail "log: $(cat "$log")"; fi
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
cut_wait "${job[two]}_0" "${job[two]}_1"
wait_for 60 seen 'note three usr1 term'
wait_for 30 empty
[ "$(grep -c '^stopped ' events)" = 4 ] || fail "not all ranks were asked to stop: $(cat events)"
[ "$(grep -c '^resumed ' events)" = 4 ] || fail "not all ranks ran again: $(cat events)"

echo "== failures"
: >events
echo 'threads=1 max_restarts=0' >site.sh
submit $'bad,-,-,-,1,1,1,fail 65 ; note after\nnever,-,bad,afterok,1,1,1,note never\nloop,-,-,-,1,1,1,fail 75\nmute,-,-,-,1,1,1,mute'
wait_for 60 empty
slurm scontrol -o show job "${job[bad]}" | grep -q 'JobState=FAILED .*ExitCode=65:0' || fail "bad: want its exit code 65"
slurm scontrol -o show job "${job[loop]}" | grep -q 'JobState=FAILED .*ExitCode=75:0' || fail "loop: want to give up with 75"
slurm scontrol -o show job "${job[mute]}" | grep -q 'JobState=FAILED .*ExitCode=75:0' || fail "mute: 0 without a result was believed"
[[ $(state "${job[never]}") = CANCELLED* ]] || fail "never: want it cancelled, is $(state "${job[never]}")"
[ ! -s events ] || fail "something ran after a failure: $(cat events)"
echo 'threads=1' >site.sh
submit $'list,arch,cancelled\ncancelled,-,-,-,1,2,1,train {arch}'
wait_for 60 grep -q 'started cancelled 1/2' events
slurm scancel "${job[cancelled]}"
wait_for 60 empty
[[ $(state "${job[cancelled]}") = CANCELLED* ]] || fail "a cancelled job came back: $(state "${job[cancelled]}")"

program=${EARSHOT_BUILD:-$source/build/release}/earshot
configs=$source/configs/toy
[ -x "$program" ] || { echo "no $program: the rest is left out"; exit 77; }
export OMP_NUM_THREADS=1
timeout -k 5 120 "$program" demo --config "$configs/demo.yaml" --out "$S/work/demo" --clips 8 --quiet
mkdir -p disturbed/stores
EARSHOT_WORK=$S/work timeout -k 5 120 "$program" prepare --config "$configs/data-as-strong.yaml" --quiet \
    --out "$S/disturbed/stores/as-strong.h5"

echo "== three trainings on 2 ranks: pre-empted; its node dies; at its time limit, with no warning but Slurm's TERM"
export EARSHOT_WORK=$S/disturbed
steps=30
# disturb NAME OPTION: a training, so slow that there is something to disturb
disturb() {
    echo "threads=1 launcher=srun sbatch_options=($2)" >site.sh
    [ "$1" != limit ] || echo 'signal_s=0' >>site.sh
    submit "$1,-,-,-,1,2,1,train --config {config}/pretrain/atst.yaml --set run.dir={work}/runs/$1 --set train.epochs=$steps --set train.validate_every=0 --set checkpoint.every_seconds=4" \
        --config-dir "$configs"
}
# the same, alone and never stopped
OPENBLAS_CORETYPE=Haswell ONEDNN_MAX_CPU_ISA=AVX2 OMP_PROC_BIND=false timeout -k 5 240 "$program" train --quiet \
    --config "$configs/pretrain-atst.yaml" --set train.epochs=$steps --set train.validate_every=0 --set threads_per_rank=1 --set run.dir="$S/alone"
submitted_program=$program
ES_FAULT=slow-step:1100 disturb limit "-w n4 --time=1"
ES_FAULT=slow-step:200 disturb preempt "-w n1"
ES_FAULT=slow-step:200 disturb node "--exclude=n1,n4"
wait_for 90 test -e "$EARSHOT_WORK/runs/preempt/checkpoint-last.h5"
urgent=$(slurm sbatch --parsable -p urgent -w n1 --exclusive -t 1 -o /dev/null --wrap 'sleep 1')
wait_for 90 test -e "$EARSHOT_WORK/runs/node/checkpoint-last.h5"
victim=$(slurm squeue -h -j "${job[node]}" -o %N)
bash "$source/tests/slurm/cluster.sh" kill "$victim"
rm -rf "${S:?}/spool/$victim" && mkdir "$S/spool/$victim"
cut_wait "${job[preempt]}" "${job[node]}"
cut_wait "${job[limit]}"
slurm scontrol update JobId="${job[limit]}" TimeLimit=10 # once is enough
EARSHOT_PROGRAM=$program slurm/status.sh --graph graph.tsv --config-dir "$configs" --site site.sh >status.txt
grep -Eq "^node .* ${job[node]} (PENDING|RUNNING|CONFIGURING|COMPLETING|COMPLETED).* step [0-9]+" status.txt || fail "status: $(cat status.txt)"
wait_for 240 empty
digest() { "$program" inspect --digest "$1/checkpoint-last.h5"; }
want=$(digest "$S/alone")
[[ $want =~ ^[0-9a-f]{16}$ ]] || fail "no digest of the checkpoint: $want"
for name in preempt node limit; do
    slurm scontrol -o show job "${job[$name]}" | grep -v 'JobState=COMPLETED ' && fail "$name did not complete"
    log=$EARSHOT_WORK/slurm/$name.${job[$name]}.log
    grep -q 'resume step=' "$log" || fail "$name was not disturbed: $(cat "$log")"
    [ "$(digest "$EARSHOT_WORK/runs/$name")" = "$want" ] || fail "$name: $(digest "$EARSHOT_WORK/runs/$name"), alone $want"
    /usr/bin/python3 "$source/analysis/compare_runs.py" "$EARSHOT_WORK/runs/$name" "$S/alone" || fail "$name: the losses differ"
done
slurm scontrol -o show job "$urgent" | grep -q 'JobState=COMPLETED ' || fail "the urgent job did not run"

echo "== the toy pipeline on 2 ranks, a few steps a phase; pre-training is stopped once and requeued"
export EARSHOT_WORK=$S/work
echo 'threads=1 nodes_max=1 ranks=2 launcher=srun' >site.sh
sed -E '/^pretrain/s/run.dir=\{run\}/& --set train.max_steps=12/; /^it.-stage/s/run.dir=\{run\}/& --set train.max_steps=2/; s/checkpoint-best/checkpoint-last/g' slurm/graph.tsv >graph.tsv
EARSHOT_PROGRAM=$program slurm/submit.sh --graph graph.tsv --site site.sh --only atst --config-dir "$configs" >submitted
[ "$(wc -l <submitted)" = 10 ] || fail "want 10 phases, got: $(cat submitted)"
while read -r phase _ id; do job[${phase%:}]=$id; done <submitted
log=$EARSHOT_WORK/slurm/pretrain.${job[pretrain]}_0.log
wait_for 120 grep -q 'model parameters' "$log"
slurm scancel -s USR1 "${job[pretrain]}_0"
cut_wait "${job[pretrain]}_0"
wait_for 240 empty
while read -r phase _; do
    phase=${phase%:}
    slurm scontrol -o show job "${job[$phase]}" | grep -v 'JobState=COMPLETED ' && fail "$phase did not complete"
done <submitted
grep -q 'restart 1): done' "$log" || fail "pre-training did not go on: $(cat "$log")"
EARSHOT_PROGRAM=$program slurm/status.sh --graph graph.tsv --config-dir "$configs" --site site.sh --only atst >status.txt
grep -Eq "^pretrain +atst +${job[pretrain]}_0 .* step 12$" status.txt || fail "status: $(cat status.txt)"
grep -Eq '^evaluate .* it2-ensemble-desed.h5 ok, .* it2-ensemble-maestro.json ok$' status.txt || fail "status: $(cat status.txt)"
[[ $(digest "$EARSHOT_WORK/runs/it2-stage2-atst") =~ ^[0-9a-f]{16}$ ]] || fail "it2-stage2: no checkpoint"
grep -q '"psds1"' "$EARSHOT_WORK/report/it2-ensemble-desed.json" || fail "no PSDS1 at the end"
grep -q '"mpauc"' "$EARSHOT_WORK/report/it2-ensemble-maestro.json" || fail "no mpAUC at the end"
echo ok
