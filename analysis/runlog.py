"""Reads the metrics log of a run (layout: include/earshot/metrics.h). Imported by the other scripts here.

A column is a data set [rows, ...]; its attribute `index` names the data set with the rows' steps, its attribute `terms` or
`phases`, where it has one, the entries of a row. Columns are found by these attributes, not by a list of names.
"""
import argparse
import os
import sys
from dataclasses import dataclass, field

import h5py
import numpy as np

SUPERVISED = ("maestro", "real", "synthetic", "weak")  # the loss terms that labels give; none of them is warmed up


class BadRun(Exception):
    """A file that is not there or no metrics log; the message is for the user."""


@dataclass
class Column:
    step: np.ndarray
    values: np.ndarray
    names: list = field(default_factory=list)


@dataclass
class RunLog:
    path: str
    name: str
    columns: dict  # dataset path without the leading slash -> Column

    def terms(self):
        """{term: its mean over the leaves of each step} of /leaf; NaN where no leaf has it."""
        leaf = self.columns["leaf"]
        present = ~np.isnan(leaf.values)
        count = present.sum(axis=1)
        total = np.where(present, leaf.values, 0).sum(axis=1)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return {name: mean[:, i] for i, name in enumerate(leaf.names)}

    def supervised_loss(self):
        terms = self.terms()
        return sum(np.nan_to_num(terms[t]) for t in SUPERVISED if t in terms)

    def loss_change(self, share=0.2):
        """Mean supervised loss over the first and over the last `share` of the steps."""
        loss = self.supervised_loss()
        n = max(1, round(share * len(loss)))
        return float(loss[:n].mean()), float(loss[-n:].mean())


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def read_column(file, dataset):
    names = []
    for key in ("terms", "phases"):
        if key in dataset.attrs:
            names = [text(t) for t in dataset.attrs[key]]
    column = Column(file[text(dataset.attrs["index"])][()], dataset[()], names)
    if len(column.step) != len(column.values):
        raise BadRun(f"{file.filename}:{dataset.name}: {len(column.values)} rows, but {len(column.step)} steps")
    return column


def read(path):
    """path: a metrics file or the folder of a run."""
    if os.path.isdir(path):
        path = os.path.join(path, "metrics.h5")
    columns = {}
    try:
        with h5py.File(path, "r") as file:
            kind = text(file.attrs.get("earshot_kind", ""))
            if kind != "metrics":
                raise BadRun(f"{path}: kind {kind!r}, want 'metrics'")

            def visit(name, item):
                if isinstance(item, h5py.Dataset) and "index" in item.attrs:
                    columns[name] = read_column(file, item)

            file.visititems(visit)
    except (OSError, KeyError) as e:
        raise BadRun(f"{path}: {e}") from e
    if "leaf" not in columns:
        raise BadRun(f"{path}: no /leaf: not the log of a training run")
    name = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return RunLog(path, name, columns)


class Parser(argparse.ArgumentParser):
    """The script's docstring is its help; bad usage is one line and exit code 64."""

    def __init__(self, doc):
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        self.exit(64, f"{self.prog}: {message}; see --help\n")


def run_main(main):
    """Exit code of main(); a BadRun is one line on stderr and 65."""
    try:
        sys.exit(main())
    except BadRun as e:
        print(f"{os.path.basename(sys.argv[0])}: {e}", file=sys.stderr)
        sys.exit(65)
