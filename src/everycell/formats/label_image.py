"""Label images: one integer for each pixel, 0 is background, cell `i` of an `Instances` has value `i + 1`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tifffile
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.files import atomic_write
from everycell.structures import Instances

_UM_PER_CM = 10_000


def write_label_image(instances: Instances, path: Path) -> None:
    """Write a zlib-compressed TIFF, uint16 [H, W], or uint32 for more than 65,535 cells.

    The higher score wins a shared pixel. A known scale goes to the resolution tags, in pixels per centimetre.
    """
    dtype = np.uint16 if len(instances) <= np.iinfo(np.uint16).max else np.uint32
    scale: dict[str, Any] = {}
    if instances.mpp is not None:
        scale = {"resolution": (_UM_PER_CM / instances.mpp,) * 2, "resolutionunit": "CENTIMETER"}
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            instances.to_labels().astype(dtype),
            photometric="minisblack",
            compression="zlib",
            metadata=None,
            software="everycell",
            **scale,
        )


def read_label_image(path: Path, mpp: float | None = None) -> Instances:
    """Read a label image of any tool: TIFF, PNG or NPY, integers (or whole numbers in floating point) [H, W].

    All cells have class 1 and score 1, in the order of their values.

    Raises:
        DataError: the file cannot be read, or is no label image.
    """
    labels = _read_array(path)
    while labels.ndim > 2 and 1 in (labels.shape[0], labels.shape[-1]):
        labels = labels[0] if labels.shape[0] == 1 else labels[..., 0]
    if labels.ndim != 2:
        raise DataError(f"a label image has one value for each pixel, got shape {labels.shape}: {path}; is it a photo?")
    if not np.issubdtype(labels.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            whole = labels.astype(np.int64)
        if not np.array_equal(whole, labels):
            raise DataError(f"the values of a label image must be whole numbers, got fractions or NaN: {path}")
        labels = whole
    if labels.size and labels.min() < 0:
        raise DataError(f"the values of a label image must be 0 or above, got {labels.min()}: {path}")
    return Instances.from_labels(labels, mpp=mpp)


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
    except (OSError, ValueError, tifffile.TiffFileError, PIL.Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the label image {path}: {error}") from error
    raise DataError(f"a label image must be .tif, .tiff, .png or .npy, got {path}")
