"""Detectors that see exactly what is there, and pictures of cells for them."""

import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from everycell.io import open_source
from everycell.predict.detector import Detection, Rules
from everycell.predict.engine import TiledPrediction
from everycell.predict.store import FolderStore
from everycell.predict.tiling import Tiling
from everycell.structures import Instances, MaskCrops


def random_cells(rng: np.random.Generator, size: tuple[int, int], count: int, longest: int) -> np.ndarray:
    """Label image of discs, bars, rings and crooked lines, partly over each other: each value is one connected part."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    drawn = np.zeros(size, np.int32)
    for value in range(1, count + 1):
        cy, cx, radius = rng.integers(height), rng.integers(width), rng.uniform(0.5, longest / 2)
        distance = np.hypot(y - cy, x - cx)
        match rng.integers(4):
            case 0:
                drawn[distance <= rng.uniform(0.5, max(1, radius / 2))] = value
            case 1:
                drawn[cy : cy + rng.integers(1, 4), cx : cx + int(2 * radius) + 1] = value
            case 2:
                drawn[np.abs(distance - radius) <= 1] = value
            case 3:
                walk = np.array([cy, cx]) + np.cumsum(rng.integers(-1, 2, (4 * longest, 2)), axis=0)
                for step in walk:
                    if (step >= 0).all() and (step < size).all():
                        drawn[tuple(step)] = value
    labels, n = np.zeros(size, np.int32), 0
    for value in np.unique(drawn[drawn > 0]):
        parts, count = ndimage.label(drawn == value)
        labels += np.where(parts > 0, parts + n, 0)
        n += count
    return labels


@dataclass
class LabelDetector:
    """Connected parts of the values of a label image inside the window, pieces at its sides included.

    Attributes:
        labels: int32 [H, W].
        cap: most cells of one window, None for no limit; the worst ones go.
    """

    labels: np.ndarray
    cap: int | None = None
    class_names: tuple[str, ...] = ("one", "two", "three")

    def detect(self, source, tile) -> Detection:
        x0, y0, x1, y1 = tile.window
        inside = self.labels[y0:y1, x0:x1]
        parts, n = np.zeros(inside.shape, np.int64), 0
        pieces, _ = MaskCrops.from_labels(inside)
        for rows, columns, bits in pieces:
            found, count = ndimage.label(bits)
            parts[rows, columns] += np.where(found > 0, found + n, 0)
            n += count
        masks, _ = MaskCrops.from_labels(parts)
        values = np.array([inside[rows, columns][bits][0] for rows, columns, bits in masks], np.int64)
        # As many different scores as cells, in no order of place.
        scores = (values * 7919 % 10007 / 10007).astype(np.float32)
        found = Instances.from_masks(masks.shifted(x0, y0), self.labels.shape, scores=scores, class_ids=values % 3 + 1)
        if self.cap is not None and len(found) >= self.cap:
            return Detection(
                found.select(np.argsort(-scores, kind="stable")[: self.cap]), f"cap of {self.cap} detections"
            )
        return Detection(found)


class ShuffledExecutor(Executor):
    """Finishes tasks in a random order, once all `total` of them are there."""

    def __init__(self, total: int, rng: np.random.Generator) -> None:
        self.total, self.rng, self.tasks = total, rng, []

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        self.tasks.append((future, function, args))
        if len(self.tasks) == self.total:
            for i in self.rng.permutation(self.total):
                future_i, function_i, args_i = self.tasks[i]
                future_i.set_result(function_i(*args_i))
        return future


def canonical(cells: Instances) -> list[tuple]:
    """Every cell with all its fields, in an order of its own."""
    return sorted(
        (tuple(box), bits.tobytes(), score, class_id, tuple(network_box))
        for box, (_, _, bits), score, class_id, network_box in zip(
            cells.masks.boxes.tolist(),
            cells.masks,
            cells.scores.tolist(),
            cells.class_ids.tolist(),
            cells.boxes.tolist(),
            strict=True,
        )
    )


class SlowDetector(LabelDetector):
    """Takes its time, so that there is some to kill it in."""

    def detect(self, source, tile) -> Detection:
        time.sleep(0.1)
        return super().detect(source, tile)


def predict_to_file(folder: Path, file: Path, make=LabelDetector) -> int:
    """Predict the same 300 × 300 px in 64 tiles kept in `folder`, and write its cells: tiles kept from before."""
    labels = random_cells(np.random.default_rng(5), (300, 300), 150, 60)
    rules = Rules(Tiling(labels.shape, 60, 10), max_covered=0.5)
    source = open_source(np.zeros(labels.shape, np.uint8))
    prediction = TiledPrediction(source, make(labels), rules, store=FolderStore(folder, labels.shape, {"of": "a test"}))
    prediction.run()
    with file.open("wb") as out:
        for batch in prediction.batches():
            for array in (batch.boxes, batch.scores, batch.class_ids, batch.masks.boxes, batch.masks.bits):
                out.write(array.tobytes())
    return prediction.report.n_kept
