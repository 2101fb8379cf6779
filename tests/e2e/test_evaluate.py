#!/usr/bin/python3
# TIMEOUT 240
# LABEL e2e
"""earshot evaluate on files: the same numbers from tables, HDF5 scores and logits, on one and on two ranks; MAESTRO,
detections, median; every refusal with its exit code and one line."""
import json
import os
import subprocess
import sys
import tempfile

try:
    import h5py
    import numpy as np
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)

EARSHOT = os.path.join(os.environ["EARSHOT_BUILD"], "earshot")
CLASSES = ["Alarm_bell_ringing", "Blender", "Cat", "Dishes", "Dog", "Electric_shaver_toothbrush", "Frying", "Running_water",
           "Speech", "Vacuum_cleaner", "cutlery and dishes", "furniture dragging", "people talking", "children voices",
           "coffee machine", "footsteps", "large_vehicle", "car", "brakes_squeaking", "cash register beeping", "announcement",
           "shopping cart", "metro leaving", "metro approaching", "door opens/closes", "wind_blowing", "birds_singing"]
FRAMES = 156
failures = []


def check(what, ok, *show):
    if not ok:
        failures.append(what)
        print("FAILED:", what, *show)


def run(*args, ranks=1):
    command = [EARSHOT, "evaluate", *args]
    if ranks > 1:
        command = ["mpiexec", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("earshot", "hint"))]
    return done.returncode, done.stdout, lines


def scores_of(*args, ranks=1):
    code, out, lines = run(*args, "--json", "-", ranks=ranks)
    check(f"{args}: exit code", code == 0 and not lines, code, lines)
    return json.loads(out) if code == 0 else {}


def refuse(code, text, *args):
    got, out, lines = run(*args)
    check(f"{args}: want {code} '{text}'", got == code and len(lines) == 1 and text in lines[0] and not out, got, lines, out)


def write(name, text):
    with open(name, "w", encoding="utf-8") as f:
        f.write(text)


def close(a, b, tol):
    return set(a) == set(b) and all(abs(a[k]["value"] - b[k]["value"]) <= tol for k in a)


os.chdir(tempfile.mkdtemp())
random = np.random.RandomState(1)
ids = [f"Yclip{i}_0.000_10.000" for i in range(12)] + [f"park_0{i}-{s:06d}-{s + 1000:06d}" for i in (1, 2) for s in (0, 500, 1000)]
logits = {i: np.cumsum(random.randn(FRAMES, len(CLASSES)), 0).astype(np.float32) / 4 for i in ids}
probabilities = {i: (1 / (1 + np.exp(-x))).astype(np.float32) for i, x in logits.items()}
edges = np.arange(FRAMES + 1) * 0.064

events, durations = ["filename\tonset\toffset\tevent_label"], ["filename\tduration"]
for i, clip in enumerate(ids[:12]):
    durations.append(f"{clip}.wav\t10.0")
    if i == 11:
        events.append(f"{clip}.wav\t\t\t")
    else:
        events += [f"{clip}.wav\t{0.5 + k % 3}\t{3.25 + k}\t{CLASSES[k]}" for k in {i % 5, (i + 2) % 5}]
write("truth.tsv", "\n".join(events) + "\n")
write("durations.tsv", "\n".join(durations) + "\n")
soft = ["filename\tonset\toffset\tevent_label\tconfidence"]
for i, clip in enumerate(ids[12:]):
    soft += [f"{clip}.wav\t{s}.0\t{s + 1}.0\t{c}\t{random.rand():.2f}" for s in range(10) for c in ("car", "footsteps", "announcement")]
write("soft.tsv", "\n".join(soft) + "\n")
write("recordings.tsv", "filename\tduration\npark_01.wav\t20.0\npark_02.wav\t19.5\n")
with h5py.File("scores.h5", "w") as f:
    f["classes"] = np.array([c.encode() for c in CLASSES], "S64")
    f["timestamps"] = edges
    for clip in ids:
        f[f"scores/{clip}"] = probabilities[clip]
with h5py.File("each.h5", "w") as f:  # times per clip, variable-length names, compressed
    f.create_dataset("classes", data=CLASSES, dtype=h5py.string_dtype())
    for clip in ids:
        f[f"timestamps/{clip}"] = edges
        f.create_dataset(f"scores/{clip}", data=probabilities[clip], chunks=True, compression="gzip", shuffle=True)
with h5py.File("predictions.h5", "w") as f:  # the public layout: no classes, variable-length names
    f.create_dataset("filenames", data=ids, dtype=h5py.string_dtype())
    f["strong_logits"] = np.stack([logits[i] for i in ids])
os.mkdir("tables")
for clip in ids[:12]:
    rows = ["\t".join(["onset", "offset", *CLASSES])]
    rows += ["\t".join(map(repr, map(float, [edges[i], edges[i + 1], *probabilities[clip][i]]))) for i in range(FRAMES)]
    write(f"tables/{clip}.tsv", "\n".join(rows) + "\n")

DESED = ["--ground-truth", "truth.tsv", "--durations", "durations.tsv"]
ALL = ["--metrics", "psds1,psds2,mpauc,mauc,collar_f1,intersection_f1,segment_f1"]
want = scores_of("--scores", "scores.h5", *DESED, *ALL)
check("rows", sorted(want) == sorted(["psds1", "psds2", "mpauc", "mpauc_staircase", "mauc", "mauc_staircase", "collar_f1",
                                      "collar_f1_best", "intersection_f1", "intersection_f1_best", "segment_f1", "segment_f1_best"]))
check("classes", all(list(row["classes"]) == CLASSES[:5] for row in want.values()), want)
check("in 0..1", all(0 <= v <= 1 for row in want.values() for v in [row["value"], *row["classes"].values()]))
check("something is found", 0 < want["psds2"]["macro"] < 1 and 0 < want["mauc"]["value"] < 1)
check("macro average", abs(np.mean(list(want["psds1"]["classes"].values())) - want["psds1"]["macro"]) < 1e-12)
check("two ranks", scores_of("--scores", "scores.h5", *DESED, *ALL, ranks=2) == want)
check("times per clip", scores_of("--scores", "each.h5", *DESED, *ALL) == want)
check("tables", close(scores_of("--scores", "tables", *DESED, *ALL), want, 1e-9))
check("logits", close(scores_of("--predictions", "predictions.h5", *DESED, *ALL), want, 0.02))
kept = scores_of("--scores", "tables", "--keep-empty", *DESED, *ALL)
check("keep-empty", kept["mauc"]["value"] != want["mauc"]["value"] and kept["psds2"]["macro"] > 0)  # one clip more
filtered = scores_of("--scores", "scores.h5", "--postprocess", "median", *DESED, *ALL)
check("median changes something", not close(filtered, want, 1e-9))
write("two.txt", "Cat\nBlender\n")
two = scores_of("--scores", "scores.h5", "--classes", "two.txt", *DESED, "--metrics", "mauc")
check("--classes", list(two["mauc"]["classes"]) == ["Cat", "Blender"], two)
maestro = scores_of("--scores", "scores.h5", "--ground-truth", "soft.tsv", "--durations", "recordings.tsv")
check("maestro", sorted(maestro) == ["mpauc", "mpauc_staircase", "segment_f1", "segment_f1_best"] and
      list(maestro["mpauc"]["classes"]) == ["footsteps", "car"], maestro)
check("maestro logits", close(scores_of("--predictions", "predictions.h5", "--ground-truth", "soft.tsv", "--durations",
                                        "recordings.tsv"), maestro, 0.02))
perfect = scores_of("--detections", "truth.tsv", *DESED, "--metrics", "psds1,psds2,collar_f1,intersection_f1")
check("the truth as detections", all(row["value"] == 1 for row in perfect.values()), perfect)

# every metric, on any number of ranks; the same PSDS under its long name
EVERY = ["--metrics", "psds1,psds2,psds:0.7:0.7:-:0:1:100,psds1_op,psds2_op,clip_f1,event_error,segment_error,collar_f1"]
every = scores_of("--scores", "scores.h5", *DESED, *EVERY)
check("psds under its long name", every["psds:0.7:0.7:-:0:1:100"]["value"] == every["psds1"]["value"] == want["psds1"]["value"])
check("operating points", abs(every["psds2_op"]["value"] - every["psds2"]["value"]) < 0.05 and "v030" in every["psds2_op"], every)
check("clip_f1", 0 < every["clip_f1"]["value"] <= every["clip_f1_best"]["value"] <= 1)
check("errors", every["event_error"]["value"] > 0 and 0 <= every["segment_error"]["f1"] <= 1, every)
check("every metric on 3 ranks", scores_of("--scores", "scores.h5", *DESED, *EVERY, ranks=3) == every)

# cSEBBs and median filters: defaults, tuned, saved and read again
boxes = scores_of("--scores", "scores.h5", *DESED, "--postprocess", "csebb", "--metrics", "psds2,collar_f1")
tune = ["--tune-on", "scores.h5,truth.tsv,durations.tsv", "--metrics", "psds1"]
tuned = scores_of("--scores", "scores.h5", *DESED, "--postprocess", "csebb", *tune, "--save-parameters", "csebb.yaml")
check("boxes", 0 < boxes["psds2"]["macro"] < 1, boxes)
check("tuned on two ranks", scores_of("--scores", "scores.h5", *DESED, "--postprocess", "csebb", *tune, ranks=2) == tuned)
again = scores_of("--scores", "scores.h5", *DESED, "--parameters", "csebb.yaml", "--metrics", "psds1")
check("parameters from a file", again == tuned)
seconds = scores_of("--scores", "scores.h5", *DESED, "--postprocess", "median", *tune, "--save-parameters", "median.yaml")
check("median in seconds", seconds["psds1"]["macro"] >= want["psds1"]["macro"])
check("and from a file", scores_of("--scores", "scores.h5", *DESED, "--parameters", "median.yaml", "--metrics", "psds1") == seconds)
f1 = scores_of("--scores", "scores.h5", *DESED, "--postprocess", "csebb", "--tune-on", "scores.h5,truth.tsv,durations.tsv",
               "--tune-by", "collar_f1", "--tune-grid", "package", "--tune-globally", "--save-parameters", "f1.yaml",
               "--metrics", "collar_f1")
check("tuned by F1", f1["collar_f1_best"]["value"] >= boxes["collar_f1_best"]["value"] and "threshold" in open("f1.yaml").read())

# intervals and comparison
some = ["--metrics", "psds1,collar_f1,mauc,psds1_op,event_error", "--bootstrap", "10"]
resampled = scores_of("--scores", "scores.h5", *DESED, *some)
low, high = resampled["mauc"]["interval"][1:]
check("interval", low < resampled["mauc"]["interval"][0] < high, resampled["mauc"])
check("intervals on 3 ranks", scores_of("--scores", "scores.h5", *DESED, *some, ranks=3) == resampled)
versus = scores_of("--compare", "scores.h5", "predictions.h5", *DESED, "--metrics", "mauc", "--bootstrap", "10")
check("compare", set(versus) == {"a", "b", "difference"} and abs(versus["difference"]["mauc"]["value"]) < 1e-6, versus)
same = scores_of("--compare", "scores.h5", "tables", *DESED, "--metrics", "mauc")
check("compare with the same", same["difference"]["mauc"]["better"] == 0.5, same["difference"])
scores_of("--scores", "scores.h5", *DESED, "--metrics", "psds2", "--roc", "roc.tsv")
roc = [line.split("\t") for line in open("roc.tsv").read().splitlines()]
area = {}
for (m, c, x, y, s), following in zip(roc[1:], roc[2:] + [["", "", "100", "", ""]]):
    end = float(following[2]) if following[1] == c else 100
    area[c] = area.get(c, 0) + float(y) * (end - float(x)) / 100
check("curves", set(area) == {"", *CLASSES[:5]} and abs(area[""] - want["psds2"]["value"]) < 1e-9 and
      all(abs(area[c] - want["psds2"]["classes"][c]) < 1e-9 for c in CLASSES[:5]), area)

# what is missing: refused, or counted
write("gaps.tsv", "\n".join(events) + f"\n{ids[0]}.wav\t5\t6\tDoorbell\nnobody.wav\t5\t6\tCat\n{ids[1]}.wav\t9.5\t9.5\tCat\n")
gaps = scores_of("--scores", "scores.h5", "--ground-truth", "gaps.tsv", "--durations", "durations.tsv", "--allow-missing",
                 "--metrics", "mauc")
check("counted", gaps["missing"] == {"labels": 1, "label_events": 1, "classes": 0, "clips_without_scores": 1,
                                     "clips_without_truth": 6, "clips_without_duration": 1, "empty_events": 1,
                                     "joined_events": 0} and gaps["mauc"] == want["mauc"], gaps)
write("soft2.tsv", "\n".join(soft) + "\npark_01-009000-010000.wav\t0.0\t1.0\tcar\t0.2\n")
park = ["--ground-truth", "soft2.tsv", "--durations", "recordings.tsv", "--metrics", "mpauc"]
refuse(65, "park_01-009000-010000", "--scores", "scores.h5", *park)
check("MAESTRO clips counted", scores_of("--scores", "scores.h5", *park, "--allow-missing")["missing"]["clips_without_scores"] == 1)
write("overlap.tsv", "\n".join(events) + f"\n{ids[0]}.wav\t1\t2\tAlarm_bell_ringing\n")
overlap = scores_of("--scores", "scores.h5", "--ground-truth", "overlap.tsv", "--durations", "durations.tsv", "--allow-missing",
                    "--metrics", "mauc")
check("joined", overlap["missing"]["joined_events"] == 1 and overlap["mauc"] == want["mauc"], overlap)
refuse(65, "overlap or touch", "--scores", "scores.h5", "--ground-truth", "overlap.tsv", "--durations", "durations.tsv")
write("empty_event.tsv", "\n".join(events) + f"\n{ids[1]}.wav\t9.5\t9.5\tCat\n")
refuse(65, "onset < offset", "--scores", "scores.h5", "--ground-truth", "empty_event.tsv", "--durations", "durations.tsv")
write("nothing.tsv", "")
refuse(65, "nothing.tsv", "--scores", "scores.h5", "--ground-truth", "nothing.tsv", "--durations", "durations.tsv")
refuse(65, "nothing.tsv", "--scores", "scores.h5", "--ground-truth", "truth.tsv", "--durations", "nothing.tsv")
refuse(65, "nothing.tsv", "--detections", "nothing.tsv", *DESED)
with h5py.File("nan.h5", "w") as f:
    f["classes"] = np.array([c.encode() for c in CLASSES], "S64")
    f["timestamps"] = edges
    for i, clip in enumerate(ids):
        x = probabilities[clip].copy()
        if i == 3:
            x[7, 2] = np.nan
        f[f"scores/{clip}"] = x
refuse(65, "frame 7, class 'Cat'", "--scores", "nan.h5", *DESED)
refuse(65, "frame 7, class 'Cat'", "--scores", "nan.h5", *DESED, "--allow-missing")
code, out, lines = run("--scores", "scores.h5", *DESED)
check("table", code == 0 and "psds1" in out and "all classes" in out and "11 of 18 clips" in out, out)
code, out, lines = run("--scores", "scores.h5", *DESED, "--check")
check("--check", code == 0 and not out and not lines, out, lines)

refuse(64, "--ground-truth", "--scores", "scores.h5", "--durations", "durations.tsv")
refuse(64, "want one of --predictions, --scores, --detections", *DESED)
refuse(64, "want one of --predictions, --scores, --detections", "--scores", "scores.h5", "--detections", "truth.tsv", *DESED)
refuse(64, "psds3", "--scores", "scores.h5", *DESED, "--metrics", "psds3")
refuse(64, "--bootstrap", "--scores", "scores.h5", *DESED, "--bootstrap", "0")
refuse(64, "--compare", "--scores", "scores.h5", *DESED, "--compare", "a")
refuse(64, "--compare", *DESED, "--compare", "scores.h5")
refuse(64, "only with --compare", "--scores", "scores.h5", *DESED, "tables")
refuse(64, "--tune-on", "--scores", "scores.h5", *DESED, "--tune-on", "a,b,c")
refuse(64, "--tune-on", "--scores", "scores.h5", *DESED, "--tune-on", "a,b", "--postprocess", "csebb")
refuse(64, "psds:1", "--scores", "scores.h5", *DESED, "--metrics", "psds:1:2")
refuse(64, "--roc", "--scores", "scores.h5", *DESED, "--metrics", "mauc", "--roc", "roc.tsv")
write("bad.yaml", "postprocess: csebb\nclasses:\n  Cat: {merge_abs: -1}\n")
refuse(65, "bad.yaml:3", "--scores", "scores.h5", *DESED, "--parameters", "bad.yaml")
write("bad.yaml", "postprocess: csebb\nclasses:\n  Cat: {merge_abs: 1}\n")
refuse(64, "class 'Alarm_bell_ringing'", "--scores", "scores.h5", *DESED, "--parameters", "bad.yaml")
write("bad.yaml", "postprocess: [csebb\n")
refuse(65, "bad.yaml:1", "--scores", "scores.h5", *DESED, "--parameters", "bad.yaml")
refuse(74, "missing.h5", "--scores", "missing.h5", *DESED)
refuse(74, "missing.tsv", "--scores", "scores.h5", "--ground-truth", "missing.tsv", "--durations", "durations.tsv")
refuse(65, "does not list", "--scores", "scores.h5", "--keep-empty", *DESED)
write("other.tsv", "\n".join(events) + f"\n{ids[0]}.wav\t5\t6\tDoorbell\n")
refuse(65, "label 'Doorbell'", "--scores", "scores.h5", "--ground-truth", "other.tsv", "--durations", "durations.tsv")
write("other.tsv", "\n".join(events) + "\nnobody.wav\t5\t6\tCat\n")
refuse(65, "clip 'nobody'", "--scores", "scores.h5", "--ground-truth", "other.tsv", "--durations", "durations.tsv")
write("other.tsv", "\n".join(events) + f"\n{ids[0]}.wav\t5\tsix\tCat\n")
refuse(65, f"other.tsv:{len(events) + 1}:", "--scores", "scores.h5", "--ground-truth", "other.tsv", "--durations", "durations.tsv")
write("short.tsv", "\n".join(durations[:-2]) + "\n")
refuse(65, "no duration", "--scores", "scores.h5", "--ground-truth", "truth.tsv", "--durations", "short.tsv")
with open(f"tables/{ids[3]}.tsv", encoding="utf-8") as f:
    good = f.read()
table = f"tables/{ids[3]}.tsv"
write(table, good.replace("\n0.128\t", "\n0.129\t"))
refuse(65, f"{table}:4:", "--scores", "tables", *DESED)
write(table, good.replace("\n0.128\t0.192", "\n0.128\t0.128").replace("\n0.192\t", "\n0.128\t"))
refuse(65, "ascending", "--scores", "tables", *DESED)
write(table, good.replace("\tCat\t", "\tDog\t").replace("\tDishes\tDog\t", "\tDishes\tCat\t"))
refuse(65, "other classes", "--scores", "tables", *DESED)
write(table, good.replace("\tCat\t", "\tDog\t"))
refuse(65, f"{table}:1:", "--scores", "tables", *DESED)
write(table, good)
write("tables/readme.txt", "")
refuse(65, "readme.txt", "--scores", "tables", *DESED)
write("broken.h5", "no HDF5")
refuse(65, "broken.h5", "--scores", "broken.h5", *DESED)

print(f"{len(failures)} failed")
sys.exit(1 if failures else 0)
