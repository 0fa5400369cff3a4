"""A callable as a network: what it is given, what it may answer, what becomes of its exceptions, and of memory."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from typing import Any

import numpy as np
import pytest

import submask
from own_tables import Table
from submask import likelihood, sampler

TABLE = Table()
PREDICTIVE = submask.Predictive(TABLE.codes)
X = TABLE.sequences()


def exact(callable: Any, **settings: Any) -> Any:
    network = submask.Network(callable, TABLE.codes, 2, **settings)
    return likelihood.exact(network, PREDICTIVE, X).nats


def test_the_callable_is_given_arrays_of_its_own() -> None:
    kept: list[Any] = []

    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        assert (y_t.dtype, t.dtype, positions.dtype) == (np.int64, np.float64, np.int64)
        assert y_t.shape[1:] == (2, 2) and t.shape == (len(y_t),) and positions.ndim == 1
        assert y_t.flags.c_contiguous and y_t.flags.writeable and y_t.flags.owndata
        assert 0 <= positions.min() and positions.max() < 2 * len(y_t)
        kept.append((y_t, y_t.copy()))
        answer = TABLE(y_t, t, positions)
        y_t += 1
        return answer

    assert np.array_equal(exact(logits), exact(TABLE))
    assert len(kept) > 1 and all(np.array_equal(given, copy + 1) for given, copy in kept)


@pytest.mark.parametrize(
    "convert",
    [
        lambda logits: logits.astype(np.float64),
        lambda logits: np.asfortranarray(logits),
        lambda logits: np.repeat(logits, 2, axis=1)[:, ::2],
        lambda logits: logits.astype(">f4"),
        lambda logits: logits.tolist(),
        lambda logits: np.frombuffer(b"x" + logits.tobytes(), dtype=np.float32, offset=1).reshape(logits.shape),
    ],
)
def test_other_floats_are_converted(convert: Any) -> None:
    assert np.array_equal(exact(lambda *given: convert(TABLE(*given))), exact(TABLE))


def test_half_floats_are_converted() -> None:
    halves = Table()
    halves.logits = halves.logits.astype(np.float16).astype(np.float32)
    assert np.array_equal(exact(lambda *given: TABLE(*given).astype(np.float16)), exact(halves))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n: np.zeros((n, 4), np.float32), ["logits of the network", "float32 [32, 4]", "float32 [32, 5]"]),
        (lambda n: np.zeros((n + 1, 5), np.float32), ["float32 [33, 5]", "float32 [32, 5]", "32 positions"]),
        (lambda n: np.zeros(5 * n), ["float64 [160]", "float32 [32, 5]"]),
        (lambda n: np.zeros((n, 5), np.int64), ["int64 [32, 5]", "float32 [32, 5]"]),
        (lambda n: np.zeros((n, 5), np.complex64), ["complex64 [32, 5]"]),
        (lambda n: None, ["object []", "float32 [32, 5]"]),
        (lambda n: "logits", ["str", "float32 [32, 5]"]),
        (lambda n: [[1.0], [1.0, 2.0]], ["list (", "float32 [32, 5]"]),
        (lambda n: np.ma.masked_less(np.zeros((n, 5)), 1), ["MaskedArray with masked elements", "-inf"]),
    ],
)
def test_answers_that_are_no_logits_are_refused_with_both_shapes(answer: Any, words: list[str]) -> None:
    with pytest.raises(submask.errors.InvalidError) as raised:
        exact(lambda y_t, t, positions: answer(len(positions)))
    assert all(word in str(raised.value) for word in words), raised.value
    assert raised.value.field == "logits of the network" and raised.value.given and raised.value.allowed


def test_an_array_that_could_have_masked_elements_is_read() -> None:
    assert np.array_equal(exact(lambda *given: np.ma.asarray(TABLE(*given))), exact(TABLE))


@pytest.mark.parametrize(("bad", "shown"), [(np.nan, "NaN"), (np.inf, "inf")])
def test_numbers_that_are_no_logits_are_refused_with_their_place(bad: float, shown: str) -> None:
    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        answer = TABLE(y_t, t, positions)
        answer[3, 2] = bad
        return answer

    with pytest.raises(submask.errors.InvalidError) as raised:
        exact(logits)
    message = str(raised.value)
    assert "logits[3, 2] of the network" in message and f"{shown} in float32 [32, 5]" in message, message
    with pytest.raises(submask.errors.InvalidError, match="logits"):
        sampler.sample(submask.Network(logits, TABLE.codes, 2), PREDICTIVE, 8)
    with pytest.raises(submask.errors.InvalidError) as raised:
        submask.Network(logits, TABLE.codes, 2).logits(np.full((2, 2, 2), 3))
    assert f"logits[3, 2] of the network = {shown} in float32 [4, 5]" in str(raised.value), raised.value


def test_logits_of_which_none_can_be_are_refused_and_single_ones_may_be() -> None:
    with pytest.raises(submask.errors.InvalidError, match="at least one possible token"):
        exact(lambda y_t, t, positions: np.full((len(positions), 5), -np.inf))
    nothing = submask.Network(lambda y_t, t, positions: np.full((len(positions), 5), -np.inf), TABLE.codes, 2)
    with pytest.raises(submask.errors.InvalidError, match="at least one possible token"):
        nothing.logits(np.full((2, 2), 3))

    def never_four(y_t: Any, t: Any, positions: Any) -> Any:
        answer = TABLE(y_t, t, positions).copy()
        answer[:, 4] = -np.inf
        return answer

    samples = sampler.sample(submask.Network(never_four, TABLE.codes, 2), PREDICTIVE, 200)
    assert all(4 not in tokens for tokens in samples.tokens)
    assert (submask.Network(never_four, TABLE.codes, 2).logits(np.full((2, 2), 3))[:, 4] == -np.inf).all()


class Broken(Exception):
    """Raised by a network."""


def breaking(after: int) -> Any:
    calls = 0

    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Broken(f"call {calls}")
        return TABLE(y_t, t, positions)

    return logits


@pytest.mark.parametrize("after", [0, 2])
def test_what_the_callable_raises_is_what_the_user_sees(after: int) -> None:
    calls: list[Any] = [
        lambda network: likelihood.exact(network, PREDICTIVE, X, order="confidence", batch=4),
        lambda network: likelihood.nelbo_subtoken(network, PREDICTIVE, X, batch=4),
        lambda network: sampler.sample(network, PREDICTIVE, 10),
        lambda network: list(sampler.stream(network, PREDICTIVE, 10)),
    ]
    for call in calls:
        network = submask.Network(breaking(after), TABLE.codes, 2)
        with pytest.raises(Broken, match=f"call {after + 1}") as raised:
            call(network)
        lines = "".join(traceback.format_exception(raised.value))
        assert "raise Broken(" in lines and "in test_what_the_callable_raises" in lines
        assert raised.value.__cause__ is None and raised.value.__context__ is None


def test_a_stream_is_over_after_an_exception() -> None:
    stream = sampler.stream(submask.Network(breaking(1), TABLE.codes, 2), PREDICTIVE, 10)
    with pytest.raises(Broken):
        list(stream)
    assert list(stream) == []


def test_stop_iteration_of_a_callable_does_not_end_a_stream() -> None:
    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        return next(iter([]))

    with pytest.raises(RuntimeError, match="the network raised StopIteration") as raised:
        list(sampler.stream(submask.Network(logits, TABLE.codes, 2), PREDICTIVE, 2))
    assert isinstance(raised.value.__cause__, StopIteration)


def test_the_callable_runs_on_the_thread_that_called() -> None:
    threads: set[int] = set()
    own = threading.local()
    own.value = "here"

    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        threads.add(threading.get_ident())
        assert own.value == "here"
        return TABLE(y_t, t, positions)

    exact(logits)
    list(sampler.stream(submask.Network(logits, TABLE.codes, 2), PREDICTIVE, 3))
    assert threads == {threading.get_ident()}


def test_a_callable_may_call_in_turn() -> None:
    inner = TABLE.network()

    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        likelihood.exact(inner, PREDICTIVE, X[:1])
        return TABLE(y_t, t, positions)

    assert np.array_equal(exact(logits), exact(TABLE))
    streams: list[Any] = []

    def itself(y_t: Any, t: Any, positions: Any) -> Any:
        next(streams[0])

    streams.append(sampler.stream(submask.Network(itself, TABLE.codes, 2), PREDICTIVE))
    with pytest.raises(submask.errors.InvalidError, match="in use"):
        next(streams[0])


def test_a_callable_may_close_its_own_stream() -> None:
    streams: list[Any] = []

    def closing(y_t: Any, t: Any, positions: Any) -> Any:
        streams[0].close()
        return TABLE(y_t, t, positions)

    streams.append(sampler.stream(submask.Network(closing, TABLE.codes, 2), PREDICTIVE, 4))
    assert len(list(streams[0])) <= 8


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals")
def test_ctrl_c_ends_the_work() -> None:
    calls = 0

    def logits(y_t: Any, t: Any, positions: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            signal.raise_signal(signal.SIGINT)
        return TABLE(y_t, t, positions)

    network = submask.Network(logits, TABLE.codes, 2)
    with pytest.raises(KeyboardInterrupt):
        sampler.sample(network, PREDICTIVE, 10000)
    assert calls <= 6
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        likelihood.nelbo_subtoken(TABLE.network(), PREDICTIVE, X, draws=10**7)
    timer.join()
    assert time.monotonic() - started < 5


def test_other_threads_go_on_while_the_library_computes() -> None:
    codes = submask.SubTokenizer(20000, 1)
    kept = np.zeros((400, 20000), dtype=np.float32)
    network = submask.Network(lambda y_t, t, positions: kept[positions % 400], codes, 400)
    turns, done = 0, threading.Event()

    def turn() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            time.sleep(0.001)

    thread = threading.Thread(target=turn)
    thread.start()
    before, started = turns, time.monotonic()
    likelihood.nelbo_token(network, submask.Predictive(codes), np.zeros((1, 400), dtype=np.uint32), draws=12, batch=3)
    counted, seconds = turns - before, time.monotonic() - started
    done.set()
    thread.join()
    # Almost all of the time is the library's, in four evaluations.
    assert counted > 50 * seconds


def test_logits_are_asked_for_as_they_are_by_us() -> None:
    network = TABLE.network()
    y_t = TABLE.codes.encode(X, masked=np.tile([True, False], (25, 1)))
    every = network.logits(y_t)
    assert every.shape == (25, 2, 5) and every.dtype == np.float32
    positions = [3, 0, 49]
    assert np.array_equal(network.logits(y_t, positions=positions), every.reshape(-1, 5)[positions])
    assert np.array_equal(network.logits(y_t[4]), every[4])
    refused: list[tuple[dict[str, Any], list[str]]] = [
        ({"y_t": y_t[..., :1]}, ["y_t = uint32 [25, 2, 1]", "[B, L, 2]"]),
        ({"y_t": y_t + 1}, ["y_t = 4", "0 to 3"]),
        ({"y_t": y_t[:, :1]}, ["1 tokens", "2 to 2"]),
        ({"y_t": y_t, "t": [0.5]}, ["t = float64 [1]", "[25]"]),
        ({"y_t": y_t, "positions": [50]}, ["positions", "below 50"]),
        ({"y_t": y_t, "labels": [0] * 25}, ["labels", "no labels"]),
        ({"y_t": y_t, "t": np.ma.masked_less(np.linspace(0, 1, 25), 0.5)}, ["t = a masked array float64 [25]"]),
        ({"y_t": y_t, "positions": np.ma.masked_equal([1, 2], 1)}, ["positions = a masked array int64 [2]"]),
        ({"y_t": np.ma.masked_equal(y_t, 3)}, ["y_t = a masked array uint32 [25, 2, 2]"]),
    ]
    for bad, words in refused:
        with pytest.raises(submask.errors.InvalidError) as raised:
            network.logits(**bad)
        assert all(word in str(raised.value) for word in words), raised.value


def test_what_is_no_network_is_refused() -> None:
    for arguments, word in [
        ((7, TABLE.codes, 2), "callable = int"),
        ((TABLE, 5, 2), "codes = int"),
        ((TABLE, TABLE.codes, 0), "seq_len = 0"),
    ]:
        with pytest.raises(submask.errors.InvalidError, match=word):
            submask.Network(*arguments)  # type: ignore[arg-type]
    with pytest.raises(submask.errors.InvalidError, match="min_seq_len = 3"):
        submask.Network(TABLE, TABLE.codes, 2, min_seq_len=3)


def test_a_network_is_freed_with_its_callable() -> None:
    class Model:
        def __init__(self) -> None:
            self.network = submask.Network(self.logits, TABLE.codes, 2)

        def logits(self, y_t: Any, t: Any, positions: Any) -> Any:
            return TABLE(y_t, t, positions)

    model = Model()
    stream = sampler.stream(model.network, PREDICTIVE, 3)
    next(stream)
    gone = weakref.ref(model)
    del model, stream
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("ask", [lambda stream: None, next, list, lambda stream: stream.close()])
def test_a_stream_is_freed_with_the_object_that_keeps_it_and_is_its_callable(ask: Any) -> None:
    class Model:
        def __init__(self) -> None:
            self.network = submask.Network(self.logits, TABLE.codes, 2)
            self.stream = sampler.stream(self.network, PREDICTIVE, 3)

        def logits(self, y_t: Any, t: Any, positions: Any) -> Any:
            return TABLE(y_t, t, positions)

    model = Model()
    ask(model.stream)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def run(program: str) -> str:
    """What a program of Python prints, in a process of its own."""
    text = textwrap.dedent(program)
    return subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True).stdout


MEMORY = """
    import resource
    import numpy as np
    import submask
    from submask import likelihood, sampler

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def peak():
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_thousand_evaluations_leave_memory_as_it_was() -> None:
    grown = run(
        MEMORY
        + """
    codes = submask.SubTokenizer(2000, 2)
    predictive = submask.Predictive(codes)
    calls = 0

    def logits(y_t, t, positions):
        global calls
        calls += 1
        if calls % 100 == 99:
            raise ArithmeticError
        return np.zeros((len(positions), 2000), dtype=np.float64 if calls % 2 else np.float32)

    network = submask.Network(logits, codes, 32)
    tokens = np.arange(32)[None]

    def evaluations(count):
        end = calls + count
        while calls < end:
            try:
                likelihood.nelbo_subtoken(network, predictive, tokens, draws=16, batch=4)
                sampler.sample(network, predictive, 4, order="confidence", per_step=8)
                next(sampler.stream(network, predictive, 4))
            except ArithmeticError:
                pass

    evaluations(300)
    before = resident()
    evaluations(1000)
    print(resident() - before)
    """
    )
    # One evaluation has up to a megabyte of logits: 1,000 that leaked would be hundreds.
    assert int(grown) < 8 * 2**20, grown


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_logits_of_float32_are_not_copied() -> None:
    grown = run(
        MEMORY
        + """
    codes = submask.SubTokenizer(50000, 1)
    predictive = submask.Predictive(codes)
    kept = np.random.default_rng(0).normal(size=(500, 50000)).astype(np.float32)
    network = submask.Network(lambda y_t, t, positions: kept[: len(positions)], codes, 500)
    tokens = np.arange(500)[None]
    likelihood.nelbo_token(network, predictive, tokens[:, :8], draws=1)
    before = peak()
    likelihood.nelbo_token(network, predictive, tokens, draws=4, batch=1)
    print(peak() - before)
    """
    )
    # The array has 100 MB.
    assert int(grown) < 25 * 2**20, grown
