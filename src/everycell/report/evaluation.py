"""The page of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everycell.evaluate import ComparedImage, EvaluationResult, ImageResult
from everycell.evaluate.summary import Measure, length_text, summarise
from everycell.metrics import Comparison
from everycell.report.charts import Chart, line_chart
from everycell.report.facts import Rows
from everycell.report.page import render_page, weakest_class
from everycell.report.pictures import ReadPixels, show_outcomes, worst_cells_uri

_N_WORST = 6


def render_evaluation(
    result: EvaluationResult,
    images: Sequence[ComparedImage],
    read_pixels: ReadPixels | None,
    *,
    title: str,
    inputs: Mapping[str, Path] | None = None,
) -> str:
    """An evaluation as HTML.

    Args:
        result: the figures.
        images: what they were made of, with their masks.
        read_pixels: gives an image's pixels by its name; None draws the outlines on black.
        title: above all.
        inputs: what was compared, label → file or folder.
    """
    compared = {image.name: image for image in images}
    draw_on = read_pixels or (lambda name: _black(compared[name]))
    measures = summarise(result)
    differences = _differences(result, measures)
    return render_page(
        "evaluation.html",
        name=title,
        result=result,
        measures=measures,
        intervals=result.intervals,
        differences=differences,
        difference_notes=_notes(differences),
        worst=[show_outcomes(compared[name], draw_on) for name in result.errors.worst_images[:_N_WORST]],
        sheet=worst_cells_uri(images, draw_on),
        has_pixels=read_pixels is not None,
        weakest=weakest_class(result),
        rates_chart=_rates_chart(result),
        reliability_chart=_reliability_chart(result),
        per_image=_ranked(result.per_image),
        settings=_settings(result, inputs or {}),
    )


def _settings(result: EvaluationResult, inputs: Mapping[str, Path]) -> Rows:
    exempt = ", except for AP, calibration and best thresholds"
    return [
        *((label, (path,)) for label, path in inputs.items()),
        ("Classes", ", ".join(result.per_class)),
        ("Score threshold", "none" if result.score_thresh is None else f"{result.score_thresh:g}{exempt}"),
        ("maxDets", f"{result.max_dets:,}, above the largest count in any image"),
        ("Centroid radius", length_text(result.centroids.radius)),
        ("Boundary tolerance", length_text(result.boundary.tolerance)),
    ]


def _black(image: ComparedImage) -> NDArray[np.uint8]:
    return np.zeros((*image.truth.image_size, 3), np.uint8)


def _differences(result: EvaluationResult, measures: Sequence[Measure]) -> dict[str, Comparison]:
    """Label → figures of both predictions, in reading order."""
    found = result.comparison.measures if result.comparison else {}
    return {measure.label: found[measure.name] for measure in measures if measure.name in found}


def _notes(differences: Mapping[str, Comparison]) -> list[str]:
    """Each note once."""
    notes = [note for pair in differences.values() for note in (*pair.notes, *pair.difference.notes)]
    return list(dict.fromkeys(notes))


def _rates_chart(result: EvaluationResult) -> Chart:
    rates = [threshold.pooled for threshold in result.thresholds]
    series = {
        "F1": [rate.f1 for rate in rates],
        "precision": [rate.precision for rate in rates],
        "recall": [rate.recall for rate in rates],
    }
    ious = [threshold.iou for threshold in result.thresholds]
    return line_chart("Detection rates over IoU thresholds", ious, series, x_name="IoU", y_max=1)


def _reliability_chart(result: EvaluationResult) -> Chart | None:
    """Precision over mean score of the bins that hold predictions."""
    if result.calibration is None:
        return None
    bins = [each for each in result.calibration.bins if each.n]
    return line_chart(
        "Precision over score",
        [each.mean_score for each in bins],
        {"precision": [each.precision for each in bins]},
        x_name="mean score",
        diagonal=True,
        y_max=1,
    )


def _ranked(images: Sequence[ImageResult]) -> list[ImageResult]:
    """Lowest PQ first, images without cells last."""
    return sorted(images, key=lambda image: (math.isnan(image.pq), image.pq, image.name))
