"""Models of this package in EleutherAI's lm-evaluation-harness (``pip install lm-eval``, 0.4.13 or newer).

From the harness's command line, where this package is installed::

    lm_eval --model submask --model_args path=runs/dictionary --tasks my_task --include_path tasks

or, where the harness does not know the name ``submask``, with the same arguments by ``python -m submask.lm_eval``.

A log-likelihood is −nats of :meth:`submask.Model.score`. Where that is an upper bound, as it is unless ``estimator=exact`` is given
or the model is autoregressive, the log-likelihood is a lower bound of the true one: a perplexity is an upper bound, and an accuracy
compares bounds, which favour what is bounded tightly. The harness does not know of this; the line that is logged and
``submask`` under ``config`` in the results do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ._arguments import invalid
from ._harness import (
    arguments_of,
    as_prompt,
    at_least_one,
    batch_of,
    is_decided,
    only_given,
    refuse_unknown,
    sample_number,
    spaces_moved,
    texts_of,
    up_to,
)
from .errors import InvalidError

try:
    import lm_eval.models  # fills the registry, which must have been done before a name is added
    from lm_eval.api.model import LM
    from lm_eval.api.registry import model_registry
    from lm_eval.utils import simple_parse_args_string
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(f"submask.lm_eval needs lm-evaluation-harness: pip install 'lm-eval>=0.4.13' ({error})") from None

from ._model import Model
from ._score import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SubmaskLM", "main", "register"]

# Below the harness's logger, whose handler shows it.
_log = logging.getLogger("lm_eval.submask")

#: Requests between two steps of the progress bar.
_AT_ONCE = 64

#: Tokens that are generated at first, where a text may end before it is as long as it may be.
_FIRST = 32

#: Other names of ``max_gen_toks``, as the harness has them.
_MAX_GEN_TOKS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")

#: What may stand in a task's ``generation_kwargs`` for :meth:`submask.Model.sample`.
_SAMPLING = (
    "carry_over",
    "corrector",
    "draw",
    "entropy_window",
    "min_entropy",
    "nucleus",
    "order",
    "per_step",
    "steps",
    "top_k",
    "top_p",
    "unit",
    "warp",
    "window",
)

_GENERATION = ("do_sample", "temperature", "until", *_MAX_GEN_TOKS, *_SAMPLING)


class SubmaskLM(LM):  # type: ignore[misc]  # The harness has no types.
    """A model of text, as the harness asks for it.

    Args:
        path: a model folder, a run, a checkpoint or a name ``hub://…``, as :meth:`submask.Model.open` takes it; or a
            :class:`submask.Model`.
        checkpoint: which checkpoint of a run: ``newest``, ``best`` or its step.
        estimator, order, unit, per_step, steps, draws, seed, carry_over, stride: as in :meth:`submask.Model.score`, with its defaults:
            ``nelbo-subtoken`` with 32 draws, and the exact value of an autoregressive model. ``joint-objective`` is refused: it is no
            likelihood. ``seed`` is also that of generated text.
        greedy: whether exact values come with ``is_greedy``, for which the continuation is generated. Otherwise it is false.
        max_gen_toks: how many tokens are generated where a task does not say it.
        batch_size: sequences per network call, or ``auto``; no result depends on it.
        max_batch_size: the most that ``auto`` may choose.
        device, precision: where and how the network computes, as in :meth:`submask.Model.open`.

    Raises:
        InvalidError: an argument that does not exist, or is not allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Model | None = None,
        *,
        checkpoint: str | int = "newest",
        estimator: str | None = None,
        order: str | None = None,
        unit: str | None = None,
        per_step: int | None = None,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = 0,
        carry_over: bool | None = None,
        stride: int | None = None,
        greedy: bool = True,
        max_gen_toks: int = 256,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        device: str = "cpu",
        precision: Literal["fp32", "tf32", "bf16"] = "fp32",
        **unknown: Any,
    ) -> None:
        super().__init__()
        refuse_unknown(unknown, _arguments(), "model_args")
        if path is None:
            allowed = "the folder of a model or of a run, as in --model_args path=runs/dictionary"
            raise InvalidError(f"path is needed: {allowed}", "path", None, allowed)
        if estimator is not None and str(estimator).replace("_", "-") == "joint-objective":
            allowed = "an estimator of a likelihood: the joint objective is a surrogate, and has no perplexity"
            raise invalid("estimator", estimator, allowed)
        self.batch_size = batch_of(batch_size, max_batch_size)
        self.max_gen_toks = at_least_one("max_gen_toks", max_gen_toks)
        self._seed = seed
        if not isinstance(greedy, bool):
            raise invalid("greedy", greedy, "true or false")
        self._wants_greedy = greedy
        #: What is said of the generator whose likelihood is estimated.
        self._generator = only_given(order=order, unit=unit, per_step=per_step, carry_over=carry_over)
        self._settings = {**only_given(estimator=estimator, steps=steps, draws=draws, stride=stride), **self._generator}
        if isinstance(path, Model):
            self.model = path
        else:
            where = path if isinstance(path, os.PathLike) else str(path)
            self.model = Model.open(where, checkpoint=checkpoint, device=device, precision=precision)
        if self.model.tokenizer is None:
            raise invalid("path", path, f"a model of text: this one is of {self.model.subject}")
        self._tokenizer = self.model.tokenizer
        self._kinds: set[str] = set()
        self._estimators: set[str] = set()
        self._said: set[str] = set()

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> SubmaskLM:
        """The model of the harness's ``--model_args``, and of ``--batch_size``, ``--max_batch_size`` and ``--device``.

        What stands in ``--model_args`` holds. ``cuda:0`` is the harness's default, given or not, and therefore not read: a GPU is asked
        for as ``device=gpu:0``.
        """
        told = only_given(**(additional_config or {}))
        if told.get("device") == "cuda:0":
            del told["device"]
        return cls(**{**told, **arg_dict})

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> SubmaskLM:
        """The same, of one text ``key=value,key=value``."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    # What the harness asks

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihoods of continuations, and whether the model would have written them.

        Spaces at the end of a context are moved to the continuation, as the harness does; then both are scored.

        Args:
            requests: instances whose arguments are (context, continuation).
            disable_tqdm: whether no progress is shown.

        Returns:
            For each request −nats of the score, and whether generation at temperature 0 along the order of the exact value gives the
            continuation. Of a bound, and of a continuation in more than one window, that is false.
        """
        pairs = [spaces_moved(*texts_of(request, 2)) for request in requests]
        for context, continuation in pairs:
            self._check_pair(context, continuation)
        answers: list[tuple[float, bool]] = []
        generated: dict[tuple[str, int], NDArray[Any]] = {}
        for request, pair, score in zip(requests, pairs, self._scores(pairs, disable_tqdm), strict=True):
            answer = (-score.nats, self._is_greedy(*pair, score, generated))
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
            answers.append(answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihoods of whole texts, longer ones in windows as :meth:`submask.Model.score` makes them with ``stride``.

        Args:
            requests: instances whose argument is a text. One without any tokens has the log-likelihood 0.
            disable_tqdm: whether no progress is shown.
        """
        texts = [texts_of(request, 1)[0] for request in requests]
        answers = [0.0] * len(texts)
        filled = [n for n, text in enumerate(texts) if text]
        for n, score in zip(filled, self._scores([("", texts[n]) for n in filled], disable_tqdm), strict=True):
            answers[n] = -score.nats
            self.cache_hook.add_partial("loglikelihood_rolling", requests[n].args, answers[n])
        return answers

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Text behind contexts, up to the first text of ``until``, the end of text, or ``max_gen_toks`` tokens.

        Without ``do_sample``, or at temperature 0, the most probable token is taken. What a task does not say is as the arguments of an
        exact value or, without one, the model says. The tokens that are drawn depend on the context, the settings, ``seed`` and how
        often a request is repeated; neither on the other requests nor on ``batch_size``.

        Args:
            requests: instances whose arguments are (context, generation_kwargs).
            disable_tqdm: whether no progress is shown.
        """
        work = [(request, self._generation(request)) for request in requests]
        answers: list[str] = []
        repeats: dict[int, int] = {}
        for request, generation in tqdm(work, desc="submask: generate", disable=disable_tqdm):
            # The harness gives one and the same instance as often as its task repeats it.
            repeat = repeats[id(request)] = repeats.get(id(request), -1) + 1
            answer = self._generate(repeat, *generation)
            self.cache_hook.add_partial("generate_until", request.args, answer)
            answers.append(answer)
        return answers

    @property
    def tokenizer_name(self) -> str:
        """What the harness's caches of requests call the model."""
        return f"submask-{self.model.vocab_size}"

    @property
    def max_length(self) -> int:
        """Tokens of the model's sequences."""
        return int(self.model.seq_len)

    def get_model_info(self) -> dict[str, Any]:
        """What stands under ``config`` in the harness's results: how log-likelihoods were estimated, and what they are."""
        of_scores = {"kinds": sorted(self._kinds), "estimators": sorted(self._estimators)}
        return {"submask": {**self._settings, "seed": self._seed, **of_scores}}

    # Scores

    def _scores(self, pairs: Sequence[tuple[str, str]], disable_tqdm: bool) -> Iterator[Score]:
        """The score of each pair."""
        with tqdm(total=len(pairs), desc="submask: score", disable=disable_tqdm) as bar:
            for at in range(0, len(pairs), _AT_ONCE):
                some = pairs[at : at + _AT_ONCE]
                scores = self.model.score(some, seed=self._seed, batch=self.batch_size, **self._settings)
                self._say_kind(scores)
                yield from scores
                bar.update(len(some))

    def _say_kind(self, scores: Sequence[Score]) -> None:
        self._kinds |= {score.kind for score in scores}
        self._estimators |= {score.figure.name for score in scores}
        if "surrogate" in self._kinds:
            raise invalid("estimator", self._settings.get("estimator"), "an estimator of a likelihood")
        for score in scores:
            if score.kind == "exact":
                self._say(f"log-likelihoods are exact ({score.figure.name})")
            else:
                name = score.figure.name
                self._say(
                    f"log-likelihoods are minus upper bounds of -log p ({name}), so lower bounds: perplexities are upper bounds, "
                    "accuracies are accuracies of bounds, and is_greedy is false"
                )

    def _check_pair(self, context: str, continuation: str) -> None:
        """Refuses what cannot be scored before anything is computed."""
        if not len(self._tokenizer.encode(continuation)):
            raise invalid("continuation", repr(continuation), "at least one token to score")
        given, longest = self._begin + len(self._tokenizer.encode(context)), self.max_length
        if given >= longest and "stride" not in self._settings:
            allowed = f"at most {longest - 1}, or stride=S, with which the last tokens before a window are given"
            raise invalid("context", f"{given} tokens, its beginning included", allowed)

    def _is_greedy(
        self, context: str, continuation: str, score: Score, generated: dict[tuple[str, int], NDArray[Any]]
    ) -> bool:
        """Whether the model writes the continuation at temperature 0, in the order whose exact value was taken."""
        if score.kind != "exact" or not self._wants_greedy:
            return False
        given, tokens = self._tokenizer.encode(context), self._tokenizer.encode(continuation)
        start = self._begin + len(given)
        if start + len(tokens) > self.max_length:
            self._say("is_greedy is false where a continuation does not fit into one window with its context")
            return False
        key = (context, len(tokens))
        if key not in generated:
            settings = {**self._order_settings(), **_PLAIN}
            if self.model.block_len:
                # No text is cut because it repeats itself.
                settings["min_entropy"] = 0.0
            samples = self.model.sample(
                1, prompt=as_prompt(context), length=start + len(tokens), seed=self._seed, batch=1, **settings
            )
            generated[key] = samples.tokens[0][start:]
        return list(generated[key]) == list(tokens)

    def _order_settings(self) -> dict[str, Any]:
        """How the generator writes whose exact value is taken."""
        if self.model.is_autoregressive:
            return {}
        return {"order": "left-to-right", "unit": "tokens", **self._generator}

    # Generation

    def _generation(self, request: Any) -> tuple[str, dict[str, Any], int, list[str]]:
        """The context, the sampler's settings, how many tokens are generated at most, and what ends the text."""
        context, told = arguments_of(request, 2)
        kwargs = {name: value for name, value in dict(told).items() if value is not None}
        refuse_unknown(kwargs, _GENERATION, "generation_kwargs", allow={"num_beams": 1})
        until = kwargs.get("until", [])
        until = [until] if isinstance(until, str) else list(until)
        wanted = next((kwargs[name] for name in _MAX_GEN_TOKS if name in kwargs), self.max_gen_toks)
        most = self._most(context, at_least_one("max_gen_toks", wanted))
        settings = {name: kwargs[name] for name in _SAMPLING if name in kwargs}
        if self._settings.get("estimator") == "exact":
            settings = {**self._order_settings(), **settings}
        temperature = kwargs.get("temperature")
        if kwargs.get("do_sample", bool(temperature)):
            settings |= {} if temperature is None else {"temperature": float(temperature)}
        else:
            settings |= _PLAIN
        return context, settings, most, [text for text in until if text]

    def _most(self, context: str, wanted: int) -> int:
        """How many tokens can be generated behind a context, of those that are wanted."""
        if self.model.block_len:
            return wanted
        given = self._begin + len(self._tokenizer.encode(context))
        if given >= self.max_length:
            allowed = f"at most {self.max_length - 1}, one less than the model's length"
            raise invalid("context", f"{given} tokens, its beginning included", allowed)
        if given + wanted > self.max_length:
            self._say(f"fewer than {wanted} tokens are generated where the model's length of {self.max_length} ends before")
        return min(wanted, self.max_length - given)

    def _generate(self, repeat: int, context: str, settings: dict[str, Any], most: int, until: list[str]) -> str:
        given = self._tokenizer.encode(context)
        start = self._begin + len(given)
        number = sample_number(context, settings) + repeat
        for size in self._sizes(start, most, until):
            # A model of pairs fills its sequence behind the end of an answer.
            length = self.max_length if self.model.is_of_pairs else start + size
            samples = self.model.sample(
                1, prompt=as_prompt(context), length=length, seed=self._seed, first_sequence=number, batch=1, **settings
            )
            tokens = samples.tokens[0][: start + size]
            text = self._continuation(given, tokens)
            if len(tokens) < start + size or is_decided(text, until):
                break
        return up_to(text, until)

    def _sizes(self, start: int, most: int, until: list[str]) -> list[int]:
        """How many tokens are generated, and how many instead while nothing has ended the text.

        From left to right, and block by block, the first tokens of a text do not depend on how many follow. In other orders they do.
        """
        block_len = 1 if self.model.is_autoregressive else self.model.block_len
        if not until or not block_len or self.model.is_of_pairs:
            return [most]
        sizes, size = [], _FIRST
        while size < most:
            sizes.append(size + -(start + size) % block_len)
            size *= 2
        return [*(size for size in sizes if size < most), most]

    def _continuation(self, given: NDArray[Any], tokens: NDArray[Any]) -> str:
        """The text behind the given tokens, up to the end of text."""
        start = self._begin + len(given)
        own = tokens[start:]
        if self._tokenizer.end_of_text is not None:
            ends = (own == self._tokenizer.end_of_text).nonzero()[0]
            own = own[: ends[0]] if len(ends) else own
        # A tokenizer may write the first token of a text otherwise than the same token later on.
        before, whole = self._tokenizer.decode(given), self._tokenizer.decode(tokens[self._begin : start + len(own)])
        text: str = whole[len(before) :] if whole.startswith(before) else self._tokenizer.decode(own)
        return text

    @property
    def _begin(self) -> int:
        """Tokens before every text."""
        return 0 if self._tokenizer.end_of_text is None else 1

    def _say(self, text: str) -> None:
        """Logs a line once."""
        if text not in self._said:
            self._said.add(text)
            _log.info(text)


#: The most probable token, of all tokens.
_PLAIN: Mapping[str, Any] = {"temperature": 0.0}


def _arguments() -> list[str]:
    """The names of the arguments of a model."""
    code: Callable[..., None] = SubmaskLM.__init__
    names = code.__code__.co_varnames[: code.__code__.co_argcount + code.__code__.co_kwonlyargcount]
    return [name for name in names if name != "self"]


def register() -> None:
    """Registers the model ``submask`` with the harness, which importing this module has done already."""
    if "submask" not in model_registry:
        model_registry.register("submask", target="submask.lm_eval:SubmaskLM")


def main() -> None:
    """The harness's command line, which knows the model ``submask``."""
    from lm_eval.__main__ import cli_evaluate

    register()
    cli_evaluate()


if __name__ == "__main__":
    # The registry knows the class by the name of this module.
    from submask.lm_eval import main as run

    run()
else:
    register()
