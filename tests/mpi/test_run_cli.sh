#!/bin/bash
# TIMEOUT 240
# Every way to start a job, right and wrong, on 1 and 2 ranks: exit code, one line on stderr, output printed once.
# shellcheck disable=SC2015,SC2086  # fail has no failure of its own; $launch and $np are words
set -u
job=$EARSHOT_BUILD/tests/mpi-test_run
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
cores=$(env -u OMP_NUM_THREADS nproc) # nproc itself obeys OMP_NUM_THREADS

# go NP args...: runs the job; leaves code, out, err (our lines on stderr, without the launcher's)
go() {
    local np=$1
    shift
    local launch="mpiexec --oversubscribe --bind-to ${bind:-none} -n $np"
    [ "$np" = 1 ] && launch=
    timeout 60 $launch "$job" "$@" >out 2>all_err
    code=$?
    grep -E '^(earshot|hint)' all_err >err
    return 0
}
fail() {
    echo "FAILED: $*: code $code"
    sed 's/^/  out: /' out
    sed 's/^/  err: /' all_err
    failures=$((failures + 1))
}
# refuse NP CODE TEXT args...: exit code and exactly one line that holds TEXT, nothing on stdout
refuse() {
    local np=$1 want=$2 text=$3
    shift 3
    go "$np" "$@"
    [ "$code" = "$want" ] && [ "$(wc -l <err)" = 1 ] && grep -qF -- "earshot train: $text" err && [ ! -s out ] ||
        fail "np$np want $want '$text':" "$@"
}

printf 'train:\n  leaves: 4\n' >good.yaml
printf 'train:\n  leafs: 4\n' >misspelt.yaml
printf '\noptimizer: {cnn_lr: fast}\n' >range.yaml
printf 'train:\n\tleaves: 4\n' >tab.yaml
# shellcheck disable=SC2016  # the variable is for the configuration
printf 'run.seed: 1\nmodel.init: ${ES_TEST_PLACE:-here}\n' >place.yaml

for np in 1 2; do
    go $np --help
    [ $code = 0 ] && [ ! -s err ] && [ "$(grep -c '^usage: earshot train' out)" = 1 ] && [ "$(wc -l <out)" -le 80 ] || fail "np$np --help"
    go $np --bogus --help
    [ $code = 0 ] && [ "$(grep -c '^usage: earshot train' out)" = 1 ] || fail "np$np --help beside an error"
    go $np --config good.yaml a b --json out.json
    [ $code = 0 ] && [ ! -s err ] && [ "$(cat out)" = "$(printf 'leaves 4 from good.yaml:2\noperand a\noperand b')" ] || fail "np$np plain run"
    grep -q "^{\"ranks\": $np, .*\"out\": null, \"leaves\": 4}$" out.json || { cat out.json; fail "np$np --json file"; }
    go $np --config=good.yaml --set train.leaves=8 --json - --out x
    [ $code = 0 ] && [ "$(wc -l <out)" = 1 ] && grep -q '"out": "x", "leaves": 8}$' out || fail "np$np --json -"
    go $np --explain train.leaves --config good.yaml
    [ $code = 0 ] && grep -q 'here: *4, from good.yaml:2' out && [ "$(grep -c 'train.leaves:' out)" = 1 ] || fail "np$np --explain"

    refuse $np 64 'misspelt.yaml:2: train.leafs: unknown key, nearest is train.leaves; see earshot train --explain train.leaves' --config misspelt.yaml
    refuse $np 64 'range.yaml:2: optimizer.cnn_lr: got "fast", want a number > 0; see earshot train --explain optimizer.cnn_lr' --config range.yaml
    refuse $np 64 '--set: train.leaves: got "100", want an integer from 1 to 64; see' --set train.leaves=100
    refuse $np 64 'gone.yaml: cannot open the configuration: No such file' --config gone.yaml
    refuse $np 64 '--explain: leaves: unknown key, nearest is train.leaves' --explain leaves
    refuse $np 64 '--otu: unknown option, nearest is --out; see earshot train --help' --otu x
    go $np --json no/such/x.json
    [ $code = 74 ] && [ "$(wc -l <err)" = 1 ] && grep -q -e '--json: no/such/x.json: No such file or directory$' err || fail "np$np --json folder"

    # one rank fails alone: its message, its hint, and the JSON file of the last good run untouched
    go $np --fail $((np - 1)) --json out.json
    blame=
    [ $np = 2 ] && blame='rank 1: '
    [ $code = 65 ] && [ "$(cat err)" = "$(printf 'earshot train: %sa.h5:/x: got 1, want 2\nhint: write it again' "$blame")" ] &&
        grep -q '"leaves": 4}' out.json && [ "$(ls out.json*)" = out.json ] || fail "np$np one rank fails"
    go $np --stop
    [ $code = 75 ] && [ ! -s err ] || fail "np$np stopped early"
    go $np --bug
    [ $code = 70 ] && grep -q 'this is a bug' err || fail "np$np bug"
    go $np --stall --set watchdog.timeout_s=1
    [ $code = 74 ] && grep -q 'no progress' err || fail "np$np stall"
    # threads: what the key says, else the cores over the ranks on them, at most OMP_NUM_THREADS
    OMP_NUM_THREADS=1 go $np --json -
    grep -q '"threads": 1,' out || fail "np$np OMP_NUM_THREADS"
    OMP_NUM_THREADS=1 go $np --json - --set threads_per_rank=2
    grep -q '"threads": 2,' out || fail "np$np threads_per_rank"
    each=$((cores / np))
    OMP_NUM_THREADS=1000 go $np --json -
    grep -q "\"threads\": $((each > 0 ? each : 1))," out || fail "np$np threads by affinity"
done

refuse 1 64 '-o: unknown option, all are long: --name; see earshot train --help' -o x
refuse 1 64 '--out: got no value, want FILE' --out --stop
refuse 1 64 '--stop: got the value "1", want none' --stop=1
refuse 1 64 '--which: got "both", want one of student|teacher' --which both
refuse 1 64 '--out: given twice' --out a --out b
refuse 1 64 '--steps: got "0", want an integer from 1 to 100' --steps 0
refuse 1 64 'c: got an operand, want at most two files; see earshot train --help' a b c
refuse 1 64 'tab.yaml:2: a tab as indentation, want spaces' --config tab.yaml
if [ "$cores" -ge 2 ]; then # bound to a core each, two ranks share nothing
    OMP_NUM_THREADS=1000 bind=core go 2 --json -
    grep -q '"threads": 1,' out || fail "threads of bound ranks"
    ! grep -q 'binding:' all_err || fail "bound ranks with a core each are fine"
    bind=core go 2 --json - --set threads_per_rank=2
    [ $code = 0 ] && [ "$(grep -c 'binding: on 2 of 2 ranks 2 threads share 1 core ' err)" = 1 ] || fail "threads on one core: nobody says so"
fi
"$job" --json - >/dev/full 2>err
[ $? = 74 ] && [ "$(cat err)" = 'earshot train: standard output: cannot write: Input/output error' ] || { code=none fail "full disk"; }

"$job" --stall >out 2>all_err & # a signal sets the flag that the job asks for
sleep 1
kill -TERM $!
wait $!
code=$?
[ $code = 75 ] || fail "SIGTERM"

# the same configuration text, but another environment on one rank
timeout 60 mpiexec --oversubscribe --bind-to none -n 1 env ES_TEST_PLACE=a "$job" --config place.yaml : \
    -n 1 env ES_TEST_PLACE=b "$job" --config place.yaml >out 2>all_err
code=$?
grep -E '^(earshot|hint)' all_err >err
[ $code = 64 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'the configuration differs between ranks' err || fail "environment differs"

# memory runs out on rank 1 at any point: the same code everywhere, one line, no hang
good=0
for n in 1 2 3 4 100 1000 9999; do
    ES_FAULT=malloc:$n@rank1 go 2 --config good.yaml --set threads_per_rank=1
    if [ $code = 0 ]; then good=$n; continue; fi
    [ $code = 74 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'rank 1: .*out of memory' err || fail "malloc:$n"
done
[ $good = 9999 ] || fail "without a fault it runs"
for fault in write rename; do
    ES_FAULT=$fault:1 go 1 --json out.json
    [ $code = 74 ] && [ "$(wc -l <err)" = 1 ] && grep -q '"leaves": 4}' out.json && [ "$(ls out.json*)" = out.json ] || fail "fault $fault"
done

[ $failures = 0 ] && echo "all passed"
exit $((failures > 0))
