"""Checks of arguments, which name the argument, what was given, and what is allowed."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidError

__all__ = [
    "check_last",
    "choice",
    "described",
    "floats",
    "invalid",
    "misfit",
    "number",
    "numbers",
    "order_of",
    "path",
    "shortened",
    "text",
    "triple",
    "unit_of",
    "unsigned",
    "whole",
]

#: What is revealed together, under the names of the program, too.
UNITS: Mapping[str, str] = {"digits": "digits", "tokens": "tokens", "subtoken": "digits", "token": "tokens"}

ORDERS = ("random", "left-to-right", "confidence", "margin", "entropy")

_MOST: int = 2**63 - 1


def invalid(field: str, given: object, allowed: str) -> InvalidError:
    """The error of a value that is not allowed, as the library words it."""
    try:
        shown = str(given)
    except ValueError:
        # Python writes no numbers of thousands of digits.
        shown = f"a number of {int(given).bit_length()} bits" if isinstance(given, int) else type(given).__name__
    return InvalidError(f"{field} = {shown} is not allowed: {allowed}", field, shown, allowed)


def text(value: Any, field: str) -> str:
    """A text that is valid Unicode.

    Raises:
        InvalidError: of anything else, and of halves of surrogate pairs.
    """
    if not isinstance(value, str):
        raise invalid(field, shortened(value), "a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(field, shortened(value), "a text in valid Unicode, without halves of surrogate pairs") from None
    return value


def path(value: Any, field: str) -> str:
    """A path, which may have a name that is no Unicode, as the operating system gives it.

    Raises:
        InvalidError: of anything else.
    """
    found = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(found, str):
        raise invalid(field, shortened(value), "a path: a str or an os.PathLike of a str")
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        raise invalid(field, shortened(found), "a path in valid Unicode, without halves of surrogate pairs") from None
    return found


def shortened(value: Any) -> str:
    """A value as Python writes it, without the end of a long one."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):
        shown = type(value).__name__
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


def whole(value: Any, field: str, least: int = 0, most: int = _MOST) -> int:
    """A whole number between two bounds.

    Raises:
        InvalidError: naming the field, the value and the bounds.
    """
    allowed = f"a whole number of at least {least}" if most == _MOST else f"a whole number, {least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise invalid(field, shortened(value), allowed) from None
    if number > most:
        allowed = f"a whole number, {least} to {most}"
    if isinstance(value, bool) or not least <= number <= most:
        raise invalid(field, value, allowed)
    return number


def number(value: Any, field: str) -> float:
    """A number.

    Raises:
        InvalidError: of anything else.
    """
    if isinstance(value, (str, bytes, bool, np.bool_)):
        raise invalid(field, repr(value), "a number")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise invalid(field, shortened(value), "a number") from None
    except OverflowError:
        raise invalid(field, value, "a number that a float can hold") from None


def triple(value: Any, field: str, what: str) -> tuple[float, float, float]:
    """Three numbers.

    Raises:
        InvalidError: of anything else, saying ``what`` they are.
    """
    try:
        a, b, c = value
    except (TypeError, ValueError):
        raise invalid(field, repr(value), what) from None
    return number(a, field), number(b, field), number(c, field)


def choice(value: Any, field: str, choices: Mapping[str, str] | Sequence[str]) -> str:
    """One of some names; of a mapping the name that it stands for.

    Raises:
        InvalidError: of another one, listing them.
    """
    names = {name: name for name in choices} if not isinstance(choices, Mapping) else choices
    if isinstance(value, str) and value in names:
        return names[value]
    raise invalid(field, repr(value), f"one of {', '.join(names)}")


def unit_of(value: Any) -> str:
    """What is revealed together: ``"digits"`` or ``"tokens"``."""
    return choice(value, "unit", UNITS)


def order_of(value: Any) -> str:
    """In which order units are revealed."""
    return choice(value, "order", ORDERS)


def misfit(value: Any, field: str, allowed: str) -> InvalidError:
    """The error of an array of another type or shape than allowed, with its own."""
    return invalid(field, described(np.asarray(value)), allowed)


def described(array: NDArray[Any]) -> str:
    """Type and shape of an array."""
    return f"{array.dtype} {list(array.shape)}"


def _array(value: Any, field: str, allowed: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.asarray(value)
    except ValueError as error:
        # Rows of different lengths.
        raise invalid(field, f"{type(value).__name__} ({error})", allowed) from None
    return array


def unsigned(value: Any, field: str, shape: str) -> NDArray[np.uint32]:
    """Whole numbers from 0 on, as a C-contiguous array of uint32: the array itself where it is one.

    Args:
        value: an array, or what NumPy makes one of.
        field: what it is called.
        shape: the shape that is asked for, for messages.

    Raises:
        InvalidError: of numbers that are not whole, or outside of uint32.
    """
    array = _array(value, field, f"whole numbers {shape}")
    if array.size == 0 and not hasattr(value, "dtype"):
        # NumPy takes an empty list for floats.
        array = array.astype(np.uint32)
    if array.dtype != np.uint32:
        if array.dtype.kind not in "iu":
            raise invalid(field, described(array), f"whole numbers {shape}")
        if array.size and (int(array.min()) < 0 or int(array.max()) > 2**32 - 1):
            worst = array.min() if int(array.min()) < 0 else array.max()
            raise invalid(field, f"{worst} in {described(array)}", "whole numbers, 0 to 4294967295")
    return np.ascontiguousarray(array, dtype=np.uint32).reshape(array.shape)


def floats(value: Any, field: str, shape: str) -> NDArray[np.float32]:
    """Floats, as a C-contiguous array of float32: the array itself where it is one.

    Raises:
        InvalidError: of anything but floats.
    """
    array = _array(value, field, f"float32 {shape}")
    if array.dtype != np.float32 and "float" not in array.dtype.name:
        raise invalid(field, described(array), f"float32 {shape}")
    return np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape)


def numbers(value: Any, field: str, least: float, most: float, allowed: str) -> NDArray[np.float64]:
    """Numbers in a range, as an array of float64.

    Raises:
        InvalidError: naming the first one outside.
    """
    array = _array(value, field, allowed)
    if array.dtype.kind not in "fiu":
        raise invalid(field, described(array), allowed)
    converted = np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)
    outside = ~((converted >= least) & (converted <= most))
    if outside.any():
        raise invalid(field, f"{converted[outside].flat[0]} in {described(array)}", allowed)
    return converted


def check_last(value: Any, field: str, last: int, name: str) -> None:
    """Checks the last dimension of an array.

    Raises:
        InvalidError: of an array with rows of another length.
    """
    if np.shape(value)[-1:] != (last,):
        raise misfit(value, field, f"[..., {last}], {name} in the last dimension")
