#!/usr/bin/env python3
"""Earshot's frontends beside the public ones (torch and torchaudio): clips a second on one core, same clip, same run.

usage: tests/bench/frontend.py [--program build/release/earshot] [--rounds 5] [--model atst]... [--audio CLIP.wav] [--json FILE|-]

Rounds of both take turns on one core; the table holds medians over the rounds and their ratio. The public side computes what
CPJKU/cpjku_dcase24 does (spec: windows, filter banks, decibels, normalisation), with its filter banks made once, which
favours it; where ../shared is there, its outputs are checked against the golden ones first. Exit code 1 when Earshot is
slower. Needs python3-torch and python3-torchaudio (Debian; jobs/setup.sh does not install them): without them 77.
TIMEOUT 300
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import wave

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATE, SECONDS = 16000, 10

try:
    import numpy as np
    import torch
    import torchaudio
    from torchaudio.compliance import kaldi
except ImportError as e:
    print(f"skipped: {e}; apt-get install python3-torch python3-torchaudio")
    sys.exit(77)


def make_clip():
    """10 s of 16-bit audio: noise, a chirp, a tone that comes and goes."""
    t = np.arange(RATE * SECONDS) / RATE
    x = 0.05 * np.random.default_rng(1).standard_normal(t.size)
    x += 0.2 * np.sin(2 * np.pi * (100 * t + 350 * t**2)) + 0.2 * np.sin(2 * np.pi * 440 * t) * (t % 2 < 1)
    return np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)


def read_clip(path):
    with wave.open(path) as f:
        assert f.getframerate() == RATE and f.getnchannels() == 1 and f.getsampwidth() == 2, f"{path}: want 16 kHz, mono, 16 bit"
        return np.frombuffer(f.readframes(f.getnframes()), np.int16)


class Public:
    """The public frontends, as in CPJKU/cpjku_dcase24; x [1,N]."""

    def __init__(self):
        t = torchaudio.transforms
        self.crnn_mel = t.MelSpectrogram(RATE, n_fft=2048, hop_length=256, f_min=0, f_max=8000, n_mels=128, power=1,
                                         window_fn=torch.hamming_window, wkwargs={"periodic": False})
        self.atst_mel = t.MelSpectrogram(RATE, n_fft=1024, hop_length=160, f_min=60, f_max=7800, n_mels=64)
        self.db = t.AmplitudeToDB(stype="power", top_db=80)
        self.window = torch.hann_window(400)
        bank, _ = kaldi.get_mel_banks(128, 512, RATE, 0.0, 8000.0, 100.0, -500.0, 1.0)
        self.bank = torch.nn.functional.pad(bank, (0, 1))
        self.preemphasis = torch.tensor([[[-0.97, 1.0]]])

    def crnn(self, x):
        return self.crnn_mel(x)

    def atst(self, x):
        d = self.db(self.atst_mel(x)).clamp(-50, 80)
        return (d + 79.6482) / (50.6842 + 79.6482) * 2 - 1

    def fpasst(self, x):
        y = torch.nn.functional.conv1d(x.unsqueeze(1), self.preemphasis).squeeze(1)
        z = torch.stft(y, 512, 160, 400, self.window, center=True, return_complex=False)
        mel = self.bank @ (z**2).sum(-1)
        return (mel.clamp(min=1e-7).log() + 4.5) / 5

    def beats(self, x):
        z = kaldi.fbank(x * 2**15, num_mel_bins=128, sample_frequency=RATE, frame_length=25, frame_shift=10)
        return ((z - 15.41663) / (2 * 6.55582)).T.unsqueeze(0)


SHAPES = {"crnn": (1, 128, 626), "atst": (1, 64, 1001), "fpasst": (1, 128, 1000), "beats": (1, 128, 998)}


def public_clips_per_s(forward, x, budget_s):
    seconds = []
    with torch.no_grad():
        forward(x)
        begin = time.perf_counter()
        while not seconds or time.perf_counter() - begin < budget_s:
            start = time.perf_counter()
            forward(x)
            seconds.append(time.perf_counter() - start)
    return 1 / statistics.median(seconds)


def own_clips_per_s(program, model, path):
    out = subprocess.run([program, "bench", "frontend", "--model", model, "--audio", path, "--json", "-"],
                         check=True, capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS="1")).stdout
    return json.loads(out)["clips_per_s"]


def golden_matches(public, model):
    """The public side as written here is the public code: against its stored output, where ../shared is there."""
    shared = pathlib.Path(os.environ.get("EARSHOT_SHARED") or ROOT / "../shared") / "golden/models/frontends.h5"
    if not shared.exists():
        return None
    import h5py
    name = {"crnn": "crnn_mel", "atst": "atst_mel", "fpasst": "fpasst_mel", "beats": "beats_fbank"}[model]
    with h5py.File(shared) as f:
        x, want = torch.from_numpy(f["real/wave"][...]), f["real/" + name][...]
    with torch.no_grad():
        got = getattr(public, model)(x).numpy().reshape(want.shape)
    return float(np.abs(got - want).max()) <= 2e-3


def main():
    args = argparse.ArgumentParser()
    build = os.environ.get("EARSHOT_BUILD")
    args.add_argument("--program", default=f"{build}/earshot" if build else str(ROOT / "build/release/earshot"))
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--model", action="append", choices=SHAPES)
    args.add_argument("--audio")
    args.add_argument("--json")
    args = args.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit the one core
    torch.set_num_threads(1)
    public, rows = Public(), []
    with tempfile.TemporaryDirectory() as tmp:
        pcm, path = read_clip(args.audio) if args.audio else make_clip(), args.audio or tmp + "/clip.wav"
        if not args.audio:
            with wave.open(path, "wb") as f:
                f.setparams((1, 2, RATE, 0, "NONE", ""))
                f.writeframes(pcm.tobytes())
        x = torch.from_numpy(pcm.astype(np.float32) / 32768).unsqueeze(0)
        for model in args.model or SHAPES:
            forward = getattr(public, model)
            if len(pcm) == RATE * SECONDS:
                assert tuple(forward(x).shape) == SHAPES[model], (model, forward(x).shape)
            assert golden_matches(public, model) is not False, f"{model}: not what the public code computes"
            own, theirs = [], []
            for _ in range(args.rounds):
                own.append(own_clips_per_s(args.program, model, path))
                theirs.append(public_clips_per_s(forward, x, 2.0))
            a, b = statistics.median(own), statistics.median(theirs)
            rows.append({"model": model, "clips_per_s": round(a, 1), "torchaudio_clips_per_s": round(b, 1), "ratio": round(a / b, 2)})
    if args.json:
        out = sys.stdout if args.json == "-" else open(args.json, "w")
        out.writelines(json.dumps(r) + "\n" for r in rows)
    if args.json != "-":
        print(f"one core, torch {torch.__version__}, torchaudio {torchaudio.__version__}: medians of {args.rounds} rounds")
        print(f"{'frontend':10}{'earshot':>12}{'torchaudio':>12}{'ratio':>8}   clips/s")
        for r in rows:
            print(f"{r['model']:10}{r['clips_per_s']:12.1f}{r['torchaudio_clips_per_s']:12.1f}{r['ratio']:8.2f}")
    slower = [r["model"] for r in rows if r["ratio"] < 1]
    if slower:
        sys.exit(f"slower than torchaudio: {', '.join(slower)}")


if __name__ == "__main__":
    main()
