"""What training and preparing refuse, and what they leave behind where they fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import submask
from submask import _native, events
from submask.errors import InvalidError, SubmaskError
from test_train import TINY, Rows, corpus, texts

__all__ = ["corpus"]  # A fixture.


def refused(field: str, allowed: str, work: Callable[[], object]) -> InvalidError:
    with pytest.raises(InvalidError) as raised:
        work()
    assert raised.value.field == field, raised.value
    assert allowed in str(raised.value), raised.value
    return raised.value


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("nothing", [[], (), iter(()), Rows([])], ids=["list", "tuple", "iterator", "dataset"])
@pytest.mark.parametrize("field", ["data", "valid"])
def test_no_data_at_all_are_refused(corpus: Path, tmp_path: Path, field: str, nothing: Any) -> None:
    given: Any = {"data": corpus} | {field: nothing}
    run, prepared = tmp_path / "run", tmp_path / "prepared"
    error = refused(field, "at least one path, text or dictionary", lambda: submask.train(out=run, settings=TINY, **given))
    assert error.given == "nothing"
    refused(field, "at least one", lambda: submask.prepare(out=prepared, tokenizer="bytes", **given))
    assert left(tmp_path) == [corpus.name]


def holding_itself() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


def deep(levels: int) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for _ in range(levels):
        settings = {"train": settings}
    return settings


def test_settings_that_hold_themselves_are_refused(tmp_path: Path) -> None:
    itself: dict[str, Any] = {}
    itself["train"] = itself
    cases: list[tuple[str, Any]] = [("settings", itself), ("settings", deep(5000)), ("data.paths", {"data.paths": holding_itself()})]
    for field, settings in cases:
        refused(field, "allowed", partial(submask.train, out=tmp_path / "run", settings=settings))
    refused("x", "does not hold itself", lambda: _native.train_plan(tmp_path, [("settings", "x", holding_itself())]))
    assert left(tmp_path) == []


def test_what_is_no_list_is_not_taken_for_one(tmp_path: Path) -> None:
    for value in ({"a.txt"}, b"a.txt", range(3), [{"a.txt": 1}], [b"a.txt"]):
        refused("data.paths", "or a list of these", partial(submask.train, out=tmp_path / "run", settings={"data.paths": value}))
    refused("train.steps", "a whole number from", lambda: submask.train(out=tmp_path / "run", settings={"train.steps": 10**5000}))


HALF = "\ud800"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("out", {"out": 5}),
        ("out", {"out": HALF}),
        ("out", {"out": ""}),
        ("out", {"out": "a\0b"}),
        ("out", {"out": b"run"}),
        ("preset", {"preset": HALF}),
        ("preset", {"preset": 5}),
        ("config", {"config": 5}),
        ("config", {"config": HALF}),
        ("init", {"init": 5}),
        ("init", {"init": "a\0b"}),
        ("data", {"data": HALF}),
        ("data", {"data": 5}),
        ("resume", {"resume": "no"}),
        ("resume", {"resume": 1}),
        ("device", {"device": 5}),
        ("device", {"device": HALF}),
        ("precision", {"precision": 16}),
        ("callback", {"callback": 5}),
        ("settings", {"settings": {HALF: 1}}),
        ("tokenizer", {"tokenizer": HALF}),
    ],
)
def test_arguments_of_a_wrong_kind_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, given: Any) -> None:
    monkeypatch.chdir(tmp_path)
    refused(field, "allowed", lambda: submask.train(**({"out": "run"} | given)))
    if field not in ("init", "resume", "device", "precision"):
        refused(field, "allowed", lambda: submask.prepare(**({"data": None, "out": "prepared"} | given)))
    assert left(tmp_path) == []


def test_rebuild_is_true_or_false(corpus: Path, tmp_path: Path) -> None:
    no: Any = "no"
    refused("rebuild", "True or False", lambda: submask.prepare(corpus, tmp_path / "prepared", rebuild=no))


def test_a_record_that_holds_itself_is_refused(tmp_path: Path) -> None:
    record: dict[str, Any] = {}
    record["text"] = record
    refused("data[1]", "what JSON can say", lambda: submask.train(out=tmp_path / "run", data=[{"text": "a"}, record], settings=TINY))
    assert left(tmp_path) == []


@pytest.mark.parametrize("bad", [5, None, b"a", object(), ["a"], HALF], ids=["number", "none", "bytes", "object", "list", "surrogate"])
def test_a_bad_record_is_named_by_its_number(tmp_path: Path, bad: Any) -> None:
    rows = [{"text": text} for text in texts()]
    rows[7] = {"text": bad}
    work: list[Callable[[], object]] = [
        lambda: submask.train(out=tmp_path / "run", data=Rows(rows), settings=TINY),
        lambda: submask.prepare(Rows(rows), tmp_path / "prepared", tokenizer="bytes"),
    ]
    if bad is None:
        # As in files: a record without text.
        for each in work:
            each()
        return
    for each in work:
        error = refused("data[7]", "dictionaries with texts", each)
        assert "spool" not in str(error) and "jsonl" not in str(error)
    assert left(tmp_path) == []


def test_a_bad_record_for_validation_is_named_by_that_argument(corpus: Path, tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [{"text": "a"}, {"text": 5}]
    refused("valid[1]", "texts", lambda: submask.train(out=tmp_path / "run", data=corpus, valid=bad, settings=TINY))


def test_a_data_set_without_any_text_is_named_by_its_argument(tmp_path: Path) -> None:
    error = refused("data", "no document has any text", lambda: submask.train(out=tmp_path / "run", data=[{"text": ""}] * 9, settings=TINY))
    assert "spool" not in str(error)
    assert left(tmp_path) == []


def test_notes_on_records_name_them_by_number(tmp_path: Path) -> None:
    rows: list[Any] = [{"text": text} for text in texts()]
    rows[3] = {"text": 5}
    told: list[events.Event] = []
    settings = TINY | {"data.skip_bad": True}
    submask.train(out=tmp_path / "run", data=Rows(rows), settings=settings, callback=told.append)
    notes = [event.text for event in told if isinstance(event, events.DataNote)]
    assert any("data[3]" in note for note in notes), notes
    assert not any("spool" in note for note in notes)
    prepared = submask.prepare(Rows(rows), tmp_path / "prepared", tokenizer="bytes", settings={"data.skip_bad": True})
    assert any("data[3]" in note for note in prepared.notes), prepared.notes


def test_files_of_others_stay_where_a_run_fails(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"

    def callback(event: events.Event) -> None:
        (run / "tb").mkdir(exist_ok=True)
        (run / "tb/log").write_text("mine")
        raise RuntimeError("while the corpus is read")

    for data in (corpus, iter(texts())):
        with pytest.raises(RuntimeError, match="while the corpus is read"):
            submask.train(out=run, data=data, settings=TINY, callback=callback)
        assert left(tmp_path) == ["deep", "deep/run", "deep/run/tb", "deep/run/tb/log", corpus.name]
        (run / "tb/log").unlink()
        (run / "tb").rmdir()


def test_files_of_others_stay_where_the_library_fails(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    corpus.write_text('{"text": "a"}\n{"text": 5}\n')

    def callback(event: events.Event) -> None:
        (run / "mine").write_text("mine")

    with pytest.raises(SubmaskError, match="is a number"):
        submask.train(out=run, data=corpus, settings=TINY, callback=callback)
    assert left(tmp_path) == ["run", "run/mine", corpus.name]


def test_files_of_others_stay_where_texts_are_written(tmp_path: Path) -> None:
    spool = tmp_path / ".prepared.spool"
    spool.mkdir()
    (spool / "mine").write_text("mine")
    (spool / "train.partial").write_text("of a process that was killed")
    submask.prepare(iter(texts()), tmp_path / "prepared", tokenizer="bytes")
    assert left(spool) == ["mine"]


def test_a_checkpoint_that_cannot_be_written_is_told(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def callback(event: events.Event) -> None:
        if isinstance(event, events.Step):
            # Nothing can be saved in what is no folder.
            (run / "checkpoints").rename(run / "moved")
            (run / "checkpoints").write_text("")
            raise KeyboardInterrupt("enough")

    def work() -> None:
        submask.train(out=run, data=corpus, settings=TINY, callback=callback)

    if sys.version_info < (3, 11):
        with pytest.warns(RuntimeWarning, match="Then the work failed: .*checkpoints"), pytest.raises(KeyboardInterrupt):
            work()
        return
    with pytest.raises(KeyboardInterrupt, match="enough") as raised:
        work()
    (note,) = raised.value.__notes__
    assert note.startswith("Then the work failed: ") and "checkpoints" in note


def test_nothing_is_noted_where_the_checkpoint_is_there(corpus: Path, tmp_path: Path) -> None:
    def callback(event: events.Event) -> None:
        if isinstance(event, events.Step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        submask.train(out=tmp_path / "run", data=corpus, settings=TINY, callback=callback)
    assert not hasattr(raised.value, "__notes__")


def broken() -> Iterator[str]:
    yield "one"
    raise SubmaskError("of another library")


def test_an_error_of_the_iterable_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(SubmaskError, match="^of another library$"):
        submask.train(out=tmp_path / "run", data=broken(), settings=TINY)
    assert left(tmp_path) == []
