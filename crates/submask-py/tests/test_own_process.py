"""A network of the user's own in its process: the end of the interpreter, forks, and how the module is loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import submask

BEGIN = """
import atexit, os, sys, threading, time
import numpy as np
import submask
from submask import likelihood, sampler

codes = submask.SubTokenizer(6, 2)
predictive = submask.Predictive(codes)
entered = threading.Event()

def logits(y_t, t, positions):
    entered.set()
    time.sleep(0.002)
    return np.zeros((len(positions), 6), np.float32)

network = submask.Network(logits, codes, 16)
tokens = np.zeros((64, 16), np.uint32)
"""


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A program of Python in a process of its own."""
    text = BEGIN + textwrap.dedent(program)
    return subprocess.run([sys.executable, "-c", text, *words], capture_output=True, text=True, timeout=60)


DAEMONS = {
    "sample": "sampler.sample(network, predictive, 100000)",
    "stream": "list(sampler.stream(network, predictive, 100000))",
    "likelihood": "likelihood.nelbo_subtoken(network, predictive, tokens, draws=10**6)",
    "in turn": "sampler.sample(submask.Network(in_turn, codes, 16), predictive, 100000)",
    "model": "entered.set() or model.sample(10000)",
    "model stream": "entered.set() or list(model.stream(10000))",
}


@pytest.mark.parametrize("name", DAEMONS)
def test_work_of_a_daemon_thread_ends_quietly_with_the_interpreter(name: str, models: Path) -> None:
    program = f"""
    def in_turn(y_t, t, positions):
        likelihood.nelbo_subtoken(network, predictive, tokens, draws=20)
        return logits(y_t, t, positions)

    model = submask.Model.open(sys.argv[1]) if "model" in {name!r} else None
    def work():
        {DAEMONS[name]}
        print("went on")
    threading.Thread(target=work, daemon=True).start()
    entered.wait()
    time.sleep(float(sys.argv[2]))
    print("the end")
    """
    # How far the work is when the interpreter ends is a matter of chance.
    for seconds in ("0", "0.05", "0.11", "0.2"):
        done = run(program, str(models / "prime"), seconds)
        assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", ""), (seconds, done)


def test_functions_of_atexit_may_still_compute(models: Path) -> None:
    done = run(
        """
        model = submask.Model.open(sys.argv[1])
        def last():
            print(len(sampler.sample(network, predictive, 2)), len(list(sampler.stream(network, predictive, 1))) > 2)
            print(len(model.sample(2, steps=1)), len(list(model.stream(1, steps=1))) > 2)
        # Registered before the package's own, so that it runs after it.
        atexit._run_exitfuncs()
        last()
        """,
        str(models / "prime"),
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["2", "True"] * 2, ""), done


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_process_forked_from_one_that_has_computed_is_refused(models: Path) -> None:
    program = """
    model = submask.Model.open(sys.argv[1])
    calls = {
        "own": lambda: likelihood.nelbo_subtoken(network, predictive, tokens, draws=2).nats,
        "stream": lambda: next(sampler.stream(network, predictive, 1)),
        "model": lambda: model.sample(1, steps=1),
    }
    calls[sys.argv[2]]()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            calls[sys.argv[3]]()
        except submask.errors.InvalidError as error:
            print(error.field, error.allowed)
        sys.exit(0)
    print(os.waitpid(child, 0)[1])
    """
    for first, second in (("own", "model"), ("stream", "model"), ("model", "own"), ("own", "own"), ("model", "stream")):
        done = run(program, str(models / "prime"), first, second)
        assert done.returncode == 0, (first, second, done)
        refused, status = done.stdout.splitlines()
        assert refused.startswith("process one that is started anew") and status == "0", (first, second, done)


@pytest.mark.skipif(sys.platform != "linux", reason="the linker's reserve of other systems")
def test_the_module_is_loaded_after_others_that_need_static_memory_of_threads(tmp_path: Path) -> None:
    # Of a library with thread-local memory at fixed places, the linker's reserve takes one or two copies.
    module = submask._native.__file__
    assert module is not None
    program = """
    import ctypes, shutil
    for copy in range(4):
        path = f"{sys.argv[2]}/copy{copy}.so"
        shutil.copy(sys.argv[1], path)
        ctypes.CDLL(path)
        os.remove(path)
    """
    done = run(program, module, str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_the_wait_for_a_network_that_does_not_return() -> None:
    program = BEGIN + textwrap.dedent("""
    def slow(y_t, t, positions):
        entered.set()
        time.sleep(60)
    network = submask.Network(slow, codes, 16)
    threading.Thread(target=lambda: sampler.sample(network, predictive, 2), daemon=True).start()
    entered.wait()
    # After the last function of atexit that was registered; the package's own waits by then.
    atexit.register(lambda: print("the end", flush=True))
    """)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "the end\n"
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in error and time.monotonic() - started < 8, error
