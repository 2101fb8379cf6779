#!/usr/bin/env bash
# cppcheck over the sources, shellcheck over the scripts, Python byte-compiles. Exceptions name their reason here.
set -euo pipefail
cd "$(dirname "$0")/../.."
git ls-files '*.sh' | xargs shellcheck -x
# unusedStructMember and friends are style, not errors; variableScope disagrees with one exit path
cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --std=c11 -Iinclude \
    --suppress=missingIncludeSystem src jobs
git ls-files '*.py' | xargs /usr/bin/python3 -m py_compile
