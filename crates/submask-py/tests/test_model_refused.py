"""What is refused before anything is computed, by which class of error, and under which name."""

from __future__ import annotations

import copy
import errno
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import submask
from submask.errors import FileError, FormatError, InvalidError, SubmaskError

LONE = "half \ud800 of a pair"
HUGE = 10**5000


class Odd:
    """No text, whatever ``str`` makes of it."""


def circle() -> dict[str, Any]:
    record: dict[str, Any] = {"text": "a"}
    record["self"] = record
    return record


@pytest.fixture
def model(models: Path) -> submask.Model:
    return submask.Model.open(models / "prime")


BAD_RECORDS: list[tuple[Any, str, str]] = [
    ({"text": b"lantern: a case for a light"}, "data[1]", "bytes"),
    ({"text": Odd()}, "data[1]", "Odd"),
    ({"text": Path("words.txt")}, "data[1]", "PosixPath"),
    ({"text": np.int64(5)}, "data[1]", "int64"),
    ({"text": 5}, "data[1]", "a number"),
    ({"txt": "abc"}, "data[1]", 'no field "text"; present: txt'),
    ({"text": LONE}, "data[1]", "surrogate"),
    (circle(), "data[1]", "Circular"),
    ({"text": "a", "n": HUGE}, "data[1]", "digits"),
    ("a text", "data[1]", "'a text'"),
]


@pytest.mark.parametrize(("record", "field", "given"), BAD_RECORDS, ids=lambda value: None if isinstance(value, dict) else value)
def test_a_record_that_is_no_text_is_refused_by_its_place(model: submask.Model, record: Any, field: str, given: str) -> None:
    with pytest.raises(InvalidError) as raised:
        model.evaluate([{"text": "the sea is wide. " * 4}, record])
    error = raised.value
    assert error.field == field and given in str(error.given), (error.field, error.given)
    assert "/" not in str(error) and ".jsonl" not in str(error), str(error)


def test_fields_that_are_not_read_may_hold_anything(model: submask.Model) -> None:
    text = "the sea is wide. " * 4
    plain = model.evaluate([{"text": text}])
    other = model.evaluate([{"text": text, "when": Odd(), "name": LONE, "score": math.nan, "array": np.zeros(3), (1, 2): b""}])
    assert other.nats.tolist() == plain.nats.tolist()


def test_records_that_are_skipped_are_told_by_their_place(model: submask.Model) -> None:
    evaluation = model.evaluate([{"text": "the sea is wide. " * 4}, {"text": b"bytes"}], skip_bad=True)
    told = " ".join(evaluation.notes)
    assert "data[1]" in told and "records.jsonl" not in told
    assert "records.jsonl" not in json.dumps(dict(evaluation.report)) and evaluation.data == "records"


def test_pairs_are_told_by_their_place(models: Path) -> None:
    pairs = submask.Model.open(models / "pairs")
    with pytest.raises(InvalidError) as raised:
        pairs.evaluate([{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": b"b"}])
    assert raised.value.field == "data[1]" and "bytes" in str(raised.value.given)


def test_a_data_set_of_parts_is_not_taken_for_paths(model: submask.Model) -> None:
    with pytest.raises(InvalidError, match=r"data\['train'\]") as raised:
        model.evaluate({"train": [{"text": "abc"}], "test": []})
    assert (raised.value.field, raised.value.given) == ("data", "dict of train, test")


def test_what_does_not_exist_is_an_error_of_the_operating_system(model: submask.Model, models: Path, tmp_path: Path) -> None:
    missing = tmp_path / "no --my-dir" / "x.txt"
    classes = submask.Model.open(models / "classes")
    asked: list[tuple[Callable[[], Any], str, str]] = [
        (lambda: submask.Model.open(missing), "path", str(missing)),
        (lambda: submask.Model.open("owner/repo"), "path", "owner/repo"),
        (lambda: model.evaluate(missing), "data", str(missing)),
        (lambda: model.evaluate([models / "data", missing]), "data", str(missing)),
        (lambda: model.evaluate(["a text"]), "data", "a text"),
        (lambda: classes.evaluate(missing), "data", str(missing)),
    ]
    for ask, field, filename in asked:
        with pytest.raises(FileError) as raised:
            ask()
        error = raised.value
        assert isinstance(error, OSError) and error.errno == errno.ENOENT, repr(error)
        assert (error.field, error.filename) == (field, filename) and filename in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.errno, again.filename, again.field) == (str(error), errno.ENOENT, filename, field)
        assert str(copy.copy(error)) == str(error)
    for keys, given in [("data.paths", {"data": missing}), ("data.valid_paths", {"data": models / "data", "valid": missing})]:
        with pytest.raises(FileError, match="does not exist") as of_training:
            submask.train(out=tmp_path / "run", **given)  # type: ignore[arg-type]
        assert (of_training.value.field, of_training.value.filename) == (keys, str(missing))
        assert of_training.value.errno == errno.ENOENT and not (tmp_path / "run").exists()
    with pytest.raises(FileError, match="there is no model") as of_init:
        submask.train(out=tmp_path / "run", init=missing)
    assert (of_init.value.field, of_init.value.filename) == ("init", str(missing))
    with pytest.raises(InvalidError) as of_another_kind:
        submask.train(out=tmp_path / "run", settings={"data.paths": 5})
    assert of_another_kind.value.field == "data.paths"
    with pytest.raises(FileError, match="tokenizer.json") as of_tokenizer:
        submask.train(out=tmp_path / "run", tokenizer=missing)
    assert (of_tokenizer.value.field, of_tokenizer.value.filename) == ("tokenizer.path", str(missing))
    with pytest.raises(FileError, match="dictionaries"):
        model.evaluate("a text")
    with pytest.raises(FileError, match="hub://owner/repo"):
        submask.Model.open("owner/repo")
    assert str(FileError("only a message")) == "only a message" and FileError("a").errno is None


def test_what_is_no_model_names_the_argument(tmp_path: Path) -> None:
    asked: list[tuple[Callable[[], Any], str, str]] = [
        (lambda: submask.Model.open(tmp_path), "path", str(tmp_path)),
        (lambda: submask.Model.from_pretrained(tmp_path), "repository", str(tmp_path)),
        (lambda: submask.Model.open("hub://x"), "path", "hub://x"),
    ]
    for ask, field, given in asked:
        with pytest.raises(InvalidError) as raised:
            ask()
        assert (raised.value.field, raised.value.given) == (field, given) and str(raised.value).startswith(field)


def test_texts_and_paths_keep_their_dashes(model: submask.Model, tmp_path: Path) -> None:
    folder = tmp_path / "a --top-p" / "b --data-dir"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text('{"txt": 1}\n')
    with pytest.raises(FormatError) as format_error:
        model.evaluate(folder / "records.jsonl", format="json")
    assert str(folder / "records.jsonl") in str(format_error.value)
    with pytest.raises(InvalidError) as no_model:
        submask.Model.open(folder)
    assert str(folder) in str(no_model.value)
    with pytest.raises(SubmaskError) as train:
        submask.train(out=tmp_path / "run", data=folder / "b --database" / "x --data")
    assert str(folder / "b --database" / "x --data") in str(train.value)


def test_advice_has_no_words_for_values(models: Path) -> None:
    images = submask.Model.open(models / "images")
    with pytest.raises(InvalidError) as raised:
        images.infill(given=np.zeros((8, 8, 3), np.uint8))
    assert str(raised.value).endswith("by mask, keep_digits or keep_channels")


REFUSED: list[tuple[Callable[[Any], Any], str, str]] = [
    (lambda model: model.sample(prompt=LONE), "prompt", "valid Unicode"),
    (lambda model: model.sample(label=LONE), "label", "valid Unicode"),
    (lambda model: model.sample(sampler=LONE), "sampler", "valid Unicode"),
    (lambda model: model.sample(temperature=True), "temperature", "a number"),
    (lambda model: model.sample(temperature=np.True_), "temperature", "a number"),
    (lambda model: model.sample(temperature=10**400), "temperature", "float"),
    (lambda model: model.sample(warp=(1, HUGE, 0)), "warp", "float"),
    (lambda model: model.sample(steps=[[1.0, 0.0]]), "steps", "whole number"),
    (lambda model: model.sample(HUGE), "num", "1 to 9223372036854775807"),
    (lambda model: model.sample(num=2**63), "num", "1 to 9223372036854775807"),
    (lambda model: model.sample(first_sequence=2**64), "first_sequence", "0 to 18446744073709551615"),
    (lambda model: model.infill("a [[2]]", keep_channels=3), "keep_channels", "list"),
    (lambda model: model.infill(LONE), "template", "valid Unicode"),
    (lambda model: model.stream(prompt=LONE), "prompt", "valid Unicode"),
    (lambda model: model.score(LONE), "texts", "valid Unicode"),
    (lambda model: model.score(["a", ("b", LONE)]), "texts[1]", "valid Unicode"),
    (lambda model: model.score([{"text": b"a"}]), "texts[0]", "a str"),
    (lambda model: model.score("a", prompt=LONE), "prompt", "valid Unicode"),
    (lambda model: model.tokenizer.encode(LONE), "text", "valid Unicode"),
    (lambda model: model.tokenizer.encode(5), "text", "a text"),
    (lambda model: model.tokenizer.decode([1], 5), "end_of_text", "a text"),
    (lambda model: model.tokenizer.decode(np.zeros(0)), "tokens", "whole numbers"),
    (lambda model: model.evaluate(LONE), "data", "valid Unicode"),
    (lambda model: model.evaluate(labels=LONE), "labels", "valid Unicode"),
    (lambda model: model.evaluate(field=LONE), "field", "valid Unicode"),
    (lambda model: model.evaluate([{"text": "a"}], format="csv"), "format", "records"),
    (lambda model: submask.Model.open(5), "path", "a path"),  # type: ignore[arg-type]
    (lambda model: submask.Model.open(b"runs"), "path", "a path"),  # type: ignore[arg-type]
    (lambda model: submask.Model.open(LONE), "path", "valid Unicode"),
    (lambda model: submask.Model.open(model.path, checkpoint=LONE), "checkpoint", "valid Unicode"),
    (lambda model: submask.Model.open(model.path, device=LONE), "device", "valid Unicode"),
    (lambda model: submask.Model.open(model.path, device=5), "device", "a text"),  # type: ignore[arg-type]
    (lambda model: submask.Model.open(model.path, precision=5), "precision", "a text"),  # type: ignore[arg-type]
    (lambda model: submask.Model.open(model.path, cache_dir=5), "cache_dir", "a path"),  # type: ignore[arg-type]
    (lambda model: submask.Model.open(model.path, token=5), "token", "a text"),  # type: ignore[arg-type]
    (lambda model: submask.Model.from_pretrained("a/b", revision=5), "revision", "a text"),  # type: ignore[arg-type]
    (lambda model: submask.Model.from_pretrained(5), "repository", "a path"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("asked", "field", "allowed"), REFUSED)
def test_what_no_library_takes_is_an_invalid_error(model: submask.Model, asked: Callable[[Any], Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidError) as raised:
        asked(model)
    error = raised.value
    assert error.field == field, str(error)
    assert allowed in str(error.allowed), str(error)
    str(error).encode()


def test_empty_lists_are_of_no_tokens(model: submask.Model) -> None:
    assert model.tokenizer is not None and model.tokenizer.decode([]) == ""
    assert submask.SubTokenizer(6, 2).encode([]).shape == (0, 2)
    states = np.full((1, 8, 4), model.mask_id, np.uint32)
    assert model.logits(states, positions=[]).shape == (0, model.vocab_size)


def test_perplexities_beyond_floats_are_infinite() -> None:
    assert submask.UpperBound("bound", 800.0, "nats per token").perplexity == math.inf
    assert submask.Exact("exact", 2000.0, "bits per token").perplexity == math.inf
    assert submask.Exact("exact", 1.5, "nats per token").perplexity == math.exp(1.5)
    assert submask.Exact("exact", 1.5, "bits per token").perplexity == 2.0**1.5


def test_evaluations_of_scores_are_not_said_to_be_none(model: submask.Model) -> None:
    assert model.score("the sea").figure.evaluations is None
    assert model.evaluate(sequences=2).figures[0].evaluations > 0  # type: ignore[operator]


def test_reports_add_up(model: submask.Model) -> None:
    reports = [model.sample(steps=2, seed=seed).report for seed in range(2)]
    total = sum(reports, start=submask.Report())
    assert sum(reports) == total == reports[0] + reports[1]
    assert total.sequences == 2
    with pytest.raises(TypeError):
        reports[0] + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        1 + reports[0]


def test_what_is_done_to_the_information_does_not_change_it(model: submask.Model) -> None:
    before = json.dumps(model.info)
    model.info["settings"]["changed"] = True
    assert json.dumps(model.info) == before


def test_sequences_are_chosen_as_the_program_chooses_them(model: submask.Model) -> None:
    tokens = np.arange(10 * model.seq_len, dtype=np.uint32).reshape(10, -1) % model.vocab_size
    every, some = model.evaluate(tokens), model.evaluate(tokens, sequences=4)
    assert some.places.tolist() == [0, 1, 2, 3] and every.places.tolist() == list(range(10))
    assert len(some.nats) == 4 and some.tokens.sum() == 4 * model.seq_len
    exact = model.evaluate(tokens, estimator="exact")
    assert model.evaluate(tokens, estimator="exact", sequences=4).nats.tolist() == exact.nats[[0, 2, 5, 7]].tolist()
