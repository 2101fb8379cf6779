#!/usr/bin/python3
"""A linear baseline: what a model without depth reaches on a corpus.

Logistic regression of the 27 classes on the CRNN's log-mel, one label frame (64 ms) and 8 frames on either side, trained by
Adam on the strongly labelled DESED clips (real and synthetic) and the soft-labelled MAESTRO windows of the given stores.
A trained network that does not beat it has learned nothing worth its time.

Usage:   baseline.py --out DIR [options] STORE.h5...
Writes DIR/baseline-{validation,synth_validation,maestro}.h5: predictions of the DESED validation and synthetic validation clips
and the MAESTRO test windows, for `earshot evaluate --predictions`. Prints frame-wise average precision per class.
Example: /usr/bin/python3 analysis/baseline.py --out $EARSHOT_WORK/pred $EARSHOT_WORK/stores/{desed,maestro}.h5
"""
import argparse
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common  # noqa: E402

CONTEXT = 8
TESTS = ((common.VALIDATION, "baseline-validation.h5"), (common.SYNTH_VALIDATION, "baseline-synth_validation.h5"),
         (common.MAESTRO_TEST, "baseline-maestro.h5"))


def features(store, clips):
    """[N, 156, 128]: log-mel, min-max scaled per clip to -1..1 as the CRNN's input is, mean over the 4 frames of a label."""
    bank = common.mel_bank()
    x = np.empty((len(clips), common.N_FRAMES, bank.shape[1]), np.float32)
    for k, i in enumerate(clips):
        pcm = store.pcm(i)[:10 * common.RATE]
        mel = common.log_mel(np.pad(pcm, (0, 10 * common.RATE - len(pcm))), bank)
        mel = 2 * (mel - mel.min()) / (np.ptp(mel) + 1e-8) - 1
        x[k] = mel[:4 * common.N_FRAMES].reshape(common.N_FRAMES, 4, -1).mean(1)
    return x


def training_set(store, hop):
    """Clips, labels [N, 156, 27] and valid classes [N, 27] of what has strong or soft labels. MAESTRO windows overlap by
    9 s: one in `hop` is enough."""
    clips = store.clips(common.STRONG_REAL, common.SYNTH, split=0)
    windows = store.clips(common.MAESTRO, split=0)[::hop]
    labels, valid = [], []
    for rows, aliases, classes in ((clips, common.DESED_ALIASES, common.DESED_VALID),
                                   (windows, common.MAESTRO_ALIASES, common.MAESTRO_VALID)):
        mask = np.isin(np.arange(len(common.CLASSES)), classes).astype(np.float32)
        labels += [common.encode(common.with_aliases(store.events(i), aliases)) for i in rows]
        valid += [mask] * len(rows)
    return np.concatenate([clips, windows]).astype(int), labels, valid


def pad(x):
    return np.pad(x, ((0, 0), (CONTEXT, CONTEXT), (0, 0)))


def forward(x, w, b):
    """x [N, T + 16, F], w [F, 17, K]: logits [N, T, K] = b + sum over shifts c of x[t + c] w[:, c]."""
    n, t = x.shape[0], x.shape[1] - 2 * CONTEXT
    f, shifts, k = w.shape
    z = (x.reshape(-1, f) @ w.reshape(f, -1)).reshape(n, -1, shifts, k)
    return b + sum(z[:, c:c + t, c] for c in range(shifts))


def train(x, y, valid, epochs, batch, rate, decay, seed):
    """Weighted logistic regression: mean over frames and valid classes, L2 `decay`, Adam with a cosine schedule."""
    rng = np.random.default_rng(seed)
    n, _, f = x.shape
    shifts, k = 2 * CONTEXT + 1, y.shape[2]
    share = (y * valid[:, None]).sum((0, 1)) / np.maximum(1, valid.sum(0) * y.shape[1])
    w = np.zeros((f, shifts, k), np.float32)
    b = np.log((share + 1e-3) / (1 - share + 1e-3)).astype(np.float32)
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (w, b)]
    steps = epochs * ((n + batch - 1) // batch)
    step = 0
    for epoch in range(epochs):
        order = rng.permutation(n)
        loss = 0.0
        for first in range(0, n, batch):
            rows = order[first:first + batch]
            xb, yb, vb = pad(x[rows]), y[rows], valid[rows][:, None]
            logits = forward(xb, w, b)
            g = (1 / (1 + np.exp(-logits)) - yb) * vb / (vb.sum() * y.shape[1])
            loss += float(((np.logaddexp(0, logits) - yb * logits) * vb).sum() / (vb.sum() * y.shape[1])) * len(rows)
            dz = np.zeros((len(rows), xb.shape[1], shifts, k), np.float32)
            for c in range(shifts):
                dz[:, c:c + y.shape[1], c] = g
            dw = (xb.reshape(-1, f).T @ dz.reshape(-1, shifts * k)).reshape(w.shape) + decay * w
            step += 1
            speed = rate * 0.5 * (1 + np.cos(np.pi * (step - 0.5) / steps))
            for p, grad, (m, v) in ((w, dw, moments[0]), (b, g.sum((0, 1)), moments[1])):
                m += 0.1 * (grad - m)
                v += 0.001 * (grad * grad - v)
                p -= (speed * (m / (1 - 0.9 ** step)) / (np.sqrt(v / (1 - 0.999 ** step)) + 1e-8)).astype(np.float32)
        if epoch % 10 == 9 or epoch == epochs - 1:
            print(f"epoch {epoch + 1} of {epochs}: loss {loss / n:.4f}", flush=True)
    return w, b


def report(store, clips, logits, classes, title):
    """Average precision over frames; labels above 0.5 count."""
    y = np.stack([common.encode(store.events(i)) for i in clips]) > 0.5
    scores = {}
    for c in classes:
        ap = common.average_precision(logits[:, :, c].ravel(), y[:, :, c].ravel())
        if np.isfinite(ap):
            scores[c] = ap
            print(f"  {common.CLASSES[c]:28} {ap:.3f}  (chance {y[:, :, c].mean():.3f})")
    if scores:
        print(f"{title}: {len(clips)} clips, mean average precision {np.mean(list(scores.values())):.3f}")
    return scores


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+", metavar="STORE.h5")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16, help="clips a step (default 16)")
    parser.add_argument("--rate", type=float, default=2e-3, help="first learning rate (default 0.002)")
    parser.add_argument("--decay", type=float, default=1e-4, help="L2 (default 0.0001)")
    parser.add_argument("--hop", type=int, default=5, help="use one MAESTRO window in this many (default 5)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    begin = time.monotonic()
    try:
        stores = [common.Store(path) for path in args.stores]
    except (OSError, ValueError, KeyError) as e:
        print(f"baseline.py: {e}", file=sys.stderr)
        return 65
    for store in stores:
        if store.classes != common.CLASSES:
            print(f"baseline.py: {store.path}:/classes: got {len(store.classes)} classes, want the 27 of the task",
                  file=sys.stderr)
            return 65
    x, y, valid = [], [], []
    for store in stores:
        clips, labels, masks = training_set(store, args.hop)
        x.append(features(store, clips))
        y += labels
        valid += masks
    if not y:
        print(f"baseline.py: {', '.join(args.stores)}: no clips with strong or soft labels", file=sys.stderr)
        return 65
    x = np.concatenate(x)
    mean, deviation = x.mean((0, 1)), x.std((0, 1)) + 1e-3
    x = (x - mean) / deviation
    print(f"{len(x)} training clips, features after {time.monotonic() - begin:.0f} s", flush=True)
    w, b = train(x, np.stack(y), np.stack(valid), args.epochs, args.batch, args.rate, args.decay, args.seed)
    os.makedirs(args.out, exist_ok=True)
    for subset, name in TESTS:
        for store in stores:
            clips = store.clips(subset)
            if len(clips) == 0:
                continue
            parts = [forward(pad((features(store, clips[k:k + 64]) - mean) / deviation), w, b)
                     for k in range(0, len(clips), 64)]
            logits = np.concatenate(parts)
            common.write_predictions(os.path.join(args.out, name), [store.names[i] for i in clips], logits)
            classes = range(10, 27) if subset == common.MAESTRO_TEST else range(10)
            report(store, clips, logits, classes, name)
    print(f"done after {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
