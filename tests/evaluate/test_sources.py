import json

import numpy as np
import pytest
import tifffile

from everycell.errors import DataError
from everycell.evaluate import Evaluator, open_comparison
from everycell.formats import coco_results, write_coco, write_geojson, write_label_image, write_leaderboard
from everycell.structures import Instances

NAMES = ("a", "b.c", "d")


def true_cells(name):
    """Three cells; those of the second image are moved, so that no two images are alike."""
    labels = np.zeros((24, 30), np.int64)
    labels[2:6, 3:9], labels[10:15, 4:8], labels[12:20, 20:28] = 1, 2, 3
    return Instances.from_masks(
        Instances.from_labels(np.roll(labels, NAMES.index(name), axis=1)).masks,
        (24, 30),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        class_ids=np.array([1, 2, 2]),
        class_names=("class1", "class2"),
    )


@pytest.fixture
def two_classes(tmp_path):
    """Data set in the cell-folder layout."""
    for name in NAMES:
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        cells = true_cells(name)
        tifffile.imwrite(folder / "image.tif", np.zeros((24, 30, 3), np.uint8), photometric="rgb")
        for k in (1, 2):
            of_class = cells.select(cells.class_ids == k)
            tifffile.imwrite(folder / f"class{k}.tif", of_class.to_labels().astype(np.uint16))
    return tmp_path / "train"


@pytest.fixture
def one_class(tmp_path):
    """Folder of label images."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for name in NAMES:
        tifffile.imwrite(folder / f"{name}.tif", true_cells(name).to_labels().astype(np.uint16))
    return folder


@pytest.fixture
def pred(tmp_path):
    folder = tmp_path / "pred"
    folder.mkdir()
    return folder


def score(truth, pred, id_map=None):
    comparison = open_comparison(truth, pred, id_map)
    evaluator = Evaluator(comparison.class_names)
    for image in comparison:
        evaluator.add(*image)
    return evaluator.result(), comparison


WRITERS = {
    "coco": lambda folder, name: write_coco(true_cells(name), folder / f"{name}.coco.json", image_id=77),
    "geojson": lambda folder, name: write_geojson(true_cells(name), folder / f"{name}.geojson"),
    "labels": lambda folder, name: write_label_image(true_cells(name), folder / f"{name}.labels.tif"),
    "masks": lambda folder, name: write_label_image(true_cells(name), folder / f"{name}_cp_masks.tif"),
    "npy": lambda folder, name: np.save(folder / f"{name}.npy", true_cells(name).to_labels()),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_prediction_is_read(two_classes, one_class, pred, kind):
    for name in NAMES:
        WRITERS[kind](pred, name)
    for truth in (two_classes, one_class):
        result, comparison = score(truth, pred)
        assert comparison.names == NAMES
        assert (result.map, result.pq, result.n_pred) == (1, 1, 9)


def test_classes_are_compared_only_where_both_sides_have_them(two_classes, one_class, pred):
    for name in NAMES:
        write_coco(true_cells(name), pred / f"{name}.coco.json")
    result, comparison = score(two_classes, pred)
    assert {name: row.n_pred for name, row in result.per_class.items()} == {"class1": 3, "class2": 6}
    assert comparison.notes == ()
    assert score(one_class, pred)[1].class_names == ("cell",)
    result, comparison = score(two_classes, one_class)
    assert result.per_class["cell"].n_truth == 9
    assert comparison.notes == (f"classes are ignored: the label images in {one_class} have none",)


def test_files_with_scores_come_before_label_images(one_class, pred):
    for name in NAMES:
        write_coco(true_cells(name).select(np.array([0])), pred / f"{name}.coco.json")
        write_label_image(true_cells(name), pred / f"{name}.labels.tif")
    assert score(one_class, pred)[0].n_pred == 3


def test_one_results_file_counts_images_in_sorted_order_or_follows_an_id_map(two_classes, tmp_path):
    path, id_map = tmp_path / "all.json", tmp_path / "ids.json"
    path.write_text(json.dumps([row for i, name in enumerate(NAMES, 1) for row in coco_results(true_cells(name), i)]))
    assert score(two_classes, path)[0].map == 1
    ids = {"a": 3, "b.c": 1, "d": 2}
    id_map.write_text(
        json.dumps([{"file_name": f"{name}.tif", "id": i, "height": 24, "width": 30} for name, i in ids.items()])
    )
    assert score(two_classes, path, id_map)[0].map < 0.5  # the same file, read under the wrong names
    path.write_text(json.dumps([row for name, i in ids.items() for row in coco_results(true_cells(name), i)]))
    assert score(two_classes, path, id_map)[0].map == 1
    write_leaderboard(json.loads(path.read_text()), tmp_path / "all.zip")
    assert score(two_classes, tmp_path / "all.zip", id_map)[0].map == 1


def test_one_file_is_enough_for_one_image(one_class, tmp_path):
    (one_class / "b.c.tif").unlink()
    (one_class / "d.tif").unlink()
    path = tmp_path / "a.coco.json"
    write_coco(true_cells("a"), path, image_id=5)
    assert score(one_class, path)[0].map == 1


def test_images_without_prediction_and_predictions_without_image_are_named(one_class, pred):
    for name in ("a", *"efghij"):
        write_coco(true_cells("a"), pred / f"{name}.coco.json")
    message = r"2 of 3 images have no prediction \(b.c, d\) and 6 of 7 predictions have no image \(e, f, g, h, i, …\)"
    with pytest.raises(DataError, match=message):
        open_comparison(one_class, pred)


def test_an_id_map_without_an_image_of_the_truth_is_an_error(one_class, tmp_path):
    (tmp_path / "all.json").write_text("[]")
    (tmp_path / "ids.json").write_text('[{"file_name": "a.png", "id": 1, "height": 24, "width": 30}]')
    with pytest.raises(DataError, match=r"lacks 2 of 3 images \(b.c, d\)"):
        open_comparison(one_class, tmp_path / "all.json", tmp_path / "ids.json")


def test_folders_without_anything_to_read_say_what_was_expected(one_class, pred, tmp_path):
    with pytest.raises(DataError, match=r"no cells in .*pred: expected <stem>\.coco\.json"):
        open_comparison(one_class, pred)
    with pytest.raises(DataError, match=r"no such file or folder: .*nowhere"):
        open_comparison(one_class, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no such folder: .*nowhere"):
        open_comparison(tmp_path / "nowhere", pred)


def test_two_files_for_one_image_are_an_error(one_class, pred):
    for suffix in ("tif", "tiff"):
        write_label_image(true_cells("a"), pred / f"a.{suffix}")
    with pytest.raises(DataError, match=r"a\.tif and a\.tiff are for the same image"):
        open_comparison(one_class, pred)


def test_several_image_ids_in_the_file_of_one_image_are_an_error(one_class, pred):
    rows = [row for i, name in enumerate(NAMES) for row in coco_results(true_cells(name), i)]
    for name in NAMES:
        (pred / f"{name}.coco.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"a\.coco\.json must hold the cells of one image, got those of 3"):
        score(one_class, pred)


def test_an_image_without_predicted_cells_is_scored(one_class, pred):
    for name in NAMES:
        (pred / f"{name}.coco.json").write_text("[]")
    assert score(one_class, pred)[0].pq == 0


def test_true_cells_that_the_data_set_leaves_out_are_noted(two_classes, pred):
    labels = tifffile.imread(two_classes / "a" / "class1.tif")
    labels[0, 0] = 9
    tifffile.imwrite(two_classes / "a" / "class1.tif", labels)
    for name in NAMES:
        write_coco(true_cells(name), pred / f"{name}.coco.json")
    assert score(two_classes, pred)[0].notes == ("a: 1 true cells under 4 px were left out",)
