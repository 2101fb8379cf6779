#!/bin/bash
# TIMEOUT 600
# The other transformers through the program: pre-training and both stages to the same bits on 1, 2 and 4 ranks, predictions on any
# number, a start from another phase's checkpoint, the bench of a step in every phase.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
[ $failures = 0 ] || done_testing

archs=(fpasst)
for arch in "${archs[@]}"; do
    set=(--set "model.arch=$arch")
    stage=(--set crnn.embed_pool=nearest-exact)
    ok 1 train --config pre.yaml "${set[@]}" --set run.dir=runs/pre
    for np in 2 4; do
        ok $np train --config pre.yaml "${set[@]}" --set run.dir=runs/pre$np
        same_runs runs/pre runs/pre$np
    done
    for phase in stage1 stage2; do
        ok 2 train --config $phase.yaml "${set[@]}" "${stage[@]}"
        ok 4 train --config $phase.yaml "${set[@]}" "${stage[@]}" --set run.dir=runs/four
        same_runs runs/$phase runs/four
        rm -r runs/four
    done
    for np in 1 3; do ok $np predict --checkpoint runs/stage2/checkpoint-last.h5 --store desed.h5 --out "$arch$np.h5"; done
    [ "$(digest "${arch}1.h5")" = "$(digest "${arch}3.h5")" ] || fail "$arch: predictions on 3 ranks differ"
    ok 1 predict --checkpoint runs/pre/checkpoint-last.h5 --store as-strong.h5 --out "$arch-pre.h5"
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
