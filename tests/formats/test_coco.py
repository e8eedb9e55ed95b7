import json

import numpy as np
import pytest
from pycocotools import mask as coco

from everycell.errors import DataError
from everycell.formats import Classes, coco_results, read_coco, write_coco
from everycell.structures import Instances, MaskCrops

SIZES = {7: (6, 8), 9: (5, 5)}


def cells():
    masks = MaskCrops.from_crops(np.array([[1, 2], [4, 0]]), [np.ones((3, 2), bool), np.eye(3, dtype=bool)])
    return Instances(
        boxes=np.array([[0.9, 2, 3.1, 5], [4, 0, 7, 3]], np.float32),
        scores=np.array([0.9, 0.1], np.float32),
        class_ids=np.array([2, 1]),
        masks=masks,
        image_size=(6, 8),
        class_names=("a", "b"),
    )


def entry(**changes):
    [first, _] = coco_results(cells(), 7)
    return first | changes


def write(path, entries):
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own decoder
def test_the_file_is_a_bare_list_in_coco_terms(tmp_path):
    write_coco(cells(), tmp_path / "a.coco.json", image_id=7)
    first, second = json.loads((tmp_path / "a.coco.json").read_text())
    assert first["image_id"] == 7
    assert first["category_id"] == 2
    assert first["score"] == 0.9
    assert first["bbox"] == [0.9, 2.0, 2.2, 3.0]
    assert first["segmentation"]["size"] == [6, 8]
    expected = np.zeros((6, 8), np.uint8)
    expected[2:5, 1:3] = 1
    np.testing.assert_array_equal(coco.decode(first["segmentation"]), expected)
    assert coco.area(second["segmentation"]) == 3


def test_round_trip(tmp_path):
    write_coco(cells(), tmp_path / "a.json", image_id=7)
    back = read_coco(tmp_path / "a.json", SIZES, Classes(("a", "b")))
    assert list(back) == [7, 9]
    assert len(back[9]) == 0
    assert back[9].image_size == (5, 5)
    np.testing.assert_allclose(back[7].boxes, cells().boxes, atol=1e-3)
    np.testing.assert_array_equal(back[7].scores, cells().scores)
    np.testing.assert_array_equal(back[7].class_ids, cells().class_ids)
    np.testing.assert_array_equal(back[7].masks.boxes, cells().masks.boxes)
    np.testing.assert_array_equal(back[7].masks.bits, cells().masks.bits)


def test_no_cells(tmp_path):
    write_coco(Instances.empty((6, 8)), tmp_path / "a.json", image_id=7)
    assert (tmp_path / "a.json").read_text() == "[]"
    assert len(read_coco(tmp_path / "a.json", SIZES)[7]) == 0


def test_a_missing_box_is_that_of_the_mask(tmp_path):
    bare = entry()
    del bare["bbox"]
    back = read_coco(write(tmp_path / "a.json", [bare]), SIZES)
    np.testing.assert_array_equal(back[7].boxes, [[1, 2, 3, 5]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_id": 8}, "image_id must be one of the 2 known images, got 8"),
        ({"category_id": 3}, "category_id must be 1 … 2, got 3"),
        ({"category_id": 0}, "category_id must be 1 … 2, got 0"),
        ({"score": float("nan")}, "score must be a number in 0 … 1, got nan"),
        ({"score": None}, "score must be a number"),
        ({"segmentation": {"size": [8, 6], "counts": "1"}}, r"size must be \[6, 8\]"),
        ({"segmentation": {"size": [6, 8], "counts": "11"}}, "add up to 6 x 8 = 48 pixels, got 2"),
        ({"segmentation": {"size": [6, 8], "counts": [47]}}, "add up to 6 x 8 = 48 pixels, got 47"),
        ({"segmentation": {"size": [6, 8], "counts": None}}, "an RLE with size and counts, or polygons"),
        ({"segmentation": [[0, 0, 1, 1]]}, "of 3 corners or more"),
        ({"bbox": 3}, "bbox must be x, y, width, height"),
        ({"bbox": [0, 0, -1, 2]}, "bbox must be x, y, width, height"),
    ],
)
def test_an_entry_that_does_not_fit_is_a_data_error_with_its_place(tmp_path, changes, says):
    path = write(tmp_path / "a.json", [entry(), entry(**changes)])
    with pytest.raises(DataError, match=says) as error:
        read_coco(path, SIZES, Classes(("a", "b")))
    assert "a.json, entry 1" in str(error.value)


@pytest.mark.parametrize(("text", "says"), [("{}", "bare list"), ("[", "cannot read"), ("[1]", "expected image_id")])
def test_another_file_is_a_data_error(tmp_path, text, says):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=says):
        read_coco(tmp_path / "a.json", SIZES)
