"""Discrete diffusion models with partial masking."""

from __future__ import annotations

from . import events
from ._events import Event, Finished, Revealed, Started, Stream, TokenLogProb
from ._model import Model
from ._samples import Change, Report, Samples, Trajectory
from ._score import Evaluation, Score, TokenScore
from ._settings import Sampling
from ._tokenizer import Tokenizer
from ._train import Prepared, TrainResult, prepare, train
from .errors import SubmaskError

__all__ = [
    "Change",
    "Evaluation",
    "Event",
    "Finished",
    "Model",
    "Prepared",
    "Report",
    "Revealed",
    "Samples",
    "Sampling",
    "Score",
    "Started",
    "Stream",
    "SubmaskError",
    "TokenLogProb",
    "TokenScore",
    "Tokenizer",
    "TrainResult",
    "Trajectory",
    "events",
    "prepare",
    "train",
]
