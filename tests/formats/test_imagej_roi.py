import zipfile

import numpy as np
import pytest
import roifile
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from everycell.errors import DataError
from everycell.formats import Classes, read_imagej_rois, write_imagej_rois
from everycell.structures import Instances, MaskCrops
from everycell.structures.colors import class_color

RING = np.array([[True, True, True], [True, False, True], [True, True, True]])


def cells():
    crops = [np.ones((2, 3), bool), np.zeros((1, 1), bool), RING]
    return Instances.from_masks(
        MaskCrops.from_crops(np.array([[1, 2], [0, 0], [6, 5]]), crops),
        (10, 12),
        scores=np.array([0.9, 0.5, 0.25], np.float32),
        class_ids=np.array([2, 1, 1]),
        class_names=("stroma", "tumour"),
    )


def test_what_roifile_reads(tmp_path):
    write_imagej_rois(cells(), tmp_path / "a.rois.zip")
    whole, ring = roifile.roiread(tmp_path / "a.rois.zip")
    assert (whole.name, whole.roitype, whole.group) == ("1", roifile.ROI_TYPE.TRACED, 2)
    assert whole.props == "class: tumour\nscore: 0.9\n"
    assert whole.stroke_color == bytes((255, *class_color(2)))
    assert (whole.left, whole.top, whole.right, whole.bottom) == (1, 2, 4, 4)
    assert whole.coordinates().tolist() == [[1, 2], [4, 2], [4, 4], [1, 4]]
    assert (ring.name, ring.composite) == ("3", True)
    outer, hole = ring.coordinates(multi=True)
    assert outer.tolist() == [[6, 5], [9, 5], [9, 8], [6, 8], [6, 5]]
    assert sorted(hole[:-1].tolist()) == [[7, 6], [7, 7], [8, 6], [8, 7]]


@given(st.integers(0, 2**32 - 1))
def test_round_trip(tmp_path_factory, seed):
    before = Instances.from_labels(np.random.default_rng(seed).integers(0, 5, (9, 11)))
    path = tmp_path_factory.getbasetemp() / "round.rois.zip"
    write_imagej_rois(before, path)
    after = read_imagej_rois(path, (9, 11), Classes(("class1",)))
    np.testing.assert_array_equal(after.to_labels(), before.to_labels())


def test_classes_scores_and_scale_come_back(tmp_path):
    write_imagej_rois(cells(), tmp_path / "a.zip")
    back = read_imagej_rois(tmp_path / "a.zip", (10, 12), mpp=0.5)
    assert back.class_names == ("stroma", "tumour")
    assert back.class_ids.tolist() == [2, 1]
    assert back.scores.tolist() == pytest.approx([0.9, 0.25])
    assert back.mpp == 0.5
    np.testing.assert_array_equal(back.masks.crop(1), RING)


def test_corners_beyond_what_16_bits_hold(tmp_path):
    far = Instances.from_masks(cells().masks.shifted(70_000, 90_000), (100_000, 100_000))
    write_imagej_rois(far, tmp_path / "a.zip")
    back = read_imagej_rois(tmp_path / "a.zip", far.image_size)
    assert back.masks.boxes.tolist() == far.masks.boxes[[0, 2]].tolist()


def test_no_cells(tmp_path):
    write_imagej_rois(Instances.empty((4, 4)), tmp_path / "a.zip")
    assert roifile.roiread(tmp_path / "a.zip") == []
    assert len(read_imagej_rois(tmp_path / "a.zip", (4, 4))) == 0


def test_freehand_rois_of_another_tool_with_fractions(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    disc = np.stack([20.3 + 9 * np.cos(angle), 15.6 + 9 * np.sin(angle)], axis=1)
    roifile.roiwrite(tmp_path / "a.zip", [roifile.ImagejRoi.frompoints(disc, name="first")])
    back = read_imagej_rois(tmp_path / "a.zip", (30, 40))
    expected = polygon2mask((30, 40), disc[:, ::-1] - 0.5)  # there the middle of the first pixel is at 0
    np.testing.assert_array_equal(back.to_labels(), expected)
    assert back.class_names == ()
    roifile.ImagejRoi.frompoints(disc).tofile(tmp_path / "a.roi")
    np.testing.assert_array_equal(read_imagej_rois(tmp_path / "a.roi", (30, 40)).to_labels(), expected)


def roi(**changes):
    made = roifile.ImagejRoi.frompoints(np.array([[1, 1], [5, 1], [5, 5]]), name="third")
    for key, value in changes.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"roitype": roifile.ROI_TYPE.POINT}, "ROI third: expected a polygon, .* got point"),
        ({"roitype": roifile.ROI_TYPE.OVAL}, "got oval"),
        ({"props": "score: high\n"}, "score must be a number in 0 … 1, got 'high'"),
        ({"props": "score: nan\n"}, "score must be"),
        ({"props": "class: nerve\n"}, "class must be one of stroma, got nerve"),
    ],
)
def test_a_roi_that_is_no_cell_is_a_data_error(tmp_path, changes, says):
    roifile.roiwrite(tmp_path / "a.zip", [roi(**changes)])
    with pytest.raises(DataError, match=says) as error:
        read_imagej_rois(tmp_path / "a.zip", (8, 8), Classes(("stroma",)))
    assert "a.zip" in str(error.value)


def test_damaged_files_are_data_errors(tmp_path):
    path = tmp_path / "a.rois.zip"
    write_imagej_rois(cells(), path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entry = archive.read("1.roi")
    for damaged in (b"", b"nothing of the kind", data[: len(data) // 2], data[:60] + b"\0" * 9 + data[69:], entry[:70]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.rois\.zip"):
            read_imagej_rois(path, (10, 12))
    with pytest.raises(DataError, match="cannot read the ImageJ ROIs"):
        read_imagej_rois(tmp_path / "missing.zip", (10, 12))
