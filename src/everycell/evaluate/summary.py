"""The figures over all images in reading order, each with how it is taken, for every place that shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from everycell.evaluate.results import EvaluationResult, Length
from everycell.metrics import Interval

_OF_CLASSES = {"class_agnostic.ap", "class_agnostic.ap50", "mpq", "mpq_monusac", "mpq_monusac_corrected", "mpq_plus"}


@dataclass(frozen=True)
class Measure:
    """One figure over all images.

    Attributes:
        name: the key of its interval and of its paired comparison.
        label: short, as papers write it.
        value: NaN where undefined.
        how: what it looks at and how it is averaged.
        unit: "" of a figure in [0, 1], else "px", "µm" or "cells".
        interval: None where none is computed.
    """

    name: str
    label: str
    value: float
    how: str
    unit: str = ""
    interval: Interval | None = None


def summarise(result: EvaluationResult) -> tuple[Measure, ...]:
    """All figures; those that only several classes set apart are left out where there is one."""
    several = len(result.per_class) > 1
    rows = [*_precision(result, several), *_agreement(result, several), *_places(result)]
    return tuple(
        replace(row, interval=result.intervals.get(row.name)) for row in rows if several or row.name not in _OF_CLASSES
    )


def _precision(result: EvaluationResult, several: bool) -> list[Measure]:
    limit, mean = f"maxDets {result.max_dets:,}", ", mean over classes" if several else ""
    blind = result.class_agnostic
    return [
        Measure("map", "AP", result.map, f"IoU 0.50 … 0.95, {limit}{mean}"),
        Measure("ap50", "AP50", result.ap50, f"IoU 0.50, {limit}{mean}"),
        Measure("ap75", "AP75", result.ap75, f"IoU 0.75, {limit}{mean}"),
        Measure("ar", "AR", result.ar, f"average recall, IoU 0.50 … 0.95, {limit}{mean}"),
        Measure("class_agnostic.ap", "AP, one class", blind.ap, f"IoU 0.50 … 0.95, {limit}, classes ignored"),
        Measure("class_agnostic.ap50", "AP50, one class", blind.ap50, f"IoU 0.50, {limit}, classes ignored"),
    ]


def _agreement(result: EvaluationResult, several: bool) -> list[Measure]:
    blind = "classes ignored, " if several else ""
    panoptic, corrected = result.panoptic, result.panoptic.mpq_monusac_corrected
    only_predicted = "a class that was only predicted counts as 0"
    return [
        Measure("f1_50", "F1", result.f1_50, f"IoU > 0.5, {blind}all images together"),
        Measure("pq", "PQ", result.pq, f"{blind}mean over images"),
        Measure("panoptic.pooled", "PQ, pooled", panoptic.pooled.pq, f"{blind}all images together"),
        Measure("bpq", "bPQ", panoptic.bpq, "PanNuke: classes ignored, mean over images with true cells"),
        Measure("mpq", "mPQ", panoptic.mpq, "PanNuke: classes in an image's truth, mean over images"),
        Measure("mpq_monusac", "mPQ, MoNuSAC", panoptic.mpq_monusac, "as the challenge ranked"),
        Measure("mpq_monusac_corrected", "mPQ, MoNuSAC corrected", corrected, only_predicted),
        Measure("mpq_plus", "mPQ+", panoptic.mpq_plus, "CoNIC: all images together, mean over classes"),
        Measure("aji", "AJI", result.aji, f"{blind}mean over images"),
        Measure("aji_plus", "AJI+", result.aji_plus, f"one-to-one, {blind}mean over images"),
        Measure("dice", "Dice", result.dice, "cells against background, mean over images"),
    ]


def _places(result: EvaluationResult) -> list[Measure]:
    centroids, boundary, count = result.centroids, result.boundary, result.count
    hausdorff, unit = _length(boundary.hausdorff)
    hausdorff95, _ = _length(boundary.hausdorff95)
    radius, tolerance = length_text(centroids.radius), length_text(boundary.tolerance)
    within, excess = f"outlines of matched cells within {tolerance}, mean over cells", "predicted less true cells"
    return [
        Measure("f_d", "F_d", centroids.f_d, f"centroids within {radius}, all images together"),
        Measure("boundary_f1", "Boundary F1", boundary.f1, within),
        Measure("hausdorff", "Hausdorff distance", hausdorff, "outlines of matched cells, mean over cells", unit),
        Measure("hausdorff95", "Hausdorff, 95 %", hausdorff95, "its 95th percentile, mean over cells", unit),
        Measure("count.bias", "Count bias", count.bias, f"{excess}, mean over images", "cells"),
        Measure("count.absolute", "Count error", count.absolute, f"{excess}, absolute, mean over images", "cells"),
    ]


def _length(length: Length) -> tuple[float, str]:
    """In µm where that is known, else in px."""
    return (length.px, "px") if math.isnan(length.um) else (length.um, "µm")


def length_text(length: Length) -> str:
    """In µm where that is known, else in px."""
    value, unit = _length(length)
    return f"{value:.3g} {unit}"
