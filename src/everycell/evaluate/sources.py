"""Truth and predictions on disk, paired by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from everycell.datasets import MIN_INSTANCE_PX, Dataset, open_dataset, read_id_map
from everycell.errors import DataError
from everycell.formats import read_coco, read_geojson, read_label_image
from everycell.structures import Instances

# The first pattern that fits any file of a folder decides for the whole folder; those with scores come first.
_COCO = re.compile(r"(?P<stem>.+)\.coco\.json$")
_GEOJSON = re.compile(r"(?P<stem>.+)\.geojson$")
_LABELS = (
    re.compile(r"(?P<stem>.+)\.labels\.tiff?$", re.IGNORECASE),
    re.compile(r"(?P<stem>.+?)(_cp)?_masks\.(tiff?|png|npy)$", re.IGNORECASE),
    re.compile(r"(?P<stem>.+?)(\.ome)?\.(tiff?|png|npy)$", re.IGNORECASE),
)

_ReadTruth = Callable[[str], Instances]
_ReadPred = Callable[[str, tuple[int, int]], Instances]


@dataclass(frozen=True)
class Comparison:
    """Images with their true and predicted cells, read one at a time while iterating.

    Attributes:
        names: of the images, in order.
        class_names: names of classes 1 … K that are compared.
        notes: what a reader of the figures must know.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    _read_truth: _ReadTruth
    _read_pred: _ReadPred

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Instances, Instances]]:
        """Each image as (name, truth, prediction)."""
        for name in self.names:
            truth = self._read_truth(name)
            pred = self._read_pred(name, truth.image_size)
            if len(self.class_names) == 1:
                truth, pred = (replace(cells, class_ids=np.ones_like(cells.class_ids)) for cells in (truth, pred))
            yield name, truth, pred


def open_comparison(truth: Path, pred: Path, id_map: Path | None = None) -> Comparison:
    """Pair truth and predictions by name; nothing but names is read yet.

    Classes are compared only if both sides have them: where the truth has one class, or the predictions are label
    images, every cell counts as the same class.

    Args:
        truth: a data set folder, or a folder of label images.
        pred: a folder with one file an image, named by its stem: `.coco.json` if there is any, else `.geojson`,
            `.labels.tif`, `_masks.*` or plain label images; or one such file; or one COCO results file for all images.
        id_map: JSON file of image ids by file name, for a COCO results file of all images; without it an image's id
            is its 1-based position among the sorted names.

    Raises:
        DataError: an image has no prediction, a prediction no image, or a folder nothing that can be read.
    """
    names, class_names, read_truth = _open_truth(truth)
    if not pred.exists():
        raise DataError(f"no such file or folder: {pred}; expected the predictions")
    if pred.suffix == ".json" and pred.name.removesuffix(".json").removesuffix(".coco") not in names:
        ids = _image_ids(names, id_map)
        return Comparison(names, class_names, (), read_truth, _results_of_all(pred, ids, read_truth, class_names))
    files, pattern = _files_by_stem(pred, (_COCO, _GEOJSON, *_LABELS))
    _check_same(names, files, pred)
    notes: tuple[str, ...] = ()
    if pattern in _LABELS and len(class_names) > 1:
        notes = (f"classes are ignored: the label images in {pred} have none",)
        class_names = ("cell",)
    read_pred = partial(_read_one, files, pattern, class_names if len(class_names) > 1 else ())
    return Comparison(names, class_names, notes, read_truth, read_pred)


def _open_truth(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...], _ReadTruth]:
    """Names, class names and reader of the truth."""
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    labels_alone = children and not any(child.is_dir() or "_masks." in child.name for child in children)
    if labels_alone:
        files, _ = _files_by_stem(folder, _LABELS)
        return tuple(sorted(files)), ("cell",), lambda name: read_label_image(files[name])
    dataset = open_dataset(folder)
    index = {name: i for i, name in enumerate(dataset.names)}
    return dataset.names, dataset.class_names, lambda name: _read_sample(dataset, index[name])


def _read_sample(dataset: Dataset, i: int) -> Instances:
    """True cells of image `i`, with a note if the data set left some out."""
    sample = dataset.load(i)
    cells = sample.to_instances(dataset.class_names)
    note = f"{sample.dropped} true cells under {MIN_INSTANCE_PX} px were left out"
    return replace(cells, notes=(note,)) if sample.dropped else cells


def _files_by_stem(path: Path, patterns: Iterable[re.Pattern[str]]) -> tuple[dict[str, Path], re.Pattern[str]]:
    """Stem → file for the first pattern that fits any file in `path` (a folder, or the one file itself)."""
    children = sorted(child for child in (path.iterdir() if path.is_dir() else [path]) if child.is_file())
    for pattern in patterns:
        found: dict[str, Path] = {}
        for child in children:
            matched = pattern.match(child.name)
            if matched is None or child.name.startswith("."):
                continue
            if matched["stem"] in found:
                raise DataError(f"{found[matched['stem']]} and {child.name} are for the same image; keep one of them")
            found[matched["stem"]] = child
        if found:
            return found, pattern
    raise DataError(
        f"nothing to compare in {path}: expected <stem>.coco.json, <stem>.geojson, or label images "
        "(<stem>.labels.tif, <stem>_masks.*, <stem>.tif, .png or .npy)"
    )


def _check_same(names: tuple[str, ...], files: Mapping[str, Path], pred: Path) -> None:
    """A subset is never scored silently."""
    missing, extra = sorted(set(names) - files.keys()), sorted(files.keys() - set(names))
    faults = [f"{len(missing)} of {len(names)} images have no prediction ({_first_five(missing)})"] if missing else []
    faults += [f"{len(extra)} of {len(files)} predictions have no image ({_first_five(extra)})"] if extra else []
    if faults:
        raise DataError(f"{pred}: {' and '.join(faults)}; predict exactly the images of the truth")


def _first_five(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _read_one(
    files: Mapping[str, Path], pattern: re.Pattern[str], class_names: tuple[str, ...], name: str, size: tuple[int, int]
) -> Instances:
    """Prediction of one image from its own file; class names are empty where classes do not matter."""
    path = files[name]
    if pattern is _GEOJSON:
        return read_geojson(path, size, class_names)
    if pattern is _COCO:
        image_id = _only_image_id(path)
        return read_coco(path, {image_id: size}, class_names)[image_id]
    return read_label_image(path)


def _only_image_id(path: Path) -> int:
    """The image id in a results file of one image; 1 if it is empty, or damaged, which the reader will report."""
    try:
        entries = orjson.loads(path.read_bytes())
        ids = {entry["image_id"] for entry in entries}
    except (OSError, ValueError, TypeError, LookupError):
        return 1
    if len(ids) > 1:
        raise DataError(f"{path} must hold the cells of one image, got those of {len(ids)}; give the file itself")
    return ids.pop() if ids else 1


def _image_ids(names: tuple[str, ...], id_map: Path | None) -> dict[str, int]:
    """Name → image id."""
    if id_map is None:
        return {name: i for i, name in enumerate(sorted(names), start=1)}
    known = read_id_map(id_map)
    missing = sorted(set(names) - known.keys())
    if missing:
        raise DataError(f"id map {id_map} lacks {len(missing)} of {len(names)} images ({_first_five(missing)})")
    return {name: known[name].id for name in names}


def _results_of_all(
    path: Path, ids: Mapping[str, int], read_truth: _ReadTruth, class_names: tuple[str, ...]
) -> _ReadPred:
    """Reader of a results file of all images, opened with the first image."""
    loaded: dict[int, Instances] = {}

    def read(name: str, size: tuple[int, int]) -> Instances:
        if not loaded:
            sizes = {image_id: read_truth(other).image_size for other, image_id in ids.items()}
            loaded.update(read_coco(path, sizes, class_names if len(class_names) > 1 else ()))
        return loaded[ids[name]]

    return read
