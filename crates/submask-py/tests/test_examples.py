"""Runs every program of `examples/`."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import small_runs

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))

ARGUMENTS = {
    "infill.py": ["runs/dictionary", "lantern: [[12]] light."],
    "train.py": ["runs/small", "words.txt", "--steps", "8"],
    "watch.py": ["runs/dictionary", "--prompt", "lantern: [[4]] light."],
}

#: What has to be among what they print.
PRINTED = {
    "overhead.py": r"^tokens +length +batch +Python .*\n(( +\d+){3}  +\d+\.\d  +\d+\.\d\n){4}$",
    "infill.py": r"nats \(upper_bound\)  lantern:.* light\.\n(.*\n)*\d+ network evaluations",
    "table_network.py": r"exact_left_to_right.*\(exact\)\n(.*\n)*nelbo_subtoken.*\(upper bound\)",
    "torch_network.py": r"^([a-h]{6}\n){4}exact_left_to_right.*\(exact\)\nnelbo_subtoken.*\(upper bound\)\n$",
    "train.py": r"step-8 after 8 steps",
    "watch.py": r"█▁+█.*\n(.*\n)*\d+ network evaluations",
}


@pytest.fixture(scope="module")
def folder(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.write(program, tmp_path_factory.mktemp("examples"), "dictionary")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example: Path, folder: Path) -> None:
    if re.search(r"^import torch", example.read_text(encoding="utf-8"), re.MULTILINE) and not importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is not installed")
    command = [sys.executable, str(example), *ARGUMENTS.get(example.name, [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTED[example.name], done.stdout), done.stdout
