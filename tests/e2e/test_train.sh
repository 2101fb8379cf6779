#!/bin/bash
# TIMEOUT 600
# Training through the program: one curve, bit for bit, on any number of ranks and across stops of every kind; prediction and
# ensembles; what is refused.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
[ $failures = 0 ] || done_testing

# ---- pre-training on 1, 2 and 4 ranks
for np in 1 2 4; do
    ok $np train --config pre.yaml --set run.dir=runs/pre$np --json pre$np.json
    [ $np = 1 ] || same_runs runs/pre1 runs/pre$np
done
mv runs/pre1 runs/pre
files=$(cd runs/pre && echo *)
[ "$files" = "checkpoint-best.h5 checkpoint-last.h5 config.yaml log.txt metrics.h5" ] || fail "files of a run: $files"
whole=$(digest runs/pre/checkpoint-last.h5)
[[ $whole =~ ^[0-9a-f]{16}$ ]] || fail "inspect --digest printed '$whole'"
grep -q '"step": 6, "total_steps": 6, "stopped": false' pre2.json || fail "train --json: $(cat pre2.json)"
ok 2 train --config pre.yaml --set run.dir=runs/other --set run.seed=7
[ "$whole" != "$(digest runs/other/checkpoint-last.h5)" ] || fail "another seed gives the same checkpoint"
"$python" "$EARSHOT_SOURCE/analysis/compare_runs.py" runs/pre runs/other >/dev/null && fail "compare_runs finds another seed the same"

# ---- stop after 3 steps, at a validation; go on with another number of ranks
while read -r before after; do
    run=runs/halves$before$after
    ok "$before" train --config pre.yaml --set run.dir="$run" --set train.max_steps=3
    ok "$after" train --config pre.yaml --set run.dir="$run" --set run.log_level=warn
    same_runs runs/pre "$run"
    [ -e "$run"/checkpoint-prev.h5 ] || fail "$run: no checkpoint-prev.h5"
done <<PAIRS
1 4
2 1
4 2
PAIRS
ok 2 train --config pre.yaml --set run.dir=runs/third --resume runs/halves21/checkpoint-prev.h5
[ "$(digest runs/third/checkpoint-last.h5)" = "$whole" ] || fail "--resume FILE from step 3"

# ---- a finished run is left alone, and at once (its folder has a new name: config.yaml is written once more)
ok 1 train --config pre.yaml
sha256sum runs/pre/*.h5 runs/pre/config.yaml >sums
ok 2 train --config pre.yaml
[ $seconds -le 20 ] && grep -q '^step 6 of 6' out && sha256sum --quiet -c sums || fail "a finished run: $seconds s"

# ---- other values of a key: 64, the key by name, nothing changed
cp as-strong.h5 copy.h5
for change in optimizer.head_lr=0.01 train.epochs=3 run.seed=43 "data.stores=[copy.h5]"; do
    go 2 train --config pre.yaml --set "$change"
    [ $code = 64 ] && [ "$(errors | wc -l)" = 1 ] && errors | grep -q "other values of ${change%%=*};" && sha256sum --quiet -c sums ||
        fail "resume with $change: code $code"
done

# ---- numbers of ranks that cannot share 8 leaves
for np in 3 16; do
    go $np train --config pre.yaml --set run.dir=runs/never
    [ $code = 64 ] && [ "$(errors | wc -l)" = 1 ] && errors | grep -q "ranks: got $np, want a power of two up to 8 " || fail "$np ranks: code $code"
done

# ---- signals in mid-run; then the same command again, on other numbers of ranks
long=(train --config pre.yaml --set train.epochs=30)
ok 2 "${long[@]}" --set run.dir=runs/long
# stop SIGNAL WHOM: two stops, then to the end. WHOM: launcher, ranks or one
stop() {
    local signal=$1 whom=$2 run=runs/$1-$2 stops=0 np
    for np in 2 4 1 2 4 1; do
        touch mark
        launch $np "${long[@]}" --set run.dir="$run"
        if [ $stops -lt 2 ] && until_newer "$run/metrics.h5" mark; then
            sleep 0.$((RANDOM % 4))
            case $whom in
            launcher) kill -"$signal" "$launcher" ;;
            ranks) ranks | xargs -r kill -"$signal" ;;
            one) ranks | shuf -n 1 | xargs -r kill -"$signal" ;;
            esac
        fi
        finish
        [ -z "$(errors)" ] || fail "$signal to $whom: errors"
        [ $code != 0 ] || break
        stops=$((stops + 1))
        if [ "$signal-$whom" = TERM-launcher ]; then continue; fi # Open MPI's mpiexec then has a code of its own
        [ $code = 75 ] || fail "$signal to $whom: code $code, want 75"
    done
    [ $code = 0 ] && [ $stops -ge 1 ] || fail "$signal to $whom: $stops stops, at last code $code"
    same_runs runs/long "$run"
}
stop USR1 launcher
stop TERM launcher
stop TERM ranks
stop INT ranks
stop USR1 one

# ---- stages 1 and 2, with a teacher, dropout and interpolation consistency
for np in 1 2 4 8; do # 4 leaves: the last four of 8 ranks only help with the frozen transformer
    ok $np train --config stage1.yaml --set run.dir=runs/stage1.$np
    [ $np = 1 ] || same_runs runs/stage1.1 runs/stage1.$np
done
mv runs/stage1.1 runs/stage1
for np in 1 2 4; do
    ok $np train --config stage2.yaml --set run.dir=runs/stage2.$np
    [ $np = 1 ] || same_runs runs/stage2.1 runs/stage2.$np
done
mv runs/stage2.1 runs/stage2
ok 2 train --config stage2.yaml --set run.dir=runs/stage2.halves --set train.max_steps=1
ok 4 train --config stage2.yaml --set run.dir=runs/stage2.halves
same_runs runs/stage2 runs/stage2.halves

# ---- predictions on any number of ranks
for np in 1 2 3 4; do
    ok $np predict --checkpoint runs/stage2/checkpoint-last.h5 --store desed.h5 --set predict.block=2 --out p$np.h5
    [ "$(digest p$np.h5)" = "$(digest p1.h5)" ] || fail "predict on $np ranks"
done
ok 3 predict --checkpoint runs/stage2/checkpoint-last.h5 --store desed.h5 --set predict.block=2 --which teacher --out teacher.h5
[ "$(digest teacher.h5)" != "$(digest p1.h5)" ] || fail "the teacher predicts what the student does"
ok 2 predict --checkpoint runs/stage2/checkpoint-last.h5 --store maestro.h5 --out m.h5
ok 1 predict --checkpoint runs/stage2/checkpoint-last.h5 --store desed.h5 --subset validation --out v.h5

# ---- ensembles, and files that do not belong together
for np in 1 3; do ok $np ensemble --out e$np.h5 p1.h5 teacher.h5; done
[ "$(digest e1.h5)" = "$(digest e3.h5)" ] || fail "ensemble on 3 ranks"
"$python" - <<'PY' || fail "the ensemble is not the mean"
import h5py, numpy as np
a, b, e = (h5py.File(f)["strong_logits"][...].astype(float) for f in ("p1.h5", "teacher.h5", "e1.h5"))
assert a.shape == (23, 156, 27) and np.abs(a - b).max() > 1e-3 and np.abs((a + b) / 2 - e).max() < 1e-6
for name, change in (("names", "filenames"), ("frames", "strong_logits"), ("classes", "classes")):
    with h5py.File("p1.h5") as src, h5py.File(f"bad-{name}.h5", "w") as dst:
        dst.attrs.update(src.attrs)
        for k in src:
            v = src[k][...]
            if k == change:
                v = v[:, :-1] if k == "strong_logits" else np.concatenate([v[:-1], np.array([b"other"], v.dtype)])
            dst[k] = v
PY
for what in names frames classes; do
    go 2 ensemble --out bad.h5 p1.h5 bad-$what.h5
    [ $code = 65 ] && [ "$(errors | wc -l)" = 1 ] && errors | grep -q "bad-$what.h5" && [ ! -e bad.h5 ] || fail "ensemble with other $what: code $code"
done
go 2 ensemble --out bad.h5 p1.h5 v.h5
[ $code = 65 ] && [ "$(errors | wc -l)" = 1 ] && [ ! -e bad.h5 ] || fail "ensemble with fewer clips: code $code"
go 2 ensemble --out bad.h5 p1.h5 m.h5
[ $code = 65 ] && [ "$(errors | wc -l)" = 1 ] && [ ! -e bad.h5 ] || fail "ensemble of two corpora: code $code"

# ---- pseudo-labels into stage 1 of the second iteration
ok 1 ensemble --out pseudo-m.h5 m.h5
it2=(train --config stage1.yaml --set loss.pseudo=1.5 --set "data.pseudo=[e1.h5, pseudo-m.h5]")
for np in 1 2; do ok $np "${it2[@]}" --set run.dir=runs/it2.$np; done
same_runs runs/it2.1 runs/it2.2
"$python" "$EARSHOT_SOURCE/analysis/compare_runs.py" runs/stage1 runs/it2.1 >/dev/null && fail "pseudo-labels change nothing"

# ---- the log as a table of numbers
ok 1 metrics runs/pre/metrics.h5 runs/stage2/metrics.h5 --csv all.csv
"$python" - <<'PY' || fail "metrics --csv"
import csv, h5py
rows = list(csv.DictReader(open("all.csv")))
for run, n in (("runs/pre/metrics.h5", 6), ("runs/stage2/metrics.h5", 4)):
    want = h5py.File(run)["step/loss"][...]
    got = [float(r["value"]) for r in rows if r["run"] == run and r["column"] == "step/loss"]
    assert got == list(want) and len(got) == n, (run, got, want)
    assert [r["step"] for r in rows if r["run"] == run and r["column"] == "step/loss"] == [str(i) for i in range(n)]
PY
# metrics --follow: waits for a run that has only begun, shows every row once, ends with the run
mkdir runs/live
timeout 120 "$earshot" metrics runs/live/metrics.h5 --follow --last 1000 >followed 2>followed_err &
follower=$!
ok 2 train --config pre.yaml --set run.dir=runs/live --set train.max_steps=3
ok 2 train --config pre.yaml --set run.dir=runs/live
wait $follower || fail "metrics --follow: $(cat followed_err)"
rows() { grep -cE "^ +$1 " followed; }
[ "$(rows 0) $(rows 1) $(rows 2)" = "1 1 3" ] || fail "metrics --follow: $(cat followed)" # step 2 ends an epoch and a run: validation, checkpoint
grep -q 'gradient_norm' followed || fail "metrics --follow: no head"
ok 1 metrics runs/pre/metrics.h5 --last 2
[ "$(grep -cE '^ +[245] ' out)" = 5 ] && [ "$(grep -cE '^ +[013] ' out)" = 0 ] || fail "metrics --last 2"
done_testing
