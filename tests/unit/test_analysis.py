"""The scripts of analysis/ on small logs, written here in the layout of include/earshot/metrics.h. TIMEOUT 120"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="earshot-mpl"))
SOURCE = os.environ.get("EARSHOT_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
ANALYSIS = os.path.join(SOURCE, "analysis")
sys.path.insert(0, ANALYSIS)

import h5py  # noqa: E402
import numpy as np  # noqa: E402

import curves  # noqa: E402
import runlog  # noqa: E402
import scores  # noqa: E402

TERMS = ["total", "maestro", "real", "synthetic", "weak", "ssl", "ssl_weight", "pseudo"]
NAN = float("nan")


def tearDownModule():
    shutil.rmtree(os.environ["MPLCONFIGDIR"], ignore_errors=True)


def put(file, path, values, index, **labels):
    dataset = file.create_dataset(path, data=values)
    dataset.attrs["index"] = np.bytes_(index)
    for name, strings in labels.items():
        dataset.attrs[name] = np.array(strings, dtype="S12")


def example(n=20, leaves=3, first=0):
    """A log of n steps with falling losses, in a short last step without its last leaf."""
    step = np.arange(first, first + n)
    rng = np.random.default_rng(7)
    leaf = rng.random((n, leaves, len(TERMS))) * 0.1 + (5.0 / (1 + step))[:, None, None]
    leaf[:, :, TERMS.index("pseudo")] = 0
    leaf[-1, -1] = NAN
    return {
        "step/step": step, "leaf": leaf, "step/loss": np.nanmean(leaf[:, :, 0], axis=1), "step/lr": 1e-3 * (step + 1.0),
        "step/parameters_digest": step.astype("u8") + 2**63, "time/mean": rng.random((n, 2)),
        "valid/step": np.array([9, 19]), "valid/psds1": np.array([0.1, 0.2]), "valid/mpauc": np.array([NAN, 0.6]),
    }


def write(folder, data, kind="metrics"):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "metrics.h5")
    with h5py.File(path, "w") as file:
        file.attrs["earshot_kind"] = np.bytes_(kind)
        for name, values in data.items():
            if name in ("step/step", "valid/step"):
                file.create_dataset(name, data=values)
            elif name == "leaf":
                put(file, name, values, "/step/step", terms=TERMS)
            elif name.startswith("time"):
                put(file, name, values, "/step/step", phases=["forward", "backward"])
            else:
                put(file, name, values, "/valid/step" if name.startswith("valid") else "/step/step")
    return path


def script(name, *args):
    done = subprocess.run(["/usr/bin/python3", os.path.join(ANALYSIS, name), *args], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


class Case(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix="earshot-analysis")
        self.addCleanup(shutil.rmtree, self.tmp)

    def path(self, *parts):
        return os.path.join(self.tmp, *parts)


class RunLog(Case):
    def test_means_leave_out_absent_leaves(self):
        data = example()
        write(self.path("run"), data)
        log = runlog.read(self.path("run"))
        self.assertEqual(log.name, "run")
        self.assertEqual(list(log.terms()), TERMS)
        np.testing.assert_allclose(log.terms()["total"], data["step/loss"], rtol=1e-15)
        np.testing.assert_allclose(log.supervised_loss()[-1], data["leaf"][-1, :2, 1:5].mean(axis=0).sum(), rtol=1e-15)

    def test_loss_change_is_of_the_supervised_terms(self):
        data = example(n=10)
        data["leaf"][:] = 0
        data["leaf"][:, :, TERMS.index("ssl")] = np.arange(10)[:, None]  # grows, as its weight does
        data["leaf"][:, :, TERMS.index("real")] = 10 - np.arange(10)[:, None]
        write(self.path("run"), data)
        self.assertEqual(runlog.read(self.path("run")).loss_change(), (9.5, 1.5))

    def test_refuses_other_files(self):
        write(self.path("run"), example(), kind="store")
        open(self.path("text"), "w").close()
        for path in (self.path("run"), self.path("text"), self.path("nothing")):
            with self.assertRaises(runlog.BadRun):
                runlog.read(path)
        code, _, err = script("compare_runs.py", self.path("run"), self.path("run"))
        self.assertEqual((code, err.count("\n")), (65, 1))

    def test_bad_usage_is_64(self):
        for name in ("ablation.py", "curves.py", "compare_runs.py", "scores.py"):
            code, _, err = script(name, "--frobnicate")
            self.assertEqual((code, err.count("\n")), (64, 1))


class CompareRuns(Case):
    def compare(self, a, b, *args):
        write(self.path("a"), a)
        write(self.path("b"), b)
        code, out, err = script("compare_runs.py", *args, self.path("a"), self.path("b", "metrics.h5"))
        self.assertEqual(err, "")
        return code, out

    def test_same(self):
        a, b = example(), example()
        b["time/mean"] = b["time/mean"] + 1  # times may differ
        code, out = self.compare(a, b)
        self.assertEqual((code, out), (0, "the same, bit for bit: 20 steps\n"))

    def test_one_bit_of_any_column(self):
        for name in ("leaf", "step/loss", "step/lr", "step/parameters_digest", "valid/psds1"):
            with self.subTest(name):
                b = example()
                flat = b[name].view("u8").reshape(-1)
                flat[flat.size // 2] ^= np.uint64(1)
                code, out = self.compare(example(), b)
                self.assertEqual(code, 1)
                self.assertIn(f"/{name}: 1 of {flat.size} differ", out)
                self.assertEqual(out.count("\n"), 1)

    def test_names_the_place(self):
        b = example()
        b["leaf"][5, 1, 2] = 3.5
        code, out = self.compare(example(), b)
        self.assertEqual(code, 1)
        self.assertIn("first at step 5, leaf 1, real:", out)
        self.assertIn(" and 3.5", out)

    def test_nan_and_zero_are_bits(self):
        a, b = example(), example()
        a["step/lr"][3] = NAN
        b["step/lr"][3] = NAN
        self.assertEqual(self.compare(a, b)[0], 0)
        b["step/lr"][3] = struct.unpack("d", struct.pack("Q", 0x7FF8000000000001))[0]
        self.assertEqual(self.compare(a, b)[0], 1)
        a["step/lr"][3], b["step/lr"][3] = 0.0, -0.0
        self.assertEqual(self.compare(a, b)[0], 1)

    def test_other_steps_and_columns(self):
        self.assertEqual(self.compare(example(20), example(19))[0], 1)
        b = example(25)
        b["leaf"][:20], b["step/loss"][:20] = example()["leaf"], example()["step/loss"]
        code, out = self.compare(example(20), b, "--common")
        self.assertEqual((code, out), (0, "the same, bit for bit: 20 steps\n"))
        self.assertEqual(self.compare(example(5), example(5, first=100), "--common")[0], 1)
        b = example()
        del b["valid/mpauc"]
        code, out = self.compare(example(), b)
        self.assertEqual(code, 1)
        self.assertIn("/valid/mpauc: only in", out)


class Curves(Case):
    def test_panels(self):
        write(self.path("a"), example())
        write(self.path("b"), example(30))
        logs = [runlog.read(self.path(x)) for x in "ab"]
        titles = curves.plot(logs, self.path("x.png"))
        want = [f"loss: {t}" for t in TERMS if t != "pseudo"] + ["lr", "validation: mpauc", "validation: psds1"]
        self.assertEqual(sorted(titles), sorted(want))  # pseudo is 0 throughout, step/loss is the total
        with open(self.path("x.png"), "rb") as file:
            head = file.read(24)
        self.assertEqual(head[:8], b"\x89PNG\r\n\x1a\n")
        self.assertGreater(min(struct.unpack(">II", head[16:24])), 400)

    def test_values(self):
        write(self.path("a"), example())
        steps, values = curves.curves(runlog.read(self.path("a")))["validation: psds1"]
        self.assertEqual((list(steps), list(values)), ([9, 19], [0.1, 0.2]))

    def test_smooth(self):
        np.testing.assert_allclose(curves.smooth([1, 3, NAN, 5, 7], 2), [1, 2, 3, 5, 6])
        np.testing.assert_array_equal(curves.smooth([NAN, 2], 1), [NAN, 2])

    def test_command(self):
        write(self.path("a"), example())
        code, out, err = script("curves.py", self.path("a"), "--out", self.path("y.png"))
        self.assertEqual((code, err), (0, ""))
        self.assertGreater(os.path.getsize(self.path("y.png")), 10000)

    def test_empty_run(self):
        data = {k: v[:0] for k, v in example().items()}
        write(self.path("a"), data)
        code, _, err = script("curves.py", self.path("a"), "--out", self.path("y.png"))
        self.assertEqual((code, err.count("\n")), (65, 1))


class Reports(Case):
    def setUp(self):
        super().setUp()
        os.makedirs(self.path("report"))

    def report(self, run, psds1, mpauc):
        for suffix, metric, value in (("desed", "psds1", psds1), ("maestro", "mpauc", mpauc)):
            with open(self.path("report", f"{run}-{suffix}.json"), "w") as file:
                json.dump({metric: {"value": value, "classes": {"Speech": value, "Dog": value + 0.2}}}, file)


class Ablation(Reports):
    VARIANTS = ("it2-stage2", "it1-stage2", "it2-stage1", "it1-stage1", "no-ssl-stage2", "no-maestro-stage2", "no-desed-stage2")

    def setUp(self):
        super().setUp()
        for k, variant in enumerate(self.VARIANTS):
            for seed in (1, 2, 3):
                self.report(f"{variant}.seed{seed}", 0.1 * seed + 0.01 * k, 0.5)

    def test_table(self):
        code, out, err = script("ablation.py", self.tmp, "--csv", self.path("a.csv"))
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual(len(lines), 2 + len(self.VARIANTS))
        self.assertIn("3      0.2000 0.1000 (+0.0000 0.0000)", lines[2])
        self.assertIn("without DESED", lines[8])
        self.assertIn("0.2600 0.1000 (+0.0600 0.0000)", lines[8])  # the same step for every seed: no error
        with open(self.path("a.csv")) as file:
            self.assertEqual(len(file.readlines()), 1 + 3 * len(self.VARIANTS))

    def test_missing_run(self):
        os.remove(self.path("report", "no-ssl-stage2.seed2-maestro.json"))
        code, _, err = script("ablation.py", self.tmp)
        self.assertEqual((code, err.count("\n")), (65, 1))
        self.assertIn("no-ssl-stage2.seed2: want both scores", err)
        os.remove(self.path("report", "no-ssl-stage2.seed2-desed.json"))
        os.remove(self.path("report", "no-ssl-stage2.seed3-desed.json"))
        os.remove(self.path("report", "no-ssl-stage2.seed3-maestro.json"))
        code, out, err = script("ablation.py", self.tmp)  # one seed is left
        self.assertEqual((code, err), (0, ""))
        self.assertIn("self-supervision  1      0.1400 - (+0.0400 -)", out)
        for suffix in ("desed", "maestro"):
            os.remove(self.path("report", f"no-ssl-stage2.seed1-{suffix}.json"))
        code, _, err = script("ablation.py", self.tmp)
        self.assertEqual((code, err.count("\n")), (65, 1))
        self.assertIn("no-ssl-stage2.seed*.json: not there", err)


class Scores(Reports):
    def setUp(self):
        super().setUp()
        self.report("untrained", 0.01, 0.5)
        self.report("it1", 0.2, 0.7)
        write(self.path("runs", "it1"), example())

    def test_table(self):
        write(self.path("runs", "pretrain"), example())  # not scored
        code, out, err = script("scores.py", self.tmp, "pretrain", "it1")
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["phase", "untrained", "pretrain", "it1"])
        self.assertEqual(lines[1].split()[1:], ["0.0100", "0.1100", "0.5000"])
        self.assertEqual(lines[2].split()[3:], ["-", "-", "-"])
        self.assertEqual(lines[3].split()[3:], ["0.2000", "0.3000", "0.7000"])

    def test_score_not_above_the_untrained_model(self):
        for psds1, mpauc, name in ((0.009, 0.7, "PSDS1"), (0.01, 0.7, "class mean"), (0.2, 0.49, "mpAUC")):
            self.report("it1", psds1, mpauc)
            code, out, _ = script("scores.py", self.tmp, "it1")
            self.assertEqual(code, 1)
            self.assertIn(f"FAILED: it1: {name}", out)

    def test_ensembles_are_judged_where_there_are_any(self):
        self.report("it1", 0.009, 0.4)
        self.report("it1-ensemble", 0.2, 0.7)
        code, out, err = script("scores.py", self.tmp, "it1", "it1-ensemble")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(out.splitlines()[3].split()[1:], ["0.2000", "0.3000", "0.7000"])
        self.report("it1-ensemble", 0.2, 0.4)
        code, out, _ = script("scores.py", self.tmp, "it1", "it1-ensemble")
        self.assertEqual(code, 1)
        self.assertIn("FAILED: it1-ensemble: mpAUC", out)

    def test_loss_that_rises(self):
        data = example()
        data["leaf"] = data["leaf"][::-1].copy()
        write(self.path("runs", "it1"), data)
        code, out, _ = script("scores.py", self.tmp, "it1")
        self.assertEqual(code, 1)
        self.assertIn("FAILED: it1: the loss does not fall", out)

    def test_broken_report(self):
        for text in ("", "{}", '{"psds1": {"value": null}}', '{"psds1": {"value": NaN}}'):
            with open(self.path("report", "it1-desed.json"), "w") as file:
                file.write(text)
            code, _, err = script("scores.py", self.tmp, "it1")
            self.assertEqual((code, err.count("\n")), (65, 1), text)
        os.remove(self.path("report", "untrained-desed.json"))
        self.assertEqual(script("scores.py", self.tmp, "it1")[0], 65)


if __name__ == "__main__":
    unittest.main()
