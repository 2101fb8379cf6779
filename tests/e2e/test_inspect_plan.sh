#!/bin/bash
# TIMEOUT 300
# inspect --plan: the same answer on any number of ranks; sets, shares and draws as configured; an epoch takes a clip at most once.
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
# every augmentation, in stage 1, in stage 2 and in pre-training: drawn, in the text and in the answer
drawn=(--set augment.mixstyle=1 --set augment.filter=1 --set augment.frame_shift=0.125 --set augment.time_mask=true)
plan 1 1 stage1.yaml stage1.json "${mixed[@]}" "${drawn[@]}"
cp out text1
plan 1 1 stage2.yaml stage2.json "${mixed[@]}" "${drawn[@]}" --set augment.freq_warp=1
cp out text2
plan 1 1 pre.yaml pre.json "${drawn[@]}" --set augment.gain_db=7 --set augment.freq_warp=1
cp out text0
for word in mixup wavmix shift 'time mask' 'mixstyle of crnn' 'mixstyle of features' 'filter of crnn'; do
    grep -q "$word" text1 && grep -q "$word" text2 || fail "no $word in the text of a stage"
done
grep -q 'filter of teacher' text1 || fail "no filter of the teacher in the text"
for word in 'frequency warp' 'filter of features'; do
    grep -q "$word" text2 && grep -q "$word" text0 || fail "no $word in the text"
done
grep -q 'gain -\?[0-9]* dB' text0 || fail "no gain in the text"
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

def leaves(name):
    return json.load(open(name + ".json"))["leaves"]

for name, filters in (("stage1", ["crnn", "teacher"]), ("stage2", ["crnn", "features"]), ("pre", ["features"])):
    shifts = []
    for leaf in leaves(name):
        n = len(leaf["clips"])
        shifts += [c["shift_sigma"] for c in leaf["clips"]]
        assert all(-7 <= c.get("gain_db", 0) <= 6 for c in leaf["clips"])
        for mel in ("crnn", "features"):
            here = [m for m in leaf["mixstyle"] if m["mel"] == mel]
            assert sorted(m["clip"] for m in here) == sorted(m["with"] for m in here) == list(range(n)), here
            assert all(0.5 <= m["share"] <= 1 for m in here)
        (span,) = leaf["time_mask"]
        frames = 250 if name == "pre" else 156
        assert 0.05 * frames - 1 < span["n"] < 0.3 * frames and 0 <= span["low"] <= frames - span["n"]
        assert 1 <= span["clips"] <= n, span
        assert [f["mel"] for f in leaf["filter"]] == filters, leaf["filter"]
        for f in leaf["filter"]:
            bins = 128 if f["mel"] != "features" else 64
            assert 3 <= len(f["edges"]) - 1 <= 5 and f["edges"] == sorted(f["edges"])
            assert f["edges"][0] == 0 and f["edges"][-1] == bins, f["edges"]
            assert len(f["gain_db"]) == n and all(len(g) == len(f["edges"]) for g in f["gain_db"])
            assert all(-6 <= x <= 6 for g in f["gain_db"] for x in g)
        if name == "stage1":
            assert leaf["freq_warp"] == []
        else:
            assert sum(w["clips"] for w in leaf["freq_warp"]) == n
            assert all(1 <= w["n"] <= 64 and 0 <= w["low"] <= 64 - w["n"] for w in leaf["freq_warp"])
    assert len(set(shifts)) == len(shifts)
assert any("gain_db" in c for leaf in leaves("pre") for c in leaf["clips"])
assert all("gain_db" not in c for leaf in leaves("stage1") for c in leaf["clips"])

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
