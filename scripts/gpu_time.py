"""`gpu_check.py time`: ours beside PyTorch, on the same weights and the same batch, in turn."""

import datetime
import json
import math
import statistics
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from gpu_processes import Clock, Failed, Side, run
from gpu_table import Claim, markdown, operations, print_row

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"

# Dense products of bf16 numbers on an H100 or H200: NVIDIA's data sheet.
PEAK_FLOPS = 989e12

# A row is not begun when less is left.
LEAST_S = 15


@dataclass(frozen=True)
class Form:
    """A way to write it in PyTorch."""

    name: str
    form: str = "best"
    # Where it is another than ours.
    verb: str = ""
    is_compiled: bool = False


BEST, REFERENCE, COMPILED = Form("best"), Form("reference", "reference"), Form("compiled", is_compiled=True)


@dataclass(frozen=True)
class Row:
    """A row of the table: what both sides do on which case."""

    name: str
    title: str
    case: str
    verb: str
    # Steps, evaluations or estimates of one measurement.
    count: int
    # The case where a program is only tried.
    tiny: str
    forms: tuple = (BEST,)
    claims: tuple = ()
    program: str = "dit_steps"
    peer: str = "dit.py"
    # Whether torch.compile is tried without being asked for.
    compiles: bool = False


ROWS = [
    Row(
        "train",
        "training step, d 768, 12 blocks, L 1024, C 50257, ℓ 4",
        "published",
        "train",
        5,
        "small",
        claims=(
            Claim("time", "best", 1.0, 1.3),
            Claim("memory", "best", 1.5, 2.0),
            Claim("utilisation", "", 0.35, 0.5),
        ),
        compiles=True,
    ),
    Row(
        "train-mdm",
        "the same, ℓ 1",
        "published-mdm",
        "train",
        5,
        "small-mdm",
        claims=(Claim("time", "best", 1.0, 1.2),),
        compiles=True,
    ),
    Row(
        "train-encoder",
        "the same, encoder, ℓ 4",
        "published-encoder",
        "train",
        5,
        "small-encoder",
        claims=(Claim("time", "best", 1.0, 1.2),),
    ),
    Row(
        "train-dictionary",
        "training step, d 192, 4 blocks, L 128, C 4096, ℓ 2",
        "dictionary",
        "train",
        100,
        "small",
        claims=(Claim("time", "best", 1.5, 3.0),),
    ),
    Row(
        "train-bytes",
        "training step, d 256, 6 blocks, L 256, C 256, ℓ 2",
        "bytes",
        "train",
        60,
        "small",
        claims=(Claim("time", "best", 1.5, 3.0),),
    ),
    Row(
        "sample",
        "an evaluation of sampling, the first network, T 512",
        "published",
        "sample",
        20,
        "small",
        forms=(REFERENCE, BEST),
        claims=(Claim("time", "reference", 5.0, 10.0), Claim("time", "best", 1.3, 2.0)),
    ),
    Row(
        "bound",
        "bound of 32 sequences to 1 %, the first network",
        "published",
        "bound",
        10,
        "small",
        forms=(REFERENCE, BEST, Form("best, by number", verb="bound-by-number")),
        claims=(Claim("time", "best", 5.0, 10.0),),
    ),
    Row(
        "unet",
        "training step, U-Net of CIFAR-10's published size, 64 images",
        "cifar10",
        "train",
        5,
        "tiny",
        claims=(Claim("time", "best", 0.8, 1.2),),
        program="unet_steps",
        peer="unet.py",
    ),
]

OPERATIONS = Row(
    "operations", "operations of the first row", "published", "operations", 20, "small", peer="operations.py"
)


class Cases:
    """Weights and batches of all cases, which are written side by side before the first row."""

    def __init__(self, asked, rows, folder, clock):
        self.asked, self.folder, self.clock = asked, folder, clock
        self.problems, self.writers = {}, {}
        for row in rows:
            key = (row.program, case_of(asked, row), None)
            if key not in self.writers:
                self.writers[key] = threading.Thread(target=self.write, args=key, daemon=True)
                self.writers[key].start()

    def place(self, program, case, batch):
        return self.folder / f"{program}-{case}-{batch or 'own'}"

    def write(self, program, case, batch):
        try:
            environment = {"DEVICE": "cpu", "PRECISION": "fp32"} | of_batch(batch)
            command = [self.asked.programs[program], "prepare", case, self.place(program, case, batch)]
            run(command, environment, self.clock, self.folder / f"prepare-{program}-{case}.log")
        except Failed as error:
            self.problems[(program, case, batch)] = str(error)

    def get(self, row, batch):
        """The folder of a row's case."""
        key = (row.program, case_of(self.asked, row), batch)
        if key not in self.writers:
            self.writers[key] = threading.Thread(target=self.write, args=key, daemon=True)
            self.writers[key].start()
        self.writers[key].join()
        if key in self.problems:
            raise Failed(f"{key[0]} prepare {key[1]}: {self.problems[key]}")
        return self.place(*key)


def case_of(asked, row):
    return row.tiny if asked.tiny else row.case


def of_batch(batch):
    return {"BATCH": str(batch)} if batch else {}


def command_of(asked, row, form, folder):
    """Of our side, without a form, or of PyTorch's."""
    count = min(row.count, 3) if asked.tiny else row.count
    if form is None:
        return [asked.programs[row.program], row.verb, case_of(asked, row), count]
    verb = form.verb or row.verb
    arguments = {
        "dit.py": [form.form, verb, folder, count],
        "unet.py": [verb, folder, count],
        "operations.py": [folder, count],
    }
    return [asked.python, PEERS / row.peer, *arguments[row.peer]]


def start(asked, row, form, folder, batch, clock):
    """A side that has warmed up, and what it knows."""
    name = form.name if form else "ours"
    environment = {"PRECISION": asked.precision, "DEVICE": asked.device} | of_batch(batch)
    if form:
        device = "cpu" if asked.device == "cpu" else "cuda"
        environment |= {"DEVICE": device, "COMPILE": str(int(form.is_compiled)), "OMP_NUM_THREADS": "8"}
    log = Path(asked.logs) / f"{row.name}-{name.replace(', ', '-').replace(' ', '-')}.log"
    before, side = clock.spent(), Side(command_of(asked, row, form, folder), environment, log)
    try:
        known = side.read(clock)
    except BaseException:
        side.close()
        raise
    return side, known | {"start_s": clock.spent() - before}


def start_all(asked, row, forms, folder, batch, clock, problems):
    """All sides at once: most of their start is one core's work each."""
    sides, known = {}, {}

    def start_one(name, form):
        try:
            sides[name], known[name] = start(asked, row, form, folder, batch, clock)
        except (Failed, OSError) as error:
            problems[name] = str(error)
            print(f"  {name}: {error}", flush=True)

    wanted = {"ours": None} | {form.name: form for form in forms}
    threads = [threading.Thread(target=start_one, args=item) for item in wanted.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # In the order in which they were asked for.
    return {name: sides[name] for name in wanted if name in sides}, known


def measure(asked, row, forms, folder, batch, clock):
    """Measurements of every side, in turn."""
    problems = {}
    # What has started is measured: a side that takes long to start must leave time for that.
    starting = clock.part(0.7 * clock.left())
    sides, known = start_all(asked, row, forms, folder, batch, starting, problems)
    measured = {name: [] for name in sides}
    try:
        for index in range(asked.rounds):
            order = list(sides)
            for name in order if index % 2 == 0 else order[::-1]:
                try:
                    measured[name].append(sides[name].measure(clock))
                except (Failed, OSError) as error:
                    problems[name] = str(error)
                    print(f"  {name}: {error}", flush=True)
                    sides.pop(name).close()
    finally:
        for side in sides.values():
            side.close()
    return known, {name: values for name, values in measured.items() if values}, problems


def lacks_memory(problems):
    words = ("out of memory", "OutOfMemory", "OUT_OF_MEMORY", "OOM")
    return any(word in problem for problem in problems.values() for word in words)


def forms_of(asked, row):
    if asked.no_torch:
        return []
    is_compiled = row.compiles if asked.compile is None else row.name in asked.compile
    return [*row.forms, *([COMPILED] if is_compiled else [])]


def measure_row(asked, row, cases, clock):
    """With fewer sequences where memory is too small for those of the case."""
    problems = {}
    for batch in [None, 8, 4] if case_of(asked, row).startswith("published") else [None]:
        folder = cases.get(row, batch)
        known, measured, problems = measure(asked, row, forms_of(asked, row), folder, batch, clock)
        if not lacks_memory(problems) or clock.left() < LEAST_S:
            break
        print("  memory is too small: fewer sequences", flush=True)
    entry = {"batch": batch, "problems": problems, "known": known, "measured": measured}
    entry["times"] = {name: [one["ms"] for one in values] for name, values in measured.items() if "ms" in values[0]}
    if row.verb == "bound":
        entry["times"], entry["bounds"] = to_one_percent(measured)
    if row.verb == "train":
        compare_losses(known, problems)
        flops = known.get("ours", {}).get("flops")
        if flops and "ours" in entry["times"] and row.program == "dit_steps":
            entry["utilisation"] = flops / (statistics.median(entry["times"]["ours"]) / 1e3) / PEAK_FLOPS
    return entry


def compare_losses(known, problems):
    """The sides start at the same weights and batch: losses that differ by more than rounding are an error."""
    ours = known.get("ours", {}).get("losses")
    for name, side in known.items():
        for step, (a, b) in enumerate(zip(ours or [], side.get("losses", []))):
            if not abs(a - b) <= (1e-2 if step == 0 else 5e-2) * abs(b):
                problems[f"losses of {name}"] = f"step {step}: ours {a}, {name} {b}"
                print(f"  LOSSES DIFFER in step {step}: ours {a}, {name} {b}", flush=True)
                break


def to_one_percent(measured):
    """Times of as many estimates as have a standard error of 1 % together, and what they estimate: mean, deviation, and
    that number, from the estimates of all rounds."""
    times, bounds = {}, {}
    for name, values in measured.items():
        estimates = [estimate for one in values for estimate in one["estimates"]]
        mean, deviation = statistics.mean(estimates), statistics.stdev(estimates)
        needed = max(1, math.ceil((deviation / mean / 0.01) ** 2))
        times[name] = [one["ms"] * needed for one in values]
        error = deviation / math.sqrt(len(estimates))
        bounds[name] = {"nats_per_token": mean, "standard_error": error, "estimates_to_1_percent": needed}
        print(f"  {name}: {mean:.4f} ± {error:.4f} nats per token, {needed} estimates for 1 %", flush=True)
    return times, bounds


def compare_bounds(entry):
    """All sides estimate the same number, up to the rounding of bf16."""
    bounds = entry.get("bounds", {})
    ours = bounds.get("ours")
    for name, other in bounds.items() if ours else []:
        error = math.hypot(ours["standard_error"], other["standard_error"])
        if abs(ours["nats_per_token"] - other["nats_per_token"]) > 4 * error + 1e-2 * other["nats_per_token"]:
            entry["problems"][f"bound of {name}"] = "differs from ours"
            print(f"  BOUNDS DIFFER: ours {ours}, {name} {other}", flush=True)


def describe_device():
    """The GPU and its driver."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def timing(asked):
    clock = Clock(asked.limit or 360)
    rows = [OPERATIONS] if asked.operations else [row for row in ROWS if not asked.rows or row.name in asked.rows]
    result = {
        "date": datetime.date.today().isoformat(),
        "device": asked.device if asked.device == "cpu" else describe_device(),
        "precision": asked.precision,
        "rounds": asked.rounds,
        "is_tiny": asked.tiny,
        # Whatever ends this program, the file says which rows are missing.
        "rows": [{"row": row.name, "title": row.title, "unmeasured": "it was not reached"} for row in rows],
    }

    def write():
        Path(asked.out).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        if asked.table:
            Path(asked.table).write_text(markdown(result, ROWS))

    write()
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(asked, rows, Path(folder), clock)
        for index, row in enumerate(rows):
            print(f"{row.title} (at {clock.spent():.0f} s)", flush=True)
            entry = {"row": row.name, "title": row.title}
            if clock.left() < LEAST_S:
                entry["unmeasured"] = "the time was over"
            else:
                try:
                    # A row that takes long leaves some time for each of the others.
                    share = clock.part(min(asked.row_limit, 2 * clock.left() / (len(rows) - index)))
                    entry |= measure_row(asked, row, cases, share)
                    compare_bounds(entry)
                except (Failed, OSError, KeyError, ValueError, statistics.StatisticsError) as error:
                    entry["unmeasured"] = f"{type(error).__name__}: {error}"
                if not entry.get("measured", {}).get("ours"):
                    entry.setdefault("unmeasured", entry.get("problems", {}).get("ours", "ours gave nothing"))
            result["rows"][index] = entry
            write()
            print("" if asked.operations else print_row(row, entry), flush=True)
    missing = [entry["row"] for entry in result["rows"] if "unmeasured" in entry or entry["problems"]]
    print(f"\n{operations(result['rows'][0]) if asked.operations else markdown(result, ROWS)}")
    print(f"missing, or in part: {', '.join(missing) or 'nothing'}; written to {asked.out} ({clock.spent():.0f} s)", flush=True)
    return 0
