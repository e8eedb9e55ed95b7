"""A run's model on its validation images, anew: figures, errors and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everycell.datasets import Dataset, JoinedDataset, open_dataset
from everycell.errors import DataError
from everycell.evaluate import EvaluationResult, Evaluator
from everycell.predict import load_model
from everycell.report.pictures import ShownImage, show_classes, show_outcomes, worst_cells_uri
from everycell.report.run import Run
from everycell.train.validation import AP_SCORE_THRESH

_N_SAMPLES = 4
_N_WORST = 4


@dataclass(frozen=True)
class Findings:
    """What an examination found.

    Attributes:
        result: figures over the images examined.
        samples: some images from high to low PQ, outlined by class.
        worst: the images of lowest PQ, none of them a sample, outlined by what became of each cell.
        sheet: data URI of the contact sheet of the worst cells, "" when every cell is right.
    """

    result: EvaluationResult
    samples: tuple[ShownImage, ...]
    worst: tuple[ShownImage, ...]
    sheet: str


class Examination:
    """Predicts validation images one by one with `add`, then gives `findings`."""

    def __init__(self, run: Run, folders: Sequence[Path] = (), *, limit: int, device: str = "auto") -> None:
        """Open data and model.

        Args:
            run: the run.
            folders: where its data lies now; where it lay in training when empty.
            limit: images examined at most, the first ones as in training.
            device: auto, cpu, cuda or mps.

        Raises:
            DataError: there is no model yet, or the data is gone or is not that of the run.
            ModelError: the model is damaged.
            ConfigError: the device is not there.
        """
        if run.model is None or run.card is None:
            raise DataError(f"{run.path}: no model was saved yet; train at least one epoch")
        self._dataset = _open_data(run, folders)
        self._index = {name: i for i, name in enumerate(self._dataset.names)}
        self.names = tuple(name for name in self._dataset.names if run.split.get(name) == "validation")[:limit]
        self._model = load_model(run.model, device=device, bf16=run.setting("train", "bf16") is not False)
        self._evaluator = Evaluator(run.card.class_names, score_thresh=run.card.score_thresh)

    def add(self, name: str) -> None:
        """Predict one image and compare it with the truth."""
        sample = self._dataset.load(self._index[name])
        pred = self._model.predict(sample.image, score_thresh=AP_SCORE_THRESH)
        self._evaluator.add(name, sample.to_instances(self._model.class_names), pred)

    def findings(self) -> Findings:
        """Figures over everything added, and pictures of some of it."""
        result = self._evaluator.result()
        compared = {image.name: image for image in self._evaluator.images}
        ranked = result.errors.worst_images
        n_worst = min(_N_WORST, len(ranked) // 2)
        rest = ranked[n_worst:][::-1]
        chosen = np.unique(np.linspace(0, len(rest) - 1, min(_N_SAMPLES, len(rest))).round().astype(int))
        return Findings(
            result=result,
            samples=tuple(show_classes(compared[rest[i]], self._pixels) for i in chosen),
            worst=tuple(show_outcomes(compared[name], self._pixels) for name in ranked[:n_worst]),
            sheet=worst_cells_uri(self._evaluator.images, self._pixels),
        )

    def _pixels(self, name: str) -> NDArray[np.uint8]:
        return self._dataset.load(self._index[name]).image.pixels


def _open_data(run: Run, folders: Sequence[Path]) -> Dataset:
    places = tuple(folders) or run.folders
    if not places:
        raise DataError(f"{run.path}: where its data lies was not recorded; give it with --data")
    parts = [open_dataset(folder) for folder in places]
    dataset = parts[0] if len(parts) == 1 else JoinedDataset(parts)
    named = ", ".join(map(str, places))
    if missing := sorted(set(run.val_names) - set(dataset.names)):
        raise DataError(
            f"{named}: {len(missing)} of {len(run.val_names)} validation images of {run.path} are not there "
            f"({', '.join(missing[:3])}{', …' * (len(missing) > 3)}); give the data of that run with --data"
        )
    if len(dataset.class_names) != len(run.class_names):
        raise DataError(
            f"{named}: expected the {len(run.class_names)} classes of {run.path}, got {len(dataset.class_names)}; "
            "give the data of that run with --data"
        )
    return dataset
