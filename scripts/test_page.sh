#!/usr/bin/env bash
# The page of `submask serve`: its modules with Node, and the page itself in Chromium against a server that runs.
#
#     scripts/test_page.sh                              the modules alone
#     scripts/test_page.sh http://127.0.0.1:8080 [DIR]  the page, too; DIR: where screenshots go [default: a temporary folder]
#
# SUBMASK_PAGE_TOKEN is the server's token, if it has one. On Debian, as root, Node and Chromium are installed where they are
# missing; playwright-core and axe-core go to a cache outside the repository. What cannot be had is said, and skipped.
set -euo pipefail
screenshots=${2:+$(realpath -m -- "$2")}
cd "$(dirname "$0")/.."
tests=crates/submask-server/page-tests

skip() { printf 'skipped: %s\n' "$*"; exit 0; }

# has COMMAND PACKAGE: installs the package where the command is missing, if that is possible.
has() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$2"; } >&2
    command -v "$1" >/dev/null
}

has node nodejs || skip "the tests of the page need Node, which is not here and cannot be installed"
node --test --test-reporter=dot "$tests"/*.test.js

[ $# -ge 1 ] || skip "the page itself needs the address of a running server"
has npm npm || skip "the page itself needs npm, which is not here and cannot be installed"
has chromium chromium || skip "the page itself needs Chromium, which is not here and cannot be installed"

packages=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/submask-page-tests
mkdir -p "$packages"
if ! cmp -s "$tests/package.json" "$packages/package.json" || [ ! -d "$packages/node_modules/axe-core" ]; then
    cp "$tests/package.json" "$packages/package.json"
    npm install --prefix "$packages" --no-audit --no-fund --no-package-lock >&2 || {
        rm -f "$packages/package.json"
        skip "playwright-core and axe-core cannot be downloaded"
    }
fi

export SUBMASK_PAGE_ADDRESS=$1 SUBMASK_PAGE_PACKAGES=$packages
SUBMASK_PAGE_SCREENSHOTS=${screenshots:-$(mktemp -d)}
SUBMASK_PAGE_CHROMIUM=$(command -v chromium)
export SUBMASK_PAGE_SCREENSHOTS SUBMASK_PAGE_CHROMIUM
printf 'screenshots go to %s\n' "$SUBMASK_PAGE_SCREENSHOTS"
node --test --test-concurrency=1 --test-reporter=spec "$tests"/browser*.js
