#!/bin/bash
# TIMEOUT 900
# The public code's default augmentations (spec/training.md 3.1) on the other transformers: pre-training and both stages, finite
# losses, other ones than without any, the same bits on two ranks. tests/e2e/test_augment.sh: ATST.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
limit=400 # seconds a job, for busy machines
toy_stores
toy_configs
[ $failures = 0 ] || done_testing
declare -A augment=(
    [pre]="wavmix=0.8 wavmix_alpha=2 mixup=0.3 frame_shift=0.125 mixstyle=0.3 mixstyle_alpha=0.4 filter=0.8 freq_warp=0.8"
    [stage1]="wavmix=0.5 mixup=0.5 mixstyle=0.5 filter=0.8"
    [stage2]="wavmix=0.5 mixup=0.5 mixstyle=0.5 filter=0.8 freq_warp=0.5 time_mask=true dir=0.5 dir_files=[demo/dirs]"
)
off=(--set augment.time_mask=false)
for key in wavmix mixup frame_shift mixstyle filter dir; do off+=(--set "augment.$key=0"); done
for arch in fpasst beats; do
    for phase in pre stage1 stage2; do
        on=()
        for setting in ${augment[$phase]}; do on+=(--set "augment.$setting"); done
        set=(--config "$phase.yaml" --set "model.arch=$arch" --set train.validate_every=0 --set train.max_steps=4)
        [ $phase = pre ] || set+=(--set crnn.embed_pool=nearest-exact --set train.leaves=2)
        [ $arch != beats ] || set+=(--set beats.conv_taps=16 --set beats.patch_embed=24)
        [ $arch != beats ] || [ $phase = pre ] || set+=(--set model.wrapper=false)
        plain=("${off[@]}")
        [ $phase = stage1 ] || plain+=(--set augment.freq_warp=0)
        ok 1 train "${set[@]}" "${plain[@]}" --set run.dir=runs/plain
        ok 1 train "${set[@]}" "${on[@]}"
        run="runs/$phase"
        [ $phase != stage2 ] || { ok 2 train "${set[@]}" "${on[@]}" --set run.dir=runs/two && same_runs runs/stage2 runs/two; }
        "$python" - "$run" <<'PY' || fail "$arch $phase"
import sys
import h5py
import numpy as np
with h5py.File(sys.argv[1] + "/metrics.h5") as a, h5py.File("runs/plain/metrics.h5") as b:
    x, y = a["step/loss"][()], b["step/loss"][()]
    assert len(x) == len(y) == 4 and np.isfinite(x).all() and np.isfinite(a["step/gradient_norm"][()]).all(), x
    assert (x != y).any(), x
    leaf = a["leaf"][()]
    assert np.isfinite(leaf[~np.isnan(leaf).all(-1)]).all(), leaf
PY
        rm -rf runs/plain runs/two
    done
    rm -r runs/*
done
done_testing
