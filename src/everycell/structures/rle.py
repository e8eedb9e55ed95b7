"""COCO run-length codes, made straight from crops: no full-image mask is ever built.

A code counts the pixels of a mask down the columns of the full image, background first, and packs each count (from
the fourth on, its difference to the count two before) into characters of 5 bits: the compressed `counts` string of
the COCO API (Lin et al. 2014, "Microsoft COCO: Common Objects in Context"). Codes equal those of pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.structures.crops import MaskCrops
from everycell.structures.runs import row_runs

_MAX_CHARACTERS = 12  # 60 bits: more than any pixel count, and safe in int64


def encode(masks: MaskCrops, image_size: tuple[int, int]) -> list[str]:
    """Compressed codes of N masks on an image of `image_size` (height, width).

    Returns:
        N strings, as in `segmentation["counts"]` of a COCO file.
    """
    if not len(masks):
        return []
    n, n_pixels = len(masks), image_size[0] * image_size[1]
    cell, starts, ends = _runs(masks, image_size)
    n_runs = np.bincount(cell, minlength=n)
    # Edges of a cell: 0, start and end of each run, the number of pixels.
    stops = np.cumsum(2 * n_runs + 2)
    edges = np.zeros(2 * len(cell) + 2 * n, np.int64)
    edges[stops - 1] = n_pixels
    at = 2 * (np.arange(len(cell)) + cell) + 1
    edges[at], edges[at + 1] = starts, ends
    counts = np.diff(edges)
    kept = np.ones(len(counts), np.bool_)
    kept[stops[:-1] - 1] = False  # from one cell to the next
    kept[stops - 2] = (counts[stops - 2] > 0) | (n_runs == 0)
    return _pack(counts[kept], np.repeat(np.arange(n), 2 * n_runs + 2)[:-1][kept], n)


def _runs(
    masks: MaskCrops, image_size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Runs of foreground down the columns of the image, as (cell, first pixel, pixel after the last), ascending."""
    height, width = image_size
    assert ((masks.boxes >= 0) & (masks.boxes <= [width, height, width, height])).all(), "a mask leaves the image"
    turned = np.concatenate([bits.ravel(order="F") for _, _, bits in masks])
    runs = row_runs(MaskCrops(masks.boxes[:, [1, 0, 3, 2]], turned))
    starts, ends = runs.y * height + runs.x0, runs.y * height + runs.x1
    # A run at the foot of a column goes on at the head of the next one.
    apart = (starts[1:] != ends[:-1]) | (runs.cell[1:] != runs.cell[:-1])
    first, last = np.append(True, apart)[: len(starts)], np.append(apart, True)[: len(starts)]
    return runs.cell[first], starts[first], ends[last]


def _pack(counts: NDArray[np.int64], cell: NDArray[np.int64], n: int) -> list[str]:
    """Counts of all cells, one after the other, as one string for each cell."""
    n_counts = np.bincount(cell, minlength=n)
    position = np.arange(len(counts)) - (np.cumsum(n_counts) - n_counts)[cell]
    rest = counts.copy()
    rest[2:] -= np.where(position[2:] > 2, counts[:-2], 0)
    columns = []
    unfinished = np.arange(len(counts))
    while len(unfinished):
        bits = rest & 31
        rest >>= 5
        more = rest != -(bits >> 4)  # what follows is more than the sign
        column = np.zeros(len(counts), np.uint8)
        column[unfinished] = bits + 32 * more + 48
        columns.append(column)
        unfinished, rest = unfinished[more], rest[more]
    text = np.stack(columns, axis=1).tobytes().translate(None, b"\0").decode("ascii")
    n_characters = np.count_nonzero(columns, axis=0)
    ends = np.cumsum(np.bincount(cell, n_characters, minlength=n)).astype(int).tolist()
    return [text[start:end] for start, end in pairwise([0, *ends])]


def decode(counts: str | Sequence[int], image_size: tuple[int, int]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """The mask of one code, inside its own window.

    Args:
        counts: a compressed code, or the run lengths themselves, as in an uncompressed one.
        image_size: (height, width) of the image that the code was made for.

    Returns:
        (x, y) of the window's top left pixel, and the window's bits, bool [h, w]; 0 x 0 for an empty mask.

    Raises:
        DataError: it is no code, or is one for another image size.
    """
    height, width = image_size
    runs = _unpack(counts) if isinstance(counts, str) else _run_lengths(counts)
    if runs.max() > height * width or runs.sum() != height * width:
        raise DataError(
            f"the RLE counts must add up to {height} x {width} = {height * width} pixels, got {runs.sum()}; "
            f"is it a mask of another image?"
        )
    edges = np.cumsum(runs)
    ends = edges[1::2]
    starts = edges[0::2][: len(ends)]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return (0, 0), np.zeros((0, 0), np.bool_)
    x0, x1 = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    tops, bottoms = starts % height, (ends - 1) % height
    wraps = (starts // height != (ends - 1) // height).any()
    y0, y1 = (0, height) if wraps else (int(tops.min()), int(bottoms.max()) + 1)
    steps = np.zeros((x1 - x0) * (y1 - y0) + 1, np.int8)
    first = (starts // height - x0) * (y1 - y0) + tops - y0
    steps[first] += 1
    steps[first + ends - starts] -= 1
    bits = np.cumsum(steps[:-1], dtype=np.int8).astype(np.bool_)
    return (x0, y0), np.ascontiguousarray(bits.reshape(x1 - x0, y1 - y0).T)


def _run_lengths(counts: Sequence[int]) -> NDArray[np.int64]:
    """Run lengths of an uncompressed code, background first."""
    if not counts or any(type(n) is not int or not 0 <= n < 1 << 5 * _MAX_CHARACTERS for n in counts):
        raise DataError(f"uncompressed RLE counts must be whole numbers of at least 0, got {list(counts)[:5]} …")
    return np.array(counts, np.int64)


def _unpack(code: str) -> NDArray[np.int64]:
    """Run lengths of a code, background first."""
    packed = np.frombuffer(code.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    if not len(packed) or packed.min() < 0 or packed.max() > 63 or packed[-1] & 32:
        raise DataError(f"not a compressed COCO RLE string: {code[:40]!r}; expected complete runs of characters 0 … o")
    last = np.flatnonzero(packed & 32 == 0)
    begins = np.append(0, last[:-1] + 1)
    lengths = last - begins + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise DataError(f"not a compressed COCO RLE string: {code[:40]!r} holds a number above 2^{5 * _MAX_CHARACTERS}")
    shift = 5 * (np.arange(len(packed)) - np.repeat(begins, lengths))
    counts = np.add.reduceat((packed & 31) << shift, begins)
    counts -= np.where(packed[last] & 16, 1 << (5 * lengths), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    if counts.min() < 0:
        raise DataError(f"not a compressed COCO RLE string: {code[:40]!r} holds a negative run length")
    return counts
