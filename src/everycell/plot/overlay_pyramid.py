"""Outlines on an image of any size: a picture to zoom into, as large as the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from everycell.files import atomic_write, scratch_folder
from everycell.formats import PixelReader, SpoolingWriter, level_sizes, write_pyramid
from everycell.structures.colors import class_color

_QUALITY = 90
_CHUNK_PX = 256


class OverlayPyramidWriter(SpoolingWriter):
    """Writes the image with each cell's outline in its class's colour, as a tiled, pyramidal OME-TIFF (JPEG).

    Outlines lie just inside the cells' borders, the higher score on top; smaller levels are means of 2 × 2 pixels.
    """

    def __init__(
        self,
        path: Path,
        source: PixelReader,
        image_size: tuple[int, int],
        mpp: float | None = None,
        width_px: int = 1,
    ) -> None:
        """Begin the file `path`.

        Args:
            path: the `.tif` file.
            source: the image, read tile by tile when the writer is closed.
            image_size: (height, width) of it, px.
            mpp: micrometres per pixel.
            width_px: of the outlines.
        """
        super().__init__(atomic_write(path), path.parent)
        self._path, self._source, self._size, self._mpp, self._width = path, source, image_size, mpp, width_px

    def _draw(self) -> None:
        with scratch_folder(self._path.parent) as folder:
            self._smaller = [
                zarr.create_array(
                    folder / str(level), shape=(*size, 3), chunks=(_CHUNK_PX, _CHUNK_PX, 3), dtype=np.uint8
                )
                for level, size in enumerate(level_sizes(self._size)[1:], start=1)
            ]
            write_pyramid(
                self._temporary,
                self._path.name,
                self._tile,
                self._size,
                np.dtype(np.uint8),
                self._mpp,
                samples=3,
                photometric="rgb",
                subsampling=(1, 1),  # thin coloured lines keep their colour
                compression="jpeg",
                compressionargs={"level": _QUALITY},
            )

    def _tile(self, level: int, window: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """One tile; what the next level needs of it is set aside."""
        x0, y0, x1, y1 = window
        pixels = np.asarray(self._smaller[level - 1][y0:y1, x0:x1]) if level else self._outlined(window)
        if level < len(self._smaller):
            half = _half(pixels)
            rows, columns = slice(y0 // 2, y0 // 2 + half.shape[0]), slice(x0 // 2, x0 // 2 + half.shape[1])
            self._smaller[level][rows, columns] = half
        return pixels

    def _outlined(self, window: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        left, top, right, bottom = window
        canvas = self._source.read(window).copy()
        for cell in self._spool.over(window).tolist():
            (x0, y0), bits = self._spool.mask(cell)
            border = bits & ~ndimage.binary_erosion(bits, iterations=self._width)
            x, y = max(x0, left), max(y0, top)
            part = border[y - y0 : bottom - y0, x - x0 : right - x0]
            rows, columns = part.shape
            canvas[y - top : y - top + rows, x - left : x - left + columns][part] = class_color(
                self._spool.class_id(cell)
            )
        return canvas


def _half(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 × 2 pixels; the last row and column count twice where they have no partner."""
    height, width = pixels.shape[:2]
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    sums = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    halved: NDArray[np.uint8] = ((sums + 2) // 4).astype(np.uint8)
    return halved
