"""Dice coefficient (Dice 1945) of cells against background."""

from __future__ import annotations

from everycell.metrics.overlap import Overlap


def dice(overlap: Overlap) -> float:
    """2 |T ∩ P| / (|T| + |P|) over the pixels of one image whose cells do not overlap within a set, in [0, 1].

    An image without any true or predicted cell gives NaN, to be left out of a mean over images.
    """
    total = overlap.truth_areas.sum() + overlap.pred_areas.sum()
    return float(2 * overlap.pixels.sum() / total) if total else float("nan")
