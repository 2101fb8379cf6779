#!/usr/bin/python3
"""Checks ARCHITECTURE.md section 2: which folder may include whose headers and call which library; banned functions.

Run from anywhere; exits 1 and prints file:line for every breach. `--self-test` shows that breaches are found.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Layer -> layers it may include headers of (transitively closed below).
DOWN = {
    "base": [],
    "config": ["base"],
    "comm": ["base"],
    "kernels": ["base"],
    "linalg": ["comm"],
    "tensor": ["kernels"],
    "io": ["comm", "config"],
    "dsp": ["kernels"],
    "fftmpi": ["comm"],  # src/dsp/fftmpi*.c
    "nn": ["tensor", "config"],
    "frontend": ["dsp", "kernels"],
    "data": ["io", "dsp", "fftmpi", "config"],
    "infer": ["nn", "frontend", "data", "linalg", "comm", "io"],
    "train": ["infer", "nn", "frontend", "data", "comm", "io"],
    "run": ["train", "infer"],
    "jobs": ["run"],
}
# Call pattern -> folders that may hold it.
CALLS = {
    r"\bMPI_(?!Comm\b|INFO_NULL\b)\w+": {"comm"},
    r"\bMPI_INFO_NULL\b": {"comm", "io"},
    r"\bMPI_Comm\b": {"comm", "io", "linalg", "fftmpi"},
    r"\b(?:C?blacs_\w+|Csys2blacs_handle|p?d(?:gemm|symm|syrk|potr[fs]|lange|tran)_|numroc_|descinit_)\s*\(": {"linalg"},
    r"\bH5[A-Z]\w*\s*\(": {"io"},
    r"\b(?:cblas|dnnl|openblas)_\w+\s*\(": {"kernels"},
    r"\bfftwf?_(?!mpi_)\w+\s*\(": {"dsp", "fftmpi"},
    r"\bfftwf?_mpi_\w+\s*\(": {"fftmpi"},
    r"\bsf_\w+\s*\(": {"io"},
    r"\bsoxr_\w+\s*\(": {"dsp"},
    r"\byaml_\w+\s*\(": {"config"},
    r"\b(?:inflate\w*|crc32)\s*\(": {"io"},
}
BANNED = re.compile(r"(?<![\w>.])(exit|abort|assert|rand|srand|atoi|atof|sprintf|strcpy|strcat|strtok|gets|malloc|calloc|"
                    r"realloc|free|alloca)\s*\(")
BANNED_OK = {"src/base/mem.c": {"free"}}


def closure(layer):
    seen = {layer}
    todo = [layer]
    while todo:
        for below in DOWN[todo.pop()]:
            if below not in seen:
                seen.add(below)
                todo.append(below)
    return seen


def header_layers():
    """Public header stem -> layer: the folder that holds a .c that includes it first, named in the table below otherwise."""
    owner = {}
    for layer in DOWN:  # jobs own no public header
        for source in sorted((ROOT / f"src/{layer}").glob("*.c")):
            m = re.search(r'#include "earshot/(\w+)\.h"', source.read_text())
            if m and m.group(1) == source.stem:
                owner[m.group(1)] = layer
    owner.update({"ops": "tensor", "tensor": "tensor", "nn": "nn", "kernels": "kernels", "kernels_crnn": "kernels",
                  "version": "base", "comm": "comm", "train": "train", "dataset": "data", "fftmpi": "fftmpi"})
    return owner


def strip(text):
    """Blanks comments and strings, keeps line numbers."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def check_text(path, layer, text, owner):
    problems = []
    for n, line in enumerate(text.split("\n"), 1):
        m = re.match(r'\s*#include "earshot/(\w+)\.h"', line)
        if m and m.group(1) in owner and owner[m.group(1)] not in closure(layer):
            problems.append(f"{path}:{n}: {layer} may not include {m.group(1)}.h of {owner[m.group(1)]}")
    for n, line in enumerate(strip(text).split("\n"), 1):
        for pattern, allowed in CALLS.items():
            if layer not in allowed and re.search(pattern, line):
                problems.append(f"{path}:{n}: only {', '.join(sorted(allowed))} may use {re.search(pattern, line).group(0)}")
        for m in BANNED.finditer(line):
            if m.group(1) not in BANNED_OK.get(str(path), set()):
                problems.append(f"{path}:{n}: banned function {m.group(1)}")
    return problems


def main():
    owner = header_layers()
    if "--self-test" in sys.argv:
        bad = '#include "earshot/comm.h"\nint f(void) { MPI_Barrier(x); return atoi("1"); }\n'
        found = check_text(pathlib.Path("src/kernels/x.c"), "kernels", bad, owner)
        print("\n".join(found))
        return 0 if len(found) == 3 else 1
    problems, files = [], 0
    for layer in DOWN:
        folder = ROOT / ("jobs" if layer == "jobs" else f"src/{layer}")
        for source in sorted(folder.glob("*.[ch]")) + sorted(folder.glob("*.inc")):
            files += 1
            own = "fftmpi" if source.stem.startswith("fftmpi") else layer
            problems += check_text(source.relative_to(ROOT), own, source.read_text(), owner)
    for p in problems:
        print(p)
    print(f"layers: {files} files, {len(problems)} breaches")
    return 1 if problems or files == 0 else 0


sys.exit(main())
