"""Label images: one integer for each pixel, 0 is background, cell `i` of an `Instances` has value `i + 1`."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tifffile
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.files import atomic_write
from everycell.formats.cell_spool import SpoolingWriter
from everycell.formats.label_zarr import read_zarr_labels
from everycell.formats.pyramid import write_pyramid
from everycell.structures import Instances

_UM_PER_CM = 10_000
_MAX_PLAIN_PX = 4096
# What the decoders raise on damaged files; those of imagecodecs are RuntimeErrors.
_DECODE_ERRORS = (
    *(OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, struct.error, zlib.error),
    *(tifffile.TiffFileError, PIL.Image.DecompressionBombError),
)


class LabelImageWriter(SpoolingWriter):
    """Writes a zlib-compressed TIFF in bounded memory: uint16 [H, W], or uint32 for more than 65,535 cells.

    An image of more than 4096 px on a side becomes a tiled, pyramidal OME-TIFF, whose smaller levels take every 2nd,
    4th … pixel; any other is one plain page, which every tool opens. The higher score wins a shared pixel. A known
    scale goes to the resolution tags, in pixels per centimetre.
    """

    def __init__(self, path: Path, image_size: tuple[int, int], mpp: float | None = None) -> None:
        """Begin the file `path` for an image of `image_size` (height, width) and `mpp` micrometres per pixel."""
        super().__init__(atomic_write(path), path.parent)
        self._name, self._size, self._mpp = path.name, image_size, mpp

    def _draw(self) -> None:
        height, width = self._size
        if max(self._size) > _MAX_PLAIN_PX:
            layout = {"compression": "zlib", "photometric": "minisblack"}
            tile = partial(self._spool.tile, self._size)
            write_pyramid(self._temporary, self._name, tile, self._size, self._spool.dtype, self._mpp, **layout)
            return
        scale: dict[str, Any] = {}
        if self._mpp is not None:
            scale = {"resolution": (_UM_PER_CM / self._mpp,) * 2, "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(
            self._temporary,
            self._spool.paint((0, 0, width, height)).astype(self._spool.dtype),
            photometric="minisblack",
            compression="zlib",
            metadata=None,
            software="everycell",
            **scale,
        )


def write_label_image(instances: Instances, path: Path) -> None:
    """Write the label image of all cells of an image; see `LabelImageWriter`."""
    with LabelImageWriter(path, instances.image_size, instances.mpp) as writer:
        writer.write(instances)


def read_label_image(path: Path, mpp: float | None = None) -> Instances:
    """Read a label image of any tool: TIFF, PNG, NPY or OME-Zarr, whole numbers of any type [H, W].

    Of a pyramid the full resolution is read.

    All cells have class 1 and score 1, in the order of their values.

    Raises:
        DataError: the file cannot be read, or is no label image.
    """
    return Instances.from_labels(check_labels(_read_array(path), str(path)), mpp=mpp)


def check_labels(labels: NDArray[Any], where: str) -> NDArray[Any]:
    """`labels` as integers [H, W]; axes of length 1 around them are left out.

    Raises:
        DataError: there are other axes, or values that are no whole numbers from 0; `where` begins the message.
    """
    while labels.ndim > 2 and 1 in (labels.shape[0], labels.shape[-1]):
        labels = labels[0] if labels.shape[0] == 1 else labels[..., 0]
    if labels.ndim != 2 or not labels.size:
        raise DataError(f"{where}: a label image has one value per pixel, got shape {labels.shape}; is it a photo?")
    if labels.dtype.kind not in "bui":
        if labels.dtype.kind != "f":
            raise DataError(f"{where}: the values of a label image must be whole numbers, got type {labels.dtype}")
        with np.errstate(invalid="ignore"):
            whole = labels.astype(np.int64)
        if not np.array_equal(whole, labels):
            raise DataError(f"{where}: the values of a label image must be whole numbers, got fractions or NaN")
        labels = whole
    if labels.min() < 0:
        raise DataError(f"{where}: the values of a label image must be 0 or above, got {labels.min()}")
    return labels


def _read_array(path: Path) -> NDArray[Any]:
    suffix = path.suffix.lower()
    try:
        if suffix in (".tif", ".tiff"):
            return np.asarray(tifffile.imread(path))
        if suffix == ".png":
            with PIL.Image.open(path) as image:
                return np.asarray(image)
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if suffix == ".zarr":
            return read_zarr_labels(path)
    except _DECODE_ERRORS as error:
        raise DataError(f"cannot read the label image {path}: {error}") from error
    raise DataError(f"a label image must be .tif, .tiff, .png, .npy or .zarr, got {path}")
