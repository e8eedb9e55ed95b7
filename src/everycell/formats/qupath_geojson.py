"""GeoJSON as QuPath (0.4 and later) reads and writes it: one Feature for each cell, in full-resolution pixels."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.files import write_bytes
from everycell.formats.outlines import Polygon, fill, trace
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


def write_geojson(instances: Instances, path: Path, measurements: pd.DataFrame | None = None) -> None:
    """Write one "detection" for each cell, named by its value in the label image.

    Outlines follow pixel edges, so areas are pixel counts; a mask in several parts is a MultiPolygon, and a mask
    without pixels has no outline and no Feature. Ids depend only on the file's stem and the cell's number.

    Args:
        instances: the cells.
        path: the `.geojson` file.
        measurements: the cells' table (see `measure`); µm values are preferred to px, and NaN is left out, because
            JSON has none and QuPath takes what is missing for NaN.
    """
    stem = path.name.removesuffix(path.suffix)
    values = _measurements(instances, measurements)
    features = []
    for i, parts in enumerate(trace(instances.masks)):
        if not parts:
            continue
        class_id = int(instances.class_ids[i])
        properties = {
            "objectType": "detection",
            "name": str(i + 1),
            "classification": {"name": instances.class_name(class_id), "color": class_color(class_id)},
            "isLocked": False,
            "measurements": values[i],
        }
        coordinates = parts[0] if len(parts) == 1 else parts
        geometry = {"type": "Polygon" if len(parts) == 1 else "MultiPolygon", "coordinates": coordinates}
        feature_id = str(uuid.uuid5(_ID_SPACE, f"{stem}/{i + 1}"))
        features.append({"type": "Feature", "id": feature_id, "geometry": geometry, "properties": properties})
    write_bytes(path, orjson.dumps({"type": "FeatureCollection", "features": features}))


def _measurements(instances: Instances, table: pd.DataFrame | None) -> list[dict[str, float]]:
    """Name → number for each cell."""
    columns: dict[str, NDArray[Any]] = {_SCORE: instances.scores}
    if table is not None:
        assert len(table) == len(instances)
        names = _UM_NAMES if "area_um2" in table.columns else _PX_NAMES
        columns |= {name: table[column].to_numpy() for column, name in names.items()}
    # Six digits are more than a measurement on pixels can mean.
    rows = zip(*(np.asarray(column, np.float64).tolist() for column in columns.values()), strict=True)
    return [
        {name: float(f"{value:.6g}") for name, value in zip(columns, row, strict=True) if math.isfinite(value)}
        for row in rows
    ]


def read_geojson(
    path: Path, image_size: tuple[int, int], class_names: Sequence[str] = (), mpp: float | None = None
) -> Instances:
    """Read the outlines of any tool as cells: the pixels whose centre is inside.

    Args:
        path: a FeatureCollection, or a bare list of Features as older QuPath versions write it.
        image_size: (height, width) of the image; what lies outside is cut off.
        class_names: names of classes 1 … K; the file's own names in alphabetical order when empty.
        mpp: micrometres per pixel of the image.

    Returns:
        Cells in the order of the file, score 1 where it has none. Outlines around no pixel centre are left out and
        counted in `notes`.

    Raises:
        DataError: the file is no such GeoJSON, or holds a class that is not in `class_names`.
    """
    parsed = [_parse(feature, f"{path}, feature {i}") for i, feature in enumerate(_features(path))]
    labels = [label for _, label, _ in parsed]
    names = tuple(class_names) or tuple(sorted(set(labels) - {""}))
    class_ids = [_class_id(label, names, f"{path}, feature {i}") for i, label in enumerate(labels)]
    filled = [fill(polygons, image_size) for polygons, _, _ in parsed]
    origins = np.array([origin for origin, _ in filled], np.int64).reshape(-1, 2)
    cells = Instances.from_masks(
        MaskCrops.from_crops(origins, [bits for _, bits in filled]),
        image_size,
        scores=np.array([score for _, _, score in parsed], np.float32),
        class_ids=np.array(class_ids, np.int64),
        mpp=mpp,
        class_names=names,
    )
    seen = cells.masks.areas() > 0
    if seen.all():
        return cells
    note = f"{(~seen).sum()} of {len(cells)} outlines cover no pixel of the image and were left out"
    return replace(cells.select(seen), notes=(note,))


def geojson_classes(path: Path) -> set[str]:
    """Names of the classes in a file; unclassified outlines have none."""
    return {label for i, feature in enumerate(_features(path)) if (label := _parse(feature, f"{path}, feature {i}")[1])}


def _features(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the GeoJSON {path}: {error}") from error
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise DataError(f"expected a GeoJSON FeatureCollection or a list of Features: {path}")
    return features


def _parse(feature: Any, where: str) -> tuple[list[Polygon], str, float]:
    """Polygons, class name (empty when unclassified) and score of one Feature."""
    try:
        geometry, properties = feature["geometry"], feature.get("properties") or {}
        kind, polygons = geometry["type"], geometry["coordinates"]
        label = str((properties.get("classification") or {}).get("name") or "")
        measurements = properties.get("measurements") or {}
        # Before 0.4, QuPath wrote a list of {name, value}.
        if isinstance(measurements, list):
            measurements = {entry["name"]: entry["value"] for entry in measurements}
        score = measurements.get(_SCORE, 1.0)
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{where}: expected a Feature with geometry and properties") from error
    if kind not in ("Polygon", "MultiPolygon"):
        raise DataError(f"{where}: geometry must be a Polygon or MultiPolygon, got {kind!r}; export cell outlines only")
    polygons = [polygons] if kind == "Polygon" else polygons
    _check_rings(polygons, where)
    if type(score) not in (int, float) or not 0 <= score <= 1:
        raise DataError(f"{where}: the measurement Score must be a number in 0 … 1, got {score!r}")
    return polygons, label, score


def _check_rings(polygons: Any, where: str) -> None:
    try:
        rings = [np.asarray(ring, np.float64) for polygon in polygons for ring in polygon]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: coordinates must be rings of [x, y] numbers") from error
    for ring in rings:
        if ring.ndim != 2 or len(ring) < 4 or ring.shape[1] < 2 or not np.isfinite(ring).all():
            raise DataError(f"{where}: a ring is at least 4 finite [x, y] corners, got an array of shape {ring.shape}")
        if (ring[0] != ring[-1]).any():
            raise DataError(f"{where}: a ring must end where it begins, got {ring[0].tolist()} and {ring[-1].tolist()}")
    if not rings:
        raise DataError(f"{where}: the geometry has no ring")


def _class_id(label: str, names: Sequence[str], where: str) -> int:
    if label in names:
        return names.index(label) + 1
    if not label and len(names) <= 1:
        return 1
    raise DataError(f"{where}: the class must be one of {', '.join(names)}, got {label or 'none'}")
