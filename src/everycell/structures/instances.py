"""`Instances`: what was found, or what is true, in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.structures.crops import MaskCrops


@dataclass(frozen=True)
class Instances:
    """Cells of one image; zero cells is an ordinary value.

    Attributes:
        boxes: float32 [N, 4], xyxy, pixels of the full image.
        scores: float32 [N], in [0, 1]; 1 for ground truth.
        class_ids: int64 [N], 1 … K.
        masks: the N masks as crops.
        image_size: (height, width) of the image, px.
        mpp: micrometres per pixel, None when unknown.
        class_names: names of classes 1 … K, empty when unknown.
        notes: what a reader of this result must know, e.g. that the detection cap was reached.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    masks: MaskCrops
    image_size: tuple[int, int]
    mpp: float | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.masks)
        assert self.boxes.shape == (n, 4) and self.scores.shape == (n,) and self.class_ids.shape == (n,)
        assert self.boxes.dtype == np.float32 and self.scores.dtype == np.float32 and self.class_ids.dtype == np.int64

    def __len__(self) -> int:
        return len(self.masks)

    def select(self, index: NDArray[Any]) -> Instances:
        """The cells at `index` (integers or a boolean mask over N), in that order."""
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            class_ids=self.class_ids[index],
            masks=self.masks.select(index),
        )

    def class_name(self, class_id: int) -> str:
        """Name of class `class_id` (1 … K), `class<id>` when it has none."""
        return self.class_names[class_id - 1] if class_id <= len(self.class_names) else f"class{class_id}"

    def to_labels(self) -> NDArray[np.uint32]:
        """Label image, uint32 [H, W]: cell `i` has value `i + 1`, the higher score wins a shared pixel."""
        labels = np.zeros(self.image_size, np.uint32)
        windows = list(self.masks)
        for i in np.argsort(self.scores, kind="stable"):
            rows, columns, bits = windows[i]
            labels[rows, columns][bits] = i + 1
        return labels

    @classmethod
    def empty(cls, image_size: tuple[int, int], mpp: float | None = None, class_names: Sequence[str] = ()) -> Instances:
        """No cells in an image of `image_size` (height, width)."""
        return cls.from_masks(MaskCrops.empty(), image_size, mpp=mpp, class_names=class_names)

    @classmethod
    def from_masks(
        cls,
        masks: MaskCrops,
        image_size: tuple[int, int],
        *,
        scores: NDArray[np.float32] | None = None,
        class_ids: NDArray[np.int64] | None = None,
        mpp: float | None = None,
        class_names: Sequence[str] = (),
    ) -> Instances:
        """Cells from masks alone: boxes are the masks' windows, scores 1 and class 1 unless given."""
        n = len(masks)
        return cls(
            boxes=masks.boxes.astype(np.float32),
            scores=np.ones(n, np.float32) if scores is None else scores,
            class_ids=np.ones(n, np.int64) if class_ids is None else class_ids,
            masks=masks,
            image_size=image_size,
            mpp=mpp,
            class_names=tuple(class_names),
        )

    @classmethod
    def from_labels(cls, labels: NDArray[Any], *, mpp: float | None = None) -> Instances:
        """Cells of a label image, integers [H, W], 0 is background; all of class 1 with score 1."""
        masks, _ = MaskCrops.from_labels(labels)
        return cls.from_masks(masks, (labels.shape[0], labels.shape[1]), mpp=mpp)
