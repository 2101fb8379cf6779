#!/usr/bin/env bash
# Submits the pipeline of graph.tsv to Slurm: one sbatch call a phase, with its array and its dependencies.
#
# usage: slurm/submit.sh [--dry-run] [--from PHASE] [--to PHASE] [--only A,B] [--iterations N] [--config-dir DIR]
#        [--site FILE] [--work DIR] [--graph FILE]
#   --dry-run         print the calls, a shell script that does the same, and submit nothing
#   --from PHASE      leave out what comes before PHASE in the graph: it is done
#   --to PHASE        leave out what comes behind PHASE
#   --only A,B        the pipeline of these transformers, or this one, alone (default: the site's, else the graph's)
#   --iterations N    1: end with the ensemble of iteration 1 and its scores (default: 2)
#   --config-dir DIR  configurations (default: configs; the demo's: configs/toy)
#   --site FILE       settings of the cluster, read after slurm/site/default.sh
#   --work DIR        stores, runs, predictions, logs (default: $EARSHOT_WORK, else build/quickstart)
#   --graph FILE      another pipeline (default: slurm/graph.tsv)
# Paths are relative to the working directory, which is also the jobs'. slurm/status.sh tells how far they are.
# Exit codes: 0 submitted; 64 bad usage, site, graph or configuration folder; 74 sbatch failed.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}") name=submit
# shellcheck source=slurm/graph.sh
. "$here/graph.sh"

graph_run_options "$@"
case $signal in USR1 | USR2 | TERM) ;; *) fail "site: signal is '$signal', want USR1, USR2 or TERM" ;; esac
[[ $signal_s/$max_restarts =~ ^[0-9]+/[0-9]+$ ]] || fail "site: signal_s, max_restarts: want numbers"
case $launcher in
srun) warning=$signal@$signal_s ;;      # to the ranks
mpiexec) warning=B:$signal@$signal_s ;; # to job.sbatch, which passes it on
*) fail "site: launcher is '$launcher', want srun or mpiexec" ;;
esac

declare -A id_of=()

# dependency NEEDS KIND: what --dependency says; phases before --from are done and drop out
dependency() {
    local need ids=''
    for need in ${1//,/ }; do [ -z "${id_of[$need]-}" ] || ids+=:${id_of[$need]}; done
    [ -z "$ids" ] || echo "$2$ids"
}

# submit CALL...: runs the call, or prints it as a line of shell; sets id_of[$phase]
submit() {
    local variable=${phase//-/_} word line='' id
    if [ $dry_run = 1 ]; then
        for word; do
            case $word in
            --dependency=*) line+=" $word" ;; # holds variables of earlier lines
            *[!A-Za-z0-9_./:=@%,+-]*) line+=" '${word//\'/\'\\\'\'}'" ;;
            *) line+=" $word" ;;
            esac
        done
        echo "$variable=\$(${line# })"
        id_of[$phase]="\$$variable"
        return
    fi
    id=$("$@") || { echo "submit: sbatch failed for $phase; submitted before it: ${id_of[*]:-nothing}" >&2; exit 74; }
    id_of[$phase]=${id%%;*}
    printf '%s\t%s\n' "$phase" "${id_of[$phase]}" >>"$work/slurm/jobs.tsv" # for status.sh
    echo "$phase: job ${id_of[$phase]}"
}

submit_phase() {
    local after call each
    read -ra each <<<"$list"
    after=$(dependency "$needs" "$kind")
    [ -z "$nodes_max" ] || [ "${nodes#*-}" -le "$nodes_max" ] || nodes=$nodes_max
    [ -z "$ranks" ] || [ "$ranks_here" = 1 ] || ranks_here=$ranks
    call=(sbatch --parsable "--job-name=$phase" "--nodes=$nodes" "--ntasks-per-node=$ranks_here" "--cpus-per-task=$threads"
        "--time=$hours:00:00")
    [ "$signal_s" = 0 ] || call+=("--signal=$warning")
    call+=(--requeue --open-mode=append --kill-on-invalid-dep=yes)
    if [ "$array" = - ]; then
        call+=("--output=$work/slurm/%x.%j.log")
    else
        call+=("--output=$work/slurm/%x.%A_%a.log" "--array=0-$((${#each[@]} - 1))")
    fi
    [ -z "$after" ] || call+=("--dependency=$after")
    [ -z "$partition" ] || call+=("--partition=$partition")
    [ -z "$account" ] || call+=("--account=$account")
    submit "${call[@]}" ${sbatch_options[@]+"${sbatch_options[@]}"} \
        "$here/job.sbatch" "$here" "$site" "$work" "$phase" "$list" "${commands[@]}"
}

if [ $dry_run = 0 ]; then # everything is checked before anything is submitted
    "${BASH_SOURCE[0]}" "$@" --dry-run >/dev/null
    mkdir -p "$work/slurm"
fi
graph_read submit_phase
