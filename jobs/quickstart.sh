#!/usr/bin/env bash
# From a fresh machine to a table of scores: installs what is missing, builds, writes a demo corpus, then the whole recipe with
# small models on 2 ranks: for each architecture pre-training and iteration 1 (stage 1 and 2), the ensemble of all as
# pseudo-labels, then iteration 2: slurm/graph.tsv by jobs/pipeline.sh. Scores on held-out clips after every phase, beside an
# untrained model.
#
# usage: jobs/quickstart.sh [--fresh] [--dry-run]
#   --fresh     start over; without it what is there is kept, and training goes on from its checkpoint
#   --dry-run   print the commands and run none
# EARSHOT_WORK     where everything goes (default: build/quickstart)
# EARSHOT_SOUNDS   isolated sounds for the demo corpus (default: ../shared/data beside the checkout; else they are synthesised)
# EARSHOT_MODELS   the architectures, a list (default: "atst fpasst beats")
# EARSHOT_RANKS    ranks, a power of two up to 8 (default: 2)
# EARSHOT_PROGRAM  a program that is built already: nothing is installed or built
# Exit codes: 0 done, all losses fall, all scores are above the untrained model's; 1 not so; 75 stopped, run again to resume;
# otherwise the code of the step that failed.
set -euo pipefail

fresh=0 dry_run=0
for argument; do
    case $argument in
    --fresh) fresh=1 ;;
    --dry-run) dry_run=1 ;;
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "quickstart: $argument: unknown option; see --help" >&2; exit 64 ;;
    esac
done
[ "${EARSHOT_WORK:=build/quickstart}" = build/quickstart ] || EARSHOT_WORK=$(realpath -m "$EARSHOT_WORK")
[ -z "${EARSHOT_SOUNDS-}" ] || EARSHOT_SOUNDS=$(realpath -m "$EARSHOT_SOUNDS")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export EARSHOT_WORK OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none # containers forbid the other way
read -ra models <<<"${EARSHOT_MODELS:-atst fpasst beats}"
for model in "${models[@]}"; do
    [ -e "configs/toy/pretrain-$model.yaml" ] || { echo "quickstart: EARSHOT_MODELS: no configs/toy/pretrain-$model.yaml" >&2; exit 64; }
done
work=$EARSHOT_WORK configs=configs/toy ranks=${EARSHOT_RANKS:-2}
program=${EARSHOT_PROGRAM:-build/release/earshot}
launcher=(mpiexec -n "$ranks" --bind-to none)
[ "$(env -u OMP_NUM_THREADS nproc)" -ge "$ranks" ] || launcher+=(--oversubscribe)

# step TITLE FILE COMMAND...: runs the command under a heading with the time; not where FILE is there ("-": always)
step() {
    local title=$1 file=$2 begin=$SECONDS rc=0
    shift 2
    if [ $dry_run = 1 ]; then
        echo "$*"
    elif [ -e "$file" ]; then
        printf '== [%4d s] %s: kept\n' "$SECONDS" "$title"
    else
        printf '== [%4d s] %s\n' "$SECONDS" "$title"
        "$@" </dev/null || rc=$? # mpiexec would read our own input
        case $rc in
        0) echo "   $((SECONDS - begin)) s" ;;
        75) echo "quickstart: $title: stopped; run again to resume" >&2; exit 75 ;;
        *) echo "quickstart: $title: exit code $rc" >&2; exit $rc ;;
        esac
    fi
}
earshot() { step "$1" "$2" "${launcher[@]}" "$program" "${@:3}"; }

build() { { cmake --preset release && cmake --build --preset release --target earshot; } >"$work/build.log" 2>&1 ||
    { tail -n 30 "$work/build.log" >&2; return 70; }; }

demo() {
    local sounds=${EARSHOT_SOUNDS-}
    [ -n "$sounds" ] || [ ! -e ../shared/data/manifest.tsv ] || sounds=../shared/data
    [ -n "$sounds" ] || echo "No folder of sounds: all of them are synthesised. Scores then say little about real audio."
    earshot "demo corpus" - demo --config $configs/demo.yaml --out "$work/demo" ${sounds:+--sounds "$sounds"}
}
# the scores that all others are to surpass
untrained() {
    local run=$work/runs/untrained
    earshot "untrained model" "$run/checkpoint-last.h5" train --config "$configs/it1-stage1-${models[0]}.yaml" --init-only \
        --set "run.dir=$run" --set model.init=
    score desed validation psds1 desed/metadata/validation/validation.tsv desed/metadata/validation/validation_durations.tsv
    score maestro maestro_test mpauc maestro/metadata/maestro_real_validation.tsv maestro/metadata/maestro_real_durations.tsv
}
score() { # score SET SUBSET METRIC TRUTH DURATIONS
    local pred=$work/pred/untrained-$1.h5 json=$work/report/untrained-$1.json
    earshot "untrained model: predict $1" "$pred" predict --checkpoint "$work/runs/untrained/checkpoint-last.h5" \
        --store "$work/stores/$1.h5" --subset "$2" --out "$pred"
    step "untrained model: evaluate $1" "$json" "$program" evaluate --predictions "$pred" --ground-truth "$work/demo/$4" \
        --durations "$work/demo/$5" --postprocess median --metrics "$3" --quiet --json "$json"
}
pipeline() {
    local options=(--config-dir "$configs" --work "$work" --only "$(IFS=,; echo "${models[*]}")") rc=0
    [ $dry_run = 0 ] || options+=(--dry-run)
    EARSHOT_SECONDS=$SECONDS EARSHOT_RANKS=$ranks EARSHOT_PROGRAM=$program EARSHOT_DESED='' EARSHOT_MAESTRO='' \
        jobs/pipeline.sh "${options[@]}" &
    local pid=$!
    trap 'kill -USR1 $pid 2>/dev/null || true' USR1 TERM INT # it stops its job in good order
    while :; do                                              # a signal ends `wait` before that
        rc=0
        wait $pid || rc=$?
        kill -0 $pid 2>/dev/null || break
    done
    trap - USR1 TERM INT
    [ $rc = 0 ] || exit $rc
}

if [ $dry_run = 0 ]; then
    [ $fresh = 0 ] || rm -rf "${work:?}"/{demo,stores,runs,pred,pseudo,report}
    mkdir -p "$work"/{stores,runs,pred,pseudo,report}
fi
if [ -z "${EARSHOT_PROGRAM-}" ]; then
    step "packages" - bash jobs/setup.sh
    step "build" - build
fi
demo
pipeline
untrained
runs=()
for stage in pretrain it{1,2}-stage{1,2}; do runs+=("${models[@]/#/$stage-}"); done
step "curves" - /usr/bin/python3 analysis/curves.py "${runs[@]/#/$work/runs/}" --out "$work/report/curves.png"
step "scores" - /usr/bin/python3 analysis/scores.py "$work" "${runs[@]}" it1-ensemble it2-ensemble
[ $dry_run = 1 ] || echo "quickstart: done in $SECONDS s; everything is in $work"
