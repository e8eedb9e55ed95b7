"""What a model should know about the cells it was trained on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from everycell.structures import Sample

_SAME_MPP = 0.1  # images whose µm/px differ by more than this share have no common scale


def diameter_percentiles(samples: Iterable[Sample]) -> tuple[float, float, float] | None:
    """1st, 50th and 99th percentile of the cells' equivalent diameter (of a disc of equal area), image px."""
    areas = [np.bincount(layer.ravel())[1:] for sample in samples for layer in sample.layers]
    every = np.concatenate(areas) if areas else np.zeros(0)
    every = every[every > 0]
    if not len(every):
        return None
    low, middle, high = np.percentile(2 * np.sqrt(every / np.pi), (1, 50, 99))
    return round(float(low), 2), round(float(middle), 2), round(float(high), 2)


def common_mpp(samples: Iterable[Sample]) -> float | None:
    """Median µm/px if every image states it and all agree within 10 %, else None."""
    values = [sample.image.mpp for sample in samples]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    median = float(np.median(known))
    return median if max(abs(value / median - 1) for value in known) <= _SAME_MPP else None
