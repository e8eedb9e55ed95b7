"""Where the cells of finished tiles wait for the stitching: in memory, or in a folder that outlives the process."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from everycell.errors import OutputError
from everycell.files import make_folder, remove_leftovers, write_bytes
from everycell.predict.detector import TileResult
from everycell.predict.found import Found
from everycell.structures import Instances, MaskCrops

_PLAN = "plan.json"
_DAMAGE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


class TileStore(Protocol):
    """Results of finished tiles by the tile's number."""

    def put(self, number: int, result: TileResult) -> None:
        """Keep the result of a tile.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def get(self, number: int) -> TileResult | None:
        """The result of a tile, None when it is not finished."""
        ...


class MemoryStore(dict[int, TileResult]):
    """Results in memory, for images that fit there."""

    def put(self, number: int, result: TileResult) -> None:
        """Keep the result of a tile."""
        self[number] = result


class FolderStore:
    """Results in `tile_<number>.npz` files, each whole or not there, so that a killed run goes on where it was.

    A damaged file counts as not there. Nothing is pickled.
    """

    def __init__(self, folder: Path, image_size: tuple[int, int], plan: Mapping[str, Any]) -> None:
        """Use `folder`, made when missing, for one run.

        Args:
            folder: of nobody else.
            image_size: (height, width), px.
            plan: everything that decides about the tiles' cells, fit for JSON.

        Raises:
            OutputError: the folder cannot be used, or holds tiles of another plan.
        """
        self.folder, self.image_size = folder, image_size
        make_folder(folder)
        remove_leftovers(folder)
        text = json.dumps({"image_size": image_size, **plan}, sort_keys=True, indent=1)
        path = folder / _PLAN
        if not path.exists():
            write_bytes(path, text.encode())
        elif path.read_text(encoding="utf-8") != text:
            raise OutputError(f"{folder}: holds tiles of a run with other settings; remove it or choose another folder")

    def put(self, number: int, result: TileResult) -> None:
        """Keep the result of a tile."""
        write_bytes(self._path(number), _encode(result))

    def get(self, number: int) -> TileResult | None:
        """The result of a tile, None when its file is missing or damaged."""
        try:
            return _decode(self._path(number).read_bytes(), self.image_size)
        except _DAMAGE:
            return None

    def _path(self, number: int) -> Path:
        return self.folder / f"tile_{number}.npz"


def _encode(result: TileResult) -> bytes:
    """An .npz file: the arrays of `Found`, mask bits packed eight to a byte, and the rest as JSON."""
    cells = result.found.cells
    text = {"split": result.split, "capped": result.capped, "skipped": result.skipped, "classes": cells.class_names}
    file = io.BytesIO()
    np.savez_compressed(
        file,
        boxes=cells.boxes,
        scores=cells.scores,
        class_ids=cells.class_ids,
        mask_boxes=cells.masks.boxes,
        bits=np.packbits(cells.masks.bits),
        windows=result.found.windows,
        cut=result.found.cut,
        text=np.frombuffer(json.dumps(text).encode(), np.uint8),
    )
    return file.getvalue()


def _decode(data: bytes, image_size: tuple[int, int]) -> TileResult:
    file = io.BytesIO(data)
    with zipfile.ZipFile(file) as archive:
        if archive.testzip() is not None:
            raise ValueError("damaged")
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    text = json.loads(arrays["text"].tobytes())
    extents = arrays["mask_boxes"][:, 2:].astype(np.int64) - arrays["mask_boxes"][:, :2]
    bits = np.unpackbits(arrays["bits"], count=int(extents.prod(axis=1).sum())).astype(np.bool_)
    cells = Instances(
        boxes=arrays["boxes"],
        scores=arrays["scores"],
        class_ids=arrays["class_ids"],
        masks=MaskCrops(arrays["mask_boxes"], bits),
        image_size=image_size,
        class_names=tuple(text["classes"]),
    )
    found = Found(cells, arrays["windows"], arrays["cut"], np.arange(len(cells)))
    return TileResult(found, text["split"], tuple(text["capped"]), text["skipped"])
