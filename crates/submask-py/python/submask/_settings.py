"""How samples are drawn and likelihoods are estimated, by the names of the program's flags."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypedDict

from ._arguments import choice, invalid, number, order_of, shortened, text, triple, unit_of, whole
from .errors import InvalidError

__all__ = ["Estimator", "Order", "Sampling", "Unit", "estimation", "flag", "naming", "sampling"]

Order = Literal["random", "left-to-right", "confidence", "margin", "entropy"]
Unit = Literal["digits", "tokens", "subtoken", "token"]
Estimator = Literal["nelbo-subtoken", "nelbo-token", "path", "exact", "orders", "joint-objective"]
Triple = Sequence[float]

ESTIMATORS = ("nelbo-subtoken", "nelbo-token", "path", "exact", "orders", "joint-objective")


class Sampling(TypedDict, total=False):
    """How samples are drawn. What is not given, or ``None``, is as the model says.

    Attributes:
        steps: steps T of the time grid, per block of models with blocks; 0 or ``"first-hitting"``: no grid, sub-tokens one by
            one.
        draw: ``"joint"``, one draw of the whole token, or ``"marginal"``, every sub-token from its own marginal.
        temperature: τ ≥ 0, which divides the logits; or ``(a, n, c)`` for τ(u) = a·uⁿ + c, u from 0 to 1 while a sample
            resolves.
        top_p: only the smallest set of most probable tokens whose probabilities add up to p, in (0, 1].
        nucleus: whether that set holds the token with which the sum crosses p: ``"inclusive"`` or ``"exclusive"``.
        top_k: only the k most probable tokens; 0 keeps all.
        warp: ``(a, n, c)``, time warp of the grid; n = 0 is off.
        corrector: ``(k, p, unused)``, a corrector of strength k·uᵖ(1 − u)ᵖ; ``False`` or ``"off"``: none.
        order: in which order masked units are revealed: ``"random"``, ``"left-to-right"``, ``"confidence"``, ``"margin"`` or
            ``"entropy"``.
        unit: what is revealed at once: ``"digits"`` (the program's ``subtoken``) or ``"tokens"`` (``token``).
        per_step: units revealed per network evaluation, with an order other than random.
        carry_over: whether tokens that contradict a visible sub-token are excluded.
        seed: seed of all draws; sample n of a seed is the same whatever ``num`` and ``batch`` are.
        first_sequence: number of the first sample under the seed.
        batch: sequences sampled together; it does not change the samples.
        window: what blocks read beyond the model's length: ``"cached"`` or ``"recomputed"``.
        min_entropy: of a model with blocks, least entropy in nats of the last tokens, below which a text stops; 0 is off.
        entropy_window: how many last tokens that are.
        label: the class of images, by name or number, or ``"mixture"``: predictions averaged over all classes.
        sampler: published sampler settings by name, which the others may change (``submask help samplers`` lists them).
    """

    steps: int | Literal["first-hitting"] | None
    draw: Literal["joint", "marginal"] | None
    temperature: float | Triple | None
    top_p: float | None
    nucleus: Literal["inclusive", "exclusive"] | None
    top_k: int | None
    warp: Triple | None
    corrector: Triple | Literal["off", False] | None
    order: Order | None
    unit: Unit | None
    per_step: int | None
    carry_over: bool | None
    seed: int
    first_sequence: int
    batch: int
    window: Literal["cached", "recomputed"] | None
    min_entropy: float | None
    entropy_window: int | None
    label: int | str | None
    sampler: str | None


def flag(value: Any, field: str) -> bool:
    """True or false.

    Raises:
        InvalidError: of anything else.
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise invalid(field, repr(value), "True or False")


def _steps(value: Any, field: str) -> int:
    if isinstance(value, str):
        choice(value, field, ["first-hitting"])
        return 0
    return whole(value, field)


def _temperature(value: Any, field: str) -> Any:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) and not hasattr(value, "shape"):
        return number(value, field)
    if getattr(value, "shape", None) == ():
        return number(value, field)
    return list(triple(value, field, "a number, or (a, n, c) for a·uⁿ + c"))


def _corrector(value: Any, field: str) -> list[float]:
    if value is False or (isinstance(value, str) and value == "off"):
        return []
    return list(triple(value, field, '(k, p, unused), or "off"'))


def _label(value: Any, field: str) -> str:
    return text(value, field) if isinstance(value, str) else str(whole(value, field))


_SAMPLING: Mapping[str, tuple[object, Callable[[Any, str], Any]]] = {
    "steps": (None, _steps),
    "draw": (None, lambda value, field: choice(value, field, ["joint", "marginal"])),
    "temperature": (None, _temperature),
    "top_p": (None, number),
    "nucleus": (None, lambda value, field: choice(value, field, ["inclusive", "exclusive"])),
    "top_k": (None, whole),
    "warp": (None, lambda value, field: list(triple(value, field, "(a, n, c)"))),
    "corrector": (None, _corrector),
    "order": ("random", lambda value, _: order_of(value)),
    "unit": ("digits", lambda value, _: unit_of(value)),
    "per_step": (None, lambda value, field: whole(value, field, 1)),
    "carry_over": (None, flag),
    "seed": (0, lambda value, field: whole(value, field, 0, 2**64 - 1)),
    "first_sequence": (0, lambda value, field: whole(value, field, 0, 2**64 - 1)),
    "batch": (8, lambda value, field: whole(value, field, 1)),
    "window": (None, lambda value, field: choice(value, field, ["cached", "recomputed"])),
    "min_entropy": (None, number),
    "entropy_window": (None, whole),
    "label": (None, _label),
    "sampler": (None, text),
}


@contextmanager
def naming(arguments: Mapping[str, Any]) -> Iterator[None]:
    """What is raised of an argument within says what was given for it."""
    try:
        yield
    except InvalidError as error:
        if error.given is not None or arguments.get(error.field) is None:
            raise
        given = shortened(arguments[error.field])
        raise InvalidError(str(error), error.field, given, error.allowed) from None


def sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of samples, checked, all of them: what is not given has its default, or is ``None``.

    Raises:
        InvalidError: of a setting that does not exist, naming the nearest, or of a value of another kind.
    """
    for unknown in settings.keys() - _SAMPLING.keys():
        nearest = difflib.get_close_matches(unknown, _SAMPLING, 1, 0.0)
        allowed = f"no setting of samples; did you mean {nearest[0]}?"
        raise invalid(unknown, shortened(settings[unknown]), allowed)
    return {
        field: default if settings.get(field) is None else check(settings[field], field)
        for field, (default, check) in _SAMPLING.items()
    }


def estimation(
    *,
    estimator: str | None,
    draws: int | None,
    steps: int | None,
    order: str | None,
    unit: str | None,
    per_step: int | None,
    seed: int,
    carry_over: bool | None,
    batch: int,
) -> dict[str, Any]:
    """How a likelihood is estimated, checked.

    Raises:
        InvalidError: of a value of another kind.
    """
    if isinstance(estimator, str):
        # As figures have it.
        estimator = estimator.replace("_", "-")
    return {
        "estimator": None if estimator is None else choice(estimator, "estimator", ESTIMATORS),
        "draws": None if draws is None else whole(draws, "draws", 1),
        "steps": None if steps is None else whole(steps, "steps", 1),
        "order": None if order is None else order_of(order),
        "unit": None if unit is None else unit_of(unit),
        "per_step": None if per_step is None else whole(per_step, "per_step", 1),
        "seed": whole(seed, "seed", 0, 2**64 - 1),
        "carry_over": None if carry_over is None else flag(carry_over, "carry_over"),
        "batch": whole(batch, "batch", 1),
    }
