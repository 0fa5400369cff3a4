"""Discrete diffusion models with partial masking."""

from __future__ import annotations

from .errors import SubmaskError

__all__ = ["SubmaskError"]
