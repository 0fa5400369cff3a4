"""What models are given besides their settings: images in part, channels, and one value for each sequence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arguments import described, invalid, shortened, whole

__all__ = ["channels_of", "each_of", "image_of"]


def channels_of(channels: Any) -> list[int]:
    """Channels of images by their numbers.

    Raises:
        InvalidError: of what is no list of whole numbers.
    """
    if isinstance(channels, (str, bytes)) or not isinstance(channels, Iterable):
        raise invalid("keep_channels", shortened(channels), "a list of channels, from 0, such as [0, 2]")
    return [whole(channel, "keep_channels") for channel in channels]


def image_of(
    given: ArrayLike | None, mask: ArrayLike | None
) -> tuple[NDArray[np.uint8] | None, NDArray[np.bool_] | None]:
    """An image that is given in part, and the mask, checked as far as their types go."""
    if given is None:
        if mask is not None:
            raise invalid("mask", "given", "none without given, the image that it is of")
        return None, None
    image = np.asarray(given)
    if image.dtype != np.uint8 or image.ndim != 3:
        raise invalid("given", described(image), "uint8 [h, w, c]")
    if mask is None:
        return np.ascontiguousarray(image), None
    area = np.asarray(mask)
    if area.dtype != np.bool_ or area.ndim != 2:
        raise invalid("mask", described(area), "bool [h, w]: which pixels are drawn anew")
    return np.ascontiguousarray(image), np.ascontiguousarray(area)


def each_of(values: NDArray[Any], field: str, count: int) -> list[Any]:
    """One for every sequence, of one for all or of as many."""
    if values.ndim > 1 or (values.ndim == 1 and len(values) != count):
        raise invalid(field, described(values), f"one for all, or [{count}]")
    listed: list[Any] = np.broadcast_to(values, count).tolist()
    return listed
