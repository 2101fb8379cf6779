#!/bin/bash
# TIMEOUT 300
# Many small clips through prepare on 2 ranks: whole, in bounded memory, with a rate that does not fall with their number (reported:
# the machine may be shared), resumable. CLIPS: counts, the last one is the largest.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "${EARSHOT_SOURCE:?}/tests/e2e/toy.sh" || exit 1
read -ra counts <<<"${CLIPS:-2000 8000}"
limit=3000
"$python" - "${counts[-1]}" <<'PY'
import array, random, struct, sys
import os
os.makedirs("audio")
n, samples = int(sys.argv[1]), 3200  # 0.2 s
random.seed(1)
noise = array.array("h", (random.randint(-9000, 9000) for _ in range(samples + 5000))).tobytes()
head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 2 * samples, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", 2 * samples)
for i in range(n):
    at = 2 * (i * 7919 % 5000)
    with open("audio/c%06d.wav" % i, "wb") as f:
        f.write(head + noise[at:at + 2 * samples])
PY
times=()
for n in "${counts[@]}"; do
    { printf 'filename\tonset\toffset\tevent_label\n'
      seq -f 'c%06g.wav' 0 $((n - 1)) | awk '{print $1 "\t0.01\t0.1\tDog"; print $1 "\t0.05\t0.2\tSpeech"}'; } >strong.tsv
    echo "prepare: {corpus: desed, root: ., subsets: [strong], strong_audio: audio, strong_tsv: strong.tsv}" >many.yaml
    ok 2 prepare --config many.yaml --out "many-$n.h5" --strict --json many.json
    "$python" - "$n" <<'PY' || fail "$n clips"
import json, os, sys
r, n = json.load(open("many.json")), int(sys.argv[1])
assert r["sets"][0]["in_store"] == n and r["sets"][0]["events"] == 2 * n and r["files"] == n, r
size = os.path.getsize("many-%d.h5" % n)
print("%d clips: %.1f s, %.0f clips/s, peak %.0f MB a rank, store %.0f MB" % (n, r["seconds"], n / r["seconds"], r["peak_rss_bytes"] / 1e6, size / 1e6))
assert r["peak_rss_bytes"] < 1e9
assert size < n * (3200 * 2 + 400) + 1e6  # at their own length, not 10 s each
PY
    [ ! -s out ] || times+=("$n:$seconds")
done
echo "whole runs, clips:seconds: ${times[*]}"
n=${counts[-1]}
launch 2 prepare --config many.yaml --out again.h5 --strict
until [ -e again.h5.part ] || ! kill -0 "$launched" 2>/dev/null; do sleep 0.05; done
sleep 0.3
for p in $(ranks); do kill -TERM "$p" 2>/dev/null && break; done
finish
echo "stopped with code $code"
[ $code = 75 ] || [ $code = 0 ] || fail "stopped: code $code"
[ $code = 75 ] && ok 2 prepare --config many.yaml --out again.h5 --strict
grep -q 'again.h5.part: continued' all_err && grep -o 'again.h5.part: continued.*' all_err
[ "$(digest again.h5)" = "$(digest "many-$n.h5")" ] || fail "another store after a stop"
done_testing
