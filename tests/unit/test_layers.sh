#!/usr/bin/env bash
# The layer rule holds, and its checker finds breaches. TIMEOUT 60
set -euo pipefail
/usr/bin/python3 "$EARSHOT_SOURCE/tests/lint/layers.py"
/usr/bin/python3 "$EARSHOT_SOURCE/tests/lint/layers.py" --self-test >/dev/null
