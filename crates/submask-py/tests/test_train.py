"""Training from Python is the program's, and can be watched, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import submask
from submask import events
from submask.errors import InvalidError
from submask.figures import Surrogate, UpperBound

WORDS = "the sea is wide and a ship small old wind from north over waves light of harbour rope sail deep blue night star".split()

#: A network that is trained in a second.
TINY: dict[str, Any] = {
    "tokenizer.kind": "bytes",
    "model.hidden": 16,
    "model.heads": 2,
    "model.blocks": 1,
    "model.cond_dim": 8,
    "model.seq_len": 16,
    "train.steps": 6,
    "train.batch_size": 2,
    "train.warmup_steps": 2,
    "train.log_every": 2,
    "train.validate_every": 4,
    "train.validate_sequences": 2,
    "train.validate_samples": 1,
    "train.final_sequences": 4,
    "train.final_draws": 1,
    "train.final_samples": 1,
    "train.keep_checkpoints": 9,
    "sample.steps": 4,
}


def texts(count: int = 60) -> list[str]:
    return [" ".join(WORDS[(7 * i + j * j) % len(WORDS)] for j in range(9)) for i in range(count)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "words.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()))
    return path


def weights(run: Path, step: int = 6) -> dict[str, bytes]:
    folder = run / "checkpoints" / f"step-{step}"
    return {name: (folder / name).read_bytes() for name in ("model.safetensors", "raw.safetensors", "config.json")}


def flags(settings: dict[str, Any]) -> list[str]:
    return ["--set", *(f"{key}={value}" for key, value in settings.items())]


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs `code`."""
    package = str(Path(submask.__file__).parent.parent)
    paths = [package, str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_weights_are_those_of_the_program(program: Path, corpus: Path, tmp_path: Path) -> None:
    result = submask.train(out=tmp_path / "ours", data=corpus, settings=TINY)
    command: list[str | Path] = [program, "train", "--data", corpus, "--out", tmp_path / "theirs", "--device", "auto", *flags(TINY)]
    subprocess.run(command, check=True, capture_output=True)
    assert weights(tmp_path / "ours") == weights(tmp_path / "theirs")
    assert (tmp_path / "ours/settings.toml").read_text() == (tmp_path / "theirs/settings.toml").read_text()

    def validations(run: str) -> list[Any]:
        records = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        return [record for record in records if record["kind"] == "validation"]

    assert validations("ours") == validations("theirs")
    last = validations("theirs")[-1]
    assert (result.step, result.early, result.best) == (6, False, None)
    assert result.checkpoint == tmp_path / "ours/checkpoints/step-6"
    assert [figure.value for figure in result.figures] == [figure["value"] for figure in last["figures"]]
    assert list(result.samples) == last["samples"]
    assert result.report.sequences == 1 and result.report.evaluations > 0


def test_settings_are_a_file_then_arguments_then_a_mapping_with_sections(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[train]\nsteps = 3\nwarmup_steps = 1\nlearning_rate = 0.25\n[tokenizer]\nkind = 'characters'\n")
    sections = {"train": {"steps": np.int64(2), "adamw": {"beta_1": np.float64(0.8)}}, "train.learning_rate": 0.1 + 0.2}
    given = {key: value for key, value in TINY.items() if key not in ("train.steps", "tokenizer.kind", "train.warmup_steps")}
    result = submask.train(out=tmp_path / "run", config=config, data=[corpus], tokenizer="bytes", settings=given | sections)
    written = (tmp_path / "run/settings.toml").read_text()
    assert result.step == 2
    for line in ("steps = 2\n", "warmup_steps = 1\n", f"learning_rate = {0.1 + 0.2!r}\n", "beta_1 = 0.8\n", 'kind = "bytes"\n'):
        assert line in written, line


def test_events_are_told_in_order_on_the_callers_thread(corpus: Path, tmp_path: Path) -> None:
    import threading

    told: list[events.Event] = []
    threads = set()

    def callback(event: events.Event) -> None:
        threads.add(threading.get_ident())
        told.append(event)
        if isinstance(event, events.Checkpoint):
            # The run waits: what it tells of is there, and can be used.
            assert len(submask.Model.open(event.folder).sample(1, steps=2).texts) == 1

    result = submask.train(out=tmp_path / "run", data=corpus, settings=TINY, callback=callback)
    assert threads == {threading.get_ident()}
    kinds = [type(event).__name__ for event in told]
    order = list(dict.fromkeys(kinds))
    assert order == ["Preparing", "DataNote", "Checkpoint", "Started", "Step", "Validation"]
    started = next(event for event in told if isinstance(event, events.Started))
    assert (started.step, started.steps) == (0, 6) and started.parameters > 1000 and started.train_tokens
    steps = [event for event in told if isinstance(event, events.Step)]
    assert [event.step for event in steps] == [2, 4, 6] and all(0 < event.loss < 100 for event in steps)
    validations = [event for event in told if isinstance(event, events.Validation)]
    assert [event.step for event in validations] == [4, 6]
    assert validations[-1].figures == result.figures
    assert isinstance(result.figures[0], UpperBound) and isinstance(result.figures[-1], Surrogate)
    assert [event.step for event in told if isinstance(event, events.Checkpoint)] == [0, 6]


def test_an_exception_of_the_callback_ends_the_run_with_a_checkpoint(corpus: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    enough = Enough("two steps")
    calls = 0

    def callback(event: events.Event) -> None:
        nonlocal calls
        if isinstance(event, events.Step):
            calls += 1
            raise enough

    run = tmp_path / "run"
    with pytest.raises(Enough) as raised:
        submask.train(out=run, data=corpus, settings=TINY, callback=callback)
    assert raised.value is enough and calls == 1
    assert (run / "checkpoints/step-2/model.safetensors").is_file()
    assert submask.train(out=run, resume=True).step == 6
    submask.train(out=tmp_path / "whole", data=corpus, settings=TINY)
    assert weights(run) == weights(tmp_path / "whole")


def test_an_exception_while_the_corpus_is_read_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    def callback(event: events.Event) -> None:
        raise RuntimeError(type(event).__name__)

    with pytest.raises(RuntimeError, match="Preparing"):
        submask.train(out=tmp_path / "run", data=corpus, settings=TINY, callback=callback)
    with pytest.raises(RuntimeError, match="Preparing"):
        submask.train(out=tmp_path / "run", data=iter(texts()), settings=TINY, callback=callback)
    with pytest.raises(RuntimeError, match="Preparing"):
        submask.prepare(iter(texts()), tmp_path / "prepared", tokenizer="bytes", callback=callback)
    assert sorted(path.name for path in tmp_path.iterdir()) == [corpus.name]


LONG = """
    import sys, submask
    from test_train import TINY

    def callback(event):
        print(type(event).__name__, getattr(event, "step", ""), flush=True)

    settings = TINY | {"train.steps": int(sys.argv[3]), "train.log_every": 1, "train.validate_every": 100000}
    try:
        submask.train(out=sys.argv[1], data=sys.argv[2], settings=settings, callback=callback)
    except KeyboardInterrupt as stopped:
        print("stopped:", stopped, flush=True)
        raise SystemExit(9)
"""


def test_ctrl_c_leaves_a_checkpoint_that_resumes_bit_for_bit(corpus: Path, tmp_path: Path) -> None:
    steps, run = 4000, tmp_path / "run"
    process = python(LONG, run, corpus, steps)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Step"):
            break
    process.send_signal(signal.SIGINT)
    rest, problems = process.communicate(timeout=60)
    assert process.returncode == 9, problems
    words = [line for line in rest.splitlines() if line.startswith("stopped:")]
    assert len(words) == 1 and f"of {steps}; saved " in words[0] and "resume it with resume=True" in words[0]
    reached = max(int(path.name.split("-")[1]) for path in (run / "checkpoints").iterdir())
    assert 0 < reached < steps
    # Not to the last step, which would take long. A constant learning rate does not depend on where the run ends.
    short = {"train.steps": reached + 3, "train.log_every": 1, "train.validate_every": 100000}
    assert submask.train(out=run, resume=True, settings={"train.steps": reached + 3}).step == reached + 3
    submask.train(out=tmp_path / "whole", data=corpus, settings=TINY | short)
    assert weights(run, reached + 3) == weights(tmp_path / "whole", reached + 3)


def test_a_stopped_run_goes_on_to_the_weights_of_one_that_was_not(corpus: Path, tmp_path: Path) -> None:
    code = """
        import os, signal, sys, submask
        from test_train import TINY

        def callback(event):
            if type(event).__name__ == "Step" and event.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

        try:
            submask.train(out=sys.argv[1], data=sys.argv[2], settings=TINY, callback=callback)
        except KeyboardInterrupt:
            raise SystemExit(9)
    """
    run = tmp_path / "run"
    process = python(code, run, corpus)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 9, problems
    assert not (run / "checkpoints/step-6").exists()
    submask.train(out=run, resume=True)
    submask.train(out=tmp_path / "whole", data=corpus, settings=TINY)
    assert weights(run) == weights(tmp_path / "whole")


class Rows:
    """What a dataset of Hugging Face is to us: rows that are dictionaries, one at a time, as often as one likes."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


def test_datasets_and_iterators_of_texts_train_as_files_do(corpus: Path, tmp_path: Path) -> None:
    submask.train(out=tmp_path / "file", data=corpus, settings=TINY)
    rows = [{"id": i, "text": text} for i, text in enumerate(texts())]
    given: dict[str, Any] = {"texts": iter(texts()), "rows": rows, "dataset": Rows(rows)}
    for name, data in given.items():
        submask.train(out=tmp_path / name, data=data, settings=TINY)
        assert weights(tmp_path / name) == weights(tmp_path / "file"), name
        left = {path.name for path in (tmp_path / name).iterdir()}
        assert left == {"checkpoints", "data", "metrics.jsonl", "settings.toml"}, name
    renamed = Rows([{"meta": {"body": text}} for text in texts()])
    submask.train(out=tmp_path / "renamed", data=renamed, field="meta.body", settings=TINY)
    assert weights(tmp_path / "renamed") == weights(tmp_path / "file")


def test_pairs_come_from_dictionaries(tmp_path: Path) -> None:
    rows = [{"question": f"{i} and {i % 7}: ", "answer": f"{i + i % 7}"} for i in range(300)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    field = ("question", "answer")
    submask.train(out=tmp_path / "file", data=file, field=field, settings=TINY)
    submask.train(out=tmp_path / "rows", data=Rows(rows), field=field, settings=TINY)
    assert weights(tmp_path / "file") == weights(tmp_path / "rows")


def test_a_run_on_a_dataset_resumes_with_and_without_it(tmp_path: Path) -> None:
    run, rows = tmp_path / "run", Rows([{"text": text} for text in texts()])
    short = TINY | {"train.steps": 3}
    submask.train(out=run, data=rows, valid=iter(texts(20)), settings=short)
    other = Rows([*rows, {"text": "more"}])
    with pytest.raises(InvalidError, match="those with which the run began") as raised:
        submask.train(out=run, data=other, resume=True)
    assert raised.value.field == "data"
    with pytest.raises(InvalidError) as raised:
        submask.train(out=run, data=rows, valid=iter(texts(21)), resume=True)
    assert raised.value.field == "valid"
    again = submask.train(out=run, data=rows, valid=iter(texts(20)), resume=True, settings={"train.steps": 4})
    assert again.step == 4
    assert submask.train(out=run, resume=True, settings={"train.steps": 6}).step == 6


def test_texts_are_never_all_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    from submask._data import Spool, Texts, records

    text, count = "a" * 1_000_000, 40
    how = Texts([], [], "", ("text", "", ""), False, "auto")
    tracemalloc.start()
    try:
        with Spool(tmp_path / "data") as spool:
            path = spool.write("data", "train", "jsonl", records("data", ({"text": text} for _ in range(count)), how))
            size = path.stat().st_size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > count * len(text) and peak < 10 * len(text)
    assert list(tmp_path.iterdir()) == []


class OfToStr:
    """What `tokenizers.Tokenizer` is to us."""

    def __init__(self, text: str) -> None:
        self.text = text

    def to_str(self, pretty: bool = False) -> str:
        return self.text


class OfTransformers:
    """What a fast tokenizer of transformers is to us."""

    def __init__(self, text: str, eos_token: str) -> None:
        self.backend_tokenizer = OfToStr(text)
        self.eos_token = eos_token


@pytest.fixture
def tokenizer_file(corpus: Path, tmp_path: Path) -> Path:
    prepared = submask.prepare(corpus, tmp_path / "prepared", tokenizer={"kind": "bpe", "vocab_size": 280})
    assert prepared.vocab_size == 280
    return prepared.folder / "tokenizer.json"


def test_tokenizers_are_taken_as_objects(corpus: Path, tmp_path: Path, tokenizer_file: Path) -> None:
    text = tokenizer_file.read_text()
    tiny = {key: value for key, value in TINY.items() if key != "tokenizer.kind"}
    given = {"file": tokenizer_file, "object": OfToStr(text), "fast": OfTransformers(text, "<|endoftext|>")}
    runs = {}
    for name, tokenizer in given.items():
        submask.train(out=tmp_path / name, data=corpus, tokenizer=tokenizer, settings=tiny)
        runs[name] = weights(tmp_path / name)
        assert not (tmp_path / name / ".data.spool").exists()
    assert runs["file"] == runs["object"] == runs["fast"]
    again = submask.train(out=tmp_path / "object", tokenizer=OfToStr(text), resume=True, settings={"train.steps": 7})
    assert again.step == 7
    with pytest.raises(InvalidError) as raised:
        submask.train(out=tmp_path / "object", tokenizer=OfToStr(text + " "), resume=True)
    assert raised.value.field == "tokenizer"


def test_a_tokenizer_of_the_package_tokenizers_is_taken(corpus: Path, tmp_path: Path, tokenizer_file: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    prepared = submask.prepare(corpus, tmp_path / "again", tokenizer=tokenizer)
    assert prepared.vocab_size == 280
    first = submask.prepare(corpus, tmp_path / "file", tokenizer=tokenizer_file)
    assert prepared.train_tokens == first.train_tokens


def test_prepared_data_are_made_once_and_trained_on(program: Path, corpus: Path, tmp_path: Path) -> None:
    told: list[events.Event] = []
    rows = Rows([{"text": text} for text in texts()])
    settings = {"model.seq_len": 16}
    first = submask.prepare(rows, tmp_path / "rows", tokenizer="bytes", settings=settings, callback=told.append)
    assert not first.reused and {event.phase for event in told if isinstance(event, events.Preparing)} >= {"survey", "tokenize"}
    assert submask.prepare(rows, tmp_path / "rows", tokenizer="bytes", settings=settings).reused
    with pytest.raises(submask.errors.FormatError, match="rebuild"):
        submask.prepare(Rows(rows.rows[1:]), tmp_path / "rows", tokenizer="bytes", settings=settings)
    command: list[str | Path] = [program, "data", "prepare", "--data", corpus, "--out", tmp_path / "theirs"]
    command += flags({"tokenizer.kind": "bytes", **settings})
    subprocess.run(command, check=True, capture_output=True)
    names = sorted(path.name for path in first.folder.glob("*.tokens"))
    assert names and all((first.folder / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes() for name in names)
    assert first.notes and not any("--" in note for note in first.notes)
    assert first.description["train"]["tokens"] == first.train_tokens > 0 and first.valid_tokens
    again = submask.prepare(Rows(rows.rows[1:]), first.folder, tokenizer="bytes", settings=settings, rebuild=True)
    assert not again.reused and again.train_tokens < first.train_tokens
    assert submask.train(out=tmp_path / "run", data=first.folder, settings=TINY).step == 6
    assert not list(tmp_path.glob(".*"))


def raises(tmp_path: Path, named: str, allowed: str, /, **arguments: Any) -> InvalidError:
    with pytest.raises(InvalidError) as raised:
        submask.train(out=tmp_path / "refused", **arguments)
    assert raised.value.field == named, raised.value
    assert allowed in str(raised.value), raised.value
    assert "--" not in str(raised.value), raised.value
    assert not (tmp_path / "refused").exists()
    return raised.value


@pytest.mark.parametrize(
    ("field", "allowed", "settings"),
    [
        ("train.stepz", "did you mean `train.steps`", {"train.stepz": 3}),
        ("train.steps", "at least 1", {"train.steps": 0}),
        ("train.steps", "a whole number", {"train.steps": "many"}),
        ("train.steps", "a value", {"train.steps": None}),
        ("train.steps", "from -9223372036854775808", {"train.steps": 2**70}),
        ("train.adamw", "name a key of it", {"train.adamw": 1}),
        ("train.objective", "joint", {"train.objective": "best"}),
        ("data.field", "valid Unicode", {"data.field": "\ud800"}),
        ("train.steps", "text, a number", {"train.steps": object()}),
        ("settings", "a key such as", {"train..steps": 1}),
        ("settings", "a mapping", [("train.steps", 1)]),
        ("model.hidden", "every head has an even width", {"model.heads": 5}),
    ],
)
def test_refused_settings_name_the_key(tmp_path: Path, field: str, allowed: str, settings: Any) -> None:
    raises(tmp_path, field, allowed, settings=settings)


def test_refused_arguments_name_themselves(corpus: Path, tmp_path: Path) -> None:
    error = raises(tmp_path, "preset", "did you mean `dictionary`", preset="dictionry")
    assert error.given == "dictionry"
    raises(tmp_path, "data", "one of its parts", data={"train": [], "test": []})
    raises(tmp_path, "data", "paths, or an iterable", data=7)
    raises(tmp_path, "data[1]", "a field 'text' in each", data=[{"text": "a"}, {"body": "b"}], settings=TINY)
    raises(tmp_path, "data[0]", "texts, or dictionaries", data=[1, 2], settings=TINY)
    raises(tmp_path, "data[0]", "dictionaries with 'q' and 'a'", data=iter(["a"]), field=("q", "a"), settings=TINY)
    raises(tmp_path, "data[0]", "dictionaries with texts", data=[{"text": b"a"}], settings=TINY)
    raises(tmp_path, "data", "files and folders", preset="emoji", data=[{"text": "a"}])
    raises(tmp_path, "field", "a pair of names", data=corpus, field=3)
    raises(tmp_path, "tokenizer", "a tokenizers.Tokenizer", data=corpus, tokenizer=3)
    raises(tmp_path, "device", "auto, cpu, or gpu:N", device="tpu")
    raises(tmp_path, "precision", "fp32, tf32 or bf16", precision="fp8")
    raises(tmp_path, "out", "leave out resume=True to start it", resume=True)
    raises(tmp_path, "data.paths", "two values", data=corpus, settings={"data.paths": ["other"]})


def test_a_run_is_never_overwritten(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    submask.train(out=run, data=corpus, settings=TINY | {"train.steps": 1})
    before = weights(run, 1)
    with pytest.raises(InvalidError) as raised:
        submask.train(out=run, data=iter(texts()), settings=TINY)
    assert raised.value.field == "out" and "resume" in str(raised.value)
    with pytest.raises(InvalidError) as raised:
        submask.train(out=run, resume=True, settings={"train.steps": 1, "model.hidden": 32})
    assert raised.value.field == "model"
    assert weights(run, 1) == before


def test_an_exception_of_the_iterable_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "one"
        raise OSError("the line is down")

    with pytest.raises(OSError, match="the line is down"):
        submask.train(out=tmp_path / "deep" / "run", data=broken(), settings=TINY)
    assert list(tmp_path.iterdir()) == []


def test_notes_on_settings_are_warnings(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "old.toml"
    config.write_text("[tokenizer]\nvocab_size = 300\n")
    with pytest.warns(UserWarning, match="has no effect: tokenizer.kind is bytes"):
        submask.train(out=tmp_path / "run", config=config, data=corpus, settings=TINY | {"train.steps": 1})
