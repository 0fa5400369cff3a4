#!/usr/bin/env bash
# Training with one GPU per rank, without GPUs: MPI starts ranks on pretended devices (scripts/pretended_cuda/), between which a
# library in the place of NCCL carries tensors. Weights, metrics and checkpoints are compared with those of one process.
#
#     scripts/test_nccl.sh [CARGO OPTION ...]      other options of cargo than a release build, to share a build with other tests
#
# It needs g++, Open MPI and libclang, which scripts/test_mpi.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."
options=("$@")
[ $# -gt 0 ] || options=(--locked --release)

pretended=$PWD/target/pretended_cuda
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
scripts/pretended_cuda/build.sh "$pretended"
program=$(MPICC=mpicc.openmpi cargo build "${options[@]}" -p submask-cli --features submask-cli/mpi,submask-cli/cuda --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/submask\)".*/\1/p')
export CUDA_PATH=$pretended PRETENDED_CUDA_DEVICES=3
LD_LIBRARY_PATH=$pretended/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} scripts/mpi_runs.py --mpirun mpirun.openmpi --gpus 3 "$program"

# Without NCCL, which is named.
mkdir "$scratch/driver"
ln -s "$pretended"/driver/libcu* "$scratch/driver/"
if LD_LIBRARY_PATH=$scratch/driver mpirun.openmpi --allow-run-as-root --oversubscribe -n 2 "$program" train --data README.md --out "$scratch/run" \
    --steps 1 --device gpu:local --set train.accumulate=2 tokenizer.kind=bytes >"$scratch/said" 2>&1; then
    echo "FAILED: ranks on GPUs without NCCL" >&2
    exit 1
fi
grep -q 'NCCL, by which .* cannot be used: libnccl.so.2.*: install NCCL' "$scratch/said" || {
    cat "$scratch/said" >&2
    echo "FAILED: what is missing is not named" >&2
    exit 1
}
echo "- without NCCL: refused by name"
