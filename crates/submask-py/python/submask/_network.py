"""A network of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._arguments import invalid, misfit, numbers, unsigned, whole
from ._codes import Predictive, SubTokenizer, unmasked
from ._settings import flag

__all__ = ["Network"]


class Network:
    """Any callable of Python as a network, to be sampled and to be asked for likelihoods.

    The callable is asked for logits at some positions of some partially masked sequences::

        def logits(y_t, t, positions):
            return table[index_of(y_t)].reshape(-1, C)[positions]

    ==========  =====================  ====================================================================
    argument    array                  is
    ==========  =====================  ====================================================================
    y_t         int64 [B, L, ℓ]        sub-tokens, ``codes.mask_id`` where masked
    t           float64 [B]            times in [0, 1], to be read with ``reads_time=True`` only
    positions   int64 [P]              places b·L + i in [B, L] at which logits are asked for, in any order
    labels      int64 [B]              classes, ``classes`` for none; only with ``classes`` given
    ==========  =====================  ====================================================================

    It returns logits [P, C], of any floats. An array of float32 that is C-contiguous is read where it is, and must not be
    written to before the callable is called again; others are converted, as is whatever :func:`numpy.asarray` makes an array
    of (a tensor of PyTorch on the CPU, without gradient). The arrays that it is given are its own. B changes from call to
    call, and so does L where sequences have several lengths.

    The logits of a sequence must not depend on the others of its batch: then no sample and no likelihood does.

    The callable runs on the thread that called, which holds the GIL only meanwhile. What it raises is what the caller sees.
    """

    def __init__(
        self,
        callable: Callable[..., Any],
        codes: SubTokenizer,
        seq_len: int,
        *,
        min_seq_len: int = 1,
        reads_time: bool = False,
        classes: int | None = None,
    ) -> None:
        """A callable, and what it takes.

        Args:
            callable: ``(y_t, t, positions[, labels]) -> logits``.
            codes: its tokens and sub-tokens.
            seq_len: tokens of the longest sequence that it takes.
            min_seq_len: tokens of the shortest one.
            reads_time: whether its logits depend on t.
            classes: number of classes that sequences may be labelled with, where it reads labels.

        Raises:
            InvalidError: of numbers out of range, and what cannot be called.
        """
        if not hasattr(callable, "__call__"):
            raise invalid("callable", type(callable).__name__, "a function (y_t, t, positions) -> logits")
        if not isinstance(codes, SubTokenizer):
            raise invalid("codes", type(codes).__name__, "a SubTokenizer")
        self.codes = codes
        self.seq_len = whole(seq_len, "seq_len", 1)
        self.min_seq_len = whole(min_seq_len, "min_seq_len", 1, self.seq_len)
        self.reads_time = flag(reads_time, "reads_time")
        self.classes = None if classes is None else whole(classes, "classes", 1)
        self._native = _native.CallableNetwork(
            callable, codes._native, self.min_seq_len, self.seq_len, self.reads_time, self.classes
        )

    def logits(
        self,
        y_t: ArrayLike,
        t: ArrayLike | None = None,
        positions: ArrayLike | None = None,
        labels: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """The logits of the callable, called and checked as samplers and likelihoods do it.

        Args:
            y_t: sub-tokens [B, L, ℓ] (or [L, ℓ]).
            t: times [B]; 1 where none are given.
            positions: places b·L + i [P]; all of them where none are given.
            labels: classes [B].

        Returns:
            float32 [P, C]; [B, L, C] without ``positions`` ([L, C] of a single sequence).

        Raises:
            InvalidError: of arrays that do not fit, or logits that do not.
        """
        length = self.codes.subtoken_len
        states = unsigned(unmasked(y_t, "y_t"), "y_t", f"[B, L, {length}]")
        if states.ndim not in (2, 3) or states.shape[-1] != length or 0 in states.shape:
            raise misfit(y_t, "y_t", f"whole numbers [B, L, {length}]")
        if int(states.max()) > self.codes.mask_id:
            raise invalid("y_t", int(states.max()), f"0 to {self.codes.mask_id}, {self.codes.mask_id} being the mask")
        batched = states.reshape(-1, *states.shape[-2:])
        batch, seq_len = batched.shape[:2]
        if not self.min_seq_len <= seq_len <= self.seq_len:
            raise invalid("y_t", f"sequences of {seq_len} tokens", f"{self.min_seq_len} to {self.seq_len} tokens")
        times = np.ones(batch) if t is None else numbers(unmasked(t, "t"), "t", 0.0, 1.0, "times in [0, 1]")
        if times.shape != (batch,):
            raise misfit(t, "t", f"[{batch}], one for each sequence")
        every = np.arange(batch * seq_len, dtype=np.uint32)
        asked = every if positions is None else unsigned(unmasked(positions, "positions"), "positions", "[P]")
        if asked.ndim != 1 or (asked.size and int(asked.max()) >= batch * seq_len):
            raise misfit(positions, "positions", f"[P], places below {batch * seq_len}")
        classes = labels_of(labels, batch, self.classes)
        flat = self._native.logits(batched.reshape(-1), times, asked, classes)
        scores = flat.reshape(-1, self.codes.vocab_size)
        return scores if positions is not None else scores.reshape(*states.shape[:-1], self.codes.vocab_size)

    def __repr__(self) -> str:
        return f"Network({self.codes!r}, seq_len={self.seq_len})"


def check_pair(network: Any, predictive: Any) -> None:
    """Checks that there are a network and a predictive, and that a token has the same sub-tokens in both.

    Raises:
        InvalidError: of others.
    """
    if not isinstance(network, Network):
        raise invalid("network", type(network).__name__, "a submask.Network")
    if not isinstance(predictive, Predictive):
        raise invalid("predictive", type(predictive).__name__, "a submask.Predictive")
    own, other = network.codes, predictive.codes
    # Of other sizes, the library says which.
    if (own.vocab_size, own.subtoken_len) == (other.vocab_size, other.subtoken_len) and own != other:
        allowed = "the codes of the network, which have another permutation"
        raise invalid("predictive", repr(predictive), allowed)


def first_of(first_sequence: int, count: int) -> int:
    """The number of the first of ``count`` sequences.

    Raises:
        InvalidError: where the last sequence would have no number.
    """
    return whole(first_sequence, "first_sequence", most=2**64 - 1 - count)


def labels_of(labels: ArrayLike | None, count: int, classes: int | None) -> list[int] | None:
    """The classes of ``count`` sequences, for a network with so many classes; one number stands for all of them.

    Raises:
        InvalidError: of labels for a network without classes, and of ones that are no classes.
    """
    if labels is None:
        return None
    if classes is None:
        raise invalid("labels", "given", "none: the network takes no labels")
    array = unsigned(unmasked(labels, "labels"), "labels", "[n]")
    if array.ndim == 0:
        array = np.full(count, array, dtype=np.uint32)
    if array.shape != (count,):
        raise misfit(labels, "labels", f"[{count}], one for each sequence")
    if int(array.max()) > classes:
        raise invalid("label", int(array.max()), f"0 to {classes}, {classes} being no label")
    numbers: list[int] = array.tolist()
    return numbers
