#!/usr/bin/env bash
# The tests of networks against the reference's vectors on a GPU, or on Mesa's software device, and the program on both
# devices. Shaders are WGSL: this works on lavapipe, where SPIR-V (cargo feature `vulkan`) ends in the driver.
# On Debian, as root: apt-get install mesa-vulkan-drivers libvulkan1
set -euo pipefail
cd "$(dirname "$0")/.."
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$(mktemp -d)}

features=submask/wgpu,submask-cli/wgpu
output=$(mktemp)
trap 'rm -f "$output"' EXIT
cargo test --locked --release --features "$features" --test it parity_ -- --nocapture | tee "$output"
if grep 'skipped on GPUs' "$output"; then
    echo 'FAILED: no GPU and no software device answers' >&2
    exit 1
fi
cargo run --locked --release --features "$features" -p submask-cli -- bench --device gpu:0 --set model.hidden=32 \
    model.heads=2 model.blocks=1 model.seq_len=16 model.cond_dim=8 tokenizer.vocab_size=300 sample.steps=4
