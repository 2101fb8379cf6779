"""The published configurations: every one is accepted by `train --check --set-sizes`, with the numbers of spec/training.md 2.1 and
5.1; the last short window of an epoch still steps."""
# TIMEOUT 300
import glob
import json
import os
import subprocess
import sys

SOURCE, BUILD = os.environ["EARSHOT_SOURCE"], os.environ["EARSHOT_BUILD"]
os.chdir(SOURCE)
SIZES = "configs/data/published-sizes.yaml"
FAILED = []


def check(config, *extra, code=0):
    run = subprocess.run([BUILD + "/earshot", "train", "--check", "--config", config, "--json", "-", *extra],
                         capture_output=True, text=True, check=False)
    if run.returncode != code:
        FAILED.append(f"{config} {extra}: code {run.returncode}: {run.stderr.strip()}")
        return None if code == 0 else run.stderr
    return json.loads(run.stdout) if code == 0 else run.stderr


def want(config, *extra, **values):
    got = check(config, "--set-sizes", SIZES, *extra)
    for key, value in values.items():
        if got is not None and got[key] != value:
            FAILED.append(f"{config} {extra}: {key} is {got[key]}, want {value}")
    return got


# micro-batches an epoch, steps an epoch, steps: (leaves, last window)
TABLE = {
    "it1/stage1-atst": (71, 71, 14200, 1, 1), "it1/stage1-fpasst": (71, 71, 14200, 1, 1),
    "it1/stage1-beats": (71, 71, 14200, 1, 1), "it1/stage2-atst": (157, 157, 39250, 1, 1),
    "it1/stage2-fpasst": (157, 157, 39250, 1, 1), "it1/stage2-beats": (157, 157, 39250, 1, 1),
    "it2/stage1-atst": (71, 71, 14200, 1, 1), "it2/stage1-fpasst": (71, 71, 14200, 1, 1),
    "it2/stage1-beats": (284, 71, 14200, 4, 4), "it2/stage2-atst": (157, 20, 5000, 8, 5),
    "it2/stage2-fpasst": (157, 20, 5000, 8, 5), "it2/stage2-beats": (473, 14, 3500, 36, 5),
    "pretrain/atst": (3125, 391, 11730, 8, 5), "pretrain/fpasst": (3125, 391, 11730, 8, 5),
    "pretrain/beats": (3125, 391, 11730, 8, 5), "pretrain/student-atst": (3125, 391, 46920, 8, 5),
    "pretrain/student-fpasst": (3125, 391, 46920, 8, 5), "pretrain/student-beats": (3125, 391, 46920, 8, 5),
    "pretrain/cpjku-atst": (12932, 1617, 16170, 8, 4), "pretrain/cpjku-fpasst": (12932, 1617, 16170, 8, 4),
}
found = {f[len("configs/"):-len(".yaml")] for kind in ("pretrain", "it1", "it2") for f in glob.glob(f"configs/{kind}/*.yaml")}
if found != set(TABLE):
    FAILED.append(f"configurations that the table does not know, or the other way round: {found ^ set(TABLE)}")
for name, (micro, epoch, total, leaves, last) in TABLE.items():
    got = want(f"configs/{name}.yaml", micro_batches_per_epoch=micro, steps_per_epoch=epoch, total_steps=total,
               leaves=leaves, last_leaves=last)
    if got is None:
        continue
    ranks = got["at_ranks"]
    if [r["ranks"] for r in ranks] != [1 << i for i in range(len(ranks))] or ranks[0]["bytes_per_rank"] < 1 << 29:
        FAILED.append(f"{name}: ranks {ranks}")
    if any(a["seconds"] < b["seconds"] for a, b in zip(ranks, ranks[1:])):
        FAILED.append(f"{name}: more ranks take longer: {ranks}")
    if not 8e7 < got["parameters"] < 2.5e8 or abs(got["flops"] / (got["flops_per_micro_batch"] * micro * got["epochs"]) - 1) > 1e-9:
        FAILED.append(f"{name}: {got['parameters']} parameters, {got['flops']} flop")

for arch in ("atst", "fpasst"):  # spec 5.1: either accumulation in either iteration
    want(f"configs/it1/stage2-{arch}.yaml", "--set", "train.leaves=8", total_steps=5000)
    want(f"configs/it2/stage2-{arch}.yaml", "--set", "train.leaves=1", total_steps=39250)
a, b = (want("configs/it2/stage1-atst.yaml", "--gflops", g) for g in ("50", "200"))
if a and b and abs(a["at_ranks"][0]["seconds"] / b["at_ranks"][0]["seconds"] - 4) > 1e-9:
    FAILED.append("--gflops does not count")
text = subprocess.run([BUILD + "/earshot", "train", "--check", "--set-sizes", SIZES, "--config", "configs/it2/stage2-atst.yaml"],
                      capture_output=True, text=True, check=False).stdout
if "157 micro-batches" not in text or "5000 steps" not in text:
    FAILED.append(f"text: {text}")

# bad input
BAD = [("train: {maestro: many}\n", "1: train.maestro: got \"many\""), ("train: {maestro: 1}\n", "train.strong is missing"),
       ("train: {maestroo: 1}\n", "1: got train.maestroo"), ("maestro: 1\n", "1: got maestro"),
       ("train: {maestro: 1, strong: 1, synth: 1, weak: 1, unlabeled: 1}\n", "1 maestro training clips, a leaf takes 7")]
bad = os.path.join(BUILD, f"bad-sizes-{os.getpid()}.yaml")
for content, message in BAD:
    with open(bad, "w", encoding="utf-8") as f:
        f.write(content)
    err = check("configs/it2/stage2-atst.yaml", "--set-sizes", bad, code=65)
    if err is not None and message not in err:
        FAILED.append(f"{content!r}: {err}")
os.remove(bad)
for extra in (("--set-sizes", SIZES),):
    run = subprocess.run([BUILD + "/earshot", "train", "--config", "configs/it2/stage2-atst.yaml", *extra], capture_output=True,
                         text=True, check=False)
    if run.returncode != 64 or "--check" not in run.stderr:
        FAILED.append(f"--set-sizes without --check: {run.returncode} {run.stderr}")
print("\n".join(FAILED) if FAILED else "all passed")
sys.exit(1 if FAILED else 0)
