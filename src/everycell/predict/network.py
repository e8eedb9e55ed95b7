"""`NetworkDetector`: a `Model` made ready for the tiles of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from everycell.io import ImageSource
from everycell.predict.detector import Detection
from everycell.predict.fusion import fuse
from everycell.predict.masks import masks_to_crops
from everycell.predict.tiling import Tile
from everycell.predict.views import ONE_VIEW, View
from everycell.structures import Instances
from everycell.transforms import stretch, zoom_image

if TYPE_CHECKING:
    from everycell.predict.predictor import Model

# Below this the pyramid's own levels are read; above, full resolution is resampled in floating point, which keeps
# what lies between the grey levels of a dim image.
_COARSE = 0.5


@dataclass(frozen=True)
class NetworkDetector:
    """Finds the cells of one window with a network.

    Attributes:
        model: the network and its card.
        factor: network px per image px.
        thresh: least score.
        limits: grey levels of the image that the network sees as 0 and 1.
        views: how often and how it looks; the results are fused.
    """

    model: Model
    factor: float
    thresh: float
    limits: tuple[float, float]
    views: tuple[View, ...] = ONE_VIEW

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of classes 1 … K."""
        return self.model.class_names

    def detect(self, source: ImageSource, tile: Tile) -> Detection:
        """Find the cells in the tile's window."""
        pixels = self.network_pixels(source, tile)
        if len(self.views) == 1:
            return self._look(pixels, self.views[0], tile, source.size, self.thresh)
        # What one view hardly sees still counts where others are sure.
        looks = [self._look(pixels, view, tile, source.size, self.thresh / 2) for view in self.views]
        cells = fuse([look.cells for look in looks], self.thresh)
        return Detection(cells, next((look.cap for look in looks if look.cap), ""))

    def _look(self, pixels: Tensor, view: View, tile: Tile, image_size: tuple[int, int], thresh: float) -> Detection:
        x0, y0, x1, y1 = tile.window
        shown = view.show(pixels)
        raw, cap = self.model.look(shown, thresh)
        boxes, masks, (height, width) = view.undo(raw["boxes"], raw["masks"], shown)
        # Both axes have their own factor: sides are rounded to whole network pixels.
        ratios = torch.tensor([(x1 - x0) / width, (y1 - y0) / height] * 2)
        in_window, size = (boxes * ratios).numpy(), (y1 - y0, x1 - x0)
        crops = masks_to_crops(masks[:, 0].numpy(), in_window, size, aligned=self.model.card.settings.aligned)
        cells = Instances(
            boxes=(in_window + np.array([x0, y0, x0, y0])).astype(np.float32),
            scores=raw["scores"].numpy(),
            class_ids=raw["labels"].numpy(),
            masks=crops.shifted(x0, y0),
            image_size=image_size,
        )
        return Detection(cells, cap)

    def network_pixels(self, source: ImageSource, tile: Tile) -> Tensor:
        """float32 [3, h, w] in [0, 1], at network scale."""
        coarse = self.factor < _COARSE
        pixels = source.read_at(tile.window, self.factor) if coarse else source.read(tile.window)
        stretched = torch.from_numpy(stretch(pixels, self.limits)).permute(2, 0, 1)
        return stretched if coarse else zoom_image(stretched, self.factor)
