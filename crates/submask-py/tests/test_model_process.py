"""What a process sees of a model: its memory, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read in /proc")

BEGIN = """
import gc, json, os, sys, time
import numpy as np
import submask

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

model = submask.Model.open(sys.argv[1])
"""


def run(model: Path, code: str) -> Any:
    """What a process prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code), str(model)], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_logits_are_written_where_they_are_given_back(models: Path) -> None:
    told = run(
        models / "prime",
        """
        states = np.full((12160, model.seq_len, model.subtoken_len), model.mask_id, np.uint32)
        model.logits(states[:64])
        forget_peak()
        before = memory("VmRSS")
        logits = model.logits(states)
        print(json.dumps({"size": logits.nbytes, "peak": memory("VmHWM") - before}))
        """,
    )
    assert told["size"] > 190e6
    assert told["peak"] < 1.3 * told["size"], told


def test_tokens_and_states_are_not_copied_before_they_are_used(models: Path) -> None:
    told = run(
        models / "mdm",
        """
        # One bad token at the end of 100 MB, which is found where they are.
        tokens = np.zeros((1_638_400, model.seq_len), np.uint32)
        tokens[-1, -1] = 10_000
        def refused(ask):
            forget_peak()
            before = memory("VmRSS")
            try:
                ask()
            except submask.errors.InvalidError as error:
                assert error.given == "10000", error
                return memory("VmHWM") - before
        print(json.dumps({
            "size": tokens.nbytes,
            "evaluate": refused(lambda: model.evaluate(tokens)),
            "logits": refused(lambda: model.logits(tokens[:, :, None])),
        }))
        """,
    )
    assert told["size"] > 100e6
    assert told["logits"] < 0.1 * told["size"], told
    # The library encodes tokens as sub-tokens, as many as there are with one sub-token per token, and keeps a key of each sequence.
    assert told["evaluate"] < 1.3 * told["size"], told


def test_memory_does_not_grow_over_a_thousand_calls(models: Path) -> None:
    told = run(
        models / "prime",
        """
        states = np.full((2, 8, model.subtoken_len), model.mask_id, np.uint32)
        tokens = np.zeros((2, 8), np.uint32)
        def calls(count):
            for n in range(count):
                model.sample(1, seed=n, steps=2)
                for _ in model.stream(1, seed=n, steps=2): pass
                next(model.stream(1, steps=2))
                model.score("the sea", draws=1)
                model.evaluate(tokens)
                model.logits(states)
                try: model.sample(top_p=2)
                except submask.SubmaskError: pass
            gc.collect()
        calls(100)
        before = memory("RssAnon")
        calls(1000)
        opened = memory("RssAnon") - before
        del model
        for _ in range(20):
            with submask.Model.open(sys.argv[1]) as model: model.sample(steps=2)
        before = memory("RssAnon")
        for _ in range(100):
            with submask.Model.open(sys.argv[1]) as model: model.sample(steps=2)
        print(json.dumps({"calls": opened, "models": memory("RssAnon") - before}))
        """,
    )
    print(told)
    # What the allocator keeps varies by some megabytes. Eight kilobytes per round that nobody gives back fail.
    assert told["calls"] < 8_000_000, told
    assert told["models"] < 6_000_000, told


def test_a_forked_process_is_refused_and_does_not_wait_for_ever(models: Path) -> None:
    told = run(
        models / "prime",
        """
        model.sample()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            said = []
            for ask in (model.sample, lambda: next(model.stream()), lambda: submask.Model.open(sys.argv[1])):
                try:
                    ask()
                    said.append("nothing")
                except submask.InvalidError as error:
                    said.append(error.field)
            os.write(tell, json.dumps(said).encode())
            os._exit(0)
        os.waitpid(child, 0)
        print(os.read(told, 1000).decode())
        """,
    )
    assert told == ["process"] * 3


WORK = {
    "prime": (
        "model.sample(100000, steps='first-hitting')",
        "model.evaluate(np.zeros((20000, 16), np.uint32), draws=1000)",
        "model.score(['the sea'] * 2000, draws=10000)",
        "model.logits(np.zeros((400000, 16, model.subtoken_len), np.uint32), batch=1)",
        "list(model.stream(100000, steps='first-hitting'))",
    ),
    "autoregressive": (
        "model.sample(100000)",
        "model.evaluate(np.zeros((300000, 16), np.uint32))",
        "model.score(['the sea'] * 200000)",
        "model.logits(np.zeros((400000, 16, model.subtoken_len), np.uint32), batch=1)",
        "list(model.stream(100000))",
    ),
}


@pytest.mark.parametrize(("name", "work"), [(name, work) for name, works in WORK.items() for work in works])
def test_ctrl_c_ends_work_within_a_second(models: Path, name: str, work: str) -> None:
    code = f"""
    print("ready", flush=True)
    try:
        {work}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        # What follows works.
        print(len(model.sample()), flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code), str(models / name)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    assert process.poll() is None, "the work was over too early"
    start = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert time.monotonic() - start < 1
    said, errors = process.communicate(timeout=60)
    assert (said, process.returncode) == ("1\n", 0), errors
