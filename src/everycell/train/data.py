"""Training examples: crops of samples with their targets, each decided by (seed, epoch, position) alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Generator, Tensor

from everycell.config import ModelSettings, TrainSettings
from everycell.datasets import Dataset
from everycell.models import Target, network_zoom
from everycell.structures import Sample
from everycell.train.balance import ClassBalance, draw_cell, window_around
from everycell.train.statistics import cells_per_class
from everycell.transforms import augment, get_recipe, input_range, random_window, stretch, zoom

_CACHE_IMAGES = 2000
_MAX_WEIGHT = 4
_MIN_SIDE_PX = 2  # narrower remains of a cell at a crop's edge teach nothing


@dataclass(frozen=True)
class Example:
    """One network input with its truth; `name` is the sample's."""

    name: str
    image: Tensor
    target: Target


class CropSource:
    """Cuts training and validation examples from the samples of a data set, which are read once and kept.

    Args:
        dataset: where samples come from.
        indices: the samples to use.
        model: decides scale and normalisation.
        train: decides crops and augmentation.
    """

    def __init__(self, dataset: Dataset, indices: list[int], model: ModelSettings, train: TrainSettings) -> None:
        get_recipe(train.recipe)  # an unknown one fails now, not at the first example
        self.indices, self.model, self.train = indices, model, train
        self._n_classes = len(dataset.class_names)
        self.load = lru_cache(_CACHE_IMAGES)(dataset.load)
        self._limits = lru_cache(None)(self._read_limits)

    def order(self, epoch: int, count: int | None) -> list[int]:
        """Positions to visit in `epoch`, in random order.

        Each once when `count` is None; else `count` drawn in rounds, in which an image that holds several crops comes
        up to four times. With `balance_classes` every place is drawn anew, as `ClassBalance` says.
        """
        generator = _generator(self.train.seed, epoch, -1)
        if self._balance is not None:
            return self._balance.draw_images(count or len(self.indices), generator)
        if count is None:
            return torch.randperm(len(self.indices), generator=generator).tolist()
        bag = torch.repeat_interleave(torch.arange(len(self.indices)), torch.tensor(self._weights))
        rounds = -(-count // len(bag))
        drawn = torch.cat([bag[torch.randperm(len(bag), generator=generator)] for _ in range(rounds)])
        return drawn[:count].tolist()

    @cached_property
    def _weights(self) -> list[int]:
        """How often an image comes in a round: the square root of the crops it holds, 1 to 4."""
        weights = []
        for i in self.indices:
            height, width = self.load(i).image.size
            side = (self.train.crop_px or max(height, width)) / network_zoom(self.model, (height, width))
            weights.append(min(_MAX_WEIGHT, max(1, round((height * width) ** 0.5 / side))))
        return weights

    @cached_property
    def _balance(self) -> ClassBalance | None:
        if not self.train.balance_classes:
            return None
        cells = np.stack([cells_per_class(self.load(i), self._n_classes) for i in self.indices])
        return ClassBalance(cells, np.array(self._weights), self.train.balance_classes)

    def training_example(self, epoch: int, place: int, position: int) -> Example:
        """The example at `place` of `epoch`, cut from the sample at `position` and augmented."""
        generator = _generator(self.train.seed, epoch, place)
        low, high = self.train.scale_jitter
        jitter = float(np.exp(np.log(low) + (np.log(high) - np.log(low)) * torch.rand((), generator=generator).item()))
        class_id = self._balance.draw_class(position, generator) if self._balance is not None else 0
        sample, image, layers = self._cut(position, jitter, generator, class_id)
        image, layers = augment(self.train.recipe, image, layers, generator)
        return Example(sample.name, image, make_target(layers, sample.class_ids))

    def validation_example(self, position: int) -> Example:
        """The same crop of the sample at `position` every time, without augmentation."""
        sample, image, layers = self._cut(position, 1.0, _generator(self.train.seed, 0, position))
        return Example(sample.name, image, make_target(layers, sample.class_ids))

    def _cut(
        self, position: int, jitter: float, generator: Generator, class_id: int = 0
    ) -> tuple[Sample, Tensor, Tensor]:
        """The sample at `position`, and a crop of its pixels and layers at network scale times `jitter`.

        The crop lies around a cell of class `class_id`, anywhere when that is 0.
        """
        index = self.indices[position]
        sample = self.load(index)
        factor = network_zoom(self.model, sample.image.size) * jitter
        rows, columns = slice(None), slice(None)
        if self.train.crop_px is not None:
            # Rounded down: one pixel more than `crop_px` would pad the whole batch to the next stride.
            side_px = math.floor(self.train.crop_px / factor)
            if class_id:
                centre = draw_cell(sample, class_id, generator)
                rows, columns = window_around(centre, sample.image.size, side_px, generator)
            else:
                rows, columns = random_window(sample.image.size, side_px, generator)
        image = torch.from_numpy(stretch(sample.image.pixels[rows, columns], self._limits(index))).permute(2, 0, 1)
        return sample, *zoom(image, torch.from_numpy(sample.layers[:, rows, columns]), factor)

    def _read_limits(self, index: int) -> tuple[float, float]:
        return input_range(self.load(index).image.pixels, self.model.normalize)


def _generator(seed: int, epoch: int, place: int) -> Generator:
    entropy = np.random.SeedSequence((seed, epoch, place + 1)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(entropy >> np.uint64(1)))


def make_target(layers: Tensor, class_ids: NDArray[np.int64]) -> Target:
    """Boxes and classes of the cells in label layers.

    Args:
        layers: int32 [L, H, W] at network scale.
        class_ids: int64 [N], class of value 1 … N.

    Returns:
        The target that `CellRoIHeads` describes; cells thinner than 2 px are left out.
    """
    boxes, values, layer_of = [], [], []
    for index, layer in enumerate(layers.numpy()):
        for value, window in enumerate(ndimage.find_objects(layer), start=1):
            if window is None:
                continue
            rows, columns = window
            if min(rows.stop - rows.start, columns.stop - columns.start) >= _MIN_SIDE_PX:
                boxes.append((columns.start, rows.start, columns.stop, rows.stop))
                values.append(value)
                layer_of.append(index)
    chosen = torch.tensor(values, dtype=torch.int32)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.from_numpy(class_ids)[chosen.long() - 1],
        "layers": layers,
        "layer_of": torch.tensor(layer_of, dtype=torch.int64),
        "values": chosen,
    }
