"""A model without a network: bright blobs are cells, so commands are tested in milliseconds."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
from scipy import ndimage

from everycell.errors import ModelError
from everycell.predict.detector import Detection, Rules
from everycell.predict.engine import TiledPrediction
from everycell.predict.store import FolderStore
from everycell.predict.tiling import Tiling
from everycell.structures import Instances


@dataclass
class StubModel:
    """Stands in for a `Model` and for what it makes of one image, a `Detector`."""

    name: str = "nuclei"
    sha256: str = "0" * 64
    device: str = "cpu"
    class_names: tuple[str, ...] = ("round", "long")
    notes: tuple[str, ...] = ()
    tile_px: int = 5000
    seen: list = field(default_factory=list)
    """(source, options) of every image."""
    windows: list = field(default_factory=list)
    """Of every tile that was examined."""

    def tiled(self, source, options, *, work=None, source_key=None):
        self.seen.append((source, options))
        rules = Rules(Tiling(source.size, self.tile_px, 20), within=options.within)
        has_store = work is not None and len(rules.tiling.tiles) > 1
        store = FolderStore(work, source.size, {"model": self.sha256}) if has_store else None
        return TiledPrediction(source, self, rules, store=store, notes=self.notes)

    def detect(self, source, tile):
        self.windows.append(tile.window)
        labels, _ = ndimage.label(source.read(tile.window)[..., 0] > 128)
        masks = Instances.from_labels(labels).masks.shifted(*tile.window[:2])
        found = Instances.from_masks(masks, source.size)
        is_long = (masks.boxes[:, 2] - masks.boxes[:, 0]) > 2 * (masks.boxes[:, 3] - masks.boxes[:, 1])
        return Detection(replace(found, class_ids=1 + is_long.astype(np.int64)))

    def load(self, name, *, device, bf16):
        """In place of `load_model`: the stub is known as `nuclei` only."""
        if name != self.name:
            raise ModelError(f"no model named {name!r} and no such file; shipped models: nuclei")
        return self


def draw(path: Path, n_round: int = 2, n_long: int = 1) -> Path:
    """Save an 80 by 100 px picture with `n_round` cells of 6 by 6 px and `n_long` cells of 4 by 16 px."""
    pixels = np.zeros((80, 100, 3), np.uint8)
    for i in range(n_round):
        pixels[5:11, 10 * i + 2 : 10 * i + 8] = 200
    for i in range(n_long):
        pixels[20 + 8 * i : 24 + 8 * i, 10:26] = 200
    PIL.Image.fromarray(pixels).save(path)
    return path


def grid(height: int, width: int) -> np.ndarray:
    """A picture, uint8 [height, width, 3], with a cell of 6 by 6 px in the corner of every 20 by 20 px."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[(np.arange(height) % 20 < 6)[:, None] & (np.arange(width) % 20 < 6)] = 200
    return pixels
