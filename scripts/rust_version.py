#!/usr/bin/env python3
"""Checks that the oldest Rust that this project promises is true: no dependency asks for a newer one, with any feature, and every
document that names it names the same.

    scripts/rust_version.py

prints the version and what asks for it, and exits with 1 where something differs. Reads Cargo.lock; needs no network once the crates are
downloaded.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/python.md", "crates/submask/README.md", "crates/submask-cli/README.md")


def number(version: str) -> tuple[int, ...]:
    """`1.95` as (1, 95, 0), to compare."""
    parts = [int(part) for part in version.split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


def asked(promised: str) -> tuple[list[str], list[str]]:
    """Of the dependencies, those that ask for just what is promised, and those that ask for more."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    same, newer = [], []
    for package in json.loads(said)["packages"]:
        wanted = package["rust_version"]
        if wanted is None or package["source"] is None:
            continue
        name = f"{package['name']} {package['version']} asks for {wanted}"
        if number(wanted) > number(promised):
            newer.append(name)
        elif number(wanted) == number(promised):
            same.append(name)
    return same, newer


def differing(promised: str) -> list[str]:
    """What documents and manifests say otherwise."""
    wrong = []
    for document in DOCUMENTS:
        named = re.findall(r"Rust (\d+\.\d+(?:\.\d+)?)", (ROOT / document).read_text(encoding="utf-8"))
        if not named:
            wrong.append(f"{document} does not name the version")
        wrong += [f"{document} says {version}" for version in named if version != promised]
    for manifest in ("stubs/cubecl-llvm/Cargo.toml",):
        version = tomllib.loads((ROOT / manifest).read_text(encoding="utf-8"))["package"].get("rust-version")
        if version != promised:
            wrong.append(f"{manifest} says {version}")
    return wrong


def main() -> int:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    promised = manifest["workspace"]["package"]["rust-version"]
    same, newer = asked(promised)
    wrong = [f"{name}, {promised} is promised" for name in newer] + differing(promised)
    for line in wrong:
        print(line, file=sys.stderr)
    # A version that nothing asks for keeps people out for no reason.
    if not wrong and not same:
        print(f"no dependency asks for {promised}: an older one may do", file=sys.stderr)
        return 1
    if not wrong:
        print(f"Rust {promised}, which {len(same)} dependencies ask for, such as {same[0]}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
