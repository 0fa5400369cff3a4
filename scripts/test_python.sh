#!/usr/bin/env bash
# The package for Python, as users get it: a wheel, installed into a fresh environment, in which the tests and the examples run, and
# which mypy checks, with the stub of the extension module.
#
#     scripts/test_python.sh target/release/submask
#
# The argument is the program that Python is compared with, of a release or of a debug build. The wheel is built from what that build has
# compiled, without the feature `hub`. Environments and packages stand in a cache outside the repository. On Debian, as root, python3-venv is installed where
# it is missing; what cannot be had is said, and skipped.
set -euo pipefail
program=$(realpath -- "$1")
cd "$(dirname "$0")/.."
# shellcheck source=scripts/python_environment.sh
. scripts/python_environment.sh

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "- the wheel"
build_wheel "$program" "$scratch"
printf '%s: %s MB\n' "$(basename "$wheel")" "$(($(stat -c %s "$wheel") / 1000000))"

echo "- installed into a fresh environment"
python=$scratch/fresh/bin/python
"$python3" -m venv "$scratch/fresh"
started=$SECONDS
"$python" -m pip install -q --disable-pip-version-check "$wheel"
printf 'installed in %s s: %s\n' "$((SECONDS - started))" "$("$python" -m pip list --format freeze --exclude pip --exclude setuptools | tr '\n' ' ')"
"$scratch/fresh/bin/submask" --version

echo "- tests and examples"
"$python" -m pip install -q --disable-pip-version-check 'pytest>=8,<10' 'mypy>=2.4,<3' tokenizers ||
    "$python" -m pip install -q --disable-pip-version-check 'pytest>=8,<10' 'mypy>=2.4,<3'
export SUBMASK_PROGRAM=$program PYTHONDONTWRITEBYTECODE=1
here=crates/submask-py
"$python" -m pytest -q -p no:cacheprovider --ignore "$here/tests/heavy" "$here/tests"

echo "- types"
# Modules are found beside those that are named; the package is the installed one.
check=(--strict --cache-dir "$scratch/mypy" --config-file pyproject.toml)
"$python" -m mypy "${check[@]}" -p submask
MYPYPATH=$here/tests:scripts "$python" -m mypy "${check[@]}" "$here"/tests/*.py "$here"/examples/*.py
# What may be a base of classes is of no concern: the stub is not for users.
"$python" -m mypy.stubtest --mypy-config-file pyproject.toml --ignore-disjoint-bases submask._native
