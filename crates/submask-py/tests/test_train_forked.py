"""A process that is forked from one that has computed refuses to, in whatever way either computes, and does not hang."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from test_train import corpus, python

__all__ = ["corpus"]  # A fixture.

CODE = """
    import os, signal, sys
    import numpy as np
    import submask
    from test_train import TINY

    model, data, out, first, then = sys.argv[1:]

    def train():
        submask.train(out=f"{out}/{os.getpid()}", data=data, settings=TINY)

    def prepare():
        submask.prepare(data, f"{out}/{os.getpid()}", tokenizer="bytes")

    def sample():
        submask.Model.open(model).sample(1, steps=2)

    def own():
        codes = submask.SubTokenizer(6, 2)
        network = submask.Network(lambda y_t, t, positions: np.zeros((len(positions), 6), np.float32), codes, 16)
        submask.likelihood.nelbo_subtoken(network, submask.Predictive(codes), np.zeros((64, 16), np.uint32), draws=8)

    globals()[first]()
    if os.fork() == 0:
        # A child that hangs is ended.
        signal.alarm(30)
        try:
            globals()[then]()
        except submask.InvalidError as error:
            print(error.field, error, flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("first", "then"),
    [("train", "sample"), ("sample", "train"), ("own", "sample"), ("sample", "own"), ("prepare", "train"), ("train", "prepare")],
)
def test_a_forked_process_refuses_to_compute(models: Path, corpus: Path, tmp_path: Path, first: str, then: str) -> None:
    process = python(CODE, models / "mdm", corpus, tmp_path, first, then)
    told, problems = process.communicate(timeout=120)
    lines = told.splitlines()
    assert process.returncode == 0, problems
    assert lines[0].startswith("process ") and 'multiprocessing\'s start method "spawn"' in lines[0], told
    assert lines[1:] == ["0"], told
