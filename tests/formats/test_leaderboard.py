import json
import time
import zipfile

import numpy as np
import pytest
from pycocotools.coco import COCO

from everycell.errors import DataError
from everycell.formats import (
    check_leaderboard,
    coco_results,
    read_coco,
    read_leaderboard,
    write_leaderboard,
)
from everycell.predict.masks import masks_to_crops
from everycell.structures import Instances, MaskCrops

SIZES = {7: (6, 8), 9: (5, 5)}


def entries():
    """Two cells of classes 2 and 1 in image 7, the first with the box (1, 2, 2, 3)."""
    masks = MaskCrops.from_crops(np.array([[1, 2], [4, 0]]), [np.ones((3, 2), bool), np.eye(3, dtype=bool)])
    scores, class_ids = np.array([0.9, 0.1], np.float32), np.array([2, 1])
    return coco_results(Instances.from_masks(masks, (6, 8), scores=scores, class_ids=class_ids), 7)


def spoilt(**changes):
    """The first entry with changes, and the second as it is."""
    first, second = entries()
    return [first | changes, second]


def rle(counts, size=(6, 8)):
    return {"size": list(size), "counts": counts}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "test-results.zip"


def found(path, content, n_classes=2):
    write_leaderboard(content, path)
    return check_leaderboard(path, SIZES, n_classes)


def test_the_zip_holds_one_json_list_that_pycocotools_loads(path, capsys):
    write_leaderboard(entries(), path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        [member] = archive.infolist()
        content = json.loads(archive.read(member))
    assert member.filename == "test-results.json"
    assert member.external_attr >> 16 == 0o644
    assert content == entries()
    truth = COCO()
    images = [{"id": i, "height": h, "width": w} for i, (h, w) in SIZES.items()]
    truth.dataset = {"images": images, "categories": [{"id": 1}, {"id": 2}], "annotations": []}
    truth.createIndex()
    assert len(truth.loadRes(content).anns) == 2


def test_equal_entries_give_equal_bytes_at_any_time(path, monkeypatch):
    write_leaderboard(entries(), path)
    before = path.read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_leaderboard(iter(entries()), path)
    assert path.read_bytes() == before


def test_the_zip_is_read_like_any_coco_results(path):
    write_leaderboard(entries(), path)
    cells = read_coco(path, SIZES)
    assert cells[7].class_ids.tolist() == [2, 1]
    assert len(cells[9]) == 0


def test_a_valid_file(path, capsys):
    check = found(path, entries())
    assert check.faults == {}
    assert check.cells_per_image == {7: 2}
    assert check.cells_per_class == {1: 1, 2: 1}
    (path.parent / "test-results.json").write_bytes(read_leaderboard(path))
    assert check_leaderboard(path.parent / "test-results.json", SIZES, 2) == check
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("unknown image id", {"image_id": 8}, "image_id 8 is not in the id map"),
        ("unknown image id", {"image_id": "7"}, "image_id '7' is not"),
        ("unknown image id", {"image_id": [7]}, r"image_id \[7\] is not"),
        ("category out of range", {"category_id": 3}, "category_id must be 1 … 2, got 3"),
        ("category out of range", {"category_id": 0}, "got 0"),
        ("category out of range", {"category_id": 1.0}, "got 1.0"),
        ("score out of range", {"score": 1.5}, "score must be a number in 0 … 1, got 1.5"),
        ("score out of range", {"score": -0.1}, "got -0.1"),
        ("score out of range", {"score": None}, "got None"),
        ("bad bbox", {"bbox": [1, 2, 0, 3]}, r"bbox must be \[x, y, width, height\] with sizes above 0, got \[1, 2, 0"),
        ("bad bbox", {"bbox": [1, 2, 2]}, "got "),
        ("bbox off the mask", {"bbox": [3.1, 2, 2, 3]}, r"must enclose the mask, which fills \[1.0, 2.0, 2.0, 3.0\]"),
        ("bbox off the mask", {"bbox": [1, 2, 2, 0.9]}, "must enclose"),
        ("no RLE", {"segmentation": [[1, 1, 2, 2, 1, 2]]}, "an RLE with size and counts, got"),
        ("counts not a string", {"segmentation": rle([8, 3, 37])}, "counts must be a str, got a list"),
        ("wrong RLE size", {"segmentation": rle("8", (8, 6))}, r"must be \[6, 8\] \(height, width\), got \[8, 6\]"),
        ("damaged RLE", {"segmentation": rle("11")}, "add up to 6 x 8 = 48 pixels, got 2"),
        ("damaged RLE", {"segmentation": rle("é")}, "not a compressed COCO RLE string"),
        ("empty mask", {"segmentation": rle("`1")}, "the mask has no pixel"),
    ],
)
def test_each_fault_is_named_with_its_entry(path, kind, changes, says):
    check = found(path, spoilt(**changes))
    assert list(check.faults) == [kind]
    [text] = check.faults[kind]
    assert text.startswith("entry 0: ")
    with pytest.raises(DataError, match=says):
        raise DataError(text)


def test_nan_is_a_score_out_of_range(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(spoilt(score=float("nan"))))
    assert "got nan" in check_leaderboard(tmp_path / "a.json", SIZES).faults["score out of range"][0]


def test_what_is_missing_from_an_entry_is_named(path):
    bare = {key: value for key, value in entries()[0].items() if key not in ("bbox", "score")}
    assert found(path, [bare, 3]).faults == {
        "missing key": (
            "entry 0: it lacks bbox, score",
            "entry 1: expected an object with image_id, category_id, bbox, score, segmentation, got 3",
        )
    }


def test_entries_and_ids_that_come_twice_are_named(path):
    first, second = entries()
    assert found(path, [first, second, first]).faults == {"duplicate entry": ("entry 2: all of it is that of entry 0",)}
    assert found(path, [first | {"id": 4}, second | {"id": 4}]).faults == {
        "duplicate id": ("entry 1: its id is that of entry 0",)
    }
    assert found(path, [first, first | {"score": 0.5}, first | {"category_id": 1}]).faults == {}


def test_all_faults_are_found_at_once(path):
    content = [*spoilt(image_id=8, category_id=9, score=2), *spoilt(image_id=10)]
    faults = found(path, content).faults
    assert {kind: len(texts) for kind, texts in faults.items()} == {
        "unknown image id": 2,
        "category out of range": 1,
        "score out of range": 1,
        "duplicate entry": 1,
    }


def test_any_number_of_classes_without_a_limit(path):
    content = spoilt(category_id=40)
    assert found(path, content, None).cells_per_class == {1: 1, 40: 1}
    assert list(found(path, spoilt(category_id=0), None).faults) == ["category out of range"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"\xff\xfe[", "is not JSON"),
        ("a.json", b'{"annotations": []}', "must hold a bare list of entries, got a dict"),
        ("a.json", b"[]", "holds no cell at all"),
        ("a.zip", b"[]", "cannot read the zip"),
        ("a.zip", b"", "cannot read the zip"),
        ("nowhere/a.zip", None, "cannot open"),
        ("nowhere/a.json", None, "cannot open"),
    ],
)
def test_a_file_of_another_kind_is_unusable(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    [text] = check_leaderboard(tmp_path / name, SIZES).faults["unusable file"]
    assert says in text
    assert str(tmp_path / name) in text


@pytest.mark.parametrize("names", [["results.json"], ["test-results.json", "b.txt"], ["x/test-results.json"], []])
def test_a_zip_with_other_names_is_unusable(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "[]")
    [text] = check_leaderboard(path, SIZES).faults["unusable file"]
    assert f"must hold test-results.json and nothing else, got {', '.join(names) or 'nothing'}" in text


def test_a_damaged_zip_is_unusable(path):
    write_leaderboard(entries(), path)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    assert "cannot read the zip" in check_leaderboard(path, SIZES).faults["unusable file"][0]


@pytest.mark.parametrize("aligned", [False, True])
def test_the_box_of_every_network_mask_encloses_it_within_the_tolerance(path, aligned):
    rng = np.random.default_rng(5)
    corners = rng.uniform(-3, 90, (400, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.5, 60, (400, 2))], axis=1).clip(0, 100).astype(np.float32)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0.1).all(axis=1)]
    masks = masks_to_crops(np.ones((len(boxes), 14, 14), np.float32), boxes, (100, 100), aligned=aligned)
    n = len(boxes)
    cells = Instances(boxes, np.linspace(0, 1, n, dtype=np.float32), np.ones(n, np.int64), masks, (100, 100))
    write_leaderboard(coco_results(cells.select(masks.areas() > 0), 1), path)
    assert check_leaderboard(path, {1: (100, 100)}).faults == {}
