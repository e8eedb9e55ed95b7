"""`Evaluator`: compares predictions with the truth, image by image, and sums up.

Average precision looks at raw masks with all their scores. PQ, AJI, Dice and F1 look at label images: pixels that
several cells of one set share go to the highest score first, and classes are ignored. Errors look at raw masks. All but
average precision leave out predictions under the score threshold, if one is set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from everycell.errors import DataError
from everycell.evaluate.errors import break_down
from everycell.evaluate.results import (
    ClassResult,
    ComparedImage,
    EvaluationResult,
    ImageResult,
    Rates,
    ThresholdResult,
)
from everycell.metrics import (
    IOU_THRESHOLDS,
    Counts,
    aggregated_jaccard_index,
    analyse_errors,
    average_precision,
    dice,
    match,
    overlap_of_labels,
    panoptic_quality,
)
from everycell.structures import Instances


class Evaluator:
    """Collects images with `add`, then gives `result`; for another run, make another one."""

    def __init__(
        self,
        class_names: Sequence[str],
        thresholds: Sequence[float] = IOU_THRESHOLDS,
        *,
        score_thresh: float | None = None,
    ) -> None:
        """Start without images.

        Args:
            class_names: names of classes 1 … K.
            thresholds: IoU thresholds of the detection rates; average precision always uses COCO's ten.
            score_thresh: average precision sees all predictions, everything else those that score at least this; all
                when None.
        """
        self._class_names = tuple(class_names)
        self._thresholds = tuple(thresholds)
        self._score_thresh = score_thresh
        self._preds: list[Instances] = []
        self._images: list[ComparedImage] = []
        self._counts: list[tuple[Counts, ...]] = []
        self._counts_50 = Counts()
        self._notes: list[str] = []

    def add(self, name: str, truth: Instances, pred: Instances) -> None:
        """Compare one image; `name` appears in messages and in the result."""
        self._check(name, truth, pred)
        truth, pred = (replace(cells, class_names=self._class_names) for cells in (truth, pred))
        kept = pred if self._score_thresh is None else pred.select(pred.scores >= self._score_thresh)
        overlap = overlap_of_labels(truth.to_labels(), kept.to_labels())
        iou = overlap.iou()
        quality = panoptic_quality(overlap)
        measures = ImageResult(
            name=name,
            n_truth=len(truth),
            n_pred=len(kept),
            pq=quality.pq,
            sq=quality.sq,
            aji=aggregated_jaccard_index(overlap),
            dice=dice(overlap),
            f1_50=quality.dq,
        )
        self._preds.append(pred)
        self._images.append(ComparedImage(name, truth, kept, analyse_errors(truth, kept), measures))
        self._counts.append(tuple(match(iou, threshold).counts for threshold in self._thresholds))
        self._counts_50 += match(iou, 0.5).counts
        self._notes += [f"{name}: {note}" for note in (*truth.notes, *pred.notes)]

    @property
    def images(self) -> tuple[ComparedImage, ...]:
        """Everything added so far, cell by cell."""
        return tuple(self._images)

    def result(self) -> EvaluationResult:
        """Everything added so far, summed up."""
        per_image = tuple(image.measures for image in self._images)
        truths = [image.truth for image in self._images]
        precision = average_precision(truths, self._preds, len(self._class_names))
        n_truth, n_pred = self._cells_per_class(truths), self._cells_per_class(self._preds)
        return EvaluationResult(
            map=precision.map,
            ap50=precision.ap50,
            ap75=precision.ap75,
            max_dets=precision.max_dets,
            pq=_mean(image.pq for image in per_image),
            aji=_mean(image.aji for image in per_image),
            dice=_mean(image.dice for image in per_image),
            f1_50=self._counts_50.f1,
            n_images=len(self._images),
            n_truth=sum(n_truth),
            n_pred=sum(n_pred),
            per_class={
                name: ClassResult(of_class.ap, of_class.ap50, of_class.ap75, n_truth[k], n_pred[k])
                for k, (name, of_class) in enumerate(zip(self._class_names, precision.per_class, strict=True))
            },
            thresholds=tuple(self._at_threshold(i) for i in range(len(self._thresholds))),
            per_image=per_image,
            errors=break_down(self._images, self._class_names),
            score_thresh=self._score_thresh,
            notes=tuple(self._notes),
        )

    def _check(self, name: str, truth: Instances, pred: Instances) -> None:
        if truth.image_size != pred.image_size:
            raise DataError(
                f"{name}: the prediction must have the size of the truth, {truth.image_size} (height, width), "
                f"got {pred.image_size}; predict on the image at its original size"
            )
        known = len(self._class_names)
        for what, cells in (("truth", truth), ("prediction", pred)):
            unknown = cells.class_ids[(cells.class_ids < 1) | (cells.class_ids > known)]
            if len(unknown):
                raise DataError(
                    f"{name}: class ids of the {what} must be 1 to {known} ({', '.join(self._class_names)}), "
                    f"got {unknown[0]}; predict with a model of the same classes"
                )

    def _cells_per_class(self, images: Iterable[Instances]) -> list[int]:
        total = np.zeros(len(self._class_names) + 1, np.int64)
        for cells in images:
            total += np.bincount(cells.class_ids, minlength=len(total))
        return [int(n) for n in total[1:]]

    def _at_threshold(self, i: int) -> ThresholdResult:
        counts = [of_image[i] for of_image in self._counts]
        rates = [Rates.of(of_image) for of_image in counts]
        image_mean = Rates(
            precision=_mean(rate.precision for rate in rates),
            recall=_mean(rate.recall for rate in rates),
            f1=_mean(rate.f1 for rate in rates),
            dsb_ap=_mean(rate.dsb_ap for rate in rates),
        )
        return ThresholdResult(self._thresholds[i], Rates.of(sum(counts, Counts())), image_mean)


def _mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN without any."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
