#!/usr/bin/python3
"""kill -9 of a rank in the middle of writing: the newest complete checkpoint is found whole, predictions go on from their marks.
TIMEOUT 180
"""
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["EARSHOT_BUILD"]
SEED = int(os.environ.get("ES_TEST_SEED", "1"))
random.seed(SEED)
print("seed", SEED)


def mpiexec(n, program, *args):
    return ["mpiexec", "--oversubscribe", "--bind-to", "none", "-n", str(n), f"{BUILD}/tests/{program}", *args]


def ranks(launcher):
    """Process ids of the ranks that the launcher started."""
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True).stdout
    return [int(p) for p in out.split()]


def stamp(file):
    """Changes whenever the file is replaced; None while there is none."""
    try:
        s = os.stat(file)
        return s.st_ino, s.st_mtime_ns
    except FileNotFoundError:
        return None


def run_and_kill(n, file, seconds, program, *args):
    """Kills a rank `seconds` after the program first replaced `file`, however slow the machine is."""
    before, deadline = stamp(file), time.time() + 50
    p = subprocess.Popen(mpiexec(n, program, *args), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while stamp(file) in (before, None):
        assert time.time() < deadline and p.poll() is None, f"nothing was written to {file}: {p.poll()}"
        time.sleep(0.02)
    time.sleep(seconds)
    pids = ranks(p.pid)
    assert len(pids) == n, f"{len(pids)} ranks are running, want {n}: {p.poll()}"
    os.kill(random.choice(pids), signal.SIGKILL)
    out = p.communicate(timeout=60)[0]
    assert p.returncode != 0, "a killed rank must end the job with an error"
    return out


def run(n, program, *args):
    p = subprocess.run(mpiexec(n, program, *args), capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


def checkpoints(folder):
    last = 0
    for round_ in range(6):
        run_and_kill(random.choice([1, 2, 4]), f"{folder}/checkpoint-last.h5", random.random(), "mpi-test_ckpt", "loop", folder)
        out = run(random.choice([1, 2]), "mpi-test_ckpt", "check", folder)
        step = int(re.search(r"rc 1 step (\d+) whole 1", out).group(1))
        print(f"round {round_}: checkpoint of step {step}, files {sorted(os.listdir(folder))}")
        assert step > last, f"step {step} after {last}: nothing was saved, or an old file came back"
        last = step
        assert len(os.listdir(folder)) <= 4  # last, prev, and what the kill left: one temporary file, one link


def predictions(folder):
    file = folder + "/p.h5"
    run_and_kill(2, file + ".part", 8.0, "mpi-test_predictions", "slow", file)
    assert not os.path.exists(file) and os.path.exists(file + ".part")
    out = run(3, "mpi-test_predictions", "quick", file)
    done = int(re.search(r"done (\d+)", out).group(1))
    print(f"predictions: continued after {done} of 300 blocks")
    assert 1 <= done < 300 and "rc 0 wrong 0" in out, out
    assert os.listdir(folder) == ["p.h5"]


top = tempfile.mkdtemp(prefix="tmp-kill-", dir=".")
try:
    for test in checkpoints, predictions:
        os.mkdir(f"{top}/{test.__name__}")
        test(f"{top}/{test.__name__}")
finally:
    shutil.rmtree(top)
sys.exit(0)
