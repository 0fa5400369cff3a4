"""Table networks of a few tokens, and what follows from their tables by enumeration in NumPy: what the library is measured by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

import submask

State = tuple[int, ...]


class Table:
    """Random logits for every state of a short sequence, at every position, and for every class."""

    def __init__(self, vocab_size: int = 5, seq_len: int = 2, subtoken_len: int = 2, classes: int = 0, seed: int = 1) -> None:
        self.codes = submask.SubTokenizer(vocab_size, subtoken_len)
        self.seq_len = seq_len
        self.width = seq_len * subtoken_len
        self.states = (self.codes.base + 1) ** self.width
        self.classes = classes
        random = np.random.default_rng(seed)
        logits = random.normal(size=(classes + 1, self.states, seq_len, vocab_size))
        self.logits = (1.5 * logits).astype(np.float32)
        self.powers = (self.codes.base + 1) ** np.arange(self.width)[::-1]
        self.digits = self.codes.encode(np.arange(vocab_size))
        #: How often it was called, and with how many sequences at most.
        self.calls, self.largest = 0, 0

    def __call__(
        self,
        y_t: NDArray[np.int64],
        t: NDArray[np.float64],
        positions: NDArray[np.int64],
        labels: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        self.calls += 1
        self.largest = max(self.largest, len(y_t))
        states = y_t.reshape(len(y_t), -1) @ self.powers
        sequences, places = positions // self.seq_len, positions % self.seq_len
        own = np.zeros(len(y_t), dtype=np.int64) if labels is None else labels
        logits: NDArray[np.float32] = self.logits[own[sequences], states[sequences], places]
        return logits

    def network(self) -> submask.Network:
        """The table as a network."""
        classes = self.classes or None
        return submask.Network(self, self.codes, self.seq_len, min_seq_len=self.seq_len, classes=classes)

    def sequences(self) -> NDArray[np.int64]:
        """All sequences of tokens [n, L]."""
        return np.array(list(itertools.product(range(self.codes.vocab_size), repeat=self.seq_len)))

    def clean(self, x_0: Iterable[int]) -> State:
        """The digits of a sequence."""
        return tuple(int(digit) for digit in self.digits[list(x_0)].reshape(-1))

    def masked(self, y_0: State, masked: Iterable[int]) -> State:
        """The same with some digits masked."""
        state = list(y_0)
        for digit in masked:
            state[digit] = self.codes.mask_id
        return tuple(state)

    def probabilities(self, y: State, i: int, label: int = 0, carry_over: bool = True) -> NDArray[np.float64]:
        """p(x | y) of the tokens at position i."""
        length = self.codes.subtoken_len
        logits = self.logits[label, int(np.dot(self.powers, y)), i].astype(np.float64)
        own = np.array(y[i * length : (i + 1) * length])
        if carry_over:
            agrees = ((self.digits == own) | (own == self.codes.mask_id)).all(axis=1)
            logits = np.where(agrees, logits, -np.inf)
        weights = np.exp(logits - logits.max())
        return np.asarray(weights / weights.sum())

    def charge(self, y: State, y_0: State, digits: Iterable[int], label: int = 0, carry_over: bool = True) -> float:
        """−log p of some masked digits: jointly within a token, independently of each other across tokens."""
        length = self.codes.subtoken_len
        nats = 0.0
        for i, own in itertools.groupby(sorted(digits), key=lambda digit: digit // length):
            agrees = np.ones(self.codes.vocab_size, dtype=bool)
            for digit in own:
                agrees &= self.digits[:, digit % length] == y_0[digit]
            nats -= math.log(self.probabilities(y, i, label, carry_over)[agrees].sum())
        return nats

    def along(
        self, y_0: State, steps: Iterable[Iterable[int]], label: int = 0, carry_over: bool = True
    ) -> float:
        """−log p along steps, each of which reveals some digits."""
        steps = [list(step) for step in steps]
        masked = {digit for step in steps for digit in step}
        nats = 0.0
        for step in steps:
            nats += self.charge(self.masked(y_0, masked), y_0, step, label, carry_over)
            masked -= set(step)
        return nats

    def units(self, unit: str) -> list[list[int]]:
        """The digits of every unit."""
        length = self.codes.subtoken_len if unit == "tokens" else 1
        return [list(range(first, first + length)) for first in range(0, self.width, length)]

    def score(self, y: State, unit: list[int], order: str) -> float:
        """How early an order reveals a masked unit: the larger, the earlier."""
        length = self.codes.subtoken_len
        p = self.probabilities(y, unit[0] // length)
        if len(unit) < length or length == 1:
            p = np.array([p[self.digits[:, unit[0] % length] == digit].sum() for digit in range(self.codes.base)])
        ranked = np.sort(p)[::-1]
        positive = p[p > 0]
        return {
            "left-to-right": float(-unit[0]),
            "confidence": float(ranked[0]),
            "margin": float(ranked[0] - ranked[1]),
            "entropy": float((positive * np.log(positive)).sum()),
        }[order]

    def exact(self, x_0: Iterable[int], order: str, unit: str, per_step: int = 1) -> float:
        """−log p of generation in a deterministic order."""
        y_0, left, nats = self.clean(x_0), self.units(unit), 0.0
        while left:
            y = self.masked(y_0, itertools.chain.from_iterable(left))
            chosen = sorted(left, key=lambda own: (-self.score(y, own, order), own[0]))[:per_step]
            nats += self.charge(y, y_0, itertools.chain.from_iterable(chosen))
            left = [own for own in left if own not in chosen]
        return nats

    def orders(self, unit: str) -> Iterator[list[list[int]]]:
        """All orders of all units."""
        return (list(order) for order in itertools.permutations(self.units(unit)))

    def random_order(self, x_0: Iterable[int], unit: str) -> float:
        """p of generation in random order, one unit per step."""
        y_0 = self.clean(x_0)
        return float(np.mean([math.exp(-self.along(y_0, order)) for order in self.orders(unit)]))

    def nelbo(self, x_0: Iterable[int], unit: str) -> float:
        """The mean over random orders of −log p along them: the NELBO."""
        y_0 = self.clean(x_0)
        return float(np.mean([self.along(y_0, order) for order in self.orders(unit)]))

    def plans(self, steps: int, unit: str) -> Iterator[list[list[int]]]:
        """All ways in which a grid of even steps reveals the units under the linear schedule, equally probable."""
        units = self.units(unit)
        for plan in itertools.product(range(steps), repeat=len(units)):
            shown = [[digit for at, own in zip(plan, units) if at == step for digit in own] for step in range(steps)]
            yield [step for step in shown if step]

    def path(self, x_0: Iterable[int], steps: int, unit: str) -> float:
        """The mean over plans of −log p along them."""
        y_0 = self.clean(x_0)
        return float(np.mean([self.along(y_0, plan) for plan in self.plans(steps, unit)]))

    def joint(self, x_0: Iterable[int]) -> float:
        """The joint objective: ∫ dt/t of the charges of whole tokens that have a masked digit, digits masked on their own."""
        y_0, total = self.clean(x_0), 0.0
        for count in range(1, self.width + 1):
            for masked in itertools.combinations(range(self.width), count):
                y = self.masked(y_0, masked)
                tokens = {digit // self.codes.subtoken_len for digit in masked}
                nats = -sum(math.log(self.probabilities(y, i)[list(x_0)[i]]) for i in tokens)
                total += nats / (count * math.comb(self.width, count))
        return total


def chi_square_is_plausible(counts: NDArray[np.int64], p: NDArray[np.float64]) -> bool:
    """Whether Pearson's statistic lies below its 99.9 % quantile (Wilson and Hilferty's approximation).

    Cells of which fewer than ten are expected are counted as one.
    """
    expected = counts.sum() * p
    rare = expected < 10
    if rare.any():
        counts, expected = (np.append(cells[~rare], cells[rare].sum()) for cells in (counts, expected))
    assert len(expected) > 2, "too few samples for the test"
    statistic = float(((counts - expected) ** 2 / np.maximum(expected, 1e-300)).sum())
    freedom = len(expected) - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.0902 * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic < quantile
