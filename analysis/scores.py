#!/usr/bin/python3
"""The table of a pipeline: loss at the begin and end of each phase, scores after it, beside an untrained model.

WORK holds runs/RUN/metrics.h5 and report/RUN-desed.json, report/RUN-maestro.json as `earshot evaluate --json` writes them.
The loss is the supervised one, a mean over the first and last fifth of the steps: the weight of the rest changes with time.
PSDS1 punishes differences between classes and is 0 until most of them are found, which minutes of training do not reach: beside it
stands the mean of its per-class values, and PSDS1 itself must only not be below the untrained model's.
A RUN called ITERATION-ensemble has no loss. Where there are ensembles, their scores are judged, else those of every run: one toy
run of seconds may find less than chance. Stage 2 begins with a trained network: its loss, a noisy mean of few steps, may stay.
Exit code 0; 1 when a loss does not fall or a score is not above the untrained model's; 65 when a file is missing or broken.
Example: analysis/scores.py build/quickstart it1-stage1-atst it1-stage2-atst
"""
import json
import math
import os

import runlog

# name, file, metric, mean of the classes instead of the value, must be above the untrained model's (else: not below)
METRICS = (("PSDS1", "desed", "psds1", False, False), ("class mean", "desed", "psds1", True, True), ("mpAUC", "maestro", "mpauc", False, True))

STAYS = 1.05  # times the loss at the begin: the spread of a mean over few steps


def score(work, run, suffix, metric, class_mean=False):
    """A score, or None where this run was not evaluated."""
    path = os.path.join(work, "report", f"{run}-{suffix}.json")
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)[metric]
        classes = result["classes"].values() if class_mean else ()
        value = sum(classes) / len(classes) if class_mean else float(result["value"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as e:
        raise runlog.BadRun(f"{path}: no {metric}.value: {e}") from e
    if not math.isfinite(value):
        raise runlog.BadRun(f"{path}: {metric} is {value}")
    return value


def table(work, runs, baseline):
    """(lines to print, lines on what is wrong)"""
    lines = [f"{'phase':<20} {'loss: begin':>12} {'end':>8} " + "".join(f"{m[0]:>11}" for m in METRICS)]
    wrong = []
    judged = [run for run in runs if run.endswith("-ensemble")] or runs
    base = {m[0]: score(work, baseline, *m[1:4]) for m in METRICS}
    if None in base.values():
        raise runlog.BadRun(f"{work}/report: no scores of {baseline}")
    for run in [baseline, *runs]:
        cells = f"{'':>12} {'':>8}"
        if run != baseline and not run.endswith("-ensemble"):  # an ensemble was not trained
            begin, end = runlog.read(os.path.join(work, "runs", run)).loss_change()
            cells = f"{begin:>12.4f} {end:>8.4f}"
            if not end < begin * (STAYS if "stage2" in run else 1):
                wrong.append(f"{run}: the loss does not fall: {begin:.4f} at the begin, {end:.4f} at the end")
        for name, *where, above in METRICS:
            value = base[name] if run == baseline else score(work, run, *where)
            cells += f"{value:>11.4f}" if value is not None else f"{'-':>11}"
            if run == baseline or run not in judged or value is None or value > base[name] or (value == base[name] and not above):
                continue
            wrong.append(f"{run}: {name} {value:.4f} is not above the untrained model's {base[name]:.4f}")
        lines.append(f"{run:<20} {cells}")
    return lines, wrong


def main(argv=None):
    parser = runlog.Parser(__doc__)
    parser.add_argument("work", metavar="WORK", help="folder of the pipeline")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="names under WORK/runs, in the order of the table")
    parser.add_argument("--baseline", default="untrained", help="the untrained model's name (default: untrained)")
    args = parser.parse_args(argv)
    lines, wrong = table(args.work, args.runs, args.baseline)
    print("\n".join(lines))
    for line in wrong:
        print(f"FAILED: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    runlog.run_main(main)
