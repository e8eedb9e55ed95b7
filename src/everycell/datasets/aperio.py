"""Aperio data set: images with outlines drawn in ImageScope, `<stem>.xml` for each, beside it or in `annotations/`."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from everycell.datasets.dataset import check_partners
from everycell.datasets.label_pairs import by_stem
from everycell.datasets.masks import sample_of_cells
from everycell.errors import DataError
from everycell.formats import Classes, aperio_classes, cells_folder, read_aperio_xml
from everycell.io import believable_mpp, is_image_name, read_image
from everycell.structures import Sample


class AperioDataset:
    """Data set of images in one folder with their outlines in `.xml` files there, or in `images/` and `annotations/`.

    Regions count as `everycell.formats.read_aperio_xml` reads them. µm/px are those of the image, else of its outlines.
    """

    def __init__(self, folder: Path) -> None:
        images, outlines = aperio_files(folder)
        if not outlines:
            raise DataError(f"{folder} has no <stem>.xml; expected one beside each image, or in annotations/")
        check_partners(folder, images, outlines, mask_is="<stem>.xml")
        self.names = tuple(sorted(images))
        self._files = tuple((images[name], outlines[name]) for name in self.names)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names in any of the files, in alphabetical order; `cell` where there are none."""
        return tuple(sorted({name for _, path in self._files for name in aperio_classes(path)})) or ("cell",)

    def __len__(self) -> int:
        return len(self.names)

    def image_path(self, i: int) -> Path:
        """File of image `i`."""
        return self._files[i][0]

    def load(self, i: int) -> Sample:
        """Read image `i` with its truth."""
        image_path, outlines = self._files[i]
        image = read_image(image_path)
        cells = read_aperio_xml(outlines, image.size, Classes(self.class_names), image.mpp)
        return sample_of_cells(self.names[i], replace(image, mpp=believable_mpp(cells.mpp, cells.mpp)), cells)


def aperio_files(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Stem → image, and stem → `<stem>.xml`; both empty where there is no `.xml`."""
    cells = cells_folder(folder)
    outlines = by_stem(path for path in cells.iterdir() if path.suffix.lower() == ".xml")
    images = folder if cells == folder else folder / "images"
    return by_stem(path for path in images.iterdir() if is_image_name(path)) if outlines else {}, outlines
