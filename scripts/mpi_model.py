#!/usr/bin/env python3
"""The time of a step on several ranks, by the model of docs/clusters.md.

    scripts/mpi_model.py --weights 100e6 --slot 20 --bandwidth 10e9 --latency 30e-6
"""

import argparse
import math

CHUNK = 4 * 16_384
"""Bytes that are added up together."""


def exchange(weights: float, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds that sums, weights and numbers of a step take; `bandwidth` in bits per second."""
    if ranks == 1:
        return 0.0
    size, rate = 4 * weights, bandwidth / 8
    piece = min(size, max(CHUNK, min(16 * CHUNK, size / (16 * ranks) // CHUNK * CHUNK)))
    sums = size / rate + (ranks - 1) * (latency + piece / rate)
    gathered = (ranks - 1) / ranks * size / rate + (ranks - 1) * latency
    numbers = 3 * math.ceil(math.log2(ranks)) * latency + 8 * size / CHUNK / rate
    return sums + gathered + numbers


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=float, default=100e6)
    parser.add_argument("--slot", type=float, default=20.0, help="seconds of a micro-batch; each rank has one")
    parser.add_argument("--bandwidth", type=float, default=10e9, help="bits per second between two ranks")
    parser.add_argument("--latency", type=float, default=30e-6, help="seconds of a message")
    given = parser.parse_args()
    print("| ranks | exchange | efficiency |\n|---|---|---|")
    for ranks in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        seconds = exchange(given.weights, ranks, given.bandwidth, given.latency)
        print(f"| {ranks} | {seconds:.3g} s | {given.slot / (given.slot + seconds):.3f} |")


if __name__ == "__main__":
    main()
