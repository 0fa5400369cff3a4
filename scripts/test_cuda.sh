#!/usr/bin/env bash
# CUDA without a GPU: the tests that compare devices with the reference, and those of operations, on a device that computes on
# the CPU (scripts/pretended_cuda/), and then training, evaluation and sampling of every network as each architecture that we
# support would have it, where launches per step are counted and bounded. All the while the real NVRTC compiles every kernel
# that runs for every architecture, and what it refuses fails.
#
#     scripts/test_cuda.sh [CARGO OPTION ...]      other options of cargo than a release build, to share a build with other tests
#
# It needs g++. The real NVRTC and NVIDIA's headers are those of SUBMASK_CUDA_PATH, or of CUDA_PATH, or come from PyPI into
# target/; where they cannot be had, that is said, and kernels are compiled for the CPU only.
set -euo pipefail
cd "$(dirname "$0")/.."

options=("$@")
[ $# -gt 0 ] || options=(--locked --release --features submask/cuda,submask-experiments/cuda -p submask -p submask-experiments)
pretended=$PWD/target/pretended_cuda
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# The toolkit with the real NVRTC and the headers that kernels include, or nothing.
find_toolkit() {
    local toolkit=${SUBMASK_CUDA_PATH:-${CUDA_PATH:-}}
    if [ -z "$toolkit" ]; then
        toolkit=$PWD/target/nvrtc/nvidia/cu13
        [ -d "$toolkit" ] || python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --target target/nvrtc \
            'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*' >&2 || return 0
    fi
    [ ! -e "$toolkit/include/crt/mma.h" ] || echo "$toolkit"
}

echo "- the pretended CUDA"
scripts/pretended_cuda/build.sh "$pretended"
toolkit=$(find_toolkit)
if [ -n "$toolkit" ]; then
    export PRETENDED_CUDA_CHECK=$toolkit
else
    echo "skipped: the real NVRTC, because SUBMASK_CUDA_PATH, CUDA_PATH and PyPI have no toolkit with it and with crt/mma.h"
fi
# Tests run with the pretended libraries, and cargo without: build scripts of dependencies look at CUDA_PATH.
found=("LD_LIBRARY_PATH=$pretended/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "CUDA_PATH=$pretended")
export CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER="env ${found[*]}"
programs=$(cargo build "${options[@]}" --bins --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')

echo "- tests on the pretended device"
export SUBMASK_TEST_SAMPLES=${SUBMASK_TEST_SAMPLES:-500}
SUBMASK_TEST_DEVICE=gpu:0 cargo test "${options[@]}" --lib -- ops::
# Versions of cuBLASLt that finish no result, and that have no algorithm for the number of rows that is asked first.
for refused in epilogues 8192; do
    PRETENDED_CUBLASLT_REFUSES=$refused cargo test "${options[@]}" --lib -- ops::tests::linear ops::tests::two_layers ops::tests::bfloat16_layers
done
SUBMASK_TEST_DEVICE=gpu:0 RUST_TEST_THREADS=1 cargo test "${options[@]}" --test it -- parity_networks parity_images parity_blocks device_
# Sums that pass between several devices.
PRETENDED_CUDA_DEVICES=3 cargo test "${options[@]}" --lib -- exchange::nccl --nocapture | tee "$scratch/said"
grep -q 'compared 3 CUDA devices' "$scratch/said" || fail "sums of several devices were not compared"

# Training, evaluation and samples of the networks whose launches are not counted below.
for architecture in 80 89 90; do
    PRETENDED_CUDA_SM=$architecture SUBMASK_TEST_DEVICE=gpu:0 SUBMASK_TEST_PRECISION=fp32,bf16 \
        cargo test "${options[@]}" --test it -- short_runs_of_other_networks
done

# counted PROGRAM ARGUMENT...: how many kernels a program launches, how often it waits for the device, and how many bytes it copies to
# the device and from there.
counted() {
    local program
    program=$(grep "/$1\$" <<<"$programs") || fail "no program $1"
    rm -f "$scratch/report.json"
    env "${found[@]}" DEVICE=gpu:0 PRETENDED_CUDA_REPORT="$scratch/report.json" "$program" "${@:2}" >"$scratch/said" 2>&1 || fail "$* ($(tail -5 "$scratch/said"))"
    for name in launches waits bytes_to_device bytes_to_host; do
        sed -n "s/^  \"$name\": \([0-9]*\),\$/\1/p" "$scratch/report.json"
    done | tr '\n' ' '
}

echo "- launches, waits, bytes to the device and from there"
# A program, a case, what it evaluates and samples, and the most kernels that a training step may launch.
while read -r program case evaluation sampling most; do
    for architecture in 80 89 90; do
        for precision in fp32 bf16; do
            export PRETENDED_CUDA_SM=$architecture PRECISION=$precision BATCH=1
            read -ra first <<<"$(counted "$program" train "$case" 1)"
            read -ra more <<<"$(counted "$program" train "$case" 3)"
            step=()
            for place in 0 1 2 3; do step+=($(((more[place] - first[place]) / 2))); done
            per_step=${step[0]}
            evaluated=$(counted "$program" evaluate "$case" ${evaluation#-})
            sampled=$(counted "$program" sample "$case" ${sampling#-})
            echo "$program $case, sm_$architecture, $precision: ${step[*]} per training step, ${evaluated% } to evaluate, ${sampled% } to sample"
            [ "$per_step" -le "$most" ] || fail "$per_step launches per training step are more than $most"
        done
    done
done <<'CASES'
dit_steps small - 2 115
dit_steps small-mdm - 2 120
dit_steps small-encoder - 2 105
dit_steps bytes-blocks - 2 430
unet_steps tiny 1 - 400
CASES

# Sums would depend on which thread comes first.
atomic=$(grep -lE '\batomic(Add|Sub|Exch|CAS|Inc|Dec)\b' "$pretended"/lib64/cache/*.cc || true)
[ -z "$atomic" ] || fail "kernels add atomically: $atomic"
echo "- kernels that add atomically: none of $(find "$pretended/lib64/cache" -name '*.cc' | wc -l)"

if [ -n "$toolkit" ]; then
    spilled=$(grep -l 'ptxas.* [1-9][0-9]* bytes spill' "$pretended"/lib64/cache/*.nvrtc || true)
    echo "- kernels that spill registers: ${spilled:-none}"
fi
