"""Runs the code blocks of docs/python.md and of README.md's part on Python, in order, on small runs of the same names.

A comment before a block says which modules it needs besides, `<!-- needs torch -->`: where they are not installed the block is
skipped by name. `heavy/` runs the same tests where they are. `<!-- installs -->` stands before a block that would change this environment,
and is skipped, too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import small_runs

ROOT = Path(__file__).parents[3]
DOCUMENTS = ("README.md", "docs/python.md")
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    document: str
    line: int
    kind: str
    code: str
    mark: str


def blocks(document: str) -> list[Block]:
    """The blocks of a document in `python`, and of docs/python.md also in `sh`."""
    text = (ROOT / document).read_text(encoding="utf-8")
    kinds = ("python",) if document == "README.md" else ("python", "sh")
    return [
        Block(document, text[: found.start("code")].count("\n") + 1, found["kind"], found["code"], found["mark"] or "")
        for found in BLOCK.finditer(text)
        if found["kind"] in kinds
    ]


ALL = [block for document in DOCUMENTS for block in blocks(document)]


@pytest.fixture(scope="module")
def folder(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.write(program, tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def names() -> dict[str, dict[str, Any]]:
    """What the blocks of a document have defined so far."""
    return {document: {"__name__": "__main__"} for document in DOCUMENTS}


@pytest.mark.parametrize("block", ALL, ids=lambda block: f"{block.document}:{block.line}")
def test_a_block_runs(
    block: Block, folder: Path, names: dict[str, dict[str, Any]], program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, *needed = block.mark.split() or [""]
    assert kind in ("", "installs", "needs"), block.mark
    if kind == "installs":
        assert all(line.startswith("pip install ") for line in block.code.splitlines())
        pytest.skip("it would change this environment")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed")
    monkeypatch.chdir(folder)
    if block.kind == "python":
        exec(compile("\n" * (block.line - 1) + block.code, block.document, "exec"), names[block.document])
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), str(program.parent), os.environ["PATH"]])
    done = subprocess.run(["bash", "-euc", block.code], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_are_blocks_to_run() -> None:
    assert {block.document for block in ALL if block.kind == "python"} == set(DOCUMENTS)
