"""What texts and held-out data cost under a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ._arguments import invalid, shortened
from ._arguments import text as valid_text
from .figures import Figure, Kind, Likelihood, figure_of

__all__ = ["Evaluation", "Score", "TokenScore", "evaluation_of", "pairs_of", "score_of"]


@dataclass(frozen=True)
class TokenScore:
    """What a token costs.

    Attributes:
        token: the token.
        text: its text, for display.
        nats: −log p of the token given those before it in the order.
    """

    token: int
    text: str
    nats: float


@dataclass(frozen=True)
class Score:
    """What a text costs under a model.

    Attributes:
        figure: −log p of the text in nats, given what stands before it; a bound of it, or a surrogate: its type says which.
        tokens: tokens that are charged.
        characters: characters of the text, where it decodes to itself; otherwise ``None``.
        windows: sequences that the text took.
        by_token: what every charged token adds, of exact values; otherwise ``None``.
    """

    figure: Figure
    tokens: int
    characters: int | None
    windows: int
    by_token: tuple[TokenScore, ...] | None = None

    @property
    def nats(self) -> float:
        """The value in nats."""
        return self.figure.value

    @property
    def kind(self) -> Kind:
        """What the value is: ``"exact"``, ``"upper_bound"`` or ``"surrogate"``."""
        return self.figure.kind

    @property
    def estimator(self) -> str:
        """What was computed."""
        return self.figure.name

    @property
    def standard_error(self) -> float | None:
        """Standard error of the value over draws; 0 where nothing is drawn, ``None`` where it is not known."""
        return self.figure.standard_error

    @property
    def per_token(self) -> Figure:
        """The value in nats per token."""
        return self._over(self.tokens, "nats per token")

    @property
    def perplexity(self) -> float:
        """The perplexity exp(nats per token); of an upper bound, an upper bound of it. A surrogate has none.

        Raises:
            AttributeError: of a surrogate.
        """
        per_token = self.per_token
        if not isinstance(per_token, Likelihood):
            raise AttributeError(f"{self.estimator} is a surrogate, which has no perplexity")
        return per_token.perplexity

    def _over(self, count: int, unit: str) -> Figure:
        def over(value: float | None) -> float | None:
            return None if value is None else value / count

        figure = self.figure
        return replace(
            figure,
            value=figure.value / count,
            unit=unit,
            standard_error=over(figure.standard_error),
            sequence_error=over(figure.sequence_error),
            draw_error=over(figure.draw_error),
        )

    def __float__(self) -> float:
        return self.nats

    def __repr__(self) -> str:
        return f"Score({self.figure}, {self.tokens} tokens)"


def score_of(parts: tuple[Any, ...]) -> Score:
    """The score of what the extension module says of a text."""
    nats, kind, estimator, error, tokens, characters, windows, by_token = parts
    told = {"name": estimator, "value": nats, "unit": "nats", "kind": kind, "standard_error": error, "draw_error": error}
    terms = None if by_token is None else tuple(TokenScore(*term) for term in by_token)
    return Score(figure_of(told), tokens, characters, windows, terms)


def pairs_of(texts: Any, prompt: str | None) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Prompts, texts, and what errors call both, of what :meth:`Model.score` takes."""
    prompt = None if prompt is None else valid_text(prompt, "prompt")
    if isinstance(texts, (str, Mapping)) or not isinstance(texts, Iterable):
        prompts_and_texts = [_pair(texts, "texts", prompt)]
        names = [("prompt", "texts")]
    else:
        prompts_and_texts = [_pair(text, f"texts[{n}]", prompt) for n, text in enumerate(texts)]
        own = "" if prompt is None else "prompt"
        names = [(own or f"prompt of texts[{n}]", f"texts[{n}]") for n in range(len(prompts_and_texts))]
    return [one for one, _ in prompts_and_texts], [text for _, text in prompts_and_texts], names


def _pair(item: Any, field: str, prompt: str | None) -> tuple[str, str]:
    allowed = 'a str, a pair (prompt, text), or a dict with "text", or with "prompt" and "completion"'
    own: Any = None
    if isinstance(item, str):
        text: Any = item
    elif isinstance(item, Mapping):
        key = "text" if "text" in item else "completion"
        if key not in item or ("text" in item and "completion" in item):
            raise invalid(field, f"a dict of {', '.join(map(repr, item))}", allowed)
        text, own = item[key], item.get("prompt")
    elif isinstance(item, Sequence) and len(item) == 2:
        own, text = item
    else:
        raise invalid(field, shortened(item), allowed)
    if not isinstance(text, str) or not (own is None or isinstance(own, str)):
        raise invalid(field, shortened(item), allowed)
    text, own = valid_text(text, field), None if own is None else valid_text(own, field)
    if own is not None and prompt is not None:
        raise invalid("prompt", repr(prompt), f"none: {field} has its own")
    return own or prompt or "", text


@dataclass(frozen=True, eq=False)
class Evaluation(Sequence[Figure]):
    """Figures of held-out data. A sequence of figures, which may be asked for by their unit: ``evaluation["perplexity"]``.

    Attributes:
        figures: figures of all sequences together, in the units of the model's subject.
        data: what was evaluated.
        estimator: what was computed.
        draws: draws per sequence.
        seed: seed of the draws.
        places: number of every sequence among those that were evaluated, from 0, uint64 [n]. Of an array of N
            sequences, ``sequences=k`` evaluates rows ``i * N // k``, and place i is row ``i * N // k``.
        nats: the value of every sequence, float64 [n].
        draw_errors: its standard error over draws, float64 [n], not a number where it is not known.
        tokens: tokens of every sequence that are charged, uint64 [n].
        characters: characters of text that every sequence stands for, uint64 [n], where they do; otherwise ``None``.
        notes: what was chosen without being asked for, and what there is to say of the data.
        report: all that ``submask eval --json`` prints but for the sequences.
    """

    figures: tuple[Figure, ...]
    data: str
    estimator: str
    draws: int
    seed: int
    places: NDArray[np.uint64]
    nats: NDArray[np.float64]
    draw_errors: NDArray[np.float64]
    tokens: NDArray[np.uint64]
    characters: NDArray[np.uint64] | None
    notes: tuple[str, ...]
    report: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """What the figures are: ``"exact"``, ``"upper_bound"`` or ``"surrogate"``."""
        return self.figures[0].kind

    def __len__(self) -> int:
        return len(self.figures)

    @overload
    def __getitem__(self, index: int | str) -> Figure: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Figure]: ...
    def __getitem__(self, index: int | str | slice) -> Figure | Sequence[Figure]:
        if not isinstance(index, str):
            return self.figures[index]
        for figure in self.figures:
            if figure.unit == index:
                return figure
        raise KeyError(f"{index}: there are figures in {', '.join(figure.unit for figure in self.figures)}")

    def __iter__(self) -> Iterator[Figure]:
        return iter(self.figures)

    def __str__(self) -> str:
        return "\n".join(map(str, self.figures))

    def __repr__(self) -> str:
        return f"Evaluation({'; '.join(map(str, self.figures))}; {len(self.nats)} sequences)"


def evaluation_of(parts: tuple[Any, ...], data: str | None = None) -> Evaluation:
    """The evaluation of what the extension module says; ``data`` is what was evaluated, where it is not what it says."""
    described, places, nats, errors, tokens, characters, notes = parts
    report: dict[str, Any] = json.loads(described)
    if data is not None:
        report["data"] = data
    return Evaluation(
        tuple(figure_of(figure) for figure in report["figures"]),
        report["data"],
        report["estimator"],
        report["draws"],
        report["seed"],
        places,
        nats,
        errors,
        tokens,
        characters,
        tuple(notes),
        report,
    )
