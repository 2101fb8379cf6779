#!/bin/bash
# TIMEOUT 600
# The other transformers through the program: phases to the same bits on other numbers of ranks (tests/mpi/test_trainer has 4 for all),
# predictions on any number, a start from another phase's checkpoint, the bench of a step in every phase.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
[ $failures = 0 ] || done_testing

archs=(fpasst beats)
few=(--set train.leaves=2 --set train.max_steps=3 --set train.validate_every=0)
for arch in "${archs[@]}"; do
    set=(--set "model.arch=$arch")
    stage=(--set crnn.embed_pool=nearest-exact)
    if [ "$arch" = beats ]; then # with all that it may drop
        stage+=(--set model.wrapper=false)
        set+=(--set beats.conv_taps=16 --set beats.patch_embed=24 --set beats.dropout_input=0.1 --set beats.dropout=0.1
            --set beats.attention_dropout=0.1 --set beats.activation_dropout=0.1 --set beats.layerdrop=0.3)
    fi
    ok 1 train --config pre.yaml "${set[@]}" --set train.max_steps=2 --set run.dir=runs/pre
    for np in 2 4; do
        ok $np train --config pre.yaml "${set[@]}" --set train.max_steps=2 --set run.dir=runs/pre$np
        same_runs runs/pre runs/pre$np
    done
    for phase in stage1 stage2; do
        ok 1 train --config $phase.yaml "${set[@]}" "${stage[@]}" "${few[@]}"
        ok 2 train --config $phase.yaml "${set[@]}" "${stage[@]}" "${few[@]}" --set run.dir=runs/two
        same_runs runs/$phase runs/two
        rm -r runs/two
    done
    for np in 1 3; do ok $np predict --checkpoint runs/stage2/checkpoint-last.h5 --store desed.h5 --subset validation --set predict.block=2 --out "$arch$np.h5"; done
    [ "$(digest "${arch}1.h5")" = "$(digest "${arch}3.h5")" ] || fail "$arch: predictions on 3 ranks differ"
    ok 1 predict --checkpoint runs/pre/checkpoint-last.h5 --store as-strong.h5 --subset as_eval --out "$arch-pre.h5"
    for phase in pretrain stage1 stage2; do
        ok 1 bench step --model "$arch" --phase $phase --batch 5 --steps 1 --depth 1 --json bench.json
        "$python" -c 'import json, sys; b = json.load(open("bench.json")); sys.exit(not (
            b["model"] == sys.argv[1] and b["phase"] == sys.argv[2] and b["clips_per_s"] > 0 and b["verified"] < 1e-4))' "$arch" $phase ||
            fail "bench step: $(cat bench.json)"
    done
    # a checkpoint of another architecture is no start
    go 1 train --config stage1.yaml --set run.dir=runs/other
    [ $code = 65 ] && errors | grep -q "not a checkpoint of this model" || fail "an $arch checkpoint starts atst: code $code"
    rm -r runs/*
done

done_testing
