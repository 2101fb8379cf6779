#!/bin/bash
# TIMEOUT 600
# earshot bench in all its forms, on 1 and 2 ranks: with --json - standard output holds JSON Lines and nothing else, with the fields of
# the contract, values that can be, and rooflines whose flops are those of the step. Sizes are tiny: what is fast is not tested here.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"

cat >lines.py <<'PYTHON'
"""lines.py KIND RANKS: checks the JSON Lines of a bench, the file out."""
import json, math, re, sys
kind, ranks = sys.argv[1], int(sys.argv[2])
text = open("out").read()
assert not re.search(r"[0-9][eE][-+0-9]", re.sub(r'"[^"]*"', "", text)), "an exponent"
rows = [json.loads(line) for line in text.splitlines()]
PHASES = ["frontend", "augment", "teacher", "forward", "backward", "reduce_exposed", "optimizer"]
FIELDS = {
    "gemm": "op precision threads m n k gflops peak_gflops",
    "frontend": "model clips_per_s realtime_factor",
    "step": "model phase precision batch ranks threads leaves clips_per_s gemm_gflops_per_s peak_gflops_per_s mfu peak_rss_bytes verified sent_bytes exposed_s trainable values phases",
    "reduce": "ranks algorithm bytes seconds bytes_per_s",
    "io": "op ranks bytes seconds bytes_per_s of_plain",
    "evaluate": "clips classes threads seconds psds1_seconds psds2_seconds match_seconds psds1 psds2 streamed peak_rss_bytes",
    "probe": "solver ranks threads features frames classes sums_seconds solve_seconds residual gram_bytes peak_rss_bytes gram_share_bytes",
}
OP = "op pass shape calls seconds share flops bytes share_of_peak bytes_per_s share_of_roof".split()
name = kind.split("-")[0]
fields = FIELDS[name].split()

def positive(r, keys):
    for k in keys.split():
        assert math.isfinite(r[k]) and r[k] > 0, (k, r)

if name == "step":
    r, ops = rows[0], rows[1:]
    roofline = "roofline" in kind
    assert list(r) == fields[:-1] + ["bandwidth_bytes_per_s"] * roofline + ["phases"], list(r)
    assert list(r["phases"]) == ["input_exposed"] * ("store" in kind) + PHASES, r
    assert r["ranks"] == ranks and r["threads"] == 1
    positive(r, "clips_per_s gemm_gflops_per_s peak_gflops_per_s mfu peak_rss_bytes trainable values batch")
    sent = 8 * r["trainable"] * (1 - 1 / ranks)  # gradients one way, parameters the other
    assert sent <= r["sent_bytes"] <= 1.005 * sent, (sent, r["sent_bytes"])  # buckets are multiples of 1,024 elements
    assert r["leaves"] == (4 if "leaves" in kind else ranks) and 0 <= r["exposed_s"]
    assert abs(r["mfu"] - r["gemm_gflops_per_s"] / r["peak_gflops_per_s"]) < 1e-9
    assert all(s >= 0 for s in r["phases"].values()) and r["phases"]["forward"] > 0 and r["phases"]["backward"] > 0
    assert r["verified"] is None if "verify" not in kind else 0 < r["verified"] < 1e-3, r["verified"]
    if "stage" in kind:
        assert r["phases"]["teacher"] > 0 and r["phases"]["frontend"] > 0
    assert bool(ops) == roofline
    for o in ops:
        assert list(o) == OP, o
    if ops:  # every product of the step is in the table, and nothing twice
        seconds = r["batch"] * r["leaves"] / r["clips_per_s"]
        want, got = r["gemm_gflops_per_s"] * 1e9 * seconds / ranks, sum(o["flops"] for o in ops)
        assert 0.98 * want < got < 1.01 * want, (want, got)
        assert {"forward", "backward", "step"} <= {o["pass"] for o in ops}
        assert any(o["op"] == "linear" and o["share_of_peak"] > 0 for o in ops)
        times = [o["seconds"] for o in ops if o["pass"] != "step"]
        assert times == sorted(times, reverse=True) and sum(times) > 0
    sys.exit()
for r in rows:
    assert list(r) == fields, (list(r), fields)
if name == "gemm":
    assert len(rows) == 12 and all(r["precision"] == "fp32" for r in rows)
    for r in rows: positive(r, "gflops peak_gflops m n k threads")
elif name == "frontend":
    assert len(rows) == 1
    positive(rows[0], "clips_per_s")
    assert abs(rows[0]["realtime_factor"] / rows[0]["clips_per_s"] - 10) < 1e-6
elif name == "reduce":
    assert [r["algorithm"] for r in rows] == ["earshot", "mpi_allreduce", "mpi_reduce_scatter_allgather"]
    for r in rows:
        assert r["ranks"] == ranks and r["bytes"] == 400000
        positive(r, "seconds bytes_per_s")
elif name == "io":
    ops = [a + b for a in ("plain", "store", "checkpoint", "predictions") for b in ("_write", "_read")]
    ops.insert(4, "checkpoint_held")
    assert [r["op"] for r in rows] == [o for o in ops if "only" not in kind or o[:5] in ("plain", "check")]
    for r in rows:
        positive(r, "seconds bytes_per_s of_plain")
        assert r["ranks"] == ranks and 0.9e6 < r["bytes"] < 2.5e6, r
    assert rows[0]["of_plain"] == rows[1]["of_plain"] == 1
elif name == "evaluate":
    assert len(rows) == 1 and rows[0]["clips"] == 100 and rows[0]["classes"] == 3
    positive(rows[0], "seconds psds1 psds2")
elif name == "probe":
    r = rows[0]
    assert len(rows) == 1 and r["ranks"] == ranks and r["features"] == 500 and r["frames"] == 300
    assert r["solver"] == ("scalapack" if "grid" in kind else "lapack")
    assert r["gram_share_bytes"] == 8 * 500**2 / ranks <= r["gram_bytes"] < r["peak_rss_bytes"]
    assert 0 < r["residual"] < 1e-12, r
    positive(r, "sums_seconds solve_seconds")
PYTHON

# check KIND NP ARGS...: JSON Lines alone on standard output, then the same as a table
check() {
    local kind=$1 np=$2
    shift 2
    ok "$np" bench "${kind%%-*}" "$@" --set threads_per_rank=1 --json -
    "$python" lines.py "$kind" "$np" 2>all_err || fail "$kind on $np ranks: $*"
}
toy_demo
ok 1 prepare --config data-as-strong.yaml --out as-strong.h5
for np in 1 2; do
    check gemm $np --repeats 1
    check frontend $np --model crnn
    check step-verify $np --model atst --depth 1 --batch 1 --steps 1
    check step-roofline $np --model beats --depth 1 --batch 1 --steps 2 --no-verify --roofline
    check step-store $np --model atst --depth 1 --batch 2 --steps 2 --no-verify --store as-strong.h5
    check step-leaves $np --model atst --depth 1 --batch 1 --steps 1 --no-verify --leaves 4
    check reduce $np --bytes 400000 --repeats 2
    check io $np --bytes 1000000 --repeats 1 --dir .
    check io-only $np --bytes 1000000 --repeats 2 --dir . --only checkpoint
    [ -z "$(find . -name 'earshot-bench-*')" ] || fail "bench io left $(find . -name 'earshot-bench-*')"
    check probe $np --features 500 --frames 300
    check probe-grid $np --features 500 --frames 300 --set linalg.local_max=100
    check evaluate $np --clips 100 --classes 3 --repeats 1
done
check step-roofline 1 --model fpasst --depth 1 --batch 1 --steps 1 --no-verify --roofline
check step-stage-roofline 1 --model atst --phase stage2 --depth 1 --batch 5 --steps 1 --no-verify --roofline
check step-stage-roofline 2 --model atst --phase stage1 --depth 1 --batch 5 --steps 1 --no-verify --roofline
ok 1 bench io --bytes 100000 --repeats 1
grep -q '^checkpoint_read ' out || fail "bench io prints no table"
ok 1 bench step --depth 1 --batch 1 --steps 1 --no-verify --roofline
grep -q '^linear  *backward ' out || fail "bench step --roofline prints no table"
go 1 bench io --dir missing
[ $code = 74 ] && errors | grep -q 'missing/earshot-bench-plain: cannot open' || fail "bench io in a folder that is not there: $code"
go 1 bench disk
[ $code = 64 ] || fail "bench disk: $code"
done_testing
