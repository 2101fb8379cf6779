#!/usr/bin/env bash
# cppcheck over the sources, shellcheck over the scripts, Python byte-compiles. Exceptions name their reason here.
set -euo pipefail
cd "$(dirname "$0")/../.."
git ls-files '*.sh' slurm/job.sbatch | xargs shellcheck -x
# Exceptions: scratch carved out of char blocks is aligned by its makers (invalidPointerCast); cppcheck follows a NULL bias into
# another function of the twice-compiled references (ctunullpointer); a softmax sum has at least one term (invalidFunctionArg).
cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --std=c11 -j2 -Iinclude \
    --suppress=missingIncludeSystem --suppress=invalidPointerCast --suppress=ctunullpointer:src/kernels/adamw_ref.inc \
    --suppress=invalidFunctionArg:src/kernels/attention_ref.inc src jobs
git ls-files '*.py' | xargs /usr/bin/python3 -m py_compile
