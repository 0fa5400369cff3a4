"""The program, asked what a model of Python is asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

UNITS = {"digits": "subtoken", "tokens": "token"}


def words(arguments: dict[str, Any]) -> list[str]:
    """Flags of the program of the same names."""

    def text(name: str, value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return ",".join(map(repr, value))
        return UNITS[value] if name == "unit" else str(value)

    return [word for name, value in arguments.items() for word in (f"--{name.replace('_', '-')}", text(name, value))]


def said(program: Path, verb: str, model: Path, *more: str, folder: Path | None = None) -> str:
    """What the program prints."""
    command = [str(program), verb, str(model), *more, "--device", "cpu"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(program: Path, verb: str, model: Path, *more: str, folder: Path | None = None) -> Any:
    """What the program prints as JSON."""
    return json.loads(said(program, verb, model, *more, "--json", folder=folder))


def lines(program: Path, verb: str, model: Path, *more: str) -> list[Any]:
    """What the program prints as lines of JSON."""
    return [json.loads(line) for line in said(program, verb, model, *more).splitlines()]
