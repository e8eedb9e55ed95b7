import json

import numpy as np
import pytest

from everycell.errors import DataError
from everycell.formats import Classes, CocoInstances, coco_results, open_cell_set
from everycell.structures import Instances

LABELS = np.zeros((6, 8), np.int64)
LABELS[1:3, 1:4], LABELS[4:6, 5:8] = 1, 2
RLE = [row["segmentation"] for row in coco_results(Instances.from_labels(LABELS), 1)]
IMAGES = [
    {"id": 7, "file_name": "slides/b.png", "height": 6, "width": 8},
    {"id": 4, "file_name": "a.ome.tif", "height": 5, "width": 5},
]
CATEGORIES = [{"id": 9, "name": "tumour"}, {"id": 0, "name": "stroma"}]


def annotation(number, **changes):
    row = {"id": number, "image_id": 7, "category_id": 9, "iscrowd": 0, "segmentation": RLE[0]}
    return row | changes


def document(*annotations, **changes):
    return {"images": IMAGES, "categories": CATEGORIES, "annotations": list(annotations)} | changes


def opened(tmp_path, content):
    (tmp_path / "truth.json").write_text(json.dumps(content))
    cells = open_cell_set(tmp_path / "truth.json")
    assert isinstance(cells, CocoInstances)
    return cells


def test_cells_classes_and_crowds(tmp_path):
    cells = opened(
        tmp_path,
        document(
            annotation(3, category_id=0, segmentation=[[1, 1, 4, 1, 4, 3, 1, 3]]),
            annotation(1, segmentation=RLE[1], score=0.25),
            annotation(2, iscrowd=1, segmentation={"size": [6, 8], "counts": [0, 48]}),
        ),
    )
    assert cells.names == ("a", "b")
    assert (cells.ids, cells.file_names["b"]) == ({"a": 4, "b": 7}, "slides/b.png")
    assert cells.class_names() == ("stroma", "tumour")
    found = cells.read("b", mpp=0.5)
    np.testing.assert_array_equal(found.to_labels(), LABELS)
    assert found.class_ids.tolist() == [1, 2]
    assert found.scores.tolist() == [1, 0.25]
    assert (found.class_names, found.mpp) == (("stroma", "tumour"), 0.5)
    crowds = cells.read_crowds("b")
    assert (crowds.masks.areas().tolist(), crowds.class_ids.tolist()) == ([48], [2])
    assert (len(cells.read("a")), cells.read("a").image_size) == (0, (5, 5))
    assert cells.read("b", classes=Classes(("tumour", "nerve", "stroma"))).class_ids.tolist() == [3, 1]
    assert cells.read("b", classes=Classes(("cell",), blind=True)).class_ids.tolist() == [1, 1]


def test_an_outline_without_a_pixel_is_left_out_and_counted(tmp_path):
    found = opened(tmp_path, document(annotation(1), annotation(2, segmentation=[[9, 9, 10, 9, 10, 10]]))).read("b")
    assert len(found) == 1
    assert found.notes == ("1 of 2 outlines cover no pixel of the image and were left out",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (document(annotation(1), annotation(1)), "id 1 occurs twice among the annotations"),
        (document(images=[*IMAGES, IMAGES[0]]), "id 7 occurs twice among the images"),
        (document(categories=[*CATEGORIES, CATEGORIES[0]]), "id 9 occurs twice among the categories"),
        (document(categories=[*CATEGORIES, {"id": 3, "name": "stroma"}]), "two categories have the same name"),
        (document(images=[*IMAGES, IMAGES[0] | {"id": 8, "file_name": "b.tif"}]), "b.png and b.tif have the same stem"),
        (document(images=[IMAGES[0] | {"height": 0}]), r"image 7: .* got 'slides/b.png', \(0, 8\)"),
        (document(images=[{"id": 7, "file_name": "b"}]), "images, entry 0: height, width missing"),
        (document(annotation(1, image_id=5)), "annotation 1: there is no image with id 5"),
        (document(annotation(1, image_id=[5])), r"annotation 1: there is no image with id \[5\]"),
        (document(annotation(1, category_id=1)), "annotation 1: category_id must be 9, 0, got 1"),
        (document(annotation(1, iscrowd=2)), "annotation 1: iscrowd must be 0 or 1, got 2"),
        (document(annotation("x")), "annotations, entry 0: id must be a whole number, got 'x'"),
        (document({"id": 3}), "annotations, entry 0: image_id, category_id, segmentation missing"),
        (document(categories=None), "categories must be a list, got NoneType"),
        (document(annotation(1, score=float("nan"))), "slides/b.png, annotation 1: score must be a number .* got nan"),
        (
            document(annotation(1, segmentation=[[0, 0, 4, 4, 4, 0, 0, 4]])),
            "b.png, annotation 1: .* crosses itself",
        ),
        (document(annotation(1, segmentation={"size": [5, 5], "counts": "i0"})), r"size must be \[6, 8\]"),
        (document(annotation(1, segmentation=[])), "segmentation is an empty list"),
    ],
)
def test_every_fault_is_named_with_its_file(tmp_path, content, says):
    with pytest.raises(DataError, match=r"truth\.json.*" + says):
        opened(tmp_path, content).read("b")


def test_another_size_and_another_class_are_errors(tmp_path):
    cells = opened(tmp_path, document(annotation(1)))
    with pytest.raises(DataError, match=r"slides/b\.png with \(height, width\) \(6, 8\), but the image has \(8, 6\)"):
        cells.read("b", (8, 6))
    with pytest.raises(DataError, match="annotation 1: the class must be one of stroma, nerve, got tumour"):
        cells.read("b", classes=Classes(("stroma", "nerve")))
