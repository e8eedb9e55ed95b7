"""A run that is killed by SIGKILL again and again leaves, in the end, what an uninterrupted one leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from stub_model import grid


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` but the run's record, which holds times."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_file(tmp_path):
    (tmp_path / "slides").mkdir()
    for stem, width in (("a", 150), ("b", 90)):
        tifffile.imwrite(tmp_path / "slides" / f"{stem}.tif", grid(150, width), photometric="rgb")
    script = Path(__file__).with_name("killed_runs.py")
    formats = "labels,zarr,coco,geojson.gz,rois,table,overlay"
    command = [sys.executable, script, "whole", "killed", "slides", "--formats", formats]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = run.stdout.splitlines()
    assert said[0].startswith("104 cells in 2 of 2 images;"), run.stderr
    n_killed, code = map(int, said[-1].split())
    assert code == 0
    assert n_killed > 6
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) > 20
