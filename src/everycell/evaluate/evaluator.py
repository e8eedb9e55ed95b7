"""`Evaluator`: collects compared images and sums them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from everycell.errors import DataError
from everycell.evaluate.image import ComparedImage, EvaluationSettings, compare_image
from everycell.evaluate.results import EvaluationResult
from everycell.evaluate.sum_up import sum_up
from everycell.structures import Instances


class Evaluator:
    """Collects images with `add`, then gives `result`; for another run, make another one."""

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        score_thresh: float | None = None,
        radius_um: float | None = None,
        tolerance_um: float | None = None,
        groups: Mapping[str, str] | None = None,
        keep_masks: bool = True,
    ) -> None:
        """Start without images.

        Args:
            class_names: names of classes 1 … K.
            score_thresh: average precision, calibration and the best threshold see all predictions, everything else
                those that score at least this; all when None.
            radius_um: largest distance of two centroids that form a pair, in place of the published 12 px.
            tolerance_um: largest distance of outlines that agree, in place of 2 px.
            groups: the group of each image by name, such as its patient, for intervals and PanNuke's averages; each
                image is on its own when None.
            keep_masks: whether `images` keep their masks, which pictures need; False saves memory.
        """
        self.settings = EvaluationSettings(tuple(class_names), score_thresh, radius_um, tolerance_um, keep_masks)
        self._groups = groups
        self._images: dict[str, ComparedImage] = {}

    def add(self, name: str, truth: Instances, pred: Instances, ignore: Instances | None = None) -> None:
        """Compare one image; see `compare_image` for the arguments and errors."""
        self.collect(compare_image(name, truth, pred, self.settings, ignore))

    def collect(self, image: ComparedImage) -> None:
        """Take an image that was compared with `settings`.

        Raises:
            DataError: an image of that name is there already, or it has no group although others have.
        """
        if image.name in self._images:
            raise DataError(f"{image.name}: image names must differ, got this one twice")
        if self._groups is not None:
            if image.name not in self._groups:
                raise DataError(f"{image.name}: expected a group for every image, got none for this one")
            image = replace(image, measures=replace(image.measures, group=self._groups[image.name]))
        self._images[image.name] = image

    @property
    def images(self) -> tuple[ComparedImage, ...]:
        """Everything added so far, cell by cell."""
        return tuple(self._images.values())

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each image; None without groups."""
        return None if self._groups is None else tuple(self._groups[name] for name in self._images)

    def result(self) -> EvaluationResult:
        """Everything added so far, summed up."""
        return sum_up(self.images, self.settings, self.groups)
