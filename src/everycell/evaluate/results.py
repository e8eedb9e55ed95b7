"""What an evaluation found, as frozen records that turn into JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson

from everycell.metrics import (
    Calibration,
    ClassPrecision,
    Comparison,
    CountError,
    Counts,
    Interval,
    PanopticQuality,
)


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
class Length:
    """A length in px and in µm; either is NaN where it is unknown or not the same for all images."""

    px: float
    um: float


@dataclass(frozen=True)
class BestThreshold:
    """The score from which on cells are best kept, for the highest F1 at IoU > 0.5 of all images together.

    Attributes:
        score_thresh: NaN where no prediction is right.
        f1: its F1 on raw masks.
    """

    score_thresh: float
    f1: float


@dataclass(frozen=True)
class ClassResult:
    """One class; a measure is NaN where it has nothing to look at.

    Attributes:
        ap: COCO average precision over IoU 0.50 … 0.95, NaN like the next three where the class has no true cell.
        ap50: the same at IoU 0.50.
        ap75: the same at IoU 0.75.
        ar: average recall.
        n_truth: true cells.
        n_pred: predicted cells.
        panoptic: PQ, DQ and SQ of the counts of all images together, as in CoNIC.
        pq_image_mean: PQ, mean over the images whose truth holds the class, as in PanNuke.
        f_c: detection and classification by centroid distance.
        count: error of the number of cells.
        best_threshold: None where all scores are equal.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    n_truth: int
    n_pred: int
    panoptic: PanopticQuality
    pq_image_mean: float
    f_c: float
    count: CountError
    best_threshold: BestThreshold | None


@dataclass(frozen=True)
class ImageResult:
    """One image, blind to classes; measures are NaN where it has no true and no predicted cell.

    `boundary_f1` and `hausdorff` (px) are means over matched cells, NaN without any. `group` is None where the images
    were not grouped.
    """

    name: str
    group: str | None
    n_truth: int
    n_pred: int
    pq: float
    sq: float
    aji: float
    aji_plus: float
    dice: float
    f1_50: float
    f_d: float
    boundary_f1: float
    hausdorff: float


@dataclass(frozen=True)
class PanopticAverages:
    """Panoptic quality under each averaging rule by its name, see `everycell.metrics.PQAverages`.

    Attributes:
        bpq: PanNuke, blind to classes; mean over the images of each group, then over groups.
        mpq: PanNuke.
        mpq_monusac: MoNuSAC challenge.
        mpq_monusac_corrected: Foucart et al.
        mpq_plus: CoNIC.
        pooled: PQ, DQ and SQ blind to classes, of the counts of all images together.
    """

    bpq: float
    mpq: float
    mpq_monusac: float
    mpq_monusac_corrected: float
    mpq_plus: float
    pooled: PanopticQuality


@dataclass(frozen=True)
class CentroidResult:
    """Detection by centroid distance (HoVer-Net), counts of all images together; F_c is with the classes.

    Attributes:
        radius: largest distance of a pair.
        f_d: F1 of detection.
        precision: share of predicted cells in a pair.
        recall: share of true cells in a pair.
        accuracy: share of pairs whose classes agree.
    """

    radius: Length
    f_d: float
    precision: float
    recall: float
    accuracy: float


@dataclass(frozen=True)
class BoundaryResult:
    """Outlines of the matched cells of all images, means over pairs; NaN without a pair.

    Attributes:
        tolerance: largest distance that counts as agreement.
        n_pairs: matched cells.
        f1: boundary F1.
        hausdorff: Hausdorff distance; in µm only where µm/px is known for every image with a pair.
        hausdorff95: the same with the 95th percentile in place of the largest distance.
    """

    tolerance: Length
    n_pairs: int
    f1: float
    hausdorff: Length
    hausdorff95: Length


@dataclass(frozen=True)
class PairedComparison:
    """Two predictions of the same images against the same truth.

    Attributes:
        first: name of the first prediction.
        second: name of the second prediction.
        measures: by the names of `EvaluationResult.intervals`; a difference is second minus first.
    """

    first: str
    second: str
    measures: dict[str, Comparison]


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
    """Agreement of predictions with the truth over all images; measures without a unit lie in [0, 1].

    Attributes:
        map: COCO average precision over IoU 0.50 … 0.95 on raw masks with all scores, mean over classes with truth.
        ap50: the same at IoU 0.50.
        ap75: the same at IoU 0.75.
        ar: COCO average recall, mean over the same classes.
        class_agnostic: the same four with all cells as one class.
        max_dets: COCO's maxDets, set above the largest count in any image so that it cuts nothing.
        pq: panoptic quality, blind to classes, mean over images.
        aji: aggregated Jaccard index, blind to classes, mean over images.
        aji_plus: AJI+, likewise.
        dice: cells against background, mean over images.
        f1_50: F1 at IoU > 0.5, blind to classes, of the counts of all images together.
        panoptic: panoptic quality under other averaging rules.
        centroids: detection by centroid distance.
        boundary: outlines of matched cells.
        count: error of the number of cells, blind to classes.
        calibration: of all scores; None where all are equal.
        best_threshold: blind to classes; None where all scores are equal.
        n_images: images compared.
        n_truth: true cells.
        n_pred: predicted cells.
        per_class: by class name.
        thresholds: one entry for each IoU threshold.
        per_image: one entry for each image.
        errors: what became of every cell.
        intervals: bootstrap intervals of some figures, by the figure's name; redrawn are images, or groups of them.
        comparison: with another prediction; None without one.
        score_thresh: what a prediction must score to count in anything but average precision, calibration and the best
            threshold; None where all count.
        notes: what a reader of the figures must know.

    An image without true and predicted cells is left out of the means; a measure without any value is NaN (JSON: null).
    """

    map: float
    ap50: float
    ap75: float
    ar: float
    class_agnostic: ClassPrecision
    max_dets: int
    pq: float
    aji: float
    aji_plus: float
    dice: float
    f1_50: float
    panoptic: PanopticAverages
    centroids: CentroidResult
    boundary: BoundaryResult
    count: CountError
    calibration: Calibration | None
    best_threshold: BestThreshold | None
    n_images: int
    n_truth: int
    n_pred: int
    per_class: dict[str, ClassResult]
    thresholds: tuple[ThresholdResult, ...]
    per_image: tuple[ImageResult, ...]
    errors: ErrorBreakdown
    intervals: dict[str, Interval]
    comparison: PairedComparison | None = None
    score_thresh: float | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All of it as indented JSON; NaN becomes null."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2).decode()
