"""What an evaluation found, as frozen records that turn into JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson

from everycell.metrics import Counts, ImageErrors
from everycell.structures import Instances


@dataclass(frozen=True)
class Rates:
    """Detection rates at one IoU threshold, each in [0, 1]; see `everycell.metrics.Counts` for the formulas."""

    precision: float
    recall: float
    f1: float
    dsb_ap: float

    @classmethod
    def of(cls, counts: Counts) -> Rates:
        """The rates that follow from `counts`."""
        return cls(counts.precision, counts.recall, counts.f1, counts.dsb_ap)


@dataclass(frozen=True)
class ThresholdResult:
    """Detection at one IoU threshold, blind to classes.

    Attributes:
        iou: the threshold; a match lies strictly above it.
        pooled: rates of the counts of all images together.
        image_mean: rates of each image, averaged over images.
    """

    iou: float
    pooled: Rates
    image_mean: Rates


@dataclass(frozen=True)
class ClassResult:
    """Average precision and number of cells of one class; precision is NaN where the class has no true cell."""

    ap: float
    ap50: float
    ap75: float
    n_truth: int
    n_pred: int


@dataclass(frozen=True)
class ImageResult:
    """One image, blind to classes; measures are NaN where it has no true and no predicted cell."""

    name: str
    n_truth: int
    n_pred: int
    pq: float
    sq: float
    aji: float
    dice: float
    f1_50: float


@dataclass(frozen=True)
class ComparedImage:
    """One image with all that was compared and found; it stays in memory and is not part of the JSON.

    Attributes:
        name: of the image.
        truth: true cells.
        pred: predicted cells that reach the score threshold.
        errors: what became of each.
        measures: the image's figures.
    """

    name: str
    truth: Instances
    pred: Instances
    errors: ImageErrors
    measures: ImageResult


@dataclass(frozen=True)
class ClassErrors:
    """Cells by category: the true cells of one class, and the predictions of that class."""

    truth: dict[str, int]
    pred: dict[str, int]


@dataclass(frozen=True)
class ConfusionMatrix:
    """Matched cells by class.

    Attributes:
        labels: "background", then the K class names.
        counts: K + 1 rows of K + 1 numbers. A row is a true class, a column a predicted one: the first column counts
            true cells without a match, the first row predictions without one.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Stratum:
    """Cells with low < value ≤ high, where the value is a size, a crowding or a distance.

    Attributes:
        low: -inf (JSON: null) in the first one.
        high: inf (JSON: null) in the last one.
        n_truth: true cells.
        n_pred: predicted cells.
        recall: share of the true cells that are matched, of whatever class; NaN without true cells.
        precision: share of the predicted cells that are matched; NaN without predictions.
        mean_iou: mean IoU of the matched true cells with their partners; NaN without any.
        truth: true cells by category.
        pred: predicted cells by category.
    """

    low: float
    high: float
    n_truth: int
    n_pred: int
    recall: float
    precision: float
    mean_iou: float
    truth: dict[str, int]
    pred: dict[str, int]


@dataclass(frozen=True)
class ErrorBreakdown:
    """What became of every cell; see `everycell.metrics.Category` for the categories.

    Attributes:
        n_truth: true cells.
        n_pred: predicted cells that reach the score threshold.
        truth: true cells by category; they add up to `n_truth`.
        pred: predicted cells by category; they add up to `n_pred`.
        per_class: by class name.
        confusion: classes of matched cells.
        unit: of size and distance to the edge; µm where µm/px is known for every image.
        by_size: by diameter of the disc of equal area, cut at the quartiles of the true cells.
        by_crowding: by distance to the nearest neighbour of the same set over the mean of the two diameters.
        by_edge: by distance to the nearest edge of the image: 0, then cut at one and two median diameters.
        worst_images: names of the images with cells, lowest PQ first.
    """

    n_truth: int
    n_pred: int
    truth: dict[str, int]
    pred: dict[str, int]
    per_class: dict[str, ClassErrors]
    confusion: ConfusionMatrix
    unit: Literal["px", "µm"]
    by_size: tuple[Stratum, ...]
    by_crowding: tuple[Stratum, ...]
    by_edge: tuple[Stratum, ...]
    worst_images: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """Agreement of predictions with the truth over all images; every measure lies in [0, 1].

    Attributes:
        map: COCO average precision over IoU 0.50 … 0.95 on raw masks with all scores, mean over classes with truth.
        ap50: the same at IoU 0.50.
        ap75: the same at IoU 0.75.
        max_dets: COCO's maxDets, set above the largest count in any image so that it cuts nothing.
        pq: panoptic quality, blind to classes, mean over images.
        aji: aggregated Jaccard index, blind to classes, mean over images.
        dice: cells against background, mean over images.
        f1_50: F1 at IoU > 0.5, blind to classes, of the counts of all images together.
        n_images: images compared.
        n_truth: true cells.
        n_pred: predicted cells.
        per_class: by class name.
        thresholds: one entry for each IoU threshold.
        per_image: one entry for each image.
        errors: what became of every cell.
        score_thresh: what a prediction must score to count in anything but average precision; None where all count.
        notes: what a reader of the figures must know.

    An image without true and predicted cells is left out of the means; a measure without any value is NaN (JSON: null).
    """

    map: float
    ap50: float
    ap75: float
    max_dets: int
    pq: float
    aji: float
    dice: float
    f1_50: float
    n_images: int
    n_truth: int
    n_pred: int
    per_class: dict[str, ClassResult]
    thresholds: tuple[ThresholdResult, ...]
    per_image: tuple[ImageResult, ...]
    errors: ErrorBreakdown
    score_thresh: float | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All of it as indented JSON; NaN becomes null."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2).decode()
