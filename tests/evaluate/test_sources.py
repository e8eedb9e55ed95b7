import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import tifffile

from everycell.errors import DataError
from everycell.evaluate import Evaluator, open_comparison
from everycell.formats import coco_results, write_coco, write_geojson, write_label_image, write_leaderboard
from everycell.structures import Instances
from everycell.structures.rle import encode

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
    for pair in pickle.loads(pickle.dumps(comparison)):
        evaluator.add(*pair)
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
    assert comparison.notes == (f"classes are ignored: the cells in {one_class} have none",)


def test_classes_that_differ_can_be_ignored(two_classes, pred):
    for name in NAMES:
        write_geojson(replace(true_cells(name), class_names=("nucleus", "cell")), pred / f"{name}.geojson")
    with pytest.raises(DataError, match="the class must be one of class1, class2, got nucleus"):
        score(two_classes, pred)
    comparison = open_comparison(two_classes, pred, ignore_classes=True)
    assert comparison.class_names == ("cell",)
    for _, truth, found, _ in comparison:
        assert truth.class_ids.tolist() == found.class_ids.tolist() == [1, 1, 1]


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
    with pytest.raises(DataError, match=r"no such file or folder: .*nowhere; expected the truth"):
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


def test_a_true_cell_of_one_pixel_counts(two_classes, pred):
    labels = tifffile.imread(two_classes / "a" / "class1.tif")
    labels[0, 0] = 9
    tifffile.imwrite(two_classes / "a" / "class1.tif", labels)
    for name in NAMES:
        write_coco(true_cells(name), pred / f"{name}.coco.json")
    assert score(two_classes, pred)[0].n_truth == 10


def instances_file(path, *, cells=true_cells, ids=(12, 10, 11), categories=((0, "class1"), (7, "class2")), crowd=()):
    """COCO instances, polygons and both kinds of RLE in turn; category and image ids are not 1 … K."""
    document = {
        "images": [
            {"id": i, "file_name": f"{name}.png", "height": 24, "width": 30} for i, name in zip(ids, NAMES, strict=True)
        ],
        "categories": [{"id": i, "name": name} for i, name in categories],
        "annotations": [],
    }
    for image_id, name in zip(ids, NAMES, strict=True):
        found = cells(name)
        for k, code in enumerate(encode(found.masks, (24, 30))):
            x0, y0, x1, y1 = found.masks.boxes[k].tolist()
            box = np.zeros((24, 30), np.int64)
            box[y0:y1, x0:x1] = 1
            runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[-1], box.ravel("F"), [-1]])))).tolist()
            forms = [[[x0, y0, x1, y0, x1, y1, x0, y1]], {"counts": code}, {"counts": runs}]
            segmentation = forms[0] if k == 0 else {"size": [24, 30], **forms[k]}
            category = categories[int(found.class_ids[k]) - 1][0] if len(categories) > 1 else categories[0][0]
            row = {"image_id": image_id, "category_id": category, "iscrowd": int((name, k) in crowd)}
            document["annotations"].append(row | {"id": len(document["annotations"]), "segmentation": segmentation})
    path.write_text(json.dumps(document))


def typed_maps(name):
    labels = true_cells(name).to_labels().astype(np.int32)
    return labels, np.append(0, true_cells(name).class_ids)[labels]


def write_mats(folder):
    for name in NAMES:
        labels, _ = typed_maps(name)
        types = true_cells(name).class_ids[:, None]
        scipy.io.savemat(folder / f"{name}.mat", {"inst_map": labels, "inst_type": types})


def write_arrays(folder):
    for name in NAMES:
        np.save(folder / f"{name}.npy", np.stack(typed_maps(name), axis=2))


def write_folders(folder):
    for name in NAMES:
        (folder / name).mkdir()
        labels, class_map = typed_maps(name)
        for k in (1, 2):
            tifffile.imwrite(folder / name / f"class{k}.tif", (labels * (class_map == k)).astype(np.uint16))


def write_each(kind):
    def write(folder):
        for name in NAMES:
            WRITERS[kind](folder, name)

    return write


SETS = {
    "coco instances": lambda folder: instances_file(folder / "truth.json"),
    "coco results": write_each("coco"),
    "geojson": write_each("geojson"),
    "mat": write_mats,
    "arrays": write_arrays,
    "cell folders": write_folders,
}


@pytest.mark.parametrize("truth", SETS)
@pytest.mark.parametrize("other", SETS)
def test_every_format_is_the_same_as_every_other(tmp_path, truth, other):
    for name, kind in (("truth", truth), ("pred", other)):
        (tmp_path / name).mkdir()
        SETS[kind](tmp_path / name)
    classes = ("class1", "class2") if truth == "geojson" else ()
    comparison = pickle.loads(pickle.dumps(open_comparison(tmp_path / "truth", tmp_path / "pred", None, classes)))
    assert comparison.class_names == ("class1", "class2")
    # Of results that count categories from 1 in a data set whose ids are 0 and 7, the second one is unknown.
    numbers = other not in ("coco instances", "geojson")
    if truth == "coco instances" and numbers:
        with pytest.raises(DataError, match=r"must be 0, 7, got 1"):
            comparison.read("a")
        return
    if truth == other == "geojson":
        with pytest.raises(DataError, match="does not say how large its image is"):
            comparison.read("a")
        return
    for name, true, pred, ignore in comparison:
        order = np.argsort(pred.masks.boxes[:, 0])
        expected = true_cells(name)
        for cells in (true.select(np.argsort(true.masks.boxes[:, 0])), pred.select(order)):
            by_x = expected.select(np.argsort(expected.masks.boxes[:, 0]))
            np.testing.assert_array_equal(cells.masks.boxes, by_x.masks.boxes)
            np.testing.assert_array_equal(cells.masks.bits, by_x.masks.bits)
            assert cells.class_ids.tolist() == by_x.class_ids.tolist()
        assert len(ignore) == 0


def test_results_follow_the_ids_of_coco_truth(tmp_path):
    instances_file(tmp_path / "truth.json")
    categories = {1: 0, 2: 7}
    rows = [
        row | {"category_id": categories[row["category_id"]]}
        for name, i in zip(NAMES, (12, 10, 11), strict=True)
        for row in coco_results(true_cells(name), i)
    ]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    result, comparison = score(tmp_path / "truth.json", tmp_path / "results.json")
    assert (result.map, result.n_truth, comparison.names) == (1, 9, NAMES)
    (tmp_path / "results.json").write_text(json.dumps([*rows, rows[0] | {"image_id": 13}]))
    with pytest.raises(DataError, match=r"entry 9: image_id must be one of the 3 known images, got 13"):
        open_comparison(tmp_path / "truth.json", tmp_path / "results.json")
    (tmp_path / "results.json").write_text(json.dumps([*rows, rows[8]]))
    with pytest.raises(DataError, match=r"entries 8 and 9 \(image_id 11\) are the same; keep one"):
        score(tmp_path / "truth.json", tmp_path / "results.json")


def test_files_named_by_image_id(tmp_path, pred):
    instances_file(tmp_path / "truth.json", categories=((0, "nucleus"),))
    for name, i in zip(NAMES, (12, 10, 11), strict=True):
        write_label_image(true_cells(name), pred / f"{i}.tif")
    result, comparison = score(tmp_path / "truth.json", pred)
    assert (result.pq, comparison.class_names) == (1, ("nucleus",))
    (pred / "12.tif").rename(pred / "13.tif")
    with pytest.raises(DataError, match=r"3 of 3 images have no prediction .* and 3 of 3 predictions have no image"):
        open_comparison(tmp_path / "truth.json", pred)


def test_crowds_are_regions_to_ignore(tmp_path, pred):
    instances_file(tmp_path / "truth.json", crowd={("a", 1)})
    SETS["geojson"](pred)
    pair = open_comparison(tmp_path / "truth.json", pred).read("a")
    assert (pair.truth.masks.areas().tolist(), pair.ignore.masks.areas().tolist()) == ([24, 64], [20])
    assert (pair.ignore.class_ids.tolist(), pair.ignore.class_names) == ([2], ("class1", "class2"))
    assert len(pair.pred) == 3


def test_images_beside_the_truth_give_size_and_scale(tmp_path, pred, two_classes, one_class):
    (tmp_path / "truth").mkdir()
    SETS["geojson"](tmp_path / "truth")
    SETS["geojson"](pred)
    assert open_comparison(two_classes, pred).images == {name: two_classes / name / "image.tif" for name in NAMES}
    assert open_comparison(one_class, pred).images == {}
    with pytest.raises(DataError, match=r"a\.geojson does not say how large its image is"):
        open_comparison(tmp_path / "truth", pred).read("a")
    for name in NAMES:
        options = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "photometric": "rgb"}
        tifffile.imwrite(tmp_path / "truth" / f"{name}.tif", np.zeros((24, 30, 3), np.uint8), **options)
    comparison = open_comparison(tmp_path / "truth", pred)
    assert comparison.images == {name: tmp_path / "truth" / f"{name}.tif" for name in NAMES}
    assert {(cells.image_size, cells.mpp) for cells in comparison.read("a")[1:]} == {((24, 30), 0.5)}


def test_sizes_that_differ_are_named(tmp_path, pred, one_class):
    SETS["geojson"](pred)
    write_label_image(Instances.empty((9, 9)), one_class / "a.tif")
    instances_file(tmp_path / "truth.json")
    with pytest.raises(DataError, match=r"image a\.png with \(height, width\) \(24, 30\), but the image has \(9, 9\)"):
        open_comparison(one_class, tmp_path / "truth.json").read("a")


def test_names_are_not_compared_with_numbers(tmp_path, pred):
    (tmp_path / "truth").mkdir()
    SETS["geojson"](tmp_path / "truth")
    SETS["mat"](pred)
    with pytest.raises(DataError, match=r"have names \(class1, class2\), those in .*pred have numbers; .* --classes"):
        open_comparison(tmp_path / "truth", pred)
    turned = open_comparison(tmp_path / "truth", pred, None, ("class2", "class1")).read("a")
    assert (sorted(turned.truth.class_ids.tolist()), turned.pred.class_ids.tolist()) == ([1, 1, 2], [1, 2, 2])


def test_a_truth_with_names_is_compared_by_them(tmp_path, pred):
    instances_file(tmp_path / "truth.json", categories=((4, "class2"), (2, "class1")))  # ids against the names' order
    SETS["geojson"](pred)
    pair = open_comparison(tmp_path / "truth.json", pred).read("a")
    assert (pair.truth.class_ids.tolist(), pair.pred.class_ids.tolist()) == ([2, 1, 1], [1, 2, 2])
    with pytest.raises(DataError, match=r"truth\.json has no category class3; it has class1, class2"):
        open_comparison(tmp_path / "truth.json", pred, None, ("class1", "class3"))


def test_tissues_of_a_stack_are_groups(tmp_path):
    stack = np.stack([np.stack(typed_maps(name), axis=2) for name in NAMES])
    np.save(tmp_path / "masks.npy", stack)
    np.save(tmp_path / "types.npy", np.array(["Colon", "Lung", "Colon"]))
    np.save(tmp_path / "pred.npy", stack)
    result, comparison = score(tmp_path, tmp_path / "pred.npy")
    assert (result.map, comparison.groups) == (1, {"0": "Colon", "1": "Lung", "2": "Colon"})
