import json

import numpy as np
import pytest
import scipy.io
import tifffile

from everycell.errors import DataError
from everycell.formats import (
    CellFiles,
    Classes,
    LabelZarrWriter,
    open_cell_set,
    write_coco,
    write_geojson,
    write_imagej_rois,
    write_label_image,
)
from everycell.structures import Instances

LABELS = np.zeros((6, 8), np.int64)
LABELS[1:4, 2:5] = 1
CELLS = Instances.from_labels(LABELS)


def write_zarr(cells, path):
    with LabelZarrWriter(path, cells.image_size) as writer:
        writer.write(cells)


def test_files_are_found_by_stem_and_better_kinds_come_first(tmp_path):
    def found():
        cells = CellFiles.open(tmp_path)
        return dict(cells.files), cells.kind

    for name in ("b.tif", "a.tif", "b_masks.png"):
        (tmp_path / name).touch()
    assert found() == ({"b": tmp_path / "b_masks.png"}, "labels")
    scipy.io.savemat(tmp_path / "d.mat", {"inst_map": LABELS})
    assert found() == ({"d": tmp_path / "d.mat"}, "mat")
    (tmp_path / "b.labels.tif").touch()
    assert found() == ({"b": tmp_path / "b.labels.tif"}, "labels")
    (tmp_path / "c.geojson").touch()
    assert found() == ({"c": tmp_path / "c.geojson"}, "geojson")
    (tmp_path / "c.coco.json").touch()
    assert found() == ({"c": tmp_path / "c.coco.json"}, "coco")
    assert CellFiles.open(tmp_path / "a.tif").files == {"a": tmp_path / "a.tif"}


@pytest.mark.parametrize(
    ("name", "write", "told_by"),
    [
        ("a.geojson.gz", write_geojson, "name"),
        ("a.rois.zip", write_imagej_rois, "name"),
        ("a_rois.zip", write_imagej_rois, "name"),
        ("a.labels.zarr", write_zarr, "nothing"),
    ],
)
def test_other_outputs_are_known_by_name_alone_or_in_a_folder(tmp_path, name, write, told_by):
    write(CELLS, tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        cells = open_cell_set(path)
        assert (cells.names, cells.told_by) == (("a",), told_by)
        assert cells.class_names() == (("class1",) if told_by == "name" else ())
        np.testing.assert_array_equal(cells.read("a", (6, 8)).to_labels(), LABELS)


def test_two_label_images_of_one_image_are_no_doubt(tmp_path):
    write_label_image(CELLS, tmp_path / "a.labels.tif")
    write_zarr(CELLS, tmp_path / "a.labels.zarr")
    assert open_cell_set(tmp_path).files == {"a": tmp_path / "a.labels.tif"}


@pytest.mark.parametrize(
    ("content", "kind", "told_by"),
    [
        ([{"image_id": 1}], "coco", "id"),
        ({"type": "FeatureCollection", "features": []}, "geojson", "name"),
        ({"mag": None, "nuc": {"1": {"type": 2}}}, "hovernet", "id"),
        ({"mag": None, "nuc": {"1": {"type": None}}}, "hovernet", "nothing"),
    ],
)
def test_the_content_says_what_json_files_are(tmp_path, content, kind, told_by):
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        np.save(tmp_path / f"{name}.npy", LABELS)
    cells = CellFiles.open(tmp_path)
    assert (cells.names, cells.kind, cells.told_by) == (("a", "b"), kind, told_by)


def test_other_json_files_are_passed_over(tmp_path):
    (tmp_path / "settings.json").write_text('{"epochs": 3}')
    np.save(tmp_path / "a.npy", LABELS)
    cells = open_cell_set(tmp_path)
    assert (cells.names, cells.told_by, cells.class_names()) == (("a",), "nothing", ())


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.labels.tif", write_label_image), ("a.coco.json", write_coco), ("a.geojson", write_geojson)],
)
def test_the_size_is_needed_where_the_file_does_not_say_it(tmp_path, name, write):
    path = tmp_path / name
    write(CELLS, path)
    cells = open_cell_set(path)
    back = cells.read("a", (6, 8), Classes(("class1",)), 0.5)
    np.testing.assert_array_equal(back.to_labels(), LABELS)
    assert back.mpp == 0.5
    if name.endswith("geojson"):
        with pytest.raises(DataError, match=r"a\.geojson does not say how large its image is"):
            cells.read("a")
        return
    assert cells.read("a").image_size == (6, 8)
    with pytest.raises(DataError, match=r"\(6, 8\).*the image has \(8, 6\)|size must be \[8, 6\]"):
        cells.read("a", (8, 6))


def test_coco_results_without_a_cell_do_not_say_the_size(tmp_path):
    (tmp_path / "a.coco.json").write_text("[]")
    cells = open_cell_set(tmp_path / "a.coco.json")
    assert cells.read("a", (3, 4)).image_size == (3, 4)
    with pytest.raises(DataError, match="does not say how large"):
        cells.read("a")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[3]", "is no COCO file"),
        ('[{"image_id": 1}]', "entry 0: expected image_id, category_id, score and segmentation"),
        (
            '[{"image_id": 1, "category_id": 1, "score": 1, "segmentation": {"size": [6]}}]',
            r"entry 0: segmentation must hold size, \[height, width\] in whole numbers, got \[6\]",
        ),
        ("", "it is empty"),
    ],
)
def test_coco_results_that_do_not_say_their_size_are_named(tmp_path, content, says):
    path = tmp_path / "a.coco.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"a\.coco\.json.*" + says):
        open_cell_set(path).read("a")


def test_cell_folders_with_and_without_images(tmp_path):
    overlapping = np.roll(LABELS, 1, axis=0) * 7
    for name, masks in {"b": {1: LABELS, 3: overlapping}, "a": {2: LABELS.astype(np.float64)}}.items():
        (tmp_path / name).mkdir()
        for k, mask in masks.items():
            tifffile.imwrite(tmp_path / name / f"class{k}.tif", mask)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "image.tif").touch()
    (tmp_path / "notes").mkdir()
    cells = open_cell_set(tmp_path)
    assert (cells.names, cells.told_by) == (("a", "b", "c"), "id")
    assert cells.class_names() == ("class1", "class2", "class3")
    back = cells.read("b")
    assert back.class_ids.tolist() == [1, 3]
    assert back.masks.boxes.tolist() == [[2, 1, 5, 4], [2, 2, 5, 5]]
    assert len(cells.read("c", (6, 8))) == 0
    assert open_cell_set(tmp_path / "a").names == ("a",)
    with pytest.raises(DataError, match=r"class3\.tif: the class must be 1 … 2, got 3"):
        cells.read("b", None, Classes(("x", "y")))
    with pytest.raises(DataError, match=r"c has no class<N>\.tif"):
        cells.read("c")
    tifffile.imwrite(tmp_path / "b" / "class3.tif", LABELS[:5])
    with pytest.raises(DataError, match=r"class3\.tif is for an image of \(height, width\) \(5, 8\)"):
        cells.read("b")
