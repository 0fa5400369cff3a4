"""What the extension module offers to this package; nothing here is for users."""

from collections.abc import Callable, Mapping
from os import PathLike as _PathLike
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CallableNetwork",
    "Codes",
    "EventStream",
    "ModelSession",
    "ModelTokenizer",
    "NoiseSchedule",
    "PreparePlan",
    "SampleStream",
    "SequenceEstimate",
    "TokenPredictive",
    "TrainPlan",
    "begin_end",
    "estimate",
    "evaluate_data",
    "evaluate_images",
    "evaluate_tokens",
    "images_of",
    "logits",
    "main",
    "prepare_plan",
    "sample",
    "sample_model",
    "score_texts",
    "spread",
    "train_plan",
]

def main(words: list[str]) -> int: ...
def begin_end() -> None: ...

# A network of the user's own.

@final
class Codes:
    def __new__(
        cls, vocab_size: int, subtoken_len: int, permutation: NDArray[np.uint32] | None, seed: int | None
    ) -> Codes: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def subtoken_len(self) -> int: ...
    @property
    def base(self) -> int: ...
    @property
    def permutation(self) -> NDArray[np.uint32] | None: ...
    def encode(self, tokens: NDArray[np.uint32]) -> NDArray[np.uint32]: ...
    def decode(self, digits: NDArray[np.uint32]) -> NDArray[np.uint32]: ...

@final
class NoiseSchedule:
    def __new__(cls, kind: str, parameter: float) -> NoiseSchedule: ...
    def alpha(self, t: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def alpha_prime(self, t: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def weight(self, t: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def inverse_alpha(self, alpha: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def reveal_probabilities(self, grid: NDArray[np.float64]) -> NDArray[np.float64]: ...

@final
class TokenPredictive:
    def __new__(cls, codes: Codes, carry_over: bool) -> TokenPredictive: ...
    @property
    def carry_over(self) -> bool: ...
    def log_probs(
        self,
        logits: NDArray[np.float32],
        digits: NDArray[np.uint32],
        temperature: float,
        top_p: float,
        top_k: int,
        nucleus_name: str,
    ) -> NDArray[np.float64]: ...
    def marginals(self, logits: NDArray[np.float32], digits: NDArray[np.uint32]) -> NDArray[np.float64]: ...
    def log_joint(
        self, logits: NDArray[np.float32], digits: NDArray[np.uint32], values: NDArray[np.uint32]
    ) -> NDArray[np.float64]: ...

@final
class CallableNetwork:
    def __new__(
        cls,
        callable: Callable[..., Any],
        codes: Codes,
        shortest: int,
        longest: int,
        reads_time: bool,
        classes: int | None,
    ) -> CallableNetwork: ...
    def logits(
        self,
        y_t: NDArray[np.uint32],
        t: NDArray[np.float64],
        positions: NDArray[np.uint32],
        labels: list[int] | None,
    ) -> NDArray[np.float32]: ...

@final
class SequenceEstimate:
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Literal["exact", "upper_bound", "surrogate"]: ...
    @property
    def evaluations(self) -> int: ...
    def nats(self) -> NDArray[np.float64]: ...
    def draw_errors(self) -> NDArray[np.float64]: ...
    def tokens(self) -> NDArray[np.int64]: ...
    def token_nats(self) -> list[NDArray[np.float64]]: ...
    def mean(self, per: Literal["sequence", "token"]) -> dict[str, Any]: ...
    def likelihood(
        self, of: Literal["perplexity", "token", "dimension", "character"], dimensions: int, characters: list[int]
    ) -> dict[str, Any]: ...

@final
class SampleStream:
    def __new__(
        cls,
        network: CallableNetwork,
        predictive: TokenPredictive,
        prompts: Mapping[str, Any],
        sampling: Mapping[str, Any],
    ) -> SampleStream: ...
    def next(self) -> tuple[Any, ...] | None: ...
    def close(self) -> None: ...

def estimate(
    network: CallableNetwork,
    predictive: TokenPredictive,
    sequences: Mapping[str, Any],
    estimator: Mapping[str, Any],
) -> SequenceEstimate: ...
def sample(
    network: CallableNetwork,
    predictive: TokenPredictive,
    prompts: Mapping[str, Any],
    sampling: Mapping[str, Any],
    trace: bool,
) -> tuple[list[NDArray[np.uint32]], dict[str, int], list[tuple[Any, ...]]]: ...

# Training.

@final
class TrainPlan:
    @property
    def notes(self) -> list[str]: ...
    @property
    def settings(self) -> str: ...
    @property
    def texts(self) -> tuple[list[str], list[str], str, tuple[str, str, str], bool, str] | None: ...
    def train(self, device: str, precision: str, callback: Callable[[str], None] | None = None) -> str: ...

@final
class PreparePlan:
    @property
    def notes(self) -> list[str]: ...
    @property
    def texts(self) -> tuple[list[str], list[str], str, tuple[str, str, str], bool, str] | None: ...
    def prepare(self, out: str | _PathLike[str], rebuild: bool, callback: Callable[[str], None] | None = None) -> str: ...

def train_plan(
    out: str | _PathLike[str],
    given: list[tuple[str, str, Any]],
    *,
    preset: str | None = None,
    config: str | _PathLike[str] | None = None,
    init: str | _PathLike[str] | None = None,
    resume: bool = False,
) -> TrainPlan: ...
def prepare_plan(
    given: list[tuple[str, str, Any]], *, preset: str | None = None, config: str | _PathLike[str] | None = None
) -> PreparePlan: ...

# Models.

@final
class ModelTokenizer:
    def encode(self, text: str) -> NDArray[np.uint32]: ...
    def decode(self, tokens: NDArray[np.uint32], end_of_text: str) -> str: ...
    def token_text(self, token: int) -> str: ...
    def vocab_size(self) -> int: ...
    def end_of_text(self) -> int | None: ...
    def is_lossless(self) -> bool: ...

@final
class ModelSession:
    def __new__(
        cls,
        path: str | _PathLike[str],
        checkpoint: str,
        device: str,
        precision: str,
        cache: str | _PathLike[str] | None,
        token: str | None,
    ) -> ModelSession: ...
    def close(self) -> None: ...
    def is_closed(self) -> bool: ...
    def info(self) -> str: ...
    def folder(self) -> Path: ...
    def tokenizer(self) -> ModelTokenizer | None: ...
    def facts(self) -> dict[str, Any]: ...

@final
class EventStream:
    def __new__(
        cls,
        model: ModelSession,
        options: Mapping[str, Any],
        given: NDArray[np.uint8] | None,
        mask: NDArray[np.bool_] | None,
    ) -> EventStream: ...
    def next(self) -> tuple[Any, ...] | None: ...
    def close(self) -> None: ...

def sample_model(
    model: ModelSession,
    options: Mapping[str, Any],
    given: NDArray[np.uint8] | None,
    mask: NDArray[np.bool_] | None,
) -> tuple[list[NDArray[np.uint32]], list[str] | None, NDArray[np.uint8] | None, dict[str, int], list[tuple[Any, ...]]]: ...
def images_of(model: ModelSession, tokens: NDArray[np.uint32]) -> NDArray[np.uint8]: ...
def score_texts(
    model: ModelSession,
    prompts: list[str],
    texts: list[str],
    names: list[tuple[str, str]],
    layout: Mapping[str, Any],
    options: Mapping[str, Any],
) -> tuple[list[tuple[Any, ...]], list[str]]: ...
def evaluate_data(
    model: ModelSession, data: Mapping[str, Any], layout: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Any, ...]: ...
def evaluate_tokens(
    model: ModelSession, tokens: NDArray[np.uint32], options: Mapping[str, Any]
) -> tuple[Any, ...]: ...
def evaluate_images(
    model: ModelSession, images: NDArray[np.uint8], labels: list[int] | None, options: Mapping[str, Any]
) -> tuple[Any, ...]: ...
def spread(all: int, count: int) -> NDArray[np.uint64]: ...
def logits(
    model: ModelSession,
    y_t: NDArray[np.uint32],
    count: int,
    t: list[float] | None,
    positions: NDArray[np.uintp] | None,
    labels: list[int] | None,
    at_once: int,
) -> NDArray[np.float32]: ...
