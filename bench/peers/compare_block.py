"""Runs our block diffusion and PyTorch's alternately and prints median times, ratios and their spread.

    compare_block.py [ROUNDS] [--bf16] [--only WORKLOAD ...] [--plot PLOT.svg]

As compare_dit.py: both run on the cores CORES (default 0,1) with as many threads, on the same weights and the same batch;
losses, logits and bounds must agree. The last two columns say how PyTorch's time must at least compare with ours, and
whether it does. A training step is compared with that of our own network without blocks, too. `--plot` draws the time per
token of a text of four times the network's length against the tokens before it; it needs matplotlib. See README.md.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from common import CORES, HERE, build, check_losses, close, figures, mean_and_deviation, require_torch, row, run, spread
from compare_dit import BF16, FP32

sys.path.append(str(HERE.parent))
from scaling import plotting


@dataclass
class Workload:
    """A line of the table: what `dit_steps` and `block.py` do on which case."""

    name: str
    title: str
    case: str
    verb: str
    # Repetitions of a training step, or estimates of a bound.
    count: int | None
    # How many times PyTorch's time ours must be less than, if that is asked.
    least: float | None
    # Our case without blocks, whose step is compared, and how many times its time ours may be at most.
    without: str | None = None
    most: float | None = None


WORKLOADS = [
    Workload("train", "training step", "bytes-blocks", "train", 3, 1.3, "bytes", 1.9),
    Workload("train-mdm", "training step, ℓ 1", "bytes-mdm-blocks", "train", 3, 1.3, "bytes-mdm", 1.9),
    Workload("bound", "bound of 32 sequences, 8 draws", "bytes-blocks", "bound", 4, 16 / 5),
    Workload("sample", "sampling 4·L tokens, a token", "bytes-blocks", "sample-long", None, None),
]


class Sides:
    """The commands of both sides on a case in a folder."""

    def __init__(self, ours, case, folder):
        self.ours, self.case, self.folder = ours, case, folder
        subprocess.run([ours, "prepare", case, folder], check=True)

    def run(self, side, verb, *rest):
        if side == "ours":
            return run([self.ours, verb, self.case, *rest])
        return run([sys.executable, HERE / "block.py", verb, self.folder, *rest])


def check(workload, sides, results, tolerances):
    """Stops when the sides do not compute the same."""
    ours, theirs = (results[side][-1] for side in ("ours", "PyTorch"))
    if workload.verb == "train":
        check_losses(ours["losses"], theirs["losses"], tolerances.first, tolerances.later)
    elif len(results["ours"]) == 1:
        verb = "evaluate" if workload.verb == "bound" else "evaluate-kept"
        squares = (sides.run(side, verb)["squares"] for side in ("ours", "PyTorch"))
        close(*squares, tolerances.squares, f"sum of the squares of the logits ({verb})")
    if workload.verb == "bound":
        (our_mean, our_deviation), (mean, deviation) = mean_and_deviation(ours), mean_and_deviation(theirs)
        error = math.hypot(our_deviation, deviation) / math.sqrt(workload.count)
        if abs(our_mean - mean) > 4 * error:
            sys.exit(f"the bounds differ: ours {our_mean}, PyTorch's {mean}, error {error}")


def compare(workload, ours, rounds, tolerances):
    """Results of every round on each side, and of our network without blocks."""
    sides_of_table = ["ours", "PyTorch"]
    results = {side: [] for side in [*sides_of_table, "without"] if side != "without" or workload.without}
    rest = [] if workload.count is None else [workload.count]
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(ours, workload.case, folder)
        for index in range(rounds):
            order = list(results)
            for side in order if index % 2 == 0 else order[::-1]:
                if side == "without":
                    results[side].append(run([ours, workload.verb, workload.without, *rest]))
                else:
                    results[side].append(sides.run(side, workload.verb, *rest))
            check(workload, sides, results, tolerances)
    return results


def report(workload, results):
    column = {side: [result["ms"] for result in runs] for side, runs in results.items()}
    memory = [spread([result["memory"] for result in results[side]], 0) for side in ("ours", "PyTorch")]
    times = figures(column["ours"], column["PyTorch"])
    least = "" if workload.least is None else verdict(float(times[-1]) >= workload.least, f"≥ {workload.least:.1f}")
    row([workload.title, *times, *memory, least])
    if workload.without:
        ratios = [blocks / without for blocks, without in zip(column["ours"], column["without"], strict=True)]
        best = min(column["ours"]) / min(column["without"])
        held = verdict(best <= workload.most, f"≤ {workload.most}")
        without = spread(column["without"], 1)
        return f"{workload.title}, ours: {spread(ratios, 2)} times that without blocks ({without} ms); of the least times {best:.2f}, {held}"
    return None


def verdict(holds, what):
    return f"{what}: {'yes' if holds else 'no'}"


def curves(results):
    """Tokens before the middle of every part of a text, and the median times per token there on each side."""
    part = results["ours"][0]["tokens_per_part"]
    times = {
        side: [statistics.median(times) for times in zip(*(result["ms_by_part"] for result in runs), strict=True)]
        for side, runs in results.items()
    }
    return [(index + 0.5) * part for index in range(len(times["ours"]))], times


def print_curves(results):
    tokens, times = curves(results)
    half = (tokens[1] - tokens[0]) / 2
    print("\n| tokens | ours, ms per token | PyTorch, ms per token |\n|---|---|---|")
    for middle, ours, theirs in zip(tokens, times["ours"], times["PyTorch"], strict=True):
        row([f"{middle - half:.0f} to {middle + half:.0f}", f"{ours:.2f}", f"{theirs:.2f}"])


def plot(pyplot, path, results):
    tokens, times = curves(results)
    figure, axis = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
    for side, of_side in times.items():
        axis.plot(tokens, of_side, marker="o", markersize=3, label=side)
    length = tokens[-1] + tokens[0]
    axis.axvline(length / 4, color="grey", linewidth=0.8, linestyle="dotted")
    axis.annotate("L", (length / 4, 0), xytext=(3, 3), textcoords="offset points", color="grey")
    axis.set(xlabel="tokens before", ylabel="ms per token", xlim=(0, length), ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--bf16", action="store_true", help="PyTorch by autocast, ours with bf16 products")
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these workloads (default: all)")
    parser.add_argument("--plot", help="a file .svg for the curve of sampling")
    return parser.parse_args()


def main():
    asked = arguments()
    pyplot = plotting() if asked.plot else None
    torch_version, ours = require_torch(), build("dit_steps")
    kind = os.environ["PRECISION"] = "bf16" if asked.bf16 else "fp32"
    print(f"PyTorch {torch_version}, {kind}, cores {CORES}, {asked.rounds} rounds: median (least to greatest)\n")
    row(["", "ours, ms", "PyTorch, ms", "PyTorch / ours", "of the least times", "ours, MB", "PyTorch, MB", "asked"])
    print("|---" * 8 + "|")
    besides, sampling = [], None
    for workload in WORKLOADS:
        if workload.name in asked.only:
            results = compare(workload, ours, asked.rounds, BF16 if asked.bf16 else FP32)
            besides.append(report(workload, results))
            sampling = results if workload.name == "sample" else sampling
    print("".join(f"\n{line}" for line in besides if line))
    if sampling:
        print_curves(sampling)
    if sampling and asked.plot:
        plot(pyplot, asked.plot, sampling)


if __name__ == "__main__":
    main()
