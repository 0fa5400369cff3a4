#!/usr/bin/env bash
# `submask serve` with clients that others wrote: Python's package openai, a validator of OpenAPI documents, many clients at once, and
# the page in Chromium.
#
#     scripts/test_server.sh target/release/submask runs/dictionary [runs/emoji]
#
# The first model is of text, the second one of images. What cannot be had is said, and skipped. Python's packages go to a cache
# outside the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
submask=$1
text=$2
images=${3:-}

scratch=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

models=("text=$text")
[ -z "$images" ] || models+=("images=$images")

# start FLAGS…: a server of the models; its address in $address.
start() {
    "$submask" serve "${models[@]}" --addr 127.0.0.1:0 "$@" >"$scratch/out" 2>"$scratch/log" &
    server=$!
    address=
    for _ in $(seq 100); do
        address=$(sed -n 's/^listening on //p' "$scratch/out")
        [ -z "$address" ] || return 0
        sleep 0.1
    done
    cat "$scratch/log" >&2
    echo "the server did not start" >&2
    exit 1
}

# stop: ends the server as a service manager does.
stop() {
    kill "$server"
    wait "$server" || { echo "the server ended with $?" >&2; exit 1; }
    server=
}

start
echo "- as the package openai asks"
environment=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/submask-server-tests
python=$environment/bin/python
if [ ! -x "$python" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && ! python3 -c 'import ensurepip' 2>/dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv; } >&2 || true
fi
if "$python" -c 'import openai, openapi_spec_validator' 2>/dev/null ||
    { python3 -m venv "$environment" && "$python" -m pip install -q openai openapi-spec-validator; } >&2; then
    "$python" scripts/openai_client.py "$address" text "$submask" "$text"
else
    echo "skipped: Python's packages openai and openapi-spec-validator are not here and cannot be installed"
fi

echo "- in every setting, beside what the program prints"
if command -v python3 >/dev/null; then
    scripts/compare_served.py "$address" text "$submask" "$text" --short
else
    echo "skipped: there is no Python"
fi

echo "- by many clients at once"
if command -v python3 >/dev/null; then
    scripts/load_server.py "$submask" "$text" --clients 40 --seconds 10 --requests 12 --rounds 0
else
    echo "skipped: there is no Python"
fi

stop

echo "- the page"
printf 'a-token-of-this-test\n' >"$scratch/token"
start --token-file "$scratch/token"
SUBMASK_PAGE_TOKEN=a-token-of-this-test scripts/test_page.sh "$address" ${SUBMASK_PAGE_SCREENSHOTS:+"$SUBMASK_PAGE_SCREENSHOTS"}
stop
