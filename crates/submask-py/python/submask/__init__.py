"""Discrete diffusion models with partial masking: a token is a few sub-tokens, and each is masked by itself.

    >>> import submask
    >>> model = submask.Model.open("runs/dictionary")  # doctest: +SKIP
    >>> model.infill("lantern: [[12]] light.", num=3).texts  # doctest: +SKIP
    >>> model.score("lantern: A case for a light.").figure  # doctest: +SKIP

Models
    :class:`Model` opens one, and then samples, fills holes, streams events, scores and evaluates. :class:`Samples`, :class:`Score` and
    :class:`Evaluation` are what it gives back.
Figures
    :class:`Exact`, :class:`UpperBound` and :class:`Surrogate`: numbers that say what they are. Only likelihoods have a perplexity.
Networks of your own
    :class:`Network` makes one of any callable; :class:`SubTokenizer`, :class:`Schedule` and :class:`Predictive` are the mathematics around
    it, :mod:`submask.sampler` and :mod:`submask.likelihood` what is done with it.
Training
    :func:`train` and :func:`prepare`, as the program does both; :mod:`submask.events` is what a callback is told.
Elsewhere
    :mod:`submask.lm_eval` is a model for EleutherAI's lm-evaluation-harness. Errors are a :class:`SubmaskError`. docs/python.md in the
    repository goes task by task.
"""

from __future__ import annotations

from . import errors, events, figures, likelihood, sampler
from ._codes import Predictive, Schedule, SubTokenizer
from ._events import Event, Finished, Revealed, Started, Stream, TokenLogProb
from ._model import Model
from ._network import Network
from ._samples import Change, Report, Samples, Trajectory
from ._score import Evaluation, Score, TokenScore
from ._settings import Sampling
from ._tokenizer import Tokenizer
from ._train import Prepared, TrainResult, prepare, train
from .errors import (
    DivergedError,
    DownloadError,
    FileError,
    FormatError,
    InternalError,
    InvalidError,
    SubmaskError,
)
from .figures import Exact, Figure, Kind, Likelihood, Surrogate, UpperBound

__all__ = [
    "Change",
    "DivergedError",
    "DownloadError",
    "Evaluation",
    "Event",
    "Exact",
    "Figure",
    "FileError",
    "Finished",
    "FormatError",
    "InternalError",
    "InvalidError",
    "Kind",
    "Likelihood",
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
    "Surrogate",
    "TokenLogProb",
    "TokenScore",
    "Tokenizer",
    "TrainResult",
    "Trajectory",
    "UpperBound",
    "errors",
    "events",
    "figures",
    "likelihood",
    "prepare",
    "sampler",
    "train",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
