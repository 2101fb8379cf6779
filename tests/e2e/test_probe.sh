#!/bin/bash
# TIMEOUT 600
# earshot probe: the same on any number of ranks, ScaLAPACK as LAPACK; its head, loaded by train, scores in evaluate what probe said;
# AudioSet; layers of several models together; what is refused.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
ok 1 train --config pre.yaml --set train.max_steps=1
ok 1 train --config stage1.yaml --set train.max_steps=1
[ $failures = 0 ] || done_testing
sed -i 's/^threads_per_rank.*/&\nprobe: {lambdas: [1.0e-4, 1.0e-2]}/' stage1.yaml
stage=(--checkpoint runs/stage1/checkpoint-last.h5 --store desed.h5 --store maestro.h5 --set threads_per_rank=1)

# same FILE FILE TOLERANCE: what two probes found
cat >same.py <<'PY'
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:3])
tolerance = float(sys.argv[3])
for x in (a, b):
    for k in ("seconds", "gram_bytes", "peak_rss_bytes", "solver"):
        del x[k]
def compare(x, y, where):
    if isinstance(x, float) and isinstance(y, float):
        assert abs(x - y) <= tolerance * max(abs(x), abs(y)), (where, x, y)
    elif isinstance(x, (dict, list)):
        assert type(x) is type(y) and len(x) == len(y), (where, x, y)
        for k in (x if isinstance(x, dict) else range(len(x))):
            compare(x[k], y[k], f"{where}/{k}")
    else:
        assert x == y, (where, x, y)
compare(a, b, "")
PY
same() { "$python" same.py "$@" || fail "$1 and $2 differ"; }

# ---- LAPACK: any number of ranks; ScaLAPACK: nearly
for np in 1 2 3; do
    ok $np probe "${stage[@]}" --json p$np.json --init-head head$np.h5
    same p1.json p$np.json 0
    [ "$(digest head1.h5)" = "$(digest head$np.h5)" ] || fail "heads of 1 and $np ranks differ"
done
for np in 1 2 4; do
    ok $np probe "${stage[@]}" --json g$np.json --set linalg.local_max=8
    grep -q '"solver": "scalapack"' g$np.json || fail "no grid on $np ranks"
    same p1.json g$np.json 1e-3 # a rank of scores may change places with its neighbour
done
ok 4 probe "${stage[@]}" --json g.json --set linalg.local_max=8 --set linalg.grid=[1,2]
same p1.json g.json 1e-3
"$python" - <<'PY' || fail "layers"
import json
p = json.load(open("p1.json"))
assert [x["layer"] for x in p["layers"]] == ["tokens", "block.0", "block.1", "norm", "head"], p["layers"]
assert [x["features"] for x in p["layers"]] == [32, 32, 32, 32, 16]
assert p["metric"] == "mpauc" and p["classes"] == 27 and p["solver"] == "lapack"
assert p["clips"]["validation"] > 0 and p["clips"]["test"] >= 3 and p["clips"]["fit"] >= 10, p["clips"]
assert p["rows"] == 156 * p["clips"]["fit"]
assert any(x["test"]["mpauc"] is not None for x in p["layers"]), p["layers"]
assert len({x["error"] for x in p["layers"]}) == 5
PY

# ---- the head, loaded by train, is the detector that probe scored
ok 1 train --config stage1.yaml --set run.dir=runs/head --set model.init=runs/stage1/checkpoint-last.h5 --set model.init_head=head1.h5 --init-only
ok 1 predict --checkpoint runs/head/checkpoint-last.h5 --store desed.h5 --subset validation --out v.h5
ok 1 evaluate --predictions v.h5 --ground-truth demo/desed/metadata/validation/validation.tsv \
    --durations demo/desed/metadata/validation/validation_durations.tsv --metrics mpauc --postprocess none --keep-empty --json e.json
"$python" - <<'PY' || fail "the head's score"
import json
import h5py
import numpy as np
head = json.load(open("p1.json"))["layers"][-1]
got = json.load(open("e.json"))["mpauc"]["value"]
assert abs(head["test"]["mpauc"] - got) < 1e-4, (head, got)
h = h5py.File("head1.h5")
assert h.attrs["model"] in (b"head", "head") and set(h) == {"dense.weight", "dense.bias"}
for who in ("student", "teacher"):
    for k in h:
        assert np.array_equal(h[k][...], h5py.File("runs/head/checkpoint-last.h5")[who][k][...]), (who, k)
assert h["dense.weight"].shape == (27, 16) and (np.abs(h["dense.weight"][...]).sum(1) > 0).sum() >= 10
PY

# ---- AudioSet: layers by name, clips, both models together
pre=(--checkpoint runs/pre/checkpoint-last.h5 --store as-strong.h5 --set threads_per_rank=1)
ok 2 probe "${pre[@]}" --layers block.1,head --clips 12 --json a.json --init-head as-head.h5
ok 1 probe "${pre[@]}" --layers block.1,head --clips 12 --json a1.json
same a.json a1.json 0
ok 1 train --config pre.yaml --set run.dir=runs/pre-head --set model.init_head=as-head.h5 --init-only
ok 2 probe --checkpoint runs/stage1/checkpoint-last.h5 --checkpoint runs/head/checkpoint-last.h5 --store desed.h5 --joint --layers norm,block.0 --json j.json
"$python" - <<'PY' || fail "AudioSet and joint"
import json
a, j = json.load(open("a.json")), json.load(open("j.json"))
assert [x["layer"] for x in a["layers"]] == ["block.1", "head"] and a["clips"]["fit"] == 12 and a["clips"]["validation"] == 2, a
assert [(x["layer"], x["features"]) for x in j["layers"]] == [("joint", 128)], j
PY

# ---- refused
refuse() { # CODE TEXT ARGS...
    local want=$1 text=$2
    shift 2
    go 2 "$@"
    [ $code = "$want" ] && [ "$(errors | grep -c "^earshot probe: ")" = 1 ] && errors | grep -qF -- "$text" || fail "$* : want $want $text"
}
refuse 64 'some of tokens, block.N, norm, head' probe "${stage[@]}" --layers blocks
refuse 65 'want models of one phase' probe --checkpoint runs/pre/checkpoint-last.h5 "${stage[@]}"
refuse 65 'differ from those of' probe "${stage[@]}" --store as-strong.h5
refuse 64 'the layer head was not fitted' probe "${stage[@]}" --layers block.0 --init-head x.h5
refuse 65 'is not positive definite' probe --checkpoint runs/head/checkpoint-last.h5 "${stage[@]}" --joint --set "probe.lambdas=[1.0e-300]" # a transformer twice
[ ! -e x.h5 ] || fail "a head of nothing"
go 1 train --config stage1.yaml --set run.dir=runs/bad --set model.init_head=as-head.h5 --init-only
[ $code = 65 ] && errors | grep -q 'no such entry of this shape' || fail "another model's head"
done_testing
