#!/usr/bin/env bash
# Installs the Debian packages that Earshot needs and that are missing. Called by jobs/quickstart.sh and tests/run.sh.
# usage: jobs/setup.sh [--bench] [--dry-run]      --bench: also what tests/bench and analysis/scaling compare with
set -euo pipefail

build=(gcc cmake ninja-build pkg-config git libopenmpi-dev openmpi-bin libopenblas-openmp-dev libdnnl-dev
    libhdf5-openmpi-dev libfftw3-dev libfftw3-mpi-dev libscalapack-openmpi-dev libsndfile1-dev libsoxr-dev
    libyaml-dev libxxhash-dev zlib1g-dev)
tests=(libcmocka-dev hdf5-tools slurmctld slurmd slurm-client munge iproute2 clang clang-format clang-tidy cppcheck shellcheck
    libomp-14-dev libclang-rt-14-dev llvm-14 valgrind)
analysis=(python3 python3-h5py python3-numpy python3-scipy python3-matplotlib)
bench=()
if [ "${1:-}" = --bench ]; then
    bench=(libsimgrid-dev python3-torch python3-torchaudio)
    shift
fi

missing=()
for p in "${build[@]}" "${tests[@]}" "${analysis[@]}" ${bench[@]+"${bench[@]}"}; do
    case $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true) in
    *' installed') ;;
    *) missing+=("$p") ;;
    esac
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: all packages are there"
    exit 0
fi
echo "setup: missing: ${missing[*]}"
[ "${1:-}" = --dry-run ] && exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "setup: not root and no sudo: ask an administrator for these packages" >&2; exit 74; }
    sudo=(sudo)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "setup: apt-get update, apt-get install (log on failure)"
"${sudo[@]}" apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; echo "setup: apt-get update failed" >&2; exit 74; }
# Services (slurmd, munge) are for the tests' private cluster: they must not start by themselves.
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >"$log" 2>&1 || { tail -30 "$log" >&2; echo "setup: apt-get install failed" >&2; exit 74; }
echo "setup: installed ${#missing[@]} packages"
