#!/usr/bin/env python3
"""Compares two versions of the program, number by number.

    compare_versions.py OLD NEW [--folder DIR] [--only NAME ...]

OLD and NEW are binaries. Tiny models of every kind (tiny_models.py) are trained, evaluated and sampled by both.
Compared bit for bit are: every tensor of every checkpoint; records of training; figures (value, standard error, network
evaluations); samples and what they cost; pixels of pictures. OLD computes once, with 2 threads and batches of 8; NEW
with 1 and 2 threads and, where it evaluates and samples, with batches of 1 and 8. Besides, NEW reads what OLD wrote: it
evaluates, samples, exports and imports OLD's runs and model folders, begins a run with OLD's weights, and resumes a run
that OLD stopped half-way.

JSON text is not compared: NEW may print more keys, and keys listed in RENAMED may have other names.

Exit code: 0 when all is equal, 1 when something differs, 2 when OLD itself fails.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence

from tiny_models import HALF, STEPS, Call, Kind, kinds, write_data

RENAMED: dict[str, str] = {}
"""Keys of OLD's JSON and what NEW calls them."""

OLD_THREADS, OLD_BATCH = 2, 8
THREADS, BATCHES = (1, 2), (1, 8)
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "codes.safetensors")
COSTS = ("evaluations", "steps", "idle_steps", "redraws", "sequences", "positions", "jumps", "jumps_dropped")

Facts = dict[str, Sequence]
"""What a program computed, by name: numbers, or texts."""


class CommandFailed(Exception):
    """A command that did not end well."""


class UnknownKey(CommandFailed):
    """A version does not know a setting of a kind."""


# Running


class Program:
    """One of the two versions."""

    def __init__(self, binary: pathlib.Path, data: pathlib.Path) -> None:
        self.binary = binary.resolve()
        self.data = data

    def run(self, arguments: Sequence[str], folder: pathlib.Path) -> str:
        """Standard output of a call in `folder`."""
        filled = [argument.replace("{data}", str(self.data)) for argument in arguments]
        command = [str(self.binary), *filled, "--device", "cpu"]
        environment = os.environ | {"NO_COLOR": "1"}
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8"
        )
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith(("error", "thread"))]
            reason = errors[-1] if errors else done.stderr.strip()[-200:]
            failure = UnknownKey if "unknown key" in reason else CommandFailed
            raise failure(f"exit code {done.returncode} of `submask {' '.join(filled)}`: {reason}")
        return done.stdout

    def train(self, kind: Kind, run: pathlib.Path, threads: int, steps: int = STEPS) -> None:
        """Trains a model."""
        settings = [f"{key}={value}" for key, value in kind.settings.items()]
        ends = ["--steps", str(steps), "--threads", str(threads)]
        self.run(["train", *kind.train, "--out", run.name, *ends, "--set", *settings], run.parent)

    def resume(self, run: pathlib.Path, threads: int) -> None:
        """Takes a run to its last step."""
        ends = ["--resume", "--steps", str(STEPS), "--threads", str(threads)]
        self.run(["train", "--out", run.name, *ends], run.parent)

    def begin_with(self, kind: Kind, model: pathlib.Path, run: pathlib.Path) -> None:
        """Trains a model for two steps that begins with the weights of another."""
        own = ("data.", "train.", "tokenizer.")
        settings = [f"{key}={value}" for key, value in kind.settings.items() if key.startswith(own)]
        data = [kind.train[i + 1] for i, flag in enumerate(kind.train) if flag == "--data"]
        given = ["--data", *data] if data else []
        image = ["--image", "{data}/density.png"] if "--image" in kind.train else []
        start = ["train", "--init", str(model), *given, *image, "--out", run.name, "--steps", "2"]
        self.run([*start, "--set", *settings], run.parent)

    def ask(self, call: Call, model: pathlib.Path, folder: pathlib.Path, threads: int, batch: int) -> Facts:
        """What a model answers."""
        shutil.rmtree(folder, ignore_errors=True)
        ends = ["--threads", str(threads), "--batch", str(batch)]
        said = self.run([call.verb, str(model), *call.arguments, *ends], folder)
        facts = pictures(folder)
        if call.printed == "json":
            facts |= facts_of_json(json.loads(said))
        elif call.printed == "lines":
            facts["standard output"] = said.splitlines()
        if not facts:
            raise CommandFailed(f"nothing to compare in the answer to `{call.name}`")
        return facts


# Facts


def facts_of_json(result: dict) -> Facts:
    """Figures, samples, costs and metrics in what a verb printed."""
    facts: Facts = {}
    for figure in result.get("figures", []):
        facts |= facts_of_figure(figure)
    for n, one in enumerate(result.get("samples", [])):
        facts[f"sample {n}"] = one["text"] if isinstance(one, dict) else one
    for name in COSTS:
        value = named(result.get("cost", {}), name)
        facts |= {f"cost.{name}": [value]} if value is not None else {}
    facts |= {f"metrics.{name}": [value] for name, value in result.get("metrics", {}).items()}
    return facts


def facts_of_figure(figure: dict) -> Facts:
    """The numbers of a figure, under its name and unit."""
    name = f"{figure['name']} in {figure['unit']}"
    keys = ("value", "standard_error", "evaluations", "kind")
    return {f"{name}, {key}": [named(figure, key)] for key in keys}


def named(table: dict, key: str) -> object:
    """The value of a key, which may have another name."""
    return table.get(key, table.get(RENAMED.get(key, key)))


def facts_of_run(run: pathlib.Path) -> Facts:
    """Tensors of all checkpoints, records, pictures and prepared tokens of a run."""
    facts = facts_of_records(run / "metrics.jsonl")
    for path in sorted(run.glob("checkpoints/*/*.safetensors")):
        facts |= {f"{path.relative_to(run)}: {name}": values for name, values in tensors(path).items()}
    for path in sorted(run.glob("data/*.tokens")):
        facts[path.name] = path.read_bytes()[64:]
    return facts | pictures(run)


def facts_of_records(path: pathlib.Path) -> Facts:
    """Everything that was recorded but the speed."""
    facts: Facts = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        place = f"{record['kind']} {record['step']}"
        for figure in record.get("figures", []):
            facts |= {f"{place}: {name}": values for name, values in facts_of_figure(figure).items()}
        numbers = ("loss_nats_per_token", "objective", "gradient_norm", "learning_rate", "tokens")
        if record["kind"] == "step":
            facts |= {f"{place}: {key}": [named(record, key)] for key in numbers}
        elif record["samples"]:
            # Of pictures the paths are recorded, which stand below the run.
            facts[f"{place}: samples"] = [text.rsplit("/samples/", 1)[-1] for text in record["samples"]]
    return facts


def tensors(path: pathlib.Path) -> Facts:
    """Names, shapes and bits of the tensors of a safetensors file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    facts: Facts = {"names": sorted(header)}
    for name in sorted(header):
        tensor = header[name]
        start, end = tensor["data_offsets"]
        facts[f"{name}, type and shape"] = [tensor["dtype"], *tensor["shape"]]
        element = {"F32": "I", "I64": "Q"}[tensor["dtype"]]
        facts[name] = memoryview(content[8 + size + start : 8 + size + end]).cast(element)
    return facts


def pictures(folder: pathlib.Path) -> Facts:
    """Pixels of all pictures in a folder and those below."""
    return {str(path.relative_to(folder)): pixels(path) for path in sorted(folder.rglob("*.png"))}


def pixels(path: pathlib.Path) -> bytes:
    """Header and filtered rows of a PNG file, whatever they were compressed to."""
    content = path.read_bytes()
    header, compressed, at = b"", b"", 8
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        name, chunk = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        header = chunk if name == b"IHDR" else header
        compressed += chunk if name == b"IDAT" else b""
        at += 12 + size
    return header + zlib.decompress(compressed)


# Comparing


class Row:
    """A row of the table: what was compared, and the first difference."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0
        self.difference: str | None = None

    def fail(self, difference: str) -> None:
        """Keeps the first difference."""
        self.difference = self.difference or difference

    def compare(self, where: str, old: Facts, new: Facts) -> None:
        """Compares what OLD computed with what NEW did; NEW may have computed more, but no further tensors."""
        for name, expected in old.items():
            self.count += len(expected)
            if name not in new:
                self.fail(f"{where}: {name}: missing")
            elif (difference := first_difference(expected, new[name])) is not None:
                self.fail(f"{where}: {name}: {difference}")


def first_difference(old: Sequence, new: Sequence) -> str | None:
    """The first place where two sequences differ. Numbers are equal if they are written alike, so 0 is not -0."""
    if isinstance(old, (bytes, memoryview)) and bytes(old) == bytes(new):
        return None
    if len(old) != len(new):
        return f"{len(old)} values, now {len(new)}"
    for i, (ours, theirs) in enumerate(zip(old, new)):
        if repr(ours) != repr(theirs):
            shown = (as_float(old, ours), as_float(new, theirs))
            return f"value {i} was {shown[0]}, now {shown[1]}"
    return None


def as_float(sequence: Sequence, value: object) -> str:
    """A value as people read it: 32 bits of a tensor are a number."""
    if isinstance(sequence, memoryview) and sequence.format == "I":
        return f"{struct.unpack('<f', struct.pack('<I', value))[0]!r} ({value:#010x})"
    return repr(value)


class Comparison:
    """The two versions on one kind of model."""

    def __init__(self, kind: Kind, old: Program, new: Program, folder: pathlib.Path) -> None:
        self.kind, self.old, self.new, self.folder = kind, old, new, folder
        self.run = folder / "old-run"
        self.checkpoint = self.run / "checkpoints" / f"step-{STEPS}"
        self.scratch = folder / "answer"

    def rows(self) -> Iterator[Row]:
        """Everything that is compared."""
        self.old.train(self.kind, self.run, OLD_THREADS)
        yield self.training()
        for verb, what in [("eval", "evaluation"), ("sample", "sampling"), ("metrics", "metrics")]:
            calls = [call for call in self.kind.calls if call.verb == verb]
            if calls:
                yield self.answers(what, calls)
        yield self.model_folder()
        yield self.resuming()
        yield self.beginning()
        yield self.exporting()

    def training(self) -> Row:
        """A whole run."""
        row, expected = Row("training"), facts_of_run(self.run)
        for threads in THREADS:
            with failures_in(row):
                run = self.folder / f"new-run-{threads}"
                self.new.train(self.kind, run, threads)
                row.compare(f"{threads} threads", expected, facts_of_run(run))
        return row

    def answers(self, what: str, calls: Sequence[Call]) -> Row:
        """Questions to OLD's run, and to NEW's own."""
        row = Row(what)
        for call in calls:
            expected = self.old.ask(call, self.run, self.scratch, OLD_THREADS, OLD_BATCH)
            for threads, batch in itertools.product(THREADS, BATCHES):
                where = f"{call.name}, {threads} threads, batch {batch}"
                self.check(row, where, call, expected, self.run, threads, batch)
            own = self.folder / f"new-run-{OLD_THREADS}"
            self.check(row, f"{call.name}, NEW's run", call, expected, own, OLD_THREADS, OLD_BATCH)
        return row

    def check(
        self, row: Row, where: str, call: Call, expected: Facts, model: pathlib.Path, threads: int, batch: int
    ) -> None:
        """Compares NEW's answer with what is expected."""
        with failures_in(row):
            row.compare(where, expected, self.new.ask(call, model, self.scratch, threads, batch))

    def model_folder(self) -> Row:
        """Questions to a copy of the model's files."""
        row, model = Row("model folder"), self.folder / "model"
        model.mkdir()
        for name in MODEL_FILES:
            if (self.checkpoint / name).exists():
                shutil.copy(self.checkpoint / name, model / name)
        for call in self.kind.folder_calls:
            expected = self.old.ask(call, model, self.scratch, OLD_THREADS, OLD_BATCH)
            self.check(row, call.name, call, expected, model, OLD_THREADS, OLD_BATCH)
        return row

    def resuming(self) -> Row:
        """A run that OLD stopped half-way, and one that NEW did."""
        row, half = Row("resuming"), self.folder / "half"
        self.old.train(self.kind, half, OLD_THREADS, HALF)
        of_old, of_new, own = (self.folder / f"resumed-by-{name}" for name in ("old", "new", "new-from-new"))
        shutil.copytree(half, of_old)
        shutil.copytree(half, of_new)
        self.old.resume(of_old, OLD_THREADS)
        expected = facts_of_run(of_old)
        for where, run in [("OLD's half", of_new), ("NEW's half", own)]:
            with failures_in(row):
                if run is own:
                    self.new.train(self.kind, own, 1, HALF)
                self.new.resume(run, OLD_THREADS)
                row.compare(where, expected, facts_of_run(run))
        return row

    def beginning(self) -> Row:
        """Runs that begin with the weights of OLD's."""
        row, of_old, of_new = Row("begin with weights"), self.folder / "begun-by-old", self.folder / "begun-by-new"
        self.old.begin_with(self.kind, self.run, of_old)
        with failures_in(row):
            self.new.begin_with(self.kind, self.run, of_new)
            row.compare("--init", facts_of_run(of_old), facts_of_run(of_new))
        return row

    def exporting(self) -> Row:
        """OLD's run exported by both, and what OLD exported imported by both."""
        row = Row("export and import")
        for format_name in ("safetensors", "reference"):
            export = ["export", str(self.run), "--format", format_name, "--to"]
            self.both(row, f"export, {format_name}", export, f"export-{format_name}")
        source = self.folder / "old-export-reference"
        self.both(row, "import", ["import", str(source), "--to"], "import")
        return row

    def both(self, row: Row, where: str, arguments: list[str], name: str) -> None:
        """Compares the tensors of the folders that a command writes."""
        of_old, of_new = self.folder / f"old-{name}", self.folder / f"new-{name}"
        self.old.run([*arguments, str(of_old)], self.folder)
        with failures_in(row):
            self.new.run([*arguments, str(of_new)], self.folder)
            for path in sorted(of_old.glob("*.safetensors")):
                row.compare(f"{where}: {path.name}", tensors(path), tensors(of_new / path.name))


@contextlib.contextmanager
def failures_in(row: Row) -> Iterator[None]:
    """A command of NEW that fails is a difference."""
    try:
        yield
    except (CommandFailed, OSError, ValueError, KeyError) as error:
        row.fail(str(error) if isinstance(error, CommandFailed) else repr(error))


# The command


def compare(chosen: Sequence[Kind], old: pathlib.Path, new: pathlib.Path, folder: pathlib.Path, keep: bool) -> bool:
    """Prints the table. Returns whether all is equal."""
    data = folder / "data"
    write_data(data)
    started, count, differing = time.monotonic(), 0, 0
    print(f"{'kind':<22}  {'what':<18}  {'values':>10}  result", flush=True)
    for kind in chosen:
        try:
            for row in Comparison(kind, Program(old, data), Program(new, data), folder / kind.name).rows():
                result = "equal" if row.difference is None else f"DIFFERS: {row.difference}"
                print(f"{kind.name:<22}  {row.what:<18}  {row.count:>10,}  {result}", flush=True)
                count += row.count
                differing += row.difference is not None
        except UnknownKey as error:
            # NEW's failures are differences: this is of OLD.
            print(f"{kind.name:<22}  skipped: OLD has no such kind: {str(error).rsplit(': ', 1)[-1]}", flush=True)
        if not keep:
            shutil.rmtree(folder / kind.name, ignore_errors=True)
    seconds = time.monotonic() - started
    result = f"{differing} rows differ" if differing else "all equal"
    print(f"{count:,} values compared in {seconds:.0f} s: {result}")
    return differing == 0


def main() -> None:
    every = {kind.name: kind for kind in kinds()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=pathlib.Path, metavar="OLD")
    parser.add_argument("new", type=pathlib.Path, metavar="NEW")
    parser.add_argument("--folder", type=pathlib.Path, help="where runs are kept; it must be empty [default: nowhere]")
    parser.add_argument("--only", nargs="+", choices=every, metavar="NAME", help=f"of {', '.join(every)}")
    options = parser.parse_args()
    for binary in (options.old, options.new):
        if not os.access(binary, os.X_OK):
            parser.error(f"{binary} is no program")
    if options.folder and options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"{options.folder} is not empty")
    chosen = [every[name] for name in options.only or every]
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.folder or pathlib.Path(temporary) / "runs").resolve()
            equal = compare(chosen, options.old, options.new, folder, keep=options.folder is not None)
    except CommandFailed as error:
        print(f"OLD: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
