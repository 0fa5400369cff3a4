"""What :func:`submask.train` and :func:`submask.prepare` tell their callback: one object per thing that happens."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from .figures import Figure, figure_of

__all__ = [
    "Best",
    "Checkpoint",
    "ClipInterval",
    "DataNote",
    "EndsEarly",
    "Event",
    "Preparing",
    "Started",
    "Step",
    "Validation",
    "event_of",
]


@dataclass(frozen=True)
class Preparing:
    """The corpus is being read.

    Attributes:
        phase: ``survey`` counts documents, ``train`` reads for the tokenizer, ``tokenize`` writes tokens.
        documents: documents read in this phase.
        bytes: bytes of text read in this phase.
        total_bytes: bytes of the whole corpus, once counted.
    """

    phase: Literal["survey", "train", "tokenize"]
    documents: int
    bytes: int
    total_bytes: int | None


@dataclass(frozen=True)
class DataNote:
    """Something about the data that whoever trains should know.

    Attributes:
        text: one line; it begins with ``warning:`` where it is one.
    """

    text: str


@dataclass(frozen=True)
class Started:
    """Training begins, or is resumed.

    Attributes:
        parameters: weights of the network.
        train_tokens: tokens to train on; ``None`` where there is no end of them.
        valid_tokens: tokens held out; ``None`` likewise.
        fidelity: ``documents``, those ``changed`` by encoding and decoding, their ``tokens`` and those ``unknown``, for a tokenizer
            that is not lossless by construction.
        step: steps done so far.
        steps: steps at the end.
    """

    parameters: int
    train_tokens: int | None
    valid_tokens: int | None
    fidelity: Mapping[str, int] | None
    step: int
    steps: int


@dataclass(frozen=True)
class Step:
    """Some steps are done: ``train.log_every`` of them.

    Attributes:
        step: the last of them, counted from 1.
        loss: training loss in nats per token, the mean since the last record.
        objective: which loss that is: ``joint`` (a surrogate), ``marginal``, ``cross-entropy`` or ``next-token``.
        gradient_norm: global norm of the gradients of this step, before clipping.
        learning_rate: learning rate of this step.
        tokens: tokens seen so far.
        tokens_per_second: tokens per second since the last record.
    """

    step: int
    loss: float
    objective: str
    gradient_norm: float
    learning_rate: float
    tokens: int
    tokens_per_second: float


@dataclass(frozen=True)
class Validation:
    """The averaged weights were evaluated on held-out data.

    Attributes:
        step: steps done.
        figures: a bound or an exact value first, then the joint objective; each says what it is.
        samples: texts, or the paths of pictures.
    """

    step: int
    figures: tuple[Figure, ...]
    samples: tuple[str, ...]


@dataclass(frozen=True)
class ClipInterval:
    """The interval of times from here on was searched for (``train.clip_interval = "search"``).

    Attributes:
        step: the step after which times are drawn from it.
        interval: the interval, ``a..b``.
        variance: the variance of losses per token over the blocks of 16 held-out sequences, summed over all of these.
    """

    step: int
    interval: str
    variance: float


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is on disk.

    Attributes:
        folder: its folder, which is a model folder.
        step: steps done.
    """

    folder: Path
    step: int


@dataclass(frozen=True)
class Best:
    """The best validation so far, among validations of the same sequences and draws.

    Attributes:
        step: steps done when it was made.
        value: its upper bound, or the exact value of an autoregressive model, in the unit of the run's first figure.
        since: validations since then; none was better.
    """

    step: int
    value: float
    since: int


@dataclass(frozen=True)
class EndsEarly:
    """The run ends before its last step: no validation was better for ``train.patience`` of them.

    Attributes:
        step: steps done.
        best: the best validation.
    """

    step: int
    best: Best


#: Whatever a callback is told.
Event = Union[Preparing, DataNote, Started, Step, Validation, ClipInterval, Checkpoint, EndsEarly]


def _number(value: float | None) -> float:
    # JSON has no number for what is not finite.
    return math.nan if value is None else value


def _step(told: dict[str, Any]) -> Step:
    loss, norm = _number(told.pop("loss_nats_per_token")), _number(told.pop("gradient_norm"))
    return Step(loss=loss, gradient_norm=norm, **told)


def figures_of(told: list[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """The figures that mappings describe."""
    return tuple(figure_of(figure) for figure in told)


def event_of(text: str, out: Path) -> list[Event]:
    """The events that a JSON object of the extension module is, in a run whose folder is ``out``."""
    told: dict[str, Any] = json.loads(text)
    name = told.pop("event")
    if name == "preparing":
        return [Preparing(**told)]
    if name == "data":
        return [DataNote(line) for line in told["lines"]]
    if name == "started":
        return [Started(**told)]
    if name == "step":
        return [_step(told)]
    if name == "validation":
        return [Validation(told["step"], figures_of(told["figures"]), tuple(told["samples"]))]
    if name == "clip":
        return [ClipInterval(told["step"], str(told["interval"]), _number(told["variance"]))]
    if name == "checkpoint":
        folder = str(told["folder"])
        return [Checkpoint(out / "checkpoints" / folder, int(folder.rpartition("-")[2]))]
    return [EndsEarly(told["step"], Best(**told["best"]))]
