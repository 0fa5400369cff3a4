#!/usr/bin/env bash
# One archive of a release, as the workflow `release` makes it for every system: the program, its manual pages, completions, licences
# and README, and a checksum beside it.
#
#     scripts/release.sh TARGET [FOLDER]            builds for TARGET, such as x86_64-unknown-linux-musl
#     scripts/release.sh TARGET FOLDER PROGRAM      packs a program that is built already: a dry run
#
# FOLDER is target/release-archives unless given. The program must run on this machine, since it writes its own pages and completions,
# and is tried. Linux's archives are static (musl): they run on any distribution. For these musl-tools has to be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?"TARGET is missing: see the head of this script"}
folder=${2:-target/release-archives}
program=${3:-}

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

case $target in *windows*) ending=.exe ;; *) ending= ;; esac
if [ -z "$program" ]; then
    rustup target add "$target"
    # Symbols are of no use to users, and half of the file.
    CARGO_PROFILE_RELEASE_STRIP=symbols cargo build --release --locked --package submask-cli --target "$target"
    program=${CARGO_TARGET_DIR:-target}/$target/release/submask$ending
fi
[ -f "$program" ] || fail "$program does not exist"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
[ "$("$program" --version | tr -d '\r')" = "submask $version" ] || fail "$program is not version $version"
case $target in
*-linux-musl)
    # Told apart by what the loader would need: nothing.
    ! readelf --program-headers "$program" | grep -q INTERP || fail "$program is not static" ;;
esac

name=submask-$version-$target
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/$name
mkdir -p "$tree/completions" "$tree/man" "$folder"
cp "$program" "$tree/submask$ending"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$tree"
"$program" man --out "$tree/man" >"$scratch/pages"
"$program" completions bash >"$tree/completions/submask.bash"
"$program" completions zsh >"$tree/completions/_submask"
"$program" completions fish >"$tree/completions/submask.fish"
"$program" completions powershell >"$tree/completions/_submask.ps1"

# That it computes: a network of no use, trained, evaluated and sampled.
tiny=(tokenizer.vocab_size=512 model.hidden=32 model.heads=2 model.blocks=1 train.warmup_steps=1
    train.validate_sequences=2 train.final_sequences=2 train.final_draws=1)
run=$scratch/run
"$program" train --out "$run" --steps 2 --set "${tiny[@]}" >"$scratch/trained" 2>"$scratch/progress" ||
    { cat "$scratch/progress" >&2; fail "the program does not train"; }
"$program" sample "$run" --steps 8 >/dev/null

case $target in
*windows*)
    archive=$name.zip
    (cd "$scratch" && 7z a -bso0 -mx=9 "$archive" "$name") ;;
*)
    archive=$name.tar.gz
    # The same files give the same archive: sorted, without owners, with the time of the commit.
    epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
    if tar --version 2>/dev/null | grep -q GNU; then
        tar -C "$scratch" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -cf - "$name"
    else
        tar -C "$scratch" -cf - "$name"
    fi | gzip -9n >"$scratch/$archive" ;;
esac
if command -v sha256sum >/dev/null; then sum=(sha256sum); else sum=(shasum -a 256); fi
(cd "$scratch" && "${sum[@]}" "$archive" >"$archive.sha256")
mv "$scratch/$archive" "$scratch/$archive.sha256" "$folder"
printf '%s: %s bytes\n' "$folder/$archive" "$(wc -c <"$folder/$archive" | tr -d ' ')"
