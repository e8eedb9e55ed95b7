"""What fine-tuning changed: the start model and the new one on the same images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from everycell.evaluate import Evaluator
from everycell.files import write_bytes
from everycell.predict import Model
from everycell.structures import Instances, Sample
from everycell.train.validation import AP_SCORE_THRESH

_CELL = ("cell",)
_WORSE = 0.01


@dataclass(frozen=True)
class BeforeAfter:
    """Two models on one set of images.

    F1 is at IoU 0.5, pooled over images and blind to classes, of the cells above each model's own score threshold.
    AP50 is the mean over classes, or of all cells as one class where the models and the data differ in their classes.

    Attributes:
        data: what the images are called.
        n_images: how many there are.
        n_cells: true cells in them.
        f1_before, f1_after: F1.
        ap50_before, ap50_after: AP50.
    """

    data: str
    n_images: int
    n_cells: int
    f1_before: float
    f1_after: float
    ap50_before: float
    ap50_after: float

    @property
    def is_worse(self) -> bool:
        """Whether F1 or AP50 fell by more than 0.01."""
        return self.f1_after < self.f1_before - _WORSE or self.ap50_after < self.ap50_before - _WORSE


def before_after(
    before: Model, after: Model, data: str, samples: Sequence[Sample], class_names: Sequence[str]
) -> BeforeAfter:
    """Predict `samples` with both models and compare with their truth.

    Args:
        before: the start model.
        after: the model that was trained from it.
        data: what to call the images.
        samples: images with their truth.
        class_names: of the samples' classes 1 … K.
    """
    alike = tuple(class_names) == before.class_names == after.class_names
    names = tuple(class_names) if alike else _CELL
    (f1_before, ap50_before), (f1_after, ap50_after) = (_rates(model, samples, names) for model in (before, after))
    n_cells = sum(len(sample.class_ids) for sample in samples)
    return BeforeAfter(data, len(samples), n_cells, f1_before, f1_after, ap50_before, ap50_after)


def _rates(model: Model, samples: Sequence[Sample], names: tuple[str, ...]) -> tuple[float, float]:
    evaluator = Evaluator(names, score_thresh=model.card.score_thresh, keep_masks=False)
    for i, sample in enumerate(samples):
        truth, pred = sample.to_instances(), model.predict(sample.image, score_thresh=AP_SCORE_THRESH)
        if names == _CELL:
            truth, pred = _blind(truth), _blind(pred)
        evaluator.add(f"{i} {sample.name}", truth, pred)
    result = evaluator.result()
    return result.f1_50, result.ap50


def _blind(cells: Instances) -> Instances:
    return replace(cells, class_ids=np.ones_like(cells.class_ids), class_names=_CELL)


def write_before_after(rows: Sequence[BeforeAfter], path: Path) -> None:
    """Write a CSV file with a row for each set of images."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(BeforeAfter)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_bytes(path, text.getvalue().encode())
