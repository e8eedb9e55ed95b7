"""Label images too large for one page, and OME-Zarr labels, opened by tifffile, Pillow and zarr."""

import tracemalloc

import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr

from everycell.errors import DataError
from everycell.formats import (
    LabelImageWriter,
    LabelZarrWriter,
    level_sizes,
    open_cell_set,
    read_label_image,
    write_label_image,
)
from everycell.structures import Instances, MaskCrops


def grid(size, step=23, mpp=0.25):
    """Cells on a grid over a large image, each a filled triangle, so memory grows with their number only."""
    y, x = (axis.ravel() for axis in np.mgrid[: size[0] - step : step, : size[1] - step : step])
    crops = [np.tri(17, 19, dtype=bool)] * len(x)
    scores = np.random.default_rng(0).random(len(x)).astype(np.float32)
    return Instances.from_masks(MaskCrops.from_crops(np.stack([x, y], axis=1), crops), size, scores=scores, mpp=mpp)


def write_in_batches(writer, cells, n=500):
    with writer:
        for start in range(0, len(cells), n):
            writer.write(cells.select(np.arange(start, min(start + n, len(cells)))))


def test_a_large_image_is_a_tiled_ome_pyramid(tmp_path):
    cells = grid((600, 4100))
    write_in_batches(LabelImageWriter(tmp_path / "a.labels.tif", cells.image_size, cells.mpp), cells)
    expected = cells.to_labels()
    with tifffile.TiffFile(tmp_path / "a.labels.tif") as tiff:
        [series] = tiff.series
        assert tiff.is_ome
        assert [level.shape for level in series.levels] == level_sizes((600, 4100)) == [
            (600, 4100), (300, 2050), (150, 1025), (75, 513), (38, 257),
        ]  # fmt: skip
        for k, level in enumerate(series.levels):
            np.testing.assert_array_equal(level.asarray(), expected[:: 2**k, :: 2**k])
            page = level.keyframe
            assert (page.tile, page.compression, page.dtype) == ((512, 512), 8, np.uint16)
            pixels, per = page.tags["XResolution"].value
            assert pixels / per == 40_000 / 2**k  # px per cm
        assert 'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm"' in tiff.ome_metadata
    with PIL.Image.open(tmp_path / "a.labels.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.labels.tif").to_labels(), expected)


def test_an_unknown_scale_claims_no_unit(tmp_path):
    write_label_image(Instances.empty((4097, 3)), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert "PhysicalSize" not in tiff.ome_metadata
        assert tiff.pages[0].tags["ResolutionUnit"].value == 1


def test_zarr_labels_are_ome_ngff_and_come_back(tmp_path):
    cells = grid((600, 1300))
    write_in_batches(LabelZarrWriter(tmp_path / "a.labels.zarr", cells.image_size, cells.mpp), cells)
    expected = cells.to_labels()
    group = zarr.open_group(tmp_path / "a.labels.zarr", mode="r")
    [scales] = group.attrs["ome"]["multiscales"]
    assert group.metadata.zarr_format == 3
    assert group.attrs["ome"]["version"] == "0.5"
    assert group.attrs["ome"]["image-label"] == {}
    assert [axis["name"] + axis["unit"] for axis in scales["axes"]] == ["ymicrometer", "xmicrometer"]
    for k, dataset in enumerate(scales["datasets"]):
        array = group[dataset["path"]]
        np.testing.assert_array_equal(array, expected[:: 2**k, :: 2**k])
        assert (array.dtype, array.metadata.dimension_names) == (np.uint16, ("y", "x"))
        [transform] = dataset["coordinateTransformations"]
        assert transform == {"type": "scale", "scale": [0.25 * 2**k] * 2}
    assert k == 2
    found = open_cell_set(tmp_path / "a.labels.zarr")
    assert found.names == ("a",)
    np.testing.assert_array_equal(found.read("a").to_labels(), expected)


def test_chunks_without_a_cell_take_no_room(tmp_path):
    with LabelZarrWriter(tmp_path / "a.labels.zarr", (2000, 2000)):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["zarr.json"] * 4


def test_labels_of_ome_zarr_04_are_read(tmp_path):
    labels = np.kron(np.arange(6).reshape(2, 3), np.ones((3, 4), int))
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("full", data=labels)
    group.attrs["multiscales"] = [{"version": "0.4", "datasets": [{"path": "full"}]}]
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.zarr").to_labels(), labels)


def test_what_is_no_zarr_is_a_data_error(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(DataError, match="cannot read the OME-Zarr labels"):
        read_label_image(tmp_path / "a.zarr")
    zarr.create_group(tmp_path / "b.zarr")
    with pytest.raises(DataError, match=r"b\.zarr.*expected a folder of multiscales"):
        read_label_image(tmp_path / "b.zarr")
    with LabelZarrWriter(tmp_path / "c.zarr", (20, 20)) as writer:
        writer.write(grid((60, 60)).select(np.zeros(1, int)))
    [chunk] = (tmp_path / "c.zarr" / "0" / "c").rglob("0/0")
    chunk.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"c\.zarr"):
        read_label_image(tmp_path / "c.zarr")


def test_memory_does_not_grow_with_the_image(tmp_path):
    peaks = []
    for height in (4_200, 12_600):
        cells = grid((height, 500), step=100)
        tracemalloc.start()
        write_in_batches(LabelImageWriter(tmp_path / "a.tif", cells.image_size), cells)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 6e6  # the label images alone, uint32, have 8 and 25 MB
