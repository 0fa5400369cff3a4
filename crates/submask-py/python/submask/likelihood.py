"""Likelihoods under a network of the user's own, and the one number that is none.

=========================  ================  ====================================================================
function                   kind              evaluations of the network per sequence
=========================  ================  ====================================================================
:func:`nelbo_subtoken`     upper bound       1 per draw
:func:`nelbo_token`        upper bound       1 per draw
:func:`path_bound`         upper bound       1 per draw
:func:`path_bound_full`    upper bound       up to the number of steps per draw
:func:`exact`              exact             ⌈n/N⌉ for n units, N per step
:func:`bound_k`            upper bound       n per draw
:func:`joint_objective`    surrogate         1 per draw
=========================  ================  ====================================================================

All take a :class:`~submask.Network`, a :class:`~submask.Predictive` and tokens: an array [n, L], or a list of arrays [L] for
sequences of several lengths. Values do not depend on ``batch``, nor on the other sequences: sequence s draws the numbers of
``first_sequence`` + s. Two orders, units or numbers per step are two
generators, whose figures say nothing about each other.

Common arguments:

* ``given``: which sub-tokens are given and not charged, booleans [n, L, ℓ] ([n, L] for whole tokens), or a list of arrays.
* ``labels``: classes [n], of a network that reads them.
* ``draws``: Monte Carlo draws per sequence; where it may be ``"all"``, all masks are enumerated instead, of at most 16 units.
* ``seed``: of all draws.
* ``batch``: states per call of the network, at most (affects speed only).
* ``schedule``: maps visible shares to times, for a network that reads the time; and says how much a step reveals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._arguments import choice, invalid, misfit, order_of, unit_of, unsigned, whole
from ._codes import Predictive, Schedule, ScheduleName, booleans, times_of, unmasked
from ._network import Network, check_pair, first_of, labels_of
from ._settings import Order, Unit
from .figures import Figure, Kind, figure_of

__all__ = [
    "Estimate",
    "LikelihoodEstimate",
    "SurrogateEstimate",
    "bound_k",
    "exact",
    "joint_objective",
    "nelbo_subtoken",
    "nelbo_token",
    "path_bound",
    "path_bound_full",
]

#: Sequences: [n, L], or a list of arrays [L].
Tokens = Union[ArrayLike, Sequence[ArrayLike]]


class Estimate:
    """What an estimator says of sequences: −log p, an upper bound of it, or a surrogate, in nats.

    Attributes:
        name: what was computed.
        nats: the value of every sequence, float64 [n].
        draw_errors: the standard error of every value over its draws, float64 [n]; 0 where nothing is drawn, not a number where
            it is not known, as with a single draw.
        tokens: the number of tokens of every sequence that are not given, int64 [n].
        evaluations: states at which the network was evaluated.
    """

    def __init__(self, native: _native.SequenceEstimate) -> None:
        self._native = native
        self.name = native.name
        self.nats = native.nats()
        self.draw_errors = native.draw_errors()
        self.tokens = native.tokens()
        self.evaluations = native.evaluations

    @property
    def kind(self) -> Kind:
        """What the values are: ``"exact"``, ``"upper_bound"`` or ``"surrogate"``."""
        return self._native.kind

    @property
    def per_sequence(self) -> Figure:
        """The mean over sequences, in nats per sequence."""
        return figure_of(self._native.mean("sequence"))

    @property
    def per_token(self) -> Figure:
        """Nats per token: all nats over all tokens that are not given."""
        return figure_of(self._native.mean("token"))

    def __len__(self) -> int:
        return len(self.nats)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} sequences, {self.per_token})"


class LikelihoodEstimate(Estimate):
    """Exact values of −log p, or upper bounds of it."""

    @property
    def token_nats(self) -> list[NDArray[np.float64]]:
        """What every token adds to the value of its sequence, [L] of each; of exact values. Empty for others."""
        return self._native.token_nats()

    @property
    def perplexity(self) -> Figure:
        """exp(nats per token)."""
        return figure_of(self._native.likelihood("perplexity", 0, []))

    @property
    def bits_per_token(self) -> Figure:
        """The same as :attr:`per_token` in bits."""
        return figure_of(self._native.likelihood("token", 0, []))

    def bits_per_dimension(self, dimensions: int) -> Figure:
        """Bits per dimension, of sequences with so many each (an image: channels times pixels)."""
        return figure_of(self._native.likelihood("dimension", whole(dimensions, "dimensions", 1), []))

    def bits_per_character(self, characters: ArrayLike) -> Figure:
        """Bits per character, of texts with so many characters, [n]."""
        counts = unsigned(characters, "characters", f"[{len(self)}]")
        if counts.ndim != 1:
            raise misfit(characters, "characters", f"[{len(self)}], one count for each sequence")
        return figure_of(self._native.likelihood("character", 0, counts.tolist()))


class SurrogateEstimate(Estimate):
    """Numbers that bound no likelihood: comparable with themselves only. They have no perplexity."""


def nelbo_subtoken(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    *,
    given: ArrayLike | Sequence[ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    draws: int | Literal["all"] = 64,
    seed: int = 0,
    batch: int = 32,
    schedule: Schedule | ScheduleName = "linear",
    first_sequence: int = 0,
) -> LikelihoodEstimate:
    """The NELBO of generation sub-token by sub-token in random order: an upper bound of −log p.

    Raises:
        InvalidError: of arguments that do not fit, naming them. And what the network raises.
    """
    settings = _settings("nelbo_subtoken", draws, seed, batch, schedule, enumerable=True)
    return LikelihoodEstimate(_estimate(network, predictive, tokens, given, labels, first_sequence, settings))


def nelbo_token(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    *,
    given: ArrayLike | Sequence[ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    draws: int | Literal["all"] = 64,
    seed: int = 0,
    batch: int = 32,
    schedule: Schedule | ScheduleName = "linear",
    first_sequence: int = 0,
) -> LikelihoodEstimate:
    """The NELBO of generation by whole tokens in random order: an upper bound of −log p. Raises as :func:`nelbo_subtoken`."""
    settings = _settings("nelbo_token", draws, seed, batch, schedule, enumerable=True)
    return LikelihoodEstimate(_estimate(network, predictive, tokens, given, labels, first_sequence, settings))


def path_bound(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    *,
    steps: int | ArrayLike,
    unit: Unit = "digits",
    given: ArrayLike | Sequence[ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    draws: int | Literal["all"] = 64,
    seed: int = 0,
    batch: int = 32,
    schedule: Schedule | ScheduleName = "linear",
    first_sequence: int = 0,
) -> LikelihoodEstimate:
    """The upper bound for the sampler with a grid of steps, from one step of a drawn path per draw.

    Args:
        steps: number of even steps, or the decreasing times [T + 1] between them.
        unit: what the sampler reveals together: ``"digits"`` or ``"tokens"``.

    Raises as :func:`nelbo_subtoken`.
    """
    settings = _settings("path_bound", draws, seed, batch, schedule, enumerable=True)
    settings |= {"steps": _grid(steps), "unit": unit_of(unit)}
    return LikelihoodEstimate(_estimate(network, predictive, tokens, given, labels, first_sequence, settings))


def path_bound_full(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    *,
    steps: int | ArrayLike,
    unit: Unit = "digits",
    given: ArrayLike | Sequence[ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    draws: int = 64,
    seed: int = 0,
    batch: int = 32,
    schedule: Schedule | ScheduleName = "linear",
    first_sequence: int = 0,
) -> LikelihoodEstimate:
    """The same bound as :func:`path_bound`, from all steps of a drawn path per draw."""
    settings = _settings("path_bound_full", draws, seed, batch, schedule)
    settings |= {"steps": _grid(steps), "unit": unit_of(unit)}
    return LikelihoodEstimate(_estimate(network, predictive, tokens, given, labels, first_sequence, settings))


def exact(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    *,
    order: Order = "left-to-right",
    unit: Unit = "digits",
    per_step: int = 1,
    given: ArrayLike | Sequence[ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    batch: int = 32,
    schedule: Schedule | ScheduleName = "linear",
    first_sequence: int = 0,
) -> LikelihoodEstimate:
    """The exact −log p of generation in a deterministic order, ``per_step`` units per step. Nothing is drawn.

    Args:
        order: ``"left-to-right"``, or where the network is surest first: ``"confidence"``, ``"margin"``, ``"entropy"``.
        unit: what is ordered: ``"digits"`` or ``"tokens"``.
        per_step: units revealed per step, independently of each other unless they are digits of one token.

    Raises as :func:`nelbo_subtoken`; random orders have bounds instead.
    """
    settings = _settings("exact", 1, 0, batch, schedule)
    settings |= {"order": order_of(order), "unit": unit_of(unit), "per_step": whole(per_step, "per_step", 1)}
    return LikelihoodEstimate(_estimate(network, predictive, tokens, given, labels, first_sequence, settings))


def bound_k(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    *,
    unit: Unit = "digits",
    given: ArrayLike | Sequence[ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    draws: int = 64,
    seed: int = 0,
    batch: int = 32,
    schedule: Schedule | ScheduleName = "linear",
    first_sequence: int = 0,
) -> LikelihoodEstimate:
    """−log of the mean probability along K = ``draws`` random orders: an upper bound that falls with K from the NELBO down to −log p.

    The K orders make one value, so there is no error over draws. Raises as :func:`nelbo_subtoken`.
    """
    settings = _settings("bound_k", draws, seed, batch, schedule) | {"unit": unit_of(unit)}
    return LikelihoodEstimate(_estimate(network, predictive, tokens, given, labels, first_sequence, settings))


def joint_objective(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    *,
    given: ArrayLike | Sequence[ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    draws: int | Literal["all"] = 64,
    seed: int = 0,
    batch: int = 32,
    schedule: Schedule | ScheduleName = "linear",
    first_sequence: int = 0,
) -> SurrogateEstimate:
    """The training objective that charges whole tokens: no likelihood, and no bound of one. Raises as :func:`nelbo_subtoken`."""
    settings = _settings("joint_objective", draws, seed, batch, schedule, enumerable=True)
    return SurrogateEstimate(_estimate(network, predictive, tokens, given, labels, first_sequence, settings))


def _settings(
    estimator: str,
    draws: int | Literal["all"],
    seed: int,
    batch: int,
    schedule: Schedule | ScheduleName,
    enumerable: bool = False,
) -> dict[str, Any]:
    """The settings that all estimators have, and defaults of the others."""
    if isinstance(draws, str):
        if not enumerable:
            raise invalid("draws", repr(draws), "a whole number of at least 1")
        choice(draws, "draws", ("all",))
    return {
        "estimator": estimator,
        "enumerate": isinstance(draws, str),
        "draws": 1 if isinstance(draws, str) else whole(draws, "draws", 1, 2**32 - 1),
        "seed": whole(seed, "seed", most=2**64 - 1),
        "batch": whole(batch, "batch", 1),
        "schedule": Schedule.of(schedule)._native,
        "steps": None,
        "order": "random",
        "unit": "digits",
        "per_step": 1,
    }


def _grid(steps: int | ArrayLike) -> int | list[float]:
    """A number of steps, or the times between them."""
    times = times_of(steps)
    return whole(steps, "steps", 1) if times is None else times


def _estimate(
    network: Network,
    predictive: Predictive,
    tokens: Tokens,
    given: ArrayLike | Sequence[ArrayLike] | None,
    labels: ArrayLike | None,
    first_sequence: int,
    settings: dict[str, Any],
) -> _native.SequenceEstimate:
    check_pair(network, predictive)
    arrays, lengths = _sequences(tokens)
    flat = arrays[0].reshape(-1) if len(arrays) == 1 else np.concatenate(arrays)
    count = len(lengths) if isinstance(lengths, list) else len(flat) // lengths
    sequences = {
        "tokens": flat,
        "lengths": lengths,
        "given": None if given is None else _given(given, arrays, predictive.codes.subtoken_len),
        "labels": labels_of(labels, count, network.classes),
        "first_sequence": first_of(first_sequence, count),
    }
    return _native.estimate(network._native, predictive._native, sequences, settings)


def _sequences(tokens: Tokens) -> tuple[list[NDArray[np.uint32]], int | list[int]]:
    """Tokens as one array [n, L] with the length of all, or as arrays [L] with the length of each."""
    shape = "[n, L], or a list of arrays [L]"
    if isinstance(tokens, (list, tuple)) and len({_shape(row) for row in tokens}) > 1:
        rows = [unsigned(unmasked(row, f"tokens[{s}]"), f"tokens[{s}]", "[L]") for s, row in enumerate(tokens)]
        wrong = next((s for s, row in enumerate(rows) if row.ndim != 1 or row.size == 0), None)
        if wrong is not None:
            raise misfit(tokens[wrong], f"tokens[{wrong}]", "one dimension, [L], of at least 1 token")
        return rows, [len(row) for row in rows]
    array = unsigned(unmasked(tokens, "tokens"), "tokens", shape)
    if array.ndim != 2 or array.size == 0:
        raise misfit(tokens, "tokens", f"whole numbers {shape}")
    return [array], array.shape[1]


def _shape(row: ArrayLike) -> tuple[int, ...] | None:
    """The shape of a row; none of one that is ragged."""
    try:
        return np.shape(row)
    except ValueError:
        return None


def _given(
    given: ArrayLike | Sequence[ArrayLike], tokens: list[NDArray[np.uint32]], subtoken_len: int
) -> NDArray[np.bool_]:
    """Which sub-tokens are given, one after the other."""
    parts: list[Any] = [given]
    if len(tokens) > 1:
        parts = list(given) if isinstance(given, (list, tuple)) else []
        if len(parts) != len(tokens):
            shown = f"{len(parts)} arrays" if parts else type(given).__name__
            raise invalid("given", shown, f"a list of {len(tokens)} arrays, as the tokens")
    flat = []
    for part, own in zip(parts, tokens):
        allowed = f"bool {[*own.shape, subtoken_len]}, or {list(own.shape)} for whole tokens"
        array = booleans(part, "given", allowed)
        whole_tokens = array.shape == own.shape
        if not (whole_tokens or array.shape == (*own.shape, subtoken_len)):
            raise misfit(array, "given", allowed)
        flat.append((np.repeat(array.reshape(-1), subtoken_len) if whole_tokens else array).reshape(-1))
    return np.ascontiguousarray(np.concatenate(flat) if len(flat) > 1 else flat[0])
