"""What a model says of itself, what it refuses and in which words, and how it is used by threads."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import submask
from as_program import said
from submask.errors import FormatError, InvalidError, SubmaskError
from submask.figures import Exact, Surrogate, UpperBound

#: What is asked of a model.
Asked = Callable[[Any], Any]


def test_a_model_says_what_it_is(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    assert (model.subject, model.subtoken_len, model.seq_len, model.block_len) == ("text", 4, 16, 0)
    assert model.mask_id == model.base and model.base**4 >= model.vocab_size == 257
    assert (model.is_autoregressive, model.is_of_pairs, model.classes, model.image_shape) == (False, False, None, None)
    assert model.path.endswith("prime/checkpoints/step-4") and repr(model).startswith(f"Model({model.path!r}, text, diffusion, ")
    assert model.info["kind"] == "run" and model.parameters == model.info["parameters"]
    images = submask.Model.open(models / "classes")
    assert (images.subject, images.image_shape, images.tokenizer) == ("images", (8, 8, 1), None)
    assert images.classes == [str(n) for n in range(10)]
    assert submask.Model.open(models / "points").subject == "points"
    assert submask.Model.open(models / "autoregressive").is_autoregressive
    assert submask.Model.open(models / "mdm").reads_time
    assert submask.Model.open(models / "blocks").block_len == 4
    assert submask.Model.open(models / "pairs").is_of_pairs
    same = submask.Model.from_pretrained(models / "prime", checkpoint=4)
    assert same.sample().texts == model.sample().texts


def test_a_tokenizer_encodes_and_decodes(models: Path) -> None:
    tokenizer = submask.Model.open(models / "encoder").tokenizer
    assert tokenizer is not None
    tokens = tokenizer.encode("a ship für 船")
    assert tokens.dtype == np.uint32 and tokenizer.decode(tokens) == "a ship für 船" == tokenizer.decode(tokens.tolist())
    assert len(tokenizer) == tokenizer.vocab_size and tokenizer.is_lossless
    assert tokenizer.end_of_text is not None
    assert tokenizer.decode([tokenizer.end_of_text], "<end>") == "<end>"
    assert "".join(tokenizer.token_text(int(token)) for token in tokenizer.encode("wave")) == "wave"
    for tokens_of_none in ([tokenizer.vocab_size], [[1, 2]], [-1]):
        with pytest.raises(InvalidError) as raised:
            tokenizer.decode(tokens_of_none)
        assert raised.value.field in ("token", "tokens")
    with pytest.raises(InvalidError):
        tokenizer.token_text(-1)


def test_scores_and_figures_say_what_they_are(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    bound, exact = model.score("the sea"), model.score("the sea", estimator="exact")
    surrogate = model.score("the sea", estimator="joint-objective")
    assert [type(score.figure) for score in (bound, exact, surrogate)] == [UpperBound, Exact, Surrogate]
    assert [score.kind for score in (bound, exact, surrogate)] == ["upper_bound", "exact", "surrogate"]
    assert exact.by_token is not None and bound.by_token is None
    assert abs(sum(term.nats for term in exact.by_token) - exact.nats) < 1e-9
    assert exact.perplexity == np.exp(exact.nats / exact.tokens) and exact.standard_error == 0
    assert bound.standard_error is not None and bound.standard_error > 0
    assert not hasattr(surrogate, "perplexity")
    evaluation = model.evaluate(sequences=3)
    assert [figure.unit for figure in evaluation] == ["bits per character", "nats per token", "perplexity per token"]
    assert evaluation["nats per token"] is evaluation[1] and evaluation.kind == "upper_bound" and len(evaluation) == 3
    assert evaluation[1].value == evaluation.nats.sum() / evaluation.tokens.sum()
    with pytest.raises(KeyError, match="bits per character"):
        evaluation["bits"]
    assert not hasattr(model.evaluate(sequences=3, estimator="joint-objective")[0], "perplexity")
    assert model.score([]) == []


REFUSED: list[tuple[str, Asked, str, str | None, str]] = [
    ("prime", lambda model: model.sample(steps=-1), "steps", "-1", "at least 0"),
    ("prime", lambda model: model.sample(steps="many"), "steps", "'many'", "first-hitting"),
    ("prime", lambda model: model.sample(num=0), "num", "0", "at least 1"),
    ("prime", lambda model: model.sample(num=2.5), "num", "2.5", "whole number"),
    ("prime", lambda model: model.sample(top_p=2), "top_p", "2", "(0, 1]"),
    ("prime", lambda model: model.sample(temperature="hot"), "temperature", "'hot'", "number"),
    ("prime", lambda model: model.sample(temprature=1), "temprature", "1", "temperature"),
    ("prime", lambda model: model.sample(order="sideways"), "order", "'sideways'", "entropy"),
    ("prime", lambda model: model.sample(unit="words"), "unit", "'words'", "tokens"),
    ("prime", lambda model: model.sample(seed=-1), "seed", "-1", "0 to"),
    ("prime", lambda model: model.sample(carry_over="yes"), "carry_over", "'yes'", "True or False"),
    ("prime", lambda model: model.sample(prompt=3), "prompt", "3", "text"),
    ("prime", lambda model: model.sample(prompt="[[x]]"), "prompt", None, "not a hole"),
    ("prime", lambda model: model.sample(length=99), "length", "99", "16"),
    ("prime", lambda model: model.sample(steps=8, order="margin"), "steps", "8", "per_step"),
    ("prime", lambda model: model.sample(label=1), "label", "1", "model is of text"),
    ("prime", lambda model: model.sample(window="cached"), "window", "'cached'", "block_len"),
    ("prime", lambda model: model.sample(nucleus="exclusive", top_p=1), "nucleus", "'exclusive'", "top_p"),
    ("prime", lambda model: model.infill(), "template", "none", "holes"),
    ("prime", lambda model: model.infill(given=np.zeros((8, 8, 3), np.uint8), keep_digits=1), "given", None, "images"),
    ("prime", lambda model: model.stream(steps=8, order="margin"), "steps", "8", "per_step"),
    ("prime", lambda model: model.stream(mask=np.zeros((8, 8), bool)), "mask", "given", "given"),
    ("images", lambda model: model.sample(prompt="a"), "prompt", "'a'", "images"),
    ("images", lambda model: model.infill(given=np.zeros((8, 9, 3), np.uint8), keep_digits=1), "given", "uint8 [8, 9, 3]", "[8, 8, 3]"),
    ("images", lambda model: model.infill(given=np.zeros((8, 8, 3)), keep_digits=1), "given", "float64 [8, 8, 3]", "uint8"),
    ("images", lambda model: model.infill(given=np.zeros((8, 8, 3), np.uint8)), "given", None, "keep_digits"),
    ("images", lambda model: model.infill(given=np.zeros((8, 8, 3), np.uint8), mask=np.zeros((9, 8), bool)), "mask", "bool [9, 8]", "[8, 8]"),
    ("images", lambda model: model.infill(given=np.zeros((8, 8, 3), np.uint8), mask=np.zeros((8, 8), np.uint8)), "mask", "uint8 [8, 8]", "bool"),
    ("images", lambda model: model.infill(given=np.zeros((8, 8, 3), np.uint8), keep_digits=9), "keep_digits", "9", "2 digits"),
    ("images", lambda model: model.score("a"), "model", "one of images", "text"),
    ("images", lambda model: model.evaluate(np.zeros((2, 8, 9, 3), np.uint8)), "data", "uint8 [8, 9, 3]", "[8, 8, 3]"),
    ("images", lambda model: model.evaluate(np.zeros((2, 8, 8, 3), np.uint8), labels=[0, 1]), "labels", "given", "no classes"),
    ("images", lambda model: model.evaluate(split="line", data="x"), "split", "'line'", "text"),
    ("classes", lambda model: model.evaluate(np.zeros((2, 8, 8, 1), np.uint8)), "labels", "none", "0 to 9"),
    ("classes", lambda model: model.evaluate(np.zeros((2, 8, 8, 1), np.uint8), labels=[0, 10]), "labels", "10", "0 to 9"),
    ("classes", lambda model: model.evaluate(np.zeros((2, 8, 8, 1), np.uint8), labels=[0]), "labels", "1", "each of 2"),
    ("classes", lambda model: model.sample(label="ten"), "label", "'ten'", "mixture"),
    ("autoregressive", lambda model: model.sample(steps=3), "steps", "3", "autoregressive"),
    ("autoregressive", lambda model: model.score("a", estimator="path"), "estimator", "'path'", "exact"),
    ("prime", lambda model: model.score(""), "texts", "of no tokens", "at least one token"),
    ("prime", lambda model: model.score(["a", ""]), "texts[1]", "of no tokens", "at least one token"),
    ("prime", lambda model: model.score(["a", 3]), "texts[1]", "3", "pair"),
    ("prime", lambda model: model.score([("a", "b")], prompt="c"), "prompt", "'c'", "its own"),
    ("prime", lambda model: model.score("a", estimator="elbo"), "estimator", "'elbo'", "nelbo-subtoken"),
    ("prime", lambda model: model.score("a", draws=4, estimator="exact"), "draws", "4", "leave out"),
    ("prime", lambda model: model.score("a", stride=16), "stride", "16", "1 to 15"),
    ("prime", lambda model: model.evaluate(np.zeros((2, 40), int)), "data", "40", "16"),
    ("prime", lambda model: model.evaluate(np.full((2, 8), 300)), "data", "300", "0 to 256"),
    ("prime", lambda model: model.evaluate(np.zeros((2, 8))), "data", "float64 [2, 8]", "whole numbers"),
    ("prime", lambda model: model.evaluate([[1, 2], [3]]), "data", None, "one length"),
    ("prime", lambda model: model.evaluate([]), "data", "nothing", "at least one"),
    ("prime", lambda model: model.evaluate(splitt="line"), "splitt", "'line'", "split"),
    ("prime", lambda model: model.evaluate(sequences=0), "sequences", "0", "at least 1"),
    ("prime", lambda model: model.evaluate(order="margin"), "order", "'margin'", "exact"),
    ("pairs", lambda model: model.evaluate(np.zeros((2, 16), int)), "data", "uint32 [2, 16]", "completion"),
    ("prime", lambda model: model.logits(np.zeros((2, 8, 3), int)), "y_t", "int64 [2, 8, 3]", "4"),
    ("prime", lambda model: model.logits(np.zeros((2, 8, 4))), "y_t", "float64 [2, 8, 4]", "4"),
    ("prime", lambda model: model.logits(np.full((2, 8, 4), 99)), "y_t", "99", "where one is masked"),
    ("prime", lambda model: model.logits(np.zeros((2, 17, 4), int)), "sequence length", "17", "16"),
    ("prime", lambda model: model.logits(np.zeros((2, 8, 4), int), positions=[16]), "positions", "16", "0 to 15"),
    ("prime", lambda model: model.logits(np.zeros((2, 8, 4), int), t=0.5), "time", "0.5", "does not read"),
    ("prime", lambda model: model.logits(np.zeros((2, 8, 4), int), labels=1), "labels", "given", "no labels"),
    ("mdm", lambda model: model.logits(np.zeros((2, 8, 1), int), t=[0.1, 0.2, 0.3]), "t", "float64 [3]", "[2]"),
    ("mdm", lambda model: model.logits(np.zeros((2, 8, 1), int), t=1.5), "t", "1.5 in float64 []", "0 to 1"),
    ("autoregressive", lambda model: model.logits(np.zeros((1, 4, 2), int), positions=[0]), "positions", "given", "none"),
]


@pytest.mark.parametrize(("name", "asked", "field", "given", "allowed"), REFUSED)
def test_what_is_refused_says_field_given_and_allowed(
    models: Path, name: str, asked: Asked, field: str, given: str | None, allowed: str
) -> None:
    with pytest.raises(InvalidError) as raised:
        asked(submask.Model.open(models / name))
    error = raised.value
    assert error.field == field, str(error)
    assert given is None or error.given == given, str(error)
    assert allowed in str(error.allowed), f"{error} | {error.allowed}"
    assert "--" not in str(error) and field in str(error)


def test_what_is_no_model_is_refused(models: Path, tmp_path: Path) -> None:
    for path, said in [(tmp_path / "no", "does not exist"), (tmp_path, "neither a model"), (models, "neither a model")]:
        with pytest.raises(SubmaskError, match=said):
            submask.Model.open(path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FormatError, match="config.json"):
        submask.Model.open(tmp_path)
    wrong: list[dict[str, Any]] = [{"checkpoint": 3}, {"checkpoint": "last"}, {"device": "tpu"}, {"precision": "fp8"}]
    for arguments in wrong:
        with pytest.raises(InvalidError) as raised:
            submask.Model.open(models / "prime", **arguments)
        assert raised.value.field in arguments, str(raised.value)
    with pytest.raises(InvalidError, match="revision"):
        submask.Model.from_pretrained(models / "prime", revision="main")


def test_a_checkpoint_of_another_program_is_imported(program: Path, models: Path, tmp_path: Path) -> None:
    said(program, "export", models / "blocks", "--format", "reference", "--to", str(tmp_path / "bd3lm"))
    model, other = submask.Model.open(models / "blocks"), submask.Model.open(tmp_path / "bd3lm")
    assert other.block_len == model.block_len and other.info["kind"] == "foreign checkpoint"
    states = np.full((2, 16, 1), model.mask_id, np.uint32)
    assert (other.logits(states) == model.logits(states)).all()
    tokens = np.arange(96).reshape(6, 16)
    assert other.evaluate(tokens).nats.tolist() == model.evaluate(tokens).nats.tolist()
    with pytest.raises(SubmaskError, match="in no run"):
        other.evaluate()
    with pytest.raises(InvalidError, match="no run"):
        submask.Model.open(tmp_path / "bd3lm", checkpoint="best")
    said(program, "export", models / "encoder", "--to", str(tmp_path / "encoder"))
    with pytest.raises(InvalidError, match="`import` of the program") as raised:
        submask.Model.open(tmp_path / "encoder" / "model.safetensors")
    assert raised.value.field == "model.heads, model.seq_len, codes.carry_over"


def test_others_have_the_interpreter_while_a_model_computes(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    turns = [0]
    end = threading.Event()

    def count() -> None:
        while not end.wait(0.001):
            turns[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    works: list[Callable[[], Any]] = [
        lambda: model.sample(200, steps="first-hitting"),
        lambda: model.evaluate(np.zeros((500, 16), int), draws=4),
        lambda: model.score(["the sea"] * 100),
        lambda: model.logits(np.zeros((3000, 16, 4), int)),
    ]
    for work in works:
        before, start = turns[0], time.monotonic()
        work()
        took = time.monotonic() - start
        # Of a thread that holds the interpreter they would be none.
        assert turns[0] - before > took * 1000 / 50, (turns[0] - before, took)
    end.set()
    counter.join()


def test_a_closed_model_answers_nothing(models: Path) -> None:
    with submask.Model.open(models / "prime") as model:
        assert len(model.sample()) == 1
    closed: list[Callable[[], Any]] = [
        model.sample,
        model.stream,
        model.evaluate,
        lambda: model.score("a"),
        lambda: model.logits(np.zeros((1, 4), int)),
    ]
    for asked in closed:
        with pytest.raises(InvalidError, match="closed"):
            asked()
    assert repr(model).endswith(", closed)")
    assert model.tokenizer is not None and model.tokenizer.decode(model.tokenizer.encode("a")) == "a"
    model.close()


def test_models_are_not_pickled_and_samples_are(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    for refused in (model, model.tokenizer):
        for copied in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="by its path|Model.open"):
                copied(refused)
    samples, score, events = model.sample(2, trace=True), model.score("a"), list(model.stream())
    again = pickle.loads(pickle.dumps((samples, score, events)))
    assert again[0].texts == samples.texts and again[1] == score and repr(again[2]) == repr(events)


def test_threads_get_what_one_after_the_other_gets(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    expected = [model.sample(2, seed=seed).texts for seed in range(4)]
    nats = model.score("the sea").nats
    got: dict[int, Any] = {}

    def work(seed: int) -> None:
        own = [model.sample(2, seed=seed).texts for _ in range(3)]
        got[seed] = own, model.score("the sea").nats

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {seed: ([expected[seed]] * 3, nats) for seed in range(4)}


def test_strided_and_read_only_arrays_are_taken(models: Path) -> None:
    model = submask.Model.open(models / "prime")
    states = np.full((4, 8, 4), model.mask_id, np.uint32)
    states.setflags(write=False)
    logits = model.logits(states)
    assert (model.logits(states[::2]) == logits[::2]).all()
    assert (model.logits(np.asfortranarray(states)) == logits).all()
    assert (model.logits(states.astype(">u4")) == logits).all()
    tokens = np.arange(64, dtype=np.uint8).reshape(4, 16)
    assert model.evaluate(tokens[:, ::2]).nats.tolist() == model.evaluate(tokens[:, ::2].astype(np.uint32)).nats.tolist()
