"""Tokens as digits, noise schedules, and what logits say of tokens and digits."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._arguments import check_last, choice, described, floats, invalid, misfit, number, numbers, unsigned, whole
from ._settings import flag

__all__ = ["Predictive", "Schedule", "SubTokenizer", "booleans", "check_nucleus", "times_of", "unmasked"]


def unmasked(value: Any, field: str) -> Any:
    """A value, which may be a masked array if nothing is masked.

    Raises:
        InvalidError: of one with masked elements: they would be read as if they were not.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        given = f"a masked array {described(np.asarray(value))}"
        more = "; -inf says that a token cannot be" if field == "logits" else ""
        raise invalid(field, given, f"an array without masked elements{more}")
    return value


def booleans(value: Any, field: str, allowed: str) -> NDArray[np.bool_]:
    """An array of booleans.

    Raises:
        InvalidError: of any other.
    """
    try:
        array = np.asarray(unmasked(value, field))
    except ValueError as error:
        # Rows of different lengths.
        raise invalid(field, f"{type(value).__name__} ({error})", allowed) from None
    if array.dtype != np.bool_:
        raise misfit(array, field, allowed)
    return array


def times_of(steps: Any) -> list[float] | None:
    """The decreasing times between the steps of a grid, or ``None`` where their number is given.

    Raises:
        InvalidError: of what is neither.
    """
    try:
        is_number = isinstance(steps, (str, bytes)) or np.ndim(steps) == 0
    except ValueError:
        is_number = False
    if is_number:
        return None
    allowed = "decreasing times in [0, 1]"
    times = numbers(unmasked(steps, "steps"), "steps", 0.0, 1.0, allowed)
    if times.ndim != 1:
        raise misfit(steps, "steps", f"{allowed}, one dimension [T + 1]")
    given: list[float] = times.tolist()
    return given


def check_nucleus(nucleus: str, top_p: float) -> None:
    """Refuses a nucleus that changes nothing.

    Raises:
        InvalidError: of another one than the default where all tokens are kept.
    """
    if nucleus != "inclusive" and top_p == 1.0:
        raise invalid("nucleus", repr(nucleus), "none with top_p = 1, which keeps all tokens")


class SubTokenizer:
    """Tokens to sub-tokens and back: a token is written as ℓ digits in base b = ⌈C^(1/ℓ)⌉, the most significant first.

    >>> codes = SubTokenizer(vocab_size=4096, subtoken_len=2)
    >>> codes.base, codes.mask_id
    (64, 64)
    >>> codes.encode([130, 7])
    array([[2, 2],
           [0, 7]], dtype=uint32)
    """

    def __init__(
        self,
        vocab_size: int,
        subtoken_len: int,
        permutation: ArrayLike | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        """The digits of the tokens, or of permuted codes.

        Args:
            vocab_size: number of tokens C, at least 2.
            subtoken_len: sub-tokens per token ℓ, at least 1.
            permutation: a permutation of all b^ℓ codes: token x gets the digits of ``permutation[x]``.
            seed: draws such a permutation.

        Raises:
            InvalidError: where b^ℓ is too large, or the table is no permutation of the codes.
        """
        table = None
        if permutation is not None:
            if seed is not None:
                raise invalid("seed", seed, "none beside a permutation")
            table = unsigned(unmasked(permutation, "permutation"), "permutation", "[b^ℓ]")
            if table.ndim != 1:
                raise misfit(permutation, "permutation", "one dimension, [b^ℓ]")
        seeded = None if seed is None else whole(seed, "seed", most=2**64 - 1)
        size, length = whole(vocab_size, "vocab_size", 2), whole(subtoken_len, "subtoken_len", 1)
        self._native = _native.Codes(size, length, table, seeded)

    @property
    def vocab_size(self) -> int:
        """Number of tokens C."""
        return self._native.vocab_size

    @property
    def subtoken_len(self) -> int:
        """Sub-tokens per token ℓ."""
        return self._native.subtoken_len

    @property
    def base(self) -> int:
        """Values of a sub-token b; they are 0 to b − 1."""
        return self._native.base

    @property
    def mask_id(self) -> int:
        """The value that stands for a masked sub-token, which is b."""
        return self._native.base

    @property
    def permutation(self) -> NDArray[np.uint32] | None:
        """The permutation of the codes, where there is one."""
        return self._native.permutation

    def encode(self, tokens: ArrayLike, masked: ArrayLike | None = None) -> NDArray[np.uint32]:
        """Sub-tokens uint32 [..., ℓ] of tokens [...].

        Args:
            tokens: whole numbers below C.
            masked: which are masked, booleans [...] for whole tokens or [..., ℓ] for sub-tokens: a state y_t, or a prompt
                whose holes these are.

        Raises:
            InvalidError: of a token that is not below C, or another shape.
        """
        array = unsigned(unmasked(tokens, "tokens"), "tokens", "[...]")
        digits = self._native.encode(array.reshape(-1)).reshape(*array.shape, self.subtoken_len)
        if masked is None:
            return digits
        allowed = f"bool {list(array.shape)} or {list(digits.shape)}"
        holes = booleans(masked, "masked", allowed)
        if holes.shape not in (array.shape, digits.shape):
            raise misfit(holes, "masked", allowed)
        digits[holes] = self.mask_id
        return digits

    def decode(self, digits: ArrayLike) -> NDArray[np.uint32]:
        """Tokens uint32 [...] of sub-tokens [..., ℓ].

        Raises:
            InvalidError: of a masked sub-token, or digits that no token has.
        """
        array = unsigned(unmasked(digits, "digits"), "digits", f"[..., {self.subtoken_len}]")
        check_last(digits, "digits", self.subtoken_len, "the sub-tokens of a token")
        return self._native.decode(array.reshape(-1)).reshape(array.shape[:-1])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SubTokenizer):
            return NotImplemented
        if self is other:
            return True
        same = (self.vocab_size, self.subtoken_len) == (other.vocab_size, other.subtoken_len)
        return same and np.array_equal(self._codes(), other._codes())

    def _codes(self) -> NDArray[np.uint32]:
        """The code of every token."""
        table = self.permutation
        return np.arange(self.vocab_size, dtype=np.uint32) if table is None else table[: self.vocab_size]

    def __hash__(self) -> int:
        return hash((self.vocab_size, self.subtoken_len))

    def __reduce__(self) -> tuple[Any, ...]:
        return SubTokenizer, (self.vocab_size, self.subtoken_len, self.permutation)

    def __repr__(self) -> str:
        permuted = "" if self.permutation is None else ", permuted"
        return f"SubTokenizer({self.vocab_size} tokens of {self.subtoken_len} sub-tokens in base {self.base}{permuted})"


ScheduleName = Literal["linear", "log-linear", "polynomial", "cosine"]

#: The parameter of a schedule that has one, and its default.
_PARAMETERS: dict[str, tuple[str, float]] = {"log-linear": ("epsilon", 1e-3), "polynomial": ("exponent", 3.0)}


class Schedule:
    """A noise schedule α_t: the probability that a sub-token is still visible at time t, from 1 at t = 0 down to 0 at t = 1.

    ========== ===================== ==========================================
    name       α_t                   parameter
    ========== ===================== ==========================================
    linear     1 − t
    log-linear 1 − (1 − ε)t          ``epsilon`` ε in [0, 1), by default 0.001
    polynomial (1 − t)ⁿ              ``exponent`` n above 0, by default 3
    cosine     1 − cos(π/2·(1 − t))
    ========== ===================== ==========================================
    """

    def __init__(
        self, kind: ScheduleName = "linear", *, epsilon: float | None = None, exponent: float | None = None
    ) -> None:
        """A schedule by name.

        Raises:
            InvalidError: of another name, of a parameter out of range, or of one that the schedule does not have.
        """
        name = choice(kind, "kind", ("linear", "log-linear", "polynomial", "cosine"))
        own, value = _PARAMETERS.get(name, ("", 0.0))
        for field, given in (("epsilon", epsilon), ("exponent", exponent)):
            if given is None:
                continue
            if field != own:
                raise invalid(field, given, f"none with the schedule {name}")
            value = number(given, field)
        self.kind = name
        self._parameter = value
        self._native = _native.NoiseSchedule(name, value)

    @staticmethod
    def of(schedule: Schedule | ScheduleName) -> Schedule:
        """A schedule, or the one that a name stands for."""
        return schedule if isinstance(schedule, Schedule) else Schedule(schedule)

    def alpha(self, t: ArrayLike) -> NDArray[np.float64]:
        """The probability α_t to be visible at times t in [0, 1], of any shape."""
        times = numbers(unmasked(t, "t"), "t", 0.0, 1.0, "times in [0, 1]")
        return self._native.alpha(times.reshape(-1)).reshape(times.shape)

    def alpha_prime(self, t: ArrayLike) -> NDArray[np.float64]:
        """The slope dα/dt ≤ 0 at times t in [0, 1]."""
        times = numbers(unmasked(t, "t"), "t", 0.0, 1.0, "times in [0, 1]")
        return self._native.alpha_prime(times.reshape(-1)).reshape(times.shape)

    def weight(self, t: ArrayLike) -> NDArray[np.float64]:
        """The weight −α′_t / (1 − α_t) of the loss at times t in (0, 1]."""
        times = numbers(unmasked(t, "t"), "t", np.nextafter(0.0, 1.0), 1.0, "times in (0, 1]")
        return self._native.weight(times.reshape(-1)).reshape(times.shape)

    def inverse_alpha(self, alpha: ArrayLike) -> NDArray[np.float64]:
        """The times at which α has values in [0, 1]; the nearest end for one that it never has."""
        values = numbers(unmasked(alpha, "alpha"), "alpha", 0.0, 1.0, "probabilities in [0, 1]")
        return self._native.inverse_alpha(values.reshape(-1)).reshape(values.shape)

    def reveal_probabilities(self, grid: ArrayLike) -> NDArray[np.float64]:
        """Of each step of a decreasing grid of times [T + 1] the probability to be the one that reveals a sub-token, [T]."""
        times = numbers(unmasked(grid, "grid"), "grid", 0.0, 1.0, "times in [0, 1]")
        if times.ndim != 1:
            raise misfit(grid, "grid", "one dimension, [T + 1]")
        return self._native.reveal_probabilities(times)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self.kind, self._parameter) == (other.kind, other._parameter)

    def __hash__(self) -> int:
        return hash((self.kind, self._parameter))

    def __reduce__(self) -> tuple[Any, ...]:
        return _schedule_of, (self.kind, self._parameter)

    def __repr__(self) -> str:
        field, _ = _PARAMETERS.get(self.kind, ("", 0.0))
        return f"Schedule({self.kind!r}" + (f", {field}={self._parameter})" if field else ")")


def _schedule_of(kind: ScheduleName, parameter: float) -> Schedule:
    field, _ = _PARAMETERS.get(kind, ("", 0.0))
    return Schedule(kind, **({field: parameter} if field else {}))


class Predictive:
    """Logits over the tokens of a position, with its visible digits, to p(x_0 | y_t).

    With carry-over, tokens that contradict a visible digit have probability 0.
    """

    def __init__(self, codes: SubTokenizer, carry_over: bool = True) -> None:
        """For some codes, with the carry-over constraint or without it."""
        if not isinstance(codes, SubTokenizer):
            raise invalid("codes", type(codes).__name__, "a SubTokenizer")
        self.codes = codes
        self._native = _native.TokenPredictive(codes._native, flag(carry_over, "carry_over"))

    @property
    def carry_over(self) -> bool:
        """Whether tokens that contradict a visible digit are excluded."""
        return self._native.carry_over

    def log_probs(
        self,
        logits: ArrayLike,
        digits: ArrayLike,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        nucleus: Literal["inclusive", "exclusive"] = "inclusive",
    ) -> NDArray[np.float64]:
        """log p(x | y_t) of every token x in nats, [..., C]; −inf where it cannot be.

        Args:
            logits: [..., C].
            digits: sub-tokens [..., ℓ] at the same positions; ``codes.mask_id`` for one that is masked.
            temperature: divides the logits; 0: all on the most probable token.
            top_p: keeps the smallest set of most probable tokens whose probabilities reach it.
            top_k: keeps as many most probable tokens; 0: all.
            nucleus: whether the token that crosses ``top_p`` is kept; ``"exclusive"`` with ``top_p`` below 1 only.

        Raises:
            InvalidError: of other shapes, digits that no token has, and logits that are not finite numbers, −inf of some apart.
        """
        scores, y = self._checked(logits, digits)
        name = choice(nucleus, "nucleus", ("inclusive", "exclusive"))
        sharpening = number(temperature, "temperature"), number(top_p, "top_p"), whole(top_k, "top_k"), name
        check_nucleus(name, sharpening[1])
        return self._native.log_probs(scores.reshape(-1), y.reshape(-1), *sharpening).reshape(scores.shape)

    def marginals(self, logits: ArrayLike, digits: ArrayLike) -> NDArray[np.float64]:
        """The probability p(y^{ij} = v | y_t) of every value v of every digit j, [..., ℓ, b]. Arguments as :meth:`log_probs`."""
        scores, y = self._checked(logits, digits)
        return self._native.marginals(scores.reshape(-1), y.reshape(-1)).reshape(*y.shape, self.codes.base)

    def log_joint(self, logits: ArrayLike, digits: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
        """log p of several digits of a position together, in nats, [...].

        Args:
            logits: as :meth:`log_probs`.
            digits: as :meth:`log_probs`.
            values: the digits [..., ℓ] whose probability is asked for; ``codes.mask_id`` for one that is not.
        """
        scores, y = self._checked(logits, digits)
        asked = unsigned(unmasked(values, "values"), "values", f"[..., {self.codes.subtoken_len}]")
        if asked.shape != y.shape:
            raise misfit(values, "values", f"{list(y.shape)}, as the digits")
        return self._native.log_joint(scores.reshape(-1), y.reshape(-1), asked.reshape(-1)).reshape(y.shape[:-1])

    def _checked(self, logits: ArrayLike, digits: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        size, length = self.codes.vocab_size, self.codes.subtoken_len
        scores = floats(unmasked(logits, "logits"), "logits", f"[..., {size}]")
        y = unsigned(unmasked(digits, "digits"), "digits", f"[..., {length}]")
        check_last(logits, "logits", size, "the tokens")
        check_last(digits, "digits", length, "the sub-tokens of a token")
        if scores.shape[:-1] != y.shape[:-1]:
            allowed = f"{[*scores.shape[:-1], length]} beside logits {list(scores.shape)}"
            raise misfit(digits, "digits", allowed)
        return scores, y

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictive, (self.codes, self.carry_over)

    def __repr__(self) -> str:
        return f"Predictive({self.codes!r}, carry_over={self.carry_over})"
