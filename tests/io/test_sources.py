import pickle
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io import open_source, read_image
from everycell.structures import Image
from everycell.transforms import zoom_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (90, 130, 3), np.uint8)
GRAY16 = (RNG.random((90, 130)) ** 3 * 40_000).astype(np.uint16)
WINDOWS = [(0, 0, 130, 90), (0, 0, 1, 1), (129, 89, 130, 90), (17, 5, 101, 64), (63, 31, 65, 90)]


def zoomed(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.float32]:
    """What the network sees of an image in memory, grey levels."""
    tensor = zoom_image(torch.from_numpy(pixels).permute(2, 0, 1).float(), factor)
    return tensor.permute(1, 2, 0).numpy()


def write_png(path: Path) -> None:
    PIL.Image.fromarray(RGB).save(path, "PNG")


def write_jpeg(path: Path) -> None:
    PIL.Image.fromarray(RGB).save(path, "JPEG")


def write_palette(path: Path) -> None:
    PIL.Image.fromarray(RGB).quantize(16).save(path, "PNG")


def npy(array: NDArray[Any]) -> Any:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    return write


def tiff(array: NDArray[Any], **options: Any) -> Any:
    return lambda path: tifffile.imwrite(path, array, **options)


KINDS = {
    "png": write_png,
    "jpeg": write_jpeg,
    "palette": write_palette,
    "npy": npy(RGB),
    "npy fortran": npy(np.asfortranarray(RGB)),
    "npy gray float": npy(GRAY16.astype(np.float32)),
    "npy big-endian": npy(GRAY16.astype(">u2")),
    "npy bool": npy(GRAY16 > 999),
    "strips": tiff(RGB, photometric="rgb", rowsperstrip=7),
    "compressed strips": tiff(RGB, photometric="rgb", compression="zlib", rowsperstrip=7),
    "one compressed strip": tiff(RGB, photometric="rgb", compression="lzw", rowsperstrip=90),
    "tiles": tiff(RGB, photometric="rgb", tile=(32, 48)),
    "planes of tiles": tiff(
        RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=(32, 48), compression="zlib"
    ),
    "planes of strips": tiff(
        RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", rowsperstrip=11, compression="zlib"
    ),
    "jpeg tiles": tiff(RGB, photometric="ycbcr", tile=(32, 48), compression="jpeg", subsampling=(2, 2)),
    "16-bit with predictor": tiff(GRAY16, tile=(32, 48), compression="zlib", predictor=True),
    "big-endian": tiff(GRAY16, tile=(32, 48), compression="zlib", byteorder=">"),
    "big-endian strips": tiff(GRAY16, byteorder=">", bigtiff=True),
    "white is zero": tiff(RGB[..., 0], photometric="miniswhite", tile=(32, 48)),
    "bits": tiff(GRAY16 > 999, photometric="minisblack", tile=(32, 48), compression="zlib"),
    "channels": tiff(np.stack([GRAY16, GRAY16 // 7, GRAY16[::-1]]), metadata={"axes": "CYX"}, ome=True, tile=(32, 48)),
    "imagej": tiff(GRAY16, imagej=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_windows_of_every_kind_of_file_are_crops_of_the_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    KINDS[kind](path)
    whole = read_image(path).pixels
    assert whole.std() > 20
    with open_source(path) as source:
        assert (source.size, source.name, source.mpp) == ((90, 130), str(path), None)
        for x0, y0, x1, y1 in WINDOWS:
            np.testing.assert_array_equal(source.read((x0, y0, x1, y1)), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("factor", [0.05, 0.37, 0.5, 0.83, 1, 1.7, 2])
@pytest.mark.parametrize("kind", ["png", "jpeg tiles", "16-bit with predictor"])
def test_resizing_is_that_of_an_image_in_memory(tmp_path: Path, kind: str, factor: float) -> None:
    path = tmp_path / "a.bin"
    KINDS[kind](path)
    whole = read_image(path).pixels
    # Not narrower: torch repeats the first row where it antialiases down to a single column.
    windows = [(0, 0, 130, 90), (129, 89, 130, 90), (17, 5, 101, 64), (5, 31, 45, 33)]
    with open_source(path) as source:
        for x0, y0, x1, y1 in windows:
            got, expected = source.read_at((x0, y0, x1, y1), factor), zoomed(whole[y0:y1, x0:x1], factor)
            assert (got.dtype, got.shape) == (np.uint8, expected.shape)
            assert np.abs(got - expected).max() <= 0.5 + 0.04  # rounded; and torch's own float32 positions


def test_channels_are_chosen_and_only_these_are_read(tmp_path: Path) -> None:
    stains = RNG.integers(0, 256, (5, 64, 64), np.uint8)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stains, metadata={"axes": "CYX"}, compression="zlib", tile=(32, 32))
    with tifffile.TiffFile(path) as tif:
        unused = [tif.pages[i].dataoffsets[0] for i in (1, 2, 4)]
    data = bytearray(path.read_bytes())
    for start in unused:
        data[start : start + 20] = b"x" * 20
    path.write_bytes(data)
    with open_source(path, channels=[4, 1]) as source:
        pixels = source.read((3, 5, 60, 50))
    np.testing.assert_array_equal(pixels[..., 0], stains[3, 5:50, 3:60])
    np.testing.assert_array_equal(pixels[..., 1], stains[0, 5:50, 3:60])
    assert pixels[..., 2].max() == 0


def test_arrays_and_images_are_sources_without_a_copy() -> None:
    big = np.lib.stride_tricks.as_strided(RGB, (10**6, 10**6, 3), (0, 0, 1))  # 3 TB, were it copied
    with open_source(big, mpp=0.5) as source:
        assert (source.size, source.mpp) == ((10**6, 10**6), 0.5)
        assert (source.read((10**6 - 5, 7, 10**6, 9)) == RGB[0, 0]).all()
    with open_source(Image(RGB, 0.25)) as source:
        assert (source.size, source.mpp) == ((90, 130), 0.25)
        np.testing.assert_array_equal(source.read((0, 0, 130, 90)), RGB)
    with pytest.raises(DataError, match=r"array of shape \(7,\): expected an array \[H, W\]"):
        open_source(np.zeros(7))


def test_a_given_pixel_size_stands_above_that_of_the_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", resolution=(40_000, 40_000), resolutionunit=3)
    with open_source(tmp_path / "a.tif") as said, open_source(tmp_path / "a.tif", mpp=0.5) as given_:
        assert (said.mpp, given_.mpp) == (0.25, 0.5)


@pytest.mark.parametrize(
    "window", [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 131, 5), (0, 0, 5, 91), (5, 5, 5, 9), (9, 5, 5, 9)]
)
def test_a_region_outside_the_image(window: Any) -> None:
    with open_source(RGB) as source:
        for read in (source.read, lambda window: source.read_at(window, 0.5)):
            with pytest.raises(DataError, match=r"region .* must hold a pixel and lie inside 0, 0, 130, 90"):
                read(window)


class TestMemory:
    @pytest.mark.parametrize("options", [{"tile": (256, 256)}, {"rowsperstrip": 64}], ids=["tiles", "strips"])
    @pytest.mark.parametrize("compression", ["zlib", None])
    def test_a_region_of_a_large_tiff_needs_little(self, tmp_path: Path, options: Any, compression: Any) -> None:
        side = 5000  # 75 MB
        tifffile.imwrite(
            tmp_path / "a.tif",
            np.broadcast_to(np.uint8([1, 2, 3]), (side, side, 3)),
            photometric="rgb",
            compression=compression,
            **options,
        )
        tracemalloc.start()
        with open_source(tmp_path / "a.tif") as source:
            pixels = source.read((2000, 3000, 2100, 3100))
            peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (pixels == [1, 2, 3]).all()
        assert peak < 8 * 2**20

    def test_decoded_pieces_do_not_pile_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("everycell.io.chunks.CACHE_BYTES", 2**20)
        image = np.broadcast_to(np.uint8([1, 2, 3]), (3000, 3000, 3))  # 27 MB
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", compression="zlib", tile=(256, 256))
        with open_source(tmp_path / "a.tif") as source:
            tracemalloc.start()
            for y in range(0, 3000, 300):
                for x in range(0, 3000, 300):
                    source.read((x, y, x + 300, y + 300))
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert held < 1.5 * 2**20

    def test_a_file_of_one_piece_is_decoded_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("everycell.io.chunks.CACHE_BYTES", 1)
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib", rowsperstrip=90)
        with open_source(path) as source:
            source.read((0, 0, 9, 9))
            size = path.stat().st_size
            path.write_bytes(bytes(size))  # what is read now was kept
            np.testing.assert_array_equal(source.read((40, 50, 130, 90)), RGB[50:90, 40:130])


class TestDamage:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A TIFF of 6 tiles, of which the one at row 32, column 48 is damaged."""
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, RGB[:64, :130], photometric="rgb", compression="zlib", tile=(32, 48))
        with tifffile.TiffFile(path) as tif:
            start = tif.pages.first.dataoffsets[4]
        data = bytearray(path.read_bytes())
        data[start : start + 30] = b"x" * 30
        path.write_bytes(data)
        return path

    def test_a_damaged_tile_is_named_and_the_others_are_read(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with open_source(path) as source:
            np.testing.assert_array_equal(source.read((0, 0, 130, 32)), RGB[:32])
            with pytest.raises(DataError, match=r"a\.tif, level 0: the piece at row 32, column 48") as caught:
                source.read((40, 20, 60, 40))
            assert "\n" not in str(caught.value)
            assert not caplog.records
            np.testing.assert_array_equal(source.read((96, 32, 130, 64)), RGB[32:64, 96:])
            np.testing.assert_array_equal(source.overview(), RGB[:32])

    def test_damaged_rows_do_not_count_for_the_whole(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("everycell.io.sources.BAND_PX", 130 * 32)
        with open_source(path) as source:
            np.testing.assert_array_equal(source.overview(), RGB[:32])
        values = np.arange(200.0 * 130).reshape(200, 130)
        values[20] = 1e9
        values[31, 5] = np.nan
        with open_source(values) as source:
            with pytest.raises(DataError, match="has NaN pixels"):
                source.read((0, 31, 9, 32))
            rest = np.delete(values, range(16, 32), axis=0)  # a band that fails is tried again in halves
            dark, bright = np.percentile(rest, (1, 99.8))
            expected = ((values[32:] - dark) * (255 / (bright - dark))).clip(0, 255).round()
            np.testing.assert_array_equal(source.read((0, 32, 130, 200))[..., 0], expected)

    def test_a_piece_that_was_never_written_is_black(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, RGB[:64, :96], photometric="rgb", compression="zlib", tile=(32, 48))
        with tifffile.TiffFile(path, mode="r+") as tif:
            tags = tif.pages.first.tags
            tags["TileByteCounts"].overwrite((0, *tif.pages.first.databytecounts[1:]))
            tags["TileOffsets"].overwrite((0, *tif.pages.first.dataoffsets[1:]))
        with open_source(path) as source:
            assert source.read((0, 0, 48, 32)).max() == 0
            np.testing.assert_array_equal(source.read((48, 0, 96, 64)), RGB[:64, 48:96])

    def test_a_file_that_went_away(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", RGB)
        with open_source(tmp_path / "a.npy") as source:
            (tmp_path / "a.npy").unlink()
            with pytest.raises(DataError, match=r"cannot decode .*a\.npy.*No such file"):
                source.read((0, 0, 5, 5))

    def test_nan_fails_where_it_is(self) -> None:
        values = np.ones((3000, 3000), np.float32) * np.arange(3000)
        values[2999, 2999] = np.nan
        with open_source(values) as source, pytest.raises(DataError, match="has NaN pixels"):
            source.read((2990, 2990, 3000, 3000))

    def test_what_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.lif").write_bytes(b"p\0\0\0" + bytes(500))
        with pytest.raises(DataError, match=r"a\.lif is not a PNG, JPEG or TIFF image, nor a slide.*as OME-TIFF"):
            open_source(tmp_path / "a.lif")
        with pytest.raises(DataError, match=r"it is a folder, and no OME-Zarr"):
            open_source(tmp_path)


class TestLimits:
    def test_all_tiles_and_the_whole_have_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("everycell.io.sources.MAX_SAMPLE_PX", 2000)  # of 11,700
        tifffile.imwrite(tmp_path / "a.tif", GRAY16, tile=(32, 48))
        whole = read_image(tmp_path / "a.tif").pixels
        with open_source(tmp_path / "a.tif") as source:
            tiles = np.vstack(
                [np.hstack([source.read((x, y, x + 26, y + 30)) for x in range(0, 130, 26)]) for y in range(0, 90, 30)]
            )
        np.testing.assert_array_equal(tiles, whole)
        # Every 3rd pixel of every 3rd row says nearly what all say.
        dark, bright = np.percentile(GRAY16[::3, ::3], (1, 99.8))
        expected = np.rint(((GRAY16 - dark) * (255 / (bright - dark))).clip(0, 255))
        np.testing.assert_array_equal(whole[..., 0], expected)

    def test_a_spot_that_the_sample_misses_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("everycell.io.sources.MAX_SAMPLE_PX", 100)
        dark = np.zeros((100, 100), np.uint16)
        dark[55, 57] = 500
        with open_source(dark) as source:
            assert source.read((50, 50, 60, 60))[5, 7].tolist() == [255] * 3

    @pytest.mark.parametrize("image", [RGB, GRAY16], ids=["8 bit", "16 bit"])
    def test_overview(self, image: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_source(image) as source:
            whole = source.read((0, 0, 130, 90))
            np.testing.assert_array_equal(source.overview(), whole)
            monkeypatch.setattr("everycell.io.sources.MAX_SAMPLE_PX", 3000)
            np.testing.assert_array_equal(source.overview(), whole[::2, ::2])
            monkeypatch.setattr("everycell.io.sources.MAX_SAMPLE_PX", 1400)
            monkeypatch.setattr("everycell.io.sources.BAND_PX", 130 * 8)  # bands of 6 rows
            np.testing.assert_array_equal(source.overview(), whole[::3, ::3])

    def test_a_coarser_level_stands_in_for_a_huge_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
            tif.write(np.full((80, 80, 3), 5, np.uint8), subifds=1, photometric="rgb")
            tif.write(np.full((40, 40, 3), 15, np.uint8), subfiletype=1, photometric="rgb")
        with open_source(tmp_path / "a.tif") as source:
            assert (source.overview() == 5).all()
            monkeypatch.setattr("everycell.io.sources.MAX_PASS_PX", 6399)
            assert source.overview().shape == (40, 40, 3)
            assert (source.overview() == 15).all()


class TestElsewhere:
    def test_pickled_sources_open_the_file_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.stack([GRAY16] * 4), metadata={"axes": "CYX"}, ome=True)
        monkeypatch.chdir(tmp_path)
        with open_source("a.tif", channels=[2, 3], mpp=0.3) as source:
            data = pickle.dumps(source)
            expected = source.read((3, 4, 50, 60))
        assert len(data) < 1000
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with pickle.loads(data) as again:
            assert (again.size, again.mpp) == ((90, 130), 0.3)
            np.testing.assert_array_equal(again.read((3, 4, 50, 60)), expected)

    def test_limits_travel_along(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", GRAY16)
        with open_source(tmp_path / "a.npy") as source:
            data, expected = pickle.dumps(source), source.read((0, 0, 130, 90))
        np.save(tmp_path / "a.npy", GRAY16 // 2)  # other limits, had they been looked for again
        with pickle.loads(data) as again:
            np.testing.assert_allclose(again.read((0, 0, 130, 90)).astype(int), expected // 2, atol=2)

    @pytest.mark.parametrize("kind", ["compressed strips", "16-bit with predictor", "npy"])
    def test_several_threads_may_read(self, tmp_path: Path, kind: str) -> None:
        KINDS[kind](tmp_path / "a.bin")
        whole = read_image(tmp_path / "a.bin").pixels
        wrong: list[Any] = []
        with open_source(tmp_path / "a.bin") as source:

            def work(seed: int) -> None:
                rng = np.random.default_rng(seed)
                for _ in range(50):
                    x, y = int(rng.integers(100)), int(rng.integers(60))
                    if (source.read((x, y, x + 30, y + 30)) != whole[y : y + 30, x : x + 30]).any():
                        wrong.append((x, y))

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not wrong


@given(st.integers(0, 100), st.integers(0, 60), st.integers(1, 30), st.integers(1, 30), st.floats(0.03, 3))
def test_any_window_at_any_factor_has_the_size_it_should(x: int, y: int, w: int, h: int, factor: float) -> None:
    with open_source(RGB) as source:
        shape = source.read_at((x, y, x + w, y + h), factor).shape
    assert shape == (max(1, round(h * factor)), max(1, round(w * factor)), 3)
