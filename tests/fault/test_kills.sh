#!/bin/bash
# LABEL kills TIMEOUT 7200
# ES_TEST_KILLS (100) kills of a toy run under a loop that starts it again: of a rank at random moments, of a rank in the middle of
# a checkpoint's write and of a metrics flush (fault injection slows and places them), of the launcher. After each: the job ends within
# 60 s, every file with a whole file's name is whole. In the end: the losses and the digests (last and best checkpoint) of a run that was
# left alone. Runs that get through are compared and followed by another until the kills are used up. Prints the histogram. ES_TEST_SEED chooses the moments.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
kills=${ES_TEST_KILLS:-100}
RANDOM=${ES_TEST_SEED:-1}
echo "seed ${ES_TEST_SEED:-1}, $kills kills"
toy_demo
ok 1 prepare --config data-as-strong.yaml --out as-strong.h5
toy_configs
run=(train --config pre.yaml --set train.epochs=30 --set train.validate_every=10 --set checkpoint.every_steps=2 --set metrics.flush_seconds=0.2)
ok 2 "${run[@]}" --set run.dir=runs/whole
[ $failures = 0 ] || done_testing

declare -A done_kills=([step]=0 [write]=0 [metrics]=0 [launcher]=0) slowest=([step]=0 [write]=0 [metrics]=0 [launcher]=0)
# Every fifth kill is in a checkpoint's write, every tenth in a metrics flush, every tenth of the launcher
kind_of() {
    case $(($1 % 10)) in
    1 | 4 | 8) echo write ;;
    3 | 6) echo metrics ;;
    5 | 9) echo launcher ;;
    *) echo step ;;
    esac
}
whole_files() {
    local file
    for file in "$1"/*.h5; do
        [ -e "$file" ] || continue
        digest "$file" >/dev/null 2>all_err || fail "$file is not readable after a kill ($2)"
    done
}
same_as_whole() {
    same_runs runs/whole "$1"
    [ "$(digest runs/whole/checkpoint-best.h5)" = "$(digest "$1/checkpoint-best.h5")" ] || fail "$1: another best checkpoint"
}
run_ranks() { pgrep -f "run.dir=$1( |\$)"; }

n=0 tries=0 completed=0 dir=runs/1
while [ $n -lt "$kills" ] && [ $tries -lt $((3 * kills + 10)) ] && [ $failures -lt 5 ]; do
    tries=$((tries + 1))
    kind=$(kind_of $n) np=$((1 << (1 + RANDOM % 2))) # 2 or 4 ranks
    fault=slow-step:10
    case $kind in
    write) fault=slow-write:5,kill-write:$((RANDOM % 60 + 1))@rank$((RANDOM % np)) ;;
    metrics) fault=slow-step:10,kill-metrics:$((RANDOM % 6 + 1))@rank0 ;;
    esac
    export ES_FAULT=$fault
    launch $np "${run[@]}" --set run.dir=$dir
    unset ES_FAULT
    case $kind in
    step | launcher)
        while kill -0 "$launched" 2>/dev/null && [ -z "$(ranks)" ]; do sleep 0.05; done
        sleep "$((RANDOM % 4)).$((RANDOM % 90 + 10))"
        begin=$SECONDS
        if [ "$kind" = launcher ]; then victim=$launcher; else victim=$(ranks | shuf -n 1 --random-source=<(yes "$RANDOM")); fi
        [ -z "$victim" ] || kill -KILL "$victim" 2>/dev/null
        ;;
    *) begin=$SECONDS ;;
    esac
    finish
    [ "$kind" = step ] || [ "$kind" = launcher ] || begin=$SECONDS # killed itself at a moment we do not know
    for _ in $(seq 600); do [ -n "$(run_ranks $dir)" ] || break; sleep 0.1; done
    took=$((SECONDS - begin))
    [ $took -le 60 ] && [ -z "$(run_ranks $dir)" ] || fail "$kind: the job took $took s to end"
    whole_files $dir "$kind"
    if [ "$code" = 0 ]; then
        same_as_whole $dir
        completed=$((completed + 1))
        dir=runs/$((completed + 1))
        rm -rf "runs/$completed"
    else
        # a rank or the launcher was killed: 137; or a rank found its partner gone before the launcher did: 74
        [ "$code" = 137 ] || [ "$code" = 74 ] || fail "$kind: code $code, want 137 or 74"
        n=$((n + 1))
        done_kills[$kind]=$((done_kills[$kind] + 1))
        [ $took -le "${slowest[$kind]}" ] || slowest[$kind]=$took
    fi
done
ok 2 "${run[@]}" --set run.dir=$dir
same_as_whole $dir
for kind in step write metrics launcher; do
    printf '%-9s %3d kills, slowest end %2d s  %s\n' $kind "${done_kills[$kind]}" "${slowest[$kind]}" "$(printf '%*s' "${done_kills[$kind]}" '' | tr ' ' '#')"
done
echo "$((completed + 1)) runs completed, $tries starts"
[ $n -ge "$kills" ] || fail "$n kills, want $kills"
find runs -name '*.bad' | grep -q . && fail "a kill damaged a checkpoint"
done_testing
