"""Streams tell everything that happens to samples, in the end the samples that `sample` gives."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import submask
from submask import Finished, Revealed, Started

STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("mdm", {"num": 3, "seed": 5}),
    ("prime", {"num": 2, "prompt": "the [[3]] ship [[2]]", "steps": "first-hitting"}),
    ("encoder", {"num": 2, "order": "entropy", "per_step": 2}),
    ("autoregressive", {"num": 3, "prompt": "a wind "}),
    ("blocks", {"num": 2, "length": 30}),
    ("pairs", {"num": 2, "prompt": "ship "}),
    ("images", {"num": 2, "corrector": (4.0, 1.0, 0.0), "draw": "marginal"}),
    ("classes", {"num": 11}),
    ("points", {"num": 300}),
]


@pytest.mark.parametrize(("name", "arguments"), STREAMS, ids=lambda value: value if isinstance(value, str) else "")
def test_events_replay_to_the_samples(models: Path, name: str, arguments: dict[str, Any]) -> None:
    model = submask.Model.open(models / name)
    # Those are not traced.
    is_traced = not model.is_autoregressive and model.subject != "points"
    expected = model.sample(trace=is_traced, **arguments)
    states: dict[int, Any] = {}
    finished: dict[int, Finished] = {}
    times: dict[int, list[tuple[float, list[int]]]] = {}
    with model.stream(**arguments) as events:
        for event in events:
            assert event.state.shape[1] == model.subtoken_len and event.state.dtype == np.uint32
            if isinstance(event, Started):
                states[event.sequence] = event.state.copy()
                times[event.sequence] = [(1.0, event.state.reshape(-1).tolist())]
            elif isinstance(event, Revealed):
                states[event.sequence].reshape(-1)[event.digits[:, 0]] = event.digits[:, 1]
                times[event.sequence].append((event.time, event.state.reshape(-1).tolist()))
            else:
                assert isinstance(event, Finished)
                finished[event.sequence] = event
            assert (event.state == states[event.sequence]).all()
    assert len(finished) == len(expected) == arguments["num"]
    for n, tokens in enumerate(expected.tokens):
        assert finished[n].tokens.tolist() == tokens.tolist()
        assert finished[n].text == (expected.texts[n] if model.subject == "text" else None)
        if model.subject == "images":
            assert (finished[n].image == expected.images[n]).all()
        if is_traced:
            replay = [(time, state.reshape(-1).tolist()) for time, state in expected.trajectories[n].states()]
            assert replay == times[n]
        # What is shown of the tokens is what the state says.
        codes = states[n][: len(tokens)]
        assert (codes < model.base).all()
    total = submask.Report()
    for event in finished.values():
        total += event.report
    assert total == expected.report


def test_draws_tell_their_probabilities(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    how: dict[str, Any] = {"order": "left-to-right", "unit": "tokens", "temperature": 1, "top_p": 1, "top_k": 0}
    events = list(model.stream(log_probs=2, steps=None, **how))
    terms = [term for event in events if isinstance(event, Revealed) for term in event.log_probs]
    assert all(len(term.top) == 2 and term.top[0][1] >= term.top[1][1] for term in terms)
    last = events[-1]
    assert isinstance(last, Finished)
    assert len(terms) == len(last.tokens) - 1
    exact = model.evaluate(last.tokens[None, :], estimator="exact", order="left-to-right")
    # Given the end of another text, with which every text begins, the chain rule is the score.
    given = -model.logits(np.full((1, len(last.tokens), model.subtoken_len), model.mask_id, np.uint32))[0, 0]
    begin = np.log(np.exp(-given).sum()) + given[last.tokens[0]]
    assert abs(sum(term.nats for term in terms) + begin - exact.nats[0]) < 1e-4
    with pytest.raises(submask.errors.InvalidError) as raised:
        model.stream(log_probs=1)
    assert raised.value.field == "log_probs"
    with pytest.raises(submask.errors.InvalidError, match="stream"):
        model.sample(log_probs=1)  # type: ignore[arg-type]


def streams() -> int:
    """Threads that tell of samples."""
    count = 0
    for path in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended since it was listed
            count += path.read_text().startswith("submask stream")
    return count


def wait_for(count: int) -> None:
    end = time.monotonic() + 10
    while streams() != count and time.monotonic() < end:
        time.sleep(0.01)
    assert streams() == count


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_the_work_ends_with_the_stream(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    for way in ("closed", "left", "collected", "exhausted"):
        events = model.stream(2000 if way != "exhausted" else 1, steps="first-hitting")
        next(events)
        assert streams() <= 1
        if way == "closed":
            events.close()
            events.close()
            assert list(events) == [] and repr(events) == "Stream(closed)"
        elif way == "left":
            with pytest.raises(ZeroDivisionError), events:
                raise ZeroDivisionError
        elif way == "exhausted":
            assert isinstance(list(events)[-1], Finished)
            assert list(events) == []
        else:
            del events
            gc.collect()
        wait_for(0)


def test_a_stream_that_another_thread_closes_is_over(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    events = model.stream(2000, steps="first-hitting")
    counted = []
    taker = threading.Thread(target=lambda: counted.append(sum(1 for _ in events)))
    taker.start()
    time.sleep(0.2)
    events.close()
    taker.join(10)
    assert not taker.is_alive() and counted[0] > 0
    wait_for(0)


def test_streams_go_on_when_the_model_is_closed(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    expected = model.sample(seed=2).texts
    events = model.stream(seed=2)
    model.close()
    assert [event.text for event in events if isinstance(event, Finished)] == expected
