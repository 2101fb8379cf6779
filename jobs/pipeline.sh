#!/usr/bin/env bash
# Runs the pipeline of slurm/graph.tsv on this machine, phase by phase, without Slurm. Run it again after a stop: what is there
# (stores, predictions, scores) is kept, training goes on from its checkpoint, and a run that is finished ends at once.
#
# usage: jobs/pipeline.sh [--dry-run] [--from PHASE] [--to PHASE] [--only A,B] [--iterations N] [--config-dir DIR]
#        [--site FILE] [--work DIR] [--graph FILE]
#   --dry-run         print the commands and run none
#   --from PHASE      leave out what comes before PHASE in the graph
#   --to PHASE        leave out what comes behind PHASE
#   --only A,B        the pipeline of these transformers, or this one, alone (default: the graph's)
#   --iterations N    1: end with the ensemble of iteration 1 and its scores (default: 2)
#   --config-dir DIR  configurations (default: configs; the demo's: configs/toy)
#   --site FILE       where the corpora are ($desed, $maestro)
#   --work DIR        stores, runs, predictions, scores (default: $EARSHOT_WORK, else build/quickstart)
#   --graph FILE      another pipeline (default: slurm/graph.tsv)
# EARSHOT_RANKS     ranks (default: 2); training takes the largest power of two that fits
# EARSHOT_PROGRAM   the program (default: build/release/earshot)
# Paths are relative to the working directory. USR1 and TERM stop the job that runs in good order.
# Exit codes: 0 done; 64 bad usage; 75 stopped, run again to resume; otherwise the code of the job that failed.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")/../slurm name=pipeline
[ "$here" != jobs/../slurm ] || here=slurm
# shellcheck source=slurm/graph.sh
. "$here/graph.sh"

graph_run_options "$@"
n_ranks=${EARSHOT_RANKS:-2} n_train=1
[[ $n_ranks =~ ^[1-9][0-9]*$ ]] || fail "EARSHOT_RANKS: '$n_ranks', want a number"
while [ $((2 * n_train)) -le "$n_ranks" ]; do n_train=$((2 * n_train)); done
export EARSHOT_WORK=$work OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
launch_options=(--bind-to none)
[ "$(env -u OMP_NUM_THREADS nproc)" -ge "$n_ranks" ] || launch_options+=(--oversubscribe)

pid=
stop() { [ -z "$pid" ] || kill -USR1 "$pid" 2>/dev/null || true; } # mpiexec hands it to its ranks
trap stop USR1 TERM INT

# run_job TITLE JOB ARGUMENT...: not where its result is; under a heading with the time, counted from EARSHOT_SECONDS on
run_job() {
    local title=$1 job=$2 result='' before='' word begin=$SECONDS rc=0 call=()
    shift
    for word; do
        case $before in --out | --json) result=$word ;; esac
        before=$word
    done
    case $job in
    train) call=(mpiexec -n "$n_train" "${launch_options[@]}" "$program" "$@") ;;
    evaluate) call=("$program" "$@") ;;
    *) call=(mpiexec -n "$n_ranks" "${launch_options[@]}" "$program" "$@") ;;
    esac
    if [ $dry_run = 1 ]; then
        echo "${call[*]}"
        return
    fi
    if [ -n "$result" ] && [ -e "$result" ]; then
        printf '== [%4d s] %s: kept\n' "$SECONDS" "$title"
        return
    fi
    printf '== [%4d s] %s\n' "$SECONDS" "$title"
    "${call[@]}" </dev/null 3<&- & # mpiexec would read our own input
    pid=$!
    while :; do # a signal ends `wait` before the job has ended
        rc=0
        wait "$pid" || rc=$?
        kill -0 "$pid" 2>/dev/null || break
    done
    pid=
    case $rc in
    0) echo "   $((SECONDS - begin)) s" ;;
    75) echo "pipeline: $title: stopped; run again to resume" >&2; exit 75 ;;
    *) echo "pipeline: $title: exit code $rc" >&2; exit $rc ;;
    esac
}

run_phase() {
    local item command words
    for item in $list; do
        item=${item#-}
        for command in "${commands[@]}"; do
            read -ra words <<<"${command//'{item}'/$item}"
            run_job "$phase${item:+ }${item}: ${words[0]}" "${words[@]}"
        done
    done
}

SECONDS=${EARSHOT_SECONDS:-0}
[ $dry_run = 1 ] || mkdir -p "$work"/{stores,runs,pred,pseudo,report}
graph_read run_phase
