#!/usr/bin/env bash
# Training under MPI: the same bits on any number of ranks, and what happens where ranks fail.
#
#     scripts/test_mpi.sh [--short] [--mpich]
#
# Installs Open MPI (or MPICH) and libclang from Debian where they are missing, builds the program with the cargo feature `mpi`,
# and runs scripts/mpi_runs.py. The long form takes about six minutes on two cores, the short one about one minute, with a build
# that is there already. target/release/submask is the program without the feature afterwards, as before.
set -euo pipefail
cd "$(dirname "$0")/.."

short=()
packages=(openmpi-bin libopenmpi-dev)
mpicc=mpicc.openmpi mpirun=mpirun.openmpi
for argument in "$@"; do
    case $argument in
        --short) short=(--short) ;;
        --mpich) packages=(mpich libmpich-dev) mpicc=mpicc.mpich mpirun=mpirun.mpich ;;
        *) echo "usage: scripts/test_mpi.sh [--short] [--mpich]" >&2; exit 2 ;;
    esac
done

has_libclang() { ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1; }
is_complete() { command -v "$mpicc" >/dev/null && command -v "$mpirun" >/dev/null && has_libclang; }
if ! is_complete; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "skipped: missing ${packages[*]} libclang-dev, which cannot be installed here"
        exit 0
    fi
    DEBIAN_FRONTEND=noninteractive apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" libclang-dev
fi

target=${CARGO_TARGET_DIR:-target}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Both have the same name: the one without the feature first, which is there already.
cargo build --release --locked --bin submask
cp "$target/release/submask" "$scratch/without"
# The bindings are not made anew by themselves where the compiler of the last build was another one.
cargo clean --release --locked -p mpi-sys
MPICC=$mpicc cargo build --release --locked --bin submask --features submask-cli/mpi
cp "$target/release/submask" "$scratch/submask"
cargo build --release --locked --bin submask

scripts/mpi_runs.py "${short[@]}" --mpirun "$mpirun" --without "$scratch/without" "$scratch/submask"
