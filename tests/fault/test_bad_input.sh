#!/bin/bash
# TIMEOUT 400
# Whatever is wrong with the world, on 2 ranks: all of them end within seconds with the documented code and one line that names
# the place, what was found, what was wanted; nothing is left behind, and what was there before is as it was.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
ok 1 train --config pre.yaml
ok 1 train --config stage1.yaml --set train.max_steps=1
ok 1 predict --checkpoint runs/stage1/checkpoint-last.h5 --store desed.h5 --out p.h5
[ $failures = 0 ] || done_testing
# What jobs have written: none of it may change, and nothing may be added (predictions resume from their .part)
outputs() { find . -name '*.h5*' ! -name '*.part' -o -name '*.yaml' -path '*run*' | sort; }
keep() {
    outputs >kept
    xargs sha256sum <kept >sums
}
keep
items=0

# refuse WHAT CODE TEXT... -- JOB ARGS...: one error line that holds every TEXT
refuse() {
    local what=$1 want=$2 texts=() text
    shift 2
    while [ "$1" != -- ]; do
        texts+=("$1")
        shift
    done
    shift
    items=$((items + 1))
    go "${ranks_of_item:-2}" "$@"
    printf '%-44s %s\n' "$what" "$(errors | head -n 1 | cut -c1-220)"
    [ $code = "$want" ] || fail "$what: code $code, want $want"
    [ "$(errors | grep -vc '^hint: ')" = 1 ] && [ "$(errors | grep -c '^hint: ')" -le 1 ] || fail "$what: $(errors | wc -l) lines, want one"
    for text in "${texts[@]}"; do errors | grep -qF -- "$text" || fail "$what: the line does not say '$text'"; done
    [ $seconds -le 20 ] || fail "$what: $seconds s"
    untouched "$what"
}
untouched() {
    sha256sum --quiet -c sums >changes 2>&1 || fail "$1: $(cat changes)"
    outputs | diff kept - >changes || fail "$1: other files: $(cat changes)"
}
# damaged FILE COMMAND...: while COMMAND runs, which may spoil FILE; it is put back by `repair`
spoil() {
    spoiled=$1
    cp -p "$1" saved
}
repair() { mv saved "$spoiled"; }

# ---- audio
strong=demo/desed/audio/train/strong_label_real_16k clip=YdemoR000002_80.000_90.000.wav
[ -e "$strong/$clip" ] || clip=$(cd $strong && find . -name 'YdemoR000002*' -printf '%f\n')
desed=(prepare --config data-desed.yaml --out desed.h5 --strict)
spoil "$strong/$clip"
rm "$strong/$clip"
refuse "a missing file" 65 "$clip" -- "${desed[@]}"
head -c 100000 saved >"$strong/$clip"
refuse "a truncated file" 65 "$clip" -- "${desed[@]}"
head -c 30 saved >"$strong/$clip"
refuse "half a header" 65 "$clip" -- "${desed[@]}"
echo "this is not audio" >"$strong/$clip"
refuse "a file that is not audio" 65 "$clip" -- "${desed[@]}"
: >"$strong/$clip"
refuse "an empty file" 65 "$clip" -- "${desed[@]}"
repair
recording=$(find demo/maestro/development_audio -name 'cafe_restaurant_00*')
spoil "$recording"
head -c 60000 saved >"$recording"
refuse "a truncated recording" 65 "$(basename "$recording")" -- prepare --config data-maestro.yaml --out maestro.h5 --strict
repair
spoil "$(find demo/audioset/audio/train -name '*000003*')"
rm "$spoiled"
refuse "a missing file of AudioSet" 65 "$(basename "$spoiled")" -- prepare --config data-as-strong.yaml --out as-strong.h5 --strict
repair

# ---- tables
table() { # table WHAT LINE TEXT... : the DESED table with line LINE replaced
    local what=$1 line=$2 new=$3
    shift 3
    cp saved "$spoiled"
    printf '%s\n' "$new" >line
    sed -i -e "${line}r line" -e "${line}d" "$spoiled"
    refuse "$what" 65 "$(basename "$spoiled"):$line" "$@" -- "${desed[@]}"
}
spoil demo/desed/metadata/train/audioset_strong.tsv
table "a wrong column" 1 $'filename\tonset\toffset\tlabel' event_label
table "an unknown class" 3 "$clip"$'\t1.0\t2.0\tTrumpet' Trumpet
table "a misspelt class" 3 "$clip"$'\t1.0\t2.0\tSpeach' Speach
table "a negative time" 4 "$clip"$'\t-1.0\t2.0\tSpeech' -1
table "a reversed time" 5 "$clip"$'\t3.0\t2.0\tSpeech' 3 2
table "a time that is no number" 2 "$clip"$'\tsoon\t2.0\tSpeech' soon
table "a time that is not finite" 2 "$clip"$'\tnan\t2.0\tSpeech' nan
table "a row without a field" 6 "$clip"$'\t1.0\t2.0' 3
table "a row with a field too many" 6 "$clip"$'\t1.0\t2.0\tSpeech\tx' 5
rm "$spoiled"
refuse "a missing table" 74 audioset_strong.tsv -- "${desed[@]}"
repair
spoil demo/maestro/metadata/maestro_real_train.tsv
sed -i '4s/[^\t]*$/1.5/' "$spoiled"
refuse "a confidence above 1" 65 maestro_real_train.tsv:4 1.5 -- prepare --config data-maestro.yaml --out maestro.h5 --strict
repair
spoil demo/desed/metadata/train/weak.tsv
sed -i '3s/\t.*/\tSpeech,Trumpet/' "$spoiled"
refuse "an unknown weak class" 65 weak.tsv:3 Trumpet -- "${desed[@]}"
repair
# Without --strict: all problems are listed, with file and row, and counted; the other clips are packed
spoil "$strong/$clip"
rm "$strong/$clip"
cp demo/desed/metadata/train/weak.tsv weak.saved
sed -i '3s/\t.*/\tSpeech,Trumpet/' demo/desed/metadata/train/weak.tsv
go 2 prepare --config data-desed.yaml --out lenient.store --left-out left.tsv --json lenient.json
[ $code = 0 ] && [ -z "$(errors)" ] || fail "prepare without --strict: code $code"
grep -q "audioset_strong.tsv:[0-9]*: ${clip%.wav}: no audio file" all_err && grep -q 'weak.tsv:3: .*Trumpet' all_err || fail "problems are not in the log"
grep -q "^${clip%.wav}.strong.no_audio" left.tsv && [ "$(wc -l <left.tsv)" = 3 ] || fail "--left-out: $(cat left.tsv)"
"$python" - <<'PY' || fail "--json of prepare: $(cat lenient.json)"
import json
r = json.load(open("lenient.json"))
sets = {s["name"]: s for s in r["sets"]}
assert len(r["problems"]) == 2 and sets["strong"]["no_audio"] == 1 and sets["weak"]["bad_row"] == 1, r
assert all(s["clips"] == sum(s[k] for k in ("in_store", "no_audio", "bad_audio", "bad_row", "empty", "listed", "overlap")) for s in r["sets"])
PY
untouched "prepare without --strict"
rm -f lenient.store left.tsv lenient.json
refuse "a download that failed" 65 "set strong" "prepare.min_share" audioset_strong.tsv -- prepare --config data-desed.yaml --out desed.h5 --set prepare.min_share=0.95
mv weak.saved demo/desed/metadata/train/weak.tsv
repair
refuse "no such folder" 74 demo/nowhere -- "${desed[@]}" --set prepare.root=demo/nowhere
refuse "no such subset" 64 prepare.subsets stronk -- "${desed[@]}" --set "prepare.subsets=[stronk]"
printf 'filename\tonset\toffset\tevent_label\nx.wav\t3\t2\tSpeech\n' >wrong.tsv
refuse "a wrong ground truth" 65 wrong.tsv:2 -- evaluate --predictions p.h5 --ground-truth wrong.tsv --durations demo/desed/metadata/validation/validation_durations.tsv

# ---- configuration
yaml() { # yaml WHAT LINE TEXT...: pre.yaml with a line more, which stands at the line that the error names
    local what=$1 line=$2
    shift 2
    { cat pre.yaml; echo "$line"; } >wrong.yaml
    refuse "$what" 64 "wrong.yaml:$(wc -l <wrong.yaml)" "$@" -- train --config wrong.yaml
}
yaml "an unknown key" "augment: {warp: 1}" augment.warp "unknown key"
yaml "a misspelt key" "schedule: {knid: cosine}" schedule.knid schedule.kind
yaml "an unknown section" "optimiser: {kind: adam}" optimiser optimizer
yaml "a value out of range" "augment: {mixup: 1.5}" augment.mixup 1.5 "from 0 to 1"
yaml "a value that is no number" "augment: {mixup: much}" augment.mixup much
yaml "no choice" "schedule: {kind: linear}" schedule.kind linear "cosine"
yaml "a key given twice" "run: {dir: runs/x}" run
yaml "no YAML" "augment: [mixup: }"
refuse "a key of another phase" 64 optimizer.crnn_lr phase -- train --config pre.yaml --set optimizer.crnn_lr=0.1
refuse "--set out of range" 64 --set train.leaves 100 -- train --config pre.yaml --set train.leaves=100
refuse "--set without a value" 64 --set -- train --config pre.yaml --set train.leaves
refuse "a missing configuration" 64 gone.yaml -- train --config gone.yaml
refuse "an unknown option" 64 --checkpiont --checkpoint -- predict --checkpiont x
refuse "no stores" 64 data.stores -- train --config pre.yaml --set "data.stores=[]"

# ---- stores
"$python" - <<'PY'
import shutil, h5py
def edit(src, name, change):
    shutil.copyfile(src, name)
    with h5py.File(name, "r+") as f:
        change(f)
edit("as-strong.h5", "other-version.h5x", lambda f: f.attrs.modify("earshot_version", 99))
edit("runs/pre/checkpoint-last.h5", "other-ckpt-version.h5x", lambda f: f.attrs.modify("earshot_version", 99))
edit("runs/pre/checkpoint-last.h5", "unfinished.h5x", lambda f: f["meta"].attrs.modify("complete", 0))
def flip(f):
    d = f["student/strong_head.weight"]
    v = d[...]; v.flat[3] += 1; d[...] = v
edit("runs/pre/checkpoint-last.h5", "flipped.h5x", flip)
PY
rename 's/h5x$/store/' ./*.h5x 2>/dev/null || for f in *.h5x; do mv "$f" "${f%.h5x}.store"; done # not among the outputs
head -c 200000 as-strong.h5 >cut.store
echo "this is not HDF5" >text.store
train=(train --config pre.yaml --set run.dir=runs/new)
refuse "a store of another version" 65 other-version.store 99 1 -- "${train[@]}" --set "data.stores=[other-version.store]"
refuse "a truncated store" 65 cut.store -- "${train[@]}" --set "data.stores=[cut.store]"
refuse "a store that is not HDF5" 65 text.store -- "${train[@]}" --set "data.stores=[text.store]"
refuse "a missing store" 74 gone.h5 "No such file" -- "${train[@]}" --set "data.stores=[gone.h5]"
refuse "a checkpoint for a store" 65 checkpoint-last.h5 checkpoint store -- "${train[@]}" --set "data.stores=[runs/pre/checkpoint-last.h5]"
refuse "a store of the wrong corpus" 65 data.stores AudioSet-strong -- "${train[@]}" --set "data.stores=[desed.h5]"
refuse "predict with another version" 65 other-version.store 99 -- predict --checkpoint runs/pre/checkpoint-last.h5 --store other-version.store --out q.h5

# ---- checkpoints
refuse "weights of another width" 65 runs/pre/checkpoint-last.h5 -- train --config stage1.yaml --set run.dir=runs/new --set model.dim=48 --set model.heads=2
refuse "resume from another model" 64 runs/pre/checkpoint-last.h5 model.dim -- train --config pre.yaml --set run.dir=runs/new --set model.dim=48 --resume runs/pre/checkpoint-last.h5
refuse "resume from another phase" 64 runs/pre/checkpoint-last.h5 phase -- train --config stage1.yaml --set run.dir=runs/new --resume runs/pre/checkpoint-last.h5
refuse "a checkpoint of another version" 65 other-ckpt-version.store 99 -- "${train[@]}" --resume other-ckpt-version.store
refuse "an unfinished checkpoint" 65 unfinished.store -- "${train[@]}" --resume unfinished.store
refuse "a checkpoint with a flipped value" 65 flipped.store strong_head.weight -- "${train[@]}" --resume flipped.store
refuse "no checkpoint to resume from" 74 gone.h5 -- "${train[@]}" --resume gone.h5
refuse "no weights to start from" 74 gone.h5 -- train --config stage1.yaml --set run.dir=runs/new --set model.init=gone.h5
refuse "predict for another corpus" 65 desed.h5 27 -- predict --checkpoint runs/pre/checkpoint-last.h5 --store desed.h5 --out q.h5
refuse "predict with a store for a checkpoint" 65 desed.h5 -- predict --checkpoint desed.h5 --store desed.h5 --out q.h5
refuse "a teacher that is not there" 65 runs/pre/checkpoint-last.h5 teacher -- predict --checkpoint runs/pre/checkpoint-last.h5 --which teacher --store as-strong.h5 --out q.h5
refuse "clips without pseudo-labels" 65 data.pseudo cafe_restaurant_00 -- train --config stage1.yaml --set run.dir=runs/new --set loss.pseudo=1 --set "data.pseudo=[p.h5]"
head -c 30000 p.h5 >p.store
refuse "truncated pseudo-labels" 65 p.store -- ensemble --out q.h5 p.h5 p.store
refuse "metrics of something else" 65 as-strong.h5 -- metrics as-strong.h5

# ---- a full disk
small=$work/small
mkdir "$small"
if mount -t tmpfs -o size=2m tmpfs "$small" 2>/dev/null; then
    trap 'umount "$small"; toy_end' EXIT
    # `fill N`: N KiB are left. Then a run of 2 steps, with its checkpoint (0.45 MB) on that disk
    fill() { head -c $((($(df --output=avail -k "$small" | tail -n 1) - $1) * 1024)) /dev/zero >"$small/filler"; }
    run=(train --config pre.yaml --set run.dir=small/run)
    ok 2 "${run[@]}" --set train.max_steps=2
    keep
    fill 64
    refuse "full disk: prepare" 74 small/ "No space left" -- prepare --config data-desed.yaml --out small/desed.h5
    refuse "full disk: predict" 74 small/ "No space left" -- predict --checkpoint runs/stage1/checkpoint-last.h5 --store desed.h5 --out small/p.h5
    rm -f small/*.part
    refuse "full disk: ensemble" 74 small/ "No space left" -- ensemble --out small/e.h5 p.h5 p.h5
    rm -f small/*.part
    refuse "full disk: demo" 74 small/ "No space left" -- demo --config demo.yaml --out small/demo --sounds ""
    rm -rf small/demo
    sed -i '/small.*\(metrics.h5\|config.yaml\)/d' sums # train.max_steps stands in it; rows before the checkpoint that fails
    refuse "full disk: a checkpoint" 74 small/run/ "No space left" -- "${run[@]}" --set train.max_steps=3
    rm small/filler
    fill 1
    refuse "full disk: configuration" 74 small/run/ "No space left" -- "${run[@]}" --set train.max_steps=3
    rm small/filler
    ok 2 "${run[@]}" --set train.max_steps=3 # there is room again
    ok 1 train --config pre.yaml --set run.dir=runs/roomy --set train.max_steps=3
    same_runs runs/roomy small/run
    umount "$small"
    trap toy_end EXIT
else
    echo "skipped: full disk: a small file system cannot be mounted here"
fi
keep

# ---- no permission: as a user who is not root, for whom modes count
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp)
fi
chmod 755 "$work"
mkdir locked
chmod 555 locked
cp -p desed.h5 secret.store
chmod 000 secret.store
go 1 --version
if [ $code = 0 ]; then
    refuse "may not write: prepare" 74 locked/ "Permission denied" -- prepare --config data-desed.yaml --out locked/desed.h5
    refuse "may not write: predict" 74 locked/ "Permission denied" -- predict --checkpoint runs/stage1/checkpoint-last.h5 --store desed.h5 --out locked/p.h5
    refuse "may not write: ensemble" 74 locked/ "Permission denied" -- ensemble --out locked/e.h5 p.h5 p.h5
    refuse "may not write: train" 74 locked/run "Permission denied" -- train --config pre.yaml --set run.dir=locked/run
    refuse "may not write: demo" 74 locked/demo "Permission denied" -- demo --config demo.yaml --out locked/demo --sounds ""
    refuse "may not write: --json" 74 locked/x.json "Permission denied" -- metrics runs/pre/metrics.h5 --json locked/x.json
    refuse "may not write: --csv" 74 locked/x.csv "Permission denied" -- metrics runs/pre/metrics.h5 --csv locked/x.csv
    refuse "may not read: train" 74 secret.store "Permission denied" -- train --config pre.yaml --set run.dir=locked/run --set "data.stores=[secret.store]"
else
    echo "skipped: no permission: user 65534 cannot run $earshot here"
fi
as=()
chmod 700 locked
echo "$items items"
done_testing
