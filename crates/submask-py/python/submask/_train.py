"""Training, and preparing data, as the program does them."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _native
from ._arguments import invalid, shortened, text
from ._data import (
    Data,
    Field,
    PathLike,
    Paths,
    Spool,
    Texts,
    Tokenizer,
    end_of_text,
    of_data,
    path_text,
    place,
    records,
    remove_empty,
    tokenizer_settings,
)
from ._samples import Report
from ._settings import flag
from .errors import InvalidError, SubmaskError
from .events import Best, DataNote, Event, Started, event_of, figures_of
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
#: What a run writes in its folder before its settings, with which it can be resumed.
OF_A_RUN = ("data", "checkpoints", "metrics.jsonl")
#: How deep mappings and lists of settings may stand in each other. No setting needs as much.
DEEPEST = 16


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

    def model(self, *, device: str = "cpu", precision: Literal["fp32", "tf32", "bf16"] = "fp32") -> Model:
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
    precision: Literal["fp32", "tf32", "bf16"] = "fp32",
    callback: Callable[[Event], object] | None = None,
) -> TrainResult:
    """Trains a model, as ``submask train`` does: the same settings give the same weights, bit for bit.

    The preset's settings are the start. ``config`` replaces some of them; the arguments and ``settings`` replace some of these.

    Ctrl-C ends the run after the step it is in, writes a checkpoint and raises :class:`KeyboardInterrupt`; ``resume=True`` resumes the
    run from there, to the same weights. While a corpus is read the run ends at once, and what it wrote in ``out`` is removed; files of
    others stay.

    Args:
        preset: what to begin with: ``dictionary`` (the default), ``text8``, ``owt-small``, ``emoji``, ``cifar10``, …
        out: folder of the run. It must not exist or be empty, but for ``resume``.
        config: a settings file; keys that it does not name keep the preset's values.
        data: files and folders; or texts that are no files: an iterable of dictionaries, such as a dataset of Hugging Face, or of texts (not
            in a list: a list of strings names files). Such texts are written to a file in the run's folder, a piece at a time, until they are
            tokens; they are iterated once. A run that is resumed needs no ``data``; texts that are given again must be the same. At least
            one path or text must be given.
        valid: the same for validation; nothing of ``data`` is held out then.
        field: where the text of a dictionary or record is (``data.field``), or a pair of the fields of prompts and completions. As the
            settings say if ``None``: ``text``.
        tokenizer: a kind (``bytes``, ``bpe``, ``gpt2``, …), a mapping such as ``{"kind": "bpe", "vocab_size": 4096}``, the path of a
            ``tokenizer.json``, a ``tokenizers.Tokenizer`` or a fast tokenizer of transformers.
        settings: any settings by their keys, in one level (``{"train.steps": 100}``) or in sections (``{"train": {"steps": 100}}``).
        resume: resume the run in ``out`` from its newest checkpoint.
        init: model, run or checkpoint whose weights are the start; its network, codes, schedule and tokenizer take the preset's place.
        device: ``auto`` (a GPU that answers, otherwise the CPU), ``cpu`` or ``gpu:N``.
        precision: ``fp32``, ``tf32`` (CUDA devices) or ``bf16``.
        callback: called with each event (:mod:`submask.events`), on this thread; the run waits for it. What it raises ends the run after
            its step, with a checkpoint, and is raised here. If the run fails then, as where the checkpoint cannot be written, a note of
            the exception says so (before Python 3.11, a warning).

    Returns:
        The last checkpoint with figures and samples.

    Raises:
        InvalidError: of settings and data, naming the key.
        DivergedError: once the loss is not a finite number; the last checkpoint stays.
        KeyboardInterrupt: after Ctrl-C.
    """
    folder, resume = place("out", out), flag(resume, "resume")
    start: dict[str, Any] = {"init": None if init is None else place("init", init), "resume": resume}
    planner = _planner(preset, config, lambda given, begin: _native.train_plan(folder, given, **begin, **start))
    text(device, "device")
    text(precision, "precision")
    callback = _callable(callback)
    texts = _Corpus(planner, {"data": data, "valid": valid}, tokenizer, [*_of_field(field), *_of_settings(settings)])
    with _removing(folder), Spool(folder / "data") as spool:
        plan = texts.compared() if resume else texts.spooled(spool)
        _warn(plan.notes)

        def heard(event_text: str) -> None:
            for event in event_of(event_text, folder):
                if isinstance(event, Started):
                    spool.remove()
                _tell(callback, event, spool)

        # The library would remove a folder that it made, with everything in it.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        ended = json.loads(_named(spool, lambda: plan.train(device, precision, heard)))
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
        data: as in :func:`train`; ``None`` for the built-in dictionary.
        out: folder to write.
        preset, config, valid, field, tokenizer, settings: as in :func:`train`.
        rebuild: replace a folder that was prepared from other data or with other settings.
        callback: called with :class:`submask.events.Preparing` on this thread. What it raises ends the work, and is raised here.

    Raises:
        InvalidError: of settings and data, naming the key.
        FormatError: of a folder that holds something else, or data of other settings.
    """
    folder, rebuild, callback = place("out", out), flag(rebuild, "rebuild"), _callable(callback)
    planner = _planner(preset, config, lambda given, begin: _native.prepare_plan(given, **begin))
    texts = _Corpus(planner, {"data": data, "valid": valid}, tokenizer, [*_of_field(field), *_of_settings(settings)])
    with Spool(folder) as spool:
        plan = texts.spooled(spool)
        _warn(plan.notes)

        def heard(event_text: str) -> None:
            for event in event_of(event_text, folder):
                _tell(callback, event, spool)

        told = json.loads(_named(spool, lambda: plan.prepare(folder, rebuild, heard)))
        notes = tuple(spool.told(note) for note in told["notes"])
    described = told["described"]
    valid_tokens = None if described["valid"] is None else described["valid"]["tokens"]
    return Prepared(folder, described["vocab_size"], described["train"]["tokens"], valid_tokens, told["reused"], notes, described)


def _planner(preset: str | None, config: PathLike | None, plan: Callable[[list[Given], dict[str, Any]], Any]) -> Planner:
    """A plan of settings that begin with a preset and a file."""
    begin: dict[str, Any] = {
        "preset": None if preset is None else text(preset, "preset"),
        "config": None if config is None else place("config", config),
    }
    return lambda given: plan(given, begin)


def _callable(callback: Callable[[Event], object] | None) -> Callable[[Event], object] | None:
    if callback is None or callable(callback):
        return callback
    raise invalid("callback", shortened(callback), "what can be called with an event, or None")


def _tell(callback: Callable[[Event], object] | None, event: Event, spool: Spool) -> None:
    if callback is not None:
        callback(replace(event, text=spool.told(event.text)) if isinstance(event, DataNote) else event)


def _named(spool: Spool, work: Callable[[], str]) -> str:
    """Does work; its errors name arguments where they named files of the spool."""
    try:
        return work()
    except SubmaskError as error:
        renamed = spool.renamed(error)
        if renamed is error:
            raise
        raise renamed from None


@contextmanager
def _removing(folder: Path) -> Iterator[None]:
    """Removes what a run wrote in its folder where it fails before it can be resumed. What others wrote there stays."""
    missing = [outer for outer in (folder, *folder.parents) if not os.path.exists(outer)]
    written = [folder / name for name in OF_A_RUN if not os.path.exists(folder / name)]
    try:
        yield
    except BaseException:
        if not os.path.exists(folder / "settings.toml"):
            for path in written:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            remove_empty(missing)
        raise


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
            path = spool.write(argument, _NAMES[argument], "jsonl", records(argument, data, _texts(argument, plan)))
            given.append((argument, _KEYS[argument], [str(path)]))
        if self._tokenizer is not None:
            path = spool.write("tokenizer", "tokenizer", "json", [self._tokenizer().encode()])
            given += self._of_tokenizer(str(path))
        return self._planner(given)

    def compared(self) -> Any:
        """The plan of a run that is resumed: texts and a tokenizer that are objects must be the same as at its start."""
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


def _flat(prefix: str, settings: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not isinstance(settings, Mapping):
        given, allowed = type(settings).__name__, "a mapping of keys to values, such as {'train.steps': 100}"
        raise InvalidError(f"settings = {given} is not allowed: {allowed}", "settings", given, allowed)
    if depth > DEEPEST:
        raise invalid("settings", f"mappings in each other, more than {DEEPEST} deep", "sections, such as {'train': {'steps': 100}}")
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if not isinstance(name, str) or not all(key.split(".")):
            allowed = "a key such as train.steps"
            raise InvalidError(f"settings: {shortened(name)} is not allowed: {allowed}", "settings", shortened(name), allowed)
        text(name, "settings")
        if isinstance(value, Mapping):
            yield from _flat(f"{key}.", value, depth + 1)
        else:
            yield key, _plain(key, value)


def _plain(key: str, value: Any, depth: int = 0) -> Any:
    """Paths as text, tuples and arrays as lists, and numbers of NumPy as numbers of Python.

    Raises:
        InvalidError: of what no setting is.
    """
    if value is None:
        allowed = "a value; leave the key out for the usual one"
        raise InvalidError(f"{key} = None is not allowed: {allowed}", key, "None", allowed)
    if isinstance(value, os.PathLike):
        return path_text(key, value)
    if hasattr(value, "shape") and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise invalid(key, shortened(value), f"a whole number from {-(2**63)} to {2**63 - 1}")
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and depth < DEEPEST:
        return [_plain(key, item, depth + 1) for item in value]
    if isinstance(value, (list, tuple)):
        raise invalid(key, f"lists in each other, more than {DEEPEST} deep", "a list that does not hold itself")
    raise invalid(key, f"{shortened(value)} ({type(value).__name__})", "text, a number, True or False, or a list of these")


def _report(told: Mapping[str, Any]) -> Report:
    names = {"steps_total": "steps", "steps_skipped": "idle_steps"}
    known = Report.__dataclass_fields__
    return Report(**{names.get(key, key): value for key, value in told.items() if names.get(key, key) in known})


def _warn(notes: list[str]) -> None:
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=3)
