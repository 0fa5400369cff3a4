"""Records that are objects of Python, as the lines of JSON that the library reads, and what it says of a line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from .errors import InvalidError, SubmaskError

__all__ = ["line_of", "misread", "named", "refuse", "refuse_parts"]

#: The key of what stands in the place of a value that JSON cannot say.
_NO_JSON = "not JSON"


def refuse(argument: str, number: int, given: str, allowed: str) -> NoReturn:
    """Refuses a record.

    Raises:
        InvalidError: which names it as ``argument[number]``.
    """
    name = f"{argument}[{number}]"
    raise InvalidError(f"{name}: {given}; allowed: {allowed}", name, given, allowed)


def refuse_parts(argument: str, data: Any) -> None:
    """Refuses a mapping: a data set of several parts; one has to be chosen.

    Raises:
        InvalidError: of a mapping.
    """
    if isinstance(data, Mapping):
        given = f"{type(data).__name__} of {', '.join(map(str, list(data)[:5]))}"
        allowed = "one of its parts, such as data['train']; a single record stands in a list"
        raise InvalidError(f"{argument} = {given} is not allowed: {allowed}", argument, given, allowed)


def _no_json(value: Any) -> dict[str, str]:
    # No text: a field that is read is refused, and what other fields hold does not matter.
    return {_NO_JSON: type(value).__name__}


def line_of(argument: str, number: int, record: Mapping[str, Any]) -> bytes:
    """The line of JSON that a record is. What JSON cannot say is never taken for a text.

    Raises:
        InvalidError: of a record that holds itself.
    """
    try:
        return _line(record)
    except (TypeError, ValueError, RecursionError) as problem:
        refuse(argument, number, str(problem), "what JSON can say")


def _line(record: Mapping[str, Any]) -> bytes:
    own = dict(record)
    try:
        return json.dumps(own, ensure_ascii=False, skipkeys=True, default=_no_json).encode() + b"\n"
    except UnicodeEncodeError:
        # Halves of surrogate pairs, which the library refuses in the fields that it reads.
        return json.dumps(own, skipkeys=True, default=_no_json).encode() + b"\n"


def named(text: str, argument: str, file: Path) -> str:
    """A text in which lines of ``file`` are records ``argument[number]``, and the file is ``argument``."""
    place = re.escape(str(file))
    lines = re.sub(rf"{place}: line (\d+)\b", lambda line: f"{argument}[{int(line[1]) - 1}]", text)
    return lines.replace(str(file), argument)


def misread(error: SubmaskError, argument: str, file: Path, allowed: str) -> SubmaskError:
    """An error of the library about records in ``file``, as one about ``argument``; other errors as they are."""
    said = str(error)
    if str(file) not in said:
        return error
    message = named(said, argument, file)
    line = re.search(rf"{re.escape(str(file))}: line (\d+): (.*)", said, re.DOTALL)
    if line is None:
        return InvalidError(message, argument, None, allowed)
    number, given = int(line[1]) - 1, line[2]
    if (kind := _kind(file, number, given)) is not None:
        given = given.replace("an object", kind, 1)
    name = f"{argument}[{number}]"
    return InvalidError(f"{name}: {given}; allowed: {allowed}", name, given, allowed)


def _kind(file: Path, number: int, problem: str) -> str | None:
    """The type of the value that the problem is about, where JSON cannot say it."""
    field = re.search(r'field "([^"]*)" is an object', problem)
    if field is None:
        return None
    with file.open("rb") as lines:
        record = json.loads(next(line for n, line in enumerate(lines) if n == number))
    value = record.get(field[1])
    kind = value.get(_NO_JSON) if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else None
