"""Join the cells of neighbouring tiles: each cell comes out once and whole.

Why nothing is lost, with a detector that outlines a pixel alike in every window that holds its surroundings: the
pixels of a cell lie in the cores of one or more tiles. If the tile that owns its centroid sees all of it, that outline
stays. Otherwise the cell reaches at least a halo away from its centroid, so every tile that sees all of it keeps it
(`worth_keeping`); and if none does, the tiles whose cores it crosses keep their pieces, which together are the cell,
and two neighbouring pieces share the pixels on both sides of the cores' edge.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from everycell.predict.found import Found, bits_inside, hull, neighbours, painted
from everycell.predict.sweep import Rows, sweep
from everycell.predict.tiling import Tile, Tiling
from everycell.structures import Instances, MaskCrops
from everycell.structures.runs import row_runs

_SAME_IOU = 0.5


def centroids(masks: MaskCrops) -> NDArray[np.float64]:
    """Mean x and y of each cell's pixels, float64 [N, 2], px from the image's corner.

    The window's centre for a mask without pixels.
    """
    means = row_runs(masks).centroids() + 0.5
    centres: NDArray[np.float64] = np.where(np.isnan(means), (masks.boxes[:, :2] + masks.boxes[:, 2:]) / 2, means)
    return centres


def worth_keeping(cells: Instances, tile: Tile, tiling: Tiling, *, seam_px: int = 0) -> Found:
    """The cells that a tile hands on; the other tiles see those that it leaves out.

    Handed on are whole cells that the tile owns, or that their owner may not see whole; and pieces that reach into the
    core. Two tiles may hand on the same cell.

    Args:
        cells: all that was detected in the tile's window, px of the image.
        tile: where.
        tiling: that the tile belongs to.
        seam_px: how far two tiles may differ on where a cell lies.
    """
    masks = cells.masks
    cut = tiling.cuts(tile.window, masks.boxes, seam_px)
    centres = centroids(masks)
    owned = np.array([tile.owns(x, y, seam_px) for x, y in centres.tolist()], np.bool_)
    reach = np.maximum(centres - masks.boxes[:, :2], masks.boxes[:, 2:] - centres).max(axis=1, initial=0)
    keep = ~cut & (owned | (reach >= tiling.halo_px - 2 * seam_px))
    core = np.array(tile.core)
    for i in np.flatnonzero(cut).tolist():
        keep[i] = bits_inside(masks, i, core).any()
    keep &= masks.areas() > 0
    n = int(keep.sum())
    windows = np.tile(np.array(tile.window, np.int64), (n, 1))
    return Found(cells.select(keep), windows, cut[keep], np.arange(n))


def join_seams(rows: Rows) -> Rows:
    """Each cell once, whichever tiles found it, and cells that no tile saw whole in one piece; see `sweep`.

    Of whole outlines of one cell (mask IoU above 0.5) the best score stays. A piece of a cell that stays goes; other
    pieces of one cell become one. They are pieces of one cell when, in the area that both tiles see, connected parts
    of them have an IoU above 0.5.
    """
    return sweep(rows, lambda found, horizon: _same_cells(found), _unite)


def _same_cells(found: Found) -> NDArray[np.int64]:
    """Pairs of different tiles that are one cell, int64 [P, 2]."""
    pairs = neighbours(found.cells.masks)
    pairs = pairs[(found.windows[pairs[:, 0]] != found.windows[pairs[:, 1]]).any(axis=1)]
    same: NDArray[np.int64] = pairs[np.array([_is_same(found, i, j) for i, j in pairs.tolist()], np.bool_)]
    return same


def _is_same(found: Found, i: int, j: int) -> bool:
    masks, windows = found.cells.masks, found.windows
    low, high = np.maximum(windows[i, :2], windows[j, :2]), np.minimum(windows[i, 2:], windows[j, 2:])
    # Whole outlines are compared whole; of pieces only what both tiles see.
    is_piece = found.cut[i] or found.cut[j]
    frame = hull(masks.boxes[[i, j]])
    if is_piece:
        frame = np.concatenate([frame[:2].clip(low), frame[2:].clip(None, high)])
    parts = [painted(masks, [k], frame) for k in (i, j)]
    a, b = (ndimage.label(part)[0] if is_piece else part.astype(np.int32) for part in parts)
    shared = np.bincount((a * (b.max() + 1) + b)[parts[0] & parts[1]], minlength=(a.max() + 1) * (b.max() + 1))
    areas = np.bincount(a.ravel())[:, None] + np.bincount(b.ravel())
    return bool(((1 + _SAME_IOU) * shared.reshape(areas.shape) > _SAME_IOU * areas)[1:, 1:].any())


def _unite(found: Found, pairs: NDArray[np.int64]) -> Found:
    ranks, linked = found.ranks(), defaultdict(list)
    for i, j in pairs.tolist():
        linked[i].append(j)
        linked[j].append(i)
    gone = np.zeros(len(found), np.bool_)
    # Whole cells first, the best of all before the others: whoever stays takes its likes and its pieces away.
    for i in sorted(linked, key=ranks.__getitem__):
        if not (found.cut[i] or gone[i]):
            gone[[j for j in linked[i] if found.cut[j] or ranks[j] > ranks[i]]] = True
    pieces = pairs[(found.cut & ~gone)[pairs].all(axis=1)]
    _, group = connected_components(coo_array((np.ones(len(pieces)), pieces.T), (len(found),) * 2), directed=False)
    alone = ~gone & (np.bincount(group)[group] == 1)
    members = [np.flatnonzero(group == g) for g in np.unique(group[pieces[:, 0]])]
    return Found.join([found.select(alone), *(_united(found, index) for index in members)])


def _united(found: Found, index: NDArray[np.int64]) -> Found:
    """One cell of several pieces; score, class and number are those of the best."""
    pieces = found.select(index)
    best, masks = pieces.select(pieces.ranking()[:1]), pieces.cells.masks
    window = hull(masks.boxes)
    whole = MaskCrops(window[None], painted(masks, range(len(pieces)), window).ravel())
    return replace(best, cells=replace(best.cells, boxes=hull(pieces.cells.boxes)[None], masks=whole))
