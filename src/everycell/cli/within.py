"""Areas drawn in QuPath, or by any other tool that writes GeoJSON: where cells are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import shape

from everycell.errors import DataError
from everycell.formats.json_file import read_json

_AREAS = ("Polygon", "MultiPolygon")


def area_file(within: Path, stem: str) -> Path:
    """The file with the areas of the image `stem`: `within` itself, or one in this folder.

    Raises:
        DataError: there is none.
    """
    path = within / f"{stem}.geojson" if within.is_dir() else within
    if not path.is_file():
        raise DataError(f"no such file: {path}; --within takes a GeoJSON file, or a folder with one for each image")
    return path


def read_area(path: Path, size: tuple[int, int]) -> shapely.Geometry:
    """All areas of a GeoJSON file together, as far as they lie in the image.

    Args:
        path: features, or bare geometries; pixels of the full resolution.
        size: (height, width) of the image, px.

    Raises:
        DataError: it is no such file, draws something other than areas, or none lies in the image.
    """
    parts = []
    for i, geometry in enumerate(_geometries(read_json(path, "areas"))):
        try:
            part = shape(geometry)
        except (ValueError, TypeError, LookupError, AttributeError, shapely.errors.ShapelyError):
            part = None
        if part is None or part.geom_type not in _AREAS or not np.isfinite(shapely.get_coordinates(part)).all():
            kind = geometry.get("type") if isinstance(geometry, dict) else geometry
            raise DataError(f"{path}, shape {i}: expected {' or '.join(_AREAS)} with rings of [x, y], got {kind!r}")
        parts.append(shapely.make_valid(part))
    if not parts:
        raise DataError(f"{path} holds no area; draw one in QuPath and export it as GeoJSON")
    height, width = size
    drawn = shapely.union_all(parts)
    pieces = shapely.get_parts(shapely.intersection(drawn, shapely.box(0, 0, width, height)))
    area = shapely.multipolygons(pieces[shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON])
    if not area.area:
        x0, y0, x1, y1 = shapely.bounds(drawn)
        raise DataError(
            f"{path}: no area lies inside the image of {width} × {height} px, they reach from x, y {x0:g}, {y0:g} to "
            f"{x1:g}, {y1:g}; give the areas of this image, in pixels of its full resolution"
        )
    return area


def _geometries(content: Any) -> Iterator[Any]:
    """The bare geometries in what a file holds, those of collections one by one."""
    if isinstance(content, list):
        for member in content:
            yield from _geometries(member)
        return
    kind = content.get("type") if isinstance(content, dict) else None
    inside = {"FeatureCollection": "features", "Feature": "geometry", "GeometryCollection": "geometries"}.get(str(kind))
    if inside is None:
        yield content
    else:
        yield from _geometries(content.get(inside))
