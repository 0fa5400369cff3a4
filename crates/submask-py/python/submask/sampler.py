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
from ._arguments import invalid, misfit, numbers, unsigned, whole
from ._codes import Predictive, Schedule, ScheduleName
from ._events import Stream
from ._network import Network, labels_of
from ._samples import Change, Report, Samples, Trajectory
from ._settings import Order, Triple, Unit, flag, sampling

__all__ = ["sample", "stream"]


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
        num: how many; by default 1, or as many as the prompt has sequences.
        length: tokens per sequence; by default those of the prompt, or the network's ``seq_len``.
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
        nucleus: whether the token that crosses ``top_p`` is kept.
        warp: ``(a, n, c)``, warps the grid.
        corrector: ``(k, p, unused)``, with a grid and digits as the unit.
        schedule: says how much a step reveals.
        seed: of all draws.
        first_sequence: number of the first sequence under the seed.
        batch: sequences per call of the network (affects speed only).
        end_of_text: the token with which a sequence ends, when it is written from left to right.

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
        end_of_text=end_of_text,
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

    The others are those of :func:`sample`. Raises as it does.
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
        end_of_text=end_of_text,
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
    if not isinstance(network, Network):
        raise invalid("network", type(network).__name__, "a submask.Network")
    if not isinstance(predictive, Predictive):
        raise invalid("predictive", type(predictive).__name__, "a submask.Predictive")
    states = _states(network, predictive, num, length, prompt)
    return {
        "states": np.ascontiguousarray(states).reshape(-1),
        "lengths": [states.shape[1]] * len(states),
        "labels": labels_of(labels, len(states), network.classes),
        "first_sequence": whole(first_sequence, "first_sequence"),
        "batch": whole(batch, "batch", 1),
    }


def _states(
    network: Network, predictive: Predictive, num: int | None, length: int | None, prompt: ArrayLike | None
) -> NDArray[np.uint32]:
    """The states [n, L, ℓ] at the start."""
    codes = predictive.codes
    count = None if num is None else whole(num, "num", 1)
    tokens = None if length is None else whole(length, "length", 1)
    if prompt is None:
        shape = (count or 1, tokens or network.seq_len, codes.subtoken_len)
        return np.full(shape, codes.mask_id, dtype=np.uint32)
    shown = f"[L, {codes.subtoken_len}] or [n, L, {codes.subtoken_len}]"
    given = unsigned(prompt, "prompt", shown)
    if given.ndim not in (2, 3) or given.shape[-1] != codes.subtoken_len or 0 in given.shape:
        raise misfit(prompt, "prompt", f"sub-tokens {shown}")
    if int(given.max()) > codes.mask_id:
        raise invalid("prompt", int(given.max()), f"0 to {codes.mask_id}, {codes.mask_id} being a hole")
    if tokens is not None and tokens != given.shape[-2]:
        raise invalid("length", tokens, f"{given.shape[-2]}, that of the prompt")
    if given.ndim == 2:
        return np.broadcast_to(given, (count or 1, *given.shape))
    if count is not None and count != len(given):
        raise invalid("num", count, f"{len(given)}, one for each sequence of the prompt {list(given.shape)}")
    return given


def _sampling(
    *, steps: Any, schedule: Schedule | ScheduleName, end_of_text: int | None, log_probs: int | None, **others: Any
) -> dict[str, Any]:
    """Settings as the extension module takes them."""
    has_times = not isinstance(steps, str) and np.ndim(steps) > 0
    settings = sampling({**others, "steps": 0 if has_times else steps})
    if has_times:
        settings["steps"] = numbers(steps, "steps", 0.0, 1.0, "decreasing times in [0, 1]").tolist()
    # An empty one is off.
    settings["corrector"] = settings["corrector"] or None
    return {
        **settings,
        "schedule": Schedule.of(schedule)._native,
        "end_of_text": None if end_of_text is None else whole(end_of_text, "end_of_text", most=2**32 - 1),
        "log_probs": None if log_probs is None else whole(log_probs, "log_probs"),
    }


def _trajectory(told: tuple[Any, ...], predictive: Predictive) -> Trajectory:
    start, changes = told
    start = start.reshape(-1, predictive.codes.subtoken_len)
    return Trajectory(start, [Change(step, time, digits) for step, time, digits in changes])
