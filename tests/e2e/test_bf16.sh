#!/bin/bash
# TIMEOUT 600
# train.precision: bf16 through the program, emulated: one curve on any number of ranks and across a stop; checkpoints are fp32 masters
# that runs of either precision start from; fp32 with a note where the processor cannot; bench step says what it did.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
limit=400
toy_stores
toy_configs
[ $failures = 0 ] || done_testing
bf16=(--set train.precision=bf16)
note="train.precision: bf16: this processor has no bf16 instructions; computing in fp32"

# ---- the same bits on 1, 2 and 4 ranks, and after a stop at step 3 on 2 ranks
export ES_BF16=emulate
for np in 1 2 4; do
    ok $np train --config pre.yaml "${bf16[@]}" --set run.dir=runs/bf$np
    [ $np = 1 ] || same_runs runs/bf1 runs/bf$np
done
grep -q "precision=bf16 by=emulate" runs/bf1/log.txt || fail "the log does not tell the precision"
ok 2 train --config pre.yaml "${bf16[@]}" --set run.dir=runs/halves --set train.max_steps=3
ok 1 train --config pre.yaml "${bf16[@]}" --set run.dir=runs/halves
same_runs runs/bf1 runs/halves

# ---- where there are no instructions: fp32's bits, and one line that says so, on standard error and in the log
ok 1 train --config pre.yaml --set run.dir=runs/pre
export ES_BF16=off
ok 2 train --config pre.yaml "${bf16[@]}" --set run.dir=runs/off
[ "$(grep -c "$note" all_err)" = 1 ] && [ "$(grep -c "$note" runs/off/log.txt)" = 1 ] || fail "no note of fp32"
[ "$(digest runs/off/checkpoint-last.h5)" = "$(digest runs/pre/checkpoint-last.h5)" ] || fail "bf16 that is fp32 differs from fp32"
[ "$(digest runs/bf1/checkpoint-last.h5)" != "$(digest runs/pre/checkpoint-last.h5)" ] || fail "bf16 gives the bits of fp32"

# ---- the precision is part of a run
go 1 train --config pre.yaml --set run.dir=runs/bf1
[ $code = 64 ] && errors | grep -q "other values of train.precision;" || fail "resume in fp32: code $code"

# ---- a checkpoint of one precision starts a run of the other, and is predicted from in fp32
export ES_BF16=emulate
few=(--set train.leaves=2 --set train.max_steps=2 --set train.validate_every=0)
ok 1 train --config stage1.yaml "${few[@]}" --set model.init=runs/bf1/checkpoint-last.h5
ok 1 train --config stage2.yaml "${few[@]}" "${bf16[@]}"
ok 1 train --config stage1.yaml "${few[@]}" "${bf16[@]}" --set run.dir=runs/stage1b
ok 2 train --config stage1.yaml "${few[@]}" "${bf16[@]}" --set run.dir=runs/stage1c
same_runs runs/stage1b runs/stage1c
for kind in emulate off; do
    ES_BF16=$kind ok 1 predict --checkpoint runs/stage2/checkpoint-last.h5 --store desed.h5 --subset validation --out p-$kind.h5
done
[ "$(digest p-emulate.h5)" = "$(digest p-off.h5)" ] || fail "prediction is not in fp32"

# ---- bench step
while read -r kind worst; do
    ES_BF16=$kind ok 1 bench step --precision bf16 --depth 1 --batch 1 --steps 1 --json bench.json
    "$python" -c 'import json, sys; b = json.load(open("bench.json")); sys.exit(not (
        b["precision"] == "bf16" and b["bf16"] == sys.argv[1].replace("off", "none") and b["clips_per_s"] > 0 and
        b["peak_gflops_per_s"] is None and b["mfu"] is None and 0 < b["verified"] < float(sys.argv[2])))' "$kind" "$worst" ||
        [ "$(grep -c avx512_bf16 /proc/cpuinfo)" != 0 ] || fail "bench step with $kind: $(cat bench.json)"
done <<KINDS
emulate 0.2
onednn-fp32 1e-3
off 1e-3
KINDS
go 1 bench step --precision fp8
[ $code = 64 ] || fail "bench step --precision fp8: $code"
ES_BF16=always go 1 bench step --depth 1
[ $code = 64 ] && errors | grep -q 'ES_BF16: got "always", want emulate, onednn-fp32 or off' || fail "ES_BF16=always: $code"
done_testing
