#!/bin/bash
# TIMEOUT 600
# earshot detect: the scores of predict on files of a store; the same on any number of ranks; any rate, length and format; no seam
# between windows; events, tables, a picture; what is refused.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
ok 1 train --config pre.yaml --set train.max_steps=1
ok 1 train --config stage1.yaml --set train.max_steps=1
[ $failures = 0 ] || done_testing
model=(--checkpoint runs/stage1/checkpoint-last.h5)
"$python" - <<'PY' || fail "making audio"
import glob, shutil, os
import numpy as np
import scipy.io.wavfile
os.makedirs("audio")
found = sorted(glob.glob("demo/desed/audio/validation/*/YdemoV*.wav"))
assert len(found) == 3, found
pcm = []
for f in found:
    shutil.copy(f, "audio")
    rate, x = scipy.io.wavfile.read(f)
    pcm.append(x if x.ndim == 1 else x[:, 0])
assert rate in (16000, 44100), rate
rng = np.random.RandomState(3)
scipy.io.wavfile.write("long.wav", 44100, np.stack([rng.randint(-3000, 3000, 44100 * 27), rng.randint(-3000, 3000, 44100 * 27)], 1).astype(np.int16))
period = rng.randint(-8000, 8000, 78 * 1024).astype(np.int16)  # as long as the hop
scipy.io.wavfile.write("periodic.wav", 16000, np.tile(period, 6))
scipy.io.wavfile.write("short.wav", 8000, rng.randint(-3000, 3000, 4000).astype(np.int16))
scipy.io.wavfile.write("click.wav", 48000, np.ones(7, np.int16))
scipy.io.wavfile.write("hour.wav", 8000, np.tile(rng.randint(-3000, 3000, 8000).astype(np.int16), 330))
PY
[ $failures = 0 ] || done_testing

# ---- the scores of predict, on any number of ranks
for np in 1 2 3; do
    ok $np detect "${model[@]}" --out e$np.tsv --scores s$np --threshold 0.3 --json e$np.json audio/*.wav long.wav short.wav
    [ $np = 1 ] || { cmp -s e1.tsv e$np.tsv && diff -r s1 s$np >/dev/null && cmp -s e1.json e$np.json; } || fail "detect on $np ranks differs"
done
ok 1 predict "${model[@]}" --store desed.h5 --subset validation --out v.h5
"$python" - <<'PY' || fail "scores of detect"
import csv, glob, json, os
import h5py
import numpy as np
f = h5py.File("v.h5")
names = [n.decode() if isinstance(n, bytes) else n for n in f["filenames"][...]]
def table(path):
    rows = list(csv.reader(open(path), delimiter="\t"))
    return rows[0], np.array(rows[1:], float)
for path in glob.glob("audio/*.wav"):
    stem = os.path.splitext(os.path.basename(path))[0]
    head, x = table(f"s1/{stem}.tsv")
    want = 1 / (1 + np.exp(-f["strong_logits"][names.index(stem)].astype(np.float64)))
    assert head[:2] == ["onset", "offset"] and len(head) == 29 and x.shape == (156, 29), (head, x.shape)
    assert x[0, 0] == 0 and abs(x[-1, 1] - 9.984) < 1e-9 and (x[1:, 0] == x[:-1, 1]).all()
    assert abs(x[:, 2:] - want).max() < 1e-6, abs(x[:, 2:] - want).max()
head, x = table("s1/long.tsv")
assert len(x) == 27 * 16000 // 1024 and np.isfinite(x).all() and 0 < x[:, 2:].min() and x[:, 2:].max() < 1
assert len(table("s1/short.tsv")[1]) == 8000 // 1024
events = list(csv.DictReader(open("e1.tsv"), delimiter="\t"))
assert json.load(open("e1.json"))["files"] == 5
for name in ("long", "short"):
    head, x = table(f"s1/{name}.tsv")
    got = {(e["onset"], e["offset"], e["event_label"]) for e in events if e["filename"] == name + ".wav"}
    want = set()
    for k, label in enumerate(head[2:]):
        on = np.flatnonzero(np.diff(np.concatenate([[0], x[:, 2 + k] > 0.3, [0]])))
        want |= {(repr(float(x[a, 0])), repr(float(x[b - 1, 1])), label) for a, b in zip(on[::2], on[1::2])}
    assert {(float(a), float(b), c) for a, b, c in got} == {(float(a), float(b), c) for a, b, c in want}, (name, got, want)
PY

# ---- no seam: a signal with the period of the hop has periodic scores; pieces of a long file fit together
ok 1 detect "${model[@]}" --scores s --out p.tsv periodic.wav
ok 2 detect "${model[@]}" --scores s --out h.tsv hour.wav click.wav
"$python" - <<'PY' || fail "seams"
import numpy as np
x = np.loadtxt("s/periodic.tsv", skiprows=1, delimiter="\t")[:, 2:]
assert len(x) == 468 and abs(x[78:156] - x[156:234]).max() < 1e-6 and abs(x[78:156] - x[234:312]).max() < 1e-6
t = np.loadtxt("s/hour.tsv", skiprows=1, delimiter="\t")
assert len(t) == 330 * 16000 // 1024 and abs(t[-1, 1] - len(t) * 0.064) < 1e-9
x = t[:, 2:]  # period 1 s = 15.625 frames: 8 s = 125 frames
inside = x[200:5000]
assert abs(inside[:-125 * 8] - inside[125 * 8:]).max() < 0.05  # windows begin at other phases
assert np.loadtxt("s/click.tsv", skiprows=1, delimiter="\t", ndmin=2).shape == (1, 29)
PY

# ---- a detector with a known answer: its first class says how loud a frame is, from that frame alone. Bursts of one sound in digital
# silence, so that the scaling of every window is the same: scores of a long file are those of 10 s cut from it, but for what a window
# sees at its own edge; events are where the bursts are, at any rate, as well at the end as at the begin, across pieces of 5 minutes
ok 1 export --from runs/stage1/checkpoint-last.h5 --which student --to small.safetensors
"$python" - <<'PY' || fail "making the known detector"
import json
import struct
import numpy as np
import scipy.io.wavfile
b = open("small.safetensors", "rb").read()
start = 8 + struct.unpack("<Q", b[:8])[0]
head = json.loads(b[8:start])
data = bytearray(b[start:])

def put(name, value, *at):  # zeros but for that
    kind = {"F32": np.float32, "I64": np.int64}[head[name]["dtype"]]
    first, end = head[name]["data_offsets"]
    x = np.zeros(head[name]["shape"], kind)
    x[at or ...] = value
    data[first:end] = x.tobytes()
    return x.shape

for i in range(7):  # channel 0 goes through, the pools average it
    put(f"cnn.cnn.conv{i}.weight", 1, 0, 0, 1, 1)
    for name, value in (("conv%d.bias", 0), ("batchnorm%d.weight", 1), ("batchnorm%d.bias", 0), ("batchnorm%d.running_mean", 0),
                        ("batchnorm%d.running_var", 1), ("cg%d.linear.weight", 0), ("cg%d.linear.bias", 40)):
        put("cnn.cnn." + name % i, value)
put("cat_tf.weight", 1, 0, 0)  # nothing of the transformer
put("cat_tf.bias", 0)
for end in ("_l0", "_l1", "_l0_reverse", "_l1_reverse"):  # no memory: h = tanh(x), forward only
    cells = put("rnn.rnn.weight_hh" + end, 0)[1]
    put("rnn.rnn.weight_ih" + end, "reverse" not in end, 2 * cells, 0)
    put("rnn.rnn.bias_hh" + end, 0)
    put("rnn.rnn.bias_ih" + end, -40, slice(cells, 2 * cells))
put("dense.weight", 40, 0, 0)
put("dense.bias", -40 * np.tanh(np.tanh(-0.5)), 0)
open("loud.safetensors", "wb").write(b[:start] + data)

times, rng, t = [], np.random.RandomState(5), 0.496
while t + 2 < 400:
    times.append(round(t / 0.016) * 0.016)  # on the grid of mels
    t += 1.7 + rng.uniform(0, 2.7)
np.save("times.npy", times)
tones = [(f, rng.uniform(0, 2 * np.pi)) for f in np.geomspace(120, 6500, 60)]
for rate, seconds, channels in ((16000, 400, 1), (22050, 400, 1), (44100, 60, 2), (48000, 60, 1)):
    x = np.zeros(seconds * rate)
    for t in [t for t in times if t + 0.8 < seconds]:
        i = np.arange(int(np.ceil(t * rate - 1e-6)), int((t + 0.8) * rate))
        u = i / rate - t
        x[i] = 0.04 * np.clip(np.minimum(u, 0.8 - u) / 0.005, 0, 1) * sum(np.sin(2 * np.pi * f * u + p) for f, p in tones)
    pcm = np.round(x * 32767).astype(np.int16)
    scipy.io.wavfile.write(f"burst{rate}.wav", rate, np.stack([pcm] * channels, 1))
    if rate == 16000:
        for o in (0, 5, 700, 4650, 4689, 6000):  # frames; the fourth and fifth reach over 300 s
            scipy.io.wavfile.write(f"cut{o}.wav", rate, pcm[o * 1024:o * 1024 + 160000])
PY
ok 1 import --model sed --from loud.safetensors --out loud.h5 --config stage1.yaml
ok 2 detect --checkpoint loud.h5 --scores loud --out loud.tsv burst*.wav cut*.wav
"$python" - <<'PY' || fail "the known detector"
import csv
import numpy as np
scores = lambda name: np.loadtxt(f"loud/{name}.tsv", skiprows=1, delimiter="\t")[:, 2].astype(np.float64)
logit = lambda p: np.log(p / np.maximum(1 - p, 1e-9)).clip(-8, 8)  # scores have 9 digits
long = logit(scores("burst16000"))
at = np.arange(len(long))
seam = (at % 78 == 0) | (at % 78 == 77)  # the first and last frame of a window, of weight 1 in 79
assert long.min() == -8 and long.max() == 8
for o in (0, 5, 700, 4650, 4689, 6000):
    cut = logit(scores(f"cut{o}"))
    off = np.abs(long[o:o + 156] - cut)[1:-1]
    s = seam[o:o + 156][1:-1]
    assert off[~s].max() < 2e-3 and off[s].max() < 0.5, (o, off[~s].max(), off[s].max())
times, events = np.load("times.npy"), {}
for r in csv.DictReader(open("loud.tsv"), delimiter="\t"):
    events.setdefault(r["filename"], []).append((float(r["onset"]), float(r["offset"])))
for rate, seconds in ((16000, 400), (22050, 400), (44100, 60), (48000, 60)):
    e, want = np.array(events[f"burst{rate}.wav"]), times[times + 0.8 < seconds]
    assert len(e) == len(want), (rate, len(e), len(want))
    for error, sign in ((e[:, 0] - want, -1), (e[:, 1] - want - 0.8, 1)):  # early and late by the STFT's half window, within one frame
        assert np.ptp(error) < 0.064 + 1e-9 and 0.02 < sign * error.mean() < 0.09, (rate, error.min(), error.max())
        third = len(error) // 3
        assert seconds < 400 or abs(error[:third].mean() - error[-third:].mean()) < 0.02, (rate, "drift")
    n = int(seconds / 0.064) - 240  # up to where the last windows differ
    assert abs(scores(f"burst{rate}")[:n] - scores("burst16000")[:n]).max() < 1e-3, rate
PY

# ---- post-processing, classes, the hop, a picture
ok 1 detect "${model[@]}" --postprocess median --threshold 0.3 --out m.tsv audio/*.wav
ok 1 detect "${model[@]}" --postprocess csebb --threshold 0.3 --hop 2.5 --out c.tsv long.wav
head -n 1 c.tsv | grep -q "^filename	onset	offset	event_label	score$" || fail "columns of events"
truth=$(find demo/desed -name 'validation.tsv' | head -n 1)
"$python" "$EARSHOT_SOURCE/analysis/detections.py" long.wav --events e1.tsv --out long.png >out 2>all_err && [ -s long.png ] || fail "picture"
first=$(find audio -name '*.wav' | sort | head -n 1)
"$python" "$EARSHOT_SOURCE/analysis/detections.py" "$first" --events e1.tsv --truth "$truth" --begin 1 --end 9 --out f.png >out 2>all_err &&
    [ -s f.png ] && grep -q "true ones" out || fail "picture with truth"
"$python" "$EARSHOT_SOURCE/analysis/detections.py" e1.tsv --events e1.tsv >out 2>all_err && fail "picture of a table"
# parameters from evaluate: thresholds of their own
ok 1 evaluate --predictions v.h5 --ground-truth "$truth" --durations "${truth%.tsv}_durations.tsv" --postprocess csebb \
    --tune-on "v.h5,$truth,${truth%.tsv}_durations.tsv" --tune-by collar_f1 --tune-grid package --metrics collar_f1 --save-parameters p.yaml --allow-missing

# ---- refused: one line, nothing written
refuse() { # CODE TEXT ARGS...
    local want=$1 text=$2
    shift 2
    go 2 detect "$@" --out never.tsv
    [ $code = "$want" ] && [ "$(errors | wc -l)" = 1 ] && errors | grep -qF -- "$text" && [ ! -e never.tsv ] || fail "want $want '$text', got $code: $*"
}
refuse 64 "--checkpoint" long.wav
refuse 64 "AUDIO" "${model[@]}"
refuse 74 "missing.wav" "${model[@]}" long.wav missing.wav
refuse 65 "e1.tsv" "${model[@]}" long.wav e1.tsv
refuse 64 "two files of that name" "${model[@]}" long.wav ./long.wav
refuse 64 "--hop" "${model[@]}" --hop 11 long.wav

# ---- a pre-training head: its classes from the checkpoint, from a file, from the store of an older checkpoint
pre=(--checkpoint runs/pre/checkpoint-last.h5 --threshold 0)
ok 1 detect "${pre[@]}" --out as.tsv --scores pre short.wav
"$python" - <<'PY' || fail "classes of a checkpoint"
import h5py
store = [n.decode() for n in h5py.File("as-strong.h5")["classes"][:]]
assert open("pre/short.tsv").readline().rstrip("\n").split("\t")[2:] == store and len(store) == 36
assert {line.split("\t")[3] for line in open("as.tsv")} == set(store) | {"event_label"}
with h5py.File("runs/pre/checkpoint-last.h5", "r+") as f:
    assert [n.decode() for n in f["classes"][:]] == store
    del f["classes"]
PY
ok 1 detect "${pre[@]}" --out old.tsv short.wav
cmp -s as.tsv old.tsv || fail "classes of the store"
seq 36 >names.txt
ok 1 detect "${pre[@]}" --classes names.txt --out file.tsv short.wav
cut -f 4 file.tsv | grep -q '^36$' || fail "classes of a file"
seq 35 >names.txt
refuse 65 "names.txt" "${pre[@]}" --classes names.txt long.wav
{ seq 35 && echo 35; } >names.txt
refuse 65 "every class once" "${pre[@]}" --classes names.txt long.wav
mv as-strong.h5 away.h5
refuse 64 "want --classes" "${pre[@]}" long.wav
done_testing
