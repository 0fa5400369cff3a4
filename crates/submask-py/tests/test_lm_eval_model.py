"""The harness's model, asked as the harness asks. Where the harness is not installed, a few lines stand for it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import small_runs
import submask
from submask._harness import is_decided, sample_number


class Registry(dict[str, Any]):
    def register(self, name: str, *, target: str) -> None:
        self[name] = target


class Hook:
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def add_partial(self, *answer: Any) -> None:
        self.kept.append(answer)


class LM:
    def __init__(self) -> None:
        self.cache_hook = Hook()


class Bar(list[Any]):
    """What `tqdm` gives."""

    def __init__(self, items: Any = (), **_: Any) -> None:
        super().__init__(items)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, _: int) -> None:
        return None


@pytest.fixture(scope="module")
def harness() -> Iterator[Any]:
    """The module `submask.lm_eval`."""
    names = ("lm_eval", "lm_eval.api", "lm_eval.api.model", "lm_eval.api.registry", "lm_eval.models", "lm_eval.utils", "tqdm")
    stands_in = importlib.util.find_spec("lm_eval") is None
    if stands_in:
        modules = {name: ModuleType(name) for name in names}
        vars(modules["lm_eval.api.model"])["LM"] = LM
        vars(modules["lm_eval.api.registry"])["model_registry"] = Registry()
        vars(modules["lm_eval.utils"])["simple_parse_args_string"] = lambda text: dict(pair.split("=") for pair in text.split(","))
        vars(modules["tqdm"])["tqdm"] = Bar
        sys.modules.update(modules)
    try:
        import submask.lm_eval

        yield submask.lm_eval
    finally:
        if stands_in:
            for name in (*names, "submask.lm_eval"):
                sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def runs(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs."""
    folder = tmp_path_factory.mktemp("runs")
    return small_runs.write(program, folder, "dictionary", "baseline", "dictionary-block", "emoji") / "runs"


def request(*arguments: Any) -> Any:
    return SimpleNamespace(args=arguments, task_name="a task", doc_id=0)


PAIRS = [("lantern: ", "A light."), ("sea:", " Deep"), ("", "ship: "), ("rope:\n \n", "Old.")]


def test_spaces_move_to_the_continuation(harness: Any, runs: Path) -> None:
    model = submask.Model.open(runs / "dictionary")
    told = harness.SubmaskLM(model).loglikelihood([request(*pair) for pair in PAIRS])
    moved = [("lantern:", " A light."), ("sea:", " Deep"), ("", "ship: "), ("rope:", "\n \nOld.")]
    assert told == [(-score.nats, False) for score in model.score(moved)]


@pytest.mark.parametrize("name", ["dictionary", "baseline", "dictionary-block"])
def test_neither_batch_nor_company_changes_an_answer(harness: Any, runs: Path, name: str) -> None:
    asked = [request(*pair) for pair in PAIRS]
    written = [request(context, {"until": ".", "max_gen_toks": 9, "temperature": 0.9}) for context, _ in PAIRS]
    one, many = harness.SubmaskLM(runs / name, batch_size=1), harness.SubmaskLM(runs / name, batch_size="auto")
    assert one.loglikelihood(asked) == many.loglikelihood(asked[::-1])[::-1]
    assert one.loglikelihood(asked[1:2]) == many.loglikelihood(asked)[1:2]
    assert one.generate_until(written) == many.generate_until(written[::-1])[::-1]
    texts = [request(small_runs.words()[:400]), request("sea: Deep.")]
    assert one.loglikelihood_rolling(texts) == many.loglikelihood_rolling(texts[::-1])[::-1]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("baseline", {}),
        ("dictionary", {"estimator": "exact"}),
        ("dictionary", {"estimator": "exact", "order": "confidence", "unit": "digits", "per_step": 2}),
        ("dictionary-block", {"estimator": "exact"}),
    ],
)
def test_what_is_written_at_temperature_0_is_greedy(harness: Any, runs: Path, name: str, settings: dict[str, Any]) -> None:
    lm = harness.SubmaskLM(runs / name, **settings)
    order = {"order": "left-to-right", "unit": "tokens"} | {k: v for k, v in settings.items() if k != "estimator"}
    order = {} if name == "baseline" else order
    begin, given = lm.model.tokenizer.encode("lantern:"), 1
    samples = lm.model.sample(1, prompt="lantern:", length=given + len(begin) + 5, temperature=0.0, **order)
    written = samples.texts[0].removeprefix("lantern:")
    other = " ship" if not written.startswith(" ship") else " lantern"
    # A text has to be encoded to the tokens that were written.
    assert list(lm.model.tokenizer.encode(written)) == list(samples.tokens[0][given + len(begin) :])
    assert [greedy for _, greedy in lm.loglikelihood([request("lantern:", written), request("lantern:", other)])] == [
        True,
        False,
    ]
    assert lm.loglikelihood([request("lantern:", written)])[0][1]
    off = harness.SubmaskLM(runs / name, greedy=False, **settings)
    assert not off.loglikelihood([request("lantern:", written)])[0][1]


def test_a_text_is_written_behind_its_context(harness: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = harness.SubmaskLM(runs / "dictionary")
    tokenizer, sample, drawn = lm.model.tokenizer, submask.Model.sample, []

    def kept(model: submask.Model, num: int, **settings: Any) -> submask.Samples:
        samples = sample(model, num, **settings)
        drawn.append(list(samples.tokens[0]))
        return samples

    monkeypatch.setattr(submask.Model, "sample", kept)
    begin = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    for context in ["lantern:", "", "a [[3]] b [", "\\[[", "[[["]:
        (text,) = lm.generate_until([request(context, {"until": [], "max_gen_toks": 6, "do_sample": False})])
        (again,) = lm.generate_until([request(context, {"max_gen_toks": 6})])
        assert text == again
        given = [*begin, *tokenizer.encode(context)]
        for tokens in drawn:
            assert tokens[: len(given)] == given
            assert len(tokens) == len(given) + 6
            assert tokenizer.decode(tokens[len(begin) :]) == context + text
        drawn.clear()


@pytest.mark.parametrize(("name", "longest"), [("dictionary", 50), ("baseline", 60), ("dictionary-block", 150)])
def test_texts_end_before_the_first_end(harness: Any, runs: Path, name: str, longest: int) -> None:
    lm = harness.SubmaskLM(runs / name)
    for n, context in enumerate(["sea:", "rope", "a wind"]):
        settings = {"max_gen_toks": longest, "temperature": 1.0}
        (whole,) = lm.generate_until([request(context, settings)])
        at = len(whole) // (n + 1) - 5
        ends = [whole[at : at + 2], whole[at + 1 : at + 4], whole[at + 3 :], ""]
        (cut,) = lm.generate_until([request(context, settings | {"until": ends})])
        assert cut == min((whole[: whole.find(end)] for end in ends if end), key=len)


def test_no_more_is_generated_than_is_read(harness: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = harness.SubmaskLM(runs / "baseline")
    settings = {"max_gen_toks": 59, "temperature": 1.0}
    (whole,) = lm.generate_until([request("sea:", settings)])
    lengths: list[int] = []
    sample = submask.Model.sample

    def counted(model: submask.Model, num: int, *, length: int, **others: Any) -> submask.Samples:
        lengths.append(length)
        return sample(model, num, length=length, **others)

    monkeypatch.setattr(submask.Model, "sample", counted)
    assert lm.generate_until([request("sea:", settings | {"until": whole[3:5]})]) == [whole[: whole.find(whole[3:5])]]
    assert lengths == [1 + len(lm.model.tokenizer.encode("sea:")) + 32]


def test_an_end_that_is_not_whole_may_still_be_the_first() -> None:
    assert not is_decided("the abc", ["abcd", "c"])
    assert is_decided("the abc d", ["abcd", "c"])
    assert not is_decided("the ab", ["c"])


def test_a_model_of_pairs_answers_as_it_was_trained(harness: Any, models: Path) -> None:
    lm = harness.SubmaskLM(models / "pairs")
    asked = [("ship", " sea"), ("the", " wind")]
    scores = lm.model.score(asked)
    assert lm.loglikelihood([request(*pair) for pair in asked]) == [(-score.nats, False) for score in scores]
    (text,) = lm.generate_until([request("ship", {"max_gen_toks": 2})])
    # The sequence is as long as in training, whatever is wanted of it.
    number = sample_number("ship", {"temperature": 0.0})
    (tokens,) = lm.model.sample(1, prompt="ship", temperature=0.0, first_sequence=number).tokens
    assert len(tokens) == lm.max_length
    assert text == lm.model.tokenizer.decode(tokens[5:7])


def test_a_repeated_request_gets_texts_of_its_own(harness: Any, runs: Path) -> None:
    lm = harness.SubmaskLM(runs / "dictionary")
    settings = {"max_gen_toks": 20, "do_sample": True, "temperature": 1.0}
    repeated, other = request("sea:", settings), request("sea:", settings)
    first, second, third = lm.generate_until([repeated, repeated, other])
    assert first != second and first == third
    seeded = harness.SubmaskLM(runs / "dictionary", seed=1)
    assert seeded.generate_until([other]) != [first]


def test_a_text_ends_where_the_model_ends(harness: Any, runs: Path) -> None:
    settings = {"max_gen_toks": 500, "do_sample": True, "temperature": 1.0}
    lm = harness.SubmaskLM(runs / "dictionary")
    (text,) = lm.generate_until([request("sea: deep ", settings)])
    assert 0 < len(lm.model.tokenizer.encode(text)) < 64
    blocks = harness.SubmaskLM(runs / "dictionary-block")
    longer = blocks.generate_until([request(f"{n}:", settings | {"max_gen_toks": 100}) for n in range(8)])
    assert max(len(blocks.model.tokenizer.encode(text)) for text in longer) > 64 - 3


def test_a_text_without_tokens_costs_nothing(harness: Any, runs: Path) -> None:
    lm = harness.SubmaskLM(runs / "dictionary")
    assert lm.loglikelihood_rolling([request(""), request("sea")])[0] == 0.0


def test_what_was_answered_is_kept(harness: Any, runs: Path) -> None:
    lm = harness.SubmaskLM(runs / "dictionary", draws=1)
    lm.cache_hook = Hook()
    asked = [request(*pair) for pair in PAIRS[:2]]
    answers = lm.loglikelihood(asked)
    assert lm.cache_hook.kept == [("loglikelihood", pair, answer) for pair, answer in zip(PAIRS, answers)]


def test_the_model_says_what_its_numbers_are(harness: Any, runs: Path) -> None:
    lm = harness.SubmaskLM(runs / "dictionary", draws=2, seed=4)
    lm.loglikelihood([request(*PAIRS[0])])
    told = {"draws": 2, "seed": 4, "kinds": ["upper_bound"], "estimators": ["nelbo_subtoken"]}
    assert lm.get_model_info() == {"submask": told}


@pytest.mark.parametrize(
    ("arguments", "field", "told"),
    [
        ({"stepz": 3}, "stepz", "did you mean steps?"),
        ({"pretrained": "gpt2"}, "pretrained", "model_args are batch_size, carry_over"),
        ({"estimator": "joint-objective"}, "estimator", "has no perplexity"),
        ({"batch_size": 0}, "batch_size", "at least 1"),
        ({"batch_size": 2.5}, "batch_size", "a whole number"),
        ({"greedy": "no"}, "greedy", "true or false"),
        ({"batch_size": 4, "max_batch_size": 8}, "max_batch_size", "batch_size=auto"),
        ({"max_gen_toks": "many"}, "max_gen_toks", "at least 1"),
    ],
)
def test_arguments_that_are_not_allowed_are_named(harness: Any, runs: Path, arguments: Any, field: str, told: str) -> None:
    with pytest.raises(submask.InvalidError, match=told.replace("?", r"\?")) as error:
        harness.SubmaskLM(runs / "dictionary", **arguments)
    assert error.value.field == field


def test_flags_of_the_harness_are_read_and_its_default_device_is_not(harness: Any, runs: Path) -> None:
    path = str(runs / "dictionary")
    flags = {"batch_size": "3", "max_batch_size": None, "device": "cuda:0"}
    assert harness.SubmaskLM.create_from_arg_obj({"path": path}, flags).batch_size == 3
    assert harness.SubmaskLM.create_from_arg_obj({"path": path, "batch_size": 5}, flags).batch_size == 5
    assert harness.SubmaskLM.create_from_arg_string(f"path={path}", flags).batch_size == 3
    with pytest.raises(submask.InvalidError, match="device = cuda:1"):
        harness.SubmaskLM.create_from_arg_obj({"path": path}, {"device": "cuda:1"})


def test_a_model_is_needed_and_has_to_be_one_of_text(harness: Any, runs: Path) -> None:
    with pytest.raises(submask.InvalidError, match="path is needed"):
        harness.SubmaskLM()
    with pytest.raises(submask.InvalidError, match="a model of text"):
        harness.SubmaskLM(runs / "emoji")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (("loglikelihood", "sea:", ""), "continuation"),
        (("loglikelihood", "sea " * 80, "deep"), "context"),
        (("loglikelihood", "sea:", " deep", {"visual": []}), "requests"),
        (("generate_until", "sea " * 80, {}), "context"),
        (("generate_until", "sea:", {"num_beams": 4}), "num_beams"),
        (("generate_until", "sea:", {"max_tokens": 0}), "max_gen_toks"),
    ],
)
def test_requests_that_cannot_be_answered_are_named_before_the_others(
    harness: Any, runs: Path, asked: tuple[Any, ...], field: str
) -> None:
    lm = harness.SubmaskLM(runs / "dictionary")
    kind, *arguments = asked
    with pytest.raises(submask.InvalidError) as error:
        getattr(lm, kind)([request(*arguments)])
    assert error.value.field == field


def test_with_a_stride_the_last_tokens_of_a_long_context_are_given(harness: Any, runs: Path) -> None:
    lm = harness.SubmaskLM(runs / "dictionary", stride=8)
    context = "sea " * 80
    ((told, _),) = lm.loglikelihood([request(context, "deep")])
    assert told == -lm.model.score([(context.rstrip(), " deep")], stride=8)[0].nats
