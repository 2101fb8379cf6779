#!/usr/bin/env bash
# Fuzzes the targets, one after the other on one core, from the seeds (with tests/fuzz/corpus/*.zip): a minute each, some minutes in all.
# usage: tests/fuzz/run.sh [TARGET...]           (needs clang; libclang-rt-14-dev: jobs/setup.sh)
#        EARSHOT_FUZZ_SECONDS=900 tests/fuzz/run.sh     15 minutes each
#        tests/fuzz/run.sh coverage              line coverage of the readers by the seeds and the corpus alone, want 90 %
# Findings stay in build/fuzz/found: crashes to be fixed, inputs that reach new code to be added to the zip. A target that crashes does
# not keep the others from running; the exit code is 1 then.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${EARSHOT_FUZZ_SECONDS:-60}
[ -n "${TMPDIR-}" ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm # targets write small files
files=(src/base/json_read.c src/base/value.c src/io/pickle.c src/io/pickle_torch.c src/io/zip.c src/io/torch.c src/io/safetensors.c
    src/io/tensorfile.c src/io/tsv.c src/config/yaml.c src/config/yamlrows.c src/config/value.c)

targets=("$@")
[ "${1-}" = coverage ] || [ $# -gt 0 ] || targets=(tensorfile pickle json tsv config)

if [ "${1-}" = coverage ]; then
    cmake -S . -B build/coverage -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang \
        -DCMAKE_C_FLAGS="-fprofile-instr-generate -fcoverage-mapping" >/dev/null
    ninja -C build/coverage fuzz_all >/dev/null
    /usr/bin/python3 tests/fuzz/seeds.py build/coverage/seeds
    objects=()
    for t in tensorfile pickle json tsv config; do
        rm -f "build/coverage/$t.profraw"
        LLVM_PROFILE_FILE=build/coverage/$t.profraw build/coverage/tests/fuzz-"$t" "build/coverage/seeds/$t" >/dev/null
        objects+=(-object "build/coverage/tests/fuzz-$t")
    done
    llvm-profdata-14 merge -o build/coverage/all.profdata build/coverage/*.profraw
    # columns of the report: ... lines, lines missed, their coverage, branches ...
    llvm-cov-14 report build/coverage/tests/fuzz-tensorfile "${objects[@]}" -instr-profile=build/coverage/all.profdata "${files[@]}" |
        awk '/\.c / { c = $10 + 0; printf "%-28s %7.2f %% of %d lines\n", $1, c, $8; if (c < 90) low = 1 }
             END { if (low) print "below 90 %: add seeds (tests/fuzz/seeds.py)"; exit low }'
    exit
fi

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${targets[@]/#/fuzz-}" >/dev/null
/usr/bin/python3 tests/fuzz/seeds.py build/fuzz/seeds
failed=0
for t in "${targets[@]}"; do
    mkdir -p "build/fuzz/found/$t"
    echo "fuzz $t: $seconds s"
    if build/fuzz/tests/fuzz-"$t" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/found/$t-" "build/fuzz/found/$t" "build/fuzz/seeds/$t" 2>build/fuzz/"$t".log; then
        grep -E 'DONE|new_units_added|exec.*per_sec' build/fuzz/"$t".log || true
    else
        tail -40 build/fuzz/"$t".log
        failed=1
    fi
done
exit $failed
