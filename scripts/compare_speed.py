#!/usr/bin/env python3
"""Compares time and memory of two versions of the program.

    compare_speed.py OLD NEW [--rounds N] [--threads N]

OLD and NEW are binaries. In every round both measure the same, one after the other, and they take turns at being first.
Measured are a training step, an evaluation and sampling of a text network with 256 and with 50,257 tokens (`submask
bench`), and whole processes of `eval` and `sample` of one with 257; a training step of the U-Net on the built-in emoji,
and whole processes of `eval` and `sample` of it; peak memory of each process; and the start of `sample`, with a network
so small that little else is done. Printed are the medians of both, their ratio, and how far OLD's own values are apart,
(largest - smallest) / median: a ratio within that may be noise. Ratios above 1.03 are marked.

It takes about five minutes on two cores. Nothing else should run meanwhile: the last line says how many processes were
waiting to compute before and after.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence

LIMIT = 1.03
"""Ratios above are marked."""

STARTS = 10
"""Starts of `sample` in a round."""

VOCABULARIES = (256, 50_257)

BENCH_LINES = {"training step": "training step", "evaluation": "nelbo-subtoken", "sampling": "sampling"}
"""What the lines of `bench` are called here, and how their names begin there."""

UNET = """train.log_every=1 train.batch_size=4 train.warmup_steps=2 train.validate_every=1000 train.validate_samples=0
    train.final_sequences=1 train.final_draws=1 train.final_samples=0 train.checkpoint_every=1000""".split()

TEXT = """tokenizer.kind=bytes data.valid_fraction=0.2 train.batch_size=1 train.final_sequences=1
    train.final_samples=0""".split()

SMALL = """tokenizer.kind=text8 model.hidden=8 model.heads=1 model.blocks=1 model.cond_dim=8 model.seq_len=8
    data.valid_fraction=0.2 train.batch_size=1 train.final_sequences=1 train.final_samples=0 sample.steps=2""".split()

Values = dict[str, float]
"""Measured by name, in the unit that the name ends with; less is better."""

Compared = tuple[str, list[float], list[float]]
"""A name, and the values of OLD and of NEW in all rounds."""


@dataclasses.dataclass(frozen=True)
class Done:
    """A process that ended well."""

    output: str
    milliseconds: float
    processor_milliseconds: float
    peak_megabytes: float


class Program:
    """One of the two versions."""

    def __init__(self, binary: pathlib.Path, threads: int | None) -> None:
        self.binary = binary.resolve()
        self.ends = ["--device", "cpu", *(["--threads", str(threads)] if threads else [])]

    def run(self, *arguments: str) -> Done:
        """Runs a command, with its time and memory."""
        command = [str(self.binary), *arguments, *self.ends]
        with tempfile.TemporaryFile() as errors:
            started = time.perf_counter()
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
            with child.stdout:
                output = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - started
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode != 0:
                errors.seek(0)
                raise SystemExit(f"{' '.join(command)}\n{errors.read().decode()}")
        processor = usage.ru_utime + usage.ru_stime
        return Done(output.decode(), 1e3 * seconds, 1e3 * processor, usage.ru_maxrss / 1024)


# What is measured


class Measurements:
    """The measurements of a round. The runs in `folder` are OLD's, whichever program reads them."""

    def __init__(self, old: Program, folder: pathlib.Path) -> None:
        self.folder = folder
        letters = folder / "letters.txt"
        letters.write_text("the sea is wide and the ship is small " * 1600, encoding="utf-8")
        self.unet, self.text, self.small = (str(folder / name) for name in ("unet", "text", "small"))
        old.run("train", "--preset", "emoji", "--steps", "2", "--out", self.unet, "--set", *UNET)
        for run, settings in [(self.text, TEXT), (self.small, SMALL)]:
            old.run("train", "--data", str(letters), "--steps", "1", "--out", run, "--set", *settings)

    def all(self) -> list[Callable[[Program], Values]]:
        """What is measured, one after the other."""
        of_text = [lambda program, vocab=vocab: self.bench(program, vocab) for vocab in VOCABULARIES]
        of_text += [self.text_evaluation, self.text_sampling]
        return [*of_text, self.unet_training, self.unet_evaluation, self.unet_sampling, self.start]

    def bench(self, program: Program, vocab: int) -> Values:
        """Training step, evaluation and sampling of a text network with drawn weights."""
        tokenizer = ["tokenizer.kind=numbers", f"tokenizer.vocab_size={vocab}"]
        done = program.run("bench", "--json", "--set", *tokenizer, "sample.steps=64")
        lines, name = json.loads(done.output)["lines"], f"text, C {vocab:,}"
        values = {}
        for what, beginning in BENCH_LINES.items():
            (line,) = [line for line in lines if line["name"].startswith(beginning)]
            values[f"{name}: {what}, ms"] = line["milliseconds"]
        return values | {f"{name}: peak memory, MB": done.peak_megabytes}

    def text_evaluation(self, program: Program) -> Values:
        """A whole process of `eval`."""
        return process("text: eval", program.run("eval", self.text, "--sequences", "64", "--draws", "8", "--json"))

    def text_sampling(self, program: Program) -> Values:
        """A whole process of `sample`."""
        return process("text: sample", program.run("sample", self.text, "--num", "16", "--steps", "64", "--json"))

    def unet_training(self, program: Program) -> Values:
        """The median step of a short run."""
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            run = pathlib.Path(temporary) / "run"
            done = program.run("train", "--preset", "emoji", "--steps", "20", "--out", str(run), "--set", *UNET)
            lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [record for record in map(json.loads, lines) if record["kind"] == "step"]
        tokens = records[0]["tokens"]
        step = statistics.median(1e3 * tokens / record["tokens_per_second"] for record in records)
        return {"U-Net: training step, ms": step, "U-Net: peak memory of train, MB": done.peak_megabytes}

    def unet_evaluation(self, program: Program) -> Values:
        """A whole process of `eval`."""
        return process("U-Net: eval", program.run("eval", self.unet, "--sequences", "32", "--json"))

    def unet_sampling(self, program: Program) -> Values:
        """A whole process of `sample`."""
        out = str(self.folder / "samples.png")
        done = program.run("sample", self.unet, "--num", "8", "--steps", "16", "--out", out, "--json")
        return process("U-Net: sample", done)

    def start(self, program: Program) -> Values:
        """The median of several starts, which end after two steps of a tiny network."""
        # Not its memory, which is less than this interpreter's: the system counts that until the program is loaded.
        times = [program.run("sample", self.small).milliseconds for _ in range(STARTS)]
        return {"start of sample, ms": statistics.median(times)}


def process(name: str, done: Done) -> Values:
    """Time and memory of a process. Other programs disturb the time of its processors least."""
    return {
        f"{name}, ms": done.milliseconds,
        f"{name}: time of all processors, ms": done.processor_milliseconds,
        f"{name}: peak memory, MB": done.peak_megabytes,
    }


# The table


def measure(old: Program, new: Program, folder: pathlib.Path, rounds: int) -> list[Compared]:
    """Everything that is measured, in all rounds."""
    measurements = Measurements(old, folder)
    values: dict[str, tuple[list[float], list[float]]] = {}
    for number in range(rounds):
        for measurement in measurements.all():
            order = [(0, old), (1, new)]
            for side, program in order if number % 2 == 0 else reversed(order):
                for name, value in measurement(program).items():
                    values.setdefault(name, ([], []))[side].append(value)
    return [(name, *sides) for name, sides in values.items()]


def print_table(rows: Sequence[Compared]) -> None:
    """Medians, ratios, and what is above the limit."""
    width = max(len(name) for name, _, _ in rows)
    print(f"{'':<{width}}  {'old':>9}  {'new':>9}  ratio  spread of old")
    above = 0
    for name, old, new in rows:
        before, after = statistics.median(old), statistics.median(new)
        spread = (max(old) - min(old)) / before
        mark = f"  above {LIMIT}" if after / before > LIMIT else ""
        above += bool(mark)
        print(f"{name:<{width}}  {before:>9.1f}  {after:>9.1f}  {after / before:>5.3f}  {100 * spread:>11.1f} %{mark}")
    print(f"\n{above} of {len(rows)} ratios are above {LIMIT}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=pathlib.Path, metavar="OLD")
    parser.add_argument("new", type=pathlib.Path, metavar="NEW")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="[default: 5]")
    parser.add_argument("--threads", type=int, metavar="N", help="of the program [default: one per core]")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    for binary in (options.old, options.new):
        if not os.access(binary, os.X_OK):
            parser.error(f"{binary} is no program")
    old, new = Program(options.old, options.threads), Program(options.new, options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        before = os.getloadavg()[0]
        print_table(measure(old, new, pathlib.Path(temporary), options.rounds))
        print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
