#!/bin/bash
# TIMEOUT 400
# Checkpoints that are written while training goes on: the same as those it waits for, on 1, 2 and 4 ranks; a rank killed or a
# disk full in the middle of the write; what training waited is in the log. Bad steps and what train.on_bad_step does with them.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_demo
ok 1 prepare --config data-as-strong.yaml --out as-strong.h5
toy_configs
run=(train --config pre.yaml --set checkpoint.every_steps=1 --set train.validate_every=0)
ok 2 "${run[@]}" --set run.dir=runs/calm --set checkpoint.background=false
[ $failures = 0 ] || done_testing

for np in 1 2 4; do
    ES_FAULT=slow-write:20 ok $np "${run[@]}" --set run.dir=runs/np$np
    same_runs runs/calm runs/np$np
    grep -q 'checkpoint checkpoint-last.h5 step=4 exposed_s=[0-9.]* write_s=' runs/np$np/log.txt || fail "np$np: not in the background"
    [ "$(cd runs/np$np && echo *)" = "$(cd runs/calm && echo *)" ] || fail "np$np: left behind"
done
"$python" - <<'PY' || fail "the log of checkpoints"
import h5py
with h5py.File("runs/np2/metrics.h5") as f:
    # the fifth may still be being written when the run ends: dropped for the last one, for which the run waits
    step = list(f["/checkpoint/step"][()])
    assert step[:4] == [0, 1, 2, 3] and step[-1] == 5, step
    assert list(f["/checkpoint/background"][()]) == [1] * (len(step) - 1) + [0]
    assert (f["/checkpoint/exposed_s"][()] > 0).all() and (f["/checkpoint/write_s"][:4] >= 0.02).all()
PY

# ---- kill -9 in the middle of the write: the one before is whole and newest
ES_FAULT=kill-write:80@rank1 go 2 "${run[@]}" --set run.dir=runs/killed
[ $code = 137 ] && [ $seconds -le 60 ] || fail "kill-write: code $code after $seconds s"
ls runs/killed/checkpoint-last.h5.tmp-* >/dev/null 2>&1 || fail "not killed in the middle of a write"
step=$("$earshot" inspect runs/killed/checkpoint-last.h5 | sed -n 's/^step \([0-9]*\),.*/\1/p')
[ "${step:-0}" -ge 1 ] && digest runs/killed/checkpoint-last.h5 >/dev/null || fail "no whole checkpoint, step ${step:-none}"
ok 4 "${run[@]}" --set run.dir=runs/killed
same_runs runs/calm runs/killed
ls runs/killed/*.tmp-* >/dev/null 2>&1 && fail "left behind: $(ls runs/killed)"

# ---- a thread that hangs is found by the watchdog
ES_FAULT=stall-write:60@rank1 go 2 "${run[@]}" --set run.dir=runs/hang --set watchdog.timeout_s=3
[ $code = 74 ] && [ $seconds -le 60 ] && errors | grep -q 'no progress for 3 s in phase checkpoint' || fail "stall-write: code $code after $seconds s"
ok 2 "${run[@]}" --set run.dir=runs/hang
same_runs runs/calm runs/hang

# ---- no room for one of them: training goes on with the one before; none for the last: 74
ES_FAULT=ckptwrite:30@rank1 ok 2 "${run[@]}" --set run.dir=runs/full
grep -q 'No space left.*training goes on' all_err || fail "a failed background write is not reported"
same_runs runs/calm runs/full
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=24m tmpfs small 2>/dev/null; then
    trap 'umount "$work/small" 2>/dev/null; toy_end' EXIT
    touch mark
    ES_FAULT=slow-step:100 launch 2 "${run[@]}" --set run.dir=small/run
    until_newer small/run/checkpoint-last.h5 mark
    head -c 100M /dev/zero >small/filler 2>/dev/null
    finish
    [ $code = 74 ] && [ "$(errors | wc -l)" = 1 ] && grep -q 'No space left.*training goes on' all_err || fail "full disk: code $code"
    digest small/run/checkpoint-last.h5 >/dev/null || fail "full disk: the last checkpoint is damaged"
    rm small/filler
    ok 2 "${run[@]}" --set run.dir=small/run
    same_runs runs/calm small/run
    umount small
else
    echo "no tmpfs here: a disk that fills up is not tested"
fi

# ---- the best one is written in the background, too: the same file and the same run; not waited for while training goes on, but
# at the end and at a stop; one that cannot be written is not the best
ok 1 prepare --config data-desed.yaml --out desed.h5
ok 1 prepare --config data-maestro.yaml --out maestro.h5
best=(train --config stage1.yaml --set checkpoint.every_steps=1 --set train.epochs=4 --set train.validate_every=1 --set train.test=true)
ok 1 train --config pre.yaml --set train.validate_every=0
ok 2 "${best[@]}" --set run.dir=runs/best-calm --set checkpoint.background=false
for np in 1 2; do
    ES_FAULT=slow-write:20 ok $np "${best[@]}" --set run.dir=runs/best$np
    same_runs runs/best-calm runs/best$np
    [ "$(digest runs/best-calm/checkpoint-best.h5)" = "$(digest runs/best$np/checkpoint-best.h5)" ] || fail "np$np: another best checkpoint"
    cmp -s runs/best-calm/test.json runs/best$np/test.json || fail "np$np: another test"
    grep -q 'checkpoint checkpoint-best.h5 step=[0-9]* exposed_s=[0-9.]* write_s=' runs/best$np/log.txt || fail "np$np: best not in the background"
done
"$python" - <<'PY' || fail "the best checkpoint holds up training"
import re
rows = re.findall(r"checkpoint-best.h5 step=\d+ exposed_s=([\d.]+) write_s=([\d.]+)", open("runs/best2/log.txt").read())
exposed, written = (sum(float(r[i]) for r in rows) for i in (0, 1))
assert rows and written > 0.2 * len(rows), rows  # slow-write
print("best:", exposed, written)
PY
touch mark
ES_FAULT=slow-write:300 launch 2 "${best[@]}" --set run.dir=runs/best-stop --set train.epochs=400
while kill -0 $launched 2>/dev/null && ! ls runs/best-stop/checkpoint-best.h5.tmp-* >/dev/null 2>&1; do sleep 0.05; done
[ ! -e runs/best-stop/checkpoint-best.h5 ] || fail "the best one was there at once"
for p in $(ranks); do kill -TERM "$p"; done
finish
[ $code = 75 ] && digest runs/best-stop/checkpoint-best.h5 >out && ! ls runs/best-stop/*.tmp-* >/dev/null 2>&1 || fail "stopped while the best one was written: code $code"
ES_FAULT=ckptwrite:1@rank0 ok 2 "${best[@]}" --set run.dir=runs/best-full --set checkpoint.every_steps=0
grep -q 'checkpoint-best.*No space left.*training goes on' all_err || fail "a best checkpoint that cannot be written"
[ -e runs/best-full/checkpoint-best.h5 ] || fail "no other one became the best"

# ---- bad steps: the leaves' clips are named; stop ends, skip leaves the step out, rewind those since the last checkpoint, too
bad=("${run[@]}" --set checkpoint.every_steps=2)
ES_FAULT=nan-loss:18@rank0 go 2 "${bad[@]}" --set run.dir=runs/stop # 8 leaves a step, 4 of them rank 0's
[ $code = 65 ] && errors | grep -q 'step 4 leaf .: the loss is nan' || fail "stop: code $code"
grep -q 'bad_step=4 leaf=. loss=nan clip=' all_err || fail "the clips are not named"
ok 2 "${bad[@]}" --set run.dir=runs/stop # from the checkpoint of step 4, without the fault
[ "$(digest runs/stop/checkpoint-last.h5)" = "$(digest runs/calm/checkpoint-last.h5)" ] || fail "after a stop"
steps() { "$python" -c 'import h5py,sys; print(*["%016x" % d for d in h5py.File(sys.argv[1])["/step/parameters_digest"][()]])' "$1/metrics.h5"; }
read -ra calm <<<"$(steps runs/calm)"
ES_FAULT=nan-loss:14@rank0 ok 2 "${bad[@]}" --set run.dir=runs/skip --set train.on_bad_step=skip
read -ra skip <<<"$(steps runs/skip)"
[ "${skip[3]}" = "${skip[2]}" ] && [ "${skip[2]}" = "${calm[2]}" ] && [ "${skip[4]}" != "${skip[3]}" ] || fail "skip: ${skip[*]}"
ES_FAULT=nan-loss:14@rank0 ok 2 "${bad[@]}" --set run.dir=runs/rewind --set train.on_bad_step=rewind
grep -q 'rewound to step=2, next step=4' all_err || fail "rewind says nothing"
read -ra rewound <<<"$(steps runs/rewind)"
[ "${rewound[2]}" = "${calm[2]}" ] && [ "${#rewound[@]}" = 6 ] && [ "${rewound[4]}" != "${skip[4]}" ] || fail "rewind: ${rewound[*]}"
go 2 "${bad[@]}" --set run.dir=runs/limit --set train.loss_limit=1e-6 --set train.on_bad_step=rewind
[ $code = 65 ] && errors | grep -q 'up to train.loss_limit' && errors | grep -q 'no checkpoint to go back to' || fail "limit: code $code"
done_testing
