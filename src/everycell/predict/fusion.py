"""One result from several looks at the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from everycell.predict.found import bits_inside, hull, join_instances, neighbours
from everycell.structures import Instances, MaskCrops

_SAME_IOU = 0.5


def fuse(looks: Sequence[Instances], score_thresh: float) -> Instances:
    """Fuse the cells of several looks at one image, after the weighted fusion of boxes by Solovyev et al. 2021.

    From the best score down, a cell takes from each other look its best match by mask IoU, above 0.5 and not taken yet.
    They become one cell: its score is the sum of theirs over the number of looks, so that looks which miss it count
    as 0; its mask holds the pixels that more than half of the scores vote for; its box is the mean weighted by score;
    its class has the largest sum of scores.

    Args:
        looks: at least one, in the frame of the same image.
        score_thresh: fused cells that score less are dropped.

    Returns:
        Best score first.
    """
    cells = join_instances(looks)
    look = np.repeat(np.arange(len(looks)), [len(part) for part in looks])
    groups = _match(cells, look)
    scores = np.array([cells.scores[group].sum() for group in groups], np.float32) / np.float32(len(looks))
    best_first = [i for i in np.argsort(-scores, kind="stable").tolist() if scores[i] >= score_thresh]
    if not best_first:
        return cells.select(np.zeros(0, np.int64))
    fused = [_fused_mask(cells, groups[i]) for i in best_first]
    weights = [cells.scores[groups[i]] for i in best_first]
    pairs = list(zip([groups[i] for i in best_first], weights, strict=True))
    return replace(
        cells,
        boxes=np.stack([np.average(cells.boxes[group], axis=0, weights=weight) for group, weight in pairs]).astype(
            np.float32
        ),
        scores=scores[best_first],
        class_ids=np.array([np.bincount(cells.class_ids[group], weight).argmax() for group, weight in pairs], np.int64),
        masks=MaskCrops.from_crops(np.stack([origin for origin, _ in fused]), [bits for _, bits in fused]),
    )


def _match(cells: Instances, look: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of the cells of each group, the best first; every cell is in one group."""
    masks, areas = cells.masks, cells.masks.areas()
    alike: list[list[tuple[float, int]]] = [[] for _ in range(len(cells))]
    for i, j in neighbours(masks).tolist():
        if look[i] == look[j]:
            continue
        shared = int((bits_inside(masks, i, masks.boxes[j]) & bits_inside(masks, j, masks.boxes[i])).sum())
        iou = shared / max(1, areas[i] + areas[j] - shared)
        if iou > _SAME_IOU:
            alike[i].append((iou, j))
            alike[j].append((iou, i))
    taken = np.zeros(len(cells), np.bool_)
    groups = []
    for i in np.argsort(-cells.scores, kind="stable").tolist():
        if taken[i]:
            continue
        group = {look[i]: i}
        for _, j in sorted(alike[i], key=lambda pair: (-pair[0], pair[1])):
            if not taken[j]:
                group.setdefault(look[j], j)
        groups.append(np.array(list(group.values()), np.int64))
        taken[groups[-1]] = True
    return groups


def _fused_mask(cells: Instances, group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(x, y) of the first pixel, and the pixels of more than half of the votes, cut to their extent."""
    masks = cells.masks.select(group)
    x0, y0, x1, y1 = hull(masks.boxes).tolist()
    votes = np.zeros((y1 - y0, x1 - x0), np.float64)
    for (rows, columns, bits), score in zip(masks.shifted(-x0, -y0), cells.scores[group].tolist(), strict=True):
        votes[rows, columns] += score * bits
    chosen = votes > cells.scores[group].sum(dtype=np.float64) / 2
    y, x = np.nonzero(chosen)
    if not len(y):
        return np.array([x0, y0]), np.zeros((0, 0), np.bool_)
    return np.array([x0 + x.min(), y0 + y.min()]), chosen[y.min() : y.max() + 1, x.min() : x.max() + 1]
