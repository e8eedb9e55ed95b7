"""OME-Zarr 0.4 and 0.5, and bare Zarr arrays, as `StoredImage`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.chunks import ChunkCache, ChunkedLevel
from everycell.io.decoding import decoding
from everycell.io.pixel_size import believable_mpp, in_um
from everycell.io.stored import Level, StoredImage


def open_ome_zarr(store: Path | zarr.Group | zarr.Array[Any]) -> StoredImage:
    """Open the first image of an OME-Zarr group, or an array [H, W] or [H, W, C].

    A chunk that is missing reads as the array's fill value, as Zarr defines.

    Raises:
        DataError: the group holds no image, a level of it is missing, or it is a z or time stack.
    """
    if isinstance(store, Path):
        with decoding(str(store)):
            return open_ome_zarr(zarr.open(store, mode="r"))
    name = str(store.store_path).removeprefix("file://")
    if isinstance(store, zarr.Array):
        axes = {2: "yx", 3: "yxc"}.get(store.ndim)
        if axes is None:
            raise DataError(f"{name}: expected an array [H, W] or [H, W, C], got shape {store.shape}")
        level = _level(store, axes, name, ChunkCache())
        return StoredImage(name, (level,), is_color=level.shape[2] in (3, 4))
    return _open_group(store, name)


def _open_group(group: zarr.Group, name: str) -> StoredImage:
    attributes = _ome(group)
    if "bioformats2raw.layout" in attributes and "multiscales" not in attributes and "0" in group:
        return open_ome_zarr(group["0"])
    if "plate" in attributes or "well" in attributes:
        raise DataError(f"{name} is a plate of many images; name one of them, such as {name}/A/1/0")
    try:
        multiscale = attributes["multiscales"][0]
        axes = [axis["name"] for axis in multiscale["axes"]]
        paths = [dataset["path"] for dataset in multiscale["datasets"]]
    except (LookupError, TypeError) as error:
        raise DataError(
            f"{name} is a Zarr group without OME-Zarr's list of levels (multiscales, with axes, as of version 0.4); "
            "export it as OME-Zarr 0.4 or 0.5"
        ) from error
    cache = ChunkCache()
    levels: list[Level] = []
    for path in paths:
        array = group.get(path)
        if not isinstance(array, zarr.Array):
            raise DataError(f"{name} lists a level {path!r} that is not there; copy or export it again")
        levels.append(_level(array, axes, f"{name}/{path}", cache))
    if not levels:
        raise DataError(f"{name} lists no level; export it again")
    return StoredImage(name, tuple(levels), mpp=_mpp(multiscale))


def _ome(group: zarr.Group) -> Mapping[str, Any]:
    """OME's metadata: below one key since version 0.5, beside other attributes before."""
    attributes: dict[str, Any] = group.attrs.asdict()
    return {**attributes, **attributes.get("ome", {})}


def _level(array: zarr.Array[Any], axes: Sequence[str], name: str, cache: ChunkCache) -> ChunkedLevel:
    sizes = dict(zip(axes, array.shape, strict=False))
    if len(axes) != array.ndim or len(sizes) != len(axes) or not {"y", "x"} <= sizes.keys():
        raise DataError(f"{name} has shape {array.shape}, which its axes {', '.join(axes)} do not describe")
    if any(size > 1 for axis, size in sizes.items() if axis not in "cyx"):
        named = ", ".join(f"{axis.upper()}={size}" for axis, size in sizes.items() if axis in "yx" or size > 1)
        raise DataError(f"{name} is a stack with axes {named}, expected one plane; export one z plane or time point")
    sizes = {"c": 1} | sizes
    sides = {"c": 1} | dict(zip(axes, array.chunks, strict=True))
    return ChunkedLevel(
        shape=(sizes["y"], sizes["x"], sizes["c"]),
        dtype=np.dtype(array.dtype).newbyteorder("="),
        chunk=(sides["y"], sides["x"], sides["c"]),
        load=_Chunks(array, tuple(axes), sides, name),
        cache=cache,
    )


@dataclass(frozen=True)
class _Chunks:
    """Reads chunks of one array.

    Attributes:
        array: any of its axes but x, y and c has length 1.
        axes: their names, in the array's order.
        sides: of a chunk, px, by axis.
        name: what messages call the array.
    """

    array: zarr.Array[Any]
    axes: tuple[str, ...]
    sides: Mapping[str, int]
    name: str

    def __call__(self, plane: int, row: int, column: int) -> NDArray[Any]:
        starts = {axis: n * self.sides[axis] for axis, n in (("c", plane), ("y", row), ("x", column))}
        index = tuple(
            slice(starts[axis], starts[axis] + self.sides[axis]) if axis in starts else 0 for axis in self.axes
        )
        with decoding(f"{self.name}: the chunk at row {starts['y']}, column {starts['x']}"):
            values = np.asarray(self.array[index])
        kept = [axis for axis in self.axes if axis in starts]
        if "c" not in kept:
            return values[..., None] if kept == ["y", "x"] else values.T[..., None]
        return values.transpose([kept.index(axis) for axis in "yxc"])


def _mpp(multiscale: Mapping[str, Any]) -> float | None:
    """µm/px of the first level: the scales of the level and of the whole multiply."""
    scales = []
    for holder in (multiscale["datasets"][0], multiscale):
        for transform in holder.get("coordinateTransformations", ()):
            if transform.get("type") == "scale":
                scales.append(transform["scale"])
    um: dict[str, float | None] = {}
    for i, axis in enumerate(multiscale["axes"]):
        if axis["name"] in "yx" and scales:
            value = float(np.prod([scale[i] for scale in scales]))
            um[axis["name"]] = in_um(value, str(axis.get("unit", "")))
    return believable_mpp(um.get("x"), um.get("y"))
