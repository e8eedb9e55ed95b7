"""One image compared with its truth: everything that the figures over all images are made of.

Average precision, calibration and the best score threshold look at raw masks with all their scores. All else leaves out
predictions under the score threshold; of it, PQ, AJI, Dice and F1 look at label images, in which pixels that several
cells of one set share go to the highest score, and the errors, outlines and centroids at raw masks again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.evaluate.results import ImageResult
from everycell.metrics import (
    IOU_THRESHOLDS,
    BoundaryAgreement,
    CentroidPairs,
    ClassCounts,
    Counts,
    ImageErrors,
    Matches,
    Overlap,
    RankedCells,
    ScoreHits,
    Surroundings,
    aggregated_jaccard_index,
    aggregated_jaccard_index_plus,
    analyse_errors,
    boundary_agreement,
    centroid_scores,
    class_counts,
    dice,
    image_hits,
    match,
    overlaps,
    pair_centroids,
    panoptic_quality,
    rank_cells,
    surroundings,
)
from everycell.structures import Instances, MaskCrops
from everycell.structures.runs import row_runs


@dataclass(frozen=True)
class EvaluationSettings:
    """How images are compared; `Evaluator` says what each setting means."""

    class_names: tuple[str, ...]
    score_thresh: float | None = None
    radius_um: float | None = None
    tolerance_um: float | None = None
    keep_masks: bool = True


@dataclass(frozen=True)
class ImageSums:
    """What an image adds to the figures over all images.

    Attributes:
        counts: by IoU threshold, of which the first is 0.5, blind to classes.
        classes: matches by class.
        centroids: pairs by centroid distance.
        outlines: of the matched cells.
        ranked: predictions of all scores as average precision sees them.
        ranked_blind: the same, blind to classes.
        hits: predictions of all scores, right if they match a true cell of their class.
        hits_blind: the same, right if they match any true cell.
        where: size and place of the true cells, and of the predicted ones.
    """

    counts: tuple[Counts, ...]
    classes: ClassCounts
    centroids: CentroidPairs
    outlines: BoundaryAgreement
    ranked: RankedCells
    ranked_blind: RankedCells
    hits: ScoreHits
    hits_blind: ScoreHits
    where: tuple[Surroundings, Surroundings]


@dataclass(frozen=True)
class ComparedImage:
    """One image with all that was compared and found; it stays in memory and is not part of the JSON.

    Attributes:
        name: of the image.
        truth: true cells; their masks are empty unless `EvaluationSettings.keep_masks`.
        pred: predicted cells that count: they reach the score threshold and lie in no ignored region; masks likewise.
        errors: what became of each.
        measures: the image's figures.
        sums: what it adds to the figures over all images.
        notes: what a reader of the figures must know.
    """

    name: str
    truth: Instances
    pred: Instances
    errors: ImageErrors
    measures: ImageResult
    sums: ImageSums
    notes: tuple[str, ...] = ()


def compare_image(
    name: str, truth: Instances, pred: Instances, settings: EvaluationSettings, ignore: Instances | None = None
) -> ComparedImage:
    """Compare one image with its truth.

    Args:
        name: of the image, for messages.
        truth: true cells.
        pred: predicted cells.
        settings: how.
        ignore: regions without full truth (COCO's `iscrowd`). A wrong prediction with half of its pixels or more in a
            region of its class counts in nothing; average precision asks for the share of its IoU threshold.

    Raises:
        DataError: the sizes differ, a class is unknown, a score is not in [0, 1], or a length is given in µm and the
            image's µm/px are unknown.
    """
    _check(name, truth, pred, settings)
    notes = [*truth.notes, *pred.notes, *_mpp_notes(truth, pred)]
    mpp = truth.mpp or pred.mpp
    truth, pred = (replace(cells, class_names=settings.class_names, mpp=mpp) for cells in (truth, pred))
    runs = row_runs(truth.masks), row_runs(pred.masks)
    both = overlaps(truth, pred, runs)
    shared = both.raw
    ranked = rank_cells(truth, pred, shared, ignore=ignore)
    seen = ~ranked.ignored[0]
    if not seen.all():
        notes.append(f"{(~seen).sum()} of {len(pred)} predictions lie in ignored regions and were left out")
    counted = seen & (pred.scores >= (settings.score_thresh or 0))
    kept = pred
    if not counted.all():
        kept = pred.select(counted)
        runs = runs[0], row_runs(kept.masks)
        both = overlaps(truth, kept, runs)
    errors = analyse_errors(truth, kept, both.raw)
    iou = both.flat.iou()
    sums = ImageSums(
        counts=tuple(match(iou, threshold).counts for threshold in IOU_THRESHOLDS),
        classes=class_counts(
            both.flat, truth.class_ids[both.flat_truth], kept.class_ids[both.flat_pred], len(settings.class_names)
        ),
        centroids=pair_centroids(truth, kept, radius_um=settings.radius_um, runs=runs),
        outlines=boundary_agreement(truth, kept, _matched(errors), tolerance_um=settings.tolerance_um),
        ranked=ranked,
        ranked_blind=rank_cells(_blind(truth), _blind(pred), shared, ignore=ignore and _blind(ignore)),
        hits=_hits(truth, pred, shared, seen, by_class=True),
        hits_blind=_hits(truth, pred, shared, seen, by_class=False),
        where=(surroundings(truth, runs[0]), surroundings(kept, runs[1])),
    )
    if not settings.keep_masks:
        truth, kept = (replace(cells, masks=_without_pixels(cells.masks)) for cells in (truth, kept))
    measures = _measures(name, truth, kept, both.flat, sums)
    return ComparedImage(name, truth, kept, errors, measures, sums, tuple(f"{name}: {note}" for note in notes))


def _measures(name: str, truth: Instances, pred: Instances, flat: Overlap, sums: ImageSums) -> ImageResult:
    quality = panoptic_quality(flat)
    hausdorff = sums.outlines.hausdorff_px
    return ImageResult(
        name=name,
        group=None,
        n_truth=len(truth),
        n_pred=len(pred),
        pq=quality.pq,
        sq=quality.sq,
        aji=aggregated_jaccard_index(flat),
        aji_plus=aggregated_jaccard_index_plus(flat),
        dice=dice(flat),
        f1_50=quality.dq,
        f_d=centroid_scores([sums.centroids], len(truth.class_names)).f_d,
        boundary_f1=sums.outlines.mean_f1,
        hausdorff=float(hausdorff.mean()) if len(hausdorff) else float("nan"),
    )


def _check(name: str, truth: Instances, pred: Instances, settings: EvaluationSettings) -> None:
    if truth.image_size != pred.image_size:
        raise DataError(
            f"{name}: the prediction must have the size of the truth, {truth.image_size} (height, width), "
            f"got {pred.image_size}; predict on the image at its original size"
        )
    known = len(settings.class_names)
    for what, cells in (("truth", truth), ("prediction", pred)):
        unknown = cells.class_ids[(cells.class_ids < 1) | (cells.class_ids > known)]
        if len(unknown):
            raise DataError(
                f"{name}: class ids of the {what} must be 1 to {known} ({', '.join(settings.class_names)}), "
                f"got {unknown[0]}; predict with a model of the same classes"
            )
    strange = pred.scores[~((pred.scores >= 0) & (pred.scores <= 1))]
    if len(strange):
        raise DataError(
            f"{name}: scores of the prediction must be from 0 to 1, got {strange[0]} ({len(strange)} of {len(pred)} "
            f"are not); scale them, or leave those cells out"
        )
    in_um = settings.radius_um is not None or settings.tolerance_um is not None
    if in_um and not (truth.mpp or pred.mpp):
        raise DataError(f"{name}: lengths in µm need µm/px, which neither the image nor its cells say; leave them out")


def _mpp_notes(truth: Instances, pred: Instances) -> list[str]:
    if truth.mpp and pred.mpp and not np.isclose(truth.mpp, pred.mpp, rtol=0.01):
        return [f"truth and prediction differ in µm/px ({truth.mpp:g} and {pred.mpp:g}); that of the truth is used"]
    return []


def _matched(errors: ImageErrors) -> Matches:
    """The pairs that count as found."""
    truth = np.flatnonzero(errors.truth.matched)
    n, m, k = len(errors.truth.matched), len(errors.pred.matched), len(truth)
    return Matches(truth, errors.truth.partner[truth], errors.truth.iou[truth], Counts(tp=k, fp=m - k, fn=n - k))


def _blind(cells: Instances) -> Instances:
    """The same cells, all of class 1."""
    return replace(cells, class_ids=np.ones_like(cells.class_ids))


def _hits(truth: Instances, pred: Instances, shared: Overlap, seen: NDArray[np.bool_], *, by_class: bool) -> ScoreHits:
    hits = image_hits(truth, pred, shared, by_class=by_class)
    return ScoreHits(pred.scores[seen], hits[seen], pred.class_ids[seen], truth.class_ids)


def _without_pixels(masks: MaskCrops) -> MaskCrops:
    """Empty masks at the same places."""
    return MaskCrops(masks.boxes[:, [0, 1, 0, 1]], np.zeros(0, np.bool_))
