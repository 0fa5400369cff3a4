"""Runs our text network and PyTorch's, in both forms, alternately and prints median times, ratios and their spread.

    compare_dit.py [ROUNDS] [--bf16] [--only WORKLOAD ...]

All run on the cores CORES (default 0,1) with as many threads, on the same weights and the same batch; the losses and
the logits must agree, and the samples of a small network must have the same distribution. Needs a Python with torch
and safetensors, and cargo. See README.md.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from common import (
    CORES,
    HERE,
    build,
    check_losses,
    close,
    distance,
    figures,
    mean_and_deviation,
    require_torch,
    row,
    run,
    spread,
)

FORMS = ["reference", "best"]
COUNTED = 100_000


@dataclass
class Workload:
    """A line of the table: what `dit_steps` and `dit.py` do on which case."""

    name: str
    title: str
    case: str
    verb: str
    # Repetitions of a training step; estimates of a bound; evaluations of a sampler that does not go through its whole
    # grid.
    count: int | None


WORKLOADS = [
    Workload("train-bytes", "training step, C 256", "bytes", "train", 3),
    Workload("train-gpt2", "training step, C 50257", "gpt2-vocabulary", "train", 3),
    Workload("sample-bytes", "sampling step, C 256", "bytes", "sample", None),
    Workload("sample-gpt2", "sampling, C 50257, an evaluation", "gpt2-small", "sample", 20),
    Workload("bound-gpt2", "bound of 32 sequences to 1 %, C 50257", "gpt2-vocabulary", "bound", 8),
]


@dataclass
class Tolerances:
    """Greatest relative differences of the first loss, of later ones, and of the sum of the logits' squares."""

    first: float
    later: float
    squares: float


FP32 = Tolerances(first=1e-5, later=1e-3, squares=1e-4)
BF16 = Tolerances(first=1e-2, later=5e-2, squares=3e-2)


class Sides:
    """The commands of the three sides on a case in a folder."""

    def __init__(self, ours, case, folder):
        self.ours, self.case, self.folder = ours, case, folder
        subprocess.run([ours, "prepare", case, folder], check=True)

    def command(self, side, verb, *rest):
        if side == "ours":
            return [self.ours, verb, self.case, *rest]
        return [sys.executable, HERE / "dit.py", side, verb, self.folder, *rest]


def check_logits(sides, tolerances):
    squares = {side: run(sides.command(side, "evaluate"))["squares"] for side in ("ours", "best")}
    close(squares["ours"], squares["best"], tolerances.squares, "sum of the squares of the logits")


def check_samples(ours):
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(ours, "tiny", folder)
        counts = {side: run(sides.command(side, "draw", COUNTED))["counts"] for side in ["ours", *FORMS]}
    for form in FORMS:
        found = distance(counts["ours"], counts[form])
        print(f"samples of the small network, ours and {form}: {found:.2f} of the distance that chance allows")
        if found > 1:
            sys.exit(f"the samples differ: {counts['ours']}, {counts[form]}")


def compare(workload, ours, rounds, tolerances):
    results = {side: [] for side in ["ours", *FORMS]}
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(ours, workload.case, folder)
        if workload.verb in ("sample", "bound"):
            check_logits(sides, tolerances)
        rest = [] if workload.count is None else [workload.count]
        for index in range(rounds):
            order = list(results)
            for side in order if index % 2 == 0 else order[::-1]:
                results[side].append(run(sides.command(side, workload.verb, *rest)))
            if workload.verb == "train":
                for form in FORMS:
                    losses = results["ours"][-1]["losses"], results[form][-1]["losses"]
                    check_losses(*losses, tolerances.first, tolerances.later)
    if workload.verb == "bound":
        to_one_percent(results, workload.count)
    column = {side: [result["ms"] for result in runs] for side, runs in results.items()}
    memory = {side: spread([result["memory"] for result in runs], 0) for side, runs in results.items()}
    for form in FORMS:
        times = figures(column["ours"], column[form])
        row([workload.title, form, *times, memory["ours"], memory[form]])


def to_one_percent(results, count):
    """Checks that the sides estimate the same, and turns the times of an estimate into those of as many independent ones
    as have a standard error of 1 % together."""
    figures = {side: mean_and_deviation(runs[0]) for side, runs in results.items()}
    for form in FORMS:
        (ours, our_deviation), (theirs, deviation) = figures["ours"], figures[form]
        if abs(ours - theirs) > 4 * math.hypot(our_deviation, deviation) / math.sqrt(count):
            sys.exit(f"the bounds differ: ours {figures['ours']}, {form} {figures[form]} (mean and deviation)")
    for side, (mean, deviation) in figures.items():
        needed = max(1, math.ceil((deviation / mean / 0.01) ** 2))
        line = f"bound, {side}: {mean:.3f}, deviation {deviation:.3f} nats a token, {needed} draws of each for 1 %"
        print(line, file=sys.stderr)
        for run in results[side]:
            run["ms"] *= needed


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--bf16", action="store_true", help="PyTorch by autocast, ours with bf16 products")
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these workloads (default: all)")
    return parser.parse_args()


def main():
    asked = arguments()
    torch_version, ours = require_torch(), build("dit_steps")
    kind = os.environ["PRECISION"] = "bf16" if asked.bf16 else "fp32"
    print(f"PyTorch {torch_version}, {kind}, cores {CORES}, {asked.rounds} rounds: median (least to greatest)\n")
    check_samples(ours)
    print()
    sides = ["ours, ms", "PyTorch, ms", "PyTorch / ours", "of the least times", "ours, MB", "PyTorch, MB"]
    row(["", "PyTorch's form", *sides])
    print("|---" * 8 + "|")
    for workload in WORKLOADS:
        if workload.name in asked.only:
            compare(workload, ours, asked.rounds, BF16 if asked.bf16 else FP32)


if __name__ == "__main__":
    main()
