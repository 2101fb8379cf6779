#!/bin/bash
# TIMEOUT 300
# tests/bench/compare.py at the smallest size: it runs both programs and its numbers are those of both; the PyTorch models have the
# published numbers of parameters. Skipped without PyTorch.
set -u
cd "$EARSHOT_SOURCE" || exit 1
out=$(mktemp)
trap 'rm -f "$out"' EXIT
/usr/bin/python3 tests/bench/compare.py --depth 1 --batch 1 --steps 1 --rounds 2 --threads 1 --earshot "$EARSHOT_BUILD/earshot" --json - >"$out"
code=$?
[ $code = 77 ] && exit 77
[ $code = 0 ] || exit 1
/usr/bin/python3 - "$out" <<'PY'
import json
import sys

sys.path.insert(0, "tests/bench")
import torch_models

r = json.loads(open(sys.argv[1]).read())
assert (r["model"], r["precision"], r["batch"], r["depth"], r["threads"], r["rounds"]) == ("atst", "fp32", 1, 1, 1, 2), r
assert r["earshot_clips_per_s"] > 0 and r["torch_clips_per_s"] > 0 and r["earshot_peak_rss_bytes"] > 1e7
assert r["ratio_min"] <= r["ratio_max"] and abs(r["ratio"] * r["torch_clips_per_s"] / r["earshot_clips_per_s"] - 1) < 1e-9
for model, want in torch_models.PARAMETERS.items():
    net = torch_models.Pretrain(model, 2)
    block = sum(p.numel() for p in (net.model.layers if model == "beats" else net.model.blocks)[1].parameters())
    assert sum(p.numel() for p in net.model.parameters()) + 10 * block == want, model
    x = torch_models.torch.randn(1, *net.model.shape)
    logits = net(x)
    assert logits.shape == (1, 250, 447) and logits.isfinite().all()
b = torch_models.Beats.buckets(496)
samples = {-80: 80, -81: 80, -100: 87, -495: 143, 1: 161, 80: 240, 83: 241, 495: 303}
assert all(b[max(0, -d), max(0, d)].item() == want for d, want in samples.items())
PY
