#!/usr/bin/env bash
# The package for Python, as users get it: a wheel, installed into a fresh environment, in which the tests and the examples run, and
# which mypy checks, with the stub of the extension module.
#
#     scripts/test_python.sh target/release/submask
#
# The argument is the program that Python is compared with, of a release or of a debug build. The wheel is built from what that build has
# compiled, without the feature `hub`. Environments and packages stand in a cache outside the repository. On Debian, as root, Python and
# python3-venv are installed where they are missing, and nothing is left out because something cannot be had; for others, what cannot be
# had is said, and skipped. What needs PyTorch or lm-evaluation-harness is left to test_python_heavy.sh, but for its types.
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
"$python" -m pip install -q --disable-pip-version-check 'pytest>=8,<10' 'mypy>=2.4,<3' || skip_all "pytest and mypy cannot be had"
"$python" -m pip install -q --disable-pip-version-check tokenizers ||
    skip "tests with the package tokenizers" "it cannot be had"
export SUBMASK_PROGRAM=$program PYTHONDONTWRITEBYTECODE=1
here=crates/submask-py
# -rs: says which tests are skipped, and why.
"$python" -m pytest -q -rs -p no:cacheprovider --ignore "$here/tests/heavy" "$here/tests"

echo "- types"
# Modules are found beside those that are named; the package is the installed one.
check=(--strict --cache-dir "$scratch/mypy" --config-file pyproject.toml)
"$python" -m mypy "${check[@]}" -p submask
MYPYPATH=$here/tests:scripts "$python" -m mypy "${check[@]}" "$here"/{tests,tests/heavy,examples,submask.data/purelib}/*.py
# What may be a base of classes is of no concern: the stub is not for users.
"$python" -m mypy.stubtest --mypy-config-file pyproject.toml --ignore-disjoint-bases submask._native
