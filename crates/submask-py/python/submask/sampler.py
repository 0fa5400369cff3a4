"""Samples of a network of the user's own, without idle evaluations.

:func:`sample` draws sequences, :func:`stream` tells of every event while they are drawn::

    samples = submask.sampler.sample(network, predictive, 16, length=128, seed=7)
    samples.tokens       # 16 arrays uint32 [128]
    samples.report       # evaluations of the network, idle steps, …

Sample s depends on the network, its prompt, the settings, and the number ``first_sequence`` + s under ``seed``: not on the
other samples, nor on ``batch``.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._arguments import invalid, misfit, order_of, unsigned, whole
from ._codes import Predictive, Schedule, ScheduleName, check_nucleus, times_of, unmasked
from ._events import Stream
from ._network import Network, check_pair, first_of, labels_of
from ._samples import Change, Report, Samples, Trajectory
from ._settings import Order, Triple, Unit, flag, sampling

__all__ = ["sample", "stream"]

#: Samples that one call draws at most, as a model does.
_MOST = 1_000_000


def sample(
    network: Network,
    predictive: Predictive,
    num: int | None = None,
    *,
    length: int | None = None,
    prompt: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    trace: bool = False,
    steps: int | Literal["first-hitting"] | ArrayLike = 0,
    unit: Unit = "digits",
    order: Order = "random",
    per_step: int = 1,
    draw: Literal["joint", "marginal"] = "joint",
    temperature: float | Triple = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    nucleus: Literal["inclusive", "exclusive"] = "inclusive",
    warp: Triple | None = None,
    corrector: Triple | Literal["off", False] | None = None,
    schedule: Schedule | ScheduleName = "linear",
    seed: int = 0,
    first_sequence: int = 0,
    batch: int = 8,
    end_of_text: int | None = None,
) -> Samples:
    """Draws sequences.

    Args:
        network: the network.
        predictive: its codes, and whether carry-over holds.
        num: how many, up to 1,000,000; by default 1, or as many as the prompt has sequences.
        length: tokens per sequence; by default as many as the prompt has, or the network's ``seq_len``.
        prompt: sub-tokens [L, ℓ] of all sequences, or [n, L, ℓ] of each, ``codes.mask_id`` at the holes. See
            :meth:`SubTokenizer.encode` for one that is made of tokens.
        labels: classes [n], or one for all, of a network that reads them.
        trace: whether trajectories are kept.
        steps: number of even steps of the time grid; 0 or ``"first-hitting"``: no grid, units one by one; or the decreasing
            times between the steps.
        unit: what is revealed together: ``"digits"`` or ``"tokens"``.
        order: ``"random"``, ``"left-to-right"``, or where the network is surest first: ``"confidence"``, ``"margin"``,
            ``"entropy"``.
        per_step: units revealed per evaluation, with an order other than random.
        draw: how the digits of a token are drawn: one token for all of them, or each by itself.
        temperature: divides the logits; ``(a, n, c)`` for a·uⁿ + c, u from 0 to 1.
        top_p: keeps the smallest set of most probable tokens whose probabilities reach it.
        top_k: keeps as many most probable tokens; 0: all.
        nucleus: whether the token that crosses ``top_p`` is kept; ``"exclusive"`` with ``top_p`` below 1 only.
        warp: ``(a, n, c)``, warps the grid.
        corrector: ``(k, p, unused)``, with a grid and digits as the unit.
        schedule: says how much a step reveals.
        seed: of all draws.
        first_sequence: number of the first sequence under the seed.
        batch: sequences per call of the network (affects speed only).
        end_of_text: the token with which a sequence ends; with the order ``"left-to-right"`` only.

    Raises:
        InvalidError: of arguments that do not fit, naming them. And what the network raises.
    """
    prompts = _prompts(network, predictive, num, length, prompt, labels, first_sequence, batch)
    settings = _sampling(
        steps=steps,
        unit=unit,
        order=order,
        per_step=per_step,
        draw=draw,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        nucleus=nucleus,
        warp=warp,
        corrector=corrector,
        schedule=schedule,
        seed=seed,
        log_probs=None,
        end_of_text=_end(end_of_text, order, predictive),
    )
    drawn = _native.sample(network._native, predictive._native, prompts, settings, flag(trace, "trace"))
    tokens, report, trajectories = drawn
    return Samples(tokens, Report(**report), [_trajectory(told, predictive) for told in trajectories])


def stream(
    network: Network,
    predictive: Predictive,
    num: int | None = None,
    *,
    length: int | None = None,
    prompt: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    log_probs: int | None = None,
    steps: int | Literal["first-hitting"] | ArrayLike = 0,
    unit: Unit = "digits",
    order: Order = "random",
    per_step: int = 1,
    draw: Literal["joint", "marginal"] = "joint",
    temperature: float | Triple = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    nucleus: Literal["inclusive", "exclusive"] = "inclusive",
    warp: Triple | None = None,
    corrector: Triple | Literal["off", False] | None = None,
    schedule: Schedule | ScheduleName = "linear",
    seed: int = 0,
    first_sequence: int = 0,
    batch: int = 8,
    end_of_text: int | None = None,
) -> Stream:
    """The same samples as :func:`sample`, event by event.

    Nothing runs ahead: the network is called while the next event is asked for, by the thread that asks.

    Args:
        log_probs: whether it is told with what probabilities sub-tokens were drawn, and of how many most probable tokens
            beside; with an order other than random, at temperature 1 without truncation.

    The others are as with :func:`sample`, and so is what it raises.
    """
    prompts = _prompts(network, predictive, num, length, prompt, labels, first_sequence, batch)
    settings = _sampling(
        steps=steps,
        unit=unit,
        order=order,
        per_step=per_step,
        draw=draw,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        nucleus=nucleus,
        warp=warp,
        corrector=corrector,
        schedule=schedule,
        seed=seed,
        log_probs=log_probs,
        end_of_text=_end(end_of_text, order, predictive),
    )
    source = _native.SampleStream(network._native, predictive._native, prompts, settings)
    return Stream(source, predictive.codes.subtoken_len)


def _prompts(
    network: Network,
    predictive: Predictive,
    num: int | None,
    length: int | None,
    prompt: ArrayLike | None,
    labels: ArrayLike | None,
    first_sequence: int,
    batch: int,
) -> dict[str, Any]:
    check_pair(network, predictive)
    states, count = _states(network, predictive, num, length, prompt)
    return {
        "states": states.reshape(-1),
        "count": count,
        "length": states.shape[-2],
        "labels": labels_of(labels, count, network.classes),
        "first_sequence": first_of(first_sequence, count),
        "batch": whole(batch, "batch", 1),
    }


def _states(
    network: Network, predictive: Predictive, num: int | None, length: int | None, prompt: ArrayLike | None
) -> tuple[NDArray[np.uint32], int]:
    """The states [n, L, ℓ] at the start, or the one [L, ℓ] of all of them, and their number n."""
    codes = predictive.codes
    count = None if num is None else whole(num, "num", 1)
    if count is not None and count > _MOST:
        raise invalid("num", count, f"1 to {_MOST} samples at once")
    tokens = None if length is None else whole(length, "length", 1)
    if prompt is None:
        return _empty(network, network.seq_len if tokens is None else tokens), count or 1
    shown = f"[L, {codes.subtoken_len}] or [n, L, {codes.subtoken_len}]"
    given = unsigned(unmasked(prompt, "prompt"), "prompt", shown)
    if given.ndim not in (2, 3) or given.shape[-1] != codes.subtoken_len or 0 in given.shape:
        raise misfit(prompt, "prompt", f"sub-tokens {shown}")
    if int(given.max()) > codes.mask_id:
        raise invalid("prompt", int(given.max()), f"0 to {codes.mask_id}, {codes.mask_id} being a hole")
    if tokens is not None and tokens != given.shape[-2]:
        raise invalid("length", tokens, f"{given.shape[-2]}, that of the prompt")
    if given.ndim == 2:
        return given, count or 1
    if count is not None and count != len(given):
        raise invalid("num", count, f"{len(given)}, one for each sequence of the prompt {list(given.shape)}")
    if len(given) > _MOST:
        raise invalid("prompt", f"{len(given)} sequences", f"1 to {_MOST} samples at once")
    return given, len(given)


def _empty(network: Network, length: int) -> NDArray[np.uint32]:
    """A sequence of which nothing is given."""
    if not network.min_seq_len <= length <= network.seq_len:
        raise invalid("length", length, f"{network.min_seq_len} to {network.seq_len} tokens, as the network takes")
    try:
        return np.full((length, network.codes.subtoken_len), network.codes.mask_id, dtype=np.uint32)
    except (MemoryError, ValueError):
        raise invalid("length", length, "sequences that fit into memory") from None


def _end(end_of_text: int | None, order: Order, predictive: Predictive) -> int | None:
    """The token that ends a sequence."""
    if end_of_text is None:
        return None
    end = whole(end_of_text, "end_of_text", most=predictive.codes.vocab_size - 1)
    if order_of(order) != "left-to-right":
        raise invalid("end_of_text", end, f"none with the order {order}: an end ends what is written left-to-right")
    return end


def _sampling(
    *, steps: Any, schedule: Schedule | ScheduleName, end_of_text: int | None, log_probs: int | None, **others: Any
) -> dict[str, Any]:
    """Settings as the extension module takes them."""
    times = times_of(steps)
    settings = sampling({**others, "steps": steps if times is None else 0})
    if times is not None:
        settings["steps"] = times
    check_nucleus(settings["nucleus"], settings["top_p"])
    # An empty one is off.
    settings["corrector"] = settings["corrector"] or None
    return {
        **settings,
        "schedule": Schedule.of(schedule)._native,
        "end_of_text": end_of_text,
        "log_probs": None if log_probs is None else whole(log_probs, "log_probs"),
    }


def _trajectory(told: tuple[Any, ...], predictive: Predictive) -> Trajectory:
    start, changes = told
    start = start.reshape(-1, predictive.codes.subtoken_len)
    return Trajectory(start, [Change(step, time, digits) for step, time, digits in changes])
