#!/usr/bin/env bash
# The real programs on a tiny corpus: equal bits on 1, 2, 4 ranks, resume on other rank counts, signals, a killed rank, bad input.
# TIMEOUT 900
set -euo pipefail
cd "$EARSHOT_SOURCE"
program=$EARSHOT_BUILD/earshot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export EARSHOT_WORK=$work OMP_NUM_THREADS=1

fail() { echo "FAILED: $*" >&2; exit 1; }
# on RANKS ARGUMENT...: runs the program, prints nothing but errors; the exit code is the program's
on() { local n=$1; shift; mpiexec --oversubscribe --bind-to none -n "$n" "$program" "$@" --quiet >"$work/out" 2>"$work/err"; }
# ok ...: must succeed
ok() { on "$@" || { rc=$?; grep "^earshot" "$work/err" >&2; fail "exit code $rc: $*"; }; }
# refused CODE TEXT RANKS ARGUMENT...: must end with CODE and exactly one error line of ours, which holds TEXT
refused() {
    local code=$1 text=$2 rc=0
    shift 2
    on "$@" || rc=$?
    [ $rc = "$code" ] || { cat "$work/err" >&2; fail "exit code $rc, want $code: $*"; }
    [ "$(grep -c '^earshot [a-z]*: ' "$work/err")" = 1 ] || { cat "$work/err" >&2; fail "want one error line: $*"; }
    grep '^earshot [a-z]*: ' "$work/err" | grep -qF -- "$text" || { cat "$work/err" >&2; fail "want \"$text\": $*"; }
}
digest() { "$program" inspect --digest "$1"; }

mkdir "$work/stores"
ok 2 demo --out "$work/demo" --sounds "" --clips 16 --set demo.clips_as=40 --set demo.clips_as_eval=8 --set demo.maestro_train=10 \
    --set demo.maestro_validation=5 --set demo.maestro_seconds=20
for corpus in as-strong desed maestro; do ok 2 prepare --config configs/toy/data-$corpus.yaml --out "$work/stores/$corpus.h5"; done
for n in 1 3; do ok $n prepare --config configs/toy/data-desed.yaml --out "$work/desed-$n.h5"; done
[ "$(digest "$work/desed-1.h5")" = "$(digest "$work/desed-3.h5")" ] || fail "prepare: stores of 1 and 3 ranks differ"

# the same bits on any number of ranks, in one go or resumed
pre=(train --config configs/toy/pretrain-atst.yaml --set pretrain.batch=1 --set train.epochs=2 --set train.validate_every=1)
for n in 1 2 4; do ok $n "${pre[@]}" --set "run.dir=$work/runs/p$n" --set train.max_steps=6; done
ok 4 "${pre[@]}" --set "run.dir=$work/runs/resumed" --set train.max_steps=2
ok 1 "${pre[@]}" --set "run.dir=$work/runs/resumed" --set train.max_steps=4
ok 2 "${pre[@]}" --set "run.dir=$work/runs/resumed" --set train.max_steps=6
want=$(digest "$work/runs/p1/checkpoint-last.h5")
for r in p2 p4 resumed; do [ "$(digest "$work/runs/$r/checkpoint-last.h5")" = "$want" ] || fail "run $r differs from p1"; done
/usr/bin/python3 analysis/compare_runs.py "$work/runs/p1" "$work/runs/p4" || fail "losses of 1 and 4 ranks differ"
/usr/bin/python3 analysis/compare_runs.py "$work/runs/p1" "$work/runs/resumed" || fail "losses of a resumed run differ"

mkdir -p "$work/runs/pretrain-atst" && cp "$work/runs/p1/checkpoint-last.h5" "$work/runs/pretrain-atst/"
small=(--set train.epochs=1 --set train.validate_every=1 --set train.leaves=4)
one=(train --config configs/toy/it1-stage1-atst.yaml "${small[@]}")
for n in 1 2; do ok $n "${one[@]}" --set "run.dir=$work/runs/s$n" --set train.max_steps=2; done
[ "$(digest "$work/runs/s1/checkpoint-last.h5")" = "$(digest "$work/runs/s2/checkpoint-last.h5")" ] || fail "stage 1 differs"
two=(train --config configs/toy/it1-stage2-atst.yaml "${small[@]}" --set "model.init=$work/runs/s1/checkpoint-last.h5")
for n in 1 2; do ok $n "${two[@]}" --set "run.dir=$work/runs/t$n" --set train.max_steps=2; done
[ "$(digest "$work/runs/t1/checkpoint-last.h5")" = "$(digest "$work/runs/t2/checkpoint-last.h5")" ] || fail "stage 2 differs"

# predictions, ensemble
last=$work/runs/t1/checkpoint-last.h5
for n in 1 2 4; do ok $n predict --checkpoint "$last" --store "$work/stores/desed.h5" --out "$work/pred-$n.h5"; done
[ "$(digest "$work/pred-1.h5")" = "$(digest "$work/pred-4.h5")" ] || fail "predictions of 1 and 4 ranks differ"
[ "$(digest "$work/pred-1.h5")" = "$(digest "$work/pred-2.h5")" ] || fail "predictions of 1 and 2 ranks differ"
ok 2 ensemble --out "$work/ensemble.h5" "$work/pred-1.h5" "$work/pred-2.h5"
ok 2 predict --checkpoint "$last" --store "$work/stores/maestro.h5" --out "$work/maestro.h5"
refused 65 filenames 2 ensemble --out "$work/x.h5" "$work/pred-1.h5" "$work/maestro.h5"
ok 1 metrics "$work/runs/p1/metrics.h5" "$work/runs/s1/metrics.h5" --csv "$work/runs.csv"
grep -q 'step/loss,1,' "$work/runs.csv" || fail "metrics --csv: no losses"

# a signal: 75 and a checkpoint; a killed rank: the job ends; then the same command finishes with the same digest
long=("${pre[@]}" --set train.epochs=30 --set train.validate_every=0 --set checkpoint.every_steps=5)
ok 2 "${long[@]}" --set "run.dir=$work/runs/whole"
want=$(digest "$work/runs/whole/checkpoint-last.h5")
interrupted() { # NAME SIGNAL WHO: mpiexec gets a USR1, one rank a KILL
    local dir=$work/runs/$1 launcher rc=0
    mpiexec --oversubscribe --bind-to none -n 2 "$program" "${long[@]}" --set "run.dir=$dir" --quiet >/dev/null 2>"$work/err" &
    launcher=$!
    for _ in $(seq 300); do [ -e "$dir/checkpoint-last.h5" ] && break; sleep 0.1; done
    if [ "$3" = launcher ]; then kill "-$2" $launcher; else kill "-$2" "$(pgrep -P $launcher | tail -n 1)"; fi
    wait $launcher || rc=$?
    echo $rc
}
rc=$(interrupted term USR1 launcher) # mpiexec forwards USR1; on TERM it kills the ranks itself
[ "$rc" = 75 ] || fail "SIGUSR1: exit code $rc, want 75"
rc=$(interrupted killed KILL rank)
case $rc in 0 | 75) fail "kill -9: exit code $rc" ;; esac
for r in term killed; do
    ok 2 "${long[@]}" --set "run.dir=$work/runs/$r"
    [ "$(digest "$work/runs/$r/checkpoint-last.h5")" = "$want" ] || fail "run $r: another result after it was resumed"
done
ok 2 "${long[@]}" --set "run.dir=$work/runs/whole" # finished: nothing to do

# bad input, on 2 ranks: one line, the documented code, nothing damaged
before=$(digest "$work/runs/p1/checkpoint-last.h5")
refused 64 optimizer.head_lr 2 "${pre[@]}" --set "run.dir=$work/runs/p1" --set optimizer.head_lr=0.5 # other value on resume
refused 64 train.epochs 2 "${pre[@]}" --set train.epoch=3                                           # misspelt key
refused 64 model.depth 2 "${pre[@]}" --set model.depth=0                                            # out of range
refused 74 nowhere.h5 2 "${pre[@]}" --set "run.dir=$work/runs/x" --set "data.stores=[$work/nowhere.h5]"
head -c 5000 "$work/stores/desed.h5" >"$work/cut.h5"
refused 65 cut.h5 2 "${one[@]}" --set "run.dir=$work/runs/x" --set "data.stores=[$work/cut.h5]"
refused 65 "not a checkpoint of this model" 2 "${two[@]}" --set "run.dir=$work/runs/x" --set model.dim=48
/usr/bin/python3 - "$work/stores/desed.h5" "$work/old.h5" <<'PY'
import shutil, sys, h5py
shutil.copy(sys.argv[1], sys.argv[2])
with h5py.File(sys.argv[2], "r+") as f:
    f.attrs["earshot_version"] = f.attrs["earshot_version"] * 0 + 99
PY
refused 65 old.h5 2 "${one[@]}" --set "run.dir=$work/runs/x" --set "data.stores=[$work/old.h5]"
tsv=$work/demo/desed/metadata/train/audioset_strong.tsv
cp "$tsv" "$work/good.tsv"
bad() { # TEXT SED-EXPRESSION
    sed "$2" "$work/good.tsv" >"$tsv"
    refused 65 "$1" 2 prepare --config configs/toy/data-desed.yaml --out "$work/stores/desed.h5"
}
bad audioset_strong.tsv '1s/onset/start/'
bad Barking '2s/\t[A-Z][A-Za-z_]*$/\tBarking/'
bad audioset_strong.tsv:2 '2s/\t[0-9.]*\t/\t-1.000\t/'
bad audioset_strong.tsv:2 '2s/\t[0-9.]*\t\([0-9.]*\)\t/\t9.000\t1.000\t/'
cp "$work/good.tsv" "$tsv"
wav=$(find "$work/demo/desed/audio/train/strong_label_real_16k" -name '*.wav' | sort | head -n 1)
cp "$wav" "$work/good.wav"
echo "no audio" >"$wav"
refused 65 "$(basename "$wav")" 2 prepare --config configs/toy/data-desed.yaml --out "$work/stores/desed.h5"
head -c 30000 "$work/good.wav" >"$wav"
refused 65 "$(basename "$wav")" 2 prepare --config configs/toy/data-desed.yaml --out "$work/stores/desed.h5"
rm "$wav"
refused 65 "$(basename "$wav")" 2 prepare --config configs/toy/data-desed.yaml --out "$work/stores/desed.h5"
[ "$(digest "$work/stores/desed.h5")" = "$(digest "$work/desed-1.h5")" ] || fail "a refused prepare changed the store"
[ "$(digest "$work/runs/p1/checkpoint-last.h5")" = "$before" ] || fail "a refused train changed the checkpoint"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then # root may write anywhere: try as nobody
    mkdir "$work/locked" && chmod 755 "$work" "$work/locked"
    rc=0
    setpriv --reuid=65534 --regid=65534 --clear-groups "$program" "${one[@]}" --set "run.dir=$work/locked/run" --quiet 2>"$work/err" || rc=$?
    [ $rc = 74 ] || { cat "$work/err" >&2; fail "no write permission: exit code $rc, want 74"; }
fi
echo "all good"
