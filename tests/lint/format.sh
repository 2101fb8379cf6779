#!/usr/bin/env bash
# Every C file is formatted by .clang-format.
set -euo pipefail
cd "$(dirname "$0")/../.."
git ls-files '*.c' '*.h' '*.inc' | xargs clang-format --dry-run -Werror
