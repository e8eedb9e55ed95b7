"""Errors of all images summed up: by category, by class, by size, crowding and distance to the image's edge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from everycell.evaluate.image import ComparedImage
from everycell.evaluate.results import ClassErrors, ConfusionMatrix, ErrorBreakdown, Stratum
from everycell.metrics import (
    PRED_CATEGORIES,
    TRUTH_CATEGORIES,
    Category,
    CellErrors,
    Surroundings,
    analyse_errors,
    confusion_matrix,
    surroundings,
)
from everycell.structures import Instances

Side = Literal["truth", "pred"]

_SPACING_LIMITS = (1.0, 1.25, 1.5, 2.0)


def break_down(images: Sequence[ComparedImage], class_names: Sequence[str]) -> ErrorBreakdown:
    """Sum up the errors of `images`; `class_names` are those of classes 1 … K."""
    truth, pred = cell_table(images, "truth"), cell_table(images, "pred")
    unit: Literal["px", "µm"] = "µm" if images and all(image.truth.mpp for image in images) else "px"
    if unit == "µm":
        for table in (truth, pred):
            mpp = np.array([image.truth.mpp for image in images], np.float64)[table["image"]]
            table[["diameter", "edge"]] = table[["diameter", "edge"]].mul(mpp, axis=0)
    confusion = np.zeros((len(class_names) + 1, len(class_names) + 1), np.int64)
    for image in images:
        confusion += confusion_matrix(image.truth, image.pred, image.errors, len(class_names))
    # Rounded up for readers, so that cells on a quartile stay below the cut.
    quartiles = (np.ceil(100 * truth["diameter"].quantile([0.25, 0.5, 0.75]).dropna()) / 100).tolist()
    edge_limits = [0.0, quartiles[1], 2 * quartiles[1]] if quartiles else [0.0]
    return ErrorBreakdown(
        n_truth=len(truth),
        n_pred=len(pred),
        truth=_counts(truth, TRUTH_CATEGORIES),
        pred=_counts(pred, PRED_CATEGORIES),
        per_class={
            name: ClassErrors(
                truth=_counts(truth[truth["class_id"] == k], TRUTH_CATEGORIES),
                pred=_counts(pred[pred["class_id"] == k], PRED_CATEGORIES),
            )
            for k, name in enumerate(class_names, start=1)
        },
        confusion=ConfusionMatrix(("background", *class_names), tuple(tuple(row) for row in confusion.tolist())),
        unit=unit,
        by_size=_strata(truth, pred, "diameter", quartiles),
        by_crowding=_strata(truth, pred, "spacing", _SPACING_LIMITS),
        by_edge=_strata(truth, pred, "edge", edge_limits),
        worst_images=tuple(image.name for image in worst_images(images)),
    )


def worst_images(images: Sequence[ComparedImage]) -> list[ComparedImage]:
    """The images that have cells, lowest PQ first; of equal ones that with more true and predicted cells."""
    rated = [image for image in images if not math.isnan(image.measures.pq)]
    return sorted(rated, key=lambda image: (image.measures.pq, -image.measures.n_truth - image.measures.n_pred))


def cell_table(images: Sequence[ComparedImage], side: Side) -> pd.DataFrame:
    """One row for each true, or each predicted, cell of all images.

    Columns: `image` and `cell` (numbers from 0), `class_id`, `score`; `category`, `partner` and `iou` of
    `everycell.metrics.CellErrors`; `diameter` and `edge` (px) and `spacing` of `everycell.metrics.Surroundings`.
    """
    nothing = Instances.empty((1, 1))  # gives the columns their types where there is no image
    tables = [_one_table(-1, nothing, analyse_errors(nothing, nothing).truth, surroundings(nothing))]
    for i, image in enumerate(images):
        of_truth, of_pred = image.sums.where
        if side == "truth":
            tables.append(_one_table(i, image.truth, image.errors.truth, of_truth))
        else:
            tables.append(_one_table(i, image.pred, image.errors.pred, of_pred))
    return pd.concat(tables, ignore_index=True)


def _one_table(number: int, cells: Instances, errors: CellErrors, where: Surroundings) -> pd.DataFrame:
    columns = {
        "cell": np.arange(len(cells)),
        "class_id": cells.class_ids,
        "score": cells.scores,
        "category": errors.category,
        "partner": errors.partner,
        "iou": errors.iou,
        "diameter": where.diameter_px,
        "spacing": where.spacing,
        "edge": where.edge_px,
    }
    return pd.DataFrame({"image": np.full(len(cells), number), **columns})


def _counts(table: pd.DataFrame, categories: Sequence[Category]) -> dict[str, int]:
    counts = np.bincount(table["category"], minlength=len(Category))
    return {category.label: int(counts[category]) for category in categories}


def _strata(truth: pd.DataFrame, pred: pd.DataFrame, column: str, limits: Sequence[float]) -> tuple[Stratum, ...]:
    """Cells grouped by `column`, cut at `limits`; groups without any cell are left out."""
    cuts = np.unique(limits)
    edges = [-np.inf, *cuts.tolist(), np.inf]
    # side="left": a value on a cut belongs to the group below it.
    groups = [(table, np.searchsorted(cuts, table[column], side="left")) for table in (truth, pred)]
    strata = []
    for i, (low, high) in enumerate(pairwise(edges)):
        of_truth, of_pred = (table[group == i] for table, group in groups)
        if len(of_truth) or len(of_pred):
            strata.append(_stratum(low, high, of_truth, of_pred))
    return tuple(strata)


def _stratum(low: float, high: float, truth: pd.DataFrame, pred: pd.DataFrame) -> Stratum:
    found, real = (table[table["category"] <= Category.WRONG_CLASS] for table in (truth, pred))
    return Stratum(
        low=low,
        high=high,
        n_truth=len(truth),
        n_pred=len(pred),
        recall=len(found) / len(truth) if len(truth) else math.nan,
        precision=len(real) / len(pred) if len(pred) else math.nan,
        mean_iou=float(found["iou"].mean()),
        truth=_counts(truth, TRUTH_CATEGORIES),
        pred=_counts(pred, PRED_CATEGORIES),
    )
