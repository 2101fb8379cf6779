#!/usr/bin/python3
"""LABEL unit
TIMEOUT 120
The linear baseline and what it stands on: label frames and log-mel against recorded values, a store in, predictions out,
better than chance where there is something to learn and at chance where there is not."""
import io
import os
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout

SOURCE = os.environ.get("EARSHOT_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(SOURCE, "analysis"))
try:
    import h5py
    import numpy as np
    import scipy.fft  # noqa: F401
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)
import baseline  # noqa: E402
import common  # noqa: E402

SHARED = os.environ.get("EARSHOT_SHARED", os.path.join(SOURCE, "..", "shared"))


def tone_store(path, label_is_heard=True, classes=common.CLASSES, n=24):
    """Noise with a tone per event: class c sounds at 300 * 1.4^c Hz, c < 6; else events lie where nothing sounds."""
    rng = np.random.default_rng(7)
    subsets = [common.STRONG_REAL, common.SYNTH, common.VALIDATION, common.MAESTRO, common.MAESTRO_TEST]
    pcm, events, index, subset = [], [], [0], []
    for i in range(n * len(subsets)):
        kind = subsets[i % len(subsets)]
        maestro = kind in (common.MAESTRO, common.MAESTRO_TEST)
        x = 0.01 * rng.standard_normal(16000 * (9 if i % 7 == 0 else 10))
        for c in rng.permutation(6)[:3]:
            on = rng.uniform(0, 6)
            off = on + rng.uniform(0.5, 3)
            t = np.arange(int(16000 * on), int(16000 * off))
            if label_is_heard:
                x[t] += 0.03 * np.sin(2 * np.pi * 300 * 1.4 ** c * t / 16000)
            events.append((on, off, c + 10 if maestro else c, rng.choice([0.6, 0.8, 1.0]) if maestro else 1.0))
        index.append(len(events))
        pcm.append((x * 32768).astype("<i2"))
        subset.append(kind)
    length = np.array([len(x) for x in pcm])
    with h5py.File(path, "w") as f:
        f.attrs["earshot_kind"] = "store"
        f["clip/name"] = common.fixed_text([f"clip{i}" for i in range(len(pcm))])
        f["clip/subset"], f["clip/split"] = np.array(subset, "u1"), np.zeros(len(pcm), "u1")
        f["clip/length"], f["audio/offset"] = length, np.concatenate([[0], np.cumsum(length)])
        f["audio/pcm"] = np.concatenate(pcm)
        f["classes"] = common.fixed_text(classes)
        for k, name in enumerate(("onset", "offset", "label", "confidence")):
            f["events/" + name] = np.array([e[k] for e in events], (float, float, "i4", "f4")[k])
        f["events/index"] = np.array(index)


def run(*argv):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = baseline.main(list(argv))
    return code, out.getvalue(), err.getvalue()


def precision(dir_name, store_path, name, subset, classes):
    with common.Store(store_path) as store, h5py.File(os.path.join(dir_name, name), "r") as f:
        clips = store.clips(subset)
        assert common.text(f["filenames"][:]) == [store.names[i] for i in clips]
        logits = f["strong_logits"][:]
        y = np.stack([common.encode(store.events(i)) for i in clips]) > 0.5
        return np.mean([common.average_precision(logits[:, :, c].ravel(), y[:, :, c].ravel()) for c in classes])


class Baseline(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.dir = self.tmp.name
        self.store = os.path.join(self.dir, "store.h5")

    def tearDown(self):
        self.tmp.cleanup()

    def test_learns_what_is_there(self):
        tone_store(self.store)
        code, out, err = run("--out", self.dir, "--hop", "1", "--epochs", "20", self.store)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("baseline-validation.h5: 24 clips", out)
        for name, subset, classes in (("baseline-validation.h5", common.VALIDATION, range(6)),
                                      ("baseline-maestro.h5", common.MAESTRO_TEST, range(10, 16))):
            with h5py.File(os.path.join(self.dir, name), "r") as f:
                self.assertEqual(f["strong_logits"].shape, (24, 156, 27))
                self.assertEqual(f["strong_logits"].dtype, np.float32)
                self.assertTrue(np.isfinite(f["strong_logits"][:]).all())
                self.assertEqual(f["filenames"].dtype.kind, "S")
                self.assertEqual(common.text(f["classes"][:]), common.CLASSES)
                self.assertEqual(f.attrs["earshot_kind"], "predictions")
            self.assertGreater(precision(self.dir, self.store, name, subset, classes), 0.9)

    def test_learns_nothing_from_noise(self):
        tone_store(self.store, label_is_heard=False)
        code, _, _ = run("--out", self.dir, "--hop", "1", "--epochs", "4", self.store)
        self.assertEqual(code, 0)
        self.assertLess(precision(self.dir, self.store, "baseline-validation.h5", common.VALIDATION, range(6)), 0.4)

    def test_same_seed_same_numbers(self):
        tone_store(self.store, n=3)
        logits = []
        for seed in ("1", "1", "2"):
            self.assertEqual(run("--out", self.dir, "--epochs", "1", "--batch", "2", "--seed", seed, self.store)[0], 0)
            with h5py.File(os.path.join(self.dir, "baseline-validation.h5"), "r") as f:
                logits.append(f["strong_logits"][:])
        self.assertTrue(np.array_equal(logits[0], logits[1]))
        self.assertFalse(np.array_equal(logits[0], logits[2]))

    def test_bad_stores(self):
        code, _, err = run("--out", self.dir, os.path.join(self.dir, "none.h5"))
        self.assertEqual((code, err.count("\n")), (65, 1))
        with h5py.File(self.store, "w") as f:
            f.attrs["earshot_kind"] = "weights"
        code, _, err = run("--out", self.dir, self.store)
        self.assertEqual(code, 65)
        self.assertIn('got "weights", want "store"', err)
        tone_store(self.store, classes=common.CLASSES[:26], n=1)
        code, _, err = run("--out", self.dir, self.store)
        self.assertEqual(code, 65)
        self.assertIn("got 26 classes", err)

    def test_gradient(self):
        """One Adam step follows the sign of the numerical gradient of the loss."""
        rng = np.random.default_rng(3)
        x, y = rng.standard_normal((2, 30, 4)).astype("f4"), (rng.random((2, 30, 3)) > 0.6).astype("f4")
        valid = np.array([[1, 1, 0], [1, 0, 1]], "f4")
        w, b = baseline.train(x, y, valid, epochs=1, batch=2, rate=1e-3, decay=0, seed=1)

        def loss(w, b):
            z = baseline.forward(baseline.pad(x), w.astype("f4"), b.astype("f4")).astype(float)
            return (((np.logaddexp(0, z) - y * z) * valid[:, None]).sum() / (valid.sum() * 30))

        share = (y * valid[:, None]).sum((0, 1)) / (valid.sum(0) * 30)
        w0, b0 = np.zeros(w.shape), np.log((share + 1e-3) / (1 - share + 1e-3))
        checked = 0
        for index in np.ndindex(w.shape):
            e = np.zeros(w.shape)
            e[index] = 0.05
            slope = (loss(w0 + e, b0) - loss(w0 - e, b0)) / 0.1
            if abs(slope) > 1e-3:
                self.assertEqual(np.sign(w[index]), -np.sign(slope), index)
                checked += 1
        self.assertGreater(checked, 30)

    def test_label_frames(self):
        with h5py.File(os.path.join(SOURCE, "tests", "data", "golden_models", "labels.h5"), "r") as f:
            for hop, frames in ((256, 156), (160, 250)):
                for case in f[f"encode_hop{hop}"].values():
                    want = case["y_df" if "y_df" in case else "y_list"][:]
                    # columns as in the golden files: class, onset, offset, confidence
                    rows = [(on, off, int(c), conf) for c, on, off, conf in case["events"][:]]
                    got = common.encode(rows, hop=hop, n_frames=frames)
                    self.assertTrue(np.array_equal(got, want), case.name)

    def test_aliases(self):
        rows = [(0, 1, 12, 0.2), (1, 2, 10, 0.4), (0, 1, 13, 0.6)]
        self.assertEqual(common.with_aliases(rows, common.MAESTRO_ALIASES),
                         rows + [(0, 1, 8, 0.2), (0, 1, 8, 0.6), (1, 2, 3, 0.4)])

    def test_log_mel(self):
        path = os.path.join(SHARED, "golden", "models", "frontends.h5")
        if not os.path.exists(path):
            self.skipTest(f"{path} is not there")
        with h5py.File(path, "r") as f:
            for case in ("real", "synth", "short"):
                got = common.log_mel(f[case]["wave"][0], common.mel_bank()).T
                want = f[case]["crnn_log"][0, 0]
                self.assertEqual(got.shape, want.shape)
                self.assertLess(np.abs(got - want).max(), 0.02)
                self.assertLess(np.abs(got - want).mean(), 1e-4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
