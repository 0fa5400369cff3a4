"""What :mod:`submask.lm_eval` does with texts and arguments, without the harness."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ._arguments import invalid

__all__ = [
    "arguments_of",
    "as_prompt",
    "at_least_one",
    "batch_of",
    "is_decided",
    "only_given",
    "refuse_unknown",
    "sample_number",
    "spaces_moved",
    "texts_of",
    "up_to",
]

#: Sequences per network call of ``batch_size=auto``.
AUTO = 16


def only_given(**settings: Any) -> dict[str, Any]:
    """The settings that are not ``None``."""
    return {name: value for name, value in settings.items() if value is not None}


def texts_of(request: Any, count: int) -> tuple[str, ...]:
    """The arguments of a request, so many texts."""
    return tuple(str(text) for text in arguments_of(request, count))


def arguments_of(request: Any, count: int) -> tuple[Any, ...]:
    """The arguments of a request, so many."""
    arguments: tuple[Any, ...] = request.args
    if len(arguments) != count:
        raise invalid("requests", f"{len(arguments)} arguments", f"{count}: models of text read no pictures or sounds")
    return arguments


def spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """Moves spaces at the end of the context to the continuation."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def as_prompt(text: str) -> str:
    """A prompt that says this text, in which brackets are no holes."""
    return text.replace("[[", "\\[[")


def up_to(text: str, until: Sequence[str]) -> str:
    """The text up to the first of these."""
    places = [text.find(end) for end in until]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def is_decided(text: str, until: Sequence[str]) -> bool:
    """Whether the first of these is the same whatever follows the text: a longer one may begin before it."""
    before = up_to(text, until)
    return len(before) < len(text) and len(before) - 1 + max(map(len, until)) <= len(text)


def sample_number(context: str, settings: Mapping[str, Any]) -> int:
    """The number of a sample under the seed: another one for every context."""
    told = repr((context, sorted(settings.items()))).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(told).digest()[:6], "big")


def batch_of(batch_size: int | str, max_batch_size: int | None) -> int:
    """Sequences per network call."""
    text = str(batch_size)
    if text == "auto" or text.startswith("auto:"):
        return AUTO if max_batch_size is None else min(AUTO, at_least_one("max_batch_size", max_batch_size))
    if max_batch_size is not None:
        raise invalid("max_batch_size", max_batch_size, "only with batch_size=auto")
    return at_least_one("batch_size", batch_size)


def at_least_one(field: str, value: Any) -> int:
    """A whole number, perhaps as text, of at least 1."""
    try:
        number = 0 if int(value) != float(value) else int(value)
    except (OverflowError, TypeError, ValueError):
        number = 0
    if number < 1:
        raise invalid(field, value, "a whole number of at least 1")
    return number


def refuse_unknown(
    given: Mapping[str, Any], known: Sequence[str], where: str, allow: Mapping[str, Any] | None = None
) -> None:
    """Refuses names that are not known, unless they have the value that changes nothing."""
    for name, value in given.items():
        if name in known or (allow or {}).get(name, ...) == value:
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise invalid(name, value, f"{hint}{where} are {', '.join(sorted(known))}")
