"""The program, and tiny models of every kind that it has trained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

# A shell ignores interrupts in what it starts in the background, and whatever that starts would ignore them, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import tiny_models  # noqa: E402

#: Models of scripts/tiny_models.py by their names here.
KINDS = {
    "mdm": "mdm",
    "prime": "prime-4-joint",
    "no-carry-over": "no-carry-over",
    "encoder": "encoder",
    "autoregressive": "autoregressive-2",
    "pairs": "pairs",
    "images": "emoji",
    "classes": "grey-with-classes",
    "super-tokens": "super-tokens",
    "points": "points",
}
STEPS = 4


@pytest.fixture(scope="session")
def program() -> Path:
    """The program: ``SUBMASK_PROGRAM``, or the one that was built."""
    built = (REPOSITORY / "target" / profile / "submask" for profile in ("debug", "release"))
    found = os.environ.get("SUBMASK_PROGRAM") or next((str(path) for path in built if path.exists()), None)
    if found is None:
        pytest.fail("there is no program: `cargo build`, or SUBMASK_PROGRAM=/path/to/submask")
    return Path(found)


@pytest.fixture(scope="session")
def models(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the runs of all kinds, by name, and of their data, ``data``. ``SUBMASK_PY_MODELS`` names one to keep."""
    kept = os.environ.get("SUBMASK_PY_MODELS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("models")
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not data.exists():
        tiny_models.write_data(data)
    kinds = {kind.name: kind for kind in tiny_models.kinds()}
    chosen = {name: kinds[kind] for name, kind in KINDS.items()}
    blocks = {"model.block_len": "4", "sample.steps": "3"}
    chosen["blocks"] = replace(chosen["mdm"], settings=kinds["prime-2-joint"].settings | blocks)
    for name, kind in chosen.items():
        if not (folder / name / "checkpoints").exists():
            settings = [f"{key}={value}" for key, value in kind.settings.items()]
            words = ["train", *kind.train, "--out", name, "--steps", str(STEPS), "--device", "cpu", "--set", *settings]
            filled = [word.replace("{data}", str(data)) for word in words]
            done = subprocess.run([str(program), *filled], cwd=folder, capture_output=True, encoding="utf-8")
            assert done.returncode == 0, done.stderr
    yield folder
