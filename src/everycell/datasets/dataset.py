"""What every data set offers, and several joined into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from everycell.errors import DataError
from everycell.structures import Sample


class Dataset(Protocol):
    """Images with their truth, read one at a time.

    Attributes:
        names: one distinct name an image, in order.
        class_names: names of classes 1 … K.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def load(self, i: int) -> Sample:
        """Read image `i` with its truth."""
        ...

    def image_path(self, i: int) -> Path:
        """File of image `i`."""
        ...


class JoinedDataset:
    """Several data sets one after the other.

    The first one's class names are used. Names that occur twice are prefixed with their data set's 1-based number.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        counts = [len(part.class_names) for part in parts]
        if len(set(counts)) != 1:
            raise DataError(f"joined data sets need the same number of classes, got {counts}; train them apart")
        self._parts = tuple(parts)
        self._where = tuple((part, i) for part in parts for i in range(len(part)))
        self.class_names = parts[0].class_names
        plain = [name for part in parts for name in part.names]
        twice = {name for name in plain if plain.count(name) > 1} if len(set(plain)) < len(plain) else set()
        self.names = tuple(
            f"{number}-{name}" if name in twice else name
            for number, part in enumerate(parts, start=1)
            for name in part.names
        )

    def __len__(self) -> int:
        return len(self._where)

    def load(self, i: int) -> Sample:
        """Read image `i` with its truth, under its name in the joined set."""
        part, index = self._where[i]
        return replace(part.load(index), name=self.names[i])

    def image_path(self, i: int) -> Path:
        """File of image `i`."""
        part, index = self._where[i]
        return part.image_path(index)


def check_partners(
    folder: Path, images: Iterable[str], masks: Iterable[str], *, image_is: str = "image", mask_is: str = "mask"
) -> None:
    """Raise a DataError naming up to five images without a mask, or masks without an image."""
    have, want = set(images), set(masks)
    for alone, what, missing in ((have - want, image_is, mask_is), (want - have, mask_is, image_is)):
        if alone:
            named = ", ".join(sorted(alone)[:5]) + (", …" if len(alone) > 5 else "")
            raise DataError(f"{folder}: {len(alone)} {what} without {missing}: {named}; add or remove files")


class Subset:
    """Some images of a data set.

    Args:
        dataset: the whole.
        indices: the images to keep, in order.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self._dataset, self._indices = dataset, tuple(indices)
        self.class_names = dataset.class_names
        self.names = tuple(dataset.names[i] for i in indices)

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, i: int) -> Sample:
        """Read image `i` of the subset with its truth."""
        return self._dataset.load(self._indices[i])

    def image_path(self, i: int) -> Path:
        """File of image `i` of the subset."""
        return self._dataset.image_path(self._indices[i])
