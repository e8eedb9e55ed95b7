import json

import pytest

from everycell.cli.within import read_area
from everycell.errors import DataError

SQUARE = {"type": "Polygon", "coordinates": [[[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]]}
HOLED = {"type": "Polygon", "coordinates": [*SQUARE["coordinates"], [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]]}
BOW = {"type": "Polygon", "coordinates": [[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]}
FAR = {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"], [[[9, 0], [19, 0], [19, 2], [9, 2], [9, 0]]]]}


def feature(geometry):
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (SQUARE, 36),
        (feature(HOLED), 32),
        ([feature(SQUARE), feature(HOLED)], 36),  # over each other
        ({"type": "FeatureCollection", "features": [feature(SQUARE)]}, 36),
        (feature({"type": "GeometryCollection", "geometries": [HOLED, BOW]}), 32 + 8 - 2),  # they share 2 px²
        (feature(FAR), 36 + 2),  # of 20 px² two lie in the image
    ],
)
def test_area_by_hand(tmp_path, content, expected):
    (tmp_path / "drawn.geojson").write_text(json.dumps(content))
    assert read_area(tmp_path / "drawn.geojson", (12, 10)).area == pytest.approx(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            feature({"type": "Point", "coordinates": [3, 3]}),
            r"shape 0: expected Polygon or MultiPolygon .* got 'Point'",
        ),
        ([feature(SQUARE), feature(None)], "shape 1: expected Polygon"),
        (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}), "shape 0: expected Polygon"),
        (feature({"type": "Polygon", "coordinates": "round"}), "shape 0: expected Polygon"),
        ({"cells": 3}, "shape 0: expected Polygon"),
        ([], "holds no area"),
        (
            feature({"type": "Polygon", "coordinates": [[[20, 0], [30, 0], [30, 9], [20, 0]]]}),
            "no area lies inside the image of 10 × 12 px",
        ),
    ],
)
def test_what_is_no_area_is_said(tmp_path, content, message):
    (tmp_path / "drawn.geojson").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        read_area(tmp_path / "drawn.geojson", (12, 10))
    assert str(tmp_path / "drawn.geojson") in str(error.value)
