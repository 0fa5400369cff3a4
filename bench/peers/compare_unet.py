"""Runs our U-Net and PyTorch's alternately and prints median times, ratios and their spread.

    compare_unet.py [ROUNDS]

Both run on the cores CORES (default 0,1) with as many threads, on the same weights and the same batch; the losses and
the logits must agree. Needs a Python with torch and safetensors, and cargo. See README.md.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORES = os.environ.get("CORES", "0,1")
CONVOLUTIONS = [
    (16, 32, 32, 32),
    (16, 96, 96, 32),
    (16, 64, 64, 16),
    (16, 128, 128, 16),
    (32, 64, 64, 8),
    (32, 128, 128, 8),
]


def build():
    """The program of our side, or the one at UNET_STEPS that is built already."""
    if "UNET_STEPS" in os.environ:
        return Path(os.environ["UNET_STEPS"])
    command = ["cargo", "build", "--release", "-p", "submask", "--example", "unet_steps"]
    subprocess.run(command, cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / "unet_steps"


def run(command):
    threads = str(len(CORES.split(",")))
    environment = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    pinned = ["taskset", "-c", CORES, *map(str, command)]
    result = subprocess.run(pinned, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def close(ours, theirs, tolerance, what):
    if not abs(ours - theirs) <= tolerance * abs(theirs):
        sys.exit(f"{what}: ours {ours}, PyTorch's {theirs}")


def check(name, ours, theirs):
    """The first step's loss is the same arithmetic; later ones follow from gradients and the optimiser."""
    if name == "train":
        for step, (a, b) in enumerate(zip(ours["losses"], theirs["losses"], strict=True)):
            close(a, b, 1e-5 if step == 0 else 1e-3, f"loss of step {step}")
    if name == "evaluate":
        close(ours["squares"], theirs["squares"], 1e-4, "sum of the squares of the logits")


def spread(values, digits):
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def compare(title, ours, theirs, rounds):
    times = {"ours": [], "theirs": []}
    for index in range(rounds):
        sides = [("ours", ours), ("theirs", theirs)]
        results = {side: run(command) for side, command in (sides if index % 2 == 0 else sides[::-1])}
        check(title.split()[0], results["ours"], results["theirs"])
        for side, result in results.items():
            times[side].append(result["ms"])
    ratios = [b / a for a, b in zip(times["ours"], times["theirs"])]
    least = min(times["theirs"]) / min(times["ours"])
    columns = [title, spread(times["ours"], 1), spread(times["theirs"], 1), spread(ratios, 2), f"{least:.2f}"]
    print(f"| {' | '.join(columns)} |", flush=True)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    try:
        import safetensors  # noqa: F401
        import torch
    except ImportError as error:
        sys.exit(f"{error}: run this by a Python that has torch and safetensors (README.md says how)")
    ours, theirs = build(), [sys.executable, HERE / "unet.py"]
    print(f"PyTorch {torch.__version__}, cores {CORES}, {rounds} rounds: median (least to greatest)\n")
    print("| | ours, ms | PyTorch, ms | PyTorch / ours | of the least times |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([ours, "prepare", folder], check=True)
        compare("train step", [ours, "train", 3], [*theirs, "train", folder, 3], rounds)
        compare("evaluate", [ours, "evaluate", 5], [*theirs, "evaluate", folder, 5], rounds)
    for sizes in CONVOLUTIONS:
        batch, inner, outer, size = sizes
        title = f"conv B {batch}, {inner} to {outer} channels, {size}×{size}"
        command = ["conv", *sizes, 20]
        compare(title, [ours, *command], [*theirs, *command], rounds)


if __name__ == "__main__":
    main()
