#!/usr/bin/env python3
"""Prepares the same corpus plain and compressed, and compares tokens, time and peak memory.

    compare_compressed.py PROGRAM [--megabytes N ...] [--folder F]

For every size a corpus of JSON lines is written, of words that a seed draws, and compressed by the programs that are
installed of gzip, zstd, bzip2 and xz. `submask data prepare` reads each of them into shards of bytes. The shards must be
the same to the bit, otherwise this exits with 1. Printed are the size of the file, the time and the peak memory of each:
memory must not grow with the corpus, and of a compressed one neither. 500 MB take about six minutes on two cores without
xz, and 2 GB of the disk.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

WORDS = 20_000
"""Words that texts are made of."""

COMPRESSORS = {"": None, ".gz": ["gzip", "-6"], ".zst": ["zstd", "-q", "-T0"], ".bz2": ["bzip2"], ".xz": ["xz", "-1", "-T0"]}
"""What follows `.jsonl`, and the command that makes it from standard input."""


def write_corpus(path: pathlib.Path, size: int) -> None:
    """JSON lines of about `size` bytes."""
    draws = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draws.choices(letters, range(26, 0, -1), k=draws.randint(2, 9))) for _ in range(WORDS)]
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            text = " ".join(draws.choices(words, k=draws.randint(40, 400))) + "."
            written += file.write(json.dumps({"id": written, "text": text}) + "\n")


def prepare(program: str, corpus: pathlib.Path, place: pathlib.Path) -> tuple[float, float, str]:
    """Seconds, megabytes at the peak, and a checksum of the tokens."""
    command = [program, "data", "prepare", "--data", str(corpus), "--out", str(place), "--set", "tokenizer.kind=bytes"]
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        errors = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{errors}")
    checksum = hashlib.sha256()
    for shard in sorted(place.glob("*.tokens")):
        checksum.update(shard.name.encode())
        with shard.open("rb") as file:
            while block := file.read(1 << 20):
                checksum.update(block)
    return seconds, usage.ru_maxrss / 1024, checksum.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--formats", nargs="+", default=["", ".gz", ".zst", ".bz2"], choices=list(COMPRESSORS), metavar="END")
    parser.add_argument("--folder", type=pathlib.Path, help="where to work [default: a temporary folder]")
    arguments = parser.parse_args()
    print("| corpus | size, MB | time, s | peak memory, MB |\n|---|---|---|---|")
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            folder = pathlib.Path(temporary)
            plain = folder / "corpus.jsonl"
            write_corpus(plain, megabytes * 1_000_000)
            checksums = set()
            for end in arguments.formats:
                command, corpus = COMPRESSORS[end], folder / f"corpus.jsonl{end}"
                if command is not None:
                    if shutil.which(command[0]) is None:
                        print(f"skipped {end}: {command[0]} is not installed")
                        continue
                    with plain.open("rb") as source, corpus.open("wb") as target:
                        subprocess.run(command, stdin=source, stdout=target, check=True)
                seconds, peak, checksum = prepare(arguments.program, corpus, folder / "prepared")
                shutil.rmtree(folder / "prepared")
                checksums.add(checksum)
                name = f"{megabytes} MB of JSON lines{', ' + end if end else ''}"
                print(f"| {name} | {corpus.stat().st_size / 1e6:.1f} | {seconds:.1f} | {peak:.0f} |", flush=True)
            if len(checksums) != 1:
                raise SystemExit(f"the tokens of {megabytes} MB differ between plain and compressed")


if __name__ == "__main__":
    main()
