"""Discrete diffusion models with partial masking."""

from __future__ import annotations

from . import events, likelihood, sampler
from ._codes import Predictive, Schedule, SubTokenizer
from ._events import Event, Finished, Revealed, Started, Stream, TokenLogProb
from ._model import Model
from ._network import Network
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
    "Network",
    "Predictive",
    "Prepared",
    "Report",
    "Revealed",
    "Samples",
    "Sampling",
    "Schedule",
    "Score",
    "Started",
    "Stream",
    "SubTokenizer",
    "SubmaskError",
    "TokenLogProb",
    "TokenScore",
    "Tokenizer",
    "TrainResult",
    "Trajectory",
    "events",
    "likelihood",
    "prepare",
    "sampler",
    "train",
]
