"""`Sample`: an image with its truth, in the form that training cuts crops from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everycell.structures.crops import MaskCrops
from everycell.structures.image import Image
from everycell.structures.instances import Instances


@dataclass(frozen=True)
class Sample:
    """An image and every cell in it.

    Truth is kept as label layers: cells of one layer never overlap, so one layer is enough for a label image and
    four for four class masks. Value `v` in any layer is cell `v - 1`; a cell lies in exactly one layer.

    Attributes:
        name: what messages and outputs call this image.
        image: the pixels.
        layers: int32 [L, H, W], 0 is background.
        class_ids: int64 [N], 1 … K, of cells 0 … N - 1.
        dropped: degenerate instances left out when the sample was read.
    """

    name: str
    image: Image
    layers: NDArray[np.int32]
    class_ids: NDArray[np.int64]
    dropped: int = 0

    def __post_init__(self) -> None:
        assert self.layers.dtype == np.int32 and self.layers.shape[1:] == self.image.size

    def to_instances(self, class_names: tuple[str, ...] = ()) -> Instances:
        """The truth as `Instances` with score 1, cells in the order of their values."""
        parts, values = [], []
        for layer in self.layers:
            masks, ids = MaskCrops.from_labels(layer)
            parts.append(masks)
            values.append(ids)
        ids = np.concatenate(values) if values else np.zeros(0, np.int64)
        boxes = np.concatenate([part.boxes for part in parts]) if parts else np.zeros((0, 4), np.int32)
        bits = np.concatenate([part.bits for part in parts]) if parts else np.zeros(0, np.bool_)
        masks = MaskCrops(boxes, bits).select(np.argsort(ids))
        return Instances.from_masks(
            masks,
            self.image.size,
            class_ids=self.class_ids[np.sort(ids) - 1],
            mpp=self.image.mpp,
            class_names=class_names,
        )
