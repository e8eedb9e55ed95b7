"""Truth and predictions on disk, paired by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from everycell.datasets import find_coco_image, is_dataset, open_dataset, read_id_map
from everycell.errors import DataError, UnknownSizeError
from everycell.formats import CellFiles, CellSet, Classes, CocoInstances, LabelStack, open_cell_set
from everycell.io import image_stem, is_image_name, read_raster
from everycell.structures import Instances


class Pair(NamedTuple):
    """One image: its name, its true and its predicted cells, and the regions where nobody outlined single cells."""

    name: str
    truth: Instances
    pred: Instances
    ignore: Instances


@dataclass(frozen=True)
class Comparison:
    """Images with their true and predicted cells, each read when it is asked for; can be pickled.

    Attributes:
        names: of the images, in order.
        class_names: names of classes 1 … K that are compared.
        notes: what a reader of the figures must know.
        images: image files by name; empty where the truth has none.
        groups: group by name, where the truth says one: the tissue in PanNuke.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    images: Mapping[str, Path]
    groups: Mapping[str, str]
    _truth: _Side
    _pred: _Side

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Pair]:
        """Every image."""
        return map(self.read, self.names)

    def read(self, name: str) -> Pair:
        """Read one image.

        Raises:
            DataError: a file cannot be read, or is not for this image.
        """
        size, mpp = None, None
        if name in self.images:
            raster = read_raster(self.images[name])
            size, mpp = raster.size, raster.mpp
        try:
            truth = self._truth.read(name, size, mpp)
        except UnknownSizeError:
            size = self._pred.read(name, None, mpp).image_size
            truth = self._truth.read(name, size, mpp)
        pred = self._pred.read(name, truth.image_size, mpp)
        ignore = self._truth.read_ignored(name, truth)
        named = (replace(cells, class_names=self.class_names) for cells in (truth, pred, ignore))
        return Pair(name, *named)


@dataclass(frozen=True)
class _Side:
    """The truth or the predictions.

    Attributes:
        cells: where they are.
        classes: what their files call the compared classes.
        aliases: what they call an image, where that is not the comparison's name for it.
    """

    cells: CellSet
    classes: Classes
    aliases: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: str, size: tuple[int, int] | None, mpp: float | None) -> Instances:
        return self.cells.read(self.aliases.get(name, name), size, self.classes, mpp)

    def read_ignored(self, name: str, cells: Instances) -> Instances:
        if isinstance(self.cells, CocoInstances):
            return self.cells.read_crowds(name, cells.image_size, self.classes, cells.mpp)
        return Instances.empty(cells.image_size, cells.mpp)


def open_comparison(
    truth: Path, pred: Path, id_map: Path | None = None, classes: Sequence[str] = (), *, ignore_classes: bool = False
) -> Comparison:
    """Pair truth and predictions, each any format that `open_cell_set` knows.

    Images are paired by name. Where no name agrees and all predictions are called like the ids of images, by id.

    Classes are compared only if both sides have them: where the truth has one class, or one side has none, every cell
    counts as the same class. Names are compared with names, numbers with numbers.

    Args:
        truth: a data set folder, or anything else that holds cells.
        pred: anything that holds cells.
        id_map: JSON file of image ids by file name, for COCO results of all images; without it the ids are those of
            COCO truth, else an image's 1-based position among the names of the truth.
        classes: names of classes 1 … K, for classes that have names on one side and numbers on the other.
        ignore_classes: every cell counts as the same class.

    Raises:
        DataError: an image has no prediction, a prediction no image, or a file or folder nothing that can be read.
    """
    known = {stem: entry.id for stem, entry in read_id_map(id_map).items()} if id_map is not None else None
    true_cells = _open(truth, known, "truth")
    names = true_cells.names
    ids = _image_ids(true_cells, known, id_map)
    pred_cells = _open(pred, ids, "predictions")
    aliases = _pair(names, pred_cells.names, ids, pred)
    if ignore_classes:
        true_classes = pred_classes = Classes(("cell",), blind=True)
        notes: tuple[str, ...] = ()
    else:
        true_classes, pred_classes, notes = _classes(true_cells, pred_cells, tuple(classes), (truth, pred))
    return Comparison(
        names,
        true_classes.names,
        notes,
        _images(truth, true_cells),
        true_cells.groups if isinstance(true_cells, LabelStack) else {},
        _Side(true_cells, true_classes),
        _Side(pred_cells, pred_classes, aliases),
    )


def _open(path: Path, ids: Mapping[str, int] | None, what: str) -> CellSet:
    if not path.exists():
        raise DataError(f"no such file or folder: {path}; expected the {what}")
    return open_cell_set(path, ids)


def _image_ids(truth: CellSet, known: Mapping[str, int] | None, id_map: Path | None) -> dict[str, int]:
    """Image id by name."""
    if known is None:
        own = truth.ids if isinstance(truth, CocoInstances) else {}
        return {name: own.get(name, i) for i, name in enumerate(truth.names, start=1)}
    if missing := sorted(set(truth.names) - known.keys()):
        raise DataError(f"id map {id_map} lacks {len(missing)} of {len(truth.names)} images ({_first_five(missing)})")
    return {name: known[name] for name in truth.names}


def _pair(names: Collection[str], found: Collection[str], ids: Mapping[str, int], pred: Path) -> dict[str, str]:
    """Name → what the prediction is called, where that differs. A subset is never scored silently."""
    by_id = {str(image_id): name for name, image_id in ids.items()}
    if not set(names) & set(found) and set(found) <= by_id.keys():
        aliases = {by_id[stem]: stem for stem in found}
    else:
        aliases = {stem: stem for stem in found}
    missing, extra = sorted(set(names) - aliases.keys()), sorted(aliases.keys() - set(names))
    faults = [f"{len(missing)} of {len(names)} images have no prediction ({_first_five(missing)})"] if missing else []
    faults += [f"{len(extra)} of {len(found)} predictions have no image ({_first_five(extra)})"] if extra else []
    if faults:
        raise DataError(f"{pred}: {' and '.join(faults)}; predict exactly the images of the truth")
    return {name: stem for name, stem in aliases.items() if name != stem}


def _first_five(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _classes(
    truth: CellSet, pred: CellSet, given: tuple[str, ...], paths: tuple[Path, Path]
) -> tuple[Classes, Classes, tuple[str, ...]]:
    """What the files of the truth and of the predictions call the compared classes, and notes."""
    names = () if truth.told_by == "nothing" else given or truth.class_names()
    if len(names) <= 1:
        blind = Classes(names or ("cell",), blind=True)
        return blind, blind, ()
    if pred.told_by == "nothing":
        blind = Classes(("cell",), blind=True)
        return blind, blind, (f"classes are ignored: the cells in {paths[1]} have none",)
    ids: tuple[int, ...] = ()
    if isinstance(truth, CocoInstances):
        id_of = {name: category_id for category_id, name in truth.categories.items()}
        if unknown := [name for name in names if name not in id_of]:
            raise DataError(f"{paths[0]} has no category {unknown[0]}; it has {', '.join(id_of)}")
        ids = tuple(id_of[name] for name in names)
    elif truth.told_by == "name" and pred.told_by == "id" and not given:
        raise DataError(
            f"the classes in {paths[0]} have names ({', '.join(names)}), those in {paths[1]} have numbers; "
            "say which name is 1, 2 and so on with --classes"
        )
    return Classes(names), Classes(names, ids if pred.told_by == "id" else ()), ()


def _images(truth: Path, cells: CellSet) -> dict[str, Path]:
    """Image files by name, as far as they lie where they are expected."""
    if isinstance(cells, CocoInstances):
        found = ((name, find_coco_image(cells, name)) for name in cells.names)
        return {name: path for name, path in found if path is not None}
    masks_alone = isinstance(cells, CellFiles) and cells.kind == "folder" and not any(truth.glob("*/image.tif"))
    if is_dataset(truth) and not masks_alone:
        dataset = open_dataset(truth)
        return {name: dataset.image_path(i) for i, name in enumerate(dataset.names)}
    if isinstance(cells, CellFiles) and cells.kind not in ("labels", "array", "folder"):
        folder = truth if truth.is_dir() else truth.parent
        files = {image_stem(path): path for path in sorted(folder.iterdir()) if is_image_name(path)}
        return {name: files[name] for name in cells.names if name in files}
    return {}
