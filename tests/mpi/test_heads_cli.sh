#!/usr/bin/env bash
# Pre-training with every pretrain.head through the program: the loss falls, 1 and 2 ranks give the same bits, stage 1 starts
# from the result; the CRNN alone (model.arch none) through stage 1, prediction included.
# TIMEOUT 600
set -euo pipefail
cd "$EARSHOT_SOURCE"
program=$EARSHOT_BUILD/earshot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export EARSHOT_WORK=$work OMP_NUM_THREADS=1

fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { # RANKS ARGUMENT...
    local n=$1 rc=0
    shift
    local launch=(mpiexec --oversubscribe --bind-to none -n "$n")
    [ "$n" = 1 ] && launch=()
    "${launch[@]}" "$program" "$@" --quiet >"$work/out" 2>"$work/err" || rc=$?
    [ $rc = 0 ] || { cat "$work/err" >&2; fail "exit code $rc: $*"; }
}
digest() { "$program" inspect --digest "$1/checkpoint-last.h5"; }
same() { [ "$(digest "$1")" = "$(digest "$2")" ] || fail "$1 and $2 differ"; }
falls() { # RUN: the mean loss of the last quarter of the steps is below that of the first
    "$program" metrics "$1/metrics.h5" --csv "$work/run.csv" >/dev/null
    /usr/bin/python3 - "$work/run.csv" <<'PY' || fail "$1: the loss does not fall"
import csv, sys
x = [float(r[-1]) for r in csv.reader(open(sys.argv[1])) if "step/loss" in r]
n = len(x) // 4
print(f"{len(x)} steps: loss {sum(x[:n]) / n:.4f} -> {sum(x[-n:]) / n:.4f}")
sys.exit(not (n >= 2 and sum(x[-n:]) < 0.9 * sum(x[:n])))
PY
}

mkdir "$work/stores"
ok 2 demo --out "$work/demo" --sounds "" --clips 10 --set demo.clips_as=32 --set demo.clips_as_eval=4 --set demo.maestro_train=10 \
    --set demo.maestro_validation=5 --set demo.maestro_seconds=20
for corpus in as-strong desed maestro; do ok 2 prepare --config configs/toy/data-$corpus.yaml --out "$work/stores/$corpus.h5"; done

tiny=(--set model.dim=24 --set model.depth=1 --set model.heads=2 --set model.mlp=48 --set train.validate_every=0)
pre=(train --config configs/toy/pretrain-atst.yaml "${tiny[@]}" --set pretrain.rnn_cells=6 --set train.leaves=2 --set train.epochs=6 --set optimizer.head_lr=1e-2
    --set model.audioset_classes=12 --set optimizer.warmup_steps=2)
for head in linear rnn lstm attention attention-rnn attention-lstm audioset task4rnn; do
    for n in 1 2; do ok $n "${pre[@]}" --set pretrain.head=$head --set pretrain.weak=0.2 --set "run.dir=$work/$head-$n"; done
    same "$work/$head-1" "$work/$head-2"
    falls "$work/$head-1"
done

# stage 1 starts from PretrainedSED's names and from cpjku's alike; the AudioSet map comes along where there was one
one=(train --config configs/toy/it1-stage1-atst.yaml "${tiny[@]}" --set train.leaves=2 --set train.epochs=1 --set train.max_steps=1
    --set model.audioset_classes=12)
entry() { h5dump -d "$2" -b LE -o "$work/$3" "$1/checkpoint-last.h5" >/dev/null && [ -s "$work/$3" ]; }
for head in lstm task4rnn; do
    ok 1 "${one[@]}" --set "model.init=$work/$head-1/checkpoint-last.h5" --set "run.dir=$work/stage1-$head"
    ok 1 predict --checkpoint "$work/$head-1/checkpoint-last.h5" --store "$work/stores/as-strong.h5" --out "$work/pred-$head.h5"
done
map=head_linear_layer.weight
entry "$work/task4rnn-1" "/student/model.$map" trained
entry "$work/stage1-task4rnn" "/student/as_model.$map" kept
entry "$work/stage1-lstm" "/student/as_model.$map" random
cmp -s "$work/trained" "$work/kept" || fail "stage 1 does not start from the trained AudioSet map"
cmp -s "$work/trained" "$work/random" && fail "a map came from nowhere"

# another run of the same head goes on from all of it, another head from the transformer
for head in lstm attention-lstm; do
    ok 1 "${pre[@]}" --set pretrain.head=$head --set pretrain.weak=0.2 --set "run.dir=$work/again-$head" --set train.max_steps=1 \
        --set optimizer.warmup_steps=1000000 --set "model.init=$work/lstm-1/checkpoint-last.h5"
    entry "$work/again-$head" /student/strong_head.weight "$head"
done
entry "$work/lstm-1" /student/strong_head.weight whole
cmp -s "$work/lstm" "$work/whole" || fail "the same head does not go on"

alone=(train --config configs/toy/it1-stage1-atst.yaml --set model.arch=none --set model.init= --set crnn.mask_fill=-1e4
    --set crnn.activation=glu --set train.validate_every=1 --set train.leaves=2 --set train.epochs=1 --set train.max_steps=3)
for n in 1 2; do ok $n "${alone[@]}" --set "run.dir=$work/alone-$n"; done
same "$work/alone-1" "$work/alone-2"
ok 1 predict --checkpoint "$work/alone-1/checkpoint-last.h5" --store "$work/stores/desed.h5" --out "$work/pred-alone.h5"
rc=0
"$program" "${pre[@]}" --set model.arch=none --set "run.dir=$work/none" >/dev/null 2>"$work/err" || rc=$?
[ $rc = 64 ] || fail "pre-training nothing: exit code $rc"
grep -q "model.arch: got none" "$work/err" || fail "$(cat "$work/err")"
