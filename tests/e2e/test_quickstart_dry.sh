#!/usr/bin/env bash
# LABEL unit TIMEOUT 240
# quickstart.sh without the program: a stand-in, under the real mpiexec, demands the files that a step reads, writes those it is
# to write and logs the call. Checks order, resuming, --fresh, stops, failures, and that bad losses and scores are found.
set -euo pipefail
source=${EARSHOT_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAILED: $*"; exit 1; }
mkdir "$tmp/jobs"
ln -s "$source/analysis" "$source/configs" "$source/slurm" "$tmp"
cp "$source"/jobs/{quickstart,pipeline}.sh "$tmp/jobs" # its checkout is $tmp

# A log with falling losses, as the trainer writes it
/usr/bin/python3 - "$source" "$tmp" <<'PYTHON'
import sys
sys.path[:0] = [sys.argv[1] + "/tests/unit", sys.argv[1] + "/analysis"]
import test_analysis
test_analysis.write(sys.argv[2] + "/log", test_analysis.example())
PYTHON
cat >"$tmp/standin" <<'STANDIN'
#!/bin/bash
[ "${OMPI_COMM_WORLD_RANK:-0}" = 0 ] || exit 0
echo "$*" >>"$CALLS"
[ -z "${STOP_AT-}" ] || [[ $* != *$STOP_AT* ]] || exit "$STOP_CODE"
job=$1 out='' dir='' init=default
shift
need() { [ -e "$1" ] || { echo "stand-in: $job: no $1" >&2; exit 74; }; }
operands=()
while [ $# -gt 0 ]; do
    case $1 in
    --config) need "$2"; config=$2 ;;
    --checkpoint | --store | --predictions | --ground-truth | --durations) need "$2" ;;
    --out | --json) out=$2 ;;
    --set) case $2 in run.dir=*) dir=${2#*=} ;; model.init=*) init=${2#*=} ;; esac ;;
    --init-only | --quiet) shift; continue ;;
    --*) ;;
    *) operands+=("$1"); shift; continue ;;
    esac
    shift 2
done
for f in "${operands[@]}"; do need "$f"; done
case $job in
demo)
    mkdir -p "$out"/desed/metadata/validation "$out"/maestro/metadata
    touch "$out"/desed/metadata/validation/validation{,_durations}.tsv "$out"/maestro/metadata/maestro_real_{validation,durations}.tsv ;;
train)
    name=$(basename "$config" .yaml) w=$EARSHOT_WORK
    dir=${dir:-$w/runs/$name}
    case $name in # what the configuration names
    pretrain-*) need "$w/stores/as-strong.h5"; init= ;;
    *) need "$w/stores/desed.h5"; need "$w/stores/maestro.h5" ;;
    esac
    if [ "$init" = default ]; then
        init=$w/runs/pretrain-${name##*-}/checkpoint-last.h5
        case $name in it?-stage2-*) init=$w/runs/${name/stage2/stage1}/checkpoint-last.h5 ;; esac
    fi
    [ -z "$init" ] || need "$init"
    case $name in it2-stage1-*) need "$w/pseudo/desed.h5"; need "$w/pseudo/maestro.h5" ;; esac
    mkdir -p "$dir"
    cp "$LOG" "$dir/metrics.h5"
    touch "$dir"/checkpoint-{last,best}.h5 ;;
evaluate)
    value=0.6
    case $out in *untrained*) value=0.1 ;; *"${BAD-nothing}"*) value=0.1 ;; esac
    echo "{\"psds1\": {\"value\": $value, \"classes\": {\"Dog\": $value}}, \"mpauc\": {\"value\": $value}}" >"$out" ;;
*) echo made >"$out" ;;
esac
STANDIN
chmod +x "$tmp/standin"
export EARSHOT_PROGRAM=$tmp/standin EARSHOT_WORK=$tmp/w EARSHOT_SOUNDS=$tmp CALLS=$tmp/calls LOG=$tmp/log/metrics.h5
unset EARSHOT_RANKS EARSHOT_MODELS

run() { # run CODE ARGUMENT...: output in $tmp/out and err
    local code=$1 rc=0
    shift
    : >"$CALLS"
    timeout -k 5 120 "$tmp/jobs/quickstart.sh" "$@" >"$tmp/out" 2>"$tmp/err" || rc=$?
    [ $rc = "$code" ] || { cat "$tmp/out" "$tmp/err"; fail "quickstart.sh $*: exit code $rc, want $code"; }
}
calls() { grep -c "^$1" "$CALLS" || true; }

echo "== refusals"
run 64 --frobnicate
[ "$(wc -l <"$tmp/err")" = 1 ] || fail "want one line"
EARSHOT_MODELS="atst vit" run 64
grep -qx 'quickstart: EARSHOT_MODELS: no configs/toy/pretrain-vit.yaml' "$tmp/err" || fail "$(cat "$tmp/err")"

echo "== dry run: as kept, and nothing is run"
run 0 --dry-run
if [ -s "$CALLS" ] || [ -e "$EARSHOT_WORK" ]; then fail "a dry run did something"; fi
sed "s| --oversubscribe||; s|$tmp/w|WORK|g; s|$tmp|CHECKOUT|g" "$tmp/out" >"$tmp/dry"
[ "${1-}" != --update ] || cp "$tmp/dry" "$source/tests/e2e/expected_quickstart.txt"
diff -u "$source/tests/e2e/expected_quickstart.txt" "$tmp/dry" || fail "the dry run is not as expected"

echo "== stopped at iteration 1, stage 2"
STOP_AT=it1-stage2-atst.yaml STOP_CODE=75 run 75
grep -qx 'pipeline: it1-stage2 atst: train: stopped; run again to resume' "$tmp/err" || fail "stopped: $(cat "$tmp/err")"
[ -e "$tmp/w/report/it1-stage1-atst-maestro.json" ] || fail "it1-stage1 was not scored"
[ "$(calls '.*it2')" = 0 ] || fail "it went on after the stop"

echo "== resumed: what is there is kept"
run 0
[ "$(calls demo)/$(calls prepare)/$(calls train)/$(calls ensemble)" = 1/0/16/4 ] || fail "resumed: $(cat "$CALLS")"
[ "$(calls predict)/$(calls evaluate)" = 20/24 ] || fail "resumed: $(cat "$CALLS")"
[ -s "$tmp/w/report/curves.png" ] || fail "no curves"
[ "$(grep -c '0.6000 *0.6000 *0.6000$' "$tmp/out")" = 14 ] || fail "table: $(tail -n 12 "$tmp/out")"
grep -q '^untrained .* 0.1000 *0.1000 *0.1000$' "$tmp/out" || fail "table: no untrained model"
tail -n 1 "$tmp/out" | grep -q '^quickstart: done in [0-9]* s' || fail "no total time"

echo "== other models: these alone"
EARSHOT_MODELS=fpasst EARSHOT_WORK=$tmp/one run 0
[ "$(calls train)/$(calls ensemble)" = 6/4 ] || fail "one model: $(cat "$CALLS")"
if grep -q atst "$CALLS"; then fail "one model: $(cat "$CALLS")"; fi

echo "== a score not above the untrained model's; a loss that rises; a step that fails"
rm "$tmp"/w/report/it2-ensemble-*.json
BAD=it2-ensemble-maestro run 1
grep -q '^FAILED: it2-ensemble: mpAUC 0.1000 is not above' "$tmp/out" || fail "$(cat "$tmp/out")"
STOP_AT=pretrain STOP_CODE=65 run 65
grep -qx 'pipeline: pretrain atst: train: exit code 65' "$tmp/err" || fail "$(cat "$tmp/err")"
/usr/bin/python3 - "$LOG" <<'PYTHON'
import sys
import h5py
with h5py.File(sys.argv[1], "r+") as f:
    f["leaf"][...] = f["leaf"][()][::-1]
PYTHON
run 1 --fresh
[ "$(calls prepare)/$(calls predict)/$(calls evaluate)" = 3/26/30 ] || fail "--fresh: $(cat "$CALLS")"
grep -q '^FAILED: it1-stage2-atst: the loss does not fall' "$tmp/out" || fail "$(cat "$tmp/out")"
echo ok
