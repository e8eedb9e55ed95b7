"""A run's model on its validation images, anew: figures, errors and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everycell.datasets import Dataset, JoinedDataset, open_dataset
from everycell.errors import DataError
from everycell.evaluate import ComparedImage, EvaluationResult, Evaluator, worst_sheet
from everycell.metrics import Category, CellErrors
from everycell.plot import brighten
from everycell.predict import load_model
from everycell.report.pictures import VIEW_PX, figure_uri, picture_uri
from everycell.report.run import Run
from everycell.structures import Instances
from everycell.train.validation import AP_SCORE_THRESH

_N_SAMPLES = 4
_N_WORST = 4
_N_CELLS = 6

RIGHT, INEXACT, ALONE = 2, 3, 4
"""Classes whose colours mark outcomes: cyan for correct, vermilion for missed and spurious, amber for the rest."""


@dataclass(frozen=True)
class ShownImage:
    """A validation image twice: with its true and with its predicted cells, as data URIs."""

    image: ComparedImage
    truth: str
    pred: str

    @property
    def is_cut(self) -> bool:
        """Whether only the middle is shown."""
        return max(self.image.truth.image_size) > VIEW_PX


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
        errors = result.errors
        compared = {image.name: image for image in self._evaluator.images}
        ranked = errors.worst_images
        n_worst = min(_N_WORST, len(ranked) // 2)
        rest = ranked[n_worst:][::-1]
        chosen = np.unique(np.linspace(0, len(rest) - 1, min(_N_SAMPLES, len(rest))).round().astype(int))
        all_right = errors.truth["correct"] == errors.n_truth and errors.pred["correct"] == errors.n_pred
        return Findings(
            result=result,
            samples=tuple(self._show(compared[rest[i]]) for i in chosen),
            worst=tuple(self._show_outcome(compared[name]) for name in ranked[:n_worst]),
            sheet="" if all_right else self._sheet(),
        )

    def _sheet(self) -> str:
        return figure_uri(worst_sheet(self._evaluator.images, self._pixels, n_images=0, n_cells=_N_CELLS))

    def _pixels(self, name: str) -> NDArray[np.uint8]:
        return brighten(self._dataset.load(self._index[name]).image.pixels)

    def _show(self, image: ComparedImage) -> ShownImage:
        pixels = self._pixels(image.name)
        return ShownImage(image, picture_uri(pixels, image.truth), picture_uri(pixels, image.pred))

    def _show_outcome(self, image: ComparedImage) -> ShownImage:
        pixels, errors = self._pixels(image.name), image.errors
        truth, pred = _by_outcome(image.truth, errors.truth), _by_outcome(image.pred, errors.pred)
        return ShownImage(image, picture_uri(pixels, truth), picture_uri(pixels, pred))


def _by_outcome(cells: Instances, errors: CellErrors) -> Instances:
    """The cells with what became of them in place of their classes."""
    outcome = np.full(len(cells), INEXACT, np.int64)
    outcome[errors.category == Category.CORRECT] = RIGHT
    outcome[np.isin(errors.category, (Category.MISSED, Category.SPURIOUS))] = ALONE
    return replace(cells, class_ids=outcome)


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
