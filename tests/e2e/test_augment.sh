#!/bin/bash
# TIMEOUT 900
# All augmentations at once through the program: pre-training and both stages to the same bits on 1, 2 and 4 ranks; impulse
# responses that are missing or too long are said in one line.
# shellcheck disable=SC2015  # fail has no failure of its own
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
toy_stores
toy_configs
[ $failures = 0 ] || done_testing

# impulse responses: mono and stereo, other rates than 16 kHz, even and odd lengths
"$python" - <<'PY'
import random, struct, wave
random.seed(5)
for name, rate, channels, n in (("a", 16000, 1, 300), ("b", 44100, 2, 1501), ("c", 32000, 1, 2000), ("long", 16000, 1, 160001)):
    with wave.open(f"dir-{name}.wav", "wb") as f:
        f.setnchannels(channels)
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(b"".join(struct.pack("<h", int(9000 * 0.99 ** (i // channels) * random.uniform(-1, 1))) for i in range(n * channels)))
PY
all=(--set augment.dir=0.6 --set "augment.dir_files=[dir-a.wav, dir-b.wav, dir-c.wav]" --set augment.gain_db=5 --set augment.frame_shift=0.125
    --set augment.time_mask=true --set augment.mixup=0.5 --set augment.wavmix=0.5 --set augment.mixstyle=0.6 --set augment.filter=0.8)
while read -r phase ranks; do
    set=("${all[@]}")
    [ "$phase" = stage1 ] || set+=(--set augment.freq_warp=0.6)
    ok 1 train --config "$phase.yaml" "${set[@]}" --set "run.dir=runs/$phase"
    for np in $ranks; do
        ok "$np" train --config "$phase.yaml" "${set[@]}" --set "run.dir=runs/np$np"
        same_runs "runs/$phase" "runs/np$np"
        rm -r "runs/np$np"
    done
done <<RANKS
pre 2
stage1 4
stage2 2 4
RANKS
# and they do change the result
ok 1 train --config pre.yaml --set augment.gain_db=5 --set run.dir=runs/less
[ "$(digest runs/less/checkpoint-last.h5)" != "$(digest runs/pre/checkpoint-last.h5)" ] || fail "augmentations change nothing"

refuses() { # TEXT ARGS...: code 64 to 66 and one line with the text
    local text=$1
    shift
    go 2 train --config pre.yaml --set run.dir=runs/never --set augment.dir=0.5 "$@"
    [ $code -ge 64 ] && [ $code -le 74 ] && [ "$(errors | grep -c "$text")" = 1 ] || fail "code $code, want: $text"
}
refuses "augment.dir_files"
refuses "augment.dir_files: none.wav: cannot open" --set "augment.dir_files=[dir-a.wav, none.wav]"
refuses "want at most 160000" --set "augment.dir_files=[dir-long.wav]"
done_testing
