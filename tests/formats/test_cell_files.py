import numpy as np
import pytest

from everycell.errors import DataError
from everycell.formats import find_cell_files, read_cell_file, write_coco, write_geojson, write_label_image
from everycell.structures import Instances

LABELS = np.zeros((6, 8), np.int64)
LABELS[1:4, 2:5] = 1
CELLS = Instances.from_labels(LABELS)


def test_files_are_found_by_stem_and_better_kinds_come_first(tmp_path):
    for name in ("b.tif", "a.tif", "b_masks.png"):
        (tmp_path / name).touch()
    assert find_cell_files(tmp_path) == ({"b": tmp_path / "b_masks.png"}, "labels")
    (tmp_path / "c.geojson").touch()
    assert find_cell_files(tmp_path) == ({"c": tmp_path / "c.geojson"}, "geojson")
    (tmp_path / "c.coco.json").touch()
    assert find_cell_files(tmp_path)[1] == "coco"
    assert find_cell_files(tmp_path, ("labels",))[1] == "labels"
    assert find_cell_files(tmp_path / "a.tif") == ({"a": tmp_path / "a.tif"}, "labels")


@pytest.mark.parametrize(
    ("name", "kind", "write"),
    [
        ("a.labels.tif", "labels", write_label_image),
        ("a.coco.json", "coco", write_coco),
        ("a.geojson", "geojson", write_geojson),
    ],
)
def test_the_size_is_needed_where_the_file_does_not_say_it(tmp_path, name, kind, write):
    path = tmp_path / name
    write(CELLS, path)
    back = read_cell_file(path, kind, (6, 8), ("class1",), 0.5)
    np.testing.assert_array_equal(back.to_labels(), LABELS)
    assert back.mpp == 0.5
    if kind == "geojson":
        with pytest.raises(DataError, match=r"a\.geojson does not say how large its image is"):
            read_cell_file(path, kind, None)
        return
    assert read_cell_file(path, kind, None).image_size == (6, 8)
    with pytest.raises(DataError, match=r"is for an image of \(height, width\) \(6, 8\), but the image has \(8, 6\)"):
        read_cell_file(path, kind, (8, 6))


def test_coco_results_without_a_cell_do_not_say_the_size(tmp_path):
    (tmp_path / "a.coco.json").write_text("[]")
    assert read_cell_file(tmp_path / "a.coco.json", "coco", (3, 4)).image_size == (3, 4)
    with pytest.raises(DataError, match="does not say how large"):
        read_cell_file(tmp_path / "a.coco.json", "coco", None)


@pytest.mark.parametrize(
    "content",
    ["[3]", '[{"image_id": 1}]', '[{"image_id": 1, "segmentation": {"size": [6]}}]'],
)
def test_coco_results_that_do_not_say_their_size_are_named(tmp_path, content):
    (tmp_path / "a.coco.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.coco\.json, entry 0: expected image_id and segmentation with size"):
        read_cell_file(tmp_path / "a.coco.json", "coco", None)
