"""GeoJSON as QuPath (0.4 and later) reads and writes it: one Feature for each cell, in full-resolution pixels."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.files import atomic_write
from everycell.formats.classes import UNNAMED, Classes
from everycell.formats.json_file import JsonList, read_json
from everycell.formats.outlines import crossing, fill, trace, without_empty
from everycell.formats.stream import AtomicWriter
from everycell.structures import Instances, MaskCrops
from everycell.structures.colors import class_color

if TYPE_CHECKING:
    import pandas as pd

_SCORE = "Score"
_ID_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "everycell")
# Column of the measurement table → name in QuPath. Centroids are left out: QuPath shows its own.
_SHAPE_NAMES = {
    "eccentricity": "Eccentricity",
    "solidity": "Solidity",
    "mean_red": "Mean red",
    "mean_green": "Mean green",
    "mean_blue": "Mean blue",
    "std_red": "Std.Dev. red",
    "std_green": "Std.Dev. green",
    "std_blue": "Std.Dev. blue",
}
_LENGTH_NAMES = {
    "perimeter": "Perimeter",
    "major_axis": "Major axis",
    "minor_axis": "Minor axis",
    "equivalent_diameter": "Equivalent diameter",
}
_PX_NAMES = {"area_px": "Area px^2"} | {f"{key}_px": f"{name} px" for key, name in _LENGTH_NAMES.items()} | _SHAPE_NAMES
_UM_NAMES = (
    {"area_um2": "Area µm^2"} | {f"{key}_um": f"{name} µm" for key, name in _LENGTH_NAMES.items()} | _SHAPE_NAMES
)


class GeoJsonWriter(AtomicWriter):
    """Writes a FeatureCollection Feature by Feature."""

    def __init__(self, path: Path) -> None:
        """Begin the file `path`, `.geojson`, or `.geojson.gz` for a compressed one."""
        super().__init__(atomic_write(path))
        self._stem = path.name.removesuffix(".gz").removesuffix(".geojson")
        file = self._open_file(compress=path.suffix == ".gz")
        with self._or_give_up():
            self._features = JsonList(file, b'{"type":"FeatureCollection","features":', b"}")

    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None:
        self._features.extend(_features(batch, self._stem, table, self.n_cells + 1))

    def _finish(self) -> None:
        self._features.end()


def write_geojson(instances: Instances, path: Path, measurements: pd.DataFrame | None = None) -> None:
    """Write one "detection" for each cell, named by its value in the label image.

    Outlines follow pixel edges, so areas are pixel counts; a mask in several parts is a MultiPolygon, and a mask
    without pixels has no outline and no Feature. Ids depend only on the file's stem and the cell's number.

    Args:
        instances: the cells.
        path: the `.geojson` file, or a compressed `.geojson.gz`.
        measurements: the cells' table (see `measure`); µm values are preferred to px, and NaN is "NaN", as in QuPath.
    """
    with GeoJsonWriter(path) as writer:
        writer.write(instances, measurements)


def _features(instances: Instances, stem: str, table: pd.DataFrame | None, first_cell: int) -> Iterator[dict[str, Any]]:
    for number, class_id, parts, measurements in zip(
        range(first_cell, first_cell + len(instances)),
        instances.class_ids.tolist(),
        trace(instances.masks),
        _measurements(instances, table),
        strict=True,
    ):
        if not parts:
            continue
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_ID_SPACE, f"{stem}/{number}")),
            "geometry": {
                "type": "Polygon" if len(parts) == 1 else "MultiPolygon",
                "coordinates": parts[0] if len(parts) == 1 else parts,
            },
            "properties": {
                "objectType": "detection",
                "name": str(number),
                "classification": {"name": instances.class_name(class_id), "color": class_color(class_id)},
                "measurements": measurements,
            },
        }


def _measurements(instances: Instances, table: pd.DataFrame | None) -> list[dict[str, float | str]]:
    """Name → number for each cell."""
    columns: dict[str, NDArray[Any]] = {_SCORE: instances.scores}
    if table is not None:
        assert len(table) == len(instances)
        names = _UM_NAMES if "area_um2" in table.columns else _PX_NAMES
        columns |= {name: table[column].to_numpy() for column, name in names.items()}
    rows = zip(*(np.asarray(column, np.float64).tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, map(_number, row), strict=True)) for row in rows]


def _number(value: float) -> float | str:
    """Six digits are more than a measurement on pixels can mean; JSON has no NaN, and QuPath's is a string."""
    return float(f"{value:.6g}") if math.isfinite(value) else "NaN"


def read_geojson(
    path: Path, image_size: tuple[int, int], classes: Classes = UNNAMED, mpp: float | None = None
) -> Instances:
    """Read the outlines of any tool as cells: the pixels whose centre is inside.

    Args:
        path: a FeatureCollection, or a bare list of Features as older QuPath versions write it.
        image_size: (height, width) of the image; what lies outside is cut off.
        classes: names of classes 1 … K; the file's own names in alphabetical order when it has none.
        mpp: micrometres per pixel of the image.

    Returns:
        Cells in the order of the file, score 1 where it has none. Outlines around no pixel centre are left out and
        counted in `notes`.

    Raises:
        DataError: the file is no such GeoJSON, holds a class that is not in `classes`, or an outline crosses itself.
    """
    parsed = [_parse(feature, f"{path}, feature {i}") for i, feature in enumerate(_read_features(path))]
    labels = [label for _, label, _ in parsed]
    if not classes.names and not classes.blind:
        classes = Classes(tuple(sorted(set(labels) - {""})))
    class_ids = [_class_id(label, classes, f"{path}, feature {i}") for i, label in enumerate(labels)]
    filled = [fill(polygons, image_size) for polygons, _, _ in parsed]
    origins = np.array([origin for origin, _ in filled], np.int64).reshape(-1, 2)
    cells = Instances.from_masks(
        MaskCrops.from_crops(origins, [bits for _, bits in filled]),
        image_size,
        scores=np.array([score for _, _, score in parsed], np.float32),
        class_ids=np.array(class_ids, np.int64),
        mpp=mpp,
        class_names=classes.names,
    )
    return without_empty(cells)


def geojson_classes(path: Path) -> set[str]:
    """Names of the classes in a file; unclassified outlines have none."""
    return {
        label for i, feature in enumerate(_read_features(path)) if (label := _parse(feature, f"{path}, feature {i}")[1])
    }


def _read_features(path: Path) -> list[Any]:
    content = read_json(path, "GeoJSON")
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise DataError(f"expected a GeoJSON FeatureCollection or a list of Features: {path}")
    return features


def _parse(feature: Any, where: str) -> tuple[list[list[NDArray[np.float64]]], str, float]:
    """Rings of each polygon, class name (empty when unclassified) and score of one Feature."""
    try:
        geometry, properties = feature["geometry"], feature.get("properties") or {}
        kind, polygons = geometry["type"], geometry["coordinates"]
        classification = properties.get("classification") or {}
        # QuPath tells a class derived from others, which it shows as "Tumor: Positive", by the names of its parts.
        label = str(classification.get("name") or ": ".join(map(str, classification.get("names") or ())))
        measurements = properties.get("measurements") or {}
        # Before 0.4, QuPath wrote a list of {name, value}.
        if isinstance(measurements, list):
            measurements = {entry["name"]: entry["value"] for entry in measurements}
        score = measurements.get(_SCORE, 1.0)
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{where}: expected a Feature with geometry and properties") from error
    if kind not in ("Polygon", "MultiPolygon"):
        raise DataError(f"{where}: geometry must be a Polygon or MultiPolygon, got {kind!r}; export cell outlines only")
    rings = _rings([polygons] if kind == "Polygon" else polygons, where)
    if place := crossing(rings):
        raise DataError(f"{where}: the outline crosses itself ({place}); redraw it, nothing is repaired by guess")
    if type(score) not in (int, float) or not 0 <= score <= 1:
        raise DataError(f"{where}: the measurement Score must be a number in 0 … 1, got {score!r}")
    return rings, label, score


def _rings(polygons: Any, where: str) -> list[list[NDArray[np.float64]]]:
    """Outer ring and holes of each polygon, float64 [corners, 2], closed."""
    try:
        rings = [[np.asarray(ring, np.float64) for ring in polygon] for polygon in polygons]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: coordinates must be rings of [x, y] numbers") from error
    if not rings or not all(rings):
        raise DataError(f"{where}: the geometry has no ring")
    for ring in chain.from_iterable(rings):
        if ring.ndim != 2 or len(ring) < 4 or ring.shape[1] < 2 or not np.isfinite(ring).all():
            raise DataError(f"{where}: a ring is at least 4 finite [x, y] corners, got an array of shape {ring.shape}")
        if (ring[0] != ring[-1]).any():
            raise DataError(f"{where}: a ring must end where it begins, got {ring[0].tolist()} and {ring[-1].tolist()}")
    return [[ring[:, :2] for ring in polygon] for polygon in rings]


def _class_id(label: str, classes: Classes, where: str) -> int:
    try:
        return classes.by_name(label)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
