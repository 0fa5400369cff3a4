"""Corpora and tokenizers that are objects of Python: they are written to files, a piece at a time, and read from there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Union

from ._arguments import invalid, path, shortened, text
from ._records import line_of, misread, named, refuse, refuse_parts
from .errors import InvalidError, SubmaskError

__all__ = [
    "Data",
    "Field",
    "PathLike",
    "Paths",
    "Spool",
    "Texts",
    "Tokenizer",
    "end_of_text",
    "of_data",
    "path_text",
    "place",
    "records",
    "remove_empty",
    "tokenizer_settings",
]

PathLike = Union[str, "os.PathLike[str]"]
#: Paths, or an iterable of texts or of records (a dataset).
Data = Union[PathLike, Sequence[PathLike], Iterable[str], Iterable[Mapping[str, Any]]]
#: The field of texts, or a pair: the field of prompts and the field of completions.
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


def place(argument: str, value: Any) -> Path:
    """A path of the file system.

    Raises:
        InvalidError: of what is no path, and of a path that no file can have.
    """
    found = path(value, argument)
    if not found or "\0" in found:
        raise invalid(argument, shortened(value), "a path that is not empty and without NUL")
    return Path(found)


def path_text(argument: str, path: Any) -> str:
    """A path as a text that settings can hold.

    Raises:
        InvalidError: of one that is no valid Unicode.
    """
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
        return Paths([path_text(argument, data)])
    if isinstance(data, (list, tuple)) and not data:
        raise _nothing(argument)
    if isinstance(data, (list, tuple)) and all(isinstance(one, (str, os.PathLike)) for one in data):
        return Paths(path_text(argument, path) for path in data)
    refuse_parts(argument, data)
    if isinstance(data, (bytes, bytearray)) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise invalid(argument, type(data).__name__, "paths, or an iterable of texts or of dictionaries")
    return data  # type: ignore[no-any-return]


def _nothing(argument: str) -> InvalidError:
    allowed = "at least one path, text or dictionary; leave the argument out for what the preset says"
    return invalid(argument, "nothing", allowed)


def _tops(fields: tuple[str, str, str]) -> tuple[str, ...]:
    """The fields of a record that are read: of ``meta.text`` and ``messages[].content`` the first part."""
    text, prompt, completion = fields
    names = (prompt, completion) if prompt else (text,)
    return tuple(dict.fromkeys(name.split(".")[0].rstrip("[]") for name in names))


def records(argument: str, data: Iterable[Any], texts: Texts) -> Iterator[bytes]:
    """The lines of JSON that texts or records are.

    Raises:
        InvalidError: of an item without the field, of one that is no text and no mapping, and where there is no item.
    """
    tops = _tops(texts.fields)
    number = -1
    for number, item in enumerate(data):
        if isinstance(item, str):
            record = _record_of(argument, number, item, texts)
        elif isinstance(item, Mapping):
            missing = next((name for name in tops if name not in item), None)
            if missing is not None and not texts.skip_bad:
                allowed = f"a field {missing!r} in each: field= names another"
                refuse(argument, number, f"fields {', '.join(map(str, item))}", allowed)
            record = {name: item[name] for name in tops if name in item}
        else:
            refuse(argument, number, type(item).__name__, "texts, or dictionaries")
        yield line_of(argument, number, record)
    if number < 0:
        raise _nothing(argument)


def _record_of(argument: str, number: int, item: str, texts: Texts) -> dict[str, Any]:
    """A record with a text where settings look for it."""
    text, prompt, completion = texts.fields
    if prompt or "[]" in text:
        needed = f"{prompt!r} and {completion!r}" if prompt else repr(text)
        refuse(argument, number, "a text", f"dictionaries with {needed}")
    record: dict[str, Any] = {}
    place = record
    *outer, last = text.split(".")
    for name in outer:
        place = place.setdefault(name, {})
    place[last] = item
    return record


class Spool:
    """A hidden folder beside prepared data, for texts that are no files. It is gone once they are prepared.

    Files are named by their content and have no time of change: the same texts are known again, which is how a folder of prepared
    data is reused, and how a run that is resumed knows that its data are the same.

    Only files that a spool has written are removed: its own, and files of a process that was killed, which have such names.
    """

    def __init__(self, beside: Path) -> None:
        self.folder = beside.parent / f".{beside.name}.spool"
        self._made: list[Path] = []
        self._written: dict[Path, str] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Removes its files, and the folders that were made for it and are empty."""
        if not self._made:
            return
        self._clear()
        remove_empty(self._made)
        self._made = []

    def _make(self) -> None:
        if self._made:
            return
        missing = [folder for folder in self.folder.parents if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = [self.folder, *missing]
        self._clear()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if _WRITTEN.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def told(self, text: str) -> str:
        """A text about files, with the items of arguments in the place of the lines of files that were written here."""
        for file, argument in self._written.items():
            text = named(text, argument, file)
        return text

    def renamed(self, error: SubmaskError) -> SubmaskError:
        """An error that names arguments and their items where it named files that were written here."""
        for file, argument in self._written.items():
            allowed = "a tokenizer that this package reads" if argument == "tokenizer" else "texts, or dictionaries with texts"
            error = misread(error, argument, file, allowed)
        return error

    def write(self, argument: str, name: str, ending: str, pieces: Iterable[bytes]) -> Path:
        """Writes what an argument gives to a file, and gives its path."""
        self._make()
        partial, content = self.folder / f"{name}.partial", hashlib.sha256()
        with open(partial, "wb", buffering=_PIECE) as file:
            for piece in pieces:
                content.update(piece)
                file.write(piece)
        path = self.folder / f"{name}-{content.hexdigest()[:16]}.{ending}"
        partial.replace(path)
        os.utime(path, (0, 0))
        self._written[path] = argument
        return path

    @staticmethod
    def name(name: str, ending: str, pieces: Iterable[bytes]) -> str:
        """The name that the file would have; nothing is written."""
        content = hashlib.sha256()
        for piece in pieces:
            content.update(piece)
        return f"{name}-{content.hexdigest()[:16]}.{ending}"


#: Names of files in a spool.
_WRITTEN = re.compile(r"(train|valid|tokenizer)(\.partial|-[0-9a-f]{16}\.jsonl?)")


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders, the innermost first, up to the first that is not empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            break


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
        return {"tokenizer.kind": "tokenizer-json", "tokenizer.path": path_text("tokenizer", tokenizer)}
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    to_str = getattr(fast, "to_str", None)
    if callable(to_str):
        return lambda: text(to_str(), "tokenizer")
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
