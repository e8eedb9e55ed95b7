"""A model without a network: bright blobs are cells, so commands are tested in milliseconds."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from everycell.errors import ModelError
from everycell.structures import Image, Instances


@dataclass
class StubModel:
    name: str = "nuclei"
    sha256: str = "0" * 64
    device: str = "cpu"
    class_names: tuple[str, ...] = ("round", "long")
    notes: tuple[str, ...] = ()
    seen: list[tuple[Image, dict]] = field(default_factory=list)

    def predict(self, image, **options):
        self.seen.append((image, options))
        labels, _ = ndimage.label(image.pixels[..., 0] > 128)
        found = Instances.from_labels(labels, mpp=options["mpp"] or image.mpp)
        boxes = found.masks.boxes
        is_long = (boxes[:, 2] - boxes[:, 0]) > 2 * (boxes[:, 3] - boxes[:, 1])
        return replace(found, class_ids=1 + is_long.astype(np.int64), class_names=self.class_names, notes=self.notes)


@pytest.fixture
def model(monkeypatch):
    """The stub, in place of the real `load_model`; it is known as `nuclei` only."""
    stub = StubModel()

    def load_model(name, *, device, bf16):
        if name != stub.name:
            raise ModelError(f"no model named {name!r} and no such file; shipped models: nuclei")
        return stub

    monkeypatch.setattr("everycell.cli.batch.load_model", load_model)
    return stub


@pytest.fixture
def everycell(capsys):
    """Run the command line in this process; gives (exit code, stdout, stderr)."""
    from everycell.cli import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return run


def _draw(path: Path, n_round: int = 2, n_long: int = 1) -> Path:
    """Save an 80 by 100 px picture with `n_round` cells of 6 by 6 px and `n_long` cells of 4 by 16 px."""
    pixels = np.zeros((80, 100, 3), np.uint8)
    for i in range(n_round):
        pixels[5:11, 10 * i + 2 : 10 * i + 8] = 200
    for i in range(n_long):
        pixels[20 + 8 * i : 24 + 8 * i, 10:26] = 200
    PIL.Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def draw():
    """`draw(path, n_round, n_long)` saves a picture of cells."""
    return _draw


@pytest.fixture
def folder(tmp_path):
    """A folder with the pictures a.png (3 cells), b.png (5 cells) and c.png (no cell)."""
    images = tmp_path / "images"
    images.mkdir()
    _draw(images / "a.png", 2, 1)
    _draw(images / "b.png", 5, 0)
    _draw(images / "c.png", 0, 0)
    return images
