"""Numbers that say what they are.

A :class:`Figure` knows its value, unit, kind and standard errors. Exact values and upper bounds are likelihoods and have a perplexity;
a :class:`Surrogate` is neither, and has none: ``surrogate.perplexity`` is an :class:`AttributeError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .errors import InvalidError

__all__ = ["Exact", "Figure", "Kind", "Likelihood", "Surrogate", "UpperBound", "figure_of"]

#: What a figure is: the exact value, an upper bound of it, or no bound of anything.
Kind = Literal["exact", "upper_bound", "surrogate"]


@dataclass(frozen=True)
class Figure:
    """A number, what it is, and how well it is known.

    Attributes:
        name: what was computed: ``nelbo_subtoken``, ``exact_left_to_right``, ``joint_objective``, …
        value: the number.
        unit: ``bits per character``, ``nats per token``, ``perplexity``, …
        standard_error: standard error over sequences, the part of draws included; ``None`` for a single sequence.
        sequence_error: the part of it that is of the choice of sequences; ``None`` where it is not known.
        draw_error: the part of it that is of Monte Carlo draws; 0 where nothing is drawn, ``None`` where it is not known.
        evaluations: network evaluations that it took; ``None`` where they are not counted, as for a score of :meth:`submask.Model.score`.
    """

    name: str
    value: float
    unit: str
    standard_error: float | None = None
    sequence_error: float | None = None
    draw_error: float | None = None
    evaluations: int | None = None

    kind: ClassVar[Kind]

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.4g}"
        return f"{self.name}: {self.value:.6g}{error} {self.unit} ({self.kind.replace('_', ' ')})"

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Likelihood(Figure):
    """A value of −log p, or an upper bound of it, in some unit."""

    @property
    def perplexity(self) -> float:
        """The perplexity exp(nats per token): of an upper bound, an upper bound of it.

        Raises:
            InvalidError: of a figure that is not per token.
        """
        if self.unit.startswith("perplexity"):
            return self.value
        if self.unit.startswith("nats per token"):
            return _power(math.e, self.value)
        if self.unit.startswith("bits per token"):
            return _power(2.0, self.value)
        allowed = "a figure per token: nats per token, bits per token, perplexity"
        message = f"perplexity of {self.unit} is not defined: {allowed}"
        raise InvalidError(message, "unit", self.unit, allowed)


def _power(base: float, exponent: float) -> float:
    """The power; infinity where it is beyond floats."""
    try:
        return math.exp(exponent) if base == math.e else float(base**exponent)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Exact(Likelihood):
    """The exact value for the named way of generating."""

    kind: ClassVar[Kind] = "exact"


@dataclass(frozen=True)
class UpperBound(Likelihood):
    """A number that is, in expectation, not below the exact value."""

    kind: ClassVar[Kind] = "upper_bound"


@dataclass(frozen=True)
class Surrogate(Figure):
    """No bound of anything: comparable with itself only. It has no perplexity."""

    kind: ClassVar[Kind] = "surrogate"


_CLASSES: Mapping[str, type[Figure]] = {"exact": Exact, "upper_bound": UpperBound, "surrogate": Surrogate}


def figure_of(told: Mapping[str, Any]) -> Figure:
    """The figure that a mapping with the fields of a figure and its ``kind`` describes, as the program's JSON has it."""
    fields = {key: value for key, value in told.items() if key != "kind"}
    if fields.get("value") is None:
        # JSON has no number for what is not finite.
        fields["value"] = math.nan
    return _CLASSES[told["kind"]](**fields)
