#!/usr/bin/python3
"""What the parts of the recipe are worth: mean and standard deviation over seeds of each variant's scores.

WORK is a folder that `jobs/pipeline.sh --graph configs/ablation/graph.tsv` filled: report/VARIANT-ARCH.seedN-{desed,maestro}.json.
The difference to the whole recipe is paired by seed; its standard error stands behind it.
Exit code 0; 65 when a file is missing or broken.
Example: analysis/ablation.py build/ablation --arch atst --csv ablation.csv
"""
import csv
import math
import statistics

import runlog
import scores

VARIANTS = (("it2-stage2", "the whole recipe"), ("it1-stage2", "without iteration 2"), ("it2-stage1", "without stage 2"),
            ("it1-stage1", "without both"), ("no-ssl-stage2", "without self-supervision"), ("no-maestro-stage2", "without MAESTRO"),
            ("no-desed-stage2", "without DESED"))


def read(work, run):
    """{metric: score} of one run"""
    result = {}
    for name, suffix, metric, class_mean, _ in scores.METRICS:
        result[name] = scores.score(work, run, suffix, metric, class_mean)
        if result[name] is None:
            raise runlog.BadRun(f"{work}/report/{run}-{suffix}.json: not there; run jobs/pipeline.sh --graph configs/ablation/graph.tsv")
    return result


def spread(values):
    return statistics.stdev(values) if len(values) > 1 else math.nan


def rows(work, arch, seeds):
    """(variant, metric, mean, standard deviation, difference to the first variant, its standard error) each"""
    whole = None
    for variant, title in VARIANTS:
        runs = [read(work, f"{variant}-{arch}.seed{seed}") for seed in seeds]
        whole = whole or runs
        for name in runs[0]:
            values = [run[name] for run in runs]
            gain = [run[name] - base[name] for run, base in zip(runs, whole)]
            yield title, name, statistics.mean(values), spread(values), statistics.mean(gain), spread(gain) / math.sqrt(len(gain))


def main(argv=None):
    parser = runlog.Parser(__doc__)
    parser.add_argument("work", metavar="WORK", help="folder of the pipeline")
    parser.add_argument("--arch", default="atst", help="transformer (default: atst)")
    parser.add_argument("--seeds", default="1,2,3", help="of the graph (default: 1,2,3)")
    parser.add_argument("--csv", metavar="FILE", help="the numbers, a row for each variant and metric")
    args = parser.parse_args(argv)
    table = list(rows(args.work, args.arch, args.seeds.split(",")))
    metrics = [m[0] for m in scores.METRICS]
    print(f"{args.arch}, {len(args.seeds.split(','))} seeds: mean, standard deviation (difference to the whole, standard error)")
    print(f"{'':<26}" + "".join(f"{m:<34}" for m in metrics).rstrip())
    for k in range(0, len(table), len(metrics)):
        cells = "".join(f"{f'{mean:.4f} {sd:.4f} ({gain:+.4f} {se:.4f})':<34}" for _, _, mean, sd, gain, se in table[k:k + len(metrics)])
        print(f"{table[k][0]:<26}{cells}".rstrip())
    if args.csv:
        with open(args.csv, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("variant", "metric", "mean", "deviation", "difference", "standard_error"))
            writer.writerows(table)
    return 0


if __name__ == "__main__":
    runlog.run_main(main)
