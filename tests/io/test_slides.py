"""Whole slides through OpenSlide: small ones of three vendors, made here."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io import find_images, open_source, read_image
from everycell.io.slides import is_slide

SMOOTH = np.dstack(np.broadcast_arrays(np.arange(512)[:, None] / 3, np.arange(1024) / 5, 90)).astype(np.uint8)


def write_svs(path: Path, pixels: NDArray[np.uint8] = SMOOTH, mpp: str = "0.2520") -> None:
    """Aperio: tiles of JPEG, a level a quarter as large."""
    height, width = pixels.shape[:2]
    says = f"Aperio Image Library v12.0.1\r\n{width}x{height} [0,0 {width}x{height}] (128x128) JPEG/RGB Q=90"
    options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "tile": (128, 128), "metadata": None}
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, description=says + (f"|AppMag = 40|MPP = {mpp}" if mpp else ""), **options)
        tif.write(pixels[::4, ::4], description=says, **options)


def write_ndpi(path: Path, pixels: NDArray[np.uint8] = SMOOTH) -> None:
    """Hamamatsu: each level one JPEG."""
    with tifffile.TiffWriter(path) as tif:
        for zoom in (1, 2, 4):
            level = pixels[::zoom, ::zoom]
            tags = [(65420, "I", 1, 1, False), (65421, "f", 1, 40.0 / zoom, False)]
            tags += [(code, "i", 1, 0, False) for code in (65422, 65423, 65424)]
            tif.write(
                level,
                photometric="rgb",
                compression="jpeg",
                rowsperstrip=len(level),
                metadata=None,
                extratags=tags,
                resolution=(40_000 / zoom,) * 2,
                resolutionunit="CENTIMETER",
            )


def write_mrxs(path: Path, pixels: NDArray[np.uint8] = SMOOTH, tile: int = 256, unscanned: int = -1) -> None:
    """3DHISTECH MIRAX: a preview, and a folder with an index of JPEG tiles; one of them may not have been scanned."""
    preview = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(preview, "JPEG")
    path.write_bytes(preview.getvalue())
    folder = path.with_suffix("")
    folder.mkdir()
    rows, columns = pixels.shape[0] // tile, pixels.shape[1] // tile
    data, entries = b"", []
    for number in range(rows * columns):
        y, x = number // columns * tile, number % columns * tile
        part = io.BytesIO()
        PIL.Image.fromarray(pixels[y : y + tile, x : x + tile]).save(part, "JPEG", quality=95, subsampling=0)
        if number != unscanned:
            entries.append(struct.pack("<4i", number, len(data), len(part.getvalue()), 0))
            data += part.getvalue()
    (folder / "Data0000.dat").write_bytes(data)
    head = b"01.02" + b"0123456789abcdef"
    start = len(head) + 8  # of the level pointers; there is one level
    index = struct.pack("<7i", start, 0, start + 4, 0, start + 12, len(entries), 0)
    (folder / "Index.dat").write_bytes(head + index + b"".join(entries))
    (folder / "Slidedat.ini").write_text(
        f"""[GENERAL]
SLIDE_ID = 0123456789abcdef
IMAGENUMBER_X = {columns}
IMAGENUMBER_Y = {rows}
OBJECTIVE_MAGNIFICATION = 20
CameraImageDivisionsPerSide = 1
[HIERARCHICAL]
HIER_COUNT = 1
NONHIER_COUNT = 0
INDEXFILE = Index.dat
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = 1
HIER_0_VAL_0_SECTION = LEVEL_0
[DATAFILE]
FILE_COUNT = 1
FILE_0 = Data0000.dat
[LEVEL_0]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = 0.325
MICROMETER_PER_PIXEL_Y = 0.325
IMAGE_FORMAT = JPEG
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = {tile}
DIGITIZER_HEIGHT = {tile}
IMAGE_CONCAT_FACTOR = 0
"""
    )


@pytest.mark.parametrize(
    ("suffix", "write", "mpp"), [("svs", write_svs, 0.252), ("ndpi", write_ndpi, 0.25), ("mrxs", write_mrxs, 0.325)]
)
def test_slides_of_three_vendors(tmp_path: Path, suffix: str, write: Any, mpp: float) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path)
    assert is_slide(path)
    assert find_images([tmp_path]) == [("a", path)]
    whole = read_image(path)
    assert whole.mpp == pytest.approx(mpp)
    assert np.abs(whole.pixels.astype(int) - SMOOTH).max() <= 6  # JPEG
    with open_source(path) as source:
        assert source.size == (512, 1024)
        np.testing.assert_array_equal(source.read((100, 30, 500, 511)), whole.pixels[30:511, 100:500])
        for factor in (0.25, 0.4):
            rows, columns = (np.arange(round(side * factor)) / factor for side in (512, 1024))
            pixels = source.read_at((0, 0, 1024, 512), factor)
            expected = np.dstack(np.broadcast_arrays(rows[:, None] / 3, columns / 5, 90))
            assert np.abs(pixels - expected).max() <= 6


def test_an_svs_reads_the_same_with_tifffile(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    write_svs(tmp_path / "a.svs", noise)
    with tifffile.TiffFile(tmp_path / "a.svs") as tif, open_source(tmp_path / "a.svs") as source:
        levels = [page.asarray() for page in tif.pages]
        np.testing.assert_array_equal(source.read((0, 0, 500, 300)), levels[0])
        np.testing.assert_array_equal(source.read_at((0, 0, 500, 300), 0.25), levels[1])
        np.testing.assert_array_equal(source.read_at((40, 80, 340, 200), 0.25), levels[1][20:50, 10:85])


def test_what_was_not_scanned_is_background(tmp_path: Path) -> None:
    write_mrxs(tmp_path / "a.mrxs", np.zeros_like(SMOOTH), unscanned=5)  # the second of the lower row
    pixels = read_image(tmp_path / "a.mrxs").pixels
    assert pixels[256:, 256:512].min() == 255
    pixels[256:, 256:512] = 0
    assert pixels.max() == 0


def test_a_slide_that_does_not_say_its_pixel_size(tmp_path: Path) -> None:
    for i, mpp in enumerate(("", "0", "99")):
        write_svs(tmp_path / f"{i}.svs", mpp=mpp)
        with open_source(tmp_path / f"{i}.svs") as source:
            assert source.mpp is None


def test_a_pickled_slide(tmp_path: Path) -> None:
    write_svs(tmp_path / "a.svs")
    with open_source(tmp_path / "a.svs") as source, pickle.loads(pickle.dumps(source)) as again:
        np.testing.assert_array_equal(again.read((5, 6, 90, 80)), source.read((5, 6, 90, 80)))


class TestDamage:
    def test_a_damaged_tile_is_reported_and_the_others_are_read(self, tmp_path: Path) -> None:
        write_svs(tmp_path / "a.svs")
        whole = read_image(tmp_path / "a.svs").pixels
        with tifffile.TiffFile(tmp_path / "a.svs") as tif:
            start, count = tif.pages.first.dataoffsets[8], tif.pages.first.databytecounts[8]  # row 128, column 0
        data = bytearray((tmp_path / "a.svs").read_bytes())
        data[start : start + count] = bytes(count)
        (tmp_path / "a.svs").write_bytes(data)
        with open_source(tmp_path / "a.svs") as source:
            for _ in range(2):
                with pytest.raises(DataError, match=r"a\.svs, level 0: .* 90 × 100 px at row 120, column 50") as caught:
                    source.read((50, 120, 150, 210))
                assert "\n" not in str(caught.value)
                np.testing.assert_array_equal(source.read((128, 0, 400, 256)), whole[:256, 128:400])

    def test_a_mirax_file_without_its_folder(self, tmp_path: Path) -> None:
        write_mrxs(tmp_path / "a.mrxs")
        (tmp_path / "a").rename(tmp_path / "b")
        with pytest.raises(DataError, match=r"OpenSlide cannot open .*a\.mrxs .*with all its files"):
            open_source(tmp_path / "a.mrxs")

    def test_a_slide_that_was_cut_off(self, tmp_path: Path) -> None:
        write_svs(tmp_path / "a.svs")
        data = (tmp_path / "a.svs").read_bytes()
        for kept in (0.99, 0.5, 0.1):
            (tmp_path / "a.svs").write_bytes(data[: int(len(data) * kept)])
            with pytest.raises(DataError, match=r"a\.svs") as caught:
                read_image(tmp_path / "a.svs")
            assert "\n" not in str(caught.value)

    def test_a_slide_of_a_vendor_that_openslide_knows_but_cannot_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(500))
        with pytest.raises(DataError, match=r"OpenSlide cannot open .*a\.czi .*or export it as OME-TIFF"):
            open_source(tmp_path / "a.czi")

    def test_the_label_of_an_olympus_slide_is_not_taken_for_the_slide(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.vsi", SMOOTH[:64, :64], photometric="rgb")
        with pytest.raises(DataError, match=r"a\.vsi is a slide of Olympus, .* export it as OME-TIFF"):
            open_source(tmp_path / "a.vsi")
