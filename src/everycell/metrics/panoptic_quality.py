"""Panoptic quality (Kirillov et al. 2019, "Panoptic Segmentation", CVPR), for one class."""

from __future__ import annotations

from dataclasses import dataclass

from everycell.metrics.matching import match
from everycell.metrics.overlap import Overlap


@dataclass(frozen=True)
class PanopticQuality:
    """PQ is DQ times SQ, each in [0, 1]; all NaN where there was nothing to find and nothing was found.

    Attributes:
        pq: panoptic quality.
        dq: detection quality, the F1 of matches with IoU strictly above 0.5.
        sq: segmentation quality, the mean IoU of the matched pairs, 0 without any.
    """

    pq: float
    dq: float
    sq: float


def panoptic_quality(overlap: Overlap) -> PanopticQuality:
    """PQ of one image whose cells do not overlap within a set.

    An image without any true or predicted cell gives NaN, to be left out of a mean over images, as PanNuke's published
    evaluation does with images without truth. If only one of the two is empty, PQ is 0.
    """
    matches = match(overlap.iou(), 0.5)
    dq = matches.counts.f1
    sq = float(matches.iou.mean()) if matches.counts.tp else dq  # without matches dq is 0 or NaN, and so is sq
    return PanopticQuality(dq * sq, dq, sq)
