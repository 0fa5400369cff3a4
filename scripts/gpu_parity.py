"""`gpu_check.py parity`: numbers of a device beside the reference's, and its memory."""

import json
import re
import tempfile
from pathlib import Path

from gpu_processes import Clock, Failed, Side, lines_of

DEVIATION = re.compile(r"^DEVIATION (\S+) allowed (\S+) (.*)$")

# The case of the check of memory, and its sequences: logits would be more than everything else.
MEMORY_CASE, MEMORY_BATCH = "gpt2-vocabulary", 64


class Tests:
    """What the tests have said so far."""

    def __init__(self, reports):
        self.reports = reports
        self.worst, self.over, self.passed, self.failed, self.current = {}, [], [], [], ""
        self.has_panicked = False

    def read(self, line):
        """Notes a line; gives a word on it, if there is one."""
        # What a test prints first stands behind its name.
        if named := re.match(r"^test (\S+) \.\.\. (.*)$", line):
            self.current, line = named[1], named[2]
        if found := DEVIATION.match(line):
            self.worst[(self.current, found[3])] = (float(found[1]), float(found[2]))
        if self.has_panicked and not self.reports:
            # What the panic says stands on the lines after its place.
            raise Failed(f"{self.current}: {line}")
        if line.startswith("NOT HELD"):
            self.over.append(self.current)
            return None if "(off by" in line else f"{self.current}: {line}"
        if line in ("ok", "FAILED"):
            (self.passed if line == "ok" else self.failed).append(self.current)
            return f"{line} {self.current}"
        if "panicked at" in line:
            self.has_panicked = True
            return line
        return None


def run_tests(asked, clock):
    """The tests of fixtures, and those of devices, on the device alone and in every precision."""
    environment = {
        "SUBMASK_TEST_DEVICE": asked.device,
        "SUBMASK_TEST_PRECISION": asked.precisions,
        "SUBMASK_TEST_REPORT": str(int(asked.report)),
    }
    if asked.fixtures:
        environment["SUBMASK_FIXTURES"] = str(asked.fixtures)
    # One after the other, which tests of memory know by the variable.
    environment["RUST_TEST_THREADS"] = "1"
    command = [asked.tests, "--nocapture", *asked.filter]
    tests, status, started = Tests(asked.report), None, clock.spent()
    with open(Path(asked.logs) / "parity.log", "w") as log:
        for line in lines_of(command, environment, clock):
            if isinstance(line, int):
                status = line
                break
            print(line, file=log, flush=True)
            word = tests.read(line)
            if word:
                print(f"  {word} ({clock.spent() - started:.1f} s)", flush=True)
                started = clock.spent()
    summarize(tests.worst)
    if status is None or status < 0:
        done = len(tests.passed)
        raise Failed(f"the time was over, or the program was ended, in {tests.current}; {done} tests had passed")
    if tests.failed or status != 0:
        raise Failed(f"failed: {', '.join(dict.fromkeys(tests.failed)) or f'exit status {status}'}")
    if not tests.passed:
        raise Failed("no test ran")
    if tests.over:
        raise Failed(f"off by more than is allowed: {', '.join(dict.fromkeys(tests.over))}")


def summarize(worst):
    """The largest deviation of every test and fixture, beside what is allowed."""
    groups = {}
    for (test, what), (off, allowed) in worst.items():
        key = (test, what.split()[0], allowed)
        if off > groups.get(key, (-1, ""))[0]:
            groups[key] = (off, what)
    for (test, _, allowed), (off, what) in sorted(groups.items(), key=lambda group: -group[1][0] / group[0][2]):
        # Far below what is allowed: nothing to read.
        if off < allowed / 100:
            continue
        mark = "OVER" if off > allowed else "    "
        print(f"  {mark} {off:8.1e} of {allowed:7.0e}  {test.split('::')[-1]:45} {what}", flush=True)


def check_memory(asked, clock):
    """A training step keeps no logits and no probabilities of attention: the allocator's peak is bounded by the state (weights,
    gradients, two moments and the average), 64 bytes for every element of every block's input, three chunks of 2²⁵
    logits, and a quarter more for what the allocator rounds."""
    case, batch = ("small", 2) if asked.tiny else (MEMORY_CASE, MEMORY_BATCH)
    environment = {"DEVICE": asked.device, "PRECISION": asked.precision, "BATCH": str(batch)}
    with tempfile.TemporaryDirectory() as folder:
        side = Side([asked.steps, "train", case, 2], environment, Path(folder) / "log")
        try:
            measured = side.read(clock) | side.measure(clock)
        finally:
            side.close()
    if measured.get("device_mb") is None:
        print("  memory: this device has no allocator that says what it holds", flush=True)
        return
    allowed = 1.25 * (20 * measured["weights"] + 64 * measured["block_inputs"] + 12 * 2**25) / 1e6
    print(f"  memory of a training step: {measured['device_mb']:.0f} MB of {allowed:.0f} MB", flush=True)
    if measured["device_mb"] > allowed:
        raise Failed(f"a training step of {case} holds {measured['device_mb']:.0f} MB, not {allowed:.0f} MB")


def parity(asked):
    clock = Clock(asked.limit or 180)
    wrong = []
    for check in [run_tests, *([check_memory] if asked.steps else [])]:
        try:
            check(asked, clock)
        except (Failed, OSError, json.JSONDecodeError) as error:
            wrong.append(str(error))
            print(f"  {error}", flush=True)
            if not asked.report:
                break
    print(f"PARITY {'FAILED' if wrong else 'HOLDS'} ({clock.spent():.0f} s)", flush=True)
    return int(bool(wrong))
