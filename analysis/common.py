"""What the Python side shares: corpus stores, label frames, the CRNN's log-mel, prediction files.

Reads and writes the files that the program documents (include/earshot/store.h, README "Files"); depends on file layouts
alone. Needs numpy, scipy and h5py (Debian's packages): run with /usr/bin/python3.
"""
import time

import h5py
import numpy as np
import scipy.fft

RATE = 16000
N_FRAMES = 156  # label frames of 64 ms in a 10-s clip
CLASSES = [
    "Alarm_bell_ringing", "Blender", "Cat", "Dishes", "Dog", "Electric_shaver_toothbrush", "Frying", "Running_water",
    "Speech", "Vacuum_cleaner", "cutlery and dishes", "furniture dragging", "people talking", "children voices",
    "coffee machine", "footsteps", "large_vehicle", "car", "brakes_squeaking", "cash register beeping",
    "announcement", "shopping cart", "metro leaving", "metro approaching", "door opens/closes", "wind_blowing",
    "birds_singing"]
# enum es_subset of include/earshot/store.h
(MAESTRO, STRONG_REAL, SYNTH, WEAK, UNLABELED, VALIDATION, SYNTH_VALIDATION, MAESTRO_TEST, AS_TRAIN,
 AS_EVAL) = range(10)

# Training labels: an event of the left class adds one of the right class (Dishes and cutlery, Speech and talking).
DESED_ALIASES = ((3, 10), (8, 12))
MAESTRO_ALIASES = ((12, 8), (13, 8), (20, 8), (10, 3))
DESED_VALID = list(range(10)) + [10, 12]
MAESTRO_VALID = list(range(10, 27)) + [3, 8]


def text(values):
    """A text dataset (fixed or variable length) as a list of str."""
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


class Store:
    """One corpus store, open for reading. Clips are rows; pcm(i) gives float32 samples in [-1, 1)."""

    def __init__(self, path):
        self.path = path
        self.file = h5py.File(path, "r")
        kind = text([self.file.attrs.get("earshot_kind", "none")])[0]
        if kind != "store":
            raise ValueError(f'{path}: earshot_kind: got "{kind}", want "store"')
        self.names = text(self.file["clip/name"][:])
        self.subset = self.file["clip/subset"][:].astype(int)
        self.split = self.file["clip/split"][:].astype(int)
        self.length = self.file["clip/length"][:]
        self.offset = self.file["audio/offset"][:]
        self.classes = text(self.file["classes"][:])
        events = self.file["events"]
        self.onset, self.end = events["onset"][:], events["offset"][:]
        self.label, self.confidence = events["label"][:], events["confidence"][:]
        self.index = events["index"][:]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def clips(self, *subsets, split=None):
        """Rows of these subsets, in order."""
        keep = np.isin(self.subset, subsets)
        if split is not None:
            keep &= self.split == split
        return np.flatnonzero(keep)

    def pcm(self, i):
        first = self.offset[i]
        return self.file["audio/pcm"][first:first + self.length[i]].astype(np.float32) / 32768

    def events(self, i):
        """(onset_s, offset_s, label, confidence) of a clip, in the order of the table; no aliases added."""
        rows = range(self.index[i], self.index[i + 1])
        return [(self.onset[r], self.end[r], int(self.label[r]), float(self.confidence[r])) for r in rows]


def with_aliases(events, aliases):
    """The rows and, behind them, their duplicates under the alias names."""
    return events + [(on, off, new, conf) for old, new in aliases for on, off, label, conf in events if label == old]


def encode(events, n_classes=len(CLASSES), hop=256, n_frames=N_FRAMES):
    """Frame labels [n_frames, n_classes]: an event touches every frame it overlaps, later rows overwrite."""
    y = np.zeros((n_frames, n_classes), np.float32)
    for onset, offset, label, confidence in events:
        first, last = (np.clip(t * RATE / hop / 4, 0, n_frames) for t in (onset, offset))
        y[int(first):int(np.ceil(last)), label] = confidence
    return y


def mel_bank(n_mels=128, n_fft=2048, fmax=8000.0):
    """HTK mel triangles, peak 1: [n_fft / 2 + 1, n_mels] float32."""
    top = 2595 * np.log10(1 + fmax / 700)
    points = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    hz = np.linspace(0, RATE / 2, n_fft // 2 + 1)[:, None]
    up = (hz - points[:-2]) / np.diff(points)[:-1]
    down = (points[2:] - hz) / np.diff(points)[1:]
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def log_mel(x, bank, n_fft=2048, hop=256):
    """The CRNN's input in dB, [1 + len(x) / hop, n_mels]: centred frames, Hamming window, magnitude, -50..80 dB."""
    x = np.pad(np.asarray(x, np.float32), n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, n_fft)[::hop]
    window = np.hamming(n_fft).astype(np.float32)
    mel = np.abs(scipy.fft.rfft(frames * window, axis=1)) @ bank
    return np.clip(20 * np.log10(np.maximum(mel, 1e-5)), -50, 80).astype(np.float32)


def fixed_text(values):
    return np.array([v.encode() for v in values], dtype=h5py.string_dtype("utf-8", max(1, max(len(v.encode()) for v in values))))


def write_predictions(path, names, logits, classes=CLASSES, commit=""):
    """The public layout: filenames [N], strong_logits float32 [N, T, K]; and ours, classes [K]."""
    with h5py.File(path, "w") as f:
        f.attrs["earshot_kind"] = "predictions"
        f.attrs["earshot_version"] = 1
        f.attrs["commit"] = commit
        f.attrs["created"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        f["filenames"] = fixed_text(names)
        f["strong_logits"] = np.asarray(logits, np.float32)
        f["classes"] = fixed_text(classes)


def average_precision(score, positive):
    """Area under precision over recall (sum of precision at each positive); nan without positives."""
    order = np.argsort(-score, kind="stable")
    hits = np.asarray(positive, bool)[order]
    if not hits.any():
        return np.nan
    return float((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())
