# shellcheck shell=bash disable=SC2034,SC2015  # what is set here is used by those who source it; fail has no failure of its own
# For tests that run the program: a scratch folder, launching, checking, and the smallest corpora and configurations that
# train. Source it; it changes to the scratch folder, which goes away at the end.
set -u
earshot=$EARSHOT_BUILD/earshot
python=/usr/bin/python3
work=$(mktemp -d) || exit 1
launched=
as=() # what stands before the launcher: another user
toy_end() {
    [ -z "$launched" ] || kill -KILL "$launched" 2>/dev/null
    cd / && rm -rf "$work"
}
trap toy_end EXIT
cd "$work" || exit 1
mkdir runs
failures=0

fail() {
    echo "FAILED: $*"
    [ ! -e out ] || sed 's/^/  out: /' out | head -n 20
    [ ! -e all_err ] || sed 's/^/  err: /' all_err | head -n 30
    failures=$((failures + 1))
}
done_testing() {
    [ $failures = 0 ] && echo "all passed"
    exit $((failures > 0))
}

# Lines on stderr that report an error: ours, without the log and the launcher's
errors() { grep -E '^(earshot [a-z]+: |earshot: .*(this is a bug|no progress|MPI_)|hint: )' all_err; }

# go NP JOB ARGS...: runs a job; leaves code, out, all_err and seconds
go() {
    local np=$1 begin=$SECONDS
    shift
    if [ "$np" = 1 ]; then
        timeout "${limit:-120}" ${as[@]+"${as[@]}"} "$earshot" "$@" >out 2>all_err </dev/null
    else
        timeout "${limit:-120}" ${as[@]+"${as[@]}"} mpiexec --oversubscribe --bind-to none -n "$np" "$earshot" "$@" >out 2>all_err </dev/null
    fi
    code=$?
    seconds=$((SECONDS - begin))
}
# ok NP JOB ARGS...: must succeed and report no error
ok() {
    go "$@"
    [ $code = 0 ] && [ -z "$(errors)" ] || fail "code $code: $*"
}

# launch NP JOB ARGS...: in the background; $launcher is mpiexec's process id
launch() {
    local np=$1
    shift
    timeout "${limit:-120}" mpiexec --oversubscribe --bind-to none -n "$np" "$earshot" "$@" >out 2>all_err </dev/null &
    launched=$!
    launcher=
    while [ -z "$launcher" ] && kill -0 $launched 2>/dev/null; do launcher=$(pgrep -P $launched); done
}
ranks() { pgrep -P "$launcher"; } # process ids, one a line
finish() {                        # waits for what was launched; leaves code
    wait "$launched"
    code=$?
    launched=
}
# until_newer FILE THAN: FILE was written since THAN was touched, or the job has ended
until_newer() {
    while kill -0 "$launched" 2>/dev/null; do
        [ "$1" -nt "$2" ] && return 0
        sleep 0.05
    done
    return 1
}

digest() { "$earshot" inspect --digest "$1"; } # of a file of ours
# same_runs A B: losses, rates, validation and parameter digests bit for bit, and the last checkpoints
same_runs() {
    "$python" "$EARSHOT_SOURCE/analysis/compare_runs.py" "$1" "$2" >out 2>all_err || fail "$1 and $2 differ"
    [ "$(digest "$1/checkpoint-last.h5")" = "$(digest "$2/checkpoint-last.h5")" ] || fail "$1 and $2: other checkpoints"
}

# 10 s clips from the synthesiser: 20 + 3 of AudioSet-strong, 23 of DESED, 5 + 5 recordings of 12 s of MAESTRO
toy_demo() {
    cat >demo.yaml <<YAML
demo: {clips: 2, clips_as: 20, clips_as_eval: 3, clips_real: 6, clips_synth: 4, clips_weak: 5, clips_unlabeled: 4,
       clips_validation: 3, clips_synth_validation: 1, maestro_train: 5, maestro_validation: 5, maestro_seconds: 12}
YAML
    ok 1 demo --config demo.yaml --out demo --sounds ""
    local corpus root
    while read -r corpus root; do
        printf 'prepare: {corpus: %s, root: demo/%s, maestro_split: 1, weak_split: 1' "$corpus" "$root" >"data-$corpus.yaml"
        [ "$corpus" != maestro ] || printf ', maestro_train_audio: development_audio, maestro_validation_audio: development_audio' >>data-maestro.yaml
        echo '}' >>"data-$corpus.yaml"
    done <<ROOTS
as-strong audioset
desed desed
maestro maestro
ROOTS
}
toy_stores() {
    local corpus
    toy_demo
    for corpus in as-strong desed maestro; do ok 1 prepare --config data-$corpus.yaml --out $corpus.h5; done
}

# pre.yaml: 6 steps of 8 leaves, the third and sixth short; stage1.yaml, stage2.yaml: 4 steps of 4 leaves
toy_configs() {
    cat >pre.yaml <<YAML
phase: pretrain
threads_per_rank: 1
run: {dir: runs/pre}
model: {dim: 32, depth: 2, heads: 2, mlp: 64}
pretrain: {head: rnn, rnn_cells: 8, rnn_layers: 1, batch: 1}
data: {stores: [as-strong.h5]}
train: {leaves: 8, epochs: 2, validate_every: 1, clip_norm: 0.5}
optimizer: {kind: adam, warmup_steps: 2}
metrics: {flush_seconds: 0}
YAML
    cat >stage1.yaml <<YAML
phase: stage1
threads_per_rank: 1
run: {dir: runs/stage1}
model: {dim: 32, depth: 2, heads: 2, mlp: 64, audioset_classes: 12, init: runs/pre/checkpoint-last.h5}
crnn: {filters: [4, 4, 4, 4, 4, 4, 8], rnn_cells: 8, dropout: 0.2}
data: {stores: [desed.h5, maestro.h5], subset_sizes: [1, 1, 1, 1, 1]}
train: {leaves: 4, epochs: 4, validate_every: 2, validate_teacher: false, test: false, frozen_block: 2}
optimizer: {crnn_lr: 2.0e-3, warmup_steps: 1}
loss: {ssl_warmup_steps: 3}
ema: {decay: 0.9}
metrics: {flush_seconds: 0}
YAML
    sed -e 's/stage1/stage2/; s/runs\/pre\//runs\/stage1\//; s/, frozen_block: 2//; s/crnn_lr: 2.0e-3/cnn_lr: 1.0e-3, rnn_lr: 2.0e-3, transformer_lr: 5.0e-4/' \
        stage1.yaml >stage2.yaml
}
