#!/usr/bin/env python3
"""Training steps of earshot and of the same network in plain PyTorch (torch_models.py), in turn on this machine.

    tests/bench/compare.py [--model atst|fpasst|beats|all] [--precision fp32] [--batch 8] [--rounds 5] [--json FILE|-]

Pre-training steps at full size: given features, transformer, linear head, BCE, backward, AdamW, one rank, the same number of
threads. Every round runs one program after the other, so that a change of the machine's mood hits both; medians over rounds. The
processor's peak is probed before the first round, around every step of earshot and behind the last round: where the probes differ by
more than a tenth, somebody else was busy and the row says so. mfu: flops of earshot's count over the median peak, for both.
Exit code 77, with a message, where there is no PyTorch: apt-get install python3-torch, or --python of a venv that has it.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ["atst", "fpasst", "beats"]


def find_python(given):
    for python in [given] if given else ["/usr/bin/python3", sys.executable]:
        if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
            return python
    print("compare.py: no PyTorch here (apt-get install python3-torch, or --python VENV/bin/python3): skipped", file=sys.stderr)
    sys.exit(77)


def run(command, threads):
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env)
    if p.returncode != 0:
        sys.exit(f"compare.py: {command[0]} ended with {p.returncode}:\n{p.stderr}")


def earshot(a, model, scratch):
    depth = ["--depth", a.depth] if a.depth != 12 else []
    run([a.earshot, "bench", "step", "--model", model, "--phase", "pretrain", "--precision", a.precision, "--batch", a.batch,
         "--steps", a.steps, "--no-verify", "--set", f"threads_per_rank={a.threads}", "--quiet", "--json", scratch, *depth], a.threads)
    return json.loads(scratch.read_text())


def probe(a, model, scratch):
    """The peak now, in the precision that is compared: the smallest step there is."""
    return earshot(argparse.Namespace(**{**vars(a), "batch": 1, "depth": 1, "steps": 1}), model, scratch)["peak_gflops_per_s"]


def torch(a, model):
    p = subprocess.run([a.python, HERE / "torch_models.py", "--model", model, "--precision", a.precision, "--batch", str(a.batch),
                        "--steps", str(a.steps), "--depth", str(a.depth), "--threads", str(a.threads)], capture_output=True, text=True)
    if p.returncode != 0:
        sys.exit(f"compare.py: torch_models.py ended with {p.returncode}:\n{p.stderr}")
    return json.loads(p.stdout)


def compare(a, model, scratch):
    peaks = [probe(a, model, scratch)]
    rounds = [(earshot(a, model, scratch), torch(a, model)) for _ in range(a.rounds)]
    ours, theirs = ([r[i] for r in rounds] for i in range(2))
    peaks += [r["peak_gflops_per_s"] for r in ours] + [probe(a, model, scratch)]
    row = {"model": model, "phase": "pretrain", "precision": a.precision, "batch": a.batch, "depth": a.depth, "threads": a.threads,
           "rounds": a.rounds, "torch_version": theirs[0]["version"], "fused_attention": theirs[0]["fused_attention"]}
    for name, runs in ("earshot", ours), ("torch", theirs):
        row[f"{name}_clips_per_s"] = statistics.median(r["clips_per_s"] for r in runs)
        row[f"{name}_peak_rss_bytes"] = max(r["peak_rss_bytes"] for r in runs)
    row["ratio"] = row["earshot_clips_per_s"] / row["torch_clips_per_s"]
    row["ratio_min"], row["ratio_max"] = (f(o["clips_per_s"] / t["clips_per_s"] for o, t in rounds) for f in (min, max))
    row["peak_gflops_per_s"], row["peak_min"], row["peak_max"] = statistics.median(peaks), min(peaks), max(peaks)
    row["disturbed"] = row["peak_max"] > 1.1 * row["peak_min"]
    gflop = statistics.median(r["gemm_gflops_per_s"] / r["clips_per_s"] for r in ours)  # of a clip
    for name in "earshot", "torch":
        row[f"{name}_mfu"] = gflop * row[f"{name}_clips_per_s"] / row["peak_gflops_per_s"]
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", choices=[*MODELS, "all"], default="atst")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--depth", type=int, default=12, help="transformer blocks")
    p.add_argument("--steps", type=int, default=3, help="measured steps of a round, behind one warm-up")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--earshot", default=HERE.parents[1] / "build/release/earshot")
    p.add_argument("--python", help="interpreter with PyTorch")
    p.add_argument("--json", help="file for JSON Lines, - for standard output (then no table)")
    a = p.parse_args()
    a.python = find_python(a.python)
    rows = []
    if a.json != "-":
        print(f"{'model':8}{'precision':>10}{'batch':>6}{'earshot':>10}{'torch':>10}{'ratio':>8}{'(range)':>14}{'mfu':>7}{'torch':>7}{'GiB':>7}{'torch':>7}  clips/s, medians of {a.rounds}")
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS if a.model == "all" else [a.model]:
            r = compare(a, model, pathlib.Path(scratch) / "bench.json")
            rows.append(json.dumps(r))
            if a.json != "-":
                print(f"{model:8}{a.precision:>10}{a.batch:6}{r['earshot_clips_per_s']:10.3f}{r['torch_clips_per_s']:10.3f}{r['ratio']:8.2f}"
                      f"{r['ratio_min']:8.2f}-{r['ratio_max']:<5.2f}{r['earshot_mfu']:7.3f}{r['torch_mfu']:7.3f}"
                      f"{r['earshot_peak_rss_bytes'] / 2**30:7.2f}{r['torch_peak_rss_bytes'] / 2**30:7.2f}  PyTorch {r['torch_version']}, {a.threads} threads, "
                      f"peak {r['peak_min']:.0f}-{r['peak_max']:.0f} GFLOP/s{', DISTURBED' if r['disturbed'] else ''}", flush=True)
    if a.json == "-":
        print("\n".join(rows))
    elif a.json:
        pathlib.Path(a.json).write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
