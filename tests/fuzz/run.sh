#!/usr/bin/env bash
# Fuzzes every target for MINUTES each, one after the other on one core, from the seeds (with tests/fuzz/corpus/*.zip).
# usage: tests/fuzz/run.sh [MINUTES [TARGET...]]        (needs clang; libclang-rt-14-dev: jobs/setup.sh)
#        tests/fuzz/run.sh coverage                     line coverage of the readers by the seeds and the corpus alone
# Findings stay in build/fuzz/found: crashes to be fixed, inputs that reach new code to be added to the zip.
set -euo pipefail
cd "$(dirname "$0")/../.."
minutes=${1:-1}
[ -n "${TMPDIR-}" ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm # targets write small files
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(tensorfile pickle json tsv config)
files=(src/base/json_read.c src/base/value.c src/io/pickle.c src/io/pickle_torch.c src/io/zip.c src/io/torch.c src/io/safetensors.c
    src/io/tensorfile.c)

if [ "$minutes" = coverage ]; then
    cmake -S . -B build/coverage -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang \
        -DCMAKE_C_FLAGS="-fprofile-instr-generate -fcoverage-mapping" >/dev/null
    ninja -C build/coverage fuzz_all >/dev/null
    /usr/bin/python3 tests/fuzz/seeds.py build/coverage/seeds
    objects=()
    for t in "${targets[@]}"; do
        LLVM_PROFILE_FILE=build/coverage/$t.profraw build/coverage/tests/fuzz-"$t" "build/coverage/seeds/$t" >/dev/null
        objects+=(-object "build/coverage/tests/fuzz-$t")
    done
    llvm-profdata-14 merge -o build/coverage/all.profdata build/coverage/*.profraw
    llvm-cov-14 report "${objects[@]}" -instr-profile=build/coverage/all.profdata "${files[@]}"
    exit
fi

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzz_all >/dev/null
/usr/bin/python3 tests/fuzz/seeds.py build/fuzz/seeds
for t in "${targets[@]}"; do
    mkdir -p "build/fuzz/found/$t"
    echo "fuzz $t: $minutes minutes"
    build/fuzz/tests/fuzz-"$t" -max_total_time=$((minutes * 60)) -max_len=4096 -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/found/$t-" "build/fuzz/found/$t" "build/fuzz/seeds/$t" 2>build/fuzz/"$t".log ||
        { tail -40 build/fuzz/"$t".log; exit 1; }
    tail -8 build/fuzz/"$t".log
done
