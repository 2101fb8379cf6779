#!/bin/bash
# TIMEOUT 300
# inspect --plan: the same answer on any number of ranks; sets and shares as configured; an epoch takes a clip at most once.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
[ $failures = 0 ] || done_testing

plan() { # plan NP STEP CONFIG JSON ARGS...
    local np=$1 step=$2 config=$3 json=$4
    shift 4
    ok "$np" inspect --plan "$step" --config "$config" --json "$json" "$@"
}
mixed=(--set augment.wavmix=1 --set augment.mixup=1)
for step in 0 1 2 3; do
    plan 1 $step stage1.yaml "s$step.json" "${mixed[@]}"
    cp out text
    plan 2 $step stage1.yaml two.json "${mixed[@]}"
    cmp -s out text && cmp -s "s$step.json" two.json || fail "step $step: other plans on 2 ranks"
done
for step in 0 1 2; do plan 1 $step pre.yaml "p$step.json"; done
grep -q 'wavmix\|mixup' text || fail "no mixing in the text"

"$python" - <<'PY' || fail "plans"
import json
import h5py

def names(path):
    with h5py.File(path) as f:
        return {n.decode() for n in f["/clip/name"][:]}

known = names("desed.h5") | names("maestro.h5")
partners = 0
for step in range(4):
    p = json.load(open(f"s{step}.json"))
    assert p["step"] == step and p["total_steps"] == 4 and p["leaves_of_a_step"] == 4, p["total_steps"]
    for leaf in p["leaves"]:
        clips = leaf["clips"]
        assert [c["set"] for c in clips] == ["maestro", "strong", "synth", "weak", "unlabeled"], clips
        assert {c["name"] for c in clips} <= known
        for c in clips:
            assert ("wavmix" in c) == (c["set"] in ("maestro", "strong", "synth")), c
            if "wavmix" in c:
                partners += 1
                assert 0.5 <= c["share"] <= 1 and c["wavmix"] in known
        mixed = [m["clip"] for m in leaf["mixup"]]
        assert sorted(mixed) == list(range(5)), mixed
        assert all(0.5 <= m["share"] <= 1 for m in leaf["mixup"])
assert partners > 0

seen = []  # pre.yaml: 3 steps an epoch, 20 clips, the last step is short
for step in range(3):
    p = json.load(open(f"p{step}.json"))
    assert len(p["leaves"]) == [8, 8, 4][step]
    seen += [c["name"] for leaf in p["leaves"] for c in leaf["clips"]]
    assert all(c["set"] == "as_train" for leaf in p["leaves"] for c in leaf["clips"])
assert len(seen) == len(set(seen)) == 20 and set(seen) <= names("as-strong.h5")
PY

go 2 inspect --plan 4 --config stage1.yaml
[ $code = 64 ] && errors | grep -q -- '--plan: got 4, want a step 0..3' || fail "a step too far: code $code"
go 1 inspect --plan 0 --config stage1.yaml desed.h5
[ $code = 64 ] || fail "--plan with a file: code $code"
go 1 inspect
[ $code = 64 ] || fail "no file: code $code"
go 1 inspect --plan 0
[ $code = 64 ] && errors | grep -q data.stores || fail "no configuration: code $code"
done_testing
