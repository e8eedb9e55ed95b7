import numpy as np
import pytest
import scipy.io

from everycell.errors import DataError
from everycell.formats import Classes, LabelStack, open_cell_set

LABELS = np.zeros((6, 8), np.int32)
LABELS[1:3, 1:4], LABELS[4:6, 5:8], LABELS[0, 7] = 30, 4, 9  # cells 4, 9, 30 of 6, 1 and 6 px
TYPES = {4: 2, 9: 1, 30: 3}
TYPE_MAP = np.vectorize(TYPES.get)(LABELS, 0)


def mat(path, **variables):
    scipy.io.savemat(path, variables)
    return open_cell_set(path)


@pytest.mark.parametrize(
    "variables",
    [
        {"inst_type": [[2], [1], [3]], "inst_centroid": np.zeros((3, 2))},
        {"inst_type": [[3.0], [2.0], [1.0]], "inst_uid": [[30], [4], [9]]},
        {"type_map": TYPE_MAP.astype(float)},
        {"inst_type": [2, 1, 3], "type_map": np.zeros((6, 8))},
    ],
)
def test_mat_files_with_classes(tmp_path, variables):
    cells = mat(tmp_path / "a.mat", inst_map=LABELS.astype(float), **variables)
    assert (cells.names, cells.told_by, cells.class_names()) == (("a",), "id", ("class1", "class2", "class3"))
    back = cells.read("a", (6, 8), mpp=0.25)
    assert back.masks.areas().tolist() == [6, 1, 6]
    assert back.class_ids.tolist() == [2, 1, 3]
    assert back.mpp == 0.25
    assert cells.read("a", classes=Classes(("x",), blind=True)).class_ids.tolist() == [1, 1, 1]
    assert cells.read("a", classes=Classes(("x", "y", "z"), ids=(3, 2, 1))).class_ids.tolist() == [2, 3, 1]
    with pytest.raises(DataError, match=r"a\.mat, cell 30: the class must be 1 … 2, got 3"):
        cells.read("a", classes=Classes(("x", "y")))


def test_mat_files_without_classes_and_without_cells(tmp_path):
    cells = mat(tmp_path / "a.mat", inst_map=LABELS)
    assert (cells.told_by, cells.class_names(), len(cells.read("a"))) == ("nothing", (), 3)
    mat(tmp_path / "0.mat", inst_map=LABELS, inst_type=[1, 2, 3])
    with pytest.raises(DataError, match=r"a\.mat has neither inst_type nor type_map"):
        open_cell_set(tmp_path).read("a")  # the first file has classes
    empty = mat(tmp_path / "b.mat", inst_map=np.zeros((4, 5)), inst_type=np.zeros((0, 1)))
    assert (len(empty.read("b")), empty.read("b").image_size) == (0, (4, 5))


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"labels": LABELS}, "must hold inst_map, the map of cells, got labels"),
        ({"inst_map": LABELS, "inst_type": [1, 2]}, "one class for each of the 3 cells in inst_map, got 2$"),
        ({"inst_map": LABELS, "inst_type": [1, 2, 1], "inst_uid": [4, 9, 31]}, "got 3 for the 3 cells in inst_uid"),
        ({"inst_map": LABELS, "inst_type": [1, 2, 0]}, "cell 30: the class must be 1 … K, got 0"),
        ({"inst_map": LABELS, "inst_type": [1, 2, np.nan]}, "classes: the values .* got fractions or NaN"),
        ({"inst_map": LABELS / 2, "inst_type": [1, 2, 1]}, "inst_map: the values .* got fractions or NaN"),
        ({"inst_map": LABELS, "type_map": np.roll(TYPE_MAP, 1, 1)}, "cell 4 has classes 0 and 2; expected one"),
        ({"inst_map": LABELS, "type_map": TYPE_MAP[1:]}, r"instances has shape \(6, 8\), that of classes \(5, 8\)"),
        ({"inst_map": np.zeros((2, 3, 4))}, r"got shape \(2, 3, 4\)"),
        ({"inst_map": np.array(["x"])}, "whole numbers, got type|got shape"),
    ],
)
def test_variables_that_do_not_belong_together_are_named(tmp_path, variables, says):
    with pytest.raises(DataError, match=r"a\.mat.*" + says):
        mat(tmp_path / "a.mat", **variables).read("a")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot read .*truncated"),
        (b"nothing of the kind" * 20, "cannot read"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\0" * 500, "MATLAB 7.3 .* save it again with save"),
    ],
)
def test_files_that_are_not_read(tmp_path, content, says):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=says):
        open_cell_set(tmp_path / "a.mat")


def one_hot():
    """Class channels as in PanNuke: the number 4 is in two of them, and is two cells."""
    array = np.zeros((6, 8, 6))
    for k, value in ((1, 9), (2, 4), (3, 30)):
        array[..., k - 1][value == LABELS] = value
    array[3, 0, 4] = 4
    array[..., 5] = array[..., :5].sum(axis=2) == 0
    return array


def test_arrays_of_one_image(tmp_path):
    np.save(tmp_path / "a.npy", one_hot())
    np.save(tmp_path / "b.npy", one_hot() * 0)
    cells = open_cell_set(tmp_path)
    assert (cells.told_by, cells.class_names()) == ("id", tuple(f"class{k}" for k in range(1, 6)))
    back = cells.read("a")
    assert back.class_ids.tolist() == [1, 2, 3, 5]
    assert back.masks.areas().tolist() == [1, 6, 6, 1]
    assert len(cells.read("b")) == 0
    with pytest.raises(DataError, match=r"a\.npy: the class must be 1 … 3, got 5"):
        cells.read("a", classes=Classes(("x", "y", "z")))
    np.save(tmp_path / "a.npy", np.stack([LABELS, TYPE_MAP], axis=2))
    cells = open_cell_set(tmp_path / "a.npy")
    assert cells.class_names() == ("class1", "class2", "class3")
    assert cells.read("a").class_ids.tolist() == [2, 1, 3]


def test_a_stack_of_images_with_tissues(tmp_path):
    np.save(tmp_path / "masks.npy", np.stack([one_hot(), one_hot() * 0, one_hot()[::-1]]))
    np.save(tmp_path / "types.npy", np.array(["Colon", "Breast", "Colon"]))
    cells = open_cell_set(tmp_path)
    assert isinstance(cells, LabelStack)
    assert cells.names == ("0", "1", "2")
    assert cells.groups == {"0": "Colon", "1": "Breast", "2": "Colon"}
    assert [len(cells.read(name)) for name in cells.names] == [4, 0, 4]
    assert cells.read("2").masks.boxes[1].tolist() == [5, 0, 8, 2]
    with pytest.raises(DataError, match=r"images of \(height, width\) \(6, 8\), but image 1 has \(8, 6\)"):
        cells.read("1", (8, 6))
    np.save(tmp_path / "types.npy", np.array(["Colon"]))
    with pytest.raises(DataError, match=r"types\.npy: expected one tissue for each of the 3 images"):
        open_cell_set(tmp_path)


def test_a_stack_of_instance_and_class_maps(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.stack([np.stack([LABELS, TYPE_MAP], axis=2)] * 2).astype(np.uint16))
    cells = open_cell_set(path)
    assert (cells.names, cells.class_names()) == (("0", "1"), ("class1", "class2", "class3"))
    assert cells.read("1").class_ids.tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 6, 8, 3)), r"got shape \(2, 6, 8, 3\)"),
        (np.full((1, 6, 8, 2), 0.5), "image 0, instances: the values .* fractions or NaN"),
        (np.array([{}], object), "save plain numbers or text"),
        (np.zeros((6, 8, 4)), "is it a photo?"),
    ],
)
def test_other_arrays_are_errors(tmp_path, array, says):
    np.save(tmp_path / "masks.npy", array)
    with pytest.raises(DataError, match=says):
        open_cell_set(tmp_path / "masks.npy").read("0" if array.ndim == 4 else "masks")
