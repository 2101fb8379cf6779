#!/bin/bash
# TIMEOUT 400
# Validation and test of a run against predict and evaluate: the numbers in metrics.h5 and test.json are those of the stored
# predictions of the same network; student and teacher; the same on two ranks.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
[ $failures = 0 ] || done_testing
# of the 5 weak clips 2, of the recordings some to validate on
ok 1 prepare --config data-desed.yaml --set prepare.weak_split=0.6 --out valid-desed.h5
ok 1 prepare --config data-maestro.yaml --set prepare.maestro_split=0.5 --out valid-maestro.h5
stores=(--set 'data.validation_stores=[valid-desed.h5, valid-maestro.h5]')
ok 1 train --config pre.yaml --json pre.json
ok 2 train --config stage1.yaml --set train.test=true --set train.validate_teacher=true "${stores[@]}" --json run.json

truth=demo/desed/metadata/validation
score() { # score NAME CHECKPOINT WHO SUBSET TSV DURATIONS
    ok 1 predict --checkpoint "runs/stage1/$2" --which "$3" --store desed.h5 --subset "$4" --out "$1.h5"
    ok 1 evaluate --predictions "$1.h5" --ground-truth "$5" --durations "$6" --postprocess median \
        --metrics psds1,psds2,intersection_f1,collar_f1 --json "$1.json"
}
for who in student teacher; do
    score "test-$who" checkpoint-best.h5 $who validation $truth/validation.tsv $truth/validation_durations.tsv
    score "valid-$who" checkpoint-last.h5 $who synth_validation \
        demo/desed/dcase_synth/metadata/validation/synthetic21_validation/soundscapes.tsv \
        demo/desed/dcase_synth/metadata/validation/synthetic21_validation/durations.tsv
    ok 1 predict --checkpoint runs/stage1/checkpoint-last.h5 --which $who --store valid-maestro.h5 --subset maestro --out maestro-$who.h5
done

"$python" - <<'PY' || fail "scores"
import json
import math
import os
import sys
import h5py
import numpy as np
sys.path.insert(0, os.environ["EARSHOT_SOURCE"] + "/analysis")
import common

def loss(predictions, store, subset, split, classes):
    """Mean BCE of frames and classes; classes without labels add 0."""
    total, n = 0.0, 0
    with h5py.File(predictions) as f, common.Store(store) as s:
        rows = {s.names[i]: i for i in s.clips(subset, split=split)}
        for name, z in zip(common.text(f["filenames"][:]), f["strong_logits"][:].astype(np.float64)):
            if name not in rows:
                continue
            y = common.encode(s.events(rows[name])).astype(np.float64)
            total += (np.logaddexp(0, z) - z * y)[:, classes].sum()
            n += y.size
    return total / n

run, test = json.load(open("run.json")), json.load(open("runs/stage1/test.json"))
assert run["test"] == test, (run["test"], test)
compared = 0
with h5py.File("runs/stage1/metrics.h5") as f:
    valid = {k: v[-1] for k, v in f["valid"].items()}
for who in ("student", "teacher"):
    def same(a, b):
        global compared
        assert a is not None and b is not None and abs(a - b) < 1e-12, (who, a, b)
        compared += 1
    want = json.load(open(f"test-{who}.json"))
    for name in ("psds1", "psds2", "intersection_f1", "collar_f1"):
        same(test[who][name], want[name]["value"])
    want = json.load(open(f"valid-{who}.json"))
    for name in ("psds1", "intersection_f1", "collar_f1"):
        same(valid[("teacher_" if who == "teacher" else "") + name], want[name]["value"])
    prefix = "teacher_" if who == "teacher" else ""
    for name, *of in (("loss_strong", f"valid-{who}.h5", "desed.h5", common.SYNTH_VALIDATION, None, list(range(10))),
                      ("loss_maestro", f"maestro-{who}.h5", "valid-maestro.h5", common.MAESTRO, 1, common.MAESTRO_VALID)):
        want = loss(*of)
        assert abs(valid[prefix + name] - want) < 2e-6 * want, (who, name, valid[prefix + name], want)
    assert 0 <= valid[prefix + "weak_f1"] <= 10 / 27 and 0 < valid[prefix + "loss_weak"] < 1, valid
    parts = [test[who][k] for k in ("psds1", "mpauc") if test[who][k] is not None]
    same(test[who]["rank_score"], sum(parts))
assert compared == 16, compared
parts = [valid[k] for k in ("psds1", "psds1_external", "mpauc") if not math.isnan(valid[k])]
assert abs(valid["objective"] - sum(parts)) < 1e-12 and math.isnan(valid["psds1_external"]), valid
PY

ok 1 train --config stage1.yaml "${stores[@]}" --set run.dir=runs/off --json off.json # both are off
[ ! -e runs/off/test.json ] || fail "train.test false, but tested"
"$python" - <<'PY' || fail "the teacher was validated"
import h5py, math
with h5py.File("runs/off/metrics.h5") as f:
    assert math.isnan(f["valid/teacher_psds1"][-1]) and not math.isnan(f["valid/psds1"][-1])
with h5py.File("runs/stage1/metrics.h5") as g, h5py.File("runs/off/metrics.h5") as f: # 2 ranks and 1
    for k in ("weak_f1", "loss_weak", "loss_strong", "loss_maestro"):
        assert (g["valid"][k][:] == f["valid"][k][:]).all(), k
PY

# --check from the stores: the same on any number of ranks, and what the run then did
ok 1 train --check --config stage1.yaml --json check.json
cp out check.txt
ok 2 train --check --config stage1.yaml --json two.json
cmp -s out check.txt && cmp -s check.json two.json || fail "--check: other answers on 2 ranks"
"$python" - <<'PY' || fail "--check"
import json
c, run = json.load(open("check.json")), json.load(open("run.json"))
assert c["total_steps"] == run["total_steps"] == c["steps_per_epoch"] * c["epochs"] and c["leaves"] == 4, c
assert c["parameters"] == run["parameters"] and c["trainable"] < c["parameters"], c
assert c["validation_clips"] > 0 and c["test_clips"] > 0 and c["sets"]["weak"]["clips"] == 5, c
assert [r["ranks"] for r in c["at_ranks"]][:3] == [1, 2, 4], c
PY

# stores to validate on hold clips that train: 2 weak ones, all recordings
ok 1 train --check --config stage1.yaml "${stores[@]}" --json overlap.json
"$python" - <<'PY' || fail "--check: overlaps"
import json
leaks = {(r["a"], r["b"]): (r["names"], r["youtube_ids"]) for r in json.load(open("overlap.json"))["overlaps"] if r["leak"]}
assert leaks.pop(("maestro", "maestro")) == (5, 0) and leaks[("weak", "weak")][0] == 2 and len(leaks) == 1, leaks
assert not [r for r in json.load(open("check.json"))["overlaps"] if r["leak"]]
PY
grep -q 'overlap: 5 recordings are in maestro (training) and maestro (scored)' runs/stage1/log.txt all_err || fail "no warning"
ok 1 train --check --strict --config stage1.yaml
for check in "" --check; do
    go 2 train $check --strict --config stage1.yaml "${stores[@]}" --set run.dir=runs/strict
    [ $code = 65 ] && errors | grep -q 'data.stores: .* are in .* (training) and .* (scored)' || fail "--strict $check: code $code"
done

# balanced drawing: an epoch holds every clip once, rank counts do not matter
balanced=(--set pretrain.sampler=balanced --set train.max_steps=3 --set train.validate_every=0)
for n in 1 2; do ok $n train --config pre.yaml "${balanced[@]}" --set run.dir=runs/balanced.$n; done
same_runs runs/balanced.1 runs/balanced.2
for step in 0 1 2; do ok 1 inspect --plan $step --config pre.yaml "${balanced[@]}" --json plan$step.json; done
ok 1 inspect --plan 0 --config pre.yaml --json shuffled.json
"$python" - <<'PY' || fail "balanced drawing"
import json
def names(f):
    return [c["name"] for leaf in json.load(open(f))["leaves"] for c in leaf["clips"]]
seen = [n for step in range(3) for n in names(f"plan{step}.json")]
assert len(seen) == len(set(seen)) == 20 and names("plan0.json") != names("shuffled.json")
PY

# stores with another number of classes than the configuration names
go 1 train --config pre.yaml --set pretrain.classes=447 --set run.dir=runs/none
[ $code = 65 ] && errors | grep -q 'as-strong.h5: /classes: got .*, want the 447' || fail "447 classes: code $code"
done_testing
