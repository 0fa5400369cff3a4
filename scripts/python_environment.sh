# To be sourced: environments of Python outside the repository.
#
# environment NAME PACKAGE…: an environment with the packages, kept from call to call, whose folder is $NAME then. $python3 is the
# interpreter that it is of. build_wheel PROGRAM FOLDER: a wheel without the feature `hub`, by the profile that the program was built
# by; its path is $wheel then. A script that cannot have what it needs says so and ends.
# shellcheck shell=bash

skip() { printf 'skipped: %s\n' "$*"; exit 0; }

python3=$(command -v python3 || true)
[ -n "$python3" ] || skip "there is no Python"
"$python3" -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' || skip "Python is older than 3.10"
if ! "$python3" -c 'import ensurepip' 2>/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv; } >&2 || true
fi
"$python3" -c 'import ensurepip' 2>/dev/null || skip "Python has no ensurepip (Debian's python3-venv), and it cannot be installed"

cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/submask-python-tests
mkdir -p "$cache"
export PIP_CACHE_DIR=$cache/pip

environment() {
    local name=$1 folder=$cache/$1
    shift
    [ -x "$folder/bin/python" ] || "$python3" -m venv "$folder"
    "$folder/bin/python" -m pip install -q --disable-pip-version-check "$@" >&2 || skip "these packages cannot be had: $*"
    printf -v "$name" '%s' "$folder"
}

build_wheel() {
    local profile=(--release)
    case $1 in */debug/*) profile=() ;; esac
    environment tools 'maturin>=1.16,<2'
    # shellcheck disable=SC2154 # environment sets it
    "$tools/bin/maturin" build "${profile[@]}" --locked --features default --interpreter "$tools/bin/python" --out "$2/wheel" \
        >"$2/log" 2>&1 || { cat "$2/log" >&2; exit 1; }
    wheel=$(echo "$2"/wheel/*.whl)
}
