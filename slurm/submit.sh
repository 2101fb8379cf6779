#!/usr/bin/env bash
# Submits the pipeline of graph.tsv to Slurm: one sbatch call a phase, with its array and its dependencies.
#
# usage: slurm/submit.sh [--dry-run] [--from PHASE] [--models A,B] [--config-dir DIR] [--site FILE] [--work DIR] [--graph FILE]
#   --dry-run         print the calls, a shell script that does the same, and submit nothing
#   --from PHASE      leave out what comes before PHASE in the graph: it is done
#   --models A,B      the transformers (default: the site's, else the graph's)
#   --config-dir DIR  configurations (default: configs; the demo's: configs/toy)
#   --site FILE       settings of the cluster, read after slurm/site/default.sh
#   --work DIR        stores, runs, predictions, logs (default: $EARSHOT_WORK, else build/quickstart)
#   --graph FILE      another pipeline (default: slurm/graph.tsv)
# Paths are relative to the working directory, which is also the jobs'.
# Exit codes: 0 submitted; 64 bad usage, site, graph or configuration folder; 74 sbatch failed.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")

fail() { echo "submit: $*" >&2; exit 64; }

arguments=("$@")
dry_run=0 from='' chosen='' site=- config=configs work=${EARSHOT_WORK:-build/quickstart} graph=$here/graph.tsv
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=1; shift; continue ;;
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --from | --models | --config-dir | --site | --work | --graph) ;;
    *) fail "$1: unknown option; see $0 --help" ;;
    esac
    case ${2-} in
    '') fail "$1: wants a value" ;;
    *[[:space:]]*) fail "$1: '$2' has a blank in it" ;;
    esac
    case $1 in
    --from) from=$2 ;;
    --models) chosen=$2 ;;
    --config-dir) config=${2%/} ;;
    --site) site=$2 ;;
    --work) work=${2%/} ;;
    --graph) graph=$2 ;;
    esac
    shift 2
done
[ -d "$config" ] || fail "--config-dir: no folder $config; run from the checkout"
[ -r "$graph" ] || fail "--graph: cannot read $graph"
# shellcheck source=slurm/site/default.sh
. "$here/site/default.sh"
if [ "$site" != - ]; then
    [ -r "$site" ] || fail "--site: cannot read $site"
    case $site in */*) ;; *) site=./$site ;; esac
    # shellcheck disable=SC1090 # the user's file
    . "$site"
fi
case $launcher in
srun) signal=USR1@$signal_s ;;     # to the ranks
mpiexec) signal=B:USR1@$signal_s ;; # to job.sbatch, which passes it on
*) fail "site: launcher is '$launcher', want srun or mpiexec" ;;
esac
[[ $threads =~ ^[1-9][0-9]*$ ]] || fail "site: threads is '$threads', want a number"

declare -A items=() array_of=() id_of=()

# expand_words WORDS ARRAY: a word with the placeholder of a list that the phase is no array over becomes a word for each item
expand_words() {
    local word list item out=()
    for word in $1; do
        for list in "${!items[@]}"; do
            if [ "$list" = "$2" ]; then
                word=${word//"{$list}"/"{item}"}
            elif [[ $word = *"{$list}"* ]]; then
                for item in ${items[$list]}; do out+=("${word//"{$list}"/$item}"); done
                word=
            fi
        done
        [ -z "$word" ] || out+=("$word")
    done
    echo "${out[*]}"
}

# find_configs WORDS ITEMS: {config}/a/b.yaml is there as a/b.yaml or as a-b.yaml, for every item; prints the words
find_configs() {
    local word name form item found out=()
    for word in $1; do
        if [[ $word = '{config}/'* ]]; then
            name=${word#'{config}/'} found=
            for form in "$config/$name" "$config/${name//\//-}"; do
                for item in $2; do [ -r "${form//'{item}'/$item}" ] || continue 2; done
                found=$form
                break
            done
            [ -n "$found" ] || fail "$phase: no ${name//'{item}'/"{${2// /,}}"} in $config, nor with - for /"
            word=$found
        fi
        out+=("$word")
    done
    echo "${out[*]}"
}

# dependency NEEDS KIND ARRAY: what --dependency says; phases before --from are done and drop out
dependency() {
    local need ids=''
    [ "$1" = - ] && return
    for need in ${1//,/ }; do
        [ -n "${array_of[$need]-}" ] || fail "graph: $phase needs $need, which is not a phase before it"
        [ "$2" != aftercorr ] || [ "${array_of[$need]}" = "$3" ] || fail "graph: $phase: aftercorr wants the array of $need"
        [ -z "${id_of[$need]-}" ] || ids+=:${id_of[$need]}
    done
    [ -z "$ids" ] || echo "$2$ids"
}

# submit_phase NAME CALL...: runs the call, or prints it as a line of shell; sets id_of[NAME]
submit_phase() {
    local variable=${1//-/_} word line=''
    shift
    if [ $dry_run = 1 ]; then
        for word; do
            case $word in
            --dependency=*) line+=" $word" ;; # holds variables of earlier lines
            *[!A-Za-z0-9_./:=@%,+-]*) line+=" '$word'" ;;
            *) line+=" $word" ;;
            esac
        done
        echo "$variable=\$(${line# })"
        id_of[$phase]="\$$variable"
        return
    fi
    local id
    id=$("$@") || { echo "submit: sbatch failed for $phase; submitted before it: ${id_of[*]:-nothing}" >&2; exit 74; }
    id_of[$phase]=${id%%;*}
    echo "$phase: job ${id_of[$phase]}"
}

started=0
[ -n "$from" ] || started=1
if [ $dry_run = 0 ]; then # everything is checked before anything is submitted
    "${BASH_SOURCE[0]}" "${arguments[@]}" --dry-run >/dev/null
    mkdir -p "$work/slurm"
fi
while IFS=$'\t' read -r phase array needs kind nodes ranks_here hours command; do
    case $phase in '' | '#'*) continue ;; esac
    if [ "$phase" = list ]; then
        items[$array]=$needs
        [ "$array" != arch ] || items[arch]=${models:-$needs}
        [ "$array" != arch ] || [ -z "$chosen" ] || items[arch]=${chosen//,/ }
        continue
    fi
    [ -n "$command" ] || fail "graph: $phase: want 8 columns"
    [ "$array" = - ] || [ -n "${items[$array]-}" ] || fail "graph: $phase: no list $array"
    case $needs/$kind in -/- | [a-z]*/afterok | [a-z]*/aftercorr) ;; *) fail "graph: $phase: bad dependency $kind $needs" ;; esac
    [[ $nodes/$ranks_here/$hours =~ ^[1-9][0-9]*(-[1-9][0-9]*)?/[1-9][0-9]*/[1-9][0-9]*$ ]] ||
        fail "graph: $phase: nodes, ranks, hours: want numbers"
    after=$(dependency "$needs" "$kind" "$array")
    array_of[$phase]=$array
    [ "$phase" != "$from" ] || started=1
    [ $started = 1 ] || continue

    list=${items[$array]-}
    read -ra each <<<"$list"
    [ -z "$nodes_max" ] || [ "${nodes#*-}" -le "$nodes_max" ] || nodes=$nodes_max
    [ -z "$ranks" ] || [ "$ranks_here" = 1 ] || ranks_here=$ranks
    command=${command//'{work}'/$work} command=${command//'{phase}'/$phase}
    command=${command//'{desed}'/$desed} command=${command//'{maestro}'/$maestro}
    command=$(expand_words "$command" "$array")
    command=$(find_configs "$command" "${list:-"-"}")
    commands=()
    while read -r line; do commands+=("$line"); done <<<"${command// ; /$'\n'}"

    call=(sbatch --parsable "--job-name=$phase" "--nodes=$nodes" "--ntasks-per-node=$ranks_here" "--cpus-per-task=$threads"
        "--time=$hours:00:00" "--signal=$signal" --requeue --open-mode=append --kill-on-invalid-dep=yes)
    if [ "$array" = - ]; then
        call+=("--output=$work/slurm/%x.%j.log")
    else
        call+=("--output=$work/slurm/%x.%A_%a.log" "--array=0-$((${#each[@]} - 1))")
    fi
    [ -z "$after" ] || call+=("--dependency=$after")
    [ -z "$partition" ] || call+=("--partition=$partition")
    [ -z "$account" ] || call+=("--account=$account")
    submit_phase "$phase" "${call[@]}" ${sbatch_options[@]+"${sbatch_options[@]}"} \
        "$here/job.sbatch" "$here" "$site" "$work" "$phase" "${list:-"-"}" "${commands[@]}"
done <"$graph"
[ $started = 1 ] || fail "--from: no phase $from in $graph"
