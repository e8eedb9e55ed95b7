"""Generated images of crowded cells with predictions that go wrong in every way that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everycell.datasets import synthetic_sample
from everycell.structures import Instances, MaskCrops

DIAMETER_PX = 24.0


def crowded_pair(seed: int, size: tuple[int, int], n_cells: int, n_classes: int) -> tuple[Instances, Instances]:
    """Truth and prediction of one image."""
    rng = np.random.default_rng(seed)
    truth = synthetic_sample(rng, size, n_cells, diameter_px=DIAMETER_PX, n_classes=n_classes).to_instances()
    return truth, imperfect(rng, truth, n_classes)


def imperfect(rng: np.random.Generator, truth: Instances, n_classes: int) -> Instances:
    """A prediction of `truth`, whose cells may overlap one another.

    Of the true cells 6 % are missed, 5 % split, 5 % merged with the nearest one, all others smeared or trimmed by up to
    2 px; all move by up to 2 px, and 7 % are of a random class. Spurious cells come on top, 5 % of the true number.
    """
    found = _Cells([], [], [])
    cells = [np.array([rows.start, columns.start]) + np.argwhere(bits) for rows, columns, bits in truth.masks]
    centres = np.array([points.mean(axis=0) for points in cells])
    for i, points in enumerate(cells):
        fate = rng.random()
        class_id = int(truth.class_ids[i]) if rng.random() < 0.93 else int(rng.integers(1, n_classes + 1))
        moved = points + rng.integers(-2, 3, 2)
        if fate < 0.06:
            continue
        if fate < 0.11:
            along = moved[:, np.ptp(moved, axis=0).argmax()]
            for part in (moved[along < np.median(along)], moved[along >= np.median(along)]):
                found.add(part, class_id, rng.uniform(0.2, 0.9))
        elif fate < 0.16:
            nearest = int(((centres - centres[i]) ** 2).sum(axis=1).argsort()[1])
            found.add(np.concatenate([moved, cells[nearest]]), class_id, rng.uniform(0.2, 0.9))
        elif fate < 0.6:
            smeared = np.concatenate([moved, moved + rng.integers(-2, 3, 2)])
            found.add(smeared, class_id, rng.uniform(0.4, 1))
        else:
            trimmed = moved[moved[:, 0] >= moved[:, 0].min() + rng.integers(0, 3)]
            found.add(trimmed, class_id, rng.uniform(0.4, 1))
    for i in rng.integers(len(cells), size=len(cells) // 20):
        elsewhere = cells[i] - cells[i].min(axis=0) + rng.integers(0, truth.image_size)
        found.add(elsewhere, int(rng.integers(1, n_classes + 1)), rng.uniform(0.05, 0.6))
    return found.joined(truth.image_size)


@dataclass(frozen=True)
class _Cells:
    """Cells as places, int64 [P, 2] (y, x) px, some of them perhaps twice; with class and score."""

    points: list[NDArray[np.int64]]
    class_ids: list[int]
    scores: list[float]

    def add(self, points: NDArray[np.int64], class_id: int, score: float) -> None:
        self.points.append(points)
        self.class_ids.append(class_id)
        self.scores.append(score)

    def joined(self, size: tuple[int, int]) -> Instances:
        """All cells that have a pixel inside the image."""
        origins, crops, kept = [], [], []
        for i, points in enumerate(self.points):
            inside = points[((points >= 0) & (points < size)).all(axis=1)]
            if len(inside):
                origin = inside.min(axis=0)
                crop = np.zeros(inside.max(axis=0) - origin + 1, np.bool_)
                crop[tuple((inside - origin).T)] = True
                origins.append(origin[::-1])
                crops.append(crop)
                kept.append(i)
        return Instances.from_masks(
            MaskCrops.from_crops(np.array(origins), crops),
            size,
            scores=np.array(self.scores, np.float32)[kept],
            class_ids=np.array(self.class_ids, np.int64)[kept],
        )


def save_pair(path: Path, truth: Instances, pred: Instances) -> None:
    """Write both to an `.npz` file."""
    arrays = {
        f"{side}_{name}": value
        for side, cells in (("truth", truth), ("pred", pred))
        for name, value in (
            ("boxes", cells.masks.boxes),
            ("bits", cells.masks.bits),
            ("scores", cells.scores),
            ("class_ids", cells.class_ids),
        )
    }
    with path.open("wb") as file:
        np.savez(file, size=np.array(truth.image_size), **arrays)


def load_pair(path: Path) -> tuple[Instances, Instances]:
    """Read what `save_pair` wrote."""
    with np.load(path) as arrays:
        height, width = arrays["size"].tolist()
        truth, pred = (
            Instances.from_masks(
                MaskCrops(arrays[f"{side}_boxes"], arrays[f"{side}_bits"]),
                (height, width),
                scores=arrays[f"{side}_scores"],
                class_ids=arrays[f"{side}_class_ids"],
            )
            for side in ("truth", "pred")
        )
    return truth, pred
