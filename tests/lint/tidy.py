#!/usr/bin/env python3
"""clang-tidy (.clang-tidy) over src and jobs, in parallel; what has not changed since it passed is not looked at again.

    tests/lint/tidy.py [BUILD]     BUILD is a build by clang (its generated headers are needed); default build/clang
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/clang").resolve()
PASSED = BUILD / "tidy"


def key(entry):
    """Of everything the verdict depends on: checks, flags, the source as the compiler sees it."""
    words = [w for w in shlex.split(entry["command"]) if "ccache" not in w]
    for flag in "-o", "-MF", "-MT":
        if flag in words:
            del words[words.index(flag):words.index(flag) + 2]
    text = subprocess.run([*words, "-E"], cwd=entry["directory"], capture_output=True)
    if text.returncode != 0:
        sys.exit(f"tidy.py: {entry['file']}: {text.stderr.decode()}")
    return hashlib.sha256((ROOT / ".clang-tidy").read_bytes() + " ".join(words).encode() + text.stdout).hexdigest()


def check(entry):
    stamp = PASSED / key(entry)
    if stamp.exists():
        return None
    p = subprocess.run(["clang-tidy", "--quiet", "-p", str(BUILD), entry["file"]], capture_output=True, text=True)
    if p.returncode == 0:
        stamp.touch()
        return ""
    print(p.stdout, end="", flush=True)
    return p.stdout


def main():
    PASSED.mkdir(exist_ok=True)
    entries = [e for e in json.loads((BUILD / "compile_commands.json").read_text())
               if str(pathlib.Path(e["file"]).resolve().relative_to(ROOT)).startswith(("src/", "jobs/"))]
    assert entries, "nothing to check"
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        said = list(pool.map(check, entries))
    bad = sum(bool(s) for s in said)
    print(f"tidy: {len(entries)} files, {said.count(None)} unchanged, {bad} with findings")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
