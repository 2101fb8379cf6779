#!/usr/bin/python3
"""Plots the curves of one or more runs: loss terms, learning rate, gradient norm, validation scores.

A panel for each quantity, a line in it for each run. Example:
    analysis/curves.py build/quickstart/runs/it1-stage1-atst build/quickstart/runs/it2-stage1-atst --out curves.png
"""
import matplotlib
import numpy as np

import runlog

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)


def smooth(y, window):
    """Mean of the last `window` values that are numbers; NaN where there is none."""
    y = np.asarray(y, dtype=float)
    present = ~np.isnan(y)
    total = np.cumsum(np.concatenate([[0], np.where(present, y, 0)]))
    count = np.cumsum(np.concatenate([[0], present]))
    end = np.arange(1, len(y) + 1)
    begin = np.maximum(0, end - window)
    n = count[end] - count[begin]
    return np.divide(total[end] - total[begin], n, out=np.full(len(y), np.nan), where=n > 0)


def curves(log):
    """{title: (steps, values)} of all that can be plotted and is not 0 throughout."""
    out = {f"loss: {name}": (log.columns["leaf"].step, y) for name, y in log.terms().items()}
    for path, column in log.columns.items():
        group, _, name = path.partition("/")
        if group in ("step", "valid") and column.values.ndim == 1 and column.values.dtype.kind == "f":
            out[name if group == "step" else f"validation: {name}"] = (column.step, column.values)
    out.pop("loss", None)  # the same numbers as "loss: total"
    return {title: xy for title, xy in out.items() if np.nan_to_num(xy[1]).any()}


def plot(logs, out, window=1):
    """Writes the picture; returns the titles of its panels."""
    all_curves = [curves(log) for log in logs]
    titles = dict.fromkeys(t for c in all_curves for t in c)
    titles = sorted(titles, key=lambda t: (t.startswith("validation"), not t.startswith("loss")))
    if not titles:
        raise runlog.BadRun(f"{logs[0].path}: no step yet, nothing to plot")
    n_columns = min(3, len(titles))
    n_rows = -(-len(titles) // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(4.5 * n_columns, 3 * n_rows), squeeze=False)
    for axis in axes.flat[len(titles):]:
        axis.remove()
    for axis, title in zip(axes.flat, titles):
        for i, (log, c) in enumerate(zip(logs, all_curves)):
            if title in c:
                x, y = c[title]
                noisy = title.startswith("loss: ") or title == "gradient_norm"
                axis.plot(x, smooth(y, window) if noisy else y, marker="o" if title.startswith("validation") else "", lw=1, color=f"C{i}", label=log.name)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.3)
    figure.supxlabel("step", fontsize=9)
    handles = [plt.Line2D([], [], color=f"C{i}", label=log.name) for i, log in enumerate(logs)]
    figure.legend(handles=handles, loc="upper center", ncol=min(4, len(logs)), fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 * (1 + (len(logs) - 1) // 4) / figure.get_figheight()))
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return titles


def main(argv=None):
    parser = runlog.Parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or its metrics.h5")
    parser.add_argument("--out", default="curves.png", help="the picture (default: curves.png)")
    parser.add_argument("--smooth", type=int, default=10, metavar="N", help="mean of noisy curves over the last N steps (default: 10)")
    args = parser.parse_args(argv)
    titles = plot([runlog.read(r) for r in args.runs], args.out, max(1, args.smooth))
    print(f"{args.out}: {len(titles)} panels, {len(args.runs)} runs")
    return 0


if __name__ == "__main__":
    runlog.run_main(main)
