#!/usr/bin/python3
"""What the parts of the recipe are worth: mean and standard deviation over seeds of each variant's scores.

WORK is a folder that `jobs/pipeline.sh --graph configs/learn/graph.tsv` filled: report/VARIANT.seedN-{desed,maestro}.json. A variant
counts with the seeds that are there; the difference to the whole recipe is paired by seed, its standard error stands behind it. One
seed has no deviation and no error ("-").
Exit code 0; 65 when a file is missing or broken.
Example: analysis/ablation.py build/learn --csv ablation.csv
"""
import csv
import glob
import math
import os
import re
import statistics

import runlog
import scores

VARIANTS = (("it2-stage2", "the whole recipe"), ("it1-stage2", "without iteration 2"), ("it2-stage1", "without stage 2"),
            ("it1-stage1", "without both"), ("no-ssl-stage2", "without self-supervision"), ("no-maestro-stage2", "without MAESTRO"),
            ("no-desed-stage2", "without DESED"))


def read(work, variant):
    """{seed: {metric: score}} of one variant"""
    result = {}
    for path in glob.glob(os.path.join(glob.escape(work), "report", f"{variant}.seed[0-9]*-*.json")):
        seed = int(re.search(r"\.seed(\d+)-[^/]*$", path)[1])
        if seed not in result:
            run = f"{variant}.seed{seed}"
            result[seed] = {m[0]: scores.score(work, run, *m[1:4]) for m in scores.METRICS}
            if None in result[seed].values():
                raise runlog.BadRun(f"{work}/report/{run}: want both scores, -desed.json and -maestro.json; run jobs/pipeline.sh again")
    return result


def spread(values):
    return statistics.stdev(values) if len(values) > 1 else math.nan


def rows(work):
    """(variant, metric, seeds, mean, standard deviation, difference to the first variant, its standard error) each"""
    whole = None
    for variant, title in VARIANTS:
        runs = read(work, variant)
        if not runs:
            raise runlog.BadRun(f"{work}/report/{variant}.seed*.json: not there; run jobs/pipeline.sh --graph configs/learn/graph.tsv")
        whole = whole or runs
        for name, *_ in scores.METRICS:
            values = [runs[seed][name] for seed in sorted(runs)]
            gain = [runs[seed][name] - whole[seed][name] for seed in sorted(runs) if seed in whole]
            mean_gain = statistics.mean(gain) if gain else math.nan
            yield title, name, len(values), statistics.mean(values), spread(values), mean_gain, spread(gain) / math.sqrt(max(len(gain), 1))


def cell(mean, deviation, gain, error):
    signed = "-" if math.isnan(gain) else f"{gain:+.4f}"
    return f"{mean:.4f} {deviation:.4f} ({signed} {error:.4f})".replace("nan", "-")


def main(argv=None):
    parser = runlog.Parser(__doc__)
    parser.add_argument("work", metavar="WORK", help="folder of the pipeline")
    parser.add_argument("--csv", metavar="FILE", help="the numbers, a row for each variant and metric")
    args = parser.parse_args(argv)
    table = list(rows(args.work))
    metrics = [m[0] for m in scores.METRICS]
    print("mean, standard deviation over seeds (difference to the whole recipe, its standard error)")
    print(f"{'':<26}{'seeds':<7}" + "".join(f"{m:<34}" for m in metrics).rstrip())
    for k in range(0, len(table), len(metrics)):
        cells = "".join(f"{cell(*row[3:]):<34}" for row in table[k:k + len(metrics)])
        print(f"{table[k][0]:<26}{table[k][2]:<7}{cells}".rstrip())
    if args.csv:
        with open(args.csv, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("variant", "metric", "seeds", "mean", "deviation", "difference", "standard_error"))
            writer.writerows(table)
    return 0


if __name__ == "__main__":
    runlog.run_main(main)
