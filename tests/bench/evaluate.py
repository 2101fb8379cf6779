#!/usr/bin/env python3
"""PSDS1 and PSDS2 by earshot evaluate beside sed_scores_eval: same scores, same machine, one core each, in turn.

usage: tests/bench/evaluate.py [--program build/release/earshot] [--python VENV/bin/python] [--clips 1153] [--rounds 3] [--json FILE|-]

Continuous scores of 10 classes in 156 frames a clip, seeded, as an HDF5 file. Earshot's time is the whole process, reading the
file and starting included; sed_scores_eval's that of its two calls of psds, its reading shown apart. CPU seconds (on a quiet machine:
wall time), medians over the rounds of Earshot. The values must agree to 1e-9; exit code 1 when they do not, or when the ratio is below
30. Needs sed_scores_eval in the interpreter of --python (a venv: pip install sed_scores_eval "pandas<2.3" h5py matplotlib): without it 77.
TIMEOUT 300
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLASSES = ["Alarm_bell_ringing", "Blender", "Cat", "Dishes", "Dog", "Electric_shaver_toothbrush", "Frying", "Running_water", "Speech", "Vacuum_cleaner"]
FRAMES, FRAME_S, CLIP_S, WANTED_RATIO = 156, 0.064, 10.0, 30

# Runs under --python, in the folder of the data.
PUBLIC = """
import json, time
import h5py
from sed_scores_eval.base_modules.scores import create_score_dataframe
from sed_scores_eval.intersection_based import psds
begin = time.process_time()
with h5py.File("scores.h5") as f:
    names, times = [c.decode() for c in f["classes"][:]], f["timestamps"][:]
    scores = {clip: create_score_dataframe(d[:], times, names) for clip, d in f["scores"].items()}
truth, durations = json.load(open("truth.json")), json.load(open("durations.json"))
out = {"read_s": time.process_time() - begin}
for name, p in (("psds1", dict(dtc_threshold=0.7, gtc_threshold=0.7)),
                ("psds2", dict(dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3, alpha_ct=0.5))):
    begin = time.process_time()
    value, single, *_ = psds(scores, truth, durations, alpha_st=1, unit_of_time="hour", max_efpr=100, num_jobs=1, **p)
    out[name] = {"value": float(value), "classes": {k: float(v) for k, v in single.items()}, "seconds": time.process_time() - begin}
print(json.dumps(out))
"""


def make(folder, n_clips):
    """Random walks, raised over three events of a clip."""
    rng = np.random.default_rng(1)
    truth, table = {}, ["filename\tonset\toffset\tevent_label"]
    with h5py.File(folder / "scores.h5", "w") as f:
        f["classes"] = [c.encode() for c in CLASSES]
        f["timestamps"] = np.minimum(np.arange(FRAMES + 1) * FRAME_S, CLIP_S)
        for i in range(n_clips):
            clip = f"c{i:06d}"
            x = rng.normal(0, 0.35, (FRAMES, len(CLASSES))).cumsum(0)
            x -= x.mean(0) + 2
            truth[clip] = []
            for k in rng.choice(len(CLASSES), 3, replace=False):
                onset = round(rng.uniform(0, 6.5), 3)
                offset = round(onset + rng.uniform(0.3, 3), 3)
                x[int(onset / FRAME_S) : int(np.ceil(offset / FRAME_S)), k] += 4
                truth[clip].append([onset, offset, CLASSES[k]])
                table.append(f"{clip}.wav\t{onset}\t{offset}\t{CLASSES[k]}")
            f[f"scores/{clip}"] = (1 / (1 + np.exp(-x))).astype(np.float32)
    (folder / "truth.tsv").write_text("\n".join(table) + "\n")
    (folder / "durations.tsv").write_text("\n".join(["filename\tduration"] + [f"{c}.wav\t{CLIP_S}" for c in truth]) + "\n")
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "durations.json").write_text(json.dumps({c: CLIP_S for c in truth}))


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--program", default=os.path.join(os.environ.get("EARSHOT_BUILD", ROOT / "build/release"), "earshot"))
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--clips", type=int, default=1153)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json")
    args = p.parse_args()
    if subprocess.run([args.python, "-c", "import sed_scores_eval"], capture_output=True, check=False).returncode != 0:
        print(f"skipped: no sed_scores_eval in {args.python}; pip install it in a venv and name that with --python")
        return 77
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # children, too
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = str(pathlib.Path(args.program).resolve())
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder), args.clips)
        command = [program, "evaluate", "--scores", "scores.h5", "--ground-truth", "truth.tsv", "--durations", "durations.tsv", "--metrics", "psds1,psds2",
                   "--set", "threads_per_rank=1", "--quiet", "--json", "out.json"]
        seconds = []
        for _ in range(args.rounds):
            before = cpu_of_children()
            subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
            seconds.append(cpu_of_children() - before)
        ours = json.loads((pathlib.Path(folder) / "out.json").read_text())
        public = json.loads(subprocess.run([args.python, "-c", PUBLIC], cwd=folder, env=env, check=True, stdout=subprocess.PIPE).stdout)
    theirs = public["psds1"]["seconds"] + public["psds2"]["seconds"]
    differ = max(abs(ours[m]["classes"].get(k, ours[m]["value"]) - v) for m in ("psds1", "psds2")
                 for k, v in [*public[m]["classes"].items(), ("", public[m]["value"])])
    result = {"clips": args.clips, "classes": len(CLASSES), "earshot_s": statistics.median(seconds), "public_psds1_s": public["psds1"]["seconds"],
              "public_psds2_s": public["psds2"]["seconds"], "public_read_s": public["read_s"], "ratio": theirs / statistics.median(seconds), "differ": differ}
    if args.json:
        with open(1 if args.json == "-" else args.json, "w", closefd=args.json != "-") as f:
            f.write(json.dumps(result) + "\n")
    if args.json != "-":
        print(f"{args.clips} clips x {FRAMES} frames x {len(CLASSES)} classes, CPU seconds on one core\n"
              f"earshot evaluate            {result['earshot_s']:8.3f}   PSDS1 and PSDS2, the whole process\n"
              f"sed_scores_eval             {theirs:8.3f}   {public['psds1']['seconds']:.2f} + {public['psds2']['seconds']:.2f}, and {public['read_s']:.2f} reading\n"
              f"ratio                       {result['ratio']:8.1f}   want {WANTED_RATIO}; largest difference {differ:.1e}")
    return int(differ > 1e-9 or result["ratio"] < WANTED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
