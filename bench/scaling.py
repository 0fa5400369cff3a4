"""Times and memory of `submask bench` against L, C, ℓ, the batch and the threads: tables with exponents, and a plot.

    scaling.py PROGRAM PLOT.svg

PROGRAM is a built `submask`. One size is changed at a time, the others stay as in BASE; every point is the least of
ROUNDS calls. The exponent of a column is the slope of the least-squares line through the logarithms of its last three
points, where constant costs weigh least. Needs matplotlib for the plot.
"""

import json
import math
import subprocess
import sys

BASE = {"L": 128, "C": 4096, "ℓ": 2, "B": 4, "threads": 2}
AXES = {
    "L": [64, 128, 256, 512, 1024],
    "C": [256, 1024, 4096, 16384, 65536],
    "ℓ": [1, 2, 4, 8],
    "B": [1, 2, 4, 8, 16],
    "threads": [1, 2],
}
COLUMNS = ["training step, ms", "bound of 4 sequences, ms", "an evaluation in sampling, ms", "memory, MB"]
ROUNDS = 2


def measure(program, sizes):
    settings = {
        "model.hidden": 128,
        "model.heads": 4,
        "model.blocks": 2,
        "model.seq_len": sizes["L"],
        "model.subtokens": sizes["ℓ"],
        "tokenizer.kind": "numbers",
        "tokenizer.vocab_size": sizes["C"],
        "train.batch_size": sizes["B"],
        "sample.steps": 16,
    }
    command = [program, "bench", "--device", "cpu", "--json", "--threads", str(sizes["threads"]), "--set"]
    command += [f"{key}={value}" for key, value in settings.items()]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    training, bound, sampling = result["lines"]
    evaluation = sampling["milliseconds"] / sampling["evaluations"]
    return [training["milliseconds"], bound["milliseconds"], evaluation, result["peak_memory_bytes"] / 1e6]


def slope(xs, ys):
    xs, ys = [math.log(x) for x in xs], [math.log(y) for y in ys]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys)) / sum((x - x_mean) ** 2 for x in xs)


def plotting():
    try:
        import matplotlib
    except ImportError:
        sys.exit("matplotlib is missing: pip install matplotlib")
    matplotlib.use("svg")
    from matplotlib import pyplot

    return pyplot


def plot(pyplot, path, measured):
    figure, axes = pyplot.subplots(1, len(measured), figsize=(3.2 * len(measured), 3.2), layout="constrained")
    for place, (axis, points) in zip(axes, measured.items()):
        for column, name in enumerate(COLUMNS):
            place.plot(AXES[axis], [point[column] for point in points], marker="o", markersize=3, label=name)
        place.set(xscale="log", yscale="log", xlabel=axis)
        place.set_xticks(AXES[axis], [str(value) for value in AXES[axis]])
        place.minorticks_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(COLUMNS), frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    _, program, path = sys.argv
    pyplot = plotting()
    measured = {}
    for axis, values in AXES.items():
        rounds = [[measure(program, BASE | {axis: value}) for value in values] for _ in range(ROUNDS)]
        measured[axis] = [[min(figures) for figures in zip(*points)] for points in zip(*rounds)]
        print(f"| {axis} | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
        for value, point in zip(values, measured[axis]):
            print(f"| {value:,} | {' | '.join(f'{figure:.1f}' for figure in point)} |")
        exponents = [slope(values[-3:], [point[column] for point in measured[axis][-3:]]) for column in range(4)]
        print(f"| exponent | {' | '.join(f'{exponent:.2f}' for exponent in exponents)} |\n", flush=True)
    plot(pyplot, path, measured)


if __name__ == "__main__":
    main()
