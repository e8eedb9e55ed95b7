"""TIFF files of all kinds that tifffile knows, pyramids included, as `StoredImage`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.chunks import ChunkCache, ChunkedLevel
from everycell.io.decoding import decoding
from everycell.io.pixel_size import tiff_mpp
from everycell.io.stored import ArrayLevel, Level, StoredImage, check_fits

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_PHOTOMETRIC = tifffile.PHOTOMETRIC
_Page = tifffile.TiffPage | tifffile.TiffFrame


def open_tiff(path: Path) -> StoredImage:
    """Open a TIFF; of several images in it the first.

    Levels are SubIFDs or images that follow in the file, each half, a third or a quarter of the one before.

    Raises:
        DataError: damaged, cut off, a z or time stack, or in colours other than RGB.
    """
    with ExitStack() as stack, decoding(str(path)), _quiet_tifffile():
        tif = stack.enter_context(tifffile.TiffFile(path))
        if not tif.series:
            raise DataError(f"{path} holds no image; export it again")
        series = tif.series[0]
        page = series.keyframe
        if page.photometric in (_PHOTOMETRIC.SEPARATED, _PHOTOMETRIC.CIELAB):
            raise DataError(f"{path} has {_PHOTOMETRIC(page.photometric).name} colours; export it as RGB")
        axis = _channel_axis(series, path)
        for level in series.levels:
            _check_complete(tif, level, path)
        levels = _levels(tif, series, axis, path)
        is_gray = page.photometric in (_PHOTOMETRIC.MINISBLACK, _PHOTOMETRIC.MINISWHITE)
        n_channels = levels[0].shape[2]
        palette = None
        if page.photometric == _PHOTOMETRIC.PALETTE and page.colormap is not None:
            palette = (page.colormap.T >> 8).astype(np.uint8)
        return StoredImage(
            str(path),
            levels,
            is_color=axis == "S" and not is_gray and n_channels in (3, 4),
            has_alpha=axis == "S" and is_gray and n_channels == 2 and bool(page.extrasamples),
            palette=palette,
            white_is_zero=page.photometric == _PHOTOMETRIC.MINISWHITE,
            unknown_axis=axis in ("Q", "I"),
            mpp=tiff_mpp(tif),
            close=stack.pop_all().close,
        )


def _channel_axis(series: tifffile.TiffPageSeries, path: Path) -> str:
    """Name of the one axis beside Y and X that is longer than 1, "" without one."""
    sizes = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if axis in "YX" or size > 1}
    others = "".join(axis for axis in sizes if axis not in "YX")
    if others not in ("", "C", "S", "Q", "I"):
        named = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise DataError(f"{path} is a stack with axes {named}, expected one plane; export one z plane or time point")
    return others


def _levels(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, axis: str, path: Path) -> tuple[Level, ...]:
    cache, lock = ChunkCache(), threading.Lock()
    levels: list[Level] = []
    for number, level in enumerate(series.levels):
        offset = level.dataoffset
        pages = [page for page in level.pages if page is not None and page.parent is tif]
        if offset is not None and len(pages) == len(level.pages):
            levels.append(_mapped_level(level, axis, tif.byteorder, path, offset))
        elif _is_plain(level, pages, axis):
            levels.append(_chunked_level(level, pages, f"{path}, level {number}", cache, lock))
        elif not levels:  # planes missing or in other files, odd page layouts: read whole, without a pyramid
            check_fits(level.shape, str(path))
            return (_whole_level(level, axis),)
    return tuple(levels)


def _whole_level(series: tifffile.TiffPageSeries, axis: str) -> ArrayLevel:
    pixels = _to_hwc(series.asarray(), series.axes, axis)
    return ArrayLevel.of(lambda: pixels)


def _mapped_level(series: tifffile.TiffPageSeries, axis: str, byteorder: str, path: Path, offset: int) -> ArrayLevel:
    """Values that lie in the file as they lie in memory."""
    axes, shape, dtype = series.axes, series.shape, np.dtype(byteorder + series.dtype.str[1:])

    return ArrayLevel.of(lambda: _to_hwc(np.memmap(path, dtype, "r", offset, shape), axes, axis))


def _is_plain(series: tifffile.TiffPageSeries, pages: Sequence[_Page], axis: str) -> bool:
    """Whether the channels are the samples of one page or the pages of one sample, in order."""
    page = series.keyframe
    sizes = dict(zip(series.axes, series.shape, strict=True))
    in_order = page.planarconfig == 1 or len(pages) == 1
    return (
        in_order
        and len(pages) == len(series.pages)
        and page.imagedepth == 1
        and (page.imagelength, page.imagewidth) == (sizes["Y"], sizes["X"])
        and len(pages) * page.samplesperpixel == sizes.get(axis, 1)
    )


def _chunked_level(
    series: tifffile.TiffPageSeries, pages: Sequence[_Page], where: str, cache: ChunkCache, lock: threading.Lock
) -> ChunkedLevel:
    page = series.keyframe
    interleaved = page.planarconfig == 1
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    return ChunkedLevel(
        shape=(page.imagelength, page.imagewidth, len(pages) * page.samplesperpixel),
        dtype=series.dtype.newbyteorder("="),
        chunk=(min(height, page.imagelength), width, page.samplesperpixel if interleaved else 1),
        load=_Segments(page, pages, 1 if interleaved else page.samplesperpixel, where, lock),
        cache=cache,
    )


@dataclass(frozen=True)
class _Segments:
    """Decodes strips or tiles of the pages of one level.

    Attributes:
        page: what all pages have in common.
        pages: those of the level.
        planes: sample planes a page.
        where: what messages call the level.
        lock: held while the file is read.
    """

    page: tifffile.TiffPage
    pages: Sequence[_Page]
    planes: int
    where: str
    lock: threading.Lock

    def __call__(self, plane: int, row: int, column: int) -> NDArray[Any]:
        page = self.pages[plane // self.planes]
        height, width = self.page.chunks[:2]
        rows, columns = -(-self.page.imagelength // height), -(-self.page.imagewidth // width)
        index = (plane % self.planes * rows + row) * columns + column
        with decoding(f"{self.where}: the piece at row {row * height}, column {column * width}"):
            offset, count = page.dataoffsets[index], page.databytecounts[index]
            with self.lock:
                page.parent.filehandle.seek(offset)
                data = page.parent.filehandle.read(count) if offset and count else None
            values, _, shape = self.page.decode(
                data, index, jpegtables=page.jpegtables, jpegheader=self.page.jpegheader
            )
            if values is None:  # a piece that was never written, as in sparse files
                return np.full(shape[1:], self.page.nodata, self.page.dtype)
        piece: NDArray[Any] = values[0]
        return piece


def _to_hwc(pixels: NDArray[Any], axes: str, channel_axis: str) -> NDArray[Any]:
    """Bring an array with named axes, of which all but three have length 1, to [H, W, C]."""
    wanted = "YX" + (channel_axis or "C")
    sizes = dict(zip(axes, pixels.shape, strict=True))
    order = [axes.index(axis) for axis in wanted if axis in axes]
    rest = [i for i in range(pixels.ndim) if i not in order]
    return pixels.transpose(order + rest).reshape([sizes.get(axis, 1) for axis in wanted])


def _check_complete(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """A cut file would otherwise read as black where its data ends, or lose its coarser levels."""
    size = path.stat().st_size
    for page in series.pages:
        if page is None or page.parent is not tif:
            continue  # a plane that is missing, or in another file of a multi-file OME-TIFF
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
        end = max([*ends, *(page.subifds or ())], default=0)
        if end > size:
            raise DataError(f"{path} is cut off: {size} bytes of at least {end}; copy or export it again")


@contextmanager
def _quiet_tifffile() -> Iterator[None]:
    """Silence what tifffile logs in this thread and also raises, or what we check ourselves: one line, not two."""
    thread = threading.get_ident()

    def is_of_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("tifffile")
    logger.addFilter(is_of_another_thread)
    try:
        yield
    finally:
        logger.removeFilter(is_of_another_thread)
