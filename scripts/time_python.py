#!/usr/bin/env python3
"""Times the package for Python beside the program: the same samples and the same evaluation, whole processes in turn.

    scripts/time_python.py PYTHON target/release/submask runs/dictionary [ROUNDS]

PYTHON is an interpreter of an environment in which the wheel is installed. Prints the wall time of each side, the ratio of the medians
and its range over rounds; both sides must print the same tokens and the same figures. What a process takes to start, with a model but
without work, is printed beside, and is part of the times.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import time

SAMPLES = 48
SEQUENCES = 64
DRAWS = 48

SAMPLE = """
import json, sys, submask
model = submask.Model.open(sys.argv[1])
samples = model.sample({num}, seed=1, batch=8)
print(json.dumps([one.tolist() for one in samples.tokens]))
"""
EVALUATE = """
import json, sys, submask
model = submask.Model.open(sys.argv[1])
evaluation = model.evaluate(sequences={sequences}, draws={draws}, seed=1)
print(json.dumps([[figure.name, figure.unit, figure.value, figure.standard_error] for figure in evaluation.figures]))
"""


def timed(words: list[str]) -> tuple[float, object]:
    """Wall seconds of a process, and the JSON that it prints."""
    begin = time.perf_counter()
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    return time.perf_counter() - begin, json.loads(done.stdout)


def tokens_of(printed: object) -> object:
    return [one["tokens"] for one in printed["samples"]]  # type: ignore[index]


def figures_of(printed: object) -> object:
    return [[one["name"], one["unit"], one["value"], one["standard_error"]] for one in printed["figures"]]  # type: ignore[index]


def main() -> None:
    python, program, folder = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 5
    sampled = ["sample", folder, "--num", str(SAMPLES), "--seed", "1", "--batch", "8", "--json"]
    evaluated = ["eval", folder, "--sequences", str(SEQUENCES), "--draws", str(DRAWS), "--seed", "1", "--json"]
    cases = [
        (f"sample, {SAMPLES} sequences", SAMPLE.format(num=SAMPLES), sampled, tokens_of),
        (f"evaluate, {SEQUENCES} sequences", EVALUATE.format(sequences=SEQUENCES, draws=DRAWS), evaluated, figures_of),
    ]
    for name, code, words, of in cases:
        ours, theirs = [], []
        for round_ in range(rounds):
            sides = [(ours, [python, "-c", code, folder], None), (theirs, [program, *words], of)]
            printed = {}
            for times, command, read in sides if round_ % 2 == 0 else reversed(sides):
                seconds, found = timed(command)
                times.append(seconds)
                printed[command[0]] = found if read is None else read(found)
            if printed[python] != printed[program]:
                sys.exit(f"FAILED: {name}: Python and the program differ")
        ratios = sorted(a / b for a, b in zip(ours, theirs))
        digest = hashlib.sha256(json.dumps(printed[python]).encode()).hexdigest()[:12]
        print(
            f"{name}: Python {statistics.median(ours):.2f} s, program {statistics.median(theirs):.2f} s, "
            f"ratio {statistics.median(ours) / statistics.median(theirs):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}), same results ({digest})"
        )
    start = "import json, sys, submask\nsubmask.Model.open(sys.argv[1])\nprint(json.dumps(0))"
    with_model = statistics.median(timed([python, "-c", start, folder])[0] for _ in range(5))
    without = statistics.median(timed([program, "info", folder, "--json"])[0] for _ in range(5))
    print(f"start: Python with an open model {with_model:.2f} s, program with `info` {without:.2f} s")


if __name__ == "__main__":
    main()
