import numpy as np
import PIL.Image
import pytest
import tifffile

from everycell.errors import DataError
from everycell.formats import read_label_image, write_label_image
from everycell.structures import Instances, MaskCrops


def overlapping(mpp=None):
    masks = MaskCrops.from_crops(np.array([[0, 0], [1, 0]]), [np.ones((2, 2), bool), np.ones((2, 2), bool)])
    return Instances.from_masks(masks, (3, 4), scores=np.array([0.9, 0.4], np.float32), mpp=mpp)


def test_the_higher_score_wins_a_shared_pixel_and_values_are_index_plus_one(tmp_path):
    write_label_image(overlapping(), tmp_path / "a.labels.tif")
    labels = tifffile.imread(tmp_path / "a.labels.tif")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, [[1, 1, 2, 0], [1, 1, 2, 0], [0, 0, 0, 0]])


def test_scale_goes_to_the_resolution_tags(tmp_path):
    write_label_image(overlapping(mpp=0.25), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tags = tiff.pages[0].tags
        pixels, per = tags["XResolution"].value
        assert pixels / per == 40_000  # px per cm at 0.25 µm/px
        assert tags["YResolution"].value == tags["XResolution"].value
        assert tags["ResolutionUnit"].value == 3  # centimetre
        assert tiff.pages[0].compression == 8  # zlib


def test_an_unknown_scale_claims_no_unit(tmp_path):
    write_label_image(overlapping(), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].tags["ResolutionUnit"].value == 1


def test_more_cells_than_uint16_holds_are_written_as_uint32(tmp_path):
    labels = np.arange(1, 70_001, dtype=np.uint32).reshape(250, 280)
    write_label_image(Instances.from_labels(labels), tmp_path / "a.tif")
    written = tifffile.imread(tmp_path / "a.tif")
    assert written.dtype == np.uint32
    np.testing.assert_array_equal(written, labels)


def test_no_cells(tmp_path):
    write_label_image(Instances.empty((1, 1)), tmp_path / "a.tif")
    back = read_label_image(tmp_path / "a.tif")
    assert (len(back), back.image_size) == (0, (1, 1))


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
def test_label_images_of_other_tools(tmp_path, name):
    labels = np.array([[0, 7, 7], [300, 0, 7]], np.uint16)
    path = tmp_path / name
    match path.suffix:
        case ".tif":
            tifffile.imwrite(path, labels[None].astype(np.float64), photometric="minisblack")
        case ".png":
            PIL.Image.fromarray(labels).save(path)
        case ".npy":
            np.save(path, labels.astype(np.int64))
    cells = read_label_image(path, mpp=0.5)
    assert cells.masks.areas().tolist() == [3, 1]
    assert cells.mpp == 0.5
    np.testing.assert_array_equal(cells.to_labels(), [[0, 1, 1], [2, 0, 1]])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros((4, 5, 3), np.uint8), r"one value per pixel, got shape \(4, 5, 3\)"),
        (np.array([[0.0, 1.5]]), "whole numbers"),
        (np.array([[0.0, np.nan]]), "whole numbers"),
        (np.array([[0.0, 1e30]]), "whole numbers"),
        (np.array([[0, -2]]), "0 or above, got -2"),
        (np.array([[{}]], object), "cannot read the label image"),
    ],
)
def test_what_is_no_label_image_is_a_data_error(tmp_path, labels, says):
    np.save(tmp_path / "a.npy", labels)
    with pytest.raises(DataError, match=says) as error:
        read_label_image(tmp_path / "a.npy")
    assert "a.npy" in str(error.value)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_a_cut_file_is_a_data_error(tmp_path, suffix):
    labels = np.random.default_rng(0).integers(0, 9, (40, 40)).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    match suffix:
        case ".tif":
            write_label_image(Instances.from_labels(labels), path)
        case ".png":
            PIL.Image.fromarray(labels).save(path)
        case ".npy":
            np.save(path, labels)
    data = path.read_bytes()
    for length in (0, 1, 50, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match="cannot read the label image"):
            read_label_image(path)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a.jpg"])
def test_an_unreadable_file_is_a_data_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=name):
        read_label_image(tmp_path / name)
