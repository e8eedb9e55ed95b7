"""The figures over all images, from what was found in each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from everycell.evaluate.errors import break_down
from everycell.evaluate.image import ComparedImage, EvaluationSettings, ImageSums
from everycell.evaluate.intervals import find_intervals
from everycell.evaluate.results import (
    BestThreshold,
    BoundaryResult,
    CentroidResult,
    ClassResult,
    EvaluationResult,
    Length,
    PanopticAverages,
    Rates,
    ThresholdResult,
)
from everycell.metrics import (
    IOU_THRESHOLDS,
    CentroidScores,
    ClassCounts,
    Counts,
    PanopticQuality,
    PQAverages,
    ScoreHits,
    average_pq,
    average_ranked,
    calibration,
    centroid_scores,
    class_threshold_curves,
    count_errors,
    threshold_curve,
)
from everycell.metrics.boundary import TOLERANCE_PX
from everycell.metrics.centroids import RADIUS_PX

_ONE_SCORE = "all predictions score the same: AP depends on their order; no calibration and no best threshold"


def sum_up(
    images: Sequence[ComparedImage], settings: EvaluationSettings, groups: Sequence[str] | None = None
) -> EvaluationResult:
    """Sum up any number of images.

    Args:
        images: compared with `settings`.
        settings: how.
        groups: the group of each image; each image is on its own when None.
    """
    class_names, n_classes = settings.class_names, len(settings.class_names)
    measures, sums = [image.measures for image in images], [image.sums for image in images]
    precision = average_ranked([of.ranked for of in sums], n_classes)
    centroids = centroid_scores([of.centroids for of in sums], n_classes)
    averages = average_pq([of.classes for of in sums], groups) if images else None
    qualities = _pooled_qualities(sums, n_classes)
    counts = count_errors([i.truth.class_ids for i in images], [i.pred.class_ids for i in images], n_classes)
    hits = _join([of.hits for of in sums])
    has_scores = len(np.unique(hits.scores)) > 1
    best = _best_thresholds(hits, _join([of.hits_blind for of in sums]), n_classes) if has_scores else None
    per_class = {
        name: ClassResult(
            ap=of_class.ap,
            ap50=of_class.ap50,
            ap75=of_class.ap75,
            ar=of_class.ar,
            n_truth=counts[k].n_truth,
            n_pred=int((hits.class_ids == k).sum()),
            panoptic=qualities[k],
            pq_image_mean=averages.per_class[k - 1] if averages else math.nan,
            f_c=centroids.f_c[k - 1],
            count=counts[k],
            best_threshold=best[k] if best else None,
        )
        for k, (name, of_class) in enumerate(zip(class_names, precision.per_class, strict=True), start=1)
    }
    return EvaluationResult(
        map=precision.map,
        ap50=precision.ap50,
        ap75=precision.ap75,
        ar=precision.ar,
        class_agnostic=average_ranked([of.ranked_blind for of in sums], 1).per_class[0],
        max_dets=precision.max_dets,
        pq=_mean(of.pq for of in measures),
        aji=_mean(of.aji for of in measures),
        aji_plus=_mean(of.aji_plus for of in measures),
        dice=_mean(of.dice for of in measures),
        f1_50=sum((of.counts[0] for of in sums), Counts()).f1,
        panoptic=_panoptic(averages, qualities[0]),
        centroids=_centroids(centroids, _length(RADIUS_PX, settings.radius_um, images)),
        boundary=_boundary(sums, _length(TOLERANCE_PX, settings.tolerance_um, images)),
        count=counts[0],
        # As float32, 0.8 lies above 0.8 and would fall into the next bin.
        calibration=calibration(hits.scores.astype(np.float64).round(6), hits.hits) if has_scores else None,
        best_threshold=best[0] if best else None,
        n_images=len(images),
        n_truth=counts[0].n_truth,
        n_pred=len(hits.scores),
        per_class=per_class,
        thresholds=tuple(_at_threshold(i, sums) for i in range(len(IOU_THRESHOLDS))),
        per_image=tuple(measures),
        errors=break_down(images, class_names),
        intervals=find_intervals(images, n_classes, groups),
        score_thresh=settings.score_thresh,
        notes=(*(note for image in images for note in image.notes), *_notes(images, hits, has_scores)),
    )


def _notes(images: Sequence[ComparedImage], hits: ScoreHits, has_scores: bool) -> list[str]:
    notes = [] if images else ["no image was compared"]
    if len(hits.scores) > 1 and not has_scores:
        notes.append(_ONE_SCORE)
    return notes


def _panoptic(averages: PQAverages | None, pooled: PanopticQuality) -> PanopticAverages:
    if averages is None:
        return PanopticAverages(math.nan, math.nan, math.nan, math.nan, math.nan, pooled)
    corrected = averages.mpq_monusac_corrected
    return PanopticAverages(averages.bpq, averages.mpq, averages.mpq_monusac, corrected, averages.mpq_plus, pooled)


def _pooled_qualities(sums: Sequence[ImageSums], n_classes: int) -> list[PanopticQuality]:
    """From the counts of all images together: blind to classes, then of each class."""
    zero = np.zeros(n_classes + 1, np.int64)
    pooled = sum((of.classes for of in sums), start=ClassCounts(zero, zero, zero, zero.astype(np.float64)))
    qualities = []
    for tp, fp, fn, iou_sum in zip(pooled.tp, pooled.fp, pooled.fn, pooled.iou_sum, strict=True):
        dq = Counts(int(tp), int(fp), int(fn)).f1
        sq = float(iou_sum / tp) if tp else dq  # without matches 0 or NaN, as dq is
        qualities.append(PanopticQuality(dq * sq, dq, sq))
    return qualities


def _best_thresholds(hits: ScoreHits, blind: ScoreHits, n_classes: int) -> list[BestThreshold]:
    """Blind to classes, then of each class."""
    curves = [
        threshold_curve(blind.scores, blind.hits, len(blind.truth_class_ids)),
        *class_threshold_curves(hits, n_classes),
    ]
    # The shortest number that is this float32, so that a threshold copied from here keeps the cell that set it.
    return [BestThreshold(float(str(np.float32(curve.best_threshold))), curve.best_f1) for curve in curves]


def _join(images: Sequence[ScoreHits]) -> ScoreHits:
    """The predictions of all images."""
    return ScoreHits(
        np.concatenate([np.zeros(0, np.float32), *(of.scores for of in images)]),
        np.concatenate([np.zeros(0, np.bool_), *(of.hits for of in images)]),
        np.concatenate([np.zeros(0, np.int64), *(of.class_ids for of in images)]),
        np.concatenate([np.zeros(0, np.int64), *(of.truth_class_ids for of in images)]),
    )


def _centroids(scores: CentroidScores, radius: Length) -> CentroidResult:
    return CentroidResult(radius, scores.f_d, scores.counts.precision, scores.counts.recall, scores.accuracy)


def _boundary(sums: Sequence[ImageSums], tolerance: Length) -> BoundaryResult:
    outlines = [of.outlines for of in sums]
    return BoundaryResult(
        tolerance=tolerance,
        n_pairs=sum(len(of.f1) for of in outlines),
        f1=_pooled_mean(of.f1 for of in outlines),
        hausdorff=Length(
            _pooled_mean(of.hausdorff_px for of in outlines), _pooled_mean(of.hausdorff_um for of in outlines)
        ),
        hausdorff95=Length(
            _pooled_mean(of.hausdorff95_px for of in outlines), _pooled_mean(of.hausdorff95_um for of in outlines)
        ),
    )


def _length(px: float, um: float | None, images: Sequence[ComparedImage]) -> Length:
    """A length that is given in µm, or else in px, in both units where all images share their µm/px."""
    known = {image.truth.mpp for image in images}
    mpp = known.pop() if len(known) == 1 else None
    mpp = math.nan if mpp is None else mpp
    return Length(px, px * mpp) if um is None else Length(um / mpp, um)


def _at_threshold(i: int, sums: Sequence[ImageSums]) -> ThresholdResult:
    counts = [of.counts[i] for of in sums]
    rates = [Rates.of(of_image) for of_image in counts]
    image_mean = Rates(
        precision=_mean(rate.precision for rate in rates),
        recall=_mean(rate.recall for rate in rates),
        f1=_mean(rate.f1 for rate in rates),
        dsb_ap=_mean(rate.dsb_ap for rate in rates),
    )
    return ThresholdResult(IOU_THRESHOLDS[i], Rates.of(sum(counts, Counts())), image_mean)


def _pooled_mean(images: Iterable[NDArray[np.float64]]) -> float:
    """Mean of all values of all images, NaN if any is NaN or there is none."""
    values = np.concatenate([np.zeros(0), *images])
    return float(values.mean()) if len(values) else math.nan


def _mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN without any."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
