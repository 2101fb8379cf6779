#!/bin/bash
# TIMEOUT 300
# configs/data/*.yaml on tiny corpora that stand in the public folders: every set, the published splits, classes and window counts.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "${EARSHOT_SOURCE:?}/tests/e2e/toy.sh" || exit 1
ln -s "$EARSHOT_SOURCE/configs" configs
export EARSHOT_CORPORA=$work/corpora
"$python" - <<'PY'
import array, math, os, struct
import h5py, numpy as np

def wav(seconds, rate, tone):
    n = round(seconds * rate)
    pcm = array.array("h", (int(9000 * math.sin(2 * math.pi * tone * i / rate)) for i in range(n))).tobytes()
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 2 * n, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", 2 * n) + pcm

def put(path, data):
    path = os.path.join("corpora", path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").write(data if isinstance(data, bytes) else data.encode())

strong = "filename\tonset\toffset\tevent_label\n"
def table(names, empty=()):
    return strong + "".join("%s.wav\t0.1\t0.2\tDog\n" % n if n not in empty else "%s.wav\t\t\t\n" % n for n in names)

sets = {  # set: folder, table, clips
    "strong": ("audio/train/strong_label_real_16k", "metadata/train/audioset_strong.tsv", ["Yaaaaaaaaaa%d_0.000_10.000" % i for i in range(6)]),
    "ext": ("audio/external_strong_16k", "external_strong_split/external_audioset_strong_train.tsv", ["Ybbbbbbbbbb%d_0.000_10.000" % i for i in range(4)]),
    "ext_eval": ("audio/external_strong_16k", "external_strong_split/external_audioset_strong_eval.tsv", ["Ycccccccccc%d_0.000_10.000" % i for i in range(3)]),
    "synth": ("dcase_synth/audio/train/synthetic21_train/soundscapes_16k", "dcase_synth/metadata/train/synthetic21_train/soundscapes.tsv", list("01234")),
    "synth_val": ("audio/validation/synthetic21_validation/soundscapes_16k", "dcase_synth/metadata/validation/synthetic21_validation/soundscapes.tsv", list("012")),
    "validation": ("audio/validation/validation_16k", "metadata/validation/validation.tsv", ["Yaaaaaaaaaa0_0.000_10.000"] + ["Yddddddddddd_%d.000_9.000" % i for i in range(3)]),
    "public": ("eval/desed_public_eval/audio/eval/public_16k", "eval/desed_public_eval/metadata/eval/public.tsv", ["aaaaaaaaaa1_30.000_40.000", "eeeeeeeeeee_0.000_10.000"]),
}
durations = {"ext": "external_strong_split/external_audioset_strong_train_dur.tsv", "ext_eval": "external_strong_split/external_audioset_strong_eval_dur.tsv",
             "synth_val": "dcase_synth/metadata/validation/synthetic21_validation/durations.tsv", "validation": "metadata/validation/validation_durations.tsv",
             "public": "eval/desed_public_eval/metadata/eval/public_durations.tsv"}
for key, (folder, tsv, names) in sets.items():
    for i, n in enumerate(names):
        put("desed/%s/%s.wav" % (folder, n), wav(0.4, 16000, 300 + 20 * i))
    put("desed/" + tsv, table(names, empty=names[-1:] if key in ("validation", "strong") else ()))
    if key in durations:
        put("desed/" + durations[key], "filename\tduration\n" + "".join("%s.wav\t9.5\n" % n for n in names))
weak = ["Yaaaaaaaaaa2_0.000_10.000"] + ["Yfffffffffff_%d.000_10.000" % i for i in range(39)]
put("desed/metadata/train/weak.tsv", "filename\tevent_labels\n" + "".join("%s.wav\tDog,Speech\n" % n for n in weak))
free = ["Ybbbbbbbbbb1_0.000_10.000", "Ycccccccccc1_0.000_10.000"] + ["Yggggggggggg_%d.000_10.000" % i for i in range(5)]
for folder, names in (("weak_16k", weak), ("unlabel_in_domain_16k", free)):
    for i, n in enumerate(names):
        put("desed/audio/train/%s/%s.wav" % (folder, n), wav(0.3, 16000, 500 + i))

for kind in ("train", "validation"):
    for name in open("configs/data/maestro-%s.csv" % kind).read().split()[1:]:
        scene = name.rsplit("_", 1)[0]
        put("maestro/development_audio/%s/%s.wav" % (scene, name), wav(12.25, 8000, 440))
        put("maestro/development_annotation/soft_labels_%s/%s.txt" % (scene, name), "".join("%d\t%d\tcar\t0.5\n" % (s, s + 1) for s in range(12)))

os.makedirs("corpora/audioset/mp3")
def hdf(split, names):
    with h5py.File("corpora/audioset/mp3/%s_segments_mp3.hdf" % split, "w") as f:
        f["audio_name"] = np.array([n.encode() for n in names], "S20")
        d = f.create_dataset("mp3", (len(names),), h5py.vlen_dtype(np.uint8))
        for i, n in enumerate(names):
            d[i] = np.frombuffer(wav(0.5, 32000, 400 + 10 * i), np.uint8)
hdf("unbalanced_train", ["00/Y%011d.mp3" % i for i in range(8)])
hdf("balanced_train", ["Y%011d.mp3" % i for i in range(8, 12)])
hdf("eval", ["Yeval%07d.mp3" % i for i in range(3)])
put("audioset/metadata/mid_to_display_name.tsv", "/m/a\tDog\n/m/b\tSpeech\n/m/c\tAlarm\n/m/d\tZipper\n")
head = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
put("audioset/metadata/audioset_train_strong.tsv", head + "".join("%011d_30000\t0.1\t0.3\t/m/%s\n" % (i, "abd"[i % 3]) for i in range(13)))
put("audioset/metadata/audioset_eval_strong.tsv", head + "".join("eval%07d_0\t0.1\t0.3\t/m/%s\n" % (i, "abc"[i]) for i in range(3)))
PY
for config in desed maestro as-strong as-strong-456; do
    ok 2 prepare --config configs/data/$config.yaml --out $config.h5 --json $config.json --left-out $config.tsv
done
"$python" - <<'PY' || fail "counts"
import json
def sets(name):
    r = json.load(open(name + ".json"))
    assert r["problems"] == [], r["problems"]
    return {s["name"]: s for s in r["sets"]}, {(o["a"], o["b"]): (o["names"], o["youtube_ids"]) for o in r["overlaps"]}
def is_(s, **want):
    assert all(s[k] == v for k, v in want.items()), (s, want)
d, overlaps = sets("desed")
is_(d["strong"], clips=6, training=3, empty=1, overlap=2)
is_(d["external_train"], clips=4, training=4)
is_(d["external_validation"], clips=3, training=0, validation=3)
is_(d["public"], clips=2, validation=2)
is_(d["validation"], clips=4, validation=4, events=3)
is_(d["weak"], clips=40, validation=4, training=35, overlap=1)  # 90 % of 40, one of those is strong as well
is_(d["unlabeled"], clips=7, training=5, overlap=2)
is_(d["synth"], training=5, validation=0)
is_(d["synth_validation"], training=0, validation=3)
assert overlaps == {("strong", "weak"): (1, 1), ("strong", "validation"): (1, 1), ("strong", "public"): (0, 1),
                    ("external_train", "unlabeled"): (1, 1), ("unlabeled", "external_validation"): (1, 1)}, overlaps
m, overlaps = sets("maestro")
is_(m["maestro_train"], clips=33 * 4, training=28 * 4, validation=5 * 4)
is_(m["maestro_validation"], clips=16 * 4, training=0, validation=16 * 4)
assert overlaps == {}
a, _ = sets("as-strong")
is_(a["as_train"], clips=13, training=12, no_audio=1, events_dropped=0)
is_(a["as_eval"], validation=3, events=2, events_dropped=1)
b, _ = sets("as-strong-456")
is_(b["as_eval"], validation=3, events=3, events_dropped=0)
import h5py
with h5py.File("maestro.h5") as f:
    held = {r.decode() for r, s, p in zip(f["clip/recording"], f["clip/subset"], f["clip/split"]) if s == 0 and p == 1}
    assert held == {"cafe_restaurant_14", "city_center_11", "grocery_store_03", "metro_station_10", "residential_area_01"}, held
    assert f["clip/name"][0] == b"cafe_restaurant_00-000000-001000" and f["clip/name"][3] == b"cafe_restaurant_00-000300-001225"
with h5py.File("as-strong.h5") as f:
    assert list(f["classes"]) == [b"Dog", b"Speech", b"Zipper"]
    assert [n.decode() for n in f["clip/name"][:12]] == ["Y%011d" % i for i in list(range(8, 12)) + list(range(8))]  # balanced first
with h5py.File("as-strong-456.h5") as f:
    assert list(f["classes"]) == [b"Alarm", b"Dog", b"Speech", b"Zipper"]
PY
grep -q $'^Y00000000012\tas_train\tno_audio' as-strong.tsv || fail "as-strong.tsv: $(cat as-strong.tsv)"
# sets that were prepared apart: what they share is found all the same, by name and by YouTube id
for set in strong weak validation public external_train; do
    ok 2 prepare --config configs/data/desed.yaml --out part-$set.h5 --set "prepare.subsets=[$set]"
done
parts=(part-strong.h5 part-weak.h5 part-validation.h5 part-public.h5)
ok 1 inspect --overlap "${parts[@]}" part-strong.h5 as-strong.h5 --json overlap.json # a store twice counts once
cp out overlap.txt
ok 2 inspect --overlap "${parts[@]}" part-strong.h5 as-strong.h5
cmp -s out overlap.txt || fail "inspect --overlap: otherwise on 2 ranks"
grep -q '^OVERLAP  *1 file names and 1 YouTube ids are in strong_real (training) and validation (scored): aaaaaaaaaa0' overlap.txt || fail "$(cat overlap.txt)"
"$python" - <<'PY' || fail "inspect --overlap: $(cat overlap.txt)"
import json
rows = {(r["a"], r["a_trains"], r["b"], r["b_trains"]): (r["names"], r["youtube_ids"], r["leak"]) for r in json.load(open("overlap.json"))["overlaps"]}
assert rows == {("strong_real", True, "weak", True): (1, 1, False), ("strong_real", True, "validation", False): (1, 1, True),
                ("strong_real", True, "public", False): (0, 1, True)}, rows
PY
ok 1 inspect --overlap desed.h5 maestro.h5 # prepare left out what would leak
! grep OVERLAP out || fail "a leak"
ok 1 inspect --overlap part-external_train.h5 desed.h5
grep -q '^overlap  *4 file names and 4 YouTube ids are in strong_real (training) and strong_real (training, of another store)' out || fail "twice: $(cat out)"
go 1 inspect part-weak.h5 part-strong.h5
[ $code = 64 ] || fail "inspect of two files: code $code"
# a file of another rate in a _16k folder
file=corpora/desed/audio/train/weak_16k/Yfffffffffff_3.000_10.000.wav
"$python" -c "
import sys
b = bytearray(open('$file', 'rb').read()); b[24:28] = (22050).to_bytes(4, 'little'); open('$file', 'wb').write(b)"
go 2 prepare --config configs/data/desed.yaml --out rate.h5 --strict --set "prepare.subsets=[weak, validation]"
[ $code = 65 ] && grep -q 'weak.tsv:6: .*sample rate: got 22050 Hz, want 16000' all_err || fail "another rate: code $code"
done_testing
