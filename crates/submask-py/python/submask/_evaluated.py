"""What is evaluated, in all forms in which it may be given."""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._arguments import choice, described, invalid, path, shortened, text, unsigned, whole
from ._records import line_of, misread, named, refuse_parts
from ._score import Evaluation, evaluation_of
from ._settings import flag
from .errors import FileError, SubmaskError

__all__ = ["evaluated"]


_RECORD = (
    "a record with a text in the field that is read; field=, or prompt_field= and completion_field=, name it, and skip_bad=True leaves "
    "other records out"
)

_READING: Mapping[str, Callable[[Any, str], Any]] = {
    "by_document": flag,
    "end": flag,
    "stride": lambda value, field: whole(value, field, 1),
    "split": lambda value, field: choice(value, field, ["file", "line", "paragraph"]),
    "field": text,
    "prompt_field": text,
    "completion_field": text,
    "format": text,
    "join": text,
    "separator": text,
    "skip_bad": flag,
    "images": text,
    "labels": path,
    "part": text,
}


def evaluated(
    model: _native.ModelSession,
    data: Any,
    sequences: int | None,
    reading: Mapping[str, Any],
    estimate: Mapping[str, Any],
) -> Evaluation:
    """The evaluation of data; ``reading`` says how they are read."""
    for unknown in reading.keys() - _READING.keys():
        nearest = difflib.get_close_matches(unknown, _READING, 1, 0.0)[0]
        raise invalid(unknown, shortened(reading[unknown]), f"no argument of evaluate; did you mean {nearest}?")
    given = {field: value for field, value in reading.items() if value is not None}
    labels = given.pop("labels", None)
    refuse_parts("data", data)
    if data is None or isinstance(data, (str, os.PathLike)):
        paths = [] if data is None else [path(data, "data")]
        return _of_files(model, paths, sequences, given | _named("labels", labels), estimate)
    if not hasattr(data, "__array__") and isinstance(data, Iterable):
        items = iter(data)
        first = next(items, None)
        if isinstance(first, (str, os.PathLike)):
            paths = [path(item, "data") for item in itertools.chain([first], items)]
            return _of_files(model, paths, sequences, given | _named("labels", labels), estimate)
        if isinstance(first, Mapping):
            records = itertools.chain([first], items)
            if "image" in first:
                data, labels = _images_of(records, labels)
            else:
                return _of_records(model, records, sequences, given | _named("labels", labels), estimate)
        elif first is None:
            raise invalid("data", "nothing", "at least one sequence")
        else:
            data = list(itertools.chain([first], items))
    if given:
        field = next(iter(given))
        raise invalid(field, shortened(given[field]), "none with arrays: it says how files of data are read")
    return _of_array(model, _array(data), sequences, labels, estimate)


def _named(field: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {field: value}


def _of_files(
    model: _native.ModelSession,
    paths: list[str],
    sequences: int | None,
    reading: Mapping[str, Any],
    estimate: Mapping[str, Any],
) -> Evaluation:
    try:
        return evaluation_of(_parts(model, paths, sequences, reading, estimate))
    except SubmaskError as error:
        missing = next((found for found in paths if found != "-" and not os.path.exists(found)), None)
        if isinstance(error, FileError):
            error.field = "data" if error.filename in paths else "labels" if error.filename == reading.get("labels") else ""
        if type(error) is not SubmaskError or missing is None:
            raise
        hint = 'texts are given as dictionaries, such as [{"text": "…"}]'
        raise FileError(f"{error}; {hint}", errno.ENOENT, missing, "data") from None


def _parts(
    model: _native.ModelSession,
    paths: list[str],
    sequences: int | None,
    reading: Mapping[str, Any],
    estimate: Mapping[str, Any],
) -> tuple[Any, ...]:
    options = {field: check(reading[field], field) for field, check in _READING.items() if field in reading}
    layout = {"end": options.pop("end", False), "stride": options.pop("stride", None)}
    unread = dict.fromkeys(_READING.keys() - {"end", "stride"}) | {"by_document": False}
    given = unread | options | {"paths": paths, "sequences": sequences}
    return _native.evaluate_data(model, given, layout, estimate)


def _of_records(
    model: _native.ModelSession,
    records: Iterable[Any],
    sequences: int | None,
    reading: Mapping[str, Any],
    estimate: Mapping[str, Any],
) -> Evaluation:
    """Records are evaluated as the program evaluates a file of them."""
    if "format" in reading:
        raise invalid("format", shortened(reading["format"]), "none with records: it says how files of data are read")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.jsonl"
        with file.open("wb") as lines:
            for n, record in enumerate(records):
                if not isinstance(record, Mapping):
                    raise invalid(f"data[{n}]", shortened(record), "a dict, like the records before it")
                lines.write(line_of("data", n, record))
        try:
            parts = _parts(model, [str(file)], sequences, {"format": "json", **reading}, estimate)
        except SubmaskError as error:
            raise misread(error, "data", file, _RECORD) from None
        *others, notes = parts
        return evaluation_of((*others, [named(note, "data", file) for note in notes]), "records")


def _images_of(records: Iterable[Any], labels: Any) -> tuple[NDArray[Any], Any]:
    """The images of records, and their labels."""
    images: list[NDArray[Any]] = []
    own: list[Any] = []
    for n, record in enumerate(records):
        if not isinstance(record, Mapping) or "image" not in record:
            raise invalid(f"data[{n}]", shortened(record), 'a dict with "image", like the records before it')
        image = np.asarray(record["image"])
        images.append(image[..., None] if image.ndim == 2 else image)
        if images[-1].shape != images[0].shape:
            raise invalid(f"data[{n}]", described(image), f"{described(images[0])}, like the images before it")
        if record.get("label") is not None:
            own.append(record["label"])
    if labels is not None and own:
        raise invalid("labels", "given", "none: the records have their own")
    if own and len(own) != len(images):
        raise invalid("data", f"{len(own)} labels of {len(images)} images", "a label of each, or of none")
    return np.stack(images), own or labels


def _array(data: Any) -> NDArray[Any]:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise invalid("data", f"{type(data).__name__} ({error})", "sequences of one length, [n, L]") from None


def _of_array(
    model: _native.ModelSession,
    data: NDArray[Any],
    sequences: int | None,
    labels: Any,
    estimate: Mapping[str, Any],
) -> Evaluation:
    allowed = "tokens [n, L], or images uint8 [n, h, w, c]"
    if data.ndim not in (2, 4) or (data.ndim == 4 and data.dtype != np.uint8) or len(data) == 0:
        raise invalid("data", described(data), allowed)
    classes = None if labels is None else unsigned(labels, "labels", "[n]")
    if classes is not None and classes.ndim != 1:
        raise invalid("labels", described(classes), "whole numbers [n]")
    if sequences is not None and sequences < len(data):
        chosen = _native.spread(len(data), sequences)
        data = data[chosen]
        classes = None if classes is None else classes[chosen]
    if data.ndim == 4:
        images = np.ascontiguousarray(data)
        own = None if classes is None else classes.tolist()
        return evaluation_of(_native.evaluate_images(model, images, own, estimate))
    if classes is not None:
        raise invalid("labels", "given", "none with tokens")
    tokens = unsigned(data, "data", "[n, L]")
    return evaluation_of(_native.evaluate_tokens(model, tokens, estimate))
