#!/usr/bin/python3
# TIMEOUT 300
"""The scaling model on 8 simulated nodes: what must be so whatever the numbers are. Skipped where SimGrid is missing."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ["EARSHOT_SOURCE"])
sys.path.insert(0, str(ROOT / "analysis/scaling"))
import scale  # noqa: E402

N, WIDTH = 86_000_000, 12.5e9


def near(got, want, share, what):
    assert abs(got - want) <= share * want, f"{what}: got {got}, want {want} within {share:.0%}"


def test_alone(program):
    s = {"elements": N, "leaves": 4, "leaf_s": 1, "backward_s": 2, "merge_s": 0.25, "sharded_s": 0.5, "replicated_s": 0.125, "steps": 1}
    r = scale.simulate(program, scale.cluster("fat-tree", WIDTH, 1e-6), 1, s)
    near(r["step_s"], 4 * 3 + 3 * 0.25 + 0.5 + 0.125, 1e-3, "one node computes its leaves and adds them")


def test_bytes(program):
    """Without computation: every rank sends and receives (1 - 1/P) of the vector twice. Eight nodes of the dragonfly hang on two routers
    with one link between them, which four pairs share in the last exchange: an eighth of the vector each, twice."""
    seconds = 4 * N / WIDTH
    for topology, ranks, want in (("fat-tree", 2, 1), ("fat-tree", 4, 3 / 2), ("fat-tree", 8, 7 / 4), ("dragonfly", 4, 3 / 2),
                                  ("dragonfly", 8, 7 / 4 + 2 * 3 / 8)):
        s = {"elements": N, "leaves": ranks, "steps": 1, "polls": 1}
        r = scale.simulate(program, scale.cluster(topology, WIDTH, 1e-6), ranks, s)
        near(r["step_s"], want * seconds, 0.05, f"{topology}, {ranks} ranks: all bytes at full width")


def test_overlap(program):
    """Sums travel behind backward, parameters behind the next forward pass; with one poll a pass all of it is waited for."""
    base = {"elements": N, "leaves": 8, "leaf_s": 1, "steps": 1}
    platform = scale.cluster("fat-tree", WIDTH, 1e-6)
    hidden = scale.simulate(program, platform, 8, {**base, "backward_s": 2})
    behind = scale.simulate(program, platform, 8, {**base, "backward_s": 2, "polls": 1})
    for phase in "finish_s", "gather_s":
        assert hidden[phase] < 0.2 * behind[phase], (phase, hidden, behind)
    saved = sum(behind[phase] - hidden[phase] for phase in ("finish_s", "gather_s"))
    near(behind["step_s"] - hidden["step_s"], saved, 0.05, "what is hidden is saved")


def test_leaves(program):
    """36 leaves on 8 ranks: some rank has 5. Its time is the step's."""
    s = {"elements": N, "leaves": 36, "leaf_s": 1, "steps": 1}
    r = scale.simulate(program, scale.cluster("fat-tree", 1e12, 1e-9), 8, s)
    near(r["step_s"], 5, 0.01, "36 leaves on 8 ranks")


def test_program(out):
    phases = {"frontend": 0.1, "augment": 0.1, "teacher": 1, "forward": 1, "backward": 2, "reduce_exposed": 0, "optimizer": 0.1}
    one = {"threads": 2, "trainable": N, "values": N, "phases": phases}
    rows = [{"model": "atst", "phase": "pretrain", "batch": 8, **one}, {"model": "beats", "phase": "stage2", "batch": 13, **one}]
    (out / "measured.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = [sys.executable, ROOT / "analysis/scaling/scale.py", "--out", out, "--measured", out / "measured.jsonl", "--ranks", "8"]
    subprocess.run(command, check=True, capture_output=True)
    results = (out / "results.jsonl").read_text()
    assert len(results.splitlines()) == 2 * 2 * 4  # measurements x topologies x ranks
    table = (out / "table.md").read_text()
    assert "| beats | dragonfly | 8 | 36 |" in table and "| 0.900 |" in table, table
    assert (out / "weak.png").stat().st_size > 1000 and (out / "strong.png").stat().st_size > 1000
    subprocess.run(command, check=True, capture_output=True)
    assert (out / "results.jsonl").read_text() == results, "what is there is simulated again"
    (out / "table.md").unlink()
    subprocess.run([*command, "--table"], check=True, capture_output=True)
    assert (out / "table.md").read_text() == table


def main():
    with tempfile.TemporaryDirectory() as name:
        out = pathlib.Path(name)
        program = scale.compile_simulator(out)  # exits with 77 without SimGrid
        for test in test_alone, test_bytes, test_overlap, test_leaves:
            test(program)
        test_program(out)
    print("all passed")


if __name__ == "__main__":
    main()
