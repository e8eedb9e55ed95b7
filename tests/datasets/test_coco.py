import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everycell.datasets import CocoDataset, open_dataset
from everycell.errors import DataError

SIZE = (12, 20)
BOX, ACROSS, TINY, ALL = ([[0, 0, 4, 0, 4, 4, 0, 4]], [[2, 2, 9, 2, 9, 6, 2, 6]], [[9, 9, 10, 9, 10, 10, 9, 10]],
                          [[0, 0, 20, 0, 20, 12, 0, 12]])  # fmt: skip


def write(path: Path, annotations: list[dict[str, Any]], names: tuple[str, ...] = ("b.png", "a.png")) -> None:
    document = {
        "images": [{"id": i, "file_name": name, "height": 12, "width": 20} for i, name in enumerate(names)],
        "categories": [{"id": 3, "name": "tumour"}, {"id": 5, "name": "stroma"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 3} | row for i, row in enumerate(annotations)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def save_images(folder: Path, size: tuple[int, int] = SIZE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        PIL.Image.fromarray(np.full(size, 9, np.uint8)).save(folder / f"{name}.png")


@pytest.mark.parametrize(
    ("file", "images"),
    [("data/all.json", "data"), ("data/all.json", "data/images"), ("data/annotations/all.json", "data/images")],
)
def test_cells_in_layers(tmp_path: Path, file: str, images: str) -> None:
    crowd = {"segmentation": ALL, "iscrowd": 1}
    rows = [{"segmentation": BOX, "category_id": 5}, {"segmentation": ACROSS}, {"segmentation": TINY}, crowd]
    write(tmp_path / file, rows)
    save_images(tmp_path / images)
    for place in [tmp_path / file, (tmp_path / file).parent]:
        data = open_dataset(place)
        assert isinstance(data, CocoDataset)
        assert (data.names, data.class_names) == (("a", "b"), ("tumour", "stroma"))
        assert data.image_path(0) == tmp_path / images / "a.png"
        sample = data.load(0)
        assert sample.layers.shape == (2, *SIZE)  # the two cells overlap
        assert [int((sample.layers == k).sum()) for k in (1, 2)] == [16, 28]
        assert (sample.class_ids.tolist(), sample.dropped) == ([2, 1], 1)
        assert data.load(1).layers.sum() == 0


@given(st.integers(0, 2**32 - 1))
def test_every_cell_lies_whole_in_one_layer(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "layers"
    rng = np.random.default_rng(seed)
    corners: NDArray[np.int64] = np.stack([rng.integers(0, 14, 6), rng.integers(0, 8, 6)], axis=1)
    boxes = [[[x, y, x + 5, y, x + 5, y + 4, x, y + 4]] for x, y in corners.tolist()]
    write(folder / "all.json", [{"segmentation": box} for box in boxes])
    save_images(folder)
    layers = open_dataset(folder).load(0).layers
    for k, (x, y) in enumerate(corners.tolist(), start=1):
        [layer] = np.flatnonzero((layers == k).any(axis=(1, 2)))
        assert (layers[layer, y : y + 4, x : x + 5] == k).all()
    assert (layers > 0).sum() == 20 * 6


def test_missing_images_and_another_size(tmp_path: Path) -> None:
    write(tmp_path / "all.json", [], ("a.png", "b.png", "x/c.png"))
    save_images(tmp_path, (5, 6))
    with pytest.raises(DataError, match=r"all\.json: 1 of 3 images are not there: x/c\.png; put them beside the file"):
        open_dataset(tmp_path)
    write(tmp_path / "all.json", [])
    with pytest.raises(DataError, match=r"a\.png with \(height, width\) \(12, 20\), but the image has \(5, 6\)"):
        open_dataset(tmp_path).load(0)
