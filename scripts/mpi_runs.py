#!/usr/bin/env python3
"""Runs under MPI compared with runs of one process, and ranks that fail.

    scripts/mpi_runs.py [--short] [--only PART]… [--mpirun mpirun] [--without PROGRAM] [--gpus N] PROGRAM

PROGRAM is built with the cargo feature `mpi`, the other one without. Tiny models of every kind are trained by 1 to 4 ranks of
one thread each. Weights, moments, averages, metrics, samples and settings are compared byte for byte with those of one process
without MPI; of metrics all but the speed. With --gpus, PROGRAM is also built with `cuda`, the machine has N NVIDIA GPUs, or
pretends to, and only runs with one GPU per rank are made. The exit code is 1 if anything differs.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from tiny_models import Kind, kinds, write_data

TIMEOUT = 3
"""Seconds after which a rank that is not heard of is given up."""
LIMIT = TIMEOUT + 12
"""Seconds after which a run that has lost a rank must have ended: MPI takes some to end the others."""
PATIENCE = 300
"""Seconds that nothing may take."""

COMPARED = ("mdm", "prime-2-joint", "blocks", "pictures-with-classes", "autoregressive", "points")
"""Kinds of models; those of other names are left to compare_versions.py."""
SHORT = ("prime-2-joint", "blocks", "points")

CHUNK = 16_384
"""Elements whose squares are added up together."""


class Failed(Exception):
    """What is not as it should be."""


class Mpi:
    """Starts programs by mpirun."""

    def __init__(self, mpirun: str, program: pathlib.Path) -> None:
        self.mpirun, self.program = mpirun, str(program)
        said = subprocess.run([mpirun, "--version"], capture_output=True, encoding="utf-8").stdout
        self.is_open_mpi = "Open MPI" in said or "open-mpi" in said
        self.name = "Open MPI" if self.is_open_mpi else "MPICH"

    def command(self, parts: list[tuple[int, dict[str, str], list[str]]]) -> list[str]:
        """The command line for numbers of ranks, each with its own variables and arguments."""
        line = [self.mpirun]
        if self.is_open_mpi:
            line += ["--oversubscribe", "--allow-run-as-root"]
            # Containers may lack the right that it asks for.
            line += ["--mca", "btl_vader_single_copy_mechanism", "none"]
        for place, (count, variables, arguments) in enumerate(parts):
            line += [":"] if place else []
            line += ["-n", str(count)]
            for name, value in variables.items():
                if name == "PWD":
                    line += ["--wdir" if self.is_open_mpi else "-wdir", value]
                elif self.is_open_mpi:
                    line += ["-x", f"{name}={value}"]
                else:
                    line += ["-env", name, value]
            line += [self.program, *arguments]
        return line

    def start(self, parts: list[tuple[int, dict[str, str], list[str]]]) -> "Job":
        """Starts a run."""
        return Job(self.command(parts))


class Job:
    """A run under way."""

    def __init__(self, line: list[str]) -> None:
        self.output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        environment = os.environ | {"RUST_BACKTRACE": "0"}
        self.process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, env=environment
        )

    def ranks(self) -> dict[int, int]:
        """Process numbers by rank, of those that are there."""
        found = {}
        for number in descendants(self.process.pid):
            try:
                variables = pathlib.Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            for variable in variables:
                name, _, value = variable.partition(b"=")
                if name in (b"OMPI_COMM_WORLD_RANK", b"PMI_RANK"):
                    found[int(value)] = number
        return found

    def wait(self, limit: float) -> tuple[int, str, float]:
        """Exit code, what was said, and how long it took; fails after `limit` seconds."""
        begin = time.monotonic()
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            for number in [*descendants(self.process.pid), self.process.pid]:
                os.kill(number, signal.SIGKILL)
            self.process.wait()
            raise Failed(f"still there after {limit:.0f} s: {self.said()[-600:]}") from None
        return code, self.said(), time.monotonic() - begin

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()


def descendants(number: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    try:
        children = pathlib.Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in [child, *descendants(child)]]


def need(holds: bool, what: str) -> None:
    """Fails unless something holds."""
    if not holds:
        raise Failed(what)


# Runs


def facts(run: pathlib.Path, last_only: bool = False) -> dict[str, bytes]:
    """Everything a run leaves, by what it is; of the last checkpoint only, where that is what is compared."""
    found = {}
    checkpoints = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    need(all(not path.name.startswith(".") for path in checkpoints), f"{run}: half-written checkpoints")
    for checkpoint in checkpoints[-1:] if last_only else checkpoints:
        for file in sorted(checkpoint.iterdir()):
            found[f"{checkpoint.name}/{file.name}"] = file.read_bytes()
    if last_only:
        return found
    for file in sorted((run / "samples").glob("*")):
        found[f"samples/{file.name}"] = file.read_bytes()
    for place, line in enumerate((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        record = json.loads(line)
        record.pop("tokens_per_second", None)
        found[f"metrics, line {place + 1}"] = json.dumps(record).replace(str(run), "RUN").encode()
    found["settings"] = (run / "settings.toml").read_bytes()
    return found


def compare(expected: dict[str, bytes], found: dict[str, bytes]) -> None:
    """Fails with the first thing that differs."""
    need(bool(expected), "nothing to compare with")
    for name in [*expected, *found]:
        need(name in found, f"{name} is missing")
        need(name in expected, f"{name} is too much")
        if expected[name] != found[name]:
            shown = "" if len(found[name]) > 400 else f": {found[name]!r}, not {expected[name]!r}"
            raise Failed(f"{name} differs{shown}")


def elements(run: pathlib.Path) -> list[int]:
    """Elements of every weight."""
    weights = next((run / "checkpoints").glob("step-*/model.safetensors")).read_bytes()
    (length,) = struct.unpack_from("<Q", weights)
    header = json.loads(weights[8 : 8 + length])
    shapes = [value["shape"] for name, value in header.items() if name != "__metadata__"]
    sizes = []
    for shape in shapes:
        size = 1
        for side in shape:
            size *= side
        sizes.append(size)
    return sizes


class Runs:
    """Runs of tiny models."""

    def __init__(self, mpi: Mpi, folder: pathlib.Path, short: bool) -> None:
        self.mpi, self.folder, self.short = mpi, folder, short
        self.data = folder / "data"
        write_data(self.data)
        self.kinds = {kind.name: kind for kind in kinds()}
        by_blocks = self.kinds["prime-2-joint"].settings | {"model.block_len": "4"}
        self.kinds["blocks"] = dataclasses.replace(self.kinds["prime-2-joint"], settings=by_blocks)
        self.counter = 0

    def place(self) -> pathlib.Path:
        """A folder for a run."""
        self.counter += 1
        return self.folder / f"run-{self.counter}"

    def arguments(self, kind: Kind, out: pathlib.Path, steps: int, more: dict[str, object]) -> list[str]:
        """What a run is asked for."""
        given = [part.replace("{data}", str(self.data)) for part in kind.train]
        settings = kind.settings | {key: str(value) for key, value in more.items()}
        filled = [f"{key}={value}".replace("{data}", str(self.data)) for key, value in settings.items()]
        return ["train", *given, "--out", str(out), "--steps", str(steps), "--threads", "1", "--set", *filled]

    def alone(self, arguments: list[str]) -> str:
        """A run of one process without MPI."""
        done = subprocess.run(
            [self.mpi.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8"
        )
        need(done.returncode == 0, f"exit code {done.returncode} without MPI: {done.stderr[-600:]}")
        return done.stdout + done.stderr

    def ranks(self, count: int, arguments: list[str], limit: float = PATIENCE) -> str:
        """A run of so many ranks that succeeds."""
        code, said, _ = self.mpi.start([(count, {}, arguments)]).wait(limit)
        need(code == 0, f"exit code {code} of {count} ranks: {said[-900:]}")
        return said

    # What must be equal

    def equal(self) -> None:
        """Every kind of model on any number of ranks."""
        for name in SHORT if self.short else COMPARED:
            for slots in (5,) if self.short else (5, 4):
                more = {"train.accumulate": slots, "train.batch_size": 2, "train.validate_sequences": 5}
                one = self.place()
                self.alone(self.arguments(self.kinds[name], one, 6, more))
                expected = facts(one)
                for count in (2, 3) if self.short else (1, 2, 3, 4):
                    run = self.place()
                    said = self.ranks(count, self.arguments(self.kinds[name], run, 6, more))
                    compare(expected, facts(run))
                    if count > 1:
                        self.check_traffic(said, elements(run), count, slots, 6)
                    shutil.rmtree(run)
                say(f"{name}, {slots} micro-batches: equal")

    def check_traffic(self, said: str, sizes: list[int], ranks: int, slots: int, steps: int) -> None:
        """What was sent is what docs/clusters.md says."""
        line = next(line for line in said.splitlines() if "bytes in steps" in line)
        _, total, sums, weights, scalars, *_ = map(int, re.findall(r"\d+", line))
        everything, chunks = 4 * sum(sizes), sum(-(-size // CHUNK) for size in sizes)
        others = ranks - 1
        need(total == sums + weights + scalars, f"not a sum: {line}")
        need(weights == steps * others * everything, f"weights: {line}")
        need(scalars == steps * others * (8 * (slots + chunks) + 25 * ranks), f"numbers: {line}")
        # What the last rank owns is up to a chunk more or less than its share.
        to_owners = sums - steps * others * everything
        need(abs(to_owners / steps - everything * others / ranks) <= 4 * CHUNK, f"sums: {line}")

    def sharded(self) -> None:
        """Moments and averages in shares."""
        kind, more = self.kinds["prime-2-joint"], {"train.accumulate": 5, "train.shard_optimizer": "true"}
        one = self.place()
        self.alone(self.arguments(kind, one, 6, more))
        for count in (3,) if self.short else (2, 3, 4):
            run = self.place()
            self.ranks(count, self.arguments(kind, run, 6, more))
            compare(facts(one), facts(run))
        say("train.shard_optimizer: equal")

    def resumed(self) -> None:
        """Runs that go on with other numbers of ranks."""
        kind = self.kinds["prime-2-joint"]
        more = {"train.accumulate": 5, "train.decay": "constant"}
        one = self.place()
        self.alone(self.arguments(kind, one, 9, more))
        for counts in [(2, 3, 1)] if self.short else [(2, 3, 1), (1, 4, 2), (4, 1, 3), (3, 2, 4)]:
            run = self.place()
            for count, steps in zip(counts, (3, 6, 9)):
                if steps == 3:
                    self.ranks(count, self.arguments(kind, run, steps, more))
                    continue
                sharded = f"train.shard_optimizer={'true' if count > 1 else 'false'}"
                resume = ["train", "--out", str(run), "--resume", "--steps", str(steps), "--threads", "1"]
                self.ranks(count, [*resume, "--set", sharded])
            compare(facts(one, last_only=True), facts(run, last_only=True))
        say("resumed on other numbers of ranks: equal")

    def precision(self) -> None:
        """In bf16, where the processor computes in it."""
        kind, more = self.kinds["prime-2-joint"], {"train.accumulate": 5}
        one = self.place()
        try:
            self.alone([*self.arguments(kind, one, 4, more), "--precision", "bf16"])
        except Failed as failed:
            return say(f"skipped: bf16: {str(failed).strip().splitlines()[-1]}")
        run = self.place()
        self.ranks(3, [*self.arguments(kind, run, 4, more), "--precision", "bf16"])
        compare(facts(one), facts(run))
        say("bf16: equal")

    def verbs(self) -> None:
        """Calls whose work ranks share by themselves: what they print and write."""
        kinds_of = {
            "text": self.kinds["prime-2-joint"],
            "points": self.kinds["points"],
            "pictures": self.kinds["pictures-with-classes"],
        }
        runs = {name: self.place() for name in kinds_of}
        for name, kind in kinds_of.items():
            self.alone(self.arguments(kind, runs[name], 3, {"train.validate_sequences": 2}))
        text, points, pictures = map(str, runs.values())
        prompts = self.folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": "the sea ", "completion": word}) + "\n" for word in ("is", "a ship", "old")))
        calls = {
            "eval": ["eval", text, "--sequences", "5", "--json"],
            "eval by document": ["eval", text, "--data", str(self.data / "short.txt"), "--by-document"],
            "sample": ["sample", text, "--num", "5", "--steps", "4", "--json"],
            "sample points": ["sample", points, "--num", "5", "--steps", "4", "--out", "{here}/points.png"],
            "score": ["score", text, "--data", str(prompts)],
            "metrics": ["metrics", pictures, "--num", "5", "--steps", "2", "--sequences", "8"],
            "data prepare": ["data", "prepare", "--data", str(self.data / "text.txt"), "--out", "{here}/prepared", "--set", "tokenizer.kind=bytes"],
        }
        for name, call in calls.items():
            expected = None
            for count in (0, 3) if self.short else (0, 1, 2, 3, 4):
                here = self.place()
                here.mkdir()
                words = [word.replace("{here}", ".") for word in call]
                line = [str(self.mpi.program), *words] if count == 0 else self.mpi.command([(count, {}, words)])
                done = subprocess.run(line, cwd=here, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
                need(done.returncode == 0, f"{name}, {count} ranks: {done.stderr.decode()[-900:]}")
                found = {"standard output": done.stdout}
                found |= {str(file.relative_to(here)): file.read_bytes() for file in sorted(here.rglob("*")) if file.is_file()}
                need(not any(path.name.startswith(".submask") for path in here.iterdir()), f"{name}: shares were left")
                expected = expected or found
                compare(expected, found)
            say(f"{name}: equal")
        here = os.getcwd()
        os.chdir(self.folder)
        try:
            self.refused([(3, {}, ["eval", "nowhere"])], "nowhere")
            other = ["eval", text, "--sequences", "5", "--draws", "2"]
            self.refused([(1, {}, ["eval", text, "--sequences", "5"]), (1, {}, other)], "of other work than", "its draws is 2")
            need(not list(self.folder.glob(".submask*")), "shares were left")
        finally:
            os.chdir(here)
        say("calls that fail, and calls of which ranks do different ones: refused")

    def gpus(self, count: int) -> None:
        """One GPU per rank."""
        for name, precision in (("prime-2-joint", "bf16"), ("prime-2-joint", "fp32"), ("points", "fp32")):
            more = {"train.accumulate": 3, "train.batch_size": 2, "train.validate_sequences": 2, "train.decay": "constant"}
            kind, one = self.kinds[name], self.place()
            self.alone([*self.arguments(kind, one, 3, more), "--device", "gpu:0", "--precision", precision])
            expected = facts(one)
            for ranks in range(2, count + 1):
                run = self.place()
                given = [*self.arguments(kind, run, 3, more), "--device", "gpu:local", "--precision", precision]
                said = self.ranks(ranks, given)
                compare(expected, facts(run))
                line = next(line for line in said.splitlines() if "bytes in steps" in line)
                _, total, sums, weights, scalars, *_ = map(int, re.findall(r"\d+", line))
                sizes, others = elements(run), ranks - 1
                need(total == sums + scalars and weights == 0, line)
                # Twice the gradients and the loss; that no loss depends on some weights is all that they may lack.
                most = 3 * 2 * others * 4 * (sum(sizes) + 1)
                need(0.9 * most <= sums <= most, f"not nearly {most} bytes of sums: {line}")
                need(scalars == 3 * others * ranks * (1 + 8 + len(sizes) + 1 + 8), line)
                say(f"{name} in {precision} on {ranks} GPUs: equal, {sums} bytes of sums")
        run = self.place()
        for ranks, steps in ((2, 2), (count, 3)):
            resume = ["--resume"] if run.exists() else []
            given = self.arguments(self.kinds["points"], run, steps, more)
            if resume:
                given = ["train", "--out", str(run), "--steps", str(steps), "--threads", "1"]
            self.ranks(ranks, [*given, *resume, "--device", "gpu:local"])
        compare(facts(one, last_only=True), facts(run, last_only=True))
        say(f"resumed on {count} GPUs after 2: equal")
        given = self.arguments(self.kinds["points"], self.place(), 2, more)
        self.refused([(2, {}, [*given, "--device", "gpu:0"])], "one GPU on ranks 0 and 1", "gpu:local", code=2)
        other = self.arguments(self.kinds["points"], self.place(), 2, more | {"train.shard_optimizer": "true"})
        self.refused([(2, {}, [*other, "--device", "gpu:local"])], "train.shard_optimizer = true", "false on GPUs", code=2)
        say("a GPU for two ranks, and shares of the optimiser on GPUs: refused")

    # What must be refused

    def refused(self, parts: list[tuple[int, dict[str, str], list[str]]], *said: str, code: int | None = None) -> None:
        """A run that ends at once, with a message that says something once."""
        found, text, _ = self.mpi.start(parts).wait(60)
        need(found != 0, f"not refused: {text[-600:]}")
        need(code is None or found == code, f"exit code {found}, not {code}: {text[-600:]}")
        for part in said:
            need(part in text, f"{part!r} is not said: {text[-900:]}")
        need(text.count("error:") == 1, f"said {text.count('error:')} times: {text[-1500:]}")

    def refusals(self) -> None:
        """Ranks that are not alike."""
        kind = self.kinds["prime-2-joint"]
        run = self.place()
        same = {"train.accumulate": 4}
        given = self.arguments(kind, run, 4, same)
        self.refused([(3, {}, self.arguments(kind, run, 4, {"train.accumulate": 2}))], "train.accumulate = 2", code=2)
        other = self.arguments(kind, run, 4, same | {"train.learning_rate": "2e-2"})
        self.refused([(1, {}, given), (1, {}, other)], "the ranks differ in train.learning_rate: 0.01 on rank 0, 0.02 on rank 1")
        other = [str(self.data / "short.txt") if part.endswith("/text.txt") else part for part in given]
        self.refused([(2, {}, given), (1, {}, other)], "the ranks differ in data.paths", "on rank 2")
        need(not run.exists(), "a refused run left a folder")
        say("other settings on a rank: refused")
        self.other_corpora()
        self.other_vectors(given)

    def other_corpora(self) -> None:
        """The same name, and other points behind it."""
        folders = [self.folder / name for name in ("here", "there")]
        for folder, source in zip(folders, ("density.png", "given.png")):
            folder.mkdir(exist_ok=True)
            shutil.copy(self.data / source, folder / "density.png")
        kind, run = self.kinds["points"], self.place()
        given = self.arguments(kind, run, 4, {"train.accumulate": 4})
        given = ["density.png" if part.endswith("/density.png") else part for part in given]
        parts = [(1, {"PWD": str(folder)}, given) for folder in folders]
        self.refused(parts, "the ranks differ in the training data (their fingerprint)", "on rank 1")
        say("another corpus on a rank: refused")

    def other_vectors(self, given: list[str]) -> None:
        """Ranks whose vectors are of other lengths."""
        parts = [(1, {}, given), (1, {"SUBMASK_VECTOR_BITS": "128"}, given)]
        self.refused(parts, "the ranks differ in the instructions of the processor", "on rank 1")
        say("other vectors on a rank: refused")

    def without(self, program: pathlib.Path | None) -> None:
        """A program that was built without MPI."""
        if program is None:
            return say("skipped: no program without the feature")
        run = self.place()
        arguments = self.arguments(self.kinds["points"], run, 2, {"train.accumulate": 4})
        mpi = Mpi(self.mpi.mpirun, program)
        code, said, _ = mpi.start([(3, {}, arguments)]).wait(60)
        need(code == 2, f"exit code {code}: {said[-600:]}")
        need("3 processes were started" in said and "--features mpi" in said, said[-600:])
        # MPICH does not end processes that never asked it for anything because of another one's exit code: each says it then.
        most = 1 if mpi.is_open_mpi else 3
        need(1 <= said.count("error:") <= most and not run.exists(), said[-600:])
        say("a program without MPI: refused")

    # What may happen

    def faults(self) -> None:
        """Ranks that are killed, stopped, asked to stop, or have no room to write."""
        kind, steps = self.kinds["prime-2-joint"], 40
        more = {
            "train.accumulate": 4,
            "train.checkpoint_every": 4,
            "train.keep_checkpoints": 2,
            "train.validate_every": 10,
            "model.hidden": 48,
        }
        one = self.place()
        begin = time.monotonic()
        self.alone(self.arguments(kind, one, steps, more))
        usual = time.monotonic() - begin
        expected = facts(one)
        dice = random.Random(1)
        self.killed(kind, steps, more, usual, expected, dice)
        self.stopped(kind, steps, more, expected)
        self.interrupted(kind, steps, more, expected)
        self.full_disk(kind, more)

    def go_on(self, run: pathlib.Path, arguments: list[str]) -> list[str]:
        """Arguments that resume a run, or begin it where nothing is there to resume."""
        if not (run / "settings.toml").exists():
            return arguments
        at = arguments.index("--set")
        return [*arguments[:at], "--resume", *arguments[at:]]

    def killed(
        self,
        kind: Kind,
        steps: int,
        more: dict[str, object],
        usual: float,
        expected: dict[str, bytes],
        dice: random.Random,
    ) -> None:
        """Each rank killed at random moments."""
        times, done, run = 3 if self.short else 20, 0, self.place()
        arguments = [*self.arguments(kind, run, steps, more)]
        while done < times:
            count = dice.choice((2, 3, 4))
            job = self.mpi.start([(count, {}, self.go_on(run, arguments))])
            # Early moments are as interesting as later ones.
            time.sleep(dice.uniform(0.1, max(1.0, 1.5 * usual)))
            there = job.ranks()
            victim = done % count
            if victim not in there:
                code, said, _ = job.wait(PATIENCE)
                need(code == 0 or not there, f"exit code {code}: {said[-600:]}")
            else:
                os.kill(there[victim], signal.SIGKILL)
                code, said, took = job.wait(LIMIT)
                need(code != 0 or "sample it:" in said, f"rank {victim} of {count} was killed: {said[-600:]}")
                done += 1
            if (run / "settings.toml").exists() and self.is_done(run, steps):
                compare(expected, facts(run))
                run = self.place()
                arguments = [*self.arguments(kind, run, steps, more)]
        self.ranks(3, self.go_on(run, arguments))
        compare(expected, facts(run))
        say(f"ranks killed {times} times: ended, and resumed to the same")

    def is_done(self, run: pathlib.Path, steps: int) -> bool:
        """Whether a run has its last validation."""
        metrics = run / "metrics.jsonl"
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return any(record["step"] == steps and record["kind"] == "validation" for record in records)

    def stopped(self, kind: Kind, steps: int, more: dict[str, object], expected: dict[str, bytes]) -> None:
        """A rank that is there and does nothing (SIGSTOP)."""
        run = self.place()
        arguments = self.arguments(kind, run, steps, more)
        for victim in (1,) if self.short else (0, 1, 2):
            line = self.go_on(run, arguments)
            at = line.index("--set")
            line = [*line[:at], "--mpi-timeout", str(TIMEOUT), *line[at:]]
            job = self.mpi.start([(3, {}, line)])
            checkpoints = run / "checkpoints"
            before = set(os.listdir(checkpoints)) if checkpoints.exists() else set()
            self.until(job, run, lambda: (run / "settings.toml").exists() and set(os.listdir(checkpoints)) - before)
            os.kill(job.ranks()[victim], signal.SIGSTOP)
            code, said, took = job.wait(LIMIT)
            need(code != 0, f"exit code 0: {said[-600:]}")
            need(f"rank {victim}, of which nothing was heard for " in said, said[-900:])
            say(f"rank {victim} stopped: noticed, all ended after {took:.1f} s")
        self.ranks(2, self.go_on(run, arguments))
        compare(expected, facts(run))

    def until(self, job: Job, run: pathlib.Path, holds) -> None:
        """Waits for something in a run."""
        end = time.monotonic() + 60
        while not holds():
            need(time.monotonic() < end and job.process.poll() is None, f"{run} did not begin: {job.said()[-600:]}")
            time.sleep(0.02)

    def interrupted(self, kind: Kind, steps: int, more: dict[str, object], expected: dict[str, bytes]) -> None:
        """Asked to stop, as by Ctrl-C or `scancel`: all ranks, or one of them."""
        for victims in ([1],) if self.short else ([0], [1], [0, 1, 2]):
            run = self.place()
            arguments = self.arguments(kind, run, steps, more)
            job = self.mpi.start([(3, {}, arguments)])
            self.until(job, run, lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size > 0)
            there = job.ranks()
            for victim in victims:
                os.kill(there[victim], signal.SIGTERM)
            code, said, _ = job.wait(60)
            need(code == 130 and "stopped: after step" in said, f"exit code {code}: {said[-900:]}")
            self.ranks(2, self.go_on(run, arguments))
            compare(expected, facts(run))
        say("asked to stop: one checkpoint, and resumed to the same")

    def full_disk(self, kind: Kind, more: dict[str, object]) -> None:
        """No room for rank 0's checkpoint."""
        disk = self.folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode != 0:
            return say("skipped: full disk: no right to mount one")
        try:
            run = disk / "run"
            large = more | {"train.keep_checkpoints": 40, "train.checkpoint_every": 1}
            arguments = self.arguments(kind, run, 40, large)
            code, said, _ = self.mpi.start([(3, {}, arguments)]).wait(60)
            need(code == 1, f"exit code {code}: {said[-900:]}")
            need("No space left on device" in said and str(run) in said, said[-900:])
            need(said.count("error:") == 1, said[-900:])
            subprocess.run(["mount", "-o", "remount,size=300m", str(disk)], check=True)
            need((run / "settings.toml").exists(), "the disk was full before the run began")
            self.ranks(2, self.go_on(run, arguments))
            one = self.place()
            self.alone(self.arguments(kind, one, 40, large))
            compare(facts(one), facts(run))
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        say("full disk: said, and resumed to the same")


def say(what: str) -> None:
    """A line of the report."""
    print(f"- {what} (at {time.monotonic() - STARTED:.0f} s)", flush=True)


STARTED = time.monotonic()


def main() -> int:
    """Runs everything; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", action="append", default=[], metavar="PART")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--without", type=pathlib.Path)
    parser.add_argument("--gpus", type=int, metavar="N")
    parser.add_argument("program", type=pathlib.Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mpi = Mpi(given.mpirun, given.program.resolve())
        runs = Runs(mpi, pathlib.Path(folder), given.short)
        say(f"{mpi.name}, {os.cpu_count()} cores")
        parts = {
            "equal": runs.equal,
            "sharded": runs.sharded,
            "resumed": runs.resumed,
            "precision": runs.precision,
            "verbs": runs.verbs,
            "refusals": runs.refusals,
            "without": lambda: runs.without(given.without and given.without.resolve()),
            "faults": runs.faults,
        }
        if given.gpus:
            parts = {"gpus": lambda: runs.gpus(given.gpus)}
        for name, part in parts.items():
            if given.only and name not in given.only:
                continue
            try:
                part()
            except Failed as failed:
                print(f"FAILED: {name}: {failed}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
