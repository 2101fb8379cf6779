#!/bin/bash
# LABEL full
# TIMEOUT 3000
# As test_prepare_many.sh, with 100,000 clips (2 GB of disk).
export CLIPS="25000 100000"
exec bash "$EARSHOT_SOURCE/tests/e2e/test_prepare_many.sh"
