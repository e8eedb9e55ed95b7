"""OME-Zarr labels (OME-NGFF 0.5 on Zarr 3): a folder that is opened piece by piece, by napari for example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.files import atomic_folder
from everycell.formats.cell_spool import SpoolingWriter
from everycell.formats.pyramid import TILE_PX, level_sizes, level_tiles


class LabelZarrWriter(SpoolingWriter):
    """Writes a label image as a pyramid of Zarr arrays, uint16, or uint32 for more than 65,535 cells.

    Each level takes every 2nd pixel of the one before. Chunks without a cell take no room on disk.
    """

    def __init__(self, path: Path, image_size: tuple[int, int], mpp: float | None = None) -> None:
        """Begin the folder `path` for an image of `image_size` (height, width) and `mpp` micrometres per pixel."""
        super().__init__(atomic_folder(path), path.parent)
        self._name, self._size, self._mpp = path.name, image_size, mpp

    def _draw(self) -> None:
        group = zarr.create_group(self._temporary, zarr_format=3)
        sizes = level_sizes(self._size)
        for level, size in enumerate(sizes):
            array = group.create_array(
                str(level),
                shape=size,
                dtype=self._spool.dtype,
                chunks=(min(TILE_PX, size[0]), min(TILE_PX, size[1])),
                dimension_names=("y", "x"),
            )
            for window in level_tiles(size):
                x0, y0, x1, y1 = window
                array[y0:y1, x0:x1] = self._spool.tile(self._size, level, window)
        group.attrs["ome"] = _metadata(self._name, len(sizes), self._mpp)


def _metadata(name: str, n_levels: int, mpp: float | None) -> dict[str, Any]:
    unit = {} if mpp is None else {"unit": "micrometer"}
    scales = [[(mpp or 1.0) * 2**level] * 2 for level in range(n_levels)]
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": [
                    {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
                    for level, scale in enumerate(scales)
                ],
            }
        ],
        "image-label": {},
    }


def read_zarr_labels(path: Path) -> NDArray[Any]:
    """The full resolution of OME-Zarr labels (OME-NGFF 0.4 or 0.5), whole numbers of any type [H, W].

    Raises:
        DataError: the folder cannot be read, or holds no image.
    """
    try:
        group = zarr.open_group(path, mode="r")
        ome: Any = group.attrs.get("ome", group.attrs.asdict())
        return np.asarray(group[ome["multiscales"][0]["datasets"][0]["path"]])
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise DataError(f"cannot read the OME-Zarr labels {path}: {error}; expected a folder of multiscales") from error
