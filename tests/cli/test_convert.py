import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import tifffile

from everycell.formats import Classes, read_coco, read_geojson, write_coco, write_geojson, write_label_image
from everycell.structures import Instances, MaskCrops

SIZE = (24, 30)
NAMES = ("round", "long")
STEMS = ("a", "b", "c")


def cells(stem):
    """Two cells, other ones for each image; none for c."""
    if stem == "c":
        return Instances.empty(SIZE, class_names=NAMES)
    at = np.array([[2, 3], [15, 10]]) + STEMS.index(stem)
    scores, class_ids = np.array([0.9, 0.25], np.float32), np.array([2, 1])
    masks = MaskCrops.from_crops(at, [np.ones((3, 9), bool), np.ones((5, 4), bool)])
    return Instances.from_masks(masks, SIZE, scores=scores, class_ids=class_ids, class_names=NAMES)


@pytest.fixture
def pred(tmp_path):
    folder = tmp_path / "pred"
    folder.mkdir()
    return folder


@pytest.fixture
def ids(tmp_path):
    entries = [{"file_name": f"{stem}.tif", "id": 11 * i, "height": 24, "width": 30} for i, stem in enumerate(STEMS, 1)]
    (tmp_path / "ids.json").write_text(json.dumps(entries))
    return tmp_path / "ids.json"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for stem in STEMS:
        tifffile.imwrite(folder / f"{stem}.tif", np.full((*SIZE, 3), 90, np.uint8), photometric="rgb")
    return folder


WRITERS = {
    "coco": lambda folder, stem: write_coco(cells(stem), folder / f"{stem}.coco.json", image_id=5),
    "geojson": lambda folder, stem: write_geojson(cells(stem), folder / f"{stem}.geojson"),
    "labels": lambda folder, stem: write_label_image(cells(stem), folder / f"{stem}.labels.tif"),
}
SUFFIXES = {"coco": ".coco.json", "geojson": ".geojson", "labels": ".labels.tif"}


def same(left, right, *, classes=True):
    np.testing.assert_array_equal(left.masks.boxes, right.masks.boxes)
    np.testing.assert_array_equal(left.masks.bits, right.masks.bits)
    if classes:
        assert left.class_ids.tolist() == right.class_ids.tolist()
        np.testing.assert_allclose(left.scores, right.scores, rtol=1e-6)


@pytest.mark.parametrize("kind", ["coco", "geojson"])
def test_there_and_back_between_coco_and_geojson(everycell, pred, ids, tmp_path, kind):
    for stem in STEMS:
        WRITERS[kind](pred, stem)
    other = {"coco": "geojson", "geojson": "coco"}[kind]
    common = ("--id-map", ids, "--classes", "round,long")
    code, said, err = everycell("convert", pred, "-o", tmp_path / "there", "--to", other, *common)
    assert (code, err) == (0, "")
    assert said == f"4 cells in 3 images written to {tmp_path / 'there'}\n"
    assert everycell("convert", tmp_path / "there", "-o", tmp_path / "back", "--to", kind, *common)[0] == 0
    for i, stem in enumerate(STEMS, 1):
        path = tmp_path / "back" / f"{stem}{SUFFIXES[kind]}"
        back = read_coco(path, {11 * i: SIZE})[11 * i] if kind == "coco" else read_geojson(path, SIZE, Classes(NAMES))
        same(back, cells(stem))


@pytest.mark.parametrize("kind", ["coco", "geojson"])
def test_label_images_of_both(everycell, pred, ids, tmp_path, kind):
    for stem in STEMS:
        WRITERS[kind](pred, stem)
    assert everycell("convert", pred, "-o", tmp_path / "out", "--to", "labels", "--id-map", ids)[0] == 0
    for stem in STEMS:
        labels = tifffile.imread(tmp_path / "out" / f"{stem}.labels.tif")
        np.testing.assert_array_equal(labels, cells(stem).to_labels())


def test_label_images_have_neither_classes_nor_scores(everycell, pred, tmp_path):
    WRITERS["labels"](pred, "b")
    code, _, err = everycell("convert", pred / "b.labels.tif", "-o", tmp_path / "b.coco.json", "--to", "coco")
    assert code == 0
    assert err == (
        "everycell: note: label images hold no classes and no scores: every cell becomes class 1 with score 1\n"
    )
    back = read_coco(tmp_path / "b.coco.json", {1: SIZE})[1]
    same(back, cells("b"), classes=False)
    assert (back.class_ids.tolist(), back.scores.tolist()) == ([1, 1], [1, 1])


def test_classes_of_geojson_are_numbered_alike_in_all_files(everycell, pred, ids, tmp_path):
    write_geojson(cells("a").select(np.array([0])), pred / "a.geojson")  # only "long"
    write_geojson(cells("b"), pred / "b.geojson")
    everycell("convert", pred, "-o", tmp_path / "out", "--to", "coco", "--id-map", ids)
    found = [json.loads((tmp_path / "out" / f"{stem}.coco.json").read_bytes()) for stem in "ab"]
    assert [[entry["category_id"] for entry in entries] for entries in found] == [[1], [1, 2]]


def test_a_prediction_knows_its_sizes_classes_and_scale(everycell, model, folder, tmp_path):
    everycell("predict", folder, "-o", tmp_path / "out", "--formats", "geojson", "--mpp", "0.5")
    assert everycell("convert", tmp_path / "out", "-o", tmp_path / "coco", "--to", "coco")[0] == 0
    entries = json.loads((tmp_path / "coco" / "a.coco.json").read_bytes())
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [(1, 1), (1, 1), (1, 2)]
    assert json.loads((tmp_path / "coco" / "c.coco.json").read_bytes()) == []
    assert everycell("convert", tmp_path / "out", "-o", tmp_path / "labels", "--to", "labels")[0] == 0
    with tifffile.TiffFile(tmp_path / "labels" / "a.labels.tif") as tif:
        assert tif.pages[0].tags["XResolution"].value == (20000, 1)  # pixels of 0.5 µm, in a centimetre


def test_the_table_measures_the_images(everycell, pred, images, tmp_path):
    for stem in STEMS:
        WRITERS["coco"](pred, stem)
    assert everycell("convert", pred, "-o", tmp_path / "out", "--to", "table", "--images", images)[0] == 0
    table = pd.read_csv(tmp_path / "out" / "a.cells.csv")
    assert table[["area_px", "mean_red"]].to_numpy().tolist() == [[27, 90], [20, 90]]
    assert len(pd.read_parquet(tmp_path / "out" / "c.cells.parquet")) == 0
    code, _, err = everycell("convert", pred, "-o", tmp_path / "no", "--to", "table")
    assert code == 1
    assert "3 of 3 files of cells (a, b, c) have no image to measure colours in; give --images DIR" in err


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_becomes_a_leaderboard_file_and_comes_back(everycell, pred, ids, tmp_path, kind):
    for stem in STEMS:
        WRITERS[kind](pred, stem)
    names = () if kind == "labels" else ("--classes", "round,long")
    path = tmp_path / "up" / "test-results.zip"
    code, said, _ = everycell("convert", pred, "-o", path.parent, "--to", "leaderboard", "--id-map", ids, *names)
    assert code == 0
    assert said.startswith(f"{path} is valid: 4 cells in 2 of 3 images\n")
    with zipfile.ZipFile(path) as archive:
        assert [entry["image_id"] for entry in json.loads(archive.read("test-results.json"))] == [11, 11, 22, 22]
    assert everycell("convert", path, "-o", tmp_path / "back", "--to", "coco", "--id-map", ids)[0] == 0
    for i, stem in enumerate(STEMS, 1):
        back = read_coco(tmp_path / "back" / f"{stem}.coco.json", {11 * i: SIZE})[11 * i]
        same(back, cells(stem), classes=kind != "labels")


def test_the_leaderboard_file_may_have_a_name_and_cells_without_pixels_stay_out(everycell, pred, ids, tmp_path):
    masks = MaskCrops.from_crops(np.array([[2, 3], [5, 5]]), [np.ones((2, 2), bool), np.zeros((2, 2), bool)])
    write_coco(Instances.from_masks(masks, SIZE), pred / "a.coco.json")
    path = tmp_path / "mine.zip"
    code, said, err = everycell("convert", pred, "-o", path, "--to", "leaderboard", "--id-map", ids)
    assert code == 0
    assert "1 cells of a have no pixel and are left out" in err
    assert said.startswith(f"{path} is valid: 1 cells in 1 of 3 images\n")
    assert "Note: 2 of 3 images have no cell (b.tif, c.tif)" in said


def test_a_leaderboard_file_with_a_fault_is_reported(everycell, pred, ids, tmp_path):
    write_coco(cells("a"), pred / "a.coco.json")
    entries = json.loads((pred / "a.coco.json").read_bytes())
    (pred / "a.coco.json").write_text(json.dumps([*entries, entries[0] | {"from": "another tile"}]))
    code, said, err = everycell("convert", pred, "-o", tmp_path / "out", "--to", "leaderboard", "--id-map", ids)
    assert code == 1
    assert said == "duplicate entry: 1\n  entry 2: all of it is that of entry 0\n"
    assert "has 1 fault, listed above" in err


def test_notes_are_said_once(everycell, pred, ids, tmp_path):
    for stem in ("a", "b"):
        path = pred / f"{stem}.geojson"
        write_geojson(cells(stem), path)
        content = json.loads(path.read_bytes())
        content["features"][0]["geometry"]["coordinates"] = [[[900, 900], [909, 900], [909, 909], [900, 900]]]
        path.write_text(json.dumps(content))
    _, _, err = everycell("convert", pred, "-o", tmp_path / "out", "--to", "coco", "--id-map", ids)
    assert err == "everycell: note: 1 of 2 outlines cover no pixel of the image and were left out (first in a)\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "--to", "labels"), "no such file or folder: "),
        (("images", "--to", "labels"), "is it a photo?"),
        (("ids.json", "--to", "labels"), "ids.json is no COCO file, no GeoJSON and none of HoVer-Net's"),
        (("pred", "--to", "labels"), "a.geojson does not say how large its image is"),
        (("pred", "--to", "leaderboard"), "--to leaderboard needs the image ids: give --id-map FILE"),
        (("pred", "--to", "coco", "--id-map", "ids.json"), "1 of 2 files of cells (z) have no entry in the id map"),
        (("pred", "--to", "coco", "--classes", "long"), "the class must be one of long, got round"),
    ],
)
def test_what_cannot_be_converted_is_one_line(everycell, pred, ids, images, tmp_path, monkeypatch, arguments, says):
    write_geojson(cells("a"), pred / "a.geojson")
    write_geojson(cells("b"), pred / "z.geojson")
    monkeypatch.chdir(tmp_path)
    if "--classes" in arguments:
        for stem in "az":
            tifffile.imwrite(images / f"{stem}.tif", np.zeros((*SIZE, 3), np.uint8), photometric="rgb")
        arguments += ("--images", "images")
    code, _, err = everycell("convert", *arguments, "-o", "out")
    assert code == 1
    assert err.startswith("everycell: error: ")
    assert err.count("\n") == 1
    assert says in err


def test_images_and_id_map_must_agree(everycell, pred, ids, images, tmp_path):
    WRITERS["geojson"](pred, "a")
    tifffile.imwrite(images / "a.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    code, _, err = everycell(
        "convert", pred, "-o", tmp_path / "out", "--to", "coco", "--id-map", ids, "--images", images
    )
    assert code == 1
    assert f"{images / 'a.tif'} is 9 × 9 px, but the id map says 24 × 30" in err


def test_files_that_are_there_are_not_replaced(everycell, pred, tmp_path):
    WRITERS["coco"](pred, "a")
    arguments = ("convert", pred / "a.coco.json", "-o", tmp_path / "out", "--to", "labels")
    assert everycell(*arguments)[0] == 0
    code, _, err = everycell(*arguments)
    assert code == 1
    assert f"{tmp_path / 'out' / 'a.labels.tif'}: already exists; use --overwrite or another folder" in err
    assert everycell(*arguments, "--overwrite")[0] == 0


def test_empty_class_names_are_wrong_usage(everycell, pred, tmp_path):
    code, _, err = everycell("convert", pred, "-o", tmp_path / "out", "--to", "coco", "--classes", "a,,b")
    assert code == 2
    assert "Expected distinct class names" in err


def test_another_programs_summary_is_left_alone(everycell, pred, tmp_path):
    WRITERS["geojson"](pred, "a")
    (pred / "summary.csv").write_text("name,height\na,24\n")
    code, _, err = everycell("convert", pred, "-o", tmp_path / "out", "--to", "labels")
    assert code == 1
    assert "does not say how large" in err
