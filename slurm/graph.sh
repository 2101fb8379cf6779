# shellcheck shell=bash disable=SC2034,SC2154 # what is set here is used by those who source it, who set $here and $name
# Reading the pipeline of graph.tsv, for submit.sh, status.sh and jobs/pipeline.sh. They set $here (the slurm folder) and $name
# (their own, for messages) before sourcing this file.

work=${EARSHOT_WORK:-build/quickstart} config=configs graph=$here/graph.tsv site=-
from='' to='' chosen='' iterations=2

fail() { echo "$name: $*" >&2; exit 64; }

# graph_options [OPTION VALUE]...: the options that all of them share
graph_options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --from | --to | --only | --iterations | --config-dir | --site | --work | --graph) ;;
        *) fail "$1: unknown option; see $0 --help" ;;
        esac
        case ${2-} in
        '') fail "$1: wants a value" ;;
        *[[:space:]]*) fail "$1: '$2' has a blank in it" ;;
        *[\'\"\$\`\\\;\|\&\<\>]*) fail "$1: '$2' has a character in it that a shell would read" ;;
        esac
        case $1 in
        --from) from=$2 ;;
        --to) to=$2 ;;
        --only) chosen=$2 ;;
        --iterations) iterations=$2 ;;
        --config-dir) config=${2%/} ;;
        --site) site=$2 ;;
        --work) work=${2%/} ;;
        --graph) graph=$2 ;;
        esac
        shift 2
    done
    [ -d "$config" ] || fail "--config-dir: no folder $config; run from the checkout"
    [ -r "$graph" ] || fail "--graph: cannot read $graph"
    [ -z "$to" ] || cut -f 1 "$graph" | grep -qxF -- "$to" || fail "--to: no phase $to in $graph"
    case $iterations in 1 | 2) ;; *) fail "--iterations: '$iterations', want 1 or 2: the recipe has two" ;; esac
    # shellcheck source=slurm/site/default.sh
    . "$here/site/default.sh"
    if [ "$site" != - ]; then
        [ -r "$site" ] || fail "--site: cannot read $site"
        case $site in */*) ;; *) site=./$site ;; esac
        # shellcheck disable=SC1090 # the user's file
        . "$site"
    fi
    [[ $threads =~ ^[1-9][0-9]*$ ]] || fail "site: threads is '$threads', want a number"
}

# graph_run_options [OPTION]...: of what runs the pipeline: --dry-run sets dry_run, --help shows the head of the script; the rest as above
graph_run_options() {
    local argument arguments=()
    dry_run=0
    for argument; do
        case $argument in
        --dry-run) dry_run=1 ;;
        --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) arguments+=("$argument") ;;
        esac
    done
    graph_options ${arguments[@]+"${arguments[@]}"}
}

declare -A items=() array_of=() text_of=()

# expand_words WORDS ARRAY: a word with the placeholder of a list that the phase is no array over becomes a word for each item
expand_words() {
    local list item word words longer
    read -ra words <<<"$1"
    for list in "${!items[@]}"; do
        longer=()
        for word in "${words[@]}"; do
            if [ "$list" = "$2" ]; then
                longer+=("${word//"{$list}"/"{item}"}")
            elif [[ $word = *"{$list}"* ]]; then
                for item in ${items[$list]}; do longer+=("${word//"{$list}"/$item}"); done
            else
                longer+=("$word")
            fi
        done
        words=("${longer[@]}")
    done
    echo "${words[*]}"
}

# find_configs WORDS ITEMS: {config}/a/b.yaml is there as a/b.yaml or as a-b.yaml, for every item; prints the words
find_configs() {
    local word file form item found out=()
    for word in $1; do
        if [[ $word = '{config}/'* ]]; then
            file=${word#'{config}/'} found=
            for form in "$config/$file" "$config/${file//\//-}"; do
                for item in $2; do [ -r "${form//'{item}'/$item}" ] || continue 2; done
                found=$form
                break
            done
            [ -n "$found" ] || fail "$phase: no ${file//'{item}'/"{${2// /,}}"} in $config, nor with - for /"
            word=$found
        fi
        out+=("$word")
    done
    echo "${out[*]}"
}

# graph_read FUNCTION: calls it for every phase from --from to --to, with phase, array, list (the items, "-": none), needs, kind, nodes,
# ranks_here, hours and commands set; {item} in a command is the array task's item.
graph_read() {
    local started=1 ended=0 need line key skip
    [ -z "$from" ] || started=0
    while IFS=$'\t' read -r -u 3 phase array needs kind nodes ranks_here hours command; do
        case $phase in
        '' | '#'*) continue ;;
        define) text_of[$array]=$needs; continue ;;
        list)
            items[$array]=$needs
            [ "$array" != arch ] || items[arch]=${models:-$needs}
            [ "$array" != arch ] || [ -z "$chosen" ] || items[arch]=${chosen//,/ }
            continue
            ;;
        esac
        [ -n "$command" ] || fail "graph: $phase: want 8 columns"
        [ "$array" = - ] || [ -n "${items[$array]-}" ] || fail "graph: $phase: no list $array"
        case $needs/$kind in -/- | [a-z]*/afterok | [a-z]*/aftercorr) ;; *) fail "graph: $phase: bad dependency $kind $needs" ;; esac
        [[ $nodes/$ranks_here/$hours =~ ^[1-9][0-9]*(-[1-9][0-9]*)?/[1-9][0-9]*/[1-9][0-9]*$ ]] ||
            fail "graph: $phase: nodes, ranks, hours: want numbers"
        skip=$ended
        if [ "$iterations" = 1 ] && [[ $phase = it2-* ]]; then skip=1; fi
        for need in ${needs//,/ }; do
            [ "$need" != - ] || continue
            [ -n "${array_of[$need]-}" ] || fail "graph: $phase needs $need, which is not a phase before it"
            if [ "${array_of[$need]}" = left-out ]; then skip=1; continue; fi
            [ "$kind" != aftercorr ] || [ "${array_of[$need]}" = "$array" ] || fail "graph: $phase: aftercorr wants the array of $need"
        done
        [ "$phase" != "$to" ] || ended=1
        array_of[$phase]=$array
        if [ $skip = 1 ]; then array_of[$phase]=left-out; continue; fi
        [ "$phase" != "$from" ] || started=1
        [ $started = 1 ] || continue

        list=${items[$array]-"-"}
        for _ in "${!text_of[@]}"; do # a definition may hold another, a chain at most all of them
            for key in "${!text_of[@]}"; do command=${command//"{$key}"/"${text_of[$key]}"}; done
        done
        command=${command//'{work}'/$work} command=${command//'{phase}'/$phase}
        command=${command//'{desed}'/$desed} command=${command//'{maestro}'/$maestro}
        command=$(expand_words "$command" "$array") || exit
        command=$(find_configs "$command" "$list") || exit
        commands=()
        while read -r line; do commands+=("$line"); done <<<"${command// ; /$'\n'}"
        "$1"
    done 3<"$graph"
    [ $started = 1 ] || fail "--from: no phase $from in $graph"
}
