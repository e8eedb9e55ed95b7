"""Runs commands in this process, with a stub for the model."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `stub_model`, here and in the processes that tests start

from stub_model import StubModel
from stub_model import draw as _draw


@pytest.fixture
def model(monkeypatch):
    """The stub, in place of the real `load_model`; it is known as `nuclei` only."""
    stub = StubModel()
    monkeypatch.setattr("everycell.cli.batch.load_model", stub.load)
    return stub


@pytest.fixture
def everycell(capsys, monkeypatch):
    """Run the command line in this process, on a very wide terminal; gives (exit code, stdout, stderr)."""
    from everycell.cli import main

    monkeypatch.setenv("COLUMNS", "1000")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return run


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
