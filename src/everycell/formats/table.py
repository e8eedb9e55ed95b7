"""The measurement table: one row for each cell, also for one whose pixels are all taken by cells above it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from everycell.errors import OutputError
from everycell.files import atomic_write
from everycell.formats.intensity import PixelReader, intensities
from everycell.formats.neighbors import DEFAULT_NEIGHBORHOOD, Neighborhood
from everycell.formats.shapes import shapes
from everycell.formats.stream import AtomicWriter
from everycell.structures import Instances

_ROW_GROUP = 65_536
_LENGTHS = ("perimeter", "major_axis", "minor_axis", "equivalent_diameter")


def measure(
    instances: Instances, pixels: NDArray[np.uint8] | PixelReader, *, image: str = "", first_cell: int = 1
) -> pd.DataFrame:
    """Measure every cell on its own mask; overlaps count for both cells.

    Values equal those of `skimage.measure.regionprops`: centroids count from the middle of the top left pixel,
    the axes are those of the ellipse with the same second moments, solidity is the pixels over those of the convex
    hull, and the perimeter is the length of the line through the centres of the border pixels (4-connected), after
    Benkrid & Crookes 2000. A mask without pixels has area 0 and NaN elsewhere.

    Args:
        instances: the cells, or one batch of them.
        pixels: uint8 [H, W, 3], RGB, the image they were found in, or what reads it window by window.
        image: what the column `image` says.
        first_cell: number of the first cell, for batches.

    Returns:
        Columns image, cell (the value in the label image), class_id, class, score, centroid_x_px, centroid_y_px,
        area_px, perimeter_px, major_axis_px, minor_axis_px, equivalent_diameter_px, eccentricity, solidity, x0, y0,
        x1, y1 (the cell's box, px), mean_red … mean_blue, std_red … std_blue (0 … 255) and, when µm/px is known,
        centroid_x_um, centroid_y_um, area_um2, perimeter_um, major_axis_um, minor_axis_um, equivalent_diameter_um.
    """
    assert not isinstance(pixels, np.ndarray) or pixels.shape == (*instances.image_size, 3)
    area, shape = instances.masks.areas(), shapes(instances.masks)
    columns = {
        "image": np.full(len(instances), image, object),
        "cell": np.arange(first_cell, first_cell + len(instances)),
        "class_id": instances.class_ids,
        "class": np.array([instances.class_name(i) for i in instances.class_ids.tolist()], object),
        "score": instances.scores,
        "centroid_x_px": shape["x"],
        "centroid_y_px": shape["y"],
        "area_px": area,
        **{f"{name}_px": shape[name] for name in _LENGTHS},
        "eccentricity": shape["eccentricity"],
        "solidity": shape["solidity"],
        **dict(zip(("x0", "y0", "x1", "y1"), instances.boxes.T, strict=True)),
        **intensities(instances.masks, pixels),
    }
    if (mpp := instances.mpp) is not None:
        columns |= {"centroid_x_um": shape["x"] * mpp, "centroid_y_um": shape["y"] * mpp, "area_um2": area * mpp**2}
        columns |= {f"{name}_um": shape[name] * mpp for name in _LENGTHS}
    return pd.DataFrame(columns).astype({"image": "str", "class": "str"})


def write_table(table: pd.DataFrame, *paths: Path) -> None:
    """Write a table to each of `paths`, as `.csv` (floats to 8 digits) or `.parquet`."""
    for path in paths:
        with atomic_write(path) as temporary:
            _write_parts(iter([table]), temporary)


class TableWriter(AtomicWriter):
    """Writes the measurement table batch by batch, with the columns of `Neighborhood` behind those of `measure`.

    Neighbours are known when all cells are, so batches wait in a nameless file; centroids alone stay in memory.
    """

    def __init__(
        self,
        path: Path,
        image_size: tuple[int, int],
        mpp: float | None = None,
        neighborhood: Neighborhood = DEFAULT_NEIGHBORHOOD,
    ) -> None:
        """Begin the `.csv` or `.parquet` file `path`; `image_size` is (height, width), `mpp` micrometres per pixel."""
        super().__init__(atomic_write(path))
        self._size, self._mpp, self._neighborhood = image_size, mpp, neighborhood
        self._centroids: list[NDArray[np.float64]] = []
        nothing = np.broadcast_to(np.uint8(0), (*image_size, 3))
        self._empty = measure(Instances.empty(image_size, mpp), nothing)
        with self._or_give_up():
            self._spool = self._stack.enter_context(tempfile.TemporaryFile(dir=path.parent))  # noqa: SIM115
            schema = pa.Schema.from_pandas(self._empty, preserve_index=False)
            self._batches = self._stack.enter_context(_parquet(self._spool, schema))

    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None:
        assert table is not None and list(table.columns) == list(self._empty.columns)
        if len(table):
            self._centroids.append(table[["centroid_x_px", "centroid_y_px"]].to_numpy(np.float64))
            self._batches.write_table(pa.Table.from_pandas(table, preserve_index=False))

    def _finish(self) -> None:
        self._batches.close()
        _write_parts(self._parts(), self._temporary)

    def _parts(self) -> Iterator[pd.DataFrame]:
        """The batches again, or one without rows, with the columns that need all cells."""
        centroids = np.concatenate([np.zeros((0, 2)), *self._centroids])
        columns = self._neighborhood.columns(centroids, self._size, self._mpp)
        first = 0
        with pq.ParquetFile(self._spool) as batches:
            for rows_of_any_batches in batches.iter_batches(_ROW_GROUP):
                part = rows_of_any_batches.to_pandas()
                rows = slice(first, first + len(part))
                yield part.assign(**{name: values[rows] for name, values in columns.items()})
                first += len(part)
        if not first:
            yield self._empty.assign(**columns)


@contextmanager
def _parquet(file: Any, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A `pq.ParquetWriter` that is given up silently: its own `close` tries to write once more on a full disk."""
    writer = pq.ParquetWriter(file, schema)
    try:
        yield writer
        writer.close()
    finally:
        writer.is_open = False


def _write_parts(parts: Iterator[pd.DataFrame], path: Path) -> None:
    """Write the parts of one table, of which there is at least one, as `path` says by its suffix."""
    part = next(parts)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            part.to_csv(file, index=False, float_format="%.8g")
            for part in parts:
                part.to_csv(file, index=False, float_format="%.8g", header=False)
    elif path.suffix == ".parquet":
        first = pa.Table.from_pandas(part, preserve_index=False)
        with _parquet(path, first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(pa.Table.from_pandas(part, schema=first.schema, preserve_index=False))
    else:
        raise OutputError(f"a table is written as .csv or .parquet, got {path.suffix or 'no suffix'}")
