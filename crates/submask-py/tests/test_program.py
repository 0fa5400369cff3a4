"""The console script is the program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import submask
from test_train import TINY, texts

SCRIPT = Path(sys.executable).with_name("submask")


def environment() -> dict[str, str]:
    paths = [str(Path(submask.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(params=["module", "script"])
def command(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "module":
        return [sys.executable, "-m", "submask"]
    if not SCRIPT.exists():
        pytest.skip("the package is not installed in this environment: there is no script")
    return [str(SCRIPT)]


def run(command: list[str], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *map(str, words)], env=environment(), capture_output=True, text=True)


def test_help_version_and_exit_codes_are_the_programs(command: list[str], program: Path, tmp_path: Path) -> None:
    for words in (
        ["--version"],
        ["--help"],
        ["train", "--help"],
        [],
        ["trian"],
        ["sample", tmp_path / "nowhere"],
        ["train", "--set", "train.stepz=1", "--out", tmp_path / "run"],
        ["--help", "samplers"],
    ):
        ours, theirs = run(command, *words), run([str(program)], *words)
        assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr), words
    assert run(command, "--version").stdout.startswith("submask ")
    assert [run(command, *words).returncode for words in (["--version"], ["trian"], ["info", tmp_path / "no"])] == [0, 2, 1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "words.txt"
    path.write_text("\n\n".join(texts()))
    return path


def test_ctrl_c_stops_training_with_a_checkpoint_and_code_130(command: list[str], corpus: Path, tmp_path: Path) -> None:
    settings = TINY | {"train.steps": 100000, "train.log_every": 1}
    words = ["train", "--data", str(corpus), "--out", str(tmp_path / "run"), "--set", *(f"{k}={v}" for k, v in settings.items())]
    process = subprocess.Popen([*command, *words], env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "run/metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 130, problems
    assert "saved" in problems and "Traceback" not in problems
    steps = [int(path.name.split("-")[1]) for path in (tmp_path / "run/checkpoints").iterdir()]
    assert max(steps) > 0


def test_ctrl_c_ends_what_saves_nothing_at_once(command: list[str], corpus: Path, tmp_path: Path) -> None:
    settings = TINY | {"train.steps": 1}
    submask.train(out=tmp_path / "run", data=corpus, settings=settings)
    words = ["sample", str(tmp_path / "run"), "--num", "1000000", "--steps", "1000"]
    process = subprocess.Popen([*command, *words], env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT and "Traceback" not in problems


def test_serve_answers_and_ends_by_ctrl_c(command: list[str], corpus: Path, tmp_path: Path) -> None:
    submask.train(out=tmp_path / "run", data=corpus, settings=TINY | {"train.steps": 1})
    words = ["serve", str(tmp_path / "run"), "--addr", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *words], env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address = ""
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                address = found.group()
                break
        with urllib.request.urlopen(f"{address}/healthz", timeout=20) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        _, problems = process.communicate(timeout=30)
    assert process.returncode in (0, 130) and "Traceback" not in problems
