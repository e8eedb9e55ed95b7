"""Looking at an image more than once: turned, flipped or at another scale."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from everycell.transforms import zoom_image


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        scale: px of the view per px.
        flip: left becomes right, before the turns.
        turns: quarter turns.
    """

    scale: float = 1.0
    flip: bool = False
    turns: int = 0

    def show(self, image: Tensor) -> Tensor:
        """An image float32 [3, h, w] as this view shows it."""
        image = zoom_image(image, self.scale)
        return torch.rot90(image.flip(-1) if self.flip else image, self.turns, (-2, -1))

    def undo(self, boxes: Tensor, masks: Tensor, shown: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Detections taken back to the image as it was before flip and turns.

        Args:
            boxes: float32 [N, 4], xyxy, px of the view.
            masks: float32 [N, 1, M, M], inside the boxes.
            shown: what `show` returned.

        Returns:
            boxes, masks, and (height, width) of the image they now lie in: the view's scale stays.
        """
        height, width = shown.shape[1:]
        for _ in range(self.turns % 4):
            x0, y0, x1, y1 = boxes.unbind(1)
            boxes, height, width = torch.stack([height - y1, x0, height - y0, x1], dim=1), width, height
        masks = torch.rot90(masks, -self.turns, (-2, -1))
        if self.flip:
            x0, y0, x1, y1 = boxes.unbind(1)
            boxes, masks = torch.stack([width - x1, y0, width - x0, y1], dim=1), masks.flip(-1)
        return boxes, masks, (height, width)


ONE_VIEW = (View(),)
VIEWS = {
    "none": ONE_VIEW,
    "flips": tuple(View(flip=flip, turns=turns) for flip, turns in product((False, True), (0, 2))),
    "turns": tuple(View(flip=flip, turns=turns) for flip, turns in product((False, True), range(4))),
    "scales": tuple(View(scale) for scale in (0.8, 1.0, 1.25)),
    "all": tuple(View(scale, flip, turns) for scale, flip, turns in product((0.8, 1.0, 1.25), (False, True), range(4))),
}
"""Test-time augmentation by name; the results of the views are fused."""
