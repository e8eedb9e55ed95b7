"""Pyramids in TIFF files: which level is read, and that it is read at the right place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io import open_source, read_image

RNG = np.random.default_rng(0)


def write_subifds(path: Path, levels: Sequence[NDArray[Any]], **options: Any) -> None:
    with tifffile.TiffWriter(path) as tif:
        tif.write(levels[0], subifds=len(levels) - 1, **options)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, **options)


def write_series(path: Path, levels: Sequence[NDArray[Any]], **options: Any) -> None:
    """One image after the other, as libvips and GDAL write pyramids."""
    with tifffile.TiffWriter(path) as tif:
        for i, level in enumerate(levels):
            tif.write(level, subfiletype=int(i > 0), metadata=None, **options)


WRITERS = {"subifds": write_subifds, "series": write_series}


def marked_levels(size: tuple[int, int] = (401, 603), n: int = 4) -> list[NDArray[np.uint8]]:
    """Level `i` is all `10 · i + 5`, half as large as the one before, rounded up."""
    return [np.full((-(-size[0] >> i), -(-size[1] >> i), 3), 10 * i + 5, np.uint8) for i in range(n)]


def halved(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(array.shape[0] // 2, 2, array.shape[1] // 2, 2, -1).mean((1, 3)).round().astype(array.dtype)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("factor", "level"),
    [(2, 0), (1, 0), (0.7, 0), (0.51, 0), (0.5, 1), (0.504, 1), (0.26, 1), (0.25, 2), (0.2, 2), (0.125, 3), (0.01, 3)],
)
def test_the_coarsest_level_that_is_fine_enough(tmp_path: Path, writer: str, factor: float, level: int) -> None:
    WRITERS[writer](tmp_path / "a.tif", marked_levels(), photometric="rgb", tile=(64, 64), compression="zlib")
    with open_source(tmp_path / "a.tif") as source:
        pixels = source.read_at((101, 53, 603, 401), factor)
    assert (pixels == 10 * level + 5).all()


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("options", [{"tile": (64, 80)}, {"rowsperstrip": 20}, {"compression": "lzw"}])
def test_a_region_of_a_pyramid_is_the_crop_of_the_whole(tmp_path: Path, writer: str, options: Any) -> None:
    levels = [RNG.integers(0, 256, (200, 360, 3), np.uint8)]
    levels += [halved(levels[0])]
    levels += [halved(levels[1])]
    WRITERS[writer](tmp_path / "a.tif", levels, photometric="rgb", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, levels[0])
    with open_source(tmp_path / "a.tif") as source:
        assert source.size == (200, 360)
        np.testing.assert_array_equal(source.read((33, 60, 300, 199)), levels[0][60:199, 33:300])
        np.testing.assert_array_equal(source.read_at((40, 80, 320, 200), 0.5), levels[1][40:100, 20:160])
        np.testing.assert_array_equal(source.read_at((40, 80, 320, 200), 0.25), levels[2][20:50, 10:80])


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_ome_pyramid_of_16_bit_channels(tmp_path: Path, tile: Any) -> None:
    base = (RNG.random((3, 256, 320)) * [[[900]], [[9000]], [[60_000]]]).astype(np.uint16)
    half = np.stack([halved(channel)[..., 0] for channel in base])
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    write_subifds(tmp_path / "a.ome.tif", [base, half], metadata=metadata, tile=tile)
    whole = read_image(tmp_path / "a.ome.tif").pixels
    with open_source(tmp_path / "a.ome.tif") as source:
        assert (source.size, source.mpp) == ((256, 320), 0.25)
        np.testing.assert_array_equal(source.read((5, 60, 300, 200)), whole[60:200, 5:300])
        dark, bright = np.percentile(base, (1, 99.8), axis=(1, 2))  # the limits of the full resolution hold for all
        expected = ((half.transpose(1, 2, 0) - dark) * (255 / (bright - dark))).clip(0, 255).round()
        np.testing.assert_array_equal(source.read_at((0, 0, 320, 256), 0.5), expected)


RAMP = np.add.outer(np.arange(768) * 0.05, np.arange(1024) * 0.2)[..., None].repeat(3, 2)


class TestPlace:
    """On a ramp each pixel says where it lies: its value is 0.2 x + 0.05 y of its centre, less 0.125."""

    @pytest.fixture(scope="class")
    @staticmethod
    def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("ramp") / "a.tif"
        levels = [RAMP]
        for _ in range(3):
            levels.append(levels[-1].reshape(levels[-1].shape[0] // 2, 2, -1, 2, 3).mean((1, 3)))
        write_subifds(path, [level.round().astype(np.uint8) for level in levels], photometric="rgb", tile=(128, 128))
        return path

    @given(
        x=st.integers(0, 900),
        y=st.integers(0, 700),
        w=st.integers(1, 400),
        h=st.integers(1, 400),
        factor=st.floats(0.06, 1.6),
    )
    def test_every_pixel_lies_where_it_should(self, path: Path, x: int, y: int, w: int, h: int, factor: float) -> None:
        x1, y1 = min(1024, x + w), min(768, y + h)
        with open_source(path) as source:
            pixels = source.read_at((x, y, x1, y1), factor)
        rows, columns = pixels.shape[:2]
        xs = x + (np.arange(columns) + 0.5) * ((x1 - x) / columns)
        ys = y + (np.arange(rows) + 0.5) * ((y1 - y) / rows)
        expected = np.add.outer(0.05 * ys, 0.2 * xs) - 0.125
        # Two roundings, and half a pixel of the level where the border is repeated.
        border = 0.25 * max(0.5, 0.5 / factor)
        assert np.abs(pixels - expected[..., None]).max() <= 1 + border
        if min(rows, columns) > 4:
            assert np.abs(pixels - expected[..., None])[2:-2, 2:-2].max() <= 1.01

    def test_levels_whose_sides_were_rounded_stay_in_place(self, tmp_path: Path) -> None:
        size, n = 1003, 3  # 1003 → 501 → 250: the true steps are 2 and 4
        ramp = np.broadcast_to(np.arange(size) / 4, (size, size))
        levels = [ramp]
        for _ in range(n - 1):
            side = levels[-1].shape[0] // 2
            levels.append(levels[-1][: 2 * side, : 2 * side].reshape(side, 2, side, 2).mean((1, 3)))
        stored = [level.round().astype(np.uint8)[..., None].repeat(3, 2) for level in levels]
        write_series(tmp_path / "a.tif", stored, photometric="rgb", tile=(64, 64))
        with open_source(tmp_path / "a.tif") as source:
            for factor in (0.5, 0.25):
                right = source.read_at((800, 0, 1000, 8), factor)[0, :, 0]
                xs = 800 + (np.arange(len(right)) + 0.5) / factor
                assert np.abs(right - (xs - 0.5) / 4).max() <= 0.51
                last = source.read_at((size - 3, size - 3, size, size), factor)  # beyond the coarser levels
                assert np.abs(last.astype(float) - (size - 2) / 4).max() <= 1.5


class TestDamage:
    def test_a_pyramid_that_was_cut_off(self, tmp_path: Path) -> None:
        for writer in WRITERS.values():
            path = tmp_path / "a.tif"
            writer(path, [RNG.integers(0, 256, (256 >> i, 256 >> i, 3), np.uint8) for i in range(3)], photometric="rgb")
            data = path.read_bytes()
            for kept in (0.99, 0.9, 0.78, 0.7, 0.3):
                path.write_bytes(data[: int(len(data) * kept)])
                with pytest.raises(DataError, match=r"a\.tif.*(is cut off|damaged)") as caught:
                    open_source(path)
                assert "\n" not in str(caught.value)

    def test_a_damaged_level_leaves_the_others(self, tmp_path: Path) -> None:
        levels = [RNG.integers(0, 256, (256 >> i, 256 >> i, 3), np.uint8) for i in range(3)]
        path = tmp_path / "a.tif"
        write_subifds(path, levels, photometric="rgb", compression="zlib", tile=(64, 64))
        with tifffile.TiffFile(path) as tif:
            start = tif.series[0].levels[1].keyframe.dataoffsets[0]
        data = bytearray(path.read_bytes())
        data[start : start + 30] = b"x" * 30
        path.write_bytes(data)
        with open_source(path) as source:
            with pytest.raises(DataError, match=r"a\.tif, level 1: the piece at row 0, column 0"):
                source.read_at((0, 0, 64, 64), 0.5)
            np.testing.assert_array_equal(source.read((0, 0, 256, 256)), levels[0])
            np.testing.assert_array_equal(source.read_at((0, 0, 256, 256), 0.25), levels[2])

    @pytest.mark.parametrize("offset", [0, 8])  # nowhere, and amid the pixels
    def test_a_lost_level_is_made_from_the_finer_one(self, tmp_path: Path, offset: int) -> None:
        levels = [np.full((256 >> i, 256 >> i, 3), 90, np.uint8) for i in range(3)]
        path = tmp_path / "a.tif"
        write_subifds(path, levels, photometric="rgb", compression="zlib", tile=(64, 64))
        with tifffile.TiffFile(path, mode="r+") as tif:
            tag = tif.pages.first.tags["SubIFDs"]
            tag.overwrite((tag.value[0], offset))
        with open_source(path) as source:
            np.testing.assert_array_equal(source.read_at((0, 0, 256, 256), 0.25), levels[2])

    def test_a_small_picture_that_follows_is_no_level(self, tmp_path: Path) -> None:
        big, thumbnail = np.full((200, 300, 3), 9, np.uint8), np.full((64, 64, 3), 200, np.uint8)
        write_series(tmp_path / "a.tif", [big, thumbnail], photometric="rgb")
        with open_source(tmp_path / "a.tif") as source:
            assert (source.read_at((0, 0, 300, 200), 0.2) == 9).all()
