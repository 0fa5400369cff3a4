"""Corpora and tokenizers that are objects of Python: they are written to files, a piece at a time, and read from there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Union

from .errors import InvalidError

__all__ = ["Data", "Field", "PathLike", "Paths", "Spool", "Texts", "Tokenizer", "of_data", "tokenizer_settings"]

PathLike = Union[str, "os.PathLike[str]"]
#: Paths, or an iterable of texts or of records (a dataset).
Data = Union[PathLike, Sequence[PathLike], Iterable[str], Iterable[Mapping[str, Any]]]
#: The field of texts, or those of prompts and of completions.
Field = Union[str, tuple[str, str]]
#: A kind, a mapping of settings, a path, or an object that knows its ``tokenizer.json``.
Tokenizer = Union[str, "os.PathLike[str]", Mapping[str, Any], Any]

#: Kinds of tokenizers that a name means; another name is a path.
KINDS = ("bytes", "characters", "text8", "gpt2", "numbers", "bpe", "tokenizer-json")
#: Bytes that are written at once.
_PIECE = 1 << 20


class Texts(NamedTuple):
    """What merged settings say of texts."""

    paths: list[str]
    valid_paths: list[str]
    tokenizer: str
    fields: tuple[str, str, str]
    skip_bad: bool
    format: str


class Paths(tuple[str, ...]):
    """Files and folders."""


def _path(argument: str, path: Any) -> str:
    text = os.fspath(path)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        allowed = "a path that is valid Unicode: settings are a text"
        raise InvalidError(f"{argument} = {text!r} is not allowed: {allowed}", argument, repr(text), allowed) from None
    return str(text)


def of_data(argument: str, data: Any) -> Paths | Iterable[Any]:
    """Paths, or what is to be iterated.

    Raises:
        InvalidError: of what is neither.
    """
    if isinstance(data, (str, os.PathLike)):
        return Paths([_path(argument, data)])
    if isinstance(data, (list, tuple)) and all(isinstance(one, (str, os.PathLike)) for one in data):
        return Paths(_path(argument, path) for path in data)
    if isinstance(data, Mapping):
        given = f"{type(data).__name__} of {', '.join(map(str, list(data)[:5]))}"
        allowed = "one of its parts, such as data['train']"
    elif isinstance(data, (bytes, bytearray)) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        given, allowed = type(data).__name__, "paths, or an iterable of texts or of dictionaries"
    else:
        return data  # type: ignore[no-any-return]
    raise InvalidError(f"{argument} = {given} is not allowed: {allowed}", argument, given, allowed)


def _tops(fields: tuple[str, str, str]) -> tuple[str, ...]:
    """The fields of a record that are read: of ``meta.text`` and ``messages[].content`` the first part."""
    text, prompt, completion = fields
    names = (prompt, completion) if prompt else (text,)
    return tuple(dict.fromkeys(name.split(".")[0].rstrip("[]") for name in names))


def records(argument: str, data: Iterable[Any], texts: Texts) -> Iterator[bytes]:
    """The lines of JSON that texts or records are.

    Raises:
        InvalidError: of an item without the field, and of one that is no text and no mapping.
    """
    tops = _tops(texts.fields)
    for number, item in enumerate(data):
        if isinstance(item, str):
            record = _record_of(argument, number, item, texts)
        elif isinstance(item, Mapping):
            missing = next((name for name in tops if name not in item), None)
            if missing is not None and not texts.skip_bad:
                allowed = f"a field {missing!r} in each: field= names another"
                _refuse(argument, number, f"fields {', '.join(map(str, item))}", allowed)
            record = {name: item[name] for name in tops if name in item}
        else:
            _refuse(argument, number, type(item).__name__, "texts, or dictionaries")
        try:
            yield json.dumps(record, ensure_ascii=False).encode() + b"\n"
        except (TypeError, ValueError) as problem:
            _refuse(argument, number, str(problem), "texts: what JSON can say, in valid Unicode")


def _record_of(argument: str, number: int, item: str, texts: Texts) -> dict[str, Any]:
    """A record with a text where settings look for it."""
    text, prompt, completion = texts.fields
    if prompt or "[]" in text:
        needed = f"{prompt!r} and {completion!r}" if prompt else repr(text)
        _refuse(argument, number, "a text", f"dictionaries with {needed}")
    record: dict[str, Any] = {}
    place = record
    *outer, last = text.split(".")
    for name in outer:
        place = place.setdefault(name, {})
    place[last] = item
    return record


def _refuse(argument: str, number: int, given: str, allowed: str) -> NoReturn:
    name = f"{argument}[{number}]"
    raise InvalidError(f"{name} has {given}; allowed: {allowed}", name, given, allowed)


class Spool:
    """A hidden folder beside prepared data, for texts that are no files. It is gone once they are prepared.

    Files are named by their content and have no time of change: the same texts are known again, which is how a folder of prepared
    data is reused, and how a run that goes on knows that its data are those with which it began.
    """

    def __init__(self, beside: Path) -> None:
        self.folder = beside.parent / f".{beside.name}.spool"
        self._made: list[Path] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Removes it, and the folders that were made for it and are empty."""
        if self._made:
            shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self._made[1:]:
            try:
                folder.rmdir()
            except OSError:
                break
        self._made = []

    def _make(self) -> None:
        if self._made:
            return
        shutil.rmtree(self.folder, ignore_errors=True)  # of a process that was killed
        missing = [folder for folder in self.folder.parents if not folder.exists()]
        self.folder.mkdir(parents=True)
        self._made = [self.folder, *missing]

    def write(self, name: str, ending: str, pieces: Iterable[bytes]) -> Path:
        """Writes a file, and gives its path."""
        self._make()
        partial, content = self.folder / f"{name}.partial", hashlib.sha256()
        with open(partial, "wb", buffering=_PIECE) as file:
            for piece in pieces:
                content.update(piece)
                file.write(piece)
        path = self.folder / f"{name}-{content.hexdigest()[:16]}.{ending}"
        partial.replace(path)
        os.utime(path, (0, 0))
        return path

    @staticmethod
    def name(name: str, ending: str, pieces: Iterable[bytes]) -> str:
        """The name that the file would have; nothing is written."""
        content = hashlib.sha256()
        for piece in pieces:
            content.update(piece)
        return f"{name}-{content.hexdigest()[:16]}.{ending}"


def tokenizer_settings(tokenizer: Any) -> dict[str, Any] | Callable[[], str]:
    """Settings of a tokenizer by their keys, or what gives the text of its ``tokenizer.json``.

    Raises:
        InvalidError: of what is no tokenizer.
    """
    if isinstance(tokenizer, Mapping):
        return {f"tokenizer.{key}": value for key, value in tokenizer.items()}
    if isinstance(tokenizer, str) and tokenizer in KINDS:
        return {"tokenizer.kind": tokenizer}
    if isinstance(tokenizer, (str, os.PathLike)):
        return {"tokenizer.kind": "tokenizer-json", "tokenizer.path": _path("tokenizer", tokenizer)}
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    to_str = getattr(fast, "to_str", None)
    if callable(to_str):
        return lambda: str(to_str())
    given = type(tokenizer).__name__
    allowed = (
        f"a kind ({', '.join(KINDS)}), a mapping of settings, a path of a tokenizer.json, a tokenizers.Tokenizer, or a fast tokenizer "
        "of transformers"
    )
    raise InvalidError(f"tokenizer = {given} is not allowed: {allowed}", "tokenizer", given, allowed)


def end_of_text(tokenizer: Any) -> str | None:
    """The token with which a tokenizer of transformers ends a text."""
    token = getattr(tokenizer, "eos_token", None)
    return token if isinstance(token, str) else None
