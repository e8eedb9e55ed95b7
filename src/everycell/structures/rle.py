"""COCO run-length codes, made straight from crops: no full-image mask is ever built.

A code counts the pixels of a mask down the columns of the full image, background first, and packs each count (from
the fourth on, its difference to the count two before) into characters of 5 bits: the compressed `counts` string of
the COCO API (Lin et al. 2014, "Microsoft COCO: Common Objects in Context"). Codes equal those of pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.structures.crops import MaskCrops

_MAX_CHARACTERS = 12  # 60 bits: more than any pixel count, and safe in int64


def encode(masks: MaskCrops, image_size: tuple[int, int]) -> list[str]:
    """Compressed codes of N masks on an image of `image_size` (height, width).

    Returns:
        N strings, as in `segmentation["counts"]` of a COCO file.
    """
    n, n_pixels = len(masks), image_size[0] * image_size[1]
    # Cell i lives on its own stretch of a long line, with a gap of one pixel to the next.
    line_starts = np.arange(n) * (n_pixels + 1)
    run_starts, run_ends = _runs(masks, image_size, line_starts)
    n_runs = np.bincount(run_starts // (n_pixels + 1), minlength=n)
    edges = np.sort(np.concatenate([line_starts, run_starts, run_ends, line_starts + n_pixels]))
    cell = np.repeat(np.arange(n), 2 * n_runs + 2)
    counts = np.diff(edges)
    kept = cell[1:] == cell[:-1]
    tails = np.cumsum(2 * n_runs + 2) - 2
    kept[tails] = (counts[tails] > 0) | (n_runs == 0)
    return _pack(counts[kept], cell[:-1][kept], n)


def _runs(
    masks: MaskCrops, image_size: tuple[int, int], line_starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel of each run of foreground and the pixel after its last, ascending, column by column on the line."""
    height, width = image_size
    boxes = masks.boxes.astype(np.int64)
    assert ((boxes >= 0) & (boxes <= [width, height, width, height])).all(), "a mask leaves the image"
    pixel = np.flatnonzero(masks.bits)
    areas, widths = masks.areas(), boxes[:, 2] - boxes[:, 0]
    cell = np.repeat(np.arange(len(masks)), areas)
    row_length = np.repeat(widths, areas)
    local = pixel - np.repeat(masks.starts[:-1], areas)
    last_row = pixel + row_length >= np.repeat(masks.starts[1:], areas)
    first = (local < row_length) | ~masks.bits[np.maximum(pixel - row_length, 0)]
    last = last_row | ~masks.bits[np.where(last_row, 0, pixel + row_length)]

    def on_line(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        i = cell[chosen]
        rows, columns = np.divmod(local[chosen], row_length[chosen])
        return np.sort(line_starts[i] + (boxes[i, 0] + columns) * height + boxes[i, 1] + rows)

    starts, ends = on_line(first), on_line(last) + 1
    # A run at the foot of a column goes on at the head of the next one.
    apart = starts[1:] != ends[:-1]
    return starts[np.append(True, apart)[: len(starts)]], ends[np.append(apart, True)[: len(ends)]]


def _pack(counts: NDArray[np.int64], cell: NDArray[np.int64], n: int) -> list[str]:
    """Counts of all cells, one after the other, as one string for each cell."""
    n_counts = np.bincount(cell, minlength=n)
    position = np.arange(len(counts)) - (np.cumsum(n_counts) - n_counts)[cell]
    rest = counts.copy()
    later = np.flatnonzero(position > 2)
    rest[later] -= counts[later - 2]
    characters = np.zeros((len(counts), _MAX_CHARACTERS), np.uint8)
    used = np.zeros(characters.shape, np.bool_)
    open_ = np.ones(len(counts), np.bool_)
    for k in range(_MAX_CHARACTERS):
        bits = rest & 31
        rest >>= 5
        more = rest != np.where(bits & 16, -1, 0)
        characters[:, k] = bits + 32 * more + 48
        used[:, k] = open_
        open_ = open_ & more
    assert not open_.any()
    text = characters[used].tobytes().decode("ascii")
    ends = np.cumsum(np.bincount(cell, weights=used.sum(axis=1), minlength=n)).astype(int).tolist()
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def decode(counts: str, image_size: tuple[int, int]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """The mask of one code, inside its own window.

    Args:
        counts: a compressed code.
        image_size: (height, width) of the image that the code was made for.

    Returns:
        (x, y) of the window's top left pixel, and the window's bits, bool [h, w]; 0 x 0 for an empty mask.

    Raises:
        DataError: the string is no code, or is one for another image size.
    """
    height, width = image_size
    runs = _unpack(counts)
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


def decode_many(counts: Sequence[str], image_size: tuple[int, int]) -> MaskCrops:
    """The masks of N codes on one image of `image_size` (height, width); see `decode`."""
    decoded = [decode(code, image_size) for code in counts]
    origins = np.array([origin for origin, _ in decoded], np.int64).reshape(-1, 2)
    return MaskCrops.from_crops(origins, [crop for _, crop in decoded])


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
