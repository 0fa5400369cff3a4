#!/usr/bin/env bash
# The tests of text networks and of the toy against the reference's vectors, and of sampling and training that stay on
# the device, on the CPU and on the first GPU, or on Mesa's software device. Shaders are WGSL: that works on lavapipe, where SPIR-V (cargo feature `vulkan`) ends in the driver.
# On Debian, as root: apt-get install mesa-vulkan-drivers libvulkan1
#
#     scripts/test_gpu.sh [FEATURE ...]    more cargo features, to share a build with other tests
set -euo pipefail
cd "$(dirname "$0")/.."
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$(mktemp -d)}

features=
for feature in wgpu "$@"; do features+=submask/$feature,submask-cli/$feature,; done
# Of a device that computes on the CPU fewer samples tell as much as time allows.
export SUBMASK_TEST_SAMPLES=${SUBMASK_TEST_SAMPLES:-500}
output=$(mktemp)
trap 'rm -f "$output"' EXIT
cargo test --locked --release --features "$features" --test it -- parity_networks parity_images device_ --nocapture |
    tee "$output"
if grep 'skipped on GPUs' "$output"; then
    echo 'FAILED: no GPU and no software device answers' >&2
    exit 1
fi
