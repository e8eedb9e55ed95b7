import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from everycell.errors import DataError
from everycell.plot import OverlayPyramidWriter, overlay
from everycell.structures import Instances, MaskCrops

SIZE = (1101, 640)  # overlay() enlarges smaller images


def cells():
    """Overlapping discs of two classes, also across the tiles' borders."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-20:21, -20:21]
    origins = np.stack([rng.integers(0, SIZE[1] - 41, 60), rng.integers(0, SIZE[0] - 41, 60)], axis=1)
    return Instances.from_masks(
        MaskCrops.from_crops(origins, [y**2 + x**2 <= rng.integers(3, 20) ** 2 for _ in range(60)]),
        SIZE,
        scores=rng.random(60).astype(np.float32),
        class_ids=rng.integers(1, 3, 60),
    )


class Source:
    def __init__(self, pixels):
        self.pixels = pixels

    def read(self, window):
        x0, y0, x1, y1 = window
        assert max(x1 - x0, y1 - y0) <= 512
        return self.pixels[y0:y1, x0:x1]


@pytest.mark.parametrize("width_px", [1, 3])
def test_the_picture_is_that_of_overlay_and_smaller_levels_are_its_means(tmp_path, width_px):
    noise = np.random.default_rng(1).random((*SIZE, 3))
    pixels = np.round(gaussian_filter(noise, (9, 9, 0)) * 200).astype(np.uint8)  # JPEG keeps what is smooth
    with OverlayPyramidWriter(tmp_path / "a.overlay.tif", Source(pixels), SIZE, 0.5, width_px) as writer:
        for part in np.array_split(np.arange(60), 3):
            writer.write(cells().select(part))
    expected = overlay(pixels, cells(), width_px=width_px).astype(float)
    with tifffile.TiffFile(tmp_path / "a.overlay.tif") as tiff:
        assert tiff.is_ome
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(1101, 640, 3), (551, 320, 3), (276, 160, 3)]
        for level in levels:
            found = level.asarray().astype(float)
            assert np.abs(found - expected).mean() < 3
            assert np.percentile(np.abs(found - expected), 99) < 25
            even = np.pad(expected, ((0, expected.shape[0] % 2), (0, 0), (0, 0)), mode="edge")
            expected = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.overlay.tif"]
    assert pixels.max() < 200  # the image itself was not drawn on


def test_an_image_that_cannot_be_read_leaves_nothing(tmp_path):
    class Broken:
        def read(self, window):
            raise DataError(f"slide.svs: tile {window} is damaged")

    writer = OverlayPyramidWriter(tmp_path / "a.overlay.tif", Broken(), SIZE)
    writer.write(cells())
    with pytest.raises(DataError, match=r"tile \(0, 0, 512, 512\) is damaged"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
