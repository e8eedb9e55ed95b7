"""What the engine asks of a model, and what it makes of one tile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import shapely

from everycell.io import ImageSource
from everycell.predict.background import is_background
from everycell.predict.found import Found
from everycell.predict.stitch import worth_keeping
from everycell.predict.tiling import Tile, Tiling
from everycell.structures import Instances


@dataclass(frozen=True)
class Detection:
    """All that a model sees in one window.

    Attributes:
        cells: px of the full image, inside the window; pieces at the window's sides included.
        cap: the limit that was reached, so that cells may be missing, "" for none: "cap of 1000 detections".
    """

    cells: Instances
    cap: str = ""


class Detector(Protocol):
    """A model made ready for one image."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of classes 1 … K."""
        ...

    def detect(self, source: ImageSource, tile: Tile) -> Detection:
        """Find the cells in the tile's window; called from several threads at once.

        Raises:
            DataError: the pixels cannot be read.
        """
        ...


@dataclass(frozen=True)
class Rules:
    """How an image is taken apart and put together again.

    Attributes:
        tiling: how it is cut.
        seam_px: how far two tiles may differ on where a cell lies, px.
        max_covered: drop a cell when a larger share of it lies under better ones; None drops none.
        within: only cells whose centroid lies in this area, px of the image; None is everywhere.
        background_levels: leave out tiles whose window spans fewer grey levels, see `is_background`; None takes all.
    """

    tiling: Tiling
    seam_px: int = 0
    max_covered: float | None = None
    within: shapely.Geometry | None = None
    background_levels: float | None = None


@dataclass(frozen=True)
class TileResult:
    """What one tile hands on.

    Attributes:
        found: cells in the order of finding.
        split: the limit that was reached in the tile, which was then predicted again in smaller ones.
        capped: limits that were reached in tiles that cannot be split further.
        skipped: nothing but background.
    """

    found: Found
    split: str = ""
    capped: tuple[str, ...] = ()
    skipped: bool = False


def examine(source: ImageSource, detector: Detector, rules: Rules, tile: Tile) -> TileResult:
    """Detect the cells of a tile; where a limit is reached, those of its quarters instead."""
    if rules.background_levels is not None and is_background(source, tile.window, rules.background_levels):
        return TileResult(Found.none(Instances.empty(source.size)), skipped=True)
    detection = detector.detect(source, tile)
    parts = rules.tiling.split(tile) if detection.cap else []
    if parts:
        inner = replace(rules, background_levels=None)
        results = [examine(source, detector, inner, part) for part in parts]
        found = Found.join([result.found for result in results]).numbered(0)
        return TileResult(found, detection.cap, tuple(line for result in results for line in result.capped))
    found = worth_keeping(detection.cells, tile, rules.tiling, seam_px=rules.seam_px)
    capped = (f"{detection.cap} in window {tile.window} (x0, y0, x1, y1)",) if detection.cap else ()
    return TileResult(found, capped=capped)
