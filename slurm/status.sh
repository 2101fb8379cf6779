#!/usr/bin/env bash
# Where the pipeline stands, phase by phase: what Slurm says of its jobs, and what the files say.
#
# usage: slurm/status.sh [--from PHASE] [--to PHASE] [--only A,B] [--iterations N] [--config-dir DIR]
#        [--site FILE] [--work DIR] [--graph FILE]
# Options as for slurm/submit.sh. Columns: phase; item of its array; Slurm (state and, while it waits, why; of a job that Slurm has
# forgotten the last line of its log; -: never submitted); files (step of checkpoint-last, results that are whole, and those
# that are being written).
# Exit codes: 0; 64 bad usage.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}") name=status
# shellcheck source=slurm/graph.sh
. "$here/graph.sh"
if [ "${1-}" = --help ]; then sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0; fi
graph_options "$@"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

declare -A job_of=() state_of=() # of phases; of JOB or JOB_TASK
while IFS=$'\t' read -r phase job; do job_of[$phase]=$job; done < <(cat "$work/slurm/jobs.tsv" 2>/dev/null)
if [ ${#job_of[@]} -gt 0 ] && command -v squeue >/dev/null; then
    ids=$(IFS=,; echo "${job_of[*]}")
    while IFS='|' read -r id state reason; do
        case $reason in None | '') ;; *) state+=" $reason" ;; esac
        state_of[$id]=$state
    done < <({
        timeout -k 1 20 sacct -n -X -P -j "$ids" -o JobID,State 2>/dev/null # what ended; a later line wins
        timeout -k 1 20 squeue -h -r -t all -o '%i|%T|%r' 2>/dev/null
    } || true)
fi

# slurm_says PHASE INDEX
slurm_says() {
    local id=${job_of[$1]-} log
    [ -n "$id" ] || { echo -; return; }
    [ "$array" = - ] || id+=_$2
    if [ -n "${state_of[$id]-}" ]; then echo "$id ${state_of[$id]}"; return; fi
    log=$work/slurm/$1.$id.log
    if [ -r "$log" ]; then
        echo "$id $(sed -n 's/^[0-9T:-]* .*restart [0-9]*): //p' "$log" | tail -n 1 | cut -c 1-60)"
    else
        echo "$id gone"
    fi
}

# files_say COMMAND: of its --out or --json, or the run directory of a training
files_say() {
    local word before='' file step
    for word in $1; do
        case $before/$word in
        --set/run.dir=*)
            file=${word#run.dir=}
            step=-
            if [ -e "$file/checkpoint-last.h5" ] && [ ! -x "$program" ]; then step='? (no program to ask)'; fi
            [ ! -e "$file/checkpoint-last.h5" ] || [ ! -x "$program" ] ||
                step=$("$program" inspect "$file/checkpoint-last.h5" 2>/dev/null | sed -n 's/^step \([0-9]*\).*/\1/p')
            echo "step ${step:-damaged}"
            ;;
        --out/* | --json/*)
            if [ -e "$word" ]; then echo "$(basename "$word") ok"; fi
            if [ -e "$word.part" ]; then echo "$(basename "$word") begun"; fi
            ;;
        esac
        before=$word
    done
}

show_phase() {
    local index=0 item command found
    for item in $list; do
        found=$(for command in "${commands[@]}"; do files_say "${command//'{item}'/$item}"; done | paste -s -d , | sed 's/,/, /g')
        printf '%-13s %-10s %-38s %s\n' "$phase" "$item" "$(slurm_says "$phase" "$index")" "${found:--}"
        index=$((index + 1))
    done
}

printf '%-13s %-10s %-38s %s\n' phase item slurm files
graph_read show_phase
