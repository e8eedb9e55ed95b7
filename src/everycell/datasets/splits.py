"""Training and validation images, with near duplicates kept on one side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import sparse

from everycell.errors import ConfigError, DataError
from everycell.structures import Image

THUMBNAIL_PX = 32
NEAR_DUPLICATE_CORRELATION = 0.9


def split(
    n: int, *, fraction: float = 0.1, seed: int = 0, groups: Sequence[Hashable] | None = None
) -> tuple[list[int], list[int]]:
    """Choose validation images at random, whole groups at a time.

    Args:
        n: number of images.
        fraction: share of validation images, between 0 and 1; met as nearly as whole groups allow, with at least one
            image on either side. A single image is for training.
        seed: of the choice.
        groups: n values, images with the same value stay together; each image is its own group when None.

    Returns:
        ascending indexes of the training and of the validation images.

    Raises:
        DataError: two or more images, all in one group.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"validation fraction must be between 0 and 1, got {fraction}")
    if n < 2:
        return list(range(n)), []
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups if groups is not None else range(n)):
        members.setdefault(group, []).append(i)
    if len(members) == 1:
        raise DataError(f"all {n} images are near duplicates of one another, nothing can be held out; add other images")
    parts = list(members.values())
    order = np.random.default_rng(seed).permutation(len(parts))
    shuffled = [parts[i] for i in order]
    chosen = _pick([len(part) for part in shuffled], target=int(n * fraction + 0.5), total=n)
    validation = sorted(i for part, taken in zip(shuffled, chosen, strict=True) if taken for i in part)
    return sorted(set(range(n)) - set(validation)), validation


def _pick(sizes: Sequence[int], *, target: int, total: int) -> list[bool]:
    """Which sizes to take so that their sum is nearest to `target`, at least 1 and less than `total`."""
    reachable = [1]  # bit s of entry k: the first k sizes can sum to s
    for size in sizes:
        reachable.append(reachable[-1] | reachable[-1] << size)
    rest = min((s for s in range(1, total) if reachable[-1] >> s & 1), key=lambda s: abs(s - target))
    taken = [False] * len(sizes)
    for k in range(len(sizes), 0, -1):
        if not reachable[k - 1] >> rest & 1:
            taken[k - 1] = True
            rest -= sizes[k - 1]
    return taken


def thumbnail(image: Image) -> NDArray[np.float32]:
    """Gray picture of 32 × 32 box means with mean 0 and length 1, float32 [1024]; zeros for a constant image."""
    gray = PIL.Image.fromarray(image.pixels).convert("L")
    small = np.asarray(gray.resize((THUMBNAIL_PX, THUMBNAIL_PX), PIL.Image.Resampling.BOX), np.float32).ravel()
    small = small - small.mean()
    unit: NDArray[np.float32] = small / np.float32(max(float(np.linalg.norm(small)), 1e-3))
    return unit


def near_duplicate_groups(thumbnails: Sequence[NDArray[np.float32]]) -> list[int]:
    """Group number of each image, where images that are nearly the same picture share one.

    Two images belong together when their thumbnails correlate at 0.9 or more, also by way of a third one. Chosen on
    the 615 images of the Data Science Bowl 2018 training set: its one pair of neighbouring planes of a stack
    correlates at 0.977, the next pairs (other embryos of like shape) at 0.63 and less, and at most at 0.75 when
    one is flipped or turned; a picture and itself moved by 1 % of its height correlate at 0.93 to 0.98 (median
    0.97). Flipped copies and overlapping crops are not found.

    Args:
        thumbnails: float32 [1024] each, from `thumbnail`.
    """
    n = len(thumbnails)
    if not n:
        return []
    stacked = np.stack(thumbnails)
    rows, columns = [], []
    for start in range(0, n, 1024):  # blocks, so that memory does not grow with n²
        near = np.argwhere(stacked[start : start + 1024] @ stacked.T >= NEAR_DUPLICATE_CORRELATION)
        rows.append(near[:, 0] + start)
        columns.append(near[:, 1])
    pairs = (np.concatenate(rows), np.concatenate(columns))
    graph = sparse.coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(n, n))
    return [int(group) for group in sparse.csgraph.connected_components(graph, directed=False)[1]]
