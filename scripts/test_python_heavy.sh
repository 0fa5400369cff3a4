#!/usr/bin/env bash
# The package for Python with PyTorch and lm-evaluation-harness, whose packages are too heavy for every change: tests/heavy.
#
#     scripts/test_python_heavy.sh target/release/submask
#
# The wheel is built and installed as scripts/test_python.sh does it. Variables of pip, such as PIP_EXTRA_INDEX_URL, may name an index that has
# PyTorch for CPUs alone, which is much smaller.
set -euo pipefail
program=$(realpath -- "$1")
cd "$(dirname "$0")/.."
# shellcheck source=scripts/python_environment.sh
. scripts/python_environment.sh

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

build_wheel "$program" "$scratch"
environment heavy 'pytest>=8,<10' numpy torch 'lm-eval>=0.4.13'
"$heavy/bin/python" -m pip install -q --disable-pip-version-check --no-deps --force-reinstall "$wheel"
export SUBMASK_PROGRAM=$program PYTHONDONTWRITEBYTECODE=1
"$heavy/bin/python" -m pytest -q -rs -p no:cacheprovider crates/submask-py/tests/heavy
