"""`everycell evaluate`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from everycell.evaluate import EvaluationResult, Evaluator, open_comparison
from everycell.files import write_bytes

_MAX_NOTES = 5


def evaluate(
    *,
    truth: Annotated[Path, Parameter(metavar="DATA")],
    pred: Annotated[Path, Parameter(metavar="PATH")],
    json: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    id_map: Annotated[Path | None, Parameter(metavar="FILE")] = None,
) -> None:
    """Compare predicted cells with the truth.

    Args:
        truth: data set folder, or folder of label images.
        pred: folder of .coco.json, .geojson or label images named like the images, or one COCO results file.
        json: file for all figures.
        id_map: JSON file of image ids by file name, for one COCO results file of all images.
    """
    comparison = open_comparison(truth, pred, id_map)
    evaluator = Evaluator(comparison.class_names)
    progress = Console(stderr=True)
    for image in track(comparison, "Comparing", console=progress, transient=True, disable=not progress.is_terminal):
        evaluator.add(*image)
    result = evaluator.result()
    result = replace(result, notes=comparison.notes + result.notes)
    if json is not None:
        write_bytes(json, result.to_json().encode())
    console = Console()
    console.print(_overall(result), _per_class(result))
    for note in result.notes[:_MAX_NOTES]:
        print(f"Note: {note}")
    if len(result.notes) > _MAX_NOTES:
        print(f"Note: {len(result.notes) - _MAX_NOTES} more; --json FILE holds them all")


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
    table = Table(title=f"By class (maxDets {result.max_dets})", title_justify="left")
    table.add_column("Class")
    for name in ("AP", "AP50", "AP75", "True cells", "Predicted"):
        table.add_column(name, justify="right")
    for name, row in result.per_class.items():
        figures = (_figure(value) for value in (row.ap, row.ap50, row.ap75))
        table.add_row(escape(name), *figures, f"{row.n_truth:,}", f"{row.n_pred:,}")
    return table


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
