"""Discrete diffusion models with partial masking."""

from __future__ import annotations

from ._events import Event, Finished, Revealed, Started, Stream, TokenLogProb
from ._samples import Change, Report, Samples, Trajectory
from .errors import SubmaskError

__all__ = [
    "Change",
    "Event",
    "Finished",
    "Report",
    "Revealed",
    "Samples",
    "Started",
    "Stream",
    "SubmaskError",
    "TokenLogProb",
    "Trajectory",
]
