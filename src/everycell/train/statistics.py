"""What a run should know about its data: counts, sizes, and a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everycell.structures import Sample

FINGERPRINT_COVERS = (
    "class names, and of every image in order its name, 8-bit RGB pixels, label layers and cell classes"
)

_SAME_MPP = 0.1  # images whose µm/px differ by more than this share have no common scale


def cells_per_class(sample: Sample, n_classes: int) -> NDArray[np.int64]:
    """Cells of classes 1 … n_classes, int64 [n_classes]."""
    return np.bincount(sample.class_ids, minlength=n_classes + 1)[1:]


@dataclass(frozen=True)
class DataFacts:
    """What a data set holds.

    Attributes:
        fingerprint: SHA-256, hexadecimal, of what `FINGERPRINT_COVERS` says; file formats and µm/px do not count.
        cells: int64 [images, K], cells of each class.
    """

    fingerprint: str
    cells: NDArray[np.int64]


def data_facts(class_names: Sequence[str], samples: Iterable[Sample]) -> DataFacts:
    """Read all `samples` once."""
    digest, cells = hashlib.sha256(json.dumps(list(class_names)).encode()), []
    for sample in samples:
        arrays = (sample.image.pixels, sample.layers, sample.class_ids)
        digest.update(json.dumps([sample.name, *(array.shape for array in arrays)]).encode())
        for array in arrays:
            digest.update(array.tobytes())
        cells.append(cells_per_class(sample, len(class_names)))
    return DataFacts(digest.hexdigest(), np.array(cells, np.int64).reshape(-1, len(class_names)))


def diameter_percentiles(samples: Iterable[Sample]) -> tuple[float, float, float] | None:
    """1st, 50th and 99th percentile of the cells' equivalent diameter (of a disc of equal area), image px."""
    areas = [np.bincount(layer.ravel())[1:] for sample in samples for layer in sample.layers]
    every = np.concatenate(areas) if areas else np.zeros(0)
    every = every[every > 0]
    if not len(every):
        return None
    low, middle, high = np.percentile(2 * np.sqrt(every / np.pi), (1, 50, 99))
    return round(float(low), 2), round(float(middle), 2), round(float(high), 2)


def common_mpp(samples: Iterable[Sample]) -> float | None:
    """Median µm/px if every image states it and all agree within 10 %, else None."""
    values = [sample.image.mpp for sample in samples]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    median = float(np.median(known))
    return median if max(abs(value / median - 1) for value in known) <= _SAME_MPP else None
