"""Contrast stretching, so that one model reads dim fluorescence and bright tissue."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

FULL_RANGE = (0.0, 255.0)
_LOW, _HIGH = 1.0, 99.8  # percentiles of all channels together, so that hue stays
_MIN_RANGE = 8.0  # grey levels; a flatter image is noise and is not blown up further


def contrast_range(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Grey levels that become 0 and 1: percentiles 1 and 99.8 over all channels, at least 8 levels apart.

    Args:
        pixels: uint8 [H, W, 3], the whole image, so that all its crops and tiles are stretched alike.
    """
    counts = np.bincount(pixels.ravel(), minlength=256).cumsum()
    low, high = (float(np.searchsorted(counts, q / 100 * counts[-1])) for q in (_LOW, _HIGH))
    return low, max(high, low + _MIN_RANGE)


def input_range(pixels: NDArray[np.uint8], normalize: Literal["none", "percentile"]) -> tuple[float, float]:
    """Grey levels that a network of this `normalize` setting sees as 0 and 1."""
    return contrast_range(pixels) if normalize == "percentile" else FULL_RANGE


def stretch(pixels: NDArray[np.uint8], limits: tuple[float, float] = FULL_RANGE) -> NDArray[np.float32]:
    """Pixels as float32 [H, W, 3] in [0, 1], with `limits` (grey levels) becoming 0 and 1."""
    low, high = limits
    table = ((np.arange(256, dtype=np.float32) - low) / (high - low)).clip(0, 1)
    return table[pixels]
