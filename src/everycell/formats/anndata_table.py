"""AnnData: the measurement table as scanpy, squidpy and SpatialData read it (Virshup et al. 2024, JOSS 9:4371)."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from everycell.errors import ConfigError
from everycell.files import atomic_write
from everycell.formats.neighbors import DEFAULT_NEIGHBORHOOD, Neighborhood, add_neighbors
from everycell.formats.stream import AtomicWriter
from everycell.formats.table import measure
from everycell.structures import Instances

if TYPE_CHECKING:
    import anndata

_REGION = "cells"


class AnnDataWriter(AtomicWriter):
    """Writes an `.h5ad` file at its close; until then the measurements, not the masks, stay in memory."""

    def __init__(
        self,
        path: Path,
        image_size: tuple[int, int],
        mpp: float | None = None,
        neighborhood: Neighborhood = DEFAULT_NEIGHBORHOOD,
    ) -> None:
        """Begin the file `path`; `image_size` is (height, width), `mpp` micrometres per pixel.

        Raises:
            ConfigError: anndata is not installed.
        """
        try:
            import anndata  # noqa: F401
        except ImportError as error:
            raise ConfigError("AnnData files need one more package: pip install 'everycell[spatial]'") from error
        super().__init__(atomic_write(path))
        self._file = self._open_file()
        self._size, self._mpp, self._neighborhood = image_size, mpp, neighborhood
        nothing = np.broadcast_to(np.uint8(0), (*image_size, 3))
        self._tables = [measure(Instances.empty(image_size, mpp), nothing)]

    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None:
        assert table is not None
        self._tables.append(table)

    def _finish(self) -> None:
        table = pd.concat(self._tables[1:] or self._tables, ignore_index=True)
        table = add_neighbors(table, self._size, self._mpp, self._neighborhood)
        self._file.write(_h5ad(to_anndata(table, self._mpp)))


def to_anndata(table: pd.DataFrame, mpp: float | None = None) -> anndata.AnnData:
    """The measurement table of one image (see `measure`) as an object without variables.

    Returns:
        `obs`: the table, `obs_names` the cells' numbers, `class` categorical, `region` "cells"; `obsm["spatial"]`:
        centroids, float64 [N, 2], (x, y), px from the image's top left corner, which is half a pixel from the middle
        of the first pixel where the table's own columns begin; `uns["everycell"]["mpp"]`, if known; and
        `uns["spatialdata_attrs"]`, by which SpatialData joins a cell to its value in a label image called "cells".
    """
    import anndata

    obs = table.set_index(_objects(table["cell"].astype(str)))
    columns = {"image": table["image"].tolist(), "class": table["class"].tolist(), "region": [_REGION] * len(table)}
    for name, texts in columns.items():
        obs[name] = pd.Categorical(texts, _objects(sorted(set(texts))))
    spatial = table[["centroid_x_px", "centroid_y_px"]].to_numpy(np.float64) + 0.5
    attrs = {"region": _REGION, "region_key": "region", "instance_key": "cell"}
    uns = {"spatialdata_attrs": attrs, "everycell": {} if mpp is None else {"mpp": mpp}}
    return anndata.AnnData(obs=obs, var=pd.DataFrame(index=_objects([])), obsm={"spatial": spatial}, uns=uns)


def _h5ad(data: anndata.AnnData) -> bytes:
    """The file, made in memory: HDF5 itself goes to pieces on a full disk."""
    import anndata
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        anndata.io.write_elem(file, "/", data)
    return buffer.getvalue()


def _objects(texts: Iterable[str]) -> pd.Index:
    """Texts as Python objects: anndata 0.12 cannot write those of pandas 3."""
    return pd.Index(list(texts), dtype=object)
