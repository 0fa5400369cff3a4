"""Training, and preparing data, as the program does them."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _native
from ._data import Data, Field, PathLike, Paths, Spool, Texts, Tokenizer, end_of_text, of_data, records, tokenizer_settings
from ._samples import Report
from .errors import InvalidError
from .events import Best, Event, Started, event_of, figures_of
from .figures import Figure

if TYPE_CHECKING:
    from ._model import Model

__all__ = ["Prepared", "TrainResult", "prepare", "train"]

#: A setting: the argument that gives it, its key, its value.
Given = tuple[str, str, Any]
#: What has the program's code merge settings.
Planner = Callable[[list[Given]], Any]
#: What a stream is called, which need not be there yet.
STREAM = "-"


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: steps done.
        checkpoint: folder of the last checkpoint, which is a model folder.
        figures: figures of held-out data: a bound or an exact value first, then the joint objective.
        samples: texts, or the paths of pictures.
        report: what the samples cost.
        early: whether the run ended before its last step, since no validation was better for too long (``train.patience``).
        best: the best validation, where they are compared (``train.keep_best``, ``train.patience``).
    """

    step: int
    checkpoint: Path
    figures: tuple[Figure, ...]
    samples: tuple[str, ...]
    report: Report
    early: bool
    best: Best | None

    def model(self, *, device: str = "cpu", precision: Literal["fp32", "bf16"] = "fp32") -> Model:
        """Opens the model of the last checkpoint."""
        from ._model import Model

        return Model.open(self.checkpoint, device=device, precision=precision)


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared data, to train on by ``submask.train(data=prepared.folder, ...)``.

    Attributes:
        folder: the folder.
        vocab_size: tokens of its tokenizer, C.
        train_tokens: tokens to train on.
        valid_tokens: tokens held out; ``None`` where nothing is.
        reused: whether it was there already, made with the same settings from the same data.
        notes: what there is to know of the data, a line each.
        description: all that ``submask data info --json`` tells.
    """

    folder: Path
    vocab_size: int
    train_tokens: int
    valid_tokens: int | None
    reused: bool
    notes: tuple[str, ...]
    description: Mapping[str, Any]


def train(
    preset: str | None = None,
    *,
    out: PathLike,
    config: PathLike | None = None,
    data: Data | None = None,
    valid: Data | None = None,
    field: Field | None = None,
    tokenizer: Tokenizer | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    init: PathLike | None = None,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    callback: Callable[[Event], object] | None = None,
) -> TrainResult:
    """Trains a model, as ``submask train`` does: the same settings give the same weights, bit for bit.

    Settings begin with the preset's; those of ``config``, then those of the arguments and of ``settings`` take their place.

    Ctrl-C ends the run after the step it is in, writes a checkpoint and raises :class:`KeyboardInterrupt`; ``resume=True`` goes on from
    there, to the same weights. While a corpus is read it ends at once, and nothing is left behind.

    Args:
        preset: what to begin with: ``dictionary`` (the default), ``text8``, ``owt-small``, ``emoji``, ``cifar10``, …
        out: folder of the run. It must not exist or be empty, but for ``resume``.
        config: a settings file; keys that it does not name keep the preset's values.
        data: files and folders; or texts that are no files: an iterable of dictionaries, such as a dataset of Hugging Face, or of texts (not
            in a list: a list of strings names files). Such texts are written to a file in the run's folder, a piece at a time, until they are
            tokens; they are iterated once. A run that goes on needs no ``data``; texts that are given again are compared with those with
            which it began.
        valid: the same for validation; nothing of ``data`` is held out then.
        field: where the text of a dictionary or record is (``data.field``), or a pair of the fields of prompts and completions. As the
            settings say if ``None``: ``text``.
        tokenizer: a kind (``bytes``, ``bpe``, ``gpt2``, …), a mapping such as ``{"kind": "bpe", "vocab_size": 4096}``, the path of a
            ``tokenizer.json``, a ``tokenizers.Tokenizer`` or a fast tokenizer of transformers.
        settings: any settings by their keys, in one level (``{"train.steps": 100}``) or in sections (``{"train": {"steps": 100}}``).
        resume: go on with the run in ``out``, from its newest checkpoint.
        init: model, run or checkpoint whose weights are the start; its network, codes, schedule and tokenizer take the preset's place.
        device: ``auto`` (a GPU that answers, otherwise the CPU), ``cpu`` or ``gpu:N``.
        precision: ``fp32`` or ``bf16``.
        callback: called with each event (:mod:`submask.events`), on this thread; the run waits for it. What it raises ends the run after
            its step, with a checkpoint, and is raised here.

    Returns:
        The last checkpoint with figures and samples.

    Raises:
        InvalidError: of settings and data, naming the key.
        DivergedError: once the loss is not a finite number; the last checkpoint stays.
        KeyboardInterrupt: after Ctrl-C.
    """
    folder = Path(out)
    existed = folder.exists()

    def planner(given: list[Given]) -> Any:
        return _native.train_plan(
            folder, given, preset=preset, config=config, init=init, resume=resume
        )

    texts = _Corpus(planner, {"data": data, "valid": valid}, tokenizer, [*_of_field(field), *_of_settings(settings)])
    with Spool(folder / "data") as spool:
        plan = texts.compared() if resume else texts.spooled(spool)
        _warn(plan.notes)

        def heard(text: str) -> None:
            for event in event_of(text, folder):
                if isinstance(event, Started):
                    spool.remove()
                if callback is not None:
                    callback(event)

        try:
            ended = json.loads(plan.train(device, precision, heard))
        except BaseException:
            if not existed and not (folder / "settings.toml").exists():
                # A run that never began leaves nothing behind.
                shutil.rmtree(folder, ignore_errors=True)
            raise
    best = None if ended["best"] is None else Best(**ended["best"])
    checkpoint = folder / "checkpoints" / f"step-{ended['step']}"
    figures, report = figures_of(ended["figures"]), _report(ended["report"])
    return TrainResult(ended["step"], checkpoint, figures, tuple(ended["samples"]), report, ended["early"], best)


def prepare(
    data: Data | None,
    out: PathLike,
    *,
    preset: str | None = None,
    config: PathLike | None = None,
    valid: Data | None = None,
    field: Field | None = None,
    tokenizer: Tokenizer | None = None,
    settings: Mapping[str, Any] | None = None,
    rebuild: bool = False,
    callback: Callable[[Event], object] | None = None,
) -> Prepared:
    """Tokenizes a corpus once, for runs to share, as ``submask data prepare`` does.

    A folder that was made with the same settings from the same data is opened as it is.

    Args:
        data: as that of :func:`train`; ``None`` for the built-in dictionary.
        out: folder to write.
        preset: as that of :func:`train`.
        config: as that of :func:`train`.
        valid: as that of :func:`train`.
        field: as that of :func:`train`.
        tokenizer: as that of :func:`train`.
        settings: as those of :func:`train`.
        rebuild: replace a folder that was prepared from other data or with other settings.
        callback: called with :class:`submask.events.Preparing` on this thread. What it raises ends the work, and is raised here.

    Raises:
        InvalidError: of settings and data, naming the key.
        FormatError: of a folder that holds something else, or data of other settings.
    """
    folder = Path(out)

    def planner(given: list[Given]) -> Any:
        return _native.prepare_plan(given, preset=preset, config=config)

    texts = _Corpus(planner, {"data": data, "valid": valid}, tokenizer, [*_of_field(field), *_of_settings(settings)])
    with Spool(folder) as spool:
        plan = texts.spooled(spool)
        _warn(plan.notes)

        def heard(text: str) -> None:
            for event in event_of(text, folder):
                if callback is not None:
                    callback(event)

        told = json.loads(plan.prepare(folder, rebuild, heard))
    described = told["described"]
    valid_tokens = None if described["valid"] is None else described["valid"]["tokens"]
    return Prepared(
        folder, described["vocab_size"], described["train"]["tokens"], valid_tokens, told["reused"], tuple(told["notes"]), described
    )


class _Corpus:
    """The data of a run as arguments give them, and the settings that follow from them."""

    def __init__(
        self, planner: Planner, data: Mapping[str, Any], tokenizer: Tokenizer | None, given: list[Given]
    ) -> None:
        self._planner = planner
        self._given = given
        self._iterables: dict[str, Iterable[Any]] = {}
        for argument, one in data.items():
            if one is None:
                continue
            found = of_data(argument, one)
            if isinstance(found, Paths):
                self._given.append((argument, _KEYS[argument], list(found)))
            else:
                self._iterables[argument] = found
        self._tokenizer: Callable[[], str] | None = None
        self._end: str | None = None
        if tokenizer is not None:
            settings = tokenizer_settings(tokenizer)
            if callable(settings):
                self._tokenizer, self._end = settings, end_of_text(tokenizer)
            else:
                self._given.extend(("tokenizer", key, _plain(key, value)) for key, value in settings.items())

    def spooled(self, spool: Spool) -> Any:
        """The plan, with texts and a tokenizer that are objects in files of ``spool``."""
        streams = [(argument, _KEYS[argument], [STREAM]) for argument in self._iterables]
        plan = self._first([*self._given, *streams])
        if not self._iterables and self._tokenizer is None:
            return plan
        given = list(self._given)
        for argument, data in self._iterables.items():
            path = spool.write(_NAMES[argument], "jsonl", records(argument, data, _texts(argument, plan)))
            given.append((argument, _KEYS[argument], [str(path)]))
        if self._tokenizer is not None:
            path = spool.write("tokenizer", "json", [self._tokenizer().encode()])
            given += self._of_tokenizer(str(path))
        return self._planner(given)

    def compared(self) -> Any:
        """The plan of a run that goes on: texts and a tokenizer that are objects must be those with which it began."""
        plan = self._first(self._given)
        for argument, data in self._iterables.items():
            texts = _texts(argument, plan)
            name = Spool.name(_NAMES[argument], "jsonl", records(argument, data, texts))
            _same(argument, name, texts.paths if argument == "data" else texts.valid_paths)
        if self._tokenizer is not None:
            name = Spool.name("tokenizer", "json", [self._tokenizer().encode()])
            _same("tokenizer", name, [_texts("tokenizer", plan).tokenizer])
        return plan

    def _first(self, given: list[Given]) -> Any:
        try:
            return self._planner(given)
        except InvalidError as error:
            if error.given != STREAM:
                raise
            allowed = "files and folders: texts alone are taken from an iterable"
            raise InvalidError(f"data = an iterable is not allowed: {allowed}", "data", "an iterable", allowed) from None

    def _of_tokenizer(self, path: str) -> Iterator[Given]:
        yield "tokenizer", "tokenizer.kind", "tokenizer-json"
        yield "tokenizer", "tokenizer.path", path
        if self._end is not None:
            yield "tokenizer", "tokenizer.end_of_text", self._end


#: The settings of paths, and what files of texts are called.
_KEYS = {"data": "data.paths", "valid": "data.valid_paths"}
_NAMES = {"data": "train", "valid": "valid"}


def _texts(argument: str, plan: Any) -> Texts:
    """What the settings say of texts.

    Raises:
        InvalidError: where they are not of text, or read files in another way than texts are written.
    """
    told = plan.texts
    if told is None:
        allowed = "files and folders: a model of images is trained on them"
        raise InvalidError(f"{argument} = an iterable is not allowed: {allowed}", argument, "an iterable", allowed)
    texts = Texts(*told)
    if texts.format not in ("auto", "json"):
        allowed = "auto or json, as texts are written that are no files"
        raise InvalidError(f"data.format = {texts.format} is not allowed: {allowed}", "data.format", texts.format, allowed)
    return texts


def _same(argument: str, name: str, paths: list[str]) -> None:
    if [Path(path).name for path in paths] == [name]:
        return
    given, allowed = "others", "those with which the run began; it keeps what it needs of them, so that they may be left out"
    raise InvalidError(f"{argument}: {given} are not allowed: {allowed}", argument, given, allowed)


def _of_field(field: Field | None) -> list[Given]:
    if field is None:
        return []
    if isinstance(field, str):
        return [("field", "data.field", field)]
    if isinstance(field, tuple) and len(field) == 2 and all(isinstance(name, str) for name in field):
        return [("field", "data.prompt_field", field[0]), ("field", "data.completion_field", field[1])]
    allowed = "the name of a field, or a pair of names: of prompts and of completions"
    raise InvalidError(f"field = {field!r} is not allowed: {allowed}", "field", repr(field), allowed)


def _of_settings(settings: Mapping[str, Any] | None) -> list[Given]:
    return [] if settings is None else [("settings", key, value) for key, value in _flat("", settings)]


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if not isinstance(settings, Mapping):
        given, allowed = type(settings).__name__, "a mapping of keys to values, such as {'train.steps': 100}"
        raise InvalidError(f"settings = {given} is not allowed: {allowed}", "settings", given, allowed)
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if not isinstance(name, str) or not all(key.split(".")):
            allowed = "a key such as train.steps"
            raise InvalidError(f"settings: {name!r} is not allowed: {allowed}", "settings", repr(name), allowed)
        if isinstance(value, Mapping):
            yield from _flat(f"{key}.", value)
        else:
            yield key, _plain(key, value)


def _plain(key: str, value: Any) -> Any:
    """Paths as text, and numbers of NumPy as those of Python."""
    if value is None:
        allowed = "a value; leave the key out for the usual one"
        raise InvalidError(f"{key} = None is not allowed: {allowed}", key, "None", allowed)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _report(told: Mapping[str, Any]) -> Report:
    names = {"steps_total": "steps", "steps_skipped": "idle_steps"}
    known = Report.__dataclass_fields__
    return Report(**{names.get(key, key): value for key, value in told.items() if names.get(key, key) in known})


def _warn(notes: list[str]) -> None:
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=3)
