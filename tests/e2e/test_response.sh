#!/bin/bash
# TIMEOUT 900
# prepare.response: the corpus as a device would have recorded it. A recording of half an hour and short ones, one rank and several,
# serial and distributed transforms: the same samples; against scipy; labels stay; memory of a rank.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_demo
[ $failures = 0 ] || done_testing
mv demo/desed/audio/validation/validation_16k demo/desed/audio/validation/any_rate
mkdir devices
"$python" - <<'PY' || fail "making audio"
import glob
import numpy as np
import scipy.io.wavfile
rng = np.random.RandomState(3)
found = sorted(glob.glob("demo/desed/audio/validation/*/YdemoV*.wav"))
assert len(found) == 3, found
noise = rng.normal(0, 3000, 16000 * 601)
x = np.concatenate([np.roll(noise, 7777 * i) * (0.5 + 0.25 * i) for i in range(3)])[:16000 * 1800]
scipy.io.wavfile.write(found[0], 16000, np.round(x).astype(np.int16))  # half an hour
t = np.arange(44100 * 12) / 44100
clicks = np.zeros(len(t))
clicks[44100::44100] = 20000  # one a second: where they come out tells whether labels fit
scipy.io.wavfile.write(found[1], 44100, np.round(clicks).astype(np.int16))
n = 9000  # half a second, the direct sound at 200
h = rng.normal(0, 1, n) * np.exp(-np.arange(n) / 1500) * 0.05
h[:200] *= 0.1
h[200] = 0.9
scipy.io.wavfile.write("devices/a.wav", 16000, h.astype(np.float32))
PY
common=(--config data-desed.yaml --set "prepare.subsets=[validation]" --set prepare.validation_audio=audio/validation/any_rate)
with=("${common[@]}" --set prepare.response=devices/a.wav)
ok 1 prepare "${common[@]}" --out dry.h5
ok 1 prepare "${with[@]}" --out serial.h5
ok 2 prepare "${with[@]}" --out serial2.h5
[ "$(digest serial.h5)" = "$(digest serial2.h5)" ] && [ "$(digest serial.h5)" != "$(digest dry.h5)" ] || fail "digests"
for np in 1 2 4; do
    ok $np prepare "${with[@]}" --out long$np.h5 --json long$np.json --set dsp.max_local_samples=1000000
    [ "$(grep -c 'prepare long=' all_err)" = 1 ] || fail "one long recording on $np ranks"
done
"$python" - <<'PY' || fail "samples"
import json
import h5py
import numpy as np
import scipy.io.wavfile
import scipy.signal
def clips(path):
    f = h5py.File(path)
    at, n, pcm = f["audio/offset"][...], f["clip/length"][...], f["audio/pcm"][...].astype(np.int32)
    return [pcm[at[i]:at[i] + n[i]] for i in range(len(n))]
dry, serial = clips("dry.h5"), clips("serial.h5")
h = scipy.io.wavfile.read("devices/a.wav")[1].astype(np.float64)
order = np.argsort([-len(x) for x in dry])
half_hour, clicks = dry[order[0]], dry[order[1]]
assert len(half_hour) == 1800 * 16000, len(half_hour)
for i in range(3):
    assert len(dry[i]) == len(serial[i])
for i in (order[0], order[2]):  # both at 16 kHz
    want = np.round(np.clip(scipy.signal.oaconvolve(dry[i], h)[200:200 + len(dry[i])], -32768, 32767))
    assert np.abs(want - serial[i]).max() <= 1, np.abs(want - serial[i]).max()
    assert np.abs(want - dry[i]).max() > 500
for ranks in (1, 2, 4):
    for a, b in zip(serial, clips(f"long{ranks}.h5")):
        assert np.abs(a - b).max() <= 1, (ranks, np.abs(a - b).max())
wet = serial[order[1]]  # 44.1 kHz: the gain is that of 16 kHz, the clicks stay where they were
for s in range(1, 12):
    for x in (clicks, wet):
        assert abs(int(np.argmax(np.abs(x[s * 16000 - 4000:s * 16000 + 4000]))) - 4000) <= 1, s
    assert abs(wet[s * 16000] / clicks[s * 16000] - 0.9) < 0.1, (s, wet[s * 16000], clicks[s * 16000])
peak = {n: json.load(open(f"long{n}.json"))["peak_rss_bytes"] / 2**20 for n in (1, 2, 4)}
print(peak)
assert peak[2] < 0.65 * peak[1] and peak[4] < 0.65 * peak[2] + 60, peak  # a share each
PY
# a folder: each recording its own response, on any number of ranks; a store of another response is not gone on with
"$python" - <<'PY'
import numpy as np, scipy.io.wavfile
import glob
scipy.io.wavfile.write(sorted(glob.glob("demo/desed/audio/validation/*/YdemoV*.wav"))[0], 16000, np.arange(20000, dtype=np.int16))
for name in "bcd":
    scipy.io.wavfile.write(f"devices/{name}.wav", 44100, (np.eye(1, 3000, ord(name) * 7) * 0.5).astype(np.float32)[0])
PY
for np in 1 3; do ok $np prepare "${common[@]}" --set prepare.response=devices --out folder$np.h5; done
[ "$(digest folder1.h5)" = "$(digest folder3.h5)" ] && [ "$(digest folder1.h5)" != "$(digest serial.h5)" ] || fail "folder"
go 2 prepare "${common[@]}" --set prepare.response=none.wav --out none.h5
[ $code != 0 ] && errors | grep -q 'prepare.response: .*none.wav' && [ ! -e none.h5 ] || fail "no such response: code $code"
done_testing
