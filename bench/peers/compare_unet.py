"""Runs our U-Net and PyTorch's alternately and prints median times, ratios and their spread.

    compare_unet.py [ROUNDS]

Both run on the cores CORES (default 0,1) with as many threads, on the same weights and the same batch; the losses and
the logits must agree, and the colours of the samples as far as chance allows. Needs a Python with torch and
safetensors, and cargo. See README.md.
"""

import subprocess
import sys
import tempfile

from common import CORES, HERE, build, check_losses, close, distance, figures, require_torch, row, run

CASE = "small"
CONVOLUTIONS = [
    (16, 32, 32, 32),
    (16, 96, 96, 32),
    (16, 64, 64, 16),
    (16, 128, 128, 16),
    (32, 64, 64, 8),
    (32, 128, 128, 8),
]


def check(name, ours, theirs):
    if name == "train":
        check_losses(ours["losses"], theirs["losses"], 1e-5, 1e-3)
    if name == "evaluate":
        close(ours["squares"], theirs["squares"], 1e-4, "sum of the squares of the logits")
    if name == "sample" and distance(ours["counts"], theirs["counts"]) > 1:
        sys.exit(f"the colours of the samples differ: ours {ours['counts']}, PyTorch's {theirs['counts']}")


def compare(title, ours, theirs, rounds):
    times = {"ours": [], "theirs": []}
    for index in range(rounds):
        sides = [("ours", ours), ("theirs", theirs)]
        results = {side: run(command) for side, command in (sides if index % 2 == 0 else sides[::-1])}
        check(title.split()[0], results["ours"], results["theirs"])
        for side, result in results.items():
            times[side].append(result["ms"])
    row([title, *figures(times["ours"], times["theirs"])])


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    version, ours, theirs = require_torch(), build("unet_steps"), [sys.executable, HERE / "unet.py"]
    print(f"PyTorch {version}, cores {CORES}, {rounds} rounds: median (least to greatest)\n")
    print("| | ours, ms | PyTorch, ms | PyTorch / ours | of the least times |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([ours, "prepare", CASE, folder], check=True)
        compare("train step", [ours, "train", CASE, 3], [*theirs, "train", folder, 3], rounds)
        compare("evaluate", [ours, "evaluate", CASE, 5], [*theirs, "evaluate", folder, 5], rounds)
        compare("sample", [ours, "sample", CASE], [*theirs, "sample", folder], rounds)
    for sizes in CONVOLUTIONS:
        batch, inner, outer, size = sizes
        title = f"conv B {batch}, {inner} to {outer} channels, {size}×{size}"
        command = ["conv", *sizes, 20]
        compare(title, [ours, *command], [*theirs, *command], rounds)


if __name__ == "__main__":
    main()
