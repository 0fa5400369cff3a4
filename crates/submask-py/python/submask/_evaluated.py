"""What is evaluated, in all forms in which it may be given."""

from __future__ import annotations

import difflib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._arguments import choice, described, invalid, unsigned, whole
from ._score import Evaluation, evaluation_of
from ._settings import flag, name

__all__ = ["evaluated"]


def _path(value: Any, field: str) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    raise invalid(field, repr(value), "a path")


_READING: Mapping[str, Callable[[Any, str], Any]] = {
    "by_document": flag,
    "end": flag,
    "stride": lambda value, field: whole(value, field, 1),
    "split": lambda value, field: choice(value, field, ["file", "line", "paragraph"]),
    "field": name,
    "prompt_field": name,
    "completion_field": name,
    "format": name,
    "join": name,
    "separator": name,
    "skip_bad": flag,
    "images": name,
    "labels": _path,
    "part": name,
}


def evaluated(
    model: _native.ModelSession,
    data: Any,
    sequences: int | None,
    reading: Mapping[str, Any],
    estimate: Mapping[str, Any],
) -> Evaluation:
    """The evaluation of data, of which ``reading`` says how they are read."""
    for unknown in reading.keys() - _READING.keys():
        nearest = difflib.get_close_matches(unknown, _READING, 1, 0.0)[0]
        raise invalid(unknown, repr(reading[unknown]), f"no argument of evaluate; did you mean {nearest}?")
    given = {field: value for field, value in reading.items() if value is not None}
    labels = given.pop("labels", None)
    if data is None or isinstance(data, (str, os.PathLike)):
        paths = [] if data is None else [os.fspath(data)]
        return _of_files(model, paths, sequences, given | _named("labels", labels), estimate)
    if not hasattr(data, "__array__") and isinstance(data, Iterable):
        items = iter(data)
        first = next(items, None)
        if isinstance(first, (str, os.PathLike)):
            paths = [_path(path, "data") for path in itertools.chain([first], items)]
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
        raise invalid(field, repr(given[field]), "none with arrays: it says how files of data are read")
    return _of_array(model, _array(data), sequences, labels, estimate)


def _named(field: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {field: value}


def _of_files(
    model: _native.ModelSession,
    paths: list[str],
    sequences: int | None,
    reading: Mapping[str, Any],
    estimate: Mapping[str, Any],
    data: str | None = None,
) -> Evaluation:
    options = {field: check(reading[field], field) for field, check in _READING.items() if field in reading}
    layout = {"end": options.pop("end", False), "stride": options.pop("stride", None)}
    unread = dict.fromkeys(_READING.keys() - {"end", "stride"}) | {"by_document": False}
    given = unread | options | {"paths": paths, "sequences": sequences}
    return evaluation_of(_native.evaluate_data(model, given, layout, estimate), data)


def _of_records(
    model: _native.ModelSession,
    records: Iterable[Any],
    sequences: int | None,
    reading: Mapping[str, Any],
    estimate: Mapping[str, Any],
) -> Evaluation:
    """Records are evaluated as the program evaluates a file of them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            for n, record in enumerate(records):
                if not isinstance(record, Mapping):
                    raise invalid(f"data[{n}]", repr(record), "a dict, as those before it")
                lines.write(json.dumps(dict(record), default=str) + "\n")
        reading = {"format": "json"} | dict(reading)
        return _of_files(model, [str(file)], sequences, reading, estimate, "records")


def _images_of(records: Iterable[Any], labels: Any) -> tuple[NDArray[Any], Any]:
    """The images of records, and their labels."""
    images: list[NDArray[Any]] = []
    own: list[Any] = []
    for n, record in enumerate(records):
        if not isinstance(record, Mapping) or "image" not in record:
            raise invalid(f"data[{n}]", repr(record), 'a dict with "image", as those before it')
        image = np.asarray(record["image"])
        images.append(image[..., None] if image.ndim == 2 else image)
        if images[-1].shape != images[0].shape:
            raise invalid(f"data[{n}]", described(image), f"{described(images[0])}, as those before it")
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
        # Spread evenly, as the program does.
        chosen = [n * len(data) // sequences for n in range(sequences)]
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
