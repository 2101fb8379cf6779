#!/bin/bash
# TIMEOUT 600
# Public weights in a run and back: a run starts from imported weights, its checkpoint is exported, imported again and predicts
# the same logits.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
[ $failures = 0 ] || done_testing
sed -i 's/, init: [^}]*}/}/' stage1.yaml stage2.yaml
size=(--config stage1.yaml)

# an untrained detector, for PyTorch and back
ok 1 train --config stage1.yaml --init-only --set run.dir=runs/a
last=runs/a/checkpoint-last.h5
for which in student teacher; do
    for to in pt safetensors; do
        ok 2 export --from $last --to $which.$to --which $which --json e.json
        ok 2 import --model sed "${size[@]}" --from $which.$to --out $which-$to.h5 --json i.json
        entries=$(sed -n 's/.*"entries": \([0-9]*\),.*/\1/p' e.json)
        [ "$entries" -gt 90 ] && grep -q "\"entries\": $entries, .*\"missing\": \[\]" i.json || fail "$which.$to: $(cat e.json i.json)"
    done
    cmp <("$earshot" inspect --digest $which-pt.h5) <("$earshot" inspect --digest $which-safetensors.h5) || fail "$which: two ways, two weights"
done
ok 1 predict --checkpoint $last --store desed.h5 --subset validation --out p1.h5
ok 2 predict --checkpoint student-pt.h5 --store desed.h5 --subset validation --out p2.h5
"$python" - <<PY || fail "predictions of a checkpoint and of the same weights imported"
import h5py, sys
a, b = (h5py.File(f)["strong_logits"][()] for f in ("p1.h5", "p2.h5"))
sys.exit(not (a.shape == b.shape and a.size and (a == b).all()))
PY

# a run that starts from them: the detector as a whole, student and teacher alike; a transformer alone with its trained head
ok 2 train --config stage2.yaml --init-only --set run.dir=runs/b --set model.init=teacher-pt.h5
ok 1 import --model atst "${size[@]}" --from teacher.pt --out atst.h5
ok 1 train --config stage1.yaml --init-only --set run.dir=runs/c --set run.seed=7 --set model.init=atst.h5
"$python" - <<PY || fail "what a run starts from"
import h5py
t = h5py.File("teacher-pt.h5")
b, c = (h5py.File(f"runs/{r}/checkpoint-last.h5") for r in "bc")
for who in ("student", "teacher"):
    for name in t:
        assert (t[name][()] == b[who][name][()]).all(), name
        if name.startswith("as_model."):
            assert (t[name][()] == c[who][name][()]).all(), name
assert any((t[n][()] != c["student"][n][()]).any() for n in t if n.startswith("cnn."))
PY

# what a weights file cannot do
go 1 predict --checkpoint atst.h5 --store desed.h5 --out p3.h5
[ $code = 65 ] && errors | grep -q "weights of atst alone" && [ ! -e p3.h5 ] || fail "predict with a transformer: $code"
go 2 predict --checkpoint student-pt.h5 --which teacher --store desed.h5 --out p3.h5
[ $code = 65 ] && [ "$(errors | wc -l)" = 1 ] && errors | grep -q "one network" || fail "predict --which teacher of weights: $code"
go 1 export --from student-pt.h5 --to x.pt --which student
[ $code = 64 ] && errors | grep -q "holds one network" || fail "export --which of weights: $code"
go 1 export --from desed.h5 --to x.pt
[ $code = 65 ] && errors | grep -q "got store, want weights or a checkpoint" && [ ! -e x.pt ] || fail "export of a store: $code"
go 1 export --from $last --to nowhere/x.pt
[ $code = 74 ] && [ "$(errors | wc -l)" = 1 ] || fail "export to a folder that is not there: $code"
ES_FAULT=write:2 go 1 export --from $last --to x.pt
[ $code = 74 ] && [ -z "$(ls x.pt* 2>/dev/null)" ] || fail "export to a full disk: $code, left: $(ls x.pt*)"
ES_FAULT=h5write:3 go 1 import --model atst "${size[@]}" --from teacher.pt --out x.h5
[ $code = 74 ] && [ -z "$(ls x.h5* 2>/dev/null)" ] || fail "import to a full disk: $code, left: $(ls x.h5*)"
done_testing
