"""Discrete diffusion models with partial masking."""

from __future__ import annotations

from . import events
from ._events import Event, Finished, Revealed, Started, Stream, TokenLogProb
from ._samples import Change, Report, Samples, Trajectory
from ._train import Prepared, TrainResult, prepare, train
from .errors import SubmaskError

__all__ = [
    "Change",
    "Event",
    "Finished",
    "Prepared",
    "Report",
    "Revealed",
    "Samples",
    "Started",
    "Stream",
    "SubmaskError",
    "TokenLogProb",
    "TrainResult",
    "Trajectory",
    "events",
    "prepare",
    "train",
]
