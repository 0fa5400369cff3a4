"""What happens while samples are drawn, as an iterator of events."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._samples import Report, Tokens, replayed

__all__ = ["Event", "Finished", "Revealed", "Source", "Started", "Stream", "TokenLogProb"]


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happened to a sample.

    Attributes:
        sequence: which sample of the call, from 0.
        state: its sub-tokens after the event, uint32 [L, ℓ], not to be written to; the number ``base`` stands for a masked one.
    """

    sequence: int
    state: Tokens


@dataclass(frozen=True, eq=False)
class Started(Event):
    """A sample takes its place in the batch. Its state is what is given of it."""

    def __repr__(self) -> str:
        return f"Started(sequence={self.sequence})"


@dataclass(frozen=True)
class TokenLogProb:
    """With what probability the sub-tokens of a token that are revealed together were drawn.

    Attributes:
        token: position of the token.
        nats: −log p ≥ 0 of the revealed sub-tokens given everything that was known before. The terms of a token add up.
        top: the most probable tokens at this place with their log p, the most probable first; as many as were asked for.
    """

    token: int
    nats: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Revealed(Event):
    """An evaluation of the network wrote sub-tokens.

    Attributes:
        step: the step on the grid, from 0; without a grid the number of the evaluation.
        time: the time t of the evaluation; of an autoregressive model the share of the sub-tokens that is not written.
        digits: int64 [k, 2], pairs of a place i·ℓ + j in the sequence and the sub-token written there. With a corrector, all
            sub-tokens that changed, the mask included.
        settled: tokens, from the first on, that nothing changes any more.
        log_probs: with what probabilities the sub-tokens were drawn, token by token; empty unless asked for.
    """

    step: int
    time: float
    digits: NDArray[np.int64]
    settled: int
    log_probs: tuple[TokenLogProb, ...]

    def __repr__(self) -> str:
        written = len(self.digits)
        return f"Revealed(sequence={self.sequence}, step={self.step}, time={self.time:.4g}, {written} sub-tokens)"


@dataclass(frozen=True, eq=False)
class Finished(Event):
    """A sample is complete.

    Attributes:
        tokens: its tokens, uint32 [L], or up to the one that ended it.
        text: its text, of a model of text; otherwise ``None``.
        image: its image, uint8 [h, w, c], of a model of images; otherwise ``None``.
        report: what it cost.
    """

    tokens: Tokens
    text: str | None
    image: NDArray[np.uint8] | None
    report: Report

    def __repr__(self) -> str:
        shown = f"text={self.text!r}" if self.text is not None else f"{len(self.tokens)} tokens"
        return f"Finished(sequence={self.sequence}, {shown})"


class Source(Protocol):
    """Where events come from: the extension module's side of a stream.

    ``next`` waits for an event and gives its parts: ``("started", sequence, y [L·ℓ])``, ``("revealed", sequence, step, time,
    digits [k, 2], settled, [(token, nats, [(token, log p), …]), …])`` or ``("finished", sequence, tokens, text, report)``, the
    report being a dict; after the last one ``None``. ``close`` ends the work and waits for it.
    """

    def next(self) -> tuple[Any, ...] | None: ...
    def close(self) -> None: ...


class Stream(Iterator[Event]):
    """An iterator of the events of samples that are being drawn.

    :meth:`submask.Model.stream` draws on a thread of its own, at most a few hundred events ahead. Of a network of your own,
    :func:`submask.sampler.stream` works only while the next event is asked for, on the thread that asks. The work ends when the
    stream is closed, is left as a context manager, or is no longer used.
    """

    def __init__(
        self, source: Source, subtoken_len: int, image: Callable[[Tokens], NDArray[np.uint8]] | None = None
    ) -> None:
        self._source = source
        self._subtoken_len = subtoken_len
        self._image = image
        self._states: dict[int, Tokens] = {}
        self._is_open = True
        _OPEN.add(self)

    def __next__(self) -> Event:
        told = self._source.next()
        if told is None:
            self.close()
            raise StopIteration
        match told:
            case ("started", sequence, y):
                return Started(sequence, self._now(sequence, y.reshape(-1, self._subtoken_len)))
            case ("revealed", sequence, step, time, digits, settled, log_probs):
                state = self._now(sequence, replayed(self._states[sequence], digits))
                probabilities = tuple(TokenLogProb(at, nats, tuple(top)) for at, nats, top in log_probs)
                return Revealed(sequence, state, step, time, digits, settled, probabilities)
            case (_, sequence, tokens, text, report):
                state = self._states.pop(sequence)
                image = None if self._image is None else self._image(tokens)
                return Finished(sequence, state, tokens, text, image, Report(**report))
        raise AssertionError(f"no event: {told!r}")

    def _now(self, sequence: int, state: Tokens) -> Tokens:
        # The next state is made of this one.
        state.setflags(write=False)
        self._states[sequence] = state
        return state

    def close(self) -> None:
        """Ends the work, and waits until it has ended. What follows of the stream is nothing."""
        if self._is_open:
            self._is_open = False
            _OPEN.discard(self)
            self._source.close()

    def __del__(self) -> None:
        # A stream that was refused has no source.
        if getattr(self, "_is_open", False):
            self.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Stream({'open' if self._is_open else 'closed'})"


#: Streams that are not closed. They are held weakly: one that nobody uses is freed, also as part of a circle of references.
_OPEN: weakref.WeakSet[Stream] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # A thread that reads a stream must not take its end for the last event.
    _native.begin_end()
    for stream in list(_OPEN):
        stream.close()
