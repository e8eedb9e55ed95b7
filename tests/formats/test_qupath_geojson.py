import gzip
import json
import uuid

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from everycell.errors import DataError
from everycell.formats import Classes, measure, read_geojson, write_geojson
from everycell.structures import Instances, MaskCrops
from everycell.structures.colors import CLASS_COLORS


def cells(mpp=0.5):
    crops = [np.ones((2, 3), bool), np.zeros((1, 1), bool), np.array([[True, False], [False, True]])]
    return Instances.from_masks(
        MaskCrops.from_crops(np.array([[1, 2], [0, 0], [6, 6]]), crops),
        (10, 12),
        scores=np.array([0.9, 0.5, 0.25], np.float32),
        class_ids=np.array([2, 1, 1]),
        mpp=mpp,
        class_names=("stroma", "tumour"),
    )


def written(tmp_path, instances, **options):
    write_geojson(instances, tmp_path / "a.geojson", **options)
    return json.loads((tmp_path / "a.geojson").read_text())


def test_a_feature_as_qupath_reads_it(tmp_path):
    collection = written(tmp_path, cells())
    assert collection["type"] == "FeatureCollection"
    first, parted = collection["features"]  # the mask without pixels has no outline
    assert first["type"] == "Feature"
    assert uuid.UUID(first["id"]).version == 5
    assert first["geometry"] == {"type": "Polygon", "coordinates": [[[1, 2], [4, 2], [4, 4], [1, 4], [1, 2]]]}
    assert first["properties"] == {
        "objectType": "detection",
        "name": "1",
        "classification": {"name": "tumour", "color": list(CLASS_COLORS[1])},
        "measurements": {"Score": 0.9},
    }
    assert parted["properties"]["name"] == "3"
    assert parted["geometry"]["type"] == "MultiPolygon"
    assert shapely.geometry.shape(parted["geometry"]).area == 2


def test_measurements_come_from_the_table_in_um_when_known(tmp_path):
    pixels = np.full((10, 12, 3), (200, 100, 50), np.uint8)
    first, _ = written(tmp_path, cells(), measurements=measure(cells(), pixels))["features"]
    values = first["properties"]["measurements"]
    assert values["Area µm^2"] == 6 * 0.25
    assert values["Mean red"] == 200
    assert "Area px^2" not in values
    assert all(isinstance(value, float) for value in values.values())
    unknown = cells(mpp=None)
    first, _ = written(tmp_path, unknown, measurements=measure(unknown, pixels))["features"]
    assert first["properties"]["measurements"]["Area px^2"] == 6


def test_a_measurement_that_is_not_known_is_a_text_as_in_qupath(tmp_path):
    table = measure(cells(), np.zeros((10, 12, 3), np.uint8)).assign(solidity=np.nan)
    first, _ = written(tmp_path, cells(), measurements=table)["features"]
    assert first["properties"]["measurements"]["Solidity"] == "NaN"
    assert len(read_geojson(tmp_path / "a.geojson", (10, 12))) == 2


def test_a_compressed_file_holds_the_same_and_is_read(tmp_path):
    write_geojson(cells(), tmp_path / "a.geojson")
    write_geojson(cells(), tmp_path / "a.geojson.gz")
    assert gzip.decompress((tmp_path / "a.geojson.gz").read_bytes()) == (tmp_path / "a.geojson").read_bytes()
    back = read_geojson(tmp_path / "a.geojson.gz", (10, 12))
    assert back.masks.areas().tolist() == [6, 2]
    data = (tmp_path / "a.geojson.gz").read_bytes()
    for damaged in (data[:40], data[:30] + b"damaged" + data[37:]):
        (tmp_path / "a.geojson.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.geojson\.gz: its gzip data is damaged"):
            read_geojson(tmp_path / "a.geojson.gz", (10, 12))


def test_a_score_that_is_not_known_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="Score must be a number in 0 … 1, got 'NaN'"):
        read(tmp_path, [feature([SQUARE], measurements={"Score": "NaN"})])


def test_ids_are_the_same_on_every_run_and_differ_between_cells(tmp_path):
    ids = [[feature["id"] for feature in written(tmp_path, cells())["features"]] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_no_cells(tmp_path):
    assert written(tmp_path, Instances.empty((4, 4))) == {"type": "FeatureCollection", "features": []}
    assert len(read_geojson(tmp_path / "a.geojson", (4, 4))) == 0


@given(st.integers(0, 2**32 - 1))
def test_round_trip(tmp_path_factory, seed):
    labels = np.random.default_rng(seed).integers(0, 5, (9, 11))
    before = Instances.from_labels(labels)
    path = tmp_path_factory.getbasetemp() / "round.geojson"
    write_geojson(before, path)
    after = read_geojson(path, (9, 11), classes=Classes(("class1",)))
    np.testing.assert_array_equal(after.to_labels(), before.to_labels())


def test_classes_scores_and_scale_come_back(tmp_path):
    write_geojson(cells(), tmp_path / "a.geojson")
    back = read_geojson(tmp_path / "a.geojson", (10, 12), mpp=0.5)
    assert back.class_names == ("stroma", "tumour")
    assert back.class_ids.tolist() == [2, 1]
    assert back.scores.tolist() == pytest.approx([0.9, 0.25])
    assert back.mpp == 0.5


def feature(coordinates, kind="Polygon", **properties):
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


SQUARE = [[0.2, 0.2], [3, 0], [3, 3], [0, 3], [0.2, 0.2]]


def read(tmp_path, content, **options):
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    return read_geojson(tmp_path / "a.geojson", (8, 8), **options)


def test_a_list_of_hand_drawn_outlines_without_classes(tmp_path):
    old_style = feature([SQUARE], measurements=[{"name": "Score", "value": 0.5}])
    back = read(tmp_path, [feature([SQUARE]), old_style])
    assert back.masks.areas().tolist() == [9, 9]
    assert back.class_ids.tolist() == [1, 1]
    assert back.scores.tolist() == [1, 0.5]


def test_a_class_that_qupath_derived_from_another(tmp_path):
    derived = {"names": ["Tumor", "Positive"], "color": [250, 62, 62]}
    back = read(tmp_path, [feature([SQUARE], classification=derived), feature([SQUARE], classification={"name": "x"})])
    assert back.class_names == ("Tumor: Positive", "x")
    assert back.class_ids.tolist() == [1, 2]


def test_an_outline_around_no_pixel_is_left_out_and_counted(tmp_path):
    sliver = [[1, 1], [1.1, 1], [1.1, 1.1], [1, 1]]
    back = read(tmp_path, [feature([SQUARE]), feature([sliver])])
    assert len(back) == 1
    assert back.notes == ("1 of 2 outlines cover no pixel of the image and were left out",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"type": "Feature"}, "FeatureCollection"),
        ([3], "feature 0: expected a Feature"),
        ([feature([1, 2], kind="Point")], "Polygon or MultiPolygon, got 'Point'"),
        ([feature([SQUARE[:-1]])], "must end where it begins"),
        ([feature([SQUARE[:2]])], "at least 4 finite"),
        ([feature([])], "no ring"),
        ([feature([[["a", 1]] * 4])], "rings of"),
        ([feature([SQUARE], measurements={"Score": 3})], "Score must be a number in 0 … 1, got 3"),
        ([feature([SQUARE], classification={"name": "nerve"})], "class must be one of stroma, got nerve"),
    ],
)
def test_a_feature_that_is_no_cell_is_a_data_error(tmp_path, content, says):
    with pytest.raises(DataError, match=says) as error:
        read(tmp_path, content, classes=Classes(("stroma",)))
    assert "a.geojson" in str(error.value)


def test_an_unclassified_cell_among_several_classes_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="got none"):
        read(tmp_path, [feature([SQUARE])], classes=Classes(("stroma", "tumour")))
