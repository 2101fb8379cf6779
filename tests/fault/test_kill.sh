#!/bin/bash
# TIMEOUT 300
# A rank that is killed, or hangs, at any moment: the job ends by itself, what was whole stays whole, the same command again
# ends where an undisturbed run ends, bit for bit. ES_TEST_SEED chooses the moments.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
RANDOM=${ES_TEST_SEED:-1}
echo "seed ${ES_TEST_SEED:-1}"
toy_stores
toy_configs
# metrics are written with checkpoints only
run=(train --config pre.yaml --set train.epochs=10 --set checkpoint.every_steps=1 --set metrics.flush_seconds=1000)
ok 2 "${run[@]}" --set run.dir=runs/whole
[ $failures = 0 ] || done_testing

# The step of the newest complete checkpoint of a folder; every file that has a checkpoint's name must be a whole one
newest_step() {
    local file step newest=0
    for file in "$1"/checkpoint-*.h5; do
        [ -e "$file" ] || continue
        step=$("$earshot" inspect "$file" 2>all_err | sed -n 's/^step \([0-9]*\), .*/\1/p')
        [ -n "$step" ] && digest "$file" >/dev/null 2>>all_err || { fail "$file is no whole checkpoint" >&2; return; }
        case $file in *best*) continue ;; esac
        [ "$step" -le "$newest" ] || newest=$step
    done
    echo "$newest"
}

# ---- kill -9 of one rank at some moment of step, validation or checkpoint
last=0 killed=0
for np in 2 4 1 2 4 2; do
    touch mark
    launch $np "${run[@]}" --set run.dir=runs/killed
    until_newer runs/killed/metrics.h5 mark && sleep "0.$((RANDOM % 70 + 10))"
    victim=$(ranks | shuf -n 1 --random-source=<(yes "$RANDOM"))
    begin=$SECONDS
    [ -n "$victim" ] && kill -KILL "$victim" 2>/dev/null && killed=$((killed + 1))
    finish
    [ $((SECONDS - begin)) -le 60 ] || fail "the job took $((SECONDS - begin)) s to end"
    step=$(newest_step runs/killed)
    echo "killed one of $np ranks: code $code after $((SECONDS - begin)) s, checkpoint of step $step"
    [ $code != 0 ] || break # it was faster
    [ "$step" -ge "$last" ] || fail "the checkpoint of step $last is gone, $step is left"
    last=$step
done
[ $killed -ge 2 ] && [ "$last" -ge 1 ] || fail "$killed kills, last at step $last: too few to say anything"
ok 4 "${run[@]}" --set run.dir=runs/killed
same_runs runs/whole runs/killed
[ "$(find runs/killed -name '*.bad' | wc -l)" = 0 ] || fail "a kill damaged a checkpoint"
left=$(cd runs/killed && echo *)
echo "left in the folder: $left"

# ---- the same at a given leaf, the first of all and one in mid-run; and without any checkpoint in between
for fault in kill-step:1@rank0 kill-step:9@rank1 kill-step:30@rank0; do
    dir=runs/${fault//[:@]/-}
    ES_FAULT=$fault go 2 "${run[@]}" --set run.dir="$dir" --set checkpoint.every_steps=0
    [ $code = 137 ] && [ $seconds -le 60 ] || fail "$fault: code $code after $seconds s, want 137"
    [ "$(newest_step "$dir")" = 0 ] || fail "$fault: a checkpoint out of nothing"
    ok 4 "${run[@]}" --set run.dir="$dir"
    same_runs runs/whole "$dir"
done

# ---- a rank that hangs is found by the watchdog, which says where
ES_FAULT=stall-step:20@rank1 go 2 "${run[@]}" --set run.dir=runs/stall --set watchdog.timeout_s=3
[ $code = 74 ] && [ $seconds -le 60 ] && errors | grep -q 'rank 1: no progress for 3 s in phase step, step ' || fail "stall: code $code after $seconds s"
ok 2 "${run[@]}" --set run.dir=runs/stall
same_runs runs/whole runs/stall

# ---- a NaN in a gradient: 65 before it reaches a parameter, and the run goes on from its checkpoint
ES_FAULT=nan:50@rank1 go 2 "${run[@]}" --set run.dir=runs/nan
[ $code = 65 ] && [ "$(errors | wc -l)" = 1 ] && errors | grep -q 'the norm of the gradient is' || fail "nan: code $code"
ok 2 "${run[@]}" --set run.dir=runs/nan
same_runs runs/whole runs/nan

# ---- checkpoint-last cut short by a broken disk: back to checkpoint-prev
ok 2 "${run[@]}" --set run.dir=runs/cut --set train.max_steps=4
truncate -s -4096 runs/cut/checkpoint-last.h5
go 2 "${run[@]}" --set run.dir=runs/cut
[ $code = 0 ] && grep -q 'going back to runs/cut/checkpoint-prev.h5' all_err || fail "a cut checkpoint: code $code"
same_runs runs/whole runs/cut

# ---- predict: a kill leaves a part that is not taken for the whole, and goes on
checkpoint=runs/whole/checkpoint-last.h5
ok 2 predict --checkpoint $checkpoint --store as-strong.h5 --set predict.block=1 --out whole.h5
for wait in 1 3; do
    rm -f p.h5 p.h5.part
    launch 2 predict --checkpoint $checkpoint --store as-strong.h5 --set predict.block=1 --out p.h5
    while kill -0 "$launched" 2>/dev/null && [ ! -e p.h5.part ] && [ ! -e p.h5 ]; do sleep 0.02; done
    sleep 0.0$wait
    ranks | head -n 1 | xargs -r kill -KILL 2>/dev/null
    finish
    echo "predict killed: code $code, $(ls p.h5*)"
    [ ! -e p.h5 ] || [ "$(digest p.h5)" = "$(digest whole.h5)" ] || fail "predict: killed, but p.h5 is there"
    ok 3 predict --checkpoint $checkpoint --store as-strong.h5 --set predict.block=1 --out p.h5
    [ "$(digest p.h5)" = "$(digest whole.h5)" ] && [ ! -e p.h5.part ] || fail "predict after a kill"
done

# ---- prepare: a store is there whole or not at all
for wait in 0 1 3; do
    rm -f again.h5
    launch 2 prepare --config data-maestro.yaml --out again.h5
    while kill -0 "$launched" 2>/dev/null && [ -z "$(ranks)" ]; do sleep 0.02; done
    sleep 0.3$wait
    ranks | tail -n 1 | xargs -r kill -KILL 2>/dev/null
    finish
    echo "prepare killed: code $code, $(find . -maxdepth 1 -name 'again.h5*')"
    [ ! -e again.h5 ] || [ "$(digest again.h5)" = "$(digest maestro.h5)" ] || fail "prepare: killed, but a store is there"
    ok 2 prepare --config data-maestro.yaml --out again.h5
    [ "$(digest again.h5)" = "$(digest maestro.h5)" ] || fail "prepare after a kill"
done
done_testing
