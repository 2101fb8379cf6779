#!/usr/bin/python3
"""Step time and efficiency of training on 1 to 1,024 nodes: measured computation, the program's own communication in SimGrid.

    analysis/scaling/scale.py --out DIR                     measures, simulates, writes table.md, weak.png, strong.png, results.jsonl
    analysis/scaling/scale.py --out DIR --measured FILE     the same from measurements made before (measured.jsonl)
    analysis/scaling/scale.py --check --out DIR             against what 2 and 4 ranks on this machine do (check.md)

simulate.c runs src/comm/reducer.c, leafgather.c and comm.c themselves, compiled by smpicc; its head says why. Needs libsimgrid-dev
(Debian); without it: exit code 77 and a message. What is there in DIR/results.jsonl is not simulated again.

Assumptions (options): one rank a node; a node has --cores cores and computes a leaf cores / threads * --efficiency times as fast as the
measurement's threads did; additions and the optimiser run at --memory bytes/s; links of --bandwidth and --latency on every hop, moved by
the network card while the node computes; a leaf's time varies by --jitter from node to node and step to step.
"""
import argparse
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = ("atst", "fpasst", "beats")
BATCH = {"beats": 13}  # clips a leaf of stage 2; others: the published 35
LEAVES = {"atst": 8, "fpasst": 8, "beats": 36}  # a step of stage 2, as published
RECORD = {"pretrain": 8, "stage2": 8 + 4 * 624}  # doubles: losses; mean and variance of 624 channels in student and teacher
SOURCES = ("comm/comm.c", "comm/reducer.c", "comm/leafgather.c", "base/err.c", "base/hash.c", "base/rng.c", "base/timer.c",
           "base/text.c", "base/fault.c")
# Both have 1,024 nodes. Fat tree: 32 leaf switches of 32 nodes, each with 32 links up: full bisection. Dragonfly: 8 groups of
# 4 chassis of 8 routers of 4 nodes; 4 links between groups, 2 between chassis.
TOPOLOGIES = {"fat-tree": ("FAT_TREE", "2;32,32;1,32;1,1"), "dragonfly": ("DRAGONFLY", "8,4;4,2;8,1;4")}
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
HEAD = """<?xml version='1.0'?><!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
"""


def run(command, **more):
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if p.returncode != 0:
        sys.exit(f"scale.py: {command[0]} ended with {p.returncode}:\n{p.stdout}{p.stderr}")
    return p.stdout


def compile_simulator(out):
    if not shutil.which("smpicc"):
        print("scale.py: no SimGrid here (apt-get install libsimgrid-dev): skipped", file=sys.stderr)
        sys.exit(77)
    program = out / "simulate"
    run(["smpicc", "-O2", "-std=gnu11", "-Wno-unknown-pragmas", "-include", HERE / "smpi.h", f"-I{ROOT}/include", f"-I{ROOT}/src/comm",
         f"-I{HERE}", "-o", program, HERE / "simulate.c", *(ROOT / "src" / s for s in SOURCES), "-lxxhash", "-lm"])
    return program


# ---- platforms: the text of the XML file and the hosts of ranks 0, 1, ...

def cluster(topology, bandwidth, latency):
    kind, parameters = TOPOLOGIES[topology]
    return HEAD + f""" <cluster id="c" prefix="n" suffix="" radical="0-1023" speed="1Gf" bw="{bandwidth}Bps" lat="{latency}s"
  topology="{kind}" topo_parameters="{parameters}" loopback_bw="{bandwidth}Bps" loopback_lat="{latency}s"/>
</platform>
""", [f"n{i}" for i in range(1024)]


def one_machine(cores, bandwidth, latency):
    """Cores that exchange through one memory bus."""
    hosts = [f"core{i}" for i in range(cores)]
    routes = "".join(f' <route src="{a}" dst="{b}" symmetrical="NO"><link_ctn id="bus"/></route>\n' for a in hosts for b in hosts)
    return HEAD + '<zone id="z" routing="Full">\n' + "".join(f' <host id="{h}" speed="1Gf"/>\n' for h in hosts) + \
        f' <link id="bus" bandwidth="{bandwidth}Bps" latency="{latency}s"/>\n{routes}</zone>\n</platform>\n', hosts


def simulate(program, platform, ranks, settings):
    xml, hosts = platform
    name = program.parent / f"p{os.getpid()}"
    name.with_suffix(".xml").write_text(xml)
    name.with_suffix(".hosts").write_text("".join(hosts[i % len(hosts)] + "\n" for i in range(ranks)))
    # Factors 1, no traffic of acknowledgements: SMPI's defaults model TCP on a 1 Gbit/s cluster; here bandwidth and latency are what
    # the options say.
    text = run(["smpirun", "-no-privatize", "-np", ranks, "-hostfile", name.with_suffix(".hosts"), "-platform", name.with_suffix(".xml"),
                "--cfg=smpi/simulate-computation:no", "--cfg=smpi/coll-selector:ompi", "--cfg=smpi/test:0", "--cfg=smpi/iprobe:0",
                "--cfg=network/crosstraffic:0", "--cfg=smpi/bw-factor:0:1", "--cfg=smpi/lat-factor:0:1", "--log=root.thres:error", program,
                *(f"{k}={v:.9g}" for k, v in settings.items())])
    for suffix in ".xml", ".hosts":
        name.with_suffix(suffix).unlink()
    return json.loads(re.search(r"\{.*\}", text).group())


# ---- measurements

def measure(earshot, models, phases, path, depth):
    rows = []
    for phase in phases:
        for model in models:
            if phase == "pretrain":
                batch = ["--batch", "8"]
            else:
                batch = ["--batch", BATCH[model]] if model in BATCH else []
            scratch = path.with_suffix(".one")
            run([earshot, "bench", "step", "--model", model, "--phase", phase, "--roofline", "--no-verify", "--quiet", "--steps", 3,
                 "--json", scratch, *batch, *(["--depth", depth] if depth else [])], env={**os.environ, **MPI})
            rows.append(json.loads(scratch.read_text().splitlines()[0]))
            scratch.unlink()
            print(f"measured {model} {phase}: {rows[-1]['clips_per_s']:.3f} clips/s", flush=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return rows


def settings_of(m, leaves, a, ranks=1):
    """A measurement of one leaf on one rank -> what simulate.c wants, for a node."""
    faster = a.cores / m["threads"] * a.efficiency
    p = m["phases"]
    # As in src/train/bench_ops.c: norm and AdamW touch 32 bytes a parameter and are shared, the teacher's average 12 bytes and is not.
    return {"elements": m["trainable"], "leaves": leaves, "record": RECORD[m["phase"]],
            "leaf_s": sum(p[k] for k in ("frontend", "augment", "teacher", "forward")) / faster, "backward_s": p["backward"] / faster,
            "merge_s": 12 * m["trainable"] / a.memory, "sharded_s": 32 * m["trainable"] / a.memory,
            "replicated_s": (12 * m["values"] if m["phase"] != "pretrain" else 0) / a.memory, "jitter": a.jitter, "steps": a.steps if ranks <= 64 else 1}


def powers(up_to):
    return [1 << k for k in range(int(math.log2(up_to)) + 1)]


def scenarios(measured, a):
    """(key of a result, measurement, leaves, ranks)"""
    for m, topology, ranks in itertools.product(measured, TOPOLOGIES, powers(a.ranks)):
        strong = m["phase"] == "stage2"
        slots = 1 << math.ceil(math.log2(LEAVES[m["model"]]))
        leaves = LEAVES[m["model"]] if strong else ranks * a.leaves_per_node
        if not strong or ranks <= slots:
            yield {"kind": "strong" if strong else "weak", "model": m["model"], "topology": topology, "ranks": ranks, "leaves": leaves,
                   "clips": leaves * m["batch"], "bandwidth": a.bandwidth, "latency": a.latency}, m


def model(a, out, program, measured):
    path = out / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for key, m in [] if a.table else sorted(scenarios(measured, a), key=lambda x: x[0]["ranks"]):  # a table of fewer nodes is there early
        settings = settings_of(m, key["leaves"], a, key["ranks"])
        key["settings"] = settings
        if any(all(r.get(k) == v for k, v in key.items()) for r in rows):
            continue
        result = simulate(program, cluster(key["topology"], a.bandwidth, a.latency), key["ranks"], settings)
        rows.append({**key, **result})
        with path.open("a") as f:
            f.write(json.dumps(rows[-1]) + "\n")
        print(f"{key['kind']} {key['model']} {key['topology']} {key['ranks']} nodes: {result['step_s']:.4f} s", flush=True)
    write(rows_of(rows, a, measured), a, out)


def rows_of(rows, a, measured):
    """The results that belong to this command, in its order."""
    wanted = [{**key, "settings": settings_of(m, key["leaves"], a, key["ranks"])} for key, m in scenarios(measured, a)]
    return [r for w in wanted for r in rows if all(r.get(k) == v for k, v in w.items())]


def add_efficiency(rows):
    for r in rows:
        one = next(x for x in rows if x["ranks"] == 1 and all(x[k] == r[k] for k in ("kind", "model", "topology")))
        r["clips_per_s"] = r["clips"] / r["step_s"]
        r["efficiency"] = r["clips_per_s"] / one["clips_per_s"] / r["ranks"]
        # What whole leaves allow: the rank with the most of them decides.
        r["limit"] = r["leaves"] / r["ranks"] / math.ceil(r["leaves"] / r["ranks"])
        r["exposed"] = (r["finish_s"] + r["exchange_s"] + r["gather_s"]) / r["step_s"]


# ---- output

def table(rows, a):
    lines = [f"Nodes of {a.cores} cores, links of {a.bandwidth * 8e-9:.0f} Gbit/s and {a.latency * 1e6:g} us, {a.leaves_per_node} leaf of 8 "
             "clips a node (weak), the published leaves a step (strong). Efficiency: clips/s a node over those of one node; *limit*: what "
             "whole leaves allow; *exposed*: share of the step spent in communication that nothing hides (rank 0's mean).", ""]
    for kind, title in ("weak", "AudioSet pre-training, weak scaling"), ("strong", "Stage 2, strong scaling"):
        some = [r for r in rows if r["kind"] == kind]
        if not some:
            continue
        lines += [f"### {title}", "", "| model | topology | nodes | leaves | step s | clips/s | efficiency | limit | exposed |",
                  "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
        lines += [f"| {r['model']} | {r['topology']} | {r['ranks']} | {r['leaves']} | {r['step_s']:.4f} | {r['clips_per_s']:.1f} | "
                  f"{r['efficiency']:.3f} | {r['limit']:.3f} | {r['exposed']:.3f} |" for r in some] + [""]
    return "\n".join(lines)


def plot(rows, out):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    for kind in "weak", "strong":
        figure, axes = plt.subplots(figsize=(6, 4))
        for name in MODELS:
            for topology, style in ("fat-tree", "-"), ("dragonfly", "--"):
                some = [r for r in rows if (r["kind"], r["model"], r["topology"]) == (kind, name, topology)]
                if some:
                    axes.plot([r["ranks"] for r in some], [r["efficiency"] for r in some], style, marker="o", markersize=3,
                              color=f"C{MODELS.index(name)}", label=f"{name}, {topology}")
        if kind == "strong":
            for name in ("atst", "beats"):
                some = [r for r in rows if (r["kind"], r["model"], r["topology"]) == (kind, name, "fat-tree")]
                axes.plot([r["ranks"] for r in some], [r["limit"] for r in some], ":", color="grey")
        axes.set(xscale="log", xlabel="nodes", ylabel="efficiency", ylim=(0, 1.05), title=f"{kind} scaling")
        axes.set_xscale("log", base=2)
        axes.legend(fontsize=7)
        figure.savefig(out / f"{kind}.png", dpi=150, bbox_inches="tight")
        plt.close(figure)


def write(rows, a, out):
    add_efficiency(rows)
    (out / "table.md").write_text(table(rows, a))
    plot(rows, out)


# ---- against this machine

def local(earshot, ranks, out, *arguments):
    path = out / "local.jsonl"
    launcher = ["mpiexec", "--oversubscribe", "--bind-to", "none", "-n", ranks] if ranks > 1 else []
    run([*launcher, earshot, "bench", *arguments, "--quiet", "--set", "threads_per_rank=1", "--json", path],
        env={**os.environ, **MPI, "OMP_NUM_THREADS": "1"})
    return json.loads(path.read_text().splitlines()[0])


def check(a, out, program):
    """Bus bandwidth from the reduction of 2 ranks; predicted: the reduction of 4 and steps of 2 and 4 ranks."""
    cores, n = 2, 86_000_000
    measured = {p: local(a.earshot, p, out, "reduce", "--bytes", 4 * n)["seconds"] for p in (2, 4)}
    one = local(a.earshot, 1, out, "step", "--batch", 2, "--no-verify", "--roofline")
    steps = {p: 2 * p / local(a.earshot, p, out, "step", "--batch", 2, "--no-verify")["clips_per_s"] for p in (2, 4)}
    a.cores, a.efficiency, a.memory, a.jitter, a.leaves_per_node = 1, 1.0, one["bandwidth_bytes_per_s"], 0.0, 1
    bare = {"elements": n, "merge_s": 12 * n / a.memory, "steps": 2}
    low, high = 1e8, 1e12  # bandwidth by bisection: the time falls with it
    for _ in range(24):
        bus = math.sqrt(low * high)
        s = simulate(program, one_machine(cores, bus, 1e-6), 2, {**bare, "leaves": 2})["step_s"]
        low, high = (bus, high) if s > measured[2] else (low, bus)
    lines = [f"{cores} cores, memory {a.memory * 1e-9:.1f} GB/s; bus {bus * 1e-9:.2f} GB/s (from the first row)", "",
             "| what | ranks | measured s | model s | model / measured |", "|---|---:|---:|---:|---:|"]
    rows = []
    for p in (2, 4):
        s = simulate(program, one_machine(cores, bus, 1e-6), p, {**bare, "leaves": p})["step_s"]
        rows.append({"what": "reduce and gather 344 MB", "ranks": p, "measured_s": measured[p], "model_s": s})
    for p in (2, 4):
        s = simulate(program, one_machine(cores, bus, 1e-6), p, settings_of(one, p, a))["step_s"]
        rows.append({"what": "ATST pre-training step, 2 clips a leaf", "ranks": p, "measured_s": steps[p], "model_s": s})
    for r in rows:
        lines.append(f"| {r['what']} | {r['ranks']} | {r['measured_s']:.3f} | {r['model_s']:.3f} | {r['model_s'] / r['measured_s']:.2f} |")
    (out / "check.md").write_text("\n".join(lines) + "\n")
    (out / "check.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    print("\n".join(lines))


def main():
    build = os.environ.get("EARSHOT_BUILD")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    p.add_argument("--measured", type=pathlib.Path, metavar="FILE", help="JSON Lines of bench step --roofline, one rank")
    p.add_argument("--check", action="store_true")
    p.add_argument("--table", action="store_true", help="of what is in DIR/results.jsonl; nothing is simulated")
    p.add_argument("--earshot", default=f"{build}/earshot" if build else ROOT / "build/release/earshot")
    p.add_argument("--ranks", type=int, default=1024, help="most nodes")
    p.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    p.add_argument("--phases", nargs="+", choices=["pretrain", "stage2"], default=["pretrain", "stage2"])
    p.add_argument("--depth", type=int, help="fewer transformer blocks (tests)")
    p.add_argument("--cores", type=int, default=64)
    p.add_argument("--efficiency", type=float, default=0.75, help="of a node's cores against those of the measurement")
    p.add_argument("--memory", type=float, default=200e9, help="bytes/s of a node")
    p.add_argument("--bandwidth", type=float, default=12.5e9, help="bytes/s of a link")
    p.add_argument("--latency", type=float, default=1e-6, help="s of a link")
    p.add_argument("--jitter", type=float, default=0.01, help="standard deviation of a leaf's time, share of it")
    p.add_argument("--leaves-per-node", type=int, default=1)
    p.add_argument("--steps", type=int, default=3, help="simulated, fewer on more than 64 nodes")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    program = None if a.table else compile_simulator(a.out)
    if a.check:
        check(a, a.out, program)
        return
    if a.measured:
        measured = [json.loads(line) for line in a.measured.read_text().splitlines()]
        measured = [m for m in measured if m["model"] in a.models and m["phase"] in a.phases]
    else:
        measured = measure(a.earshot, a.models, a.phases, a.out / "measured.jsonl", a.depth)
    model(a, a.out, program, measured)
    print(a.out / "table.md")


if __name__ == "__main__":
    main()
