"""What a callable of Python costs as a network, per evaluation: against the same network in Rust.

The network is a table of the logits of every place in the sequence, so that next to all of the time is that of the sampler
and of the way to Python and back. Its Rust twin is crates/submask/examples/table_network.rs; give the path of the built
example to have both side by side::

    cargo build --release --example table_network
    RAYON_NUM_THREADS=1 python crates/submask-py/examples/overhead.py target/release/examples/table_network

The callable's own time is measured within it, so the way holds the call of a function of Python, too. The example lacks the
wheel's allocator, which makes the Rust side slower in larger sizes: the smallest one tells most.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np

import submask

#: Tokens C, length L, sequences that are evaluated together, and how many are sampled.
SIZES = [(16, 8, 1, 200), (16, 8, 16, 1600), (512, 64, 1, 20), (512, 64, 16, 160)]


class Table:
    """The logits at place i are row i of a table, whatever is known of the sequence."""

    def __init__(self, vocab_size: int, seq_len: int) -> None:
        numbers = np.arange(seq_len * vocab_size)
        self.logits = (numbers * numbers % 1009 / 500).astype(np.float32).reshape(seq_len, vocab_size)
        self.calls, self.seconds = 0, 0.0

    def __call__(self, y_t: Any, t: Any, positions: Any) -> Any:
        start = time.perf_counter()
        logits = self.logits[positions % y_t.shape[1]]
        self.calls += 1
        self.seconds += time.perf_counter() - start
        return logits


def measured(vocab_size: int, seq_len: int, batch: int, num: int) -> tuple[float, float]:
    """Microseconds per evaluation, and those of them that the callable itself took."""
    codes = submask.SubTokenizer(vocab_size, 2)
    predictive = submask.Predictive(codes)
    fastest = (float("inf"), 0.0)
    for _ in range(10):
        table = Table(vocab_size, seq_len)
        network = submask.Network(table, codes, seq_len)
        start = time.perf_counter()
        submask.sampler.sample(network, predictive, num, batch=batch)
        seconds = time.perf_counter() - start
        fastest = min(fastest, (1e6 * seconds / table.calls, 1e6 * table.seconds / table.calls))
    return fastest


def in_rust(example: str) -> list[float]:
    """What the Rust twin prints, in the order of the sizes."""
    printed = subprocess.run([example], check=True, capture_output=True, text=True).stdout
    return [float(line.split("\t")[-1]) for line in printed.splitlines()[1:]]


def main() -> None:
    """Prints a table: of each size the fastest of three times, both networks in turn."""
    python = {size: (float("inf"), 0.0) for size in SIZES}
    rust = dict.fromkeys(SIZES, float("inf"))
    for _ in range(3):
        python = {size: min(before, measured(*size)) for size, before in python.items()}
        if len(sys.argv) > 1:
            rust = {size: min(before, now) for (size, before), now in zip(rust.items(), in_rust(sys.argv[1]))}
    print("tokens  length  batch   Python   of it the callable     Rust   the way there and back   (µs per evaluation)")
    for size, (every, own) in python.items():
        vocab_size, seq_len, batch, _ = size
        numbers = f"{every:7.1f}  {own:19.1f}"
        if len(sys.argv) > 1:
            numbers += f"  {rust[size]:7.1f}  {every - own - rust[size]:23.1f}"
        print(f"{vocab_size:6}  {seq_len:6}  {batch:5}  {numbers}")


if __name__ == "__main__":
    main()
