"""Find the images that a user means by files, folders and globs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from everycell.errors import DataError
from everycell.io.raster import is_zarr

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".zarr"}
    | {".bif", ".czi", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms"}  # slides
)

_TRUTH_OR_OUTPUT = re.compile(
    r"_masks\.\w+$|^class\d+\.tiff?$|\.(labels|overlay)(\.ome)?\.(tiff?|png|zarr)$", re.IGNORECASE
)


def image_stem(path: Path) -> str:
    """File name without suffix; `.ome.tif` and `.ome.zarr` count as one."""
    return path.stem.removesuffix(".ome")


def is_image_name(path: Path) -> bool:
    """Whether the name is that of an image, and not of a mask or of one of our outputs."""
    known = path.suffix.lower() in IMAGE_SUFFIXES
    return known and not path.name.startswith(".") and not _TRUTH_OR_OUTPUT.search(path.name)


def find_images(inputs: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Images behind `inputs`, each a file, a folder or a glob, as (stem, path), sorted by stem.

    The folder of a Zarr is an image, like a file.

    A folder gives its images; a folder of cell folders (`<name>/image.tif`) gives these under the folders' names; a
    folder with `images/` and `labels/` or `annotations/` gives those in `images/`. Masks (`<stem>_masks.*`,
    `class<N>.tif`) and our own outputs are left out. Of equal stems (upper and lower case alike) the second gets `-2`,
    and so on.

    Raises:
        DataError: an input gives no image.
    """
    found: dict[Path, tuple[str, Path]] = {}
    for given in inputs:
        matches = _expand(given)
        if not matches:
            raise DataError(
                f"no images in {given}: expected {', '.join(sorted(IMAGE_SUFFIXES))}; check the path or the glob"
            )
        for stem, path in matches:
            found.setdefault(path.resolve(), (stem, path))
    if not found:
        raise DataError("no inputs given; name a file, a folder or a glob")
    taken: set[str] = set()
    result = []
    for stem, path in sorted(found.values(), key=lambda pair: (pair[0], str(pair[1]))):
        distinct, count = stem, 1
        while distinct.casefold() in taken:
            count += 1
            distinct = f"{stem}-{count}"
        taken.add(distinct.casefold())
        result.append((distinct, path))
    return result


def _expand(given: str | Path) -> list[tuple[str, Path]]:
    path = Path(given)
    if _is_one_image(path):
        return [(_stem_of_file(path), path)]
    if path.is_dir():
        return _in_folder(path)
    if not set(str(path)) & set("*?["):
        raise DataError(f"no such file or folder: {path}; check the path")
    root = Path(path.anchor)
    matches = sorted(root.glob(str(path.relative_to(root) if path.anchor else path)))
    files = [(_stem_of_file(match, in_group=True), match) for match in matches if _is_one_image(match)]
    rest = [match for match in matches if match.is_dir() and not _is_one_image(match)]
    folders = [pair for match in rest for pair in _in_folder(match, in_group=True)]
    return [pair for pair in files if is_image_name(pair[1])] + folders


def _is_one_image(path: Path) -> bool:
    return path.is_file() or is_zarr(path)


def _in_folder(folder: Path, *, in_group: bool = False) -> list[tuple[str, Path]]:
    if (folder / "images").is_dir() and any((folder / name).is_dir() for name in ("labels", "annotations")):
        folder = folder / "images"
    children = sorted(folder.iterdir())
    flat = [
        (_stem_of_file(child, in_group=in_group), child)
        for child in children
        if is_image_name(child) and _is_one_image(child)
    ]
    cells = [(child.name, image) for child in children if (image := child / "image.tif").is_file()]
    return flat + cells


def _stem_of_file(path: Path, *, in_group: bool = False) -> str:
    """Of a cell folder's `image.tif` the folder's name, of any other file its own."""
    if path.name == "image.tif" and (in_group or any(path.parent.glob("class*.tif"))):
        return path.resolve().parent.name
    return image_stem(path)
