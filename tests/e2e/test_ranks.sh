#!/bin/bash
# LABEL full TIMEOUT 1500
# One digest for all: every transformer in every phase on 1, 2, 4 and 8 ranks, and stopped after each step and gone on with on another
# number of ranks. 8 leaves a step, the third step short in pre-training; BEATs with all that it may drop.
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
limit=400 # seconds a job, for busy machines
toy_stores
toy_configs
[ $failures = 0 ] || done_testing

# same_everywhere NAME ARGS...: leaves runs/NAME
same_everywhere() {
    local name=$1 np steps=0
    shift
    for np in 1 2 4 8; do
        ok $np train "$@" --set run.dir="runs/$name.$np"
        [ $np = 1 ] || same_runs "runs/$name.1" "runs/$name.$np"
    done
    for np in 8 1 4 2; do
        steps=$((steps + 1))
        ok $np train "$@" --set run.dir="runs/$name.turns" --set train.max_steps=$steps
    done
    same_runs "runs/$name.1" "runs/$name.turns"
    echo "$name: $(digest "runs/$name.1/checkpoint-last.h5")"
    mv "runs/$name.1" "runs/$name"
}

for arch in atst fpasst beats; do
    set=(--set "model.arch=$arch" --set train.max_steps=4 --set train.leaves=8)
    stage=()
    [ "$arch" = atst ] || stage+=(--set crnn.embed_pool=nearest-exact)
    if [ "$arch" = beats ]; then
        stage+=(--set model.wrapper=false)
        set+=(--set beats.conv_taps=16 --set beats.patch_embed=24 --set beats.dropout_input=0.1 --set beats.dropout=0.1
            --set beats.attention_dropout=0.1 --set beats.activation_dropout=0.1 --set beats.layerdrop=0.3)
    fi
    same_everywhere $arch-pre --config pre.yaml "${set[@]}"
    same_everywhere $arch-stage1 --config stage1.yaml "${set[@]}" "${stage[@]}" --set model.init=runs/$arch-pre/checkpoint-last.h5
    same_everywhere $arch-stage2 --config stage2.yaml "${set[@]}" "${stage[@]}" --set model.init=runs/$arch-stage1/checkpoint-last.h5
    rm -r runs/*
done
done_testing
