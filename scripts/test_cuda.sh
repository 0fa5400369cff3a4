#!/usr/bin/env bash
# CUDA without a GPU: the tests that compare devices with the reference, and those of operations, on a device that computes on
# the CPU (scripts/pretended_cuda/); then training, evaluation and sampling of every network with the real NVRTC, for every
# architecture that we support, where kernels compile and do not run, and launches per step are counted.
#
#     scripts/test_cuda.sh [CARGO OPTION ...]      other options of cargo than --release, to share a build with other tests
#
# It needs g++. The real NVRTC and NVIDIA's headers are those of SUBMASK_CUDA_PATH, or of CUDA_PATH, or come from PyPI into
# target/; where they cannot be had, that is said, and what needs them is skipped.
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

# The toolkit with the real NVRTC, or nothing.
find_toolkit() {
    local given=${SUBMASK_CUDA_PATH:-${CUDA_PATH:-}}
    if [ -n "$given" ]; then
        echo "$given"
        return
    fi
    local packages=target/nvrtc
    if [ ! -d "$packages/nvidia/cu13" ]; then
        python3 -m pip install -q --disable-pip-version-check --target "$packages" \
            'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*' >&2 || return 0
    fi
    echo "$PWD/$packages/nvidia/cu13"
}

# A toolkit with the real compiler and no other library of NVIDIA's, which would ask for a real driver.
only_compiler() {
    mkdir -p "$2/lib64"
    ln -sfn "$1/include" "$2/include"
    local found=
    for library in "$1"/lib64/libnvrtc* "$1"/lib/libnvrtc*; do
        [ -e "$library" ] || continue
        ln -sf "$library" "$2/lib64/"
        found=1
    done
    [ -n "$found" ]
}

echo "- the pretended CUDA"
scripts/pretended_cuda/build.sh "$pretended"
toolkit=$(find_toolkit)
if [ -n "$toolkit" ] && only_compiler "$toolkit" "$pretended/real"; then
    # What the real NVRTC refuses for any architecture is refused in all tests.
    export PRETENDED_CUDA_CHECK=$pretended/real
else
    echo "skipped: the real NVRTC, which neither SUBMASK_CUDA_PATH nor PyPI has"
fi
cargo test "${options[@]}" --no-run
programs=$(cargo build "${options[@]}" --bins --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
program() { grep "/$1\$" <<<"$programs" || fail "no program $1"; }
dit=$(program dit_steps)
unet=$(program unet_steps)

export LD_LIBRARY_PATH=$pretended/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

echo "- tests on the pretended device"
pretend() { CUDA_PATH=$pretended SUBMASK_TEST_DEVICE=gpu:0 PRETENDED_CUDA_REPORT=$scratch/tests.json "$@"; }
pretend cargo test "${options[@]}" --lib -- ops::
pretend cargo test "${options[@]}" --test it -- parity_networks parity_images parity_blocks device_

# launches ARCHITECTURE PRECISION PROGRAM ARGUMENT...: how many kernels and products a program launched, with the real NVRTC.
launches() {
    rm -f "$scratch/report.json"
    PRETENDED_CUDA_SM=$1 PRECISION=$2 DEVICE=gpu:0 CUDA_PATH=$pretended/real PRETENDED_CUDA_RUN=0 PRETENDED_CUDA_REPORT=$scratch/report.json \
        "${@:3}" >"$scratch/said" 2>&1 || fail "$* ($(tail -3 "$scratch/said"))"
    sed -n 's/^  "launches": \([0-9]*\),$/\1/p' "$scratch/report.json"
}

[ -n "${PRETENDED_CUDA_CHECK:-}" ] || exit 0
unset PRETENDED_CUDA_CHECK
echo "- training, evaluation and sampling with the real NVRTC: launches per step"
# Program, case, and the most kernels that a training step may launch.
while read -r name case most; do
    for architecture in 80 89 90; do
        for precision in fp32 bf16; do
            steps() { launches "$architecture" "$precision" "$(program "$name")" "$@"; }
            few=$(steps train "$case" 1)
            many=$(steps train "$case" 3)
            per_step=$(((many - few) / 2))
            evaluation=$(steps evaluate "$case" $([ "$name" = dit_steps ] || echo 1))
            sampling=$(steps sample "$case" $([ "$name" = dit_steps ] && echo 2))
            echo "$name $case, sm_$architecture, $precision: $per_step per training step, $evaluation for an evaluation, $sampling for sampling"
            [ "$per_step" -le "$most" ] || fail "$per_step launches are more than $most"
        done
    done
done <<'CASES'
dit_steps small 100000
dit_steps small-mdm 100000
dit_steps small-encoder 100000
dit_steps bytes-blocks 100000
unet_steps tiny 100000
CASES
