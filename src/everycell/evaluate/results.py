"""What an evaluation found, as frozen records that turn into JSON."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from everycell.metrics import Counts


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
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All of it as indented JSON; NaN becomes null."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2).decode()
