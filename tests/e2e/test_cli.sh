#!/bin/bash
# TIMEOUT 300
# The program's command line: the list of jobs, versions, and for every job that is built its help, on 1 and 2 ranks, and
# the refusal of what is misspelt.
# shellcheck disable=SC2015,SC2086  # fail has no failure of its own; $arguments are words
set -u
earshot=$EARSHOT_BUILD/earshot
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

go() { # go NP args...
    local np=$1
    shift
    if [ "$np" = 1 ]; then timeout 60 "$earshot" "$@" >out 2>all_err
    else timeout 60 mpiexec --oversubscribe --bind-to none -n "$np" "$earshot" "$@" >out 2>all_err; fi
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
refuse() { # refuse NP TEXT args...: 64 and exactly this line, nothing on stdout
    local np=$1 text=$2
    shift 2
    go "$np" "$@"
    [ $code = 64 ] && [ "$(cat err)" = "$text" ] && [ ! -s out ] || fail "np$np want '$text':" "$@"
}

for np in 1 2; do
    for arguments in "" --help; do
        go $np $arguments
        [ $code = 0 ] && [ ! -s err ] && [ "$(grep -c '^usage: earshot <job>' out)" = 1 ] && [ "$(wc -l <out)" -le 40 ] || fail "np$np '$arguments'"
    done
    go $np --version
    [ $code = 0 ] && [ "$(grep -cE '^earshot [0-9]+\.[0-9]+\.[0-9]+ \(commit ' out)" = 1 ] || fail "np$np --version"
    for library in MPI BLAS oneDNN HDF5 FFTW libsndfile; do
        [ "$(grep -cE "^$library: .*[0-9]+\.[0-9]+" out)" = 1 ] || fail "np$np --version: $library"
    done
    go $np --reference
    [ $code = 0 ] && cmp -s out "$EARSHOT_SOURCE/configs/reference.yaml" || fail "np$np --reference: run earshot --reference > configs/reference.yaml"
    refuse $np 'earshot: qqqqqq: unknown job; see earshot --help' qqqqqq --config x
    refuse $np 'earshot: --versoin: unknown option, nearest is --version; see earshot --help' --versoin
done

go 1 --help
jobs=$(sed -n '/^jobs$/,/^$/s/^  \([a-z][a-z]*\) .*/\1/p' out)
built=$(find "$EARSHOT_SOURCE/jobs" -name '*.c' ! -name '*_*' ! -name main.c | wc -l)
[ "$(echo "$jobs" | wc -w)" = "$built" ] || fail "the list has as many jobs as there are files in jobs/ ($built): $jobs"
for job in $jobs; do
    go 2 "$job" --help
    [ $code = 0 ] && [ ! -s err ] && [ "$(grep -c "^usage: earshot $job" out)" = 1 ] && [ "$(wc -l <out)" -le 80 ] || fail "$job --help"
    [ "$(wc -L <out)" -le 140 ] || fail "$job --help: lines longer than 140"
    for word in 'exit codes: ' '^example$' --explain --check --json; do
        grep -q -e "$word" out || fail "$job --help says nothing about $word"
    done
    go 1 "$job" --explain train.epochs
    [ $code = 0 ] && grep -q 'default: 200' out || fail "$job --explain"
    refuse 1 "earshot $job: --explian: unknown option, nearest is --explain; see earshot $job --help" "$job" --explian
done

[ $failures = 0 ] && echo "all passed"
exit $((failures > 0))
