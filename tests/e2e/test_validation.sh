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
ok 1 train --config pre.yaml --json pre.json
ok 2 train --config stage1.yaml --set train.test=true --set train.validate_teacher=true --json run.json

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
done

"$python" - <<'PY' || fail "scores"
import json
import math
import h5py

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
    parts = [test[who][k] for k in ("psds1", "mpauc") if test[who][k] is not None]
    same(test[who]["rank_score"], sum(parts))
assert compared == 16, compared
parts = [valid[k] for k in ("psds1", "psds1_external", "mpauc") if not math.isnan(valid[k])]
assert abs(valid["objective"] - sum(parts)) < 1e-12 and math.isnan(valid["psds1_external"]), valid
PY

ok 1 train --config stage1.yaml --set run.dir=runs/off --json off.json # both are off
[ ! -e runs/off/test.json ] || fail "train.test false, but tested"
"$python" - <<'PY' || fail "the teacher was validated"
import h5py, math
with h5py.File("runs/off/metrics.h5") as f:
    assert math.isnan(f["valid/teacher_psds1"][-1]) and not math.isnan(f["valid/psds1"][-1])
PY
done_testing
