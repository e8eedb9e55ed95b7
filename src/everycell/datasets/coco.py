"""COCO data set: one JSON file of instances, and its images."""

from __future__ import annotations

from pathlib import Path

from everycell.datasets.masks import sample_of_cells
from everycell.errors import DataError
from everycell.formats import CocoInstances
from everycell.io import read_image
from everycell.structures import Sample


class CocoDataset:
    """Data set of COCO instances; regions with `iscrowd` are left out, so they count as background.

    Args:
        instances: the content of the JSON file. An image is found by its `file_name`, or that without folders, in the
            folder of the file or the one above, or in `images` there.
    """

    def __init__(self, instances: CocoInstances) -> None:
        self._instances = instances
        self.names, self.class_names = instances.names, instances.class_names()
        if not self.names:
            raise DataError(f"{instances.path} names no image")
        files = {name: find_coco_image(instances, name) for name in self.names}
        self._files = {name: path for name, path in files.items() if path is not None}
        missing = [instances.file_names[name] for name in self.names if name not in self._files]
        if missing:
            named = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            raise DataError(
                f"{instances.path}: {len(missing)} of {len(self.names)} images are not there: {named}; "
                "put them beside the file or into a folder images"
            )

    def __len__(self) -> int:
        return len(self.names)

    def image_path(self, i: int) -> Path:
        """File of image `i`."""
        return self._files[self.names[i]]

    def load(self, i: int) -> Sample:
        """Read image `i` with its truth."""
        image = read_image(self.image_path(i))
        return sample_of_cells(self.names[i], image, self._instances.read(self.names[i], image.size))


def find_coco_image(instances: CocoInstances, name: str) -> Path | None:
    """The file of an image, if it is there."""
    file_name = instances.file_names[name].replace("\\", "/")
    folder = instances.path.parent
    places = [root / sub for root in (folder, folder.parent) for sub in ("", "images")]
    tries = (place / part for part in dict.fromkeys((file_name, Path(file_name).name)) for place in places)
    return next((path for path in tries if path.is_file()), None)
