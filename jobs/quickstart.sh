#!/usr/bin/env bash
# From a fresh machine to a table of scores: installs what is missing, builds, writes a demo corpus, then the whole recipe with
# small models on 2 ranks: for each architecture pre-training and iteration 1 (stage 1 and 2), the ensemble of all as
# pseudo-labels, then iteration 2. Scores on held-out clips after every phase, beside an untrained model.
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
prepare() { earshot "store of $1" "$work/stores/$1.h5" prepare --config "$configs/data-$1.yaml" --out "$work/stores/$1.h5"; }

train() { earshot "train $1" - train --config "$configs/$1.yaml"; }

# predict RUN SET [OPTION...]
predict() {
    earshot "predict $1-$2" "$work/pred/$1-$2.h5" predict --checkpoint "$work/runs/$1/checkpoint-last.h5" \
        --store "$work/stores/$2.h5" --out "$work/pred/$1-$2.h5" "${@:3}"
}

# scores NAME PREFIX: both validation sets, from PREFIXdesed.h5 and PREFIXmaestro.h5, predictions of all clips or of these
scores() {
    local truth=$work/demo/desed/metadata/validation/validation
    evaluate "$1-desed" "$2desed.h5" psds1 "$truth.tsv" "${truth}_durations.tsv"
    truth=$work/demo/maestro/metadata/maestro_real
    evaluate "$1-maestro" "$2maestro.h5" mpauc "${truth}_validation.tsv" "${truth}_durations.tsv"
}
evaluate() {
    step "evaluate $1" "$work/report/$1.json" "$program" evaluate --predictions "$2" --ground-truth "$4" --durations "$5" \
        --postprocess median --metrics "$3" --json "$work/report/$1.json" --quiet
}
# score RUN: predicts the clips of the validation sets; score_all RUN: all clips, for pseudo-labels
score() {
    predict "$1" desed --subset validation
    predict "$1" maestro --subset maestro_test
    scores "$1" "$work/pred/$1-"
}
score_all() {
    for set in desed maestro; do predict "$1" $set; done
    scores "$1" "$work/pred/$1-"
}
# mean ITERATION PREFIX: the mean of all architectures' predictions after stage 2, and its scores
mean() {
    local set members=("${models[@]/#/$work/pred/$1-stage2-}")
    for set in desed maestro; do
        earshot "ensemble of $1, $set" "$2$set.h5" ensemble --out "$2$set.h5" "${members[@]/%/-$set.h5}"
    done
    scores "$1-ensemble" "$2"
}

runs=()
# phase RUN [SCORE]: trains and scores
phase() {
    train "$1"
    runs+=("$1")
    ${2+"$2" "$1"}
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
for corpus in as-strong desed maestro; do prepare $corpus; done
earshot "untrained model" "$work/runs/untrained/checkpoint-last.h5" train --config "$configs/it1-stage1-${models[0]}.yaml" --init-only \
    --set "run.dir=$work/runs/untrained" --set model.init=
score untrained
for model in "${models[@]}"; do
    phase "pretrain-$model"
    phase "it1-stage1-$model" score
    phase "it1-stage2-$model" score_all
done
mean it1 "$work/pseudo/"
for model in "${models[@]}"; do
    phase "it2-stage1-$model" score
    phase "it2-stage2-$model" score
done
mean it2 "$work/pred/it2-ensemble-"
step "curves" - /usr/bin/python3 analysis/curves.py "${runs[@]/#/$work/runs/}" --out "$work/report/curves.png"
step "scores" - /usr/bin/python3 analysis/scores.py "$work" "${runs[@]}" it1-ensemble it2-ensemble
[ $dry_run = 1 ] || echo "quickstart: done in $SECONDS s; everything is in $work"
