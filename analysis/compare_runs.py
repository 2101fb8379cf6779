#!/usr/bin/python3
"""Compares two runs bit for bit: losses of every leaf, parameter digests, learning rates, validation scores; not times.

Exit code 0: the same; 1: not the same, with the first difference of every column; 65: a file is no metrics log.
Example: analysis/compare_runs.py runs/on-1-rank runs/on-8-ranks
"""
import numpy as np

import runlog

IGNORED = ("time", "time_rank", "checkpoint")  # of the machine, not of the run


def bits(values):
    """The values as integers, so that NaN equals NaN and 0.0 is not -0.0."""
    values = np.ascontiguousarray(values)
    return values.view(f"u{values.dtype.itemsize}")


def show(value):
    return f"{value:016x}" if isinstance(value, np.unsignedinteger) else repr(value.item())


def compare_column(path, a, b, common):
    """None, or a line that says what differs first."""
    if common:
        both = np.intersect1d(a.step, b.step)
        a, b = (runlog.Column(c.step[np.isin(c.step, both)], c.values[np.isin(c.step, both)], c.names) for c in (a, b))
    if a.names != b.names:
        return f"/{path}: other names: {a.names} and {b.names}"
    if not np.array_equal(a.step, b.step):
        last = [c.step[-1] if len(c.step) else "none" for c in (a, b)]
        return f"/{path}: other steps: {len(a.step)} (last {last[0]}) and {len(b.step)} (last {last[1]})"
    if a.values.dtype != b.values.dtype or a.values.shape != b.values.shape:
        return f"/{path}: other types: {a.values.dtype}{a.values.shape} and {b.values.dtype}{b.values.shape}"
    different = np.argwhere(bits(a.values) != bits(b.values))
    if not len(different):
        return None
    at = tuple(different[0])
    where = f"step {a.step[at[0]]}"
    if len(at) == 3:
        where += f", leaf {at[1]}, {a.names[at[2]] if a.names else at[2]}"
    elif len(at) == 2:
        where += f", entry {at[1]}"
    return f"/{path}: {len(different)} of {a.values.size} differ, first at {where}: {show(a.values[at])} and {show(b.values[at])}"


def compare(a, b, common=False):
    """Lines on what differs between two logs; empty: nothing does."""
    lines = []
    for path in sorted(set(a.columns) | set(b.columns)):
        if path.split("/")[0] in IGNORED:
            continue
        if path not in a.columns or path not in b.columns:
            lines.append(f"/{path}: only in {(a if path in a.columns else b).path}")
            continue
        line = compare_column(path, a.columns[path], b.columns[path], common)
        if line:
            lines.append(line)
    return lines


def main(argv=None):
    parser = runlog.Parser(__doc__)
    parser.add_argument("a", metavar="RUN-A", help="folder of a run, or its metrics.h5")
    parser.add_argument("b", metavar="RUN-B")
    parser.add_argument("--common", action="store_true", help="compare only the steps that both have (at least one)")
    args = parser.parse_args(argv)
    a, b = runlog.read(args.a), runlog.read(args.b)
    n = len(np.intersect1d(a.columns["leaf"].step, b.columns["leaf"].step))
    lines = compare(a, b, args.common)
    if n == 0:
        lines.insert(0, "no step in common")
    print("\n".join(lines) if lines else f"the same, bit for bit: {n} steps")
    return 1 if lines else 0


if __name__ == "__main__":
    runlog.run_main(main)
