from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io import read_image, to_image

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (20, 30), np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
RGBA = np.concatenate([RGB, np.full((20, 30, 1), 7, np.uint8)], axis=2)


@pytest.mark.parametrize(
    ("name", "array", "mode"),
    [("gray", GRAY, "L"), ("rgb", RGB, "RGB"), ("rgba", RGBA, "RGBA"), ("la", np.stack([GRAY, GRAY], 2), "LA")],
)
def test_png_keeps_its_8_bit_values_and_loses_its_alpha(tmp_path: Path, name: str, array: Any, mode: str) -> None:
    path = tmp_path / f"{name}.png"
    PIL.Image.fromarray(array).save(path)
    with PIL.Image.open(path) as stored:
        assert stored.mode == mode
    expected = RGB if "rgb" in name else np.stack([GRAY] * 3, axis=2)
    np.testing.assert_array_equal(read_image(path).pixels, expected)


def test_palette_png_and_palette_tiff_read_as_their_colours(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(RGB).quantize(16)
    expected = np.asarray(picture.convert("RGB"))
    for name in ("p.png", "p.tif"):
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, expected)


def test_jpeg_agrees_with_pillow(tmp_path: Path) -> None:
    PIL.Image.fromarray(RGB).save(tmp_path / "a.jpg")
    with PIL.Image.open(tmp_path / "a.jpg") as stored:
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").pixels, np.asarray(stored))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "deflate", "webp", "packbits", "zstd"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_lossless_rgb_tiff_of_every_kind(tmp_path: Path, compression: str | None, planar: Any) -> None:
    if compression == "webp" and planar == "separate":
        pytest.skip("WebP holds interleaved colours only")
    path = tmp_path / "a.tif"
    array = RGB if planar == "contig" else RGB.transpose(2, 0, 1)
    args = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    tifffile.imwrite(path, array, photometric="rgb", planarconfig=planar, compression=compression, **args)
    np.testing.assert_array_equal(read_image(path).pixels, RGB)


def test_jpeg_in_tiff_is_close(tmp_path: Path) -> None:
    smooth = np.dstack(np.broadcast_arrays(np.arange(64)[:, None], np.arange(64), np.uint8(90))).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", compression="jpeg", tile=(16, 16))
    assert np.abs(read_image(tmp_path / "a.tif").pixels.astype(int) - smooth).max() <= 6


def test_tiff_gray_rgba_bilevel_and_white_is_zero(tmp_path: Path) -> None:
    gray3 = np.stack([GRAY] * 3, axis=2)
    tifffile.imwrite(tmp_path / "gray.tif", GRAY)
    tifffile.imwrite(tmp_path / "white.tif", ~GRAY, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "rgba.tif", RGBA, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "bits.tif", GRAY > 99, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.tif").pixels, gray3)
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif").pixels, gray3)
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.tif").pixels, RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "bits.tif").pixels, (gray3 > 99) * 255)


def test_full_resolution_of_a_pyramid_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(RGB, photometric="rgb", subifds=1)
        tif.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, RGB)


def test_a_tiff_named_png_is_read_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb")
    path.rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, RGB)


@pytest.mark.parametrize("suffix", ["tif", "png", "npy"])
def test_16_bit_gray_is_stretched_between_its_percentiles(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(1001, dtype=np.uint16).reshape(7, 143) * 10 + 300  # percentile 1 is 400, percentile 99.8 is 10280
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, ramp)
    elif suffix == "png":
        PIL.Image.fromarray(ramp).save(path)
    else:
        np.save(path, ramp)
    pixels = read_image(path).pixels.reshape(-1, 3)
    assert pixels[:11].max() == 0  # up to 400
    assert pixels[12].tolist() == [1] * 3  # 420 → 20 / 9880 * 255 = 0.52
    assert pixels[504].tolist() == [128] * 3  # 5340, half-way: 127.5 rounds to even
    assert pixels[998:].min() == 255  # from 10280


def test_16_bit_colour_png_keeps_its_low_bits(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    low = RGB.astype(np.uint16)  # all below 256: the high bytes are zero
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(low))
    pixels = read_image(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(pixels, to_image(low).pixels)
    assert pixels.std() > 50


def test_rgb_is_stretched_jointly_and_stains_one_by_one(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1000, 600).reshape(20, 30)
    stack = np.stack([ramp, ramp * 2, ramp * 4], axis=2).astype(np.uint16)
    joint = to_image(stack).pixels
    assert joint[-1, -1, 0] == pytest.approx(255 / 4, abs=3)
    tifffile.imwrite(tmp_path / "a.ome.tif", stack.transpose(2, 0, 1), metadata={"axes": "CYX"})
    apart = read_image(tmp_path / "a.ome.tif").pixels
    assert apart[-1, -1].tolist() == [255, 255, 255]
    np.testing.assert_allclose(apart[..., 0].astype(int), apart[..., 2], atol=1)


def test_constant_and_nearly_constant_images() -> None:
    assert to_image(np.full((4, 5), 700, np.uint16)).pixels.max() == 0
    one_spot = np.zeros((100, 100), np.float32)
    one_spot[3, 4] = 0.5
    pixels = to_image(one_spot).pixels
    assert pixels[3, 4].tolist() == [255] * 3
    assert pixels.sum() == 255 * 3


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_stretching_keeps_order_and_the_input(array: NDArray[np.uint16]) -> None:
    before = array.copy()
    pixels = to_image(array).pixels
    np.testing.assert_array_equal(array, before)
    order = np.argsort(array, axis=None)
    assert (np.diff(pixels[..., 0].ravel()[order].astype(int)) >= 0).all()


@given(st.integers(1, 9), st.integers(1, 9))
def test_8_bit_gray_stays(height: int, width: int) -> None:
    array = np.full((height, width), 17, np.uint8)
    image = to_image(array, mpp=0.5)
    assert (image.size, image.mpp) == ((height, width), 0.5)
    assert (image.pixels == 17).all()


def test_one_pixel_tiffs(tmp_path: Path) -> None:
    for shape in ((1, 1), (1, 5), (5, 1), (1, 1, 3)):
        array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb" if len(shape) == 3 else "minisblack")
        assert read_image(tmp_path / "a.tif").size == shape[:2]


class TestChannels:
    stains = np.stack([GRAY, GRAY // 2, GRAY // 3, GRAY // 4, GRAY // 5])

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        tifffile.imwrite(tmp_path / "a.ome.tif", self.stains, metadata={"axes": "CYX"})
        return tmp_path / "a.ome.tif"

    def test_five_channels_need_a_choice(self, path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.ome\.tif has 5 channels; .*--channels \(1 to 5\)"):
            read_image(path)

    def test_three_in_the_given_order(self, path: Path) -> None:
        pixels = read_image(path, channels=[3, 1, 2]).pixels
        np.testing.assert_array_equal(pixels, self.stains[[2, 0, 1]].transpose(1, 2, 0))

    def test_one_is_gray_and_two_leave_blue_black(self, path: Path) -> None:
        np.testing.assert_array_equal(read_image(path, channels=[2]).pixels, np.stack([GRAY // 2] * 3, axis=2))
        two = read_image(path, channels=[1, 5]).pixels
        np.testing.assert_array_equal(two[..., 1], GRAY // 5)
        assert two[..., 2].max() == 0

    @pytest.mark.parametrize("channels", [[0], [6], [], [1, 2, 3, 4]])
    def test_impossible_choices(self, path: Path, channels: list[int]) -> None:
        with pytest.raises(DataError, match=r"one to three channels between 1 and 5, got \["):
            read_image(path, channels=channels)

    def test_an_array_of_two_channels(self) -> None:
        with pytest.raises(DataError, match=r"array of shape \(4, 4, 2\) has 2 channels"):
            to_image(np.zeros((4, 4, 2), np.uint8))

    def test_unnamed_planes_are_taken_for_channels_only_on_request(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", self.stains[:3], photometric="minisblack")
        with pytest.raises(DataError, match=r"stack of 3 planes of 20 × 30 px.*--channels \(1 to 3\)"):
            read_image(tmp_path / "a.tif")
        np.testing.assert_array_equal(
            read_image(tmp_path / "a.tif", channels=[1, 2, 3]).pixels, self.stains[:3].transpose(1, 2, 0)
        )


class TestErrors:
    @pytest.mark.parametrize(("axes", "imagej"), [("ZYX", False), ("TYX", False), ("ZYX", True), ("TZCYX", False)])
    def test_stacks_name_their_axes(self, tmp_path: Path, axes: str, imagej: bool) -> None:
        shape = {"ZYX": (5, 20, 30), "TYX": (5, 20, 30), "TZCYX": (2, 5, 3, 20, 30)}[axes]
        options = {"imagej": True} if imagej else {"ome": True}
        tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), metadata={"axes": axes}, **options)
        named = ", ".join(f"{axis}={size}" for axis, size in zip(axes, shape, strict=True))
        with pytest.raises(DataError, match=rf"a\.tif is a stack with axes {named}, expected one plane"):
            read_image(tmp_path / "a.tif")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_nan(self, tmp_path: Path, bad: float) -> None:
        array = np.ones((6, 6), np.float32)
        array[2, 3] = bad
        tifffile.imwrite(tmp_path / "a.tif", array)
        with pytest.raises(DataError, match=r"a\.tif has NaN pixels"):
            read_image(tmp_path / "a.tif")

    def test_missing_empty_text_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"cannot open .*no\.png: No such file"):
            read_image(tmp_path / "no.png")
        (tmp_path / "empty.tif").touch()
        with pytest.raises(DataError, match=r"empty\.tif is empty \(0 bytes\)"):
            read_image(tmp_path / "empty.tif")
        (tmp_path / "text.png").write_text("not a picture at all\n")
        with pytest.raises(DataError, match=r"text\.png is not a PNG, JPEG or TIFF image"):
            read_image(tmp_path / "text.png")
        with pytest.raises(DataError, match="cannot open"):
            read_image(tmp_path)

    @pytest.mark.parametrize("kept", [0.99, 0.9, 0.5, 0.1, 0.02])
    @pytest.mark.parametrize("kind", ["png", "png16", "jpg", "npy", "tif", "zlib", "lzw", "tiled", "libtiff"])
    def test_a_cut_file_is_one_clear_error_at_any_length(
        self, tmp_path: Path, kind: str, kept: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        array = RNG.integers(0, 256, (64, 64, 3), np.uint8)
        path = tmp_path / "a.bin"
        if kind == "png16":
            import imagecodecs

            path.write_bytes(imagecodecs.png_encode(array.astype(np.uint16)))
        elif kind in ("png", "jpg", "libtiff"):
            PIL.Image.fromarray(array).save(path, format={"jpg": "JPEG", "libtiff": "TIFF"}.get(kind, kind))
        elif kind == "npy":
            with path.open("wb") as file:
                np.save(file, array)
        else:
            options: Any = {"tiled": {"tile": (16, 16)}, "tif": {}}.get(kind, {"compression": kind})
            tifffile.imwrite(path, array, photometric="rgb", **options)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(DataError, match=r"a\.bin") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)
        assert not caplog.records

    def test_a_cut_file_by_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        tifffile.imwrite("a.tif", RGB, photometric="rgb", compression="zlib", rowsperstrip=2)
        Path("a.tif").write_bytes(Path("a.tif").read_bytes()[:-50])
        with pytest.raises(DataError, match=r"a\.tif is cut off: \d+ bytes of at least \d+"):
            read_image("a.tif")

    def test_a_damaged_block_inside_a_tiff(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib")
        with tifffile.TiffFile(path) as tif:
            start = tif.pages.first.dataoffsets[0]
        data = bytearray(path.read_bytes())
        data[start : start + 40] = b"x" * 40
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"cannot decode .*a\.tif"):
            read_image(path)

    def test_an_unknown_compression(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib")
        with tifffile.TiffFile(path, mode="r+") as tif:
            tif.pages.first.tags["Compression"].overwrite(65000)
        with pytest.raises(DataError, match=r"cannot decode .*a\.tif.*65000"):
            read_image(path)

    def test_an_image_larger_than_is_read_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("everycell.io.stored.MAX_VALUES", 1799)
        for name in ("a.tif", "a.png"):
            PIL.Image.fromarray(RGB).save(tmp_path / name)
            with pytest.raises(DataError, match=r"holds 20 × 30 × 3 values.*export a region"):
                read_image(tmp_path / name)

    def test_values_and_shapes_that_are_no_picture(self) -> None:
        with pytest.raises(DataError, match="complex128"):
            to_image(np.zeros((2, 2), complex))
        with pytest.raises(DataError, match=r"got shape \(2, 2, 2, 2\)"):
            to_image(np.zeros((2, 2, 2, 2)))
        with pytest.raises(DataError, match="no pixels"):
            to_image(np.zeros((0, 5), np.uint8))
