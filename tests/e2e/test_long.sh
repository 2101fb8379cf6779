#!/bin/bash
# TIMEOUT 600
# Long recordings. prepare: those beyond dsp.max_local_samples are resampled by all ranks together, as on one rank and as libsoxr
# does within the band. detect: an hour in bounded memory.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
ok 1 train --config pre.yaml --set train.max_steps=1
ok 1 train --config stage1.yaml --set train.max_steps=1
[ $failures = 0 ] || done_testing
mv demo/desed/audio/validation/validation_16k demo/desed/audio/validation/any_rate
"$python" - <<'PY' || fail "making audio"
import glob
import numpy as np
import scipy.io.wavfile
import scipy.signal
rng = np.random.RandomState(7)
found = sorted(glob.glob("demo/desed/audio/validation/*/YdemoV*.wav"))
assert len(found) == 3, found
low = scipy.signal.butter(12, 6000, fs=44100, output="sos")
for i, f in enumerate(found[:2]):  # 44.1 kHz, mono and stereo, within the band
    x = scipy.signal.sosfilt(low, rng.normal(0, 3000, (44100 * (21 + 8 * i), 1 + i)), axis=0)
    scipy.io.wavfile.write(f, 44100, np.round(x).astype(np.int16))
scipy.io.wavfile.write("hour.wav", 8000, np.tile(rng.randint(-3000, 3000, 8000 * 60).astype(np.int16), 60))
scipy.io.wavfile.write("minutes.wav", 8000, np.tile(rng.randint(-3000, 3000, 8000 * 60).astype(np.int16), 6))
PY

# ---- prepare
ok 1 prepare --config data-desed.yaml --set prepare.validation_audio=audio/validation/any_rate --out soxr.h5
for np in 1 2 3 4; do
    ok $np prepare --config data-desed.yaml --set prepare.validation_audio=audio/validation/any_rate --out long$np.h5 --set dsp.max_local_samples=600000
    [ "$(grep -c 'prepare long=' all_err)" = 2 ] || fail "two long recordings on $np ranks"
done
"$python" - <<'PY' || fail "samples of long recordings"
import h5py
import numpy as np
def clips(path):
    f = h5py.File(path)
    at, n, pcm = f["audio/offset"][...], f["clip/length"][...], f["audio/pcm"][...].astype(int)
    return f["clip/name"][...], [pcm[at[i]:at[i] + n[i]] for i in range(len(n))]
names, soxr = clips("soxr.h5")
_, one = clips("long1.h5")
changed = []
for i in range(len(names)):
    assert len(soxr[i]) == len(one[i]), names[i]
    if not np.array_equal(soxr[i], one[i]):
        inner = slice(2000, len(one[i]) - 2000)
        error = np.abs(soxr[i][inner] - one[i][inner]).max()
        level = np.std(one[i][inner])
        assert level > 500 and error < 0.005 * np.abs(one[i]).max(), (names[i], error, level)
        changed.append(len(one[i]))
assert changed == [21 * 16000, 29 * 16000], changed
for np_ in (2, 3, 4):
    other = clips(f"long{np_}.h5")[1]
    for a, b in zip(one, other):
        assert np.abs(a - b).max() <= 1
PY

# ---- detect: ten times the length, hardly more memory
"$python" - "$earshot" <<'PY' || fail "memory of detect"
import os
import subprocess
import sys
peak = {}
for name in ("minutes", "hour"):
    p = subprocess.Popen([sys.argv[1], "detect", "--checkpoint", "runs/stage1/checkpoint-last.h5", "--hop", "10", "--out", f"{name}.tsv",
                          "--set", "threads_per_rank=1", f"{name}.wav"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(p.pid, 0)
    assert status == 0, (name, status)
    peak[name] = usage.ru_maxrss / 1024
print(peak)
# scores: 56,000 frames of 27 classes, twice; the recording itself would be 230 MB at 16 kHz
assert peak["hour"] < peak["minutes"] + 40 and peak["hour"] < 500, peak
PY
done_testing
