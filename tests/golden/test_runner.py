"""The golden runner itself. TIMEOUT 900

On tests/data: its lines are what interfaces.md section 5 promises, and every compared quantity can fail: copies of the data with
one value of a part of the quantities shifted by ten tolerances make exactly these fail. Not shifted: rows small<=X*group_max (the
stored values take no part) and names and shapes of parameters (without them no network can be filled).
"""
import fnmatch
import gzip
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np

RUNNER = pathlib.Path(os.environ["EARSHOT_BUILD"]) / "earshot-golden"
DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
ROUNDS = 3
KEYS = {"file", "case", "quantity", "n", "max_abs", "rel_l2", "tolerance", "pass"}


def run(folder, *options):
    done = subprocess.run([RUNNER, folder, "--json", "-", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return done.returncode, lines


def name_of(line):
    return line["file"], line["case"], line["quantity"]


def check_contract(folder):
    """Lines, summary and exit codes; returns the compared quantities."""
    code, lines = run(folder)
    compared = [line for line in lines if "pass" in line]
    skipped = [line for line in lines if "skipped" in line]
    assert all(set(line) == KEYS for line in compared)
    assert lines[-1] == {"summary": {"compared": len(compared), "failed": 0, "skipped": len(skipped)}}, lines[-1]
    assert len(lines) == len(compared) + len(skipped) + 1
    assert len({name_of(line) for line in compared}) == len(compared), "a quantity is there twice"
    assert code == (1 if skipped else 0), code
    assert run(folder, "--allow-skip")[0] == 0
    one = compared[0]["file"].split("/")[0]
    assert all(line["file"].split("/")[0] == one for line in run(folder, "--file", one)[1][:-1])
    assert run(folder, "--file", "not-there", "--allow-skip")[0] != 0, "nothing was compared"
    assert run(folder / "not-there")[0] != 0
    return compared


class Models:
    """Shifts in HDF5 files, and in the numbers of params_*.tsv."""

    def __init__(self, folder, lines):
        self.folder, self.files, self.by_dataset = folder, {}, {}
        rows = (line.rstrip("\n").split("\t") for line in open(folder / "cases.tsv"))
        self.keys = {tuple(row[:3]): row[3] for row in rows}
        for line in lines:
            if line["file"].endswith(".h5"):
                self.by_dataset.setdefault(self.dataset(line), []).append(line)

    def open(self, file):
        if file not in self.files:
            self.files[file] = h5py.File(self.folder / file, "r+")
        return self.files[file]

    def dataset(self, line):
        path = "" if line["case"] == "." else line["case"] + "/"
        path += line["quantity"]
        if path not in self.open(line["file"]):
            path = re.split(r"#|\[\d+:\d+\]$", path)[0]
        return line["file"], path

    def part(self, line, shape):
        """Mask of the elements of a quantity that names a part of its dataset; None: it names the whole."""
        path, quantity = self.dataset(line)[1], line["quantity"]
        part = quantity[len(path) - (0 if line["case"] == "." else len(line["case"]) + 1):]
        mask = np.zeros(shape, bool)
        if not part:
            return None
        if part.startswith("["):
            a, b = map(int, part[1:-1].split(":"))
            mask.ravel()[a:b] = True
            return mask
        names = [row.split("\t")[1] for row in open(self.folder / self.keys[line["file"], line["case"], "names"]) if row[0] != "#"]
        for pattern in part[1:].split("|"):
            columns = re.search(r"\[(\d+):(\d+)\]$", pattern)
            a, b = map(int, columns.groups()) if columns else (0, shape[2])
            for i, name in enumerate(names):
                if fnmatch.fnmatchcase(name, pattern[: columns.start()] if columns else pattern):
                    mask[:, i, a:b] = True
        return mask

    def group_max(self, file, case):
        grads = self.open(file)[case + "/grad"] if case != "." else self.open(file)["grad"]
        found = [0.0]
        grads.visititems(lambda n, d: found.append(float(np.abs(d[...]).max()))
                         if isinstance(d, h5py.Dataset) and d.size and not n.endswith(".summary") else None)
        return max(found)

    def tolerance(self, line, r, step):
        """The largest that one element may differ by, of the criteria of a line."""
        total, largest = 0.0, 0.0
        for rule in line["tolerance"].split(";"):
            kind, _, numbers = rule.partition("<=")
            x = [float(v.split("*")[0]) for v in numbers.split("+")] if numbers else [1.0]
            y = x[1] if len(x) > 1 else 0.0
            top = float(np.abs(r).max()) if r.size else 0.0
            norm = float(np.sqrt((r.astype(float) ** 2).sum()))
            biggest = self.group_max(line["file"], line["case"]) if "group_max" in rule else 0.0
            if kind == "exact":
                largest = 0.1
            elif kind in ("abs", "p99.9"):
                largest = x[0]
            elif kind == "rel":
                largest = x[0] * top + y
            elif kind == "rel_l2":
                largest = x[0] * norm if norm else 0.1
            elif kind == "grad":
                largest = x[0] * top + y * biggest
            elif kind == "summary":
                largest = x[0] * float(r[2]) + y * biggest * math.sqrt(1e6)
            elif kind == "loss":
                outs = [v for k, v in self.keys.items() if k[:2] == (line["file"], line["case"]) and k[2].startswith("out.")]
                outs = [self.open(line["file"])[v] for v in outs if v in self.open(line["file"])]
                largest = 4 * x[0] * sum(float(np.sqrt((d[...].astype(float) ** 2).sum())) for d in outs)
            elif kind == "drift":
                used = self.open(line["file"])[line["case"] + "/lr_used"][...]
                largest = x[0] * float(used.max(axis=1)[: step + 1].sum()) + y
            total = max(total, largest)
        return total

    def shift(self, line):
        if line["file"].startswith("params_"):
            return self.shift_column(line)
        if not line["file"].endswith(".h5") or line["tolerance"].startswith("small") or line["n"] == 0:
            return False
        key = self.dataset(line)
        d = self.open(line["file"])[key[1]]
        values = np.atleast_1d(d[...])
        mask = self.part(line, values.shape)
        if mask is None:
            mask = np.ones(values.shape, bool)
            for other in self.by_dataset[key]:
                taken = self.part(other, values.shape)
                mask &= ~taken if taken is not None else True
        flat, where = values.reshape(-1), np.flatnonzero(mask.reshape(-1))
        r = flat[where].astype(float)
        at = where[int(np.abs(r).argmax())] if "rel<=" in line["tolerance"] else where[len(where) // 2]
        if line["tolerance"].startswith("summary"):
            at = 2
        step = at // (flat.size // values.shape[0]) if values.shape[0] else 0
        delta = 10 * self.tolerance(line, r, step) or 1.0
        flat[at] += 1 if values.dtype.kind in "iu" else delta
        d[...] = values.reshape(d.shape)
        return True

    def shift_column(self, line):
        columns = ["offset", "scale"] + ["v%d" % i for i in range(8)]
        if line["quantity"] not in columns:
            return False
        rows = open(self.folder / line["file"]).read().split("\n")
        i = next(k for k, row in enumerate(rows) if row and row[0] != "#" and "\tweight\t" in row)
        fields = rows[i].split("\t")
        c = 3 + columns.index(line["quantity"])
        fields[c] = repr(float(fields[c]) * 1.001 + 0.001)
        rows[i] = "\t".join(fields)
        (self.folder / line["file"]).write_text("\n".join(rows))
        return True

    def close(self):
        for f in self.files.values():
            f.close()


def plain(v):
    return not isinstance(v, (dict, list))


class Evaluation:
    """Shifts in JSON files. Quantities are named as the runner names them: a list or object of plain values."""

    def __init__(self, folder, lines):
        self.folder, self.docs, self.leaves = folder, {}, {}
        for file in {line["file"] for line in lines if ".json" in line["file"]}:
            opener = gzip.open if file.endswith(".gz") else open
            with opener(folder / file, "rt") as f:
                self.docs[file] = json.load(f)
            self.walk(file, self.docs[file], [("", self.docs[file])])

    def walk(self, file, node, above):
        for key, v in node.items() if isinstance(node, dict) else enumerate(node):
            path = above[-1][0]
            named = isinstance(v, dict) and isinstance(node, list) and isinstance(v.get("name"), str)
            if isinstance(node, list) and not named:
                path += "[%d]" % key
            else:
                path += ("/" if path else "") + (v["name"] if named else key)
            here = above + [(path, v)]
            if not plain(v):
                self.walk(file, v, here)
                continue
            i = len(here) - 1
            if len(above) > 1 and all(plain(x) for x in (node.values() if isinstance(node, dict) else node)):
                i -= 1
                while isinstance(here[i][1], list) and i > 0 and isinstance(here[i - 1][1], list):
                    i -= 1
            name = here[i][0]
            cut = name.find("/", 6) if name.startswith("cases/") else name.find("/")
            group, rest = (name[:cut], name[cut + 1:]) if cut >= 0 else (".", name)
            self.leaves.setdefault((file, group, rest), []).append((node, key))

    def shift(self, line):
        file, group, quantity = name_of(line)
        leaves = self.leaves.get((file, group, quantity.split("#")[0]), [])
        exact = line["tolerance"] == "exact"
        refusals = [(n, k) for n, k in leaves if k == "expect_error"]
        if refusals:
            node, key = refusals[0]
            node[key] = not node[key]
            return True
        texts = [(n, k) for n, k in leaves if isinstance(n[k], str) and n[k] not in ("inf", "-inf", "nan")]
        numbers = [(n, k) for n, k in leaves if isinstance(n[k], (int, float)) and not isinstance(n[k], bool)]
        if exact and texts:
            node, key = texts[len(texts) // 2]
            node[key] += "?"
            return True
        if texts and line["tolerance"] == "abs<=1e-9":  # confidences stand behind the label
            behind = [(n, k) for n, k in numbers if isinstance(n, list) and k > 0 and isinstance(n[k - 1], str)]
            numbers = behind or numbers
        if not numbers:
            return False
        node, key = numbers[len(numbers) // 2]
        node[key] += 1 if exact else 10 * float(line["tolerance"].split("<=")[1])
        return True

    def close(self):
        for file, doc in self.docs.items():
            opener = gzip.open if file.endswith(".gz") else open
            with opener(self.folder / file, "wt") as f:
                json.dump(doc, f)


def check_shifts(source, kind, compared):
    total = 0
    for r in range(ROUNDS):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch) / "data"
            shutil.copytree(source, folder)
            shifter = kind(folder, compared)
            shifted = {name_of(line) for line in compared[r::ROUNDS] if shifter.shift(line)}
            shifter.close()
            code, lines = run(folder, "--allow-skip")
            failed = {name_of(line) for line in lines if line.get("pass") is False}
            for missing in sorted(shifted - failed)[:10]:
                print("shifted, not found:", *missing)
            for wrong in sorted(failed - shifted)[:10]:
                print("not shifted, failed:", *wrong)
            assert failed == shifted and code == 1, (len(shifted), len(failed), code)
            total += len(shifted)
    return total


def main():
    for name, kind in (("golden_models", Models), ("evaluation", Evaluation)):
        if len(sys.argv) > 1 and sys.argv[1] != name:
            continue
        compared = check_contract(DATA / name)
        total = check_shifts(DATA / name, kind, compared)
        print(f"{name}: {len(compared)} quantities; {total} shifted, each found, and nothing else")
        assert total > 0.9 * len(compared) - 200


if __name__ == "__main__":
    sys.exit(main())
