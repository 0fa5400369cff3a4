"""What the comparisons share: building our side, running both on the same cores, and figures of several rounds."""

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORES = os.environ.get("CORES", "0,1")


def require_torch():
    """PyTorch's version. It is not imported here: what this process holds would count as its children's memory."""
    for name in ("torch", "safetensors"):
        if importlib.util.find_spec(name) is None:
            sys.exit(f"no {name}: run this by a Python that has torch and safetensors (README.md says how)")
    return version("torch")


def build(name):
    """The program of our side, or the one that is built already at the variable of its name in capitals."""
    if name.upper() in os.environ:
        return Path(os.environ[name.upper()])
    command = ["cargo", "build", "--release", "-p", "submask-experiments", "--bin", name]
    subprocess.run(command, cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / name


def run(command):
    """The last line that a pinned program prints, as JSON, with its peak memory in MB as `memory`."""
    threads = str(len(CORES.split(",")))
    environment = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    pinned = ["taskset", "-c", CORES, *map(str, command)]
    with subprocess.Popen(pinned, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, pinned)
    return json.loads(output.splitlines()[-1]) | {"memory": usage.ru_maxrss / 1000}


def close(ours, theirs, tolerance, what):
    if not abs(ours - theirs) <= tolerance * abs(theirs):
        sys.exit(f"{what}: ours {ours}, PyTorch's {theirs}")


def check_losses(ours, theirs, first, later):
    """The first step's loss is the same arithmetic; later ones follow from gradients and the optimiser."""
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        close(a, b, first if step == 0 else later, f"loss of step {step}")


def distance(a, b):
    """Total variation between two sets of n samples, given by how often each outcome came, in units of what chance
    allows: its expected value if both have the same distribution, plus 2.5/√n, all times √2 since both are random."""
    n = sum(a)
    assert sum(b) == n
    variation = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / (2 * n)
    shares = [(x + y) / (2 * n) for x, y in zip(a, b, strict=True)]
    expected = sum(math.sqrt(2 * p * (1 - p) / (math.pi * n)) / 2 for p in shares)
    return variation / (math.sqrt(2) * (expected + 2.5 / math.sqrt(n)))


def mean_and_deviation(run):
    """Of a run's estimates."""
    return statistics.mean(run["estimates"]), statistics.stdev(run["estimates"])


def spread(values, digits):
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def figures(ours, theirs):
    """Columns of a table: times of both sides in neighbouring runs, their ratios, and the ratio of the least times."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return [spread(ours, 1), spread(theirs, 1), spread(ratios, 2), f"{min(theirs) / min(ours):.2f}"]


def row(columns):
    print(f"| {' | '.join(columns)} |", flush=True)


def set_threads():
    """On PyTorch's side: as many threads as cores."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def median(count, call):
    """Median time in milliseconds of `count` calls after the first."""
    times = []
    for _ in range(count + 1):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times[1:])[count // 2]
