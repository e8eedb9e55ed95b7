"""Training examples made ahead of time by processes of their own, so that a GPU need not wait for augmentation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader

from everycell.errors import ConfigError
from everycell.train.data import CropSource, Example

_MOST = 12
_INHERITED = sys.platform == "linux"  # what is in memory, by processes that are made


class _Places:
    """What the workers read from: the example at each place of an epoch."""

    def __init__(self, source: CropSource, epoch: int, order: Sequence[int]) -> None:
        self.source, self.epoch, self.order = source, epoch, order

    def __getitem__(self, place: int) -> Example:
        return self.source.training_example(self.epoch, place, self.order[place])


def choose_workers(wanted: int | None, device: torch.device, processes: int) -> int:
    """How many processes make examples for one of `processes` training processes on this machine.

    Raises:
        ConfigError: `wanted` is negative, or more than 0 where processes do not inherit the images that are read.
    """
    if wanted is None:
        spare = (os.cpu_count() or 1) // processes - 1
        return 0 if device.type == "cpu" or not _INHERITED else max(0, min(_MOST, spare))
    if wanted < 0 or (wanted and not _INHERITED):
        raise ConfigError(f"--workers must be 0, or more on Linux, got {wanted}")
    return wanted


def examples(
    source: CropSource, epoch: int, order: Sequence[int], places: Sequence[int], workers: int
) -> Iterator[Example]:
    """The examples at `places` of an epoch, in that order; the same ones for any number of workers.

    Args:
        source: cuts them.
        epoch: see `CropSource.order`.
        order: positions to visit in the epoch.
        places: indices of `order`.
        workers: processes that make them; with 0 each is made when it is asked for.
    """
    table = _Places(source, epoch, order)
    if not workers:
        yield from (table[place] for place in places)
        return
    loader: DataLoader[Example] = DataLoader(
        table,  # type: ignore[arg-type]
        batch_size=None,
        sampler=places,
        num_workers=workers,
        generator=torch.Generator(),  # else it would draw from torch's own
        multiprocessing_context="fork",
    )
    yield from loader
