#!/bin/bash
# TIMEOUT 900
# The golden runner's bf16 criteria on the data of the repository and, where it is there, on the whole shared data; the emulation must
# round, and be told from fp32.
set -u
shared=${EARSHOT_SHARED:-$EARSHOT_SOURCE/../shared}/golden/models
failed=0
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
for dir in "$EARSHOT_SOURCE/tests/data/golden_models" "$shared"; do
    [ -d "$dir" ] || continue
    echo "$dir:"
    ES_BF16=emulate "$EARSHOT_BUILD/earshot-golden" "$dir" --precision bf16 >"$out" || failed=1
    /usr/bin/python3 - "$out" <<'PYTHON' || failed=1
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
compared = [r for r in rows if "pass" in r]
outputs = [r for r in compared if r["quantity"].startswith(("out/", "embeddings"))]
medians = [r for r in compared if r["tolerance"].startswith("median_rel_l2")]
assert len(outputs) >= 6 and len(medians) >= 3, (len(outputs), len(medians))
assert {r["file"] for r in compared} >= {"small_transformers.h5", "sed_full_small.h5"}
assert all(r["rel_l2"] > 1e-5 for r in outputs), "nothing was rounded"
print(max(r["rel_l2"] for r in outputs), "the worst output,", max(r["rel_l2"] for r in medians), "the worst median")
PYTHON
done
"$EARSHOT_BUILD/earshot-golden" "$EARSHOT_SOURCE/tests/data/golden_models" --precision fp16 2>/dev/null
[ $? = 64 ] || { echo "--precision fp16 is taken"; failed=1; }
exit $failed
