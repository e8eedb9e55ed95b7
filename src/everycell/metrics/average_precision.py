"""Average precision of COCO (Lin et al. 2014) on masks, without COCO's limit of 100 cells an image.

COCO's evaluation keeps the 100 highest scores of an image and class and calls every further true cell missed: perfect
outlines of 400 cells score 0.26 there. Here that limit, maxDets, is set above the largest count in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from everycell.structures import Instances
from everycell.structures.rle import encode


@dataclass(frozen=True)
class ClassPrecision:
    """Average precision of one class, in [0, 1]; NaN where the class has no true cell.

    Attributes:
        ap: mean over IoU 0.50, 0.55 … 0.95.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
    """

    ap: float
    ap50: float
    ap75: float


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision over classes and of each class.

    Attributes:
        map: mean AP over the classes that have a true cell; NaN where none has.
        ap50: the same at IoU 0.50.
        ap75: the same at IoU 0.75.
        per_class: K entries, those of classes 1 … K.
        max_dets: COCO's limit per image and class, above the largest count of true or predicted cells in any image.
    """

    map: float
    ap50: float
    ap75: float
    per_class: tuple[ClassPrecision, ...]
    max_dets: int


def average_precision(truths: Sequence[Instances], preds: Sequence[Instances], n_classes: int) -> AveragePrecision:
    """COCO AP of predictions in any number of images, on raw masks with all given scores.

    Args:
        truths: true cells, one entry an image.
        preds: predicted cells of the same images, in the same order; they may overlap.
        n_classes: K; class ids are 1 … K.
    """
    assert len(truths) == len(preds)
    max_dets = 1 + max((len(cells) for cells in [*truths, *preds]), default=0)
    precision = np.full((10, n_classes), np.nan)
    present = np.unique(np.concatenate([np.zeros(0, np.int64), *(truth.class_ids for truth in truths)]))
    if len(present):
        precision[:, present - 1] = _precision(truths, preds, present, max_dets)
    table = np.stack([precision.mean(axis=0), precision[0], precision[5]], axis=1)
    overall = table[present - 1].mean(axis=0) if len(present) else np.full(3, np.nan)
    ap, ap50, ap75 = overall.tolist()
    return AveragePrecision(ap, ap50, ap75, tuple(ClassPrecision(*row) for row in table.tolist()), max_dets)


def _precision(
    truths: Sequence[Instances], preds: Sequence[Instances], classes: NDArray[np.int64], max_dets: int
) -> NDArray[np.float64]:
    """Interpolated precision averaged over recall, float64 [10 IoU thresholds, classes]."""
    coco = [_index(images, classes) for images in (truths, preds)]
    evaluation = COCOeval_faster(*coco, iouType="segm", print_function=_say_nothing, rle_iou_max_workers=1)
    evaluation.params.maxDets = [max_dets]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision: NDArray[np.float64] = evaluation.eval["precision"]  # [IoU, recall, class, area, maxDets]
    return np.asarray(precision[:, :, :, 0, 0].mean(axis=1))


def _index(images: Sequence[Instances], classes: NDArray[np.int64]) -> COCO:
    """The cells of all images as an indexed COCO data set; ids count from 1."""
    coco = COCO(print_function=_say_nothing)
    coco.dataset = {
        "images": [
            {"id": i, "height": cells.image_size[0], "width": cells.image_size[1]} for i, cells in enumerate(images, 1)
        ],
        "categories": [{"id": class_id} for class_id in classes.tolist()],
        "annotations": [],
    }
    annotations: list[dict[str, Any]] = coco.dataset["annotations"]
    for image_id, cells in enumerate(images, 1):
        size = list(cells.image_size)
        counts = encode(cells.masks, cells.image_size)
        areas, scores, class_ids = cells.masks.areas().tolist(), cells.scores.tolist(), cells.class_ids.tolist()
        for area, score, class_id, rle in zip(areas, scores, class_ids, counts, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id,
                    "segmentation": {"size": size, "counts": rle},
                    "area": area,
                    "score": score,
                    "iscrowd": 0,
                }
            )
    coco.createIndex()
    return coco


def _say_nothing(*_: object) -> None:
    """The library reports progress through this."""
