#!/usr/bin/env python3
"""Checks a GPU against the reference's numbers, and times it beside PyTorch. Needs Python alone, and PyTorch with
safetensors for the comparison; the programs are built elsewhere, and nothing is downloaded.

    gpu_check.py parity [--report]     the tests of fixtures on the device, then samples of a small network: at most
                                       LIMIT seconds (180); stops at the first wrong number, or goes on with --report
    gpu_check.py time                  rows of a table in its order, each written to gpu.json as soon as it is there:
                                       at most LIMIT seconds (360)

The programs are given by --tests (the test binary `it` of crates/submask) and --steps (`dit_steps` of experiments/), the
fixtures by --fixtures or SUBMASK_FIXTURES, the device by --device (gpu:0).
"""

import argparse
import datetime
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"

# A process compiles its kernels first: more samples would not fit beside the tests in the time.
COUNTED = 20_000


class Failed(Exception):
    """What is wrong, and where."""


class Clock:
    """Seconds that are left."""

    def __init__(self, limit):
        self.start, self.limit = time.monotonic(), limit

    def spent(self):
        return time.monotonic() - self.start

    def left(self):
        return self.limit - self.spent()


# --- Parity ---------------------------------------------------------------------------------------------------------


def lines_of(command, environment, clock):
    """Lines that a program prints, as they come; it is ended when the time is over. Ends with its exit status."""
    process = subprocess.Popen(
        list(map(str, command)), env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    )
    timer = threading.Timer(max(clock.left(), 1), process.kill)
    timer.start()
    try:
        for line in process.stdout:
            yield line.rstrip("\n")
        yield process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()


DEVIATION = re.compile(r"^DEVIATION (\S+) allowed (\S+) (.*)$")


def run_tests(asked, clock):
    """The tests of fixtures on the device alone."""
    environment = {"SUBMASK_TEST_DEVICE": asked.device, "SUBMASK_TEST_REPORT": str(int(asked.report))}
    if asked.fixtures:
        environment["SUBMASK_FIXTURES"] = str(asked.fixtures)
    command = [asked.tests, "--nocapture", "--test-threads=1", *asked.filter]
    worst, over, passed, failed, current, status = {}, [], [], [], "", None
    log = open(asked.log, "w") if asked.log else None
    started = clock.spent()
    for line in lines_of(command, environment, clock):
        if isinstance(line, int):
            status = line
            break
        if log:
            print(line, file=log, flush=True)
        # What a test prints first stands behind its name.
        if named := re.match(r"^test (\S+) \.\.\. (.*)$", line):
            current, line = named[1], named[2]
        if found := DEVIATION.match(line):
            # The same thing of all fixtures: names of cases and of weights apart.
            off, allowed, what = float(found[1]), float(found[2]), found[3]
            worst[(current, what)] = (off, allowed)
        if line.startswith("NOT HELD"):
            over.append(current)
            if "(off by" not in line:
                print(f"  {current}: {line}", flush=True)
        if line == "ok":
            print(f"  ok {current} ({clock.spent() - started:.1f} s)", flush=True)
            passed.append(current)
            started = clock.spent()
        if line == "FAILED":
            print(f"  FAILED {current} ({clock.spent() - started:.1f} s)", flush=True)
            failed.append(current)
            started = clock.spent()
        if "panicked at" in line and not asked.report:
            failed.append(current)
            print(f"  {line}", flush=True)
        elif failed and not asked.report:
            # What the panic says stands on the next line.
            raise Failed(f"{current}: {line}")
    summarize(worst)
    if status is None or status < 0:
        raise Failed(f"the time was over, or the program was ended, in {current}; {len(passed)} tests had passed")
    if failed or status != 0:
        raise Failed(f"failed: {', '.join(dict.fromkeys(failed)) or f'exit status {status}'}")
    if not passed:
        raise Failed("no test ran")
    if over:
        raise Failed(f"off by more than is allowed: {', '.join(dict.fromkeys(over))}")


def summarize(worst):
    """The largest deviation of every test and fixture, beside what is allowed."""
    groups = {}
    for (test, what), (off, allowed) in worst.items():
        case = what.split()[0]
        key = (test, case, allowed)
        if off > groups.get(key, (-1, ""))[0]:
            groups[key] = (off, what)
    for (test, case, allowed), (off, what) in sorted(groups.items(), key=lambda group: -group[1][0] / group[0][2]):
        # Far below what is allowed: nothing to read.
        if off < allowed / 100:
            continue
        mark = "OVER" if off > allowed else "    "
        print(f"  {mark} {off:8.1e} of {allowed:7.0e}  {test.split('::')[-1]:45} {what}", flush=True)


def distance(a, b):
    """Total variation of two sets of counts, in units of what chance allows; as in bench/peers/common.py."""
    n = sum(a)
    variation = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / (2 * n)
    shares = [(x + y) / (2 * n) for x, y in zip(a, b, strict=True)]
    expected = sum(math.sqrt(2 * p * (1 - p) / (math.pi * n)) / 2 for p in shares)
    return variation / (math.sqrt(2) * (expected + 2.5 / math.sqrt(n)))


def check_samples(asked, clock):
    counts = {}
    for device in ["cpu", asked.device]:
        for precision in ["0"] if device == "cpu" else ["0", "1"]:
            environment = {"DEVICE": device, "BF16": precision}
            output = subprocess.run(
                [asked.steps, "draw", "tiny", str(COUNTED)], env=os.environ | environment, stdout=subprocess.PIPE, text=True,
                timeout=max(clock.left(), 5), check=True,
            ).stdout
            counts[(device, precision)] = json.loads(output.splitlines()[-1])["counts"]
    for (device, precision), found in counts.items():
        if device != "cpu":
            off = distance(counts[("cpu", "0")], found)
            name = "bf16" if precision == "1" else "fp32"
            print(f"  samples of the small network in {name}: {off:.2f} of the distance that chance allows", flush=True)
            # Rounded logits give a slightly different distribution.
            if off > (1 if precision == "0" else 3):
                raise Failed(f"samples in {name} differ: {found}, on the CPU {counts[('cpu', '0')]}")


def parity(asked):
    clock = Clock(asked.limit or 180)
    wrong = []
    for check in [run_tests, *([check_samples] if asked.steps else [])]:
        try:
            check(asked, clock)
        except (Failed, subprocess.SubprocessError) as error:
            wrong.append(str(error))
            print(f"  {error}", flush=True)
            if not asked.report:
                break
    print(f"PARITY {'FAILED' if wrong else 'HOLDS'} ({clock.spent():.0f} s)", flush=True)
    return int(bool(wrong))


# --- Times ----------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A row of the table."""

    name: str
    title: str
    case: str = ""
    verb: str = ""
    # Steps or evaluations of one measurement.
    count: int = 0
    forms: tuple = ("best",)
    # Why there is none.
    absent: str = ""


ROWS = [
    Row("train", "training step, d 768, 12 blocks, L 1024, C 50257, ℓ 4", "published", "train", 5),
    Row("train-mdm", "the same, ℓ 1", "published-mdm", "train", 5),
    Row("train-encoder", "the same, encoder", absent="no PyTorch side yet"),
    Row("train-dictionary", "training step, d 192, 4 blocks, L 128, C 4096, ℓ 2", "dictionary", "train", 100),
    Row("train-bytes", "training step, d 256, 6 blocks, L 256, C 256, ℓ 2", "bytes", "train", 60),
    Row("sample", "an evaluation of sampling, T 512, the first network", "published", "sample", 20, ("reference", "best")),
    Row("bound", "bound of 32 sequences to 1 %", absent="not measured by this script yet"),
    Row("unet", "U-Net, training step", absent="no PyTorch side for GPUs yet"),
]


class Side:
    """A program that measures once for each line that it is given."""

    def __init__(self, command, environment, log):
        self.process = subprocess.Popen(
            list(map(str, command)), env=os.environ | environment | {"ROUNDS": "1", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )

    def read(self, clock):
        timer = threading.Timer(max(clock.left(), 1), self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            raise Failed(f"{self.process.args[0]} ended with status {self.process.wait()}")
        return json.loads(line)

    def measure(self, clock):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read(clock)

    def close(self):
        self.process.kill()
        self.process.wait()


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def start(asked, row, name, folder, batch, log, clock):
    """A side that has warmed up."""
    precision = {"BF16": str(int(not asked.fp32)), "BATCH": str(batch) if batch else ""}
    if not batch:
        del precision["BATCH"]
    if name == "ours":
        side = Side([asked.steps, row.verb, row.case, row.count], precision | {"DEVICE": asked.device}, log)
    else:
        form, _, compiled = name.partition("+")
        environment = precision | {"DEVICE": "cuda", "COMPILE": str(int(bool(compiled))), "OMP_NUM_THREADS": "8"}
        side = Side([asked.python, PEERS / "dit.py", form, row.verb, folder, row.count], environment, log)
    try:
        return side, side.read(clock)
    except Exception:
        side.close()
        raise


def measure(asked, row, batch, log, clock):
    """All sides in turn, or alone those that do not fit beside the others."""
    forms = [] if asked.no_torch else [*row.forms, *(["best+compile"] if row.name in asked.compile else [])]
    times, last, problems = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        if forms:
            environment = os.environ | {"DEVICE": "cpu"} | ({"BATCH": str(batch)} if batch else {})
            subprocess.run([asked.steps, "prepare", row.case, folder], env=environment, check=True)
        sides = {}
        try:
            for name in ["ours", *forms]:
                try:
                    before = clock.spent()
                    sides[name], last[name] = start(asked, row, name, folder, batch, log, clock)
                    last[name]["start_s"] = clock.spent() - before
                except (Failed, json.JSONDecodeError) as error:
                    problems[name] = str(error)
                    print(f"  {name}: {error}", flush=True)
            for index in range(asked.rounds):
                order = list(sides)
                for name in order if index % 2 == 0 else order[::-1]:
                    try:
                        last[name] |= sides[name].measure(clock)
                        times.setdefault(name, []).append(last[name]["ms"])
                    except (Failed, OSError, json.JSONDecodeError) as error:
                        problems[name] = str(error)
                        print(f"  {name}: {error}", flush=True)
                        sides.pop(name).close()
        finally:
            for side in sides.values():
                side.close()
    return times, last, problems


def table(row, times, last):
    ours = times.get("ours")
    for name, values in times.items():
        ms = spread(values)
        ratio = ""
        if ours and name != "ours":
            pairs = spread([b / a for a, b in zip(ours, values)])
            ratio = f", PyTorch / ours {pairs['median']:.2f} ({pairs['least']:.2f} to {pairs['greatest']:.2f})"
        more = last[name]
        memory = more.get("device_mb")
        text = f"  {name:14} {ms['median']:9.2f} ms ({ms['least']:.2f} to {ms['greatest']:.2f}){ratio}"
        text += f", host {more['ms_host']:.2f} ms" if "ms_host" in more else ""
        text += f", {memory:.0f} MB" if memory else ""
        text += f", first {more['ms_first']:.0f} ms" if more.get("ms_first") else ""
        text += f", losses {' '.join(f'{loss:.4f}' for loss in more['losses'])}" if "losses" in more else ""
        print(text, flush=True)
    compare_losses(last)


def compare_losses(last):
    """The sides start at the same weights and batch: losses that differ by more than rounding are an error."""
    ours = last.get("ours", {}).get("losses")
    for name, side in last.items():
        for step, (a, b) in enumerate(zip(ours or [], side.get("losses", []))):
            if not abs(a - b) <= (1e-2 if step == 0 else 5e-2) * abs(b):
                print(f"  LOSSES DIFFER in step {step}: ours {a}, {name} {b}", flush=True)
                side["losses_differ"] = True
                break


def timing(asked):
    clock = Clock(asked.limit or 360)
    rows = [row for row in ROWS if not asked.rows or row.name in asked.rows]
    smi = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        device = subprocess.run(smi, stdout=subprocess.PIPE, text=True).stdout.strip()
    except OSError:
        device = ""
    result = {
        "date": datetime.date.today().isoformat(), "device": device, "precision": "fp32" if asked.fp32 else "bf16",
        "rounds": asked.rounds, "rows": [],
    }
    with open(asked.log or os.devnull, "w") as log:
        for index, row in enumerate(rows):
            entry = {"row": row.name, "title": row.title}
            print(f"{row.title} (at {clock.spent():.0f} s)", flush=True)
            if row.absent:
                entry["unmeasured"] = row.absent
                print(f"  unmeasured: {row.absent}", flush=True)
            elif clock.left() < 15:
                entry["unmeasured"] = "the time was over"
                print("  unmeasured: the time was over", flush=True)
            else:
                share = Clock(min(clock.left(), asked.row_limit))
                for batch in [None, 8, 4] if row.case.startswith("published") else [None]:
                    try:
                        times, last, problems = measure(asked, row, batch, log, share)
                    except (Failed, subprocess.SubprocessError, OSError) as error:
                        times, last, problems = {}, {}, {"all": str(error)}
                    if "ours" in times or share.left() < 20:
                        break
                    print("  ours did not run: fewer sequences", flush=True)
                entry |= {"batch": batch, "times": times, "last": last, "problems": problems}
                table(row, times, last)
            result["rows"].append(entry)
            Path(asked.out).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {asked.out} ({clock.spent():.0f} s)", flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["parity", "time"])
    parser.add_argument("--tests", help="the test binary")
    parser.add_argument("--steps", help="dit_steps")
    parser.add_argument("--fixtures", help="the folder of fixtures (default: as the tests find it)")
    parser.add_argument("--device", default="gpu:0")
    parser.add_argument("--limit", type=float, help="seconds")
    parser.add_argument("--log", help="a file for what the programs print")
    parser.add_argument("--report", action="store_true", help="say what deviates, and go on")
    parser.add_argument(
        "--filter", nargs="+", default=["parity_networks", "parity_images", "device_"], help="names of tests"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--row-limit", type=float, default=120, help="seconds of a row")
    parser.add_argument("--compile", nargs="*", default=[], help="rows with torch.compile, too")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--fp32", action="store_true", help="instead of bf16")
    parser.add_argument("--python", default=sys.executable, help="one that has PyTorch")
    parser.add_argument("--out", default="gpu.json")
    asked = parser.parse_args()
    if asked.verb == "parity" and not asked.tests:
        parser.error("--tests names the test binary")
    if asked.verb == "time" and not asked.steps:
        parser.error("--steps names dit_steps")
    sys.exit(parity(asked) if asked.verb == "parity" else timing(asked))


if __name__ == "__main__":
    main()
