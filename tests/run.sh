#!/usr/bin/env bash
# Installs what is missing, builds and runs the tests; the last line is "N passed, N failed".
#   tests/run.sh          unit, golden, mpi, short fault, e2e smoke, slurm dry run (< 20 min on 2 cores)
#   tests/run.sh --all    adds sanitizers, clang, lint, slurm, net, full e2e (< 60 min)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
all=0
[ "${1:-}" = --all ] && all=1
passed=0 failed=0

# step NAME COMMAND...: one line a step; a step that fails counts as one failure and shows its output
step() {
    local name=$1 begin=$SECONDS log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name ($((SECONDS - begin)) s)"
    else
        failed=$((failed + 1))
        echo "FAILED  $name ($((SECONDS - begin)) s)"
        tail -60 "$log"
    fi
    rm -f "$log"
}

# suite PRESET CTEST-ARGUMENTS...: counts the single tests of a ctest run. Scripts take two places and mostly wait; with sanitizers they
# compute.
suite() {
    local preset=$1 log begin=$SECONDS bad total places=3
    shift
    log=$(mktemp)
    [ "$preset" != release ] || places=4
    ctest --preset "$preset" -j$places --schedule-random "$@" >"$log" 2>&1
    total=$(sed -n 's/^.* tests passed, .* tests* failed out of \([0-9]*\)$/\1/p' "$log")
    bad=$(sed -n 's/^.* tests passed, \([0-9]*\) tests* failed out of .*$/\1/p' "$log")
    if [ -z "$total" ]; then
        failed=$((failed + 1))
        echo "FAILED  no test ran: ctest --preset $preset $*"
        tail -20 "$log"
    else
        passed=$((passed + total - bad))
        failed=$((failed + bad))
        echo "ctest   $preset $*: $((total - bad)) passed, $bad failed ($((SECONDS - begin)) s)"
        grep -E 'Skipped|\(Failed\)|\(Timeout\)|\(Not Run\)' "$log" | grep -v 'tests passed' | sort -u
        [ "$bad" -gt 0 ] && grep -vE '^ *(Start|[0-9]+/[0-9]+ Test .*(Passed|Skipped))' "$log" | tail -80
    fi
    rm -f "$log"
}

build() { cmake --preset "$1" && cmake --build --preset "$1"; }

bash jobs/setup.sh || { echo "0 passed, 1 failed"; exit 1; }
build release >/tmp/earshot-build.$$ 2>&1 || {
    tail -40 /tmp/earshot-build.$$
    rm -f /tmp/earshot-build.$$
    echo "0 passed, 1 failed"
    exit 1
}
rm -f /tmp/earshot-build.$$
echo "ok      build release"
suite release -LE 'learn|slurm|net|full|bench|kills'
step layers python3 tests/lint/layers.py
if [ $all = 1 ]; then
    step "build clang" build clang
    step format bash tests/lint/format.sh
    step lint bash tests/lint/lint.sh
    step "build asan" build asan
    # without the scripts: they run Python or the program's start, whose signals race with a slow start
    suite asan -L 'unit|golden|mpi' -E 'test_run_cli|test_analysis|test_baseline|quickstart_dry|dry_run|test_layers'
    step "build tsan" build tsan
    suite tsan -L unit -R 'loader|log|base'
    suite release -L 'slurm|net|full'
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
