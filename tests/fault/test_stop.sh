#!/bin/bash
# TIMEOUT 400
# A stop signal is answered within one step and the write: steps last a second (fault injection), the signal comes into one of them; the
# run ends with code 75 and a whole checkpoint of the end of that step. Also with a slow background write under way.
# What is counted is steps, not seconds; the time is printed.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_demo
ok 1 prepare --config data-as-strong.yaml --out as-strong.h5
toy_configs
[ $failures = 0 ] || done_testing
run=(train --config pre.yaml --set train.epochs=10 --set train.validate_every=0)
rows() { "$python" -c 'import h5py, sys; print(len(h5py.File(sys.argv[1])["/step/loss"]))' "$1/metrics.h5" 2>/dev/null || echo 0; }

# stop NAME NP SIGNAL FAULT ARGS...: signal to every rank once two steps are in the metrics, which are written after every step
stop() {
    local name=$1 np=$2 signal=$3 fault=$4 done_before step begin
    shift 4
    ES_FAULT=$fault launch "$np" "${run[@]}" --set run.dir="runs/$name" "$@"
    while kill -0 "$launched" 2>/dev/null && [ "$(rows "runs/$name")" -lt 2 ]; do sleep 0.05; done
    ranks | xargs -r kill -"$signal"
    begin=$(date +%s%N)
    done_before=$(rows "runs/$name")
    finish
    step=$("$earshot" inspect "runs/$name/checkpoint-last.h5" | sed -n 's/^step \([0-9]*\),.*/\1/p')
    echo "$name: $done_before steps done, stopped with $step after $((($(date +%s%N) - begin) / 1000000)) ms"
    [ $code = 75 ] && [ -z "$(errors)" ] || fail "$name: code $code, want 75"
    # the step that the signal met; one more, should it have ended between the count and the signal
    [ "${step:-0}" -ge "$done_before" ] && [ "${step:-99}" -le $((done_before + 2)) ] || fail "$name: stopped at step ${step:-none}"
    digest "runs/$name/checkpoint-last.h5" >/dev/null || fail "$name: no whole checkpoint"
}
for np in 1 2 4; do stop usr1-$np $np USR1 slow-step:$((1000 * np / 8)); done # 8 leaves a step: a second on any number of ranks
stop term 2 TERM slow-step:250
stop write 2 USR1 slow-step:250,slow-write:40 --set checkpoint.every_steps=1
stop waits 2 USR1 slow-step:250,slow-write:10 --set checkpoint.every_steps=1 --set checkpoint.background=false

# the same command goes on from there
ok 2 "${run[@]}" --set run.dir=runs/calm
for name in usr1-1 usr1-4 write; do
    ok 2 "${run[@]}" --set run.dir=runs/$name --set checkpoint.every_steps=0
    same_runs runs/calm runs/$name
done
done_testing
