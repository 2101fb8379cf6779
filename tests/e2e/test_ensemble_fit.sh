#!/bin/bash
# TIMEOUT 300
# earshot ensemble --fit: finds for each class the model that knows it; weights applied score in evaluate what the fit reported; the
# same on any number of ranks; what is refused.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
eval "$(declare -f toy_demo | sed 's/clips_synth_validation: 1/clips_synth_validation: 24/; s/maestro_split: 1/maestro_split: 0.5/')"
toy_demo
for corpus in desed maestro; do ok 1 prepare --config data-$corpus.yaml --out $corpus.h5; done
[ $failures = 0 ] || done_testing
"$python" - <<'PY' || fail "making predictions"
import h5py
import numpy as np
rng = np.random.RandomState(5)
names = {"desed": [], "maestro": []}
for corpus in names:
    s = h5py.File(f"{corpus}.h5")
    N, K = len(s["clip/name"]), len(s["classes"])
    y = np.zeros((N, 156, K))
    index = s["events/index"][...]
    for i in range(N):
        for e in range(index[i], index[i + 1]):
            on, off, k = s["events/onset"][e], s["events/offset"][e], s["events/label"][e]
            y[i, int(on / 0.064):max(int(off / 0.064), int(on / 0.064) + 1), k] = s["events/confidence"][e]
    for m in range(3):  # model m knows the classes k with k mod 3 = m
        z = rng.normal(0, 12, y.shape)
        knows = np.arange(K) % 3 == m
        z[:, :, knows] = (8 * y - 4 + rng.normal(0, 1, y.shape))[:, :, knows]
        with h5py.File(f"{corpus}{m}.h5", "w") as f:
            f["filenames"] = s["clip/name"][...]
            f["classes"] = s["classes"][...]
            f["strong_logits"] = z.astype(np.float32)
PY
desed=(desed0.h5 desed1.h5 desed2.h5)
maestro=(maestro0.h5 maestro1.h5 maestro2.h5)
for np in 1 2 3; do
    ok $np ensemble --fit desed.h5 --context 1 --out w$np.h5 --json w$np.json "${desed[@]}" --set threads_per_rank=1
    [ "$(digest w1.h5)" = "$(digest w$np.h5)" ] && "$python" -c "
import json
a, b = json.load(open('w1.json')), json.load(open('w$np.json'))
a['out'] = b['out']
assert a == b" || fail "weights of 1 and $np ranks differ"
done
ok 2 ensemble --fit maestro.h5 --out wm.h5 --json wm.json "${maestro[@]}"
ok 2 ensemble --fit desed.h5 --out wp.h5 --json wp.json "${desed[@]}"
ok 2 ensemble --weights wp.h5 --out ep.h5 "${desed[@]}"
ok 3 ensemble --weights w1.h5 --out ec.h5 "${desed[@]}"
truth=(--ground-truth demo/desed/metadata/validation/validation.tsv --durations demo/desed/metadata/validation/validation_durations.tsv
    --metrics mpauc --postprocess none --keep-empty)
for e in ep ec; do
    "$python" - $e <<'PY' || fail "test clips of $e"
import sys
import h5py
f, s = h5py.File(sys.argv[1] + ".h5"), h5py.File("desed.h5")
test = [i for i, x in enumerate(s["clip/subset"][...]) if x == 6 - 1]
with h5py.File(sys.argv[1] + "-test.h5", "w") as o:
    o["filenames"], o["classes"] = f["filenames"][...][test], f["classes"][...]
    o["strong_logits"] = f["strong_logits"][...][test]
PY
    ok 1 evaluate --predictions $e-test.h5 "${truth[@]}" --json $e.json
done
"$python" - <<'PY' || fail "weights"
import json
import h5py
import numpy as np
w, c = h5py.File("wp.h5"), h5py.File("w1.h5")
x, fitted = w["weights"][...], w["fitted"][...]
assert x.shape == (27, 3) and np.allclose(x.sum(1), 1) and (x >= 0).all()
assert (fitted == (np.arange(27) < 10)).all() and np.allclose(x[10:], 1 / 3)
s = h5py.File("desed.h5")
seen = {int(s["events/label"][e]) for i in np.flatnonzero(s["clip/subset"][...] == 6)
        for e in range(s["events/index"][i], s["events/index"][i + 1])}
assert len(seen) >= 4, seen
for k in seen:
    assert np.argmax(x[k]) == k % 3 and x[k, k % 3] > 0.8, (k, x[k])
assert c["context"].shape == (27, 3 * 27 * 3 + 1) and np.array_equal(c["weights"][...], x)
assert np.abs(c["context"][...]).sum(1)[:10].min() > 0 and (c["context"][...][10:] == 0).all()
xm = h5py.File("wm.h5")
assert (xm["fitted"][...] == (np.arange(27) >= 10)).all()
test = json.load(open("wp.json"))["test"]
best = max(test[k]["mpauc"] for k in ("mean", "desed0.h5", "desed1.h5", "desed2.h5"))
assert test["weights"]["mpauc"] > best + 0.1, test
assert abs(test["weights"]["mpauc"] - json.load(open("ep.json"))["mpauc"]["value"]) < 1e-4
test = json.load(open("w1.json"))["test"]
assert abs(test["context"]["mpauc"] - json.load(open("ec.json"))["mpauc"]["value"]) < 1e-4
mean = np.mean([h5py.File(f"desed{m}.h5")["strong_logits"][...] for m in range(3)], 0)
got = h5py.File("ep.h5")["strong_logits"][...]
assert np.abs(got[:, :, 10:] - mean[:, :, 10:]).max() < 1e-5
want = sum(x[:, m] * h5py.File(f"desed{m}.h5")["strong_logits"][...].astype(float) for m in range(3))
assert np.abs(got - want).max() < 1e-5
PY

refuse() { # CODE TEXT ARGS...
    local want=$1 text=$2
    shift 2
    go 2 "$@"
    [ $code = "$want" ] && [ "$(errors | grep -c "^earshot ensemble: ")" = 1 ] && errors | grep -qF -- "$text" || fail "$* : want $want $text"
}
refuse 65 'want 27 classes x 2 files' ensemble --weights wp.h5 --out x.h5 desed0.h5 desed1.h5
refuse 65 'no clip' ensemble --fit desed.h5 --out x.h5 "${maestro[@]}"
refuse 64 'no --weights' ensemble --fit desed.h5 --weights 1,1,1 --out x.h5 "${desed[@]}"
refuse 74 'nosuch' ensemble --weights nosuch.h5 --out x.h5 "${desed[@]}"
[ ! -e x.h5 ] || fail "a file of nothing"
done_testing
