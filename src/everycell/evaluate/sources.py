"""Truth and predictions on disk, paired by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from everycell.datasets import MIN_INSTANCE_PX, Dataset, open_dataset, read_id_map
from everycell.errors import DataError
from everycell.formats import find_cell_files, read_cell_file, read_coco, read_label_image
from everycell.structures import Instances

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
            `.labels.tif`, `_masks.*` or plain label images; or one such file; or one COCO results file for all images,
            as JSON or as a leaderboard `.zip`.
        id_map: JSON file of image ids by file name, for a COCO results file of all images; without it an image's id
            is its 1-based position among the sorted names.

    Raises:
        DataError: an image has no prediction, a prediction no image, or a folder nothing that can be read.
    """
    names, class_names, read_truth = _open_truth(truth)
    if not pred.exists():
        raise DataError(f"no such file or folder: {pred}; expected the predictions")
    if pred.suffix in (".json", ".zip") and pred.name.removesuffix(".json").removesuffix(".coco") not in names:
        ids = _image_ids(names, id_map)
        return Comparison(names, class_names, (), read_truth, _results_of_all(pred, ids, read_truth, class_names))
    files, kind = find_cell_files(pred)
    _check_same(names, files, pred)
    notes: tuple[str, ...] = ()
    if kind == "labels" and len(class_names) > 1:
        notes = (f"classes are ignored: the label images in {pred} have none",)
        class_names = ("cell",)
    known = class_names if len(class_names) > 1 else ()
    return Comparison(
        names, class_names, notes, read_truth, lambda name, size: read_cell_file(files[name], kind, size, known)
    )


def _open_truth(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...], _ReadTruth]:
    """Names, class names and reader of the truth."""
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    labels_alone = children and not any(child.is_dir() or "_masks." in child.name for child in children)
    if labels_alone:
        files, _ = find_cell_files(folder, ("labels",))
        return tuple(files), ("cell",), lambda name: read_label_image(files[name])
    dataset = open_dataset(folder)
    index = {name: i for i, name in enumerate(dataset.names)}
    return dataset.names, dataset.class_names, lambda name: _read_sample(dataset, index[name])


def _read_sample(dataset: Dataset, i: int) -> Instances:
    """True cells of image `i`, with a note if the data set left some out."""
    sample = dataset.load(i)
    cells = sample.to_instances(dataset.class_names)
    note = f"{sample.dropped} true cells under {MIN_INSTANCE_PX} px were left out"
    return replace(cells, notes=(note,)) if sample.dropped else cells


def _check_same(names: tuple[str, ...], files: Mapping[str, Path], pred: Path) -> None:
    """A subset is never scored silently."""
    missing, extra = sorted(set(names) - files.keys()), sorted(files.keys() - set(names))
    faults = [f"{len(missing)} of {len(names)} images have no prediction ({_first_five(missing)})"] if missing else []
    faults += [f"{len(extra)} of {len(files)} predictions have no image ({_first_five(extra)})"] if extra else []
    if faults:
        raise DataError(f"{pred}: {' and '.join(faults)}; predict exactly the images of the truth")


def _first_five(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


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
