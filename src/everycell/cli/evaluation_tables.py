"""What `everycell evaluate` prints."""

from __future__ import annotations

import math

from rich.markup import escape
from rich.table import Table

from everycell.evaluate import ErrorBreakdown, EvaluationResult, Stratum

_N_WORST = 5


def tables(result: EvaluationResult) -> list[Table]:
    """The tables of a result, in order."""
    found = [_overall(result), _per_class(result), _errors(result.errors)]
    if len(result.per_class) > 1:
        found.append(_confusion(result.errors))
    found.append(_where(result.errors))
    if result.n_images > 1:
        found.append(_worst(result))
    return found


def _overall(result: EvaluationResult) -> Table:
    table = Table(
        title=f"{result.n_images:,} images, {result.n_truth:,} true and {result.n_pred:,} predicted cells",
        title_justify="left",
    )
    table.add_column("Measure")
    table.add_column("Value", justify="right")
    table.add_column("How")
    limit = f"maxDets {result.max_dets}"
    table.add_row("AP", _figure(result.map), f"IoU 0.50 … 0.95, {limit}, mean over classes")
    table.add_row("AP50", _figure(result.ap50), f"IoU 0.50, {limit}, mean over classes")
    table.add_row("AP75", _figure(result.ap75), f"IoU 0.75, {limit}, mean over classes")
    table.add_row("PQ", _figure(result.pq), "classes ignored, mean over images")
    table.add_row("AJI", _figure(result.aji), "classes ignored, mean over images")
    table.add_row("Dice", _figure(result.dice), "cells against background, mean over images")
    table.add_row("F1", _figure(result.f1_50), "IoU > 0.5, classes ignored, all images together")
    return table


def _per_class(result: EvaluationResult) -> Table:
    title = f"By class (maxDets {result.max_dets})"
    table = _table(title, "Class", "AP", "AP50", "AP75", "True cells", "Predicted")
    for name, row in result.per_class.items():
        figures = (_figure(value) for value in (row.ap, row.ap50, row.ap75))
        table.add_row(escape(name), *figures, f"{row.n_truth:,}", f"{row.n_pred:,}")
    return table


def _errors(errors: ErrorBreakdown) -> Table:
    table = _table(
        "What became of each cell (match: IoU > 0.5)", "Category", "True cells", "Share", "Predicted", "Share"
    )
    for category in dict.fromkeys((*errors.truth, *errors.pred)):
        cells = []
        for counts, n in ((errors.truth, errors.n_truth), (errors.pred, errors.n_pred)):
            known = category in counts
            cells += [f"{counts[category]:,}", _percent(counts[category] / n if n else math.nan)] if known else ["", ""]
        table.add_row(category.replace("_", " "), *cells)
    return table


def _confusion(errors: ErrorBreakdown) -> Table:
    labels = ["none", *(escape(label) for label in errors.confusion.labels[1:])]
    table = _table("True classes (rows) found as (columns)", "", *labels)
    for label, row in zip(labels, errors.confusion.counts, strict=True):
        table.add_row(label, *(f"{count:,}" for count in row))
    return table


def _where(errors: ErrorBreakdown) -> Table:
    table = _table("Where cells are found", "Cells", "True cells", "Recall", "Mean IoU", "Predicted", "Precision")
    for heading, strata in (
        (f"Diameter ({errors.unit})", errors.by_size),
        ("Spacing (diameters)", errors.by_crowding),
        (f"From the edge ({errors.unit})", errors.by_edge),
    ):
        table.add_row(heading, style="italic")
        for row in strata:
            figures = (f"{row.n_truth:,}", _figure(row.recall), _figure(row.mean_iou))
            table.add_row(_range(row), *figures, f"{row.n_pred:,}", _figure(row.precision))
        table.add_section()
    return table


def _worst(result: EvaluationResult) -> Table:
    table = _table("Worst images", "Image", "PQ", "F1", "True cells", "Predicted")
    by_name = {image.name: image for image in result.per_image}
    for name in result.errors.worst_images[:_N_WORST]:
        image = by_name[name]
        table.add_row(escape(name), _figure(image.pq), _figure(image.f1_50), f"{image.n_truth:,}", f"{image.n_pred:,}")
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _range(row: Stratum) -> str:
    if math.isinf(row.low):
        return f"  up to {row.high:g}" if row.high else "  0"
    return f"  over {row.low:g}" if math.isinf(row.high) else f"  {row.low:g} to {row.high:g}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
