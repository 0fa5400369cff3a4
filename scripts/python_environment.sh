# To be sourced: environments of Python outside the repository.
#
# environment NAME PACKAGE…: an environment with the packages, kept from call to call, whose folder is $NAME then. $python3 is the
# interpreter that it is of. build_wheel PROGRAM FOLDER: a wheel without the feature `hub`, by the profile that the program was built
# by; its path is $wheel then. A script that cannot have what it needs says so and ends. For root on a system with apt-get, who can
# install everything, that is a failure; for others everything that the script tests is skipped.
# shellcheck shell=bash

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# skip WHAT REASON…: says that something is not tested; for who can install everything, it is a failure.
skip() {
    local what=$1
    shift
    can_install && { printf 'FAILED: %s: %s\n' "$what" "$*" >&2; exit 1; }
    printf 'skipped: %s: %s\n' "$what" "$*"
}

skip_all() { skip "all of ${0##*/}" "$@"; exit 0; }

has_venv() { command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null; }

if ! has_venv && can_install; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3 python3-venv; } >&2 || true
    hash -r
fi
python3=$(command -v python3 || true)
[ -n "$python3" ] || skip_all "there is no Python"
"$python3" -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' || skip_all "Python is older than 3.10"
has_venv || skip_all "Python has no ensurepip (Debian's python3-venv), and it cannot be installed"

cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/submask-python-tests
mkdir -p "$cache"
export PIP_CACHE_DIR=$cache/pip

environment() {
    local name=$1 folder=$cache/$1
    shift
    [ -x "$folder/bin/python" ] || "$python3" -m venv "$folder"
    "$folder/bin/python" -m pip install -q --disable-pip-version-check "$@" >&2 || skip_all "these packages cannot be had: $*"
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
