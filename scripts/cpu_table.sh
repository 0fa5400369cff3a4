#!/usr/bin/env bash
# Every figure of the CPU that docs/benchmarks.md compares with PyTorch, one after the other: the rate of registers and of
# linear layers, the text network and the U-Net beside PyTorch, and the time of the README's quick start. Nothing else
# should run meanwhile; it takes about half an hour on two cores.
#
#     scripts/cpu_table.sh PYTHON [ROUNDS]    a Python with torch, numpy and safetensors; rounds of each comparison [5]
#
# SUBMASK_VECTOR_BITS=256 limits the vectors of our side.
set -euo pipefail
python=${1:?a Python with torch, numpy and safetensors}
rounds=${2:-5}
cd "$(dirname "$0")/.."

cargo build --locked --release -p submask-experiments -p submask-cli
echo "processes that wait before: $(cut -d' ' -f1 /proc/loadavg)"
target/release/roofline
DIT_STEPS=target/release/dit_steps "$python" bench/peers/compare_dit.py "$rounds"
UNET_STEPS=target/release/unet_steps "$python" bench/peers/compare_unet.py "$rounds"
if target/release/submask bench --precision bf16 >/dev/null 2>&1; then
    DIT_STEPS=target/release/dit_steps "$python" bench/peers/compare_dit.py "$rounds" --bf16 \
        --only train-bytes sample-bytes sample-gpt2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
start=$(date +%s)
(program=$PWD/target/release/submask && cd "$folder" && "$program" train >/dev/null)
echo "quick start: $(($(date +%s) - start)) s"
echo "processes that wait after: $(cut -d' ' -f1 /proc/loadavg)"
