#!/bin/bash
# TIMEOUT 900
# The golden runner on the whole shared data, ../shared/golden or $EARSHOT_SHARED/golden; skipped where it is not there. Every
# value is compared: a skip of the runner fails.
set -u
golden=${EARSHOT_SHARED:-$EARSHOT_SOURCE/../shared}/golden
failed=0 ran=0
for part in models evaluation; do
    [ -d "$golden/$part" ] || continue
    ran=1
    echo "$golden/$part:"
    "$EARSHOT_BUILD/earshot-golden" "$golden/$part" >/dev/null || failed=1
done
if [ $ran = 0 ]; then
    echo "skipped: $golden is not there; set EARSHOT_SHARED"
    exit 77
fi
exit $failed
