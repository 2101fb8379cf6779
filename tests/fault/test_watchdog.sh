#!/bin/bash
# TIMEOUT 120
# How jobs end when one of their ranks stalls, stops, dies, meets a bug or misuses MPI: exit code, lines on stderr, in seconds.
set -u
program=${EARSHOT_BUILD:?}/tests/fault-test_watchdog
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failures=0

fail() {
    echo "FAIL $*"
    sed 's/^/    /' "$out/err"
    failures=$((failures + 1))
}

# expect TROUBLE RANKS CODE PATTERN...: every pattern stands in a line of ours
expect() {
    local trouble=$1 ranks=$2 code=$3 rc begin=$SECONDS pattern
    shift 3
    timeout 60 mpiexec --oversubscribe --bind-to none -n "$ranks" "$program" "$trouble" >"$out/out" 2>"$out/err"
    rc=$?
    [ "$rc" = "$code" ] || fail "$trouble on $ranks ranks: exit code $rc, want $code"
    [ $((SECONDS - begin)) -le 20 ] || fail "$trouble on $ranks ranks: took $((SECONDS - begin)) s"
    for pattern in "$@"; do
        grep -Eq "^earshot: $pattern" "$out/err" || fail "$trouble on $ranks ranks: no line like '$pattern'"
    done
}

expect stall 2 74 'rank 1: no progress for 1 s in phase forward, step 3' 'rank 0: no progress for 1 s in phase exchange, step 4'
expect stall 4 74 'rank 3: no progress .* forward, step 3' 'rank [012]: no progress .* exchange, step 4'
expect stall 1 74 'rank 0: no progress .* forward, step 3'
expect stop 2 74 'rank 0: no progress .* exchange, step 4'
expect kill 2 137
expect bug 2 70 '.*test_watchdog.c:[0-9]+: this is a bug.*es_comm_size'
expect thread 2 70 '.*test_watchdog.c:[0-9]+: this is a bug.*es_comm_size'
expect mpi 2 74 'rank 1 of 2: MPI_Bcast: .*root'
expect overlap 2 70 '.*ranges_do_not_overlap'
expect differ 4 70 '.*same_on_all_ranks'

# One line of ours for an MPI error or a bug, not one a rank that waited
expect mpi 4 74
[ "$(grep -c '^earshot:' "$out/err")" = 1 ] || fail "mpi on 4 ranks: want one line"

# A suspended process goes on as if nothing had happened
"$program" suspend >"$out/out" 2>"$out/err" &
pid=$!
for _ in $(seq 100); do grep -q ready "$out/out" && break; sleep 0.1; done
kill -STOP $pid
sleep 2.5
kill -CONT $pid
wait $pid
rc=$?
[ $rc = 0 ] || fail "suspended for 2.5 s with a timeout of 1 s: exit code $rc"

[ $failures = 0 ] && echo "ok"
exit $((failures > 0))
