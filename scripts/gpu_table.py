"""What gpu.json says, for people: rows as they come, and the table of docs/benchmarks.md."""

import statistics
from dataclasses import dataclass

# Said where there is no number.
UNMEASURED = "*unmeasured*"


@dataclass(frozen=True)
class Claim:
    """What a row must show: the ratio PyTorch / ours of times or of memory, or the share of the device's peak."""

    of: str
    # `reference`, or `best`: the best of all other forms.
    against: str
    must: float
    aim: float


def ratios(ours, theirs):
    """PyTorch / ours of neighbouring measurements."""
    return [b / a for a, b in zip(ours, theirs)]


def spread(values, digits):
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def chosen(values, against):
    """The form that a claim is about: name and values, if there are any."""
    others = {name: of_form for name, of_form in values.items() if name not in ("ours", "reference")}
    if against == "reference":
        return against, values.get(against)
    return min(others.items(), key=lambda item: statistics.median(item[1]), default=(against, None))


def reserved(entry):
    """What every side's allocator has reserved at most, in MB."""
    found = {}
    for name, measured in entry.get("measured", {}).items():
        last = measured[-1].get("device_reserved_mb") or measured[-1].get("device_mb")
        if last:
            found[name] = [last]
    return found


def column(claim, values):
    """One side's column; unmeasured without values."""
    if not values:
        return UNMEASURED
    digits = 0 if claim.of == "memory" else 1 if statistics.median(values) >= 10 else 3
    return spread(values, digits) if len(values) > 1 else f"{values[0]:.{digits}f}"


def cells(claim, entry):
    """Ours, PyTorch's, its form, the ratio, and what was reached."""
    if claim.of == "utilisation":
        share = entry.get("utilisation")
        found = [UNMEASURED, UNMEASURED] if share is None else [f"{100 * share:.1f} %", verdict(claim, share)]
        return [found[0], "", "", "", found[1]]
    values = entry.get("times", {}) if claim.of == "time" else reserved(entry)
    ours, (name, theirs) = values.get("ours"), chosen(values, claim.against)
    both = [column(claim, ours), column(claim, theirs), name]
    if not ours or not theirs:
        return [*both, UNMEASURED, UNMEASURED]
    of_both = ratios(ours, theirs)
    ratio = spread(of_both, 2) if len(of_both) > 1 else f"{of_both[0]:.2f}"
    # A time of something else says nothing.
    differs = any(what.endswith(f" of {name}") for what in entry["problems"])
    return [*both, ratio, "**differs**" if differs else verdict(claim, statistics.median(of_both))]


def verdict(claim, value):
    return "aim" if value >= claim.aim else "must" if value >= claim.must else "**no**"


def target(claim, value):
    return f"{100 * value:.0f} %" if claim.of == "utilisation" else f"{value:g}"


def lines(row, entry):
    """A line of the table for each claim of a row."""
    units = {"time": "ms", "memory": "MB reserved", "utilisation": "share of 989 TFLOP/s"}
    for claim in row.claims:
        title = f"{row.title}: {units[claim.of]}"
        if entry.get("batch"):
            title += f" ({entry['batch']} sequences)"
        *of_both, reached = cells(claim, entry)
        yield [title, *of_both, target(claim, claim.must), target(claim, claim.aim), reached]


def reasons_of(entry):
    """Why something of a row is missing or does not count."""
    if "unmeasured" in entry:
        yield entry["unmeasured"]
    else:
        yield from (f"{what}: {problem}" for what, problem in entry.get("problems", {}).items())


def markdown(result, rows):
    """The table of docs/benchmarks.md, each row with what it must reach."""
    measured = {entry["row"]: entry for entry in result["rows"]}
    torch = {
        known["torch"]
        for entry in measured.values()
        for known in entry.get("known", {}).values()
        if "torch" in known
    }
    tried = " Small cases to try the programs with, not those of the table." if result.get("is_tiny") else ""
    head = (
        f"{result['date']}, {result['device'] or 'no GPU'}, PyTorch {', '.join(sorted(torch)) or UNMEASURED}, "
        f"{result['precision']}, {result['rounds']} rounds: median (least to greatest).{tried}\n\n"
        "| | ours | PyTorch | its form | PyTorch / ours | must | aim | reached |\n|---|---|---|---|---|---|---|---|\n"
    )
    table = [f"| {' | '.join(line)} |" for row in rows for line in lines(row, measured.get(row.name, {}))]
    reasons = [f"- {row.title}: {reason}" for row in rows for reason in reasons_of(measured.get(row.name, {}))]
    missing = "\nWhat is missing, and why:\n\n" + "\n".join(reasons) + "\n" if reasons else ""
    return head + "\n".join(table) + "\n" + missing


def print_row(row, entry):
    """A row as it comes: all forms with what else they say."""
    text = [f"  unmeasured: {entry['unmeasured']}"] if "unmeasured" in entry else []
    times = entry.get("times", {})
    for name, values in times.items():
        known, last = entry["known"][name], entry["measured"][name][-1]
        line = f"  {name:16} {spread(values, 2)} ms"
        if "ours" in times and name != "ours":
            line += f", PyTorch / ours {spread(ratios(times['ours'], values), 2)}"
        for key, what in [("ms_host", "ms to hand over"), ("device_mb", "MB"), ("device_reserved_mb", "MB reserved")]:
            line += f", {last[key]:.1f} {what}" if last.get(key) else ""
        line += f", first {known['ms_first']:.0f} ms" if known.get("ms_first") else ""
        line += f", started in {known['start_s']:.0f} s"
        tokens = known.get("tokens")
        line += f", {tokens / statistics.median(values) * 1e3:,.0f} tokens/s" if tokens else ""
        line += f", losses {' '.join(f'{loss:.4f}' for loss in known['losses'])}" if "losses" in known else ""
        text.append(line)
    text += [f"  {' | '.join(column for column in line if column)}" for line in lines(row, entry)]
    return "\n".join(text)


def operations(entry):
    """The table of single operations: medians of forward passes, and of both passes."""
    measured = entry.get("measured", {})
    if "ours" not in measured:
        return f"  unmeasured: {entry.get('unmeasured', '')}"

    def middle(name, operation, index):
        return statistics.median(one["operations"][operation][index] for one in measured[name])

    names = list(measured)
    head = ["", *(f"{name}, {what}, ms" for what in ("forward", "both passes") for name in names), "PyTorch / ours"]
    table = [head, ["---"] * len(head)]
    # PyTorch's side gives them in the order of a block.
    for operation in measured[names[-1]][0]["operations"]:
        times = [[middle(name, operation, index) for name in names] for index in range(2)]
        best = min(times[1][1:], default=None)
        ratio = "" if best is None else f"{best / times[1][0]:.2f}"
        table.append([operation, *(f"{ms:.3f}" for both in times for ms in both), ratio])
    return "\n".join(f"| {' | '.join(line)} |" for line in table)
