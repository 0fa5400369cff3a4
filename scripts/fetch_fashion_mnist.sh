#!/usr/bin/env bash
# Fetches Fashion-MNIST: `fetch_fashion_mnist.sh FOLDER`. The images come from Debian's package
# dataset-fashion-mnist (MIT licence), so this needs a Debian or a system derived from it, and a package list that is
# up to date (`apt-get update`). Nothing is installed: the package is unpacked into FOLDER.
set -euo pipefail

package=dataset-fashion-mnist
files=(train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz)

fail() { printf '%s\n' "$*" >&2; exit 1; }

[ $# -eq 1 ] || fail "usage: fetch_fashion_mnist.sh FOLDER"
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing: this works on Debian and its relatives only"
done
mkdir -p "$1"
folder=$(cd "$1" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get download -q -o APT::Sandbox::User=root "$package" ||
    fail "$package could not be downloaded; is the package list up to date (apt-get update)?"
dpkg-deb --extract "$package"_*.deb .
for file in "${files[@]}"; do
    cp "usr/share/datasets/fashion-mnist/$file" "$folder/$file"
    printf '%s\n' "$folder/$file"
done
