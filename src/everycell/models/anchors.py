"""How well anchors fit cells: the best IoU of each true box with any anchor that the network lays.

Exact, and without making the anchors: along each axis the overlap of a box and an anchor of given shape falls with the
distance of their centres, so of all places in a level's grid the one nearest to the box's centre is the best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import box_iou

from everycell.models.mask_rcnn import STRIDE
from everycell.structures import Sample

COVERED = 0.5  # least IoU of an anchor, or a proposal, that covers a cell
POSITIVE = 0.7  # IoU from which an anchor is positive in training, whatever others there are

_SIZES = np.unique(np.geomspace(4, 1024, 72).round().astype(int)).tolist()  # steps of 1 px, then of 8 %
_MAX_CELLS = 50_000  # enough to choose sizes by
_BAND = 8  # rows of places whose anchors are in memory at a time


@dataclass(frozen=True)
class TrueBoxes:
    """Boxes of the true cells of one image.

    Attributes:
        size: (height, width) of the image, px.
        boxes: float64 [N, 4], xyxy, px of the image.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float64]

    @classmethod
    def of(cls, sample: Sample) -> TrueBoxes:
        """Boxes of a sample's cells, in the order of their values."""
        return cls(sample.image.size, sample.to_instances().masks.boxes.astype(np.float64))

    def zoomed(self, factor: float) -> TrueBoxes:
        """The boxes in the image resized by `factor`; its sides are rounded to whole px, as `transforms.zoom` does."""
        height, width = (max(1, round(side * factor)) for side in self.size)
        ratios = np.array([width / self.size[1], height / self.size[0]] * 2)
        return TrueBoxes((height, width), self.boxes * ratios)

    def sides(self) -> NDArray[np.float64]:
        """Side of the square as large as each box, px, float64 [N]."""
        return np.sqrt((self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1))


def anchor_shapes(sizes: Sequence[int], ratios: Sequence[float]) -> list[NDArray[np.float64]]:
    """(width, height) of the anchors of each pyramid level, whole px, float64 [len(ratios), 2] each.

    Args:
        sizes: one for each level, px.
        ratios: height over width.
    """
    corners = AnchorGenerator(tuple((size,) for size in sizes), (tuple(ratios),) * len(sizes)).cell_anchors
    return [(level[:, 2:] - level[:, :2]).double().numpy() for level in corners]


def best_ious(truth: TrueBoxes, sizes: Sequence[int], ratios: Sequence[float]) -> NDArray[np.float64]:
    """The best IoU of each box with any anchor of any level, float64 [N].

    Args:
        truth: boxes at network scale.
        sizes: of the anchors, one for each pyramid level, px.
        ratios: of the anchors, height over width.
    """
    levels = zip(_grids(truth.size, len(sizes)), anchor_shapes(sizes, ratios), strict=True)
    return np.max([_level_ious(truth.boxes, *grid, shapes).max(axis=1) for grid, shapes in levels], axis=0)


def all_best_ious(truths: Iterable[TrueBoxes], sizes: Sequence[int], ratios: Sequence[float]) -> NDArray[np.float64]:
    """`best_ious` of several images, one after the other."""
    return np.concatenate([best_ious(truth, sizes, ratios) for truth in truths])


def taught(truth: TrueBoxes, sizes: Sequence[int], ratios: Sequence[float]) -> NDArray[np.bool_]:
    """Which cells training ever shows to the region proposal network, bool [N].

    An anchor is positive when its IoU with some cell is at least 0.7 or that cell's best, and is then taught the cell
    it overlaps most (Ren et al. 2015, and torchvision's `Matcher`). So a small cell is never taught where the anchors
    that hold it hold a larger one too. Takes the arguments of `best_ious`.
    """
    boxes = truth.boxes
    best = best_ious(truth, sizes, ratios) * (1 - 1e-9)  # equal IoUs may differ in their last bits
    shown = np.zeros(len(boxes), np.bool_)
    for (places, stride), shapes in zip(_grids(truth.size, len(sizes)), anchor_shapes(sizes, ratios), strict=True):
        columns = np.arange(places[0]) * stride[0]
        for first in range(0, places[1], _BAND):
            rows = np.arange(first, min(first + _BAND, places[1])) * stride[1]
            reach = shapes[:, 1].max() / 2
            near = np.flatnonzero((boxes[:, 3] > rows[0] - reach) & (boxes[:, 1] < rows[-1] + reach))
            if not len(near):
                continue
            centres = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 1, 2)
            anchors = np.concatenate([centres - shapes / 2, centres + shapes / 2], axis=-1).reshape(-1, 4)
            ious = box_iou(torch.from_numpy(boxes[near]), torch.from_numpy(anchors)).numpy()
            positive = (ious >= np.minimum(best[near], POSITIVE)[:, None]).any(axis=0)
            shown[near[ious[:, positive].argmax(axis=0)]] = True
    return shown


def suggest_sizes(
    truths: Sequence[TrueBoxes], ratios: Sequence[float], known: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    """Anchor sizes, ascending, one for each pyramid level, that fit the true boxes.

    They cover at least as many boxes at IoU 0.5 as the best of `known`, and have a high mean best IoU: the measure by
    which Redmon & Farhadi 2017 (YOLO9000, section 2) choose box sizes. Here a size belongs to a level and its stride,
    so the real grid is searched instead of clusters: one size after the other takes its best value between its
    neighbours until none gets better, from each of `known` and from quantiles of the boxes' sides.

    Args:
        truths: boxes at network scale, at least one.
        ratios: of the anchors, height over width.
        known: sizes in use, at least one set; the best of them comes back when nothing better is found.
    """
    levels = len(known[0])
    candidates = sorted({*_SIZES, *(size for sizes in known for size in sizes)})
    step = -(-sum(len(truth.boxes) for truth in truths) // _MAX_CELLS)
    few = [TrueBoxes(truth.size, truth.boxes[::step]) for truth in truths]
    table = np.concatenate([_ious_by_size(truth, levels, candidates, ratios) for truth in few], axis=2)
    quantiles = np.quantile(np.concatenate([truth.sides() for truth in few]), (np.arange(levels) + 0.5) / levels)
    starts = [[candidates.index(size) for size in sizes] for sizes in known]
    least = max((table[range(levels), start].max(axis=0) >= COVERED).mean() for start in starts)
    starts.append(np.searchsorted(candidates, quantiles).clip(max=len(candidates) - 1).tolist())
    found = {tuple(candidates[i] for i in _ascend(table, start, least)) for start in starts}
    every = {sizes: all_best_ious(truths, sizes, ratios) for sizes in (*known, *sorted(found))}
    least = max((every[sizes] >= COVERED).mean() for sizes in known)
    return max(every, key=lambda sizes: _worth(every[sizes], least))


def _worth(ious: NDArray[Any], least: float) -> NDArray[np.float64]:
    """Mean of IoUs [..., N]; those that cover a smaller share than `least` at IoU 0.5 rank below all others."""
    lacking = least - (ious >= COVERED).mean(axis=-1)
    return np.where(lacking > 0, -lacking, ious.mean(axis=-1, dtype=np.float64))


def _ascend(table: NDArray[np.float32], chosen: list[int], least: float) -> list[int]:
    """Improve the `chosen` candidate of each level in turn; `table` holds IoUs [levels, candidates, N]."""
    before: list[int] = []
    while chosen != before:
        before = list(chosen)
        for level in range(len(chosen)):
            rest = [table[other, i] for other, i in enumerate(chosen) if other != level]
            low = chosen[level - 1] if level else 0
            high = chosen[level + 1] if level + 1 < len(chosen) else table.shape[1] - 1
            worth = _worth(np.maximum(table[level, low : high + 1], np.max(rest, axis=0)), least)
            # Of equals the smallest, so that a level without use repeats the size below it.
            chosen = [*chosen[:level], low + int(worth.argmax()), *chosen[level + 1 :]]
    return chosen


def _ious_by_size(truth: TrueBoxes, levels: int, sizes: Sequence[int], ratios: Sequence[float]) -> NDArray[np.float32]:
    """Best IoU of each box with the anchors of each size on each level, float32 [levels, sizes, N]."""
    shapes = np.concatenate(anchor_shapes(sizes, ratios))
    ious = [_level_ious(truth.boxes, *grid, shapes) for grid in _grids(truth.size, levels)]
    return np.stack([level.reshape(-1, len(sizes), len(ratios)).max(axis=2).T for level in ious]).astype(np.float32)


def _grids(size: tuple[int, int], levels: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Number of places and their distance in px, each as (x, y), of every pyramid level.

    As in torchvision the distance is the padded image's side over the map's: not 64 px on a pooled map of odd parent.
    """
    padded = -(-np.array(size[::-1]) // STRIDE) * STRIDE
    places = [padded // (4 << level) for level in range(levels - 1)]
    places.append(-(-places[-1] // 2))
    return [(count, padded // count) for count in places]


def _level_ious(
    boxes: NDArray[np.float64], places: NDArray[np.int64], stride: NDArray[np.int64], shapes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Best IoU of each box with each shape, wherever on the level's grid it lies, float64 [N, shapes]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    nearest = (np.round(centres / stride).clip(0, places - 1) * stride)[:, None]
    low = np.maximum(boxes[:, None, :2], nearest - shapes / 2)
    high = np.minimum(boxes[:, None, 2:], nearest + shapes / 2)
    shared = (high - low).clip(0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / (areas[:, None] + shapes.prod(axis=1) - shared)
