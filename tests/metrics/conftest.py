import contextlib
import io

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
import pytest
from pycocotools import mask as coco_mask


@pytest.fixture
def true_grid():
    return np.array(
        [
            [1, 1, 0, 0, 0],
            [1, 1, 0, 2, 2],
            [0, 0, 0, 2, 2],
            [0, 0, 0, 0, 0],
            [3, 3, 3, 3, 0],
        ]
    )


@pytest.fixture
def pred_grid():
    return np.array(
        [
            [1, 1, 1, 0, 0],  # 1 covers all four pixels of true 1 and two more: 4 / 6
            [1, 1, 1, 0, 2],  # 2 covers two of the four pixels of true 2: 2 / 4
            [0, 0, 0, 0, 2],
            [4, 0, 0, 0, 0],
            [4, 4, 3, 3, 0],  # 3 and 4 cut true 3 in halves: 2 / 4 and 2 / 5
        ]
    )


@pytest.fixture(scope="session")
def coco_figures():
    """`coco_figures(truths, preds, ...)` by another program: AP, AP50, AP75 and AR of each class, [K, 4]."""
    return _coco_figures


def _coco_figures(
    truths,
    preds,
    *,
    n_classes=1,
    ignore=None,
    max_dets=None,
    kind=pycocotools.coco.COCO,
    evaluator=pycocotools.cocoeval.COCOeval,
    **options,
):
    """With the program's own limit of 100 cells unless `max_dets` is given; `ignore` are regions of each image."""
    none = [image.select(np.zeros(len(image), np.bool_)) for image in truths]
    with contextlib.redirect_stdout(io.StringIO()):
        sides = _as_coco(kind, truths, ignore or none, n_classes), _as_coco(kind, preds, none, n_classes)
        evaluation = evaluator(*sides, "segm", **options)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        if max_dets:
            evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1].mean(axis=1)
    recall = np.asarray(evaluation.eval["recall"])[:, :, 0, -1]
    return np.stack([precision.mean(axis=0), precision[0], precision[5], recall.mean(axis=0)], axis=1)


def _as_coco(kind, images, regions, n_classes):
    coco = kind()
    sizes = [image.image_size for image in images]
    coco.dataset = {
        "images": [{"id": i, "height": height, "width": width} for i, (height, width) in enumerate(sizes, start=1)],
        "categories": [{"id": k} for k in range(1, n_classes + 1)],
        "annotations": [],
    }
    annotations = coco.dataset["annotations"]
    for image_id, sets in enumerate(zip(images, regions, strict=True), start=1):
        for is_crowd, cells in enumerate(sets):
            for i, (rows, columns, bits) in enumerate(cells.masks):
                full = np.zeros(cells.image_size, np.uint8, order="F")
                full[rows, columns] = bits
                code = coco_mask.encode(full)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": int(cells.class_ids[i]),
                        "segmentation": code,
                        "area": float(coco_mask.area(code)),
                        "score": float(cells.scores[i]),
                        "iscrowd": is_crowd,
                    }
                )
    coco.createIndex()
    return coco
