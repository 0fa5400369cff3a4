"""What sampling gives back: texts, images, points or tokens, what they cost, and how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Change", "Report", "Samples", "Tokens", "Trajectory", "replayed"]

#: Tokens, sub-tokens and states.
Tokens = NDArray[np.uint32]


@dataclass(frozen=True)
class Report:
    """What samples cost. Reports of several samples add up.

    Attributes:
        sequences: samples.
        digits: sub-tokens that were written, not given.
        evaluations: network evaluations, counted for every sample.
        steps: steps of the grid, or without one the number of events, the idle ones included.
        idle_steps: steps in which nothing was revealed and the network was not evaluated.
        positions: positions at which logits were computed.
        redraws: draws that were repeated to keep codes valid.
        clean_passes: passes of known tokens through a network with blocks, whose keys and values are kept.
        monotonous: texts that were cut because their last tokens were too much like each other (``min_entropy``).
        jumps: sub-tokens that a corrector changed.
        jumps_dropped: sub-tokens that it left as they were to keep codes valid.
    """

    sequences: int = 0
    digits: int = 0
    evaluations: int = 0
    steps: int = 0
    idle_steps: int = 0
    positions: int = 0
    redraws: int = 0
    clean_passes: int = 0
    monotonous: int = 0
    jumps: int = 0
    jumps_dropped: int = 0

    @property
    def idle_share(self) -> float:
        """The share of idle steps."""
        return self.idle_steps / self.steps if self.steps else 0.0

    def __add__(self, other: Report) -> Report:
        if not isinstance(other, Report):
            return NotImplemented
        return Report(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __radd__(self, other: object) -> Report:
        # sum() begins with 0.
        return self if other == 0 else NotImplemented


@dataclass(frozen=True, eq=False)
class Change:
    """What one evaluation of the network wrote.

    Attributes:
        step: the step on the grid, from 0; without a grid the number of the evaluation.
        time: the time t of the evaluation.
        digits: int64 [k, 2], pairs of a place i·ℓ + j in the sequence and the sub-token written there. With a corrector, all
            sub-tokens that changed, the mask included.
    """

    step: int
    time: float
    digits: NDArray[np.int64]


def replayed(state: Tokens, digits: NDArray[np.int64]) -> Tokens:
    """A copy of the state [L, ℓ] with what a change wrote."""
    after = state.copy()
    after.reshape(-1)[digits[:, 0]] = digits[:, 1]
    return after


@dataclass(frozen=True, eq=False)
class Trajectory:
    """How a sample came about.

    Attributes:
        start: the state at the start, uint32 [L, ℓ], in which the number ``base`` stands for a masked sub-token.
        changes: what every evaluation wrote, in order.
    """

    start: Tokens
    changes: list[Change]

    def states(self) -> Iterator[tuple[float, Tokens]]:
        """The time and the state uint32 [L, ℓ] after every change; first the start, at time 1."""
        state = self.start
        yield 1.0, state
        for change in self.changes:
            state = replayed(state, change.digits)
            yield change.time, state

    def __repr__(self) -> str:
        return f"Trajectory({self.start.shape[0]} tokens of {self.start.shape[1]} sub-tokens, {len(self.changes)} changes)"


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Any]):
    """Samples of a model, and what they cost.

    A sequence: of texts (``str``), of images (uint8 [h, w, c]), of points (uint32 [2], row and column), or, of a network of
    one's own, of tokens (uint32 [L]).

    Attributes:
        tokens: the tokens of every sample, uint32 [L]; a text that ends early has fewer, up to its end of text.
        report: what all samples cost together.
        trajectories: how every sample came about; empty unless asked for by ``trace=True``.
    """

    tokens: list[Tokens]
    report: Report
    trajectories: list[Trajectory] = field(default_factory=list)
    _shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The texts, of a model of text."""
        shown: list[str] = self._of("texts")
        return shown

    @property
    def images(self) -> NDArray[np.uint8]:
        """The images, uint8 [n, h, w, c], of a model of images."""
        shown: NDArray[np.uint8] = self._of("images")
        return shown

    @property
    def points(self) -> Tokens:
        """Row and column of the points, uint32 [n, 2], of a model of points."""
        shown: Tokens = self._of("points")
        return shown

    def _of(self, name: str) -> Any:
        if name not in self._shown:
            there = ", ".join([*self._shown, "tokens"])
            raise AttributeError(f"these samples have no {name}: they have {there}")
        return self._shown[name]

    @property
    def _items(self) -> Sequence[Any]:
        items: Sequence[Any] = next(iter(self._shown.values()), self.tokens)
        return items

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __repr__(self) -> str:
        what = next(iter(self._shown), "sequences")
        return f"Samples({len(self)} {what}, {self.report.evaluations} network evaluations)"
