#!/usr/bin/python3
"""Draws a recording: its spectrogram, and below it a row for every class with detected and true events.

Any audio file that the program reads (libsndfile). Events are tables with filename, onset, offset, event_label and perhaps
score, as `earshot detect --out` writes them; the rows of this recording are those whose file name, with or without
extension, is its own. Example:
    analysis/detections.py recording.wav --events events.tsv --truth truth.tsv --out recording.png
"""
import argparse
import csv
import ctypes
import ctypes.util
import os
import sys

import matplotlib
import numpy as np
import scipy.signal

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)


class BadInput(Exception):
    """A file that is not what it should be; one line."""


class SndfileInfo(ctypes.Structure):
    """struct SF_INFO of sndfile.h."""
    _fields_ = [("frames", ctypes.c_int64), ("samplerate", ctypes.c_int), ("channels", ctypes.c_int),
                ("format", ctypes.c_int), ("sections", ctypes.c_int), ("seekable", ctypes.c_int)]


def read_audio(path, begin_s=0.0, end_s=None):
    """(mono samples, rate) of a part of a file."""
    lib = ctypes.CDLL(ctypes.util.find_library("sndfile") or "libsndfile.so.1")
    lib.sf_open.restype = ctypes.c_void_p
    lib.sf_readf_float.restype = ctypes.c_int64
    info = SndfileInfo()
    handle = lib.sf_open(os.fsencode(path), 0x10, ctypes.byref(info))
    if not handle:
        raise BadInput(f"{path}: not an audio file that can be read")
    try:
        begin = int(begin_s * info.samplerate)
        end = info.frames if end_s is None else min(info.frames, int(end_s * info.samplerate))
        n = max(0, end - begin)
        out = np.zeros((n, info.channels), np.float32)
        lib.sf_seek(ctypes.c_void_p(handle), ctypes.c_int64(begin), 0)
        got = lib.sf_readf_float(ctypes.c_void_p(handle), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(n))
    finally:
        lib.sf_close(ctypes.c_void_p(handle))
    if got <= 0:
        raise BadInput(f"{path}: no samples between {begin_s} s and the end")
    return out[:got].mean(1), info.samplerate


def stem(name):
    """A file name without folders and last extension."""
    return os.path.splitext(os.path.basename(name))[0]


def read_events(path, recording):
    """[(onset, offset, label, score)] of one recording."""
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    missing = {"filename", "onset", "offset", "event_label"} - set(rows[0] if rows else {"filename": 0, "onset": 0, "offset": 0, "event_label": 0})
    if missing:
        raise BadInput(f"{path}: no column {', '.join(sorted(missing))}")
    names = {os.path.basename(recording), stem(recording)}
    return [(float(r["onset"]), float(r["offset"]), r["event_label"], float(r.get("score") or 1)) for r in rows
            if r["event_label"] and (os.path.basename(r["filename"]) in names or stem(r["filename"]) in names)]


def spectrogram_db(samples, rate):
    """(times, frequencies, dB) with at most about 2000 columns."""
    window = min(len(samples), max(64, int(0.032 * rate)))
    hop = max(window // 4, len(samples) // 2000, 1)
    f, t, power = scipy.signal.spectrogram(samples, rate, nperseg=window, noverlap=max(0, window - hop), mode="magnitude")
    db = 20 * np.log10(np.maximum(power, 1e-10))
    return t, f, np.maximum(db, db.max() - 80)


def draw(recording, detected, true, out, begin_s=0.0, end_s=None):
    """Writes the picture; returns the labels of its rows."""
    samples, rate = read_audio(recording, begin_s, end_s)
    t, f, db = spectrogram_db(samples, rate)
    end_s = begin_s + len(samples) / rate
    seen = [e for e in (detected or []) + (true or []) if e[1] > begin_s and e[0] < end_s]
    labels = sorted({e[2] for e in seen})
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(12, 4 + 0.28 * max(1, len(labels))), sharex=True, layout="constrained",
                                         height_ratios=[4, max(1, 0.32 * len(labels))])
    top.pcolormesh(t + begin_s, f / 1000, db, shading="auto", cmap="magma", rasterized=True)
    top.set_ylabel("kHz")
    top.set_ylim(0, min(8, rate / 2000))
    top.set_title(os.path.basename(recording), fontsize=10)
    for events, height, offset, colour in ((true, 0.36, 0.20, "tab:green"), (detected, 0.36, -0.20, "tab:orange")):
        for onset, end, label, score in events or []:
            if label in labels:
                bottom.barh(labels.index(label) + offset, end - onset, left=onset, height=height, color=colour,
                            alpha=0.35 + 0.65 * min(1, max(0, score)))
    bottom.set_yticks(range(len(labels)), labels, fontsize=8)
    bottom.set_ylim(len(labels) - 0.5 if labels else 0.5, -0.5)
    bottom.set_xlim(begin_s, end_s)
    bottom.set_xlabel("s")
    bottom.grid(axis="x", alpha=0.3)
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in ("tab:orange", "tab:green")]
    names = ["detected (paler: lower score)", "true"]
    n = 2 if true is not None else 1
    top.legend(handles[:n], names[:n], loc="upper right", fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)
    return labels


def main(argv=None):
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio")
    parser.add_argument("--events", required=True, help="detected events (TSV)")
    parser.add_argument("--truth", help="true events (TSV)")
    parser.add_argument("--begin", type=float, default=0.0, help="seconds")
    parser.add_argument("--end", type=float, help="seconds")
    parser.add_argument("--out", help="picture; default: the recording's name with .png")
    args = parser.parse_args(argv)
    try:
        detected = read_events(args.events, args.audio)
        true = read_events(args.truth, args.audio) if args.truth else None
        out = args.out or stem(args.audio) + ".png"
        labels = draw(args.audio, detected, true, out, args.begin, args.end)
    except (BadInput, OSError, ValueError, KeyError) as error:
        print(f"detections.py: {error}", file=sys.stderr)
        return 65
    print(f"{out}: {len(detected)} detected events{'' if true is None else f', {len(true)} true ones'}, {len(labels)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
