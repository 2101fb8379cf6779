#!/bin/bash
# TIMEOUT 400
# Faults at given places of the writers, on 2 ranks: a rank that dies in prepare, predict or a checkpoint; a rank that hangs there;
# writes cut short; no space left. What was whole stays whole, the next run ends as an undisturbed one. tests/fault/test_kill.sh
# kills at random moments, this one where it hurts.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
run=(train --config pre.yaml --set checkpoint.every_steps=1)
ok 2 "${run[@]}" --set run.dir=runs/whole
checkpoint=runs/whole/checkpoint-last.h5
predict=(predict --checkpoint "$checkpoint" --store as-strong.h5 --set predict.block=1)
ok 2 "${predict[@]}" --out whole.h5
desed=(prepare --config data-desed.yaml)
[ $failures = 0 ] || done_testing

# ---- prepare: goes on with what was marked, on other ranks too; a changed input starts anew
ES_FAULT=kill-store:5@rank1 go 2 "${desed[@]}" --out again.h5
[ $code = 137 ] && [ ! -e again.h5 ] && [ -e again.h5.part ] || fail "kill-store: code $code"
"$python" - <<'PY' || fail "marks"  # as if five seconds had passed: marks of the first clips
import h5py, numpy as np
with h5py.File("again.h5.part", "r+") as part, h5py.File("desed.h5") as whole:
    length = part["/clip/length"]
    assert (length[:] == -1).all()
    there = 0
    offset = whole["/audio/offset"][:]
    for i, n in enumerate(whole["/clip/length"][:]):
        a, b = offset[i], offset[i] + n
        if there < 4 and n > 0 and np.array_equal(part["/audio/pcm"][a:b], whole["/audio/pcm"][a:b]):
            length[i] = n
            there += 1
    assert there == 4, there
PY
cp again.h5.part kept.part
ok 3 "${desed[@]}" --out again.h5
grep -q 'continued, 4 of 23 clips' all_err || fail "not continued"
[ "$(digest again.h5)" = "$(digest desed.h5)" ] && [ ! -e again.h5.part ] || fail "prepare after a kill"
rm again.h5 && cp kept.part again.h5.part
wav=$(find demo/desed/audio/train -name '*.wav' | head -n 1)
touch -d '2001-01-01' "$wav"
ok 2 "${desed[@]}" --out again.h5
grep -q 'starting anew' all_err && [ "$(digest again.h5)" = "$(digest desed.h5)" ] || fail "prepare with a changed file"
mv "$wav" kept.wav
go 2 "${desed[@]}" --out skip.h5 --strict
[ $code = 65 ] && [ ! -e skip.h5 ] && [ ! -e skip.h5.part ] || fail "a missing file: code $code"
ok 2 "${desed[@]}" --out skip.h5 --strict --set prepare.skip_missing=true --left-out out.tsv
stem=$(basename "$wav" .wav)
grep -q 'prepare set=.* no_audio=1' all_err || fail "skip_missing says nothing"
grep -q "^$stem	.*	no_audio: none in demo/desed/" out.tsv && [ "$(head -n 1 out.tsv)" = "filename	set	reason	where" ] || fail "$(cat out.tsv)"
mv kept.wav "$wav"

# ---- predict
ES_FAULT=kill-predictions:4@rank1 go 2 "${predict[@]}" --out p.h5
[ $code = 137 ] && [ ! -e p.h5 ] && [ -e p.h5.part ] || fail "kill-predictions: code $code"
ok 1 "${predict[@]}" --out p.h5
[ "$(digest p.h5)" = "$(digest whole.h5)" ] || fail "predict after a kill"

# ---- a checkpoint: the one before stays the newest
ES_FAULT=kill-checkpoint:4@rank1 go 2 "${run[@]}" --set run.dir=runs/ckpt --set train.validate_every=0
[ $code = 137 ] || fail "kill-checkpoint: code $code"
"$earshot" inspect runs/ckpt/checkpoint-last.h5 2>/dev/null | grep -q '^step 3,' || fail "want the checkpoint of step 3"
ok 2 "${run[@]}" --set run.dir=runs/ckpt --set train.validate_every=0
ok 2 "${run[@]}" --set run.dir=runs/calm --set train.validate_every=0
same_runs runs/calm runs/ckpt

# ---- ranks that hang: the watchdog ends the job with 74 and says where
stalled() { # stalled PLACE PHASE JOB...
    local place=$1 phase=$2
    shift 2
    ES_FAULT=stall-$place@rank1 go 2 "$@" --set watchdog.timeout_s=3
    [ $code = 74 ] && [ $seconds -le 60 ] || fail "stall-$place: code $code after $seconds s, want 74"
    errors | grep -q "rank 1: no progress for 3 s in phase $phase" || fail "stall-$place: the watchdog is silent"
}
stalled store:3 'prepare: decode' "${desed[@]}" --out hang.h5
stalled predictions:3 predict "${predict[@]}" --out hang-p.h5
stalled checkpoint:2 checkpoint "${run[@]}" --set run.dir=runs/hang --set train.validate_every=0
[ ! -e hang.h5 ] && [ ! -e hang-p.h5 ] || fail "half a file under a whole one's name"
ok 2 "${desed[@]}" --out hang.h5
ok 2 "${predict[@]}" --out hang-p.h5
ok 2 "${run[@]}" --set run.dir=runs/hang --set train.validate_every=0
[ "$(digest hang.h5)" = "$(digest desed.h5)" ] && [ "$(digest hang-p.h5)" = "$(digest whole.h5)" ] || fail "after a hang"
same_runs runs/calm runs/hang

# ---- writes that the system cuts short are no error and lose nothing
for n in 1 7 20; do
    ES_FAULT=short:$n ok 2 "${desed[@]}" --out short.h5
    [ "$(digest short.h5)" = "$(digest desed.h5)" ] || fail "prepare: write $n cut short"
    rm -rf runs/short
    ES_FAULT=short:$n ok 2 "${run[@]}" --set run.dir=runs/short --set train.validate_every=0
    same_runs runs/calm runs/short
done

# ---- no space left, on a file system of its own: 74, one line, what was whole before stays whole
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=24m tmpfs small 2>/dev/null; then
    trap 'umount "$work/small" 2>/dev/null; toy_end' EXIT
    full() { # full FILE JOB...: writes it with room, then without
        local file=$1 before
        shift
        ok 2 "$@"
        before=$(digest "$file")
        head -c 100M /dev/zero >small/filler 2>/dev/null
        rm -f "$file.part"
        go 2 "$@" --set run.seed=2 "${more[@]}"
        [ $code = 74 ] && [ "$(errors | wc -l)" = 1 ] && errors | grep -q 'No space left' || fail "full disk: $1: code $code"
        [ "$(digest "$file")" = "$before" ] || fail "full disk: $file was damaged"
        rm small/filler
        rm -rf small/*
    }
    more=()
    full small/m.h5 prepare --config data-maestro.yaml --out small/m.h5
    full small/p.h5 "${predict[@]}" --out small/p.h5
    more=(--resume never)
    full small/run/checkpoint-last.h5 "${run[@]}" --set run.dir=small/run
    umount small
else
    echo "no tmpfs here: full disks are not tested"
fi
done_testing
