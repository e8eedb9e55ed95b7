"""Drop cells that lie under better ones.

Box NMS leaves two outlines of one cell where their boxes differ enough; their masks tell.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from everycell.predict.found import Found, bits_inside, neighbours, painted
from everycell.predict.sweep import Rows, sweep


def drop_covered(rows: Rows, max_covered: float) -> Rows:
    """Keep cells that hardly lie under others, best score first.

    Args:
        rows: cells of an image, see `sweep`.
        max_covered: a cell is dropped when more than this share of its pixels belongs to kept cells of higher score.
    """
    return sweep(
        rows,
        lambda found, horizon: _threats(found, horizon, max_covered),
        lambda found, pairs: found.select(_stay(found, pairs, max_covered)),
    )


def _threats(found: Found, horizon: float, max_covered: float) -> NDArray[np.int64]:
    """Pairs (better cell, cell that it may cover), int64 [P, 2].

    Few cells are in danger: those that all their better neighbours together could cover. A cell that reaches below
    the horizon may still get more of them.
    """
    masks = found.cells.masks
    ranks = found.ranks()
    pairs = neighbours(masks)
    pairs = np.where((ranks[pairs[:, 0]] < ranks[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
    shared = np.array([_shared_px(found, i, j) for i, j in pairs.tolist()], np.int64)
    at_most = np.bincount(pairs[:, 1], shared, minlength=len(found))
    in_danger = (at_most > max_covered * masks.areas()) | (masks.boxes[:, 3] > horizon)
    threats: NDArray[np.int64] = pairs[(shared > 0) & in_danger[pairs[:, 1]]]
    return threats


def _shared_px(found: Found, i: int, j: int) -> int:
    masks = found.cells.masks
    return int((bits_inside(masks, i, masks.boxes[j]) & bits_inside(masks, j, masks.boxes[i])).sum())


def _stay(found: Found, threats: NDArray[np.int64], max_covered: float) -> NDArray[np.bool_]:
    masks, areas = found.cells.masks, found.cells.masks.areas()
    stays = np.ones(len(found), np.bool_)
    better: dict[int, list[int]] = defaultdict(list)
    for i, j in threats[np.argsort(found.ranks()[threats[:, 1]], kind="stable")].tolist():
        better[j].append(i)
    for j, coverers in better.items():  # the best of those in danger first
        taken = painted(masks, [i for i in coverers if stays[i]], masks.boxes[j])
        stays[j] = (taken & masks.crop(j)).sum() <= max_covered * areas[j]
    return stays
