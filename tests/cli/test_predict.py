import csv
import errno
import json
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tifffile

from everycell.cli.outputs import output_paths
from everycell.cli.settings import FORMATS, ViewsName
from everycell.predict.predictor import PredictOptions
from everycell.predict.views import VIEWS


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def summary(out):
    with (out / "summary.csv").open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_a_folder_gives_every_output(everycell, model, folder, out):
    code, said, err = everycell("predict", folder, "-o", out)
    assert (code, err) == (0, "")
    assert said == f"8 cells in 3 of 3 images; see {out / 'summary.csv'}\n"
    expected = {path.name for stem in "abc" for path in output_paths(out, stem, FORMATS)}
    assert {path.name for path in out.iterdir()} == expected | {"summary.csv", "run.json"}

    labels = tifffile.imread(out / "a.labels.tif")
    assert labels.shape == (80, 100)
    assert (labels > 0).sum() == 2 * 36 + 64
    assert [entry["image_id"] for entry in json.loads((out / "b.coco.json").read_bytes())] == [2] * 5
    assert len(json.loads((out / "a.geojson").read_bytes())["features"]) == 3
    table = pd.read_parquet(out / "a.cells.parquet")
    assert table["area_px"].tolist() == [36, 36, 64]
    assert pd.read_csv(out / "a.cells.csv")["class"].tolist() == ["round", "round", "long"]
    with PIL.Image.open(out / "a.overlay.png") as overlay:
        assert overlay.size == (800, 640)  # small pictures are enlarged


def test_summary_by_hand(everycell, model, folder, out):
    everycell("predict", folder, "-o", out, "--mpp", "0.5")
    rows = summary(out)
    a, c = rows["a"], rows["c"]
    assert (a["status"], a["n_cells"], a["count_round"], a["count_long"]) == ("ok", "3", "2", "1")
    # 80 by 100 px of 0.5 µm are 40 by 50 µm = 0.002 mm²; areas are 36, 36 and 64 px of 0.25 µm².
    assert (a["cells_per_mm2"], a["median_area_px"], a["median_area_um2"]) == ("1500.0", "36.0", "9.0")
    assert (a["height"], a["width"], a["mpp"], a["area_mm2"], a["error"]) == ("80", "100", "0.5", "0.002", "")
    assert (c["n_cells"], c["cells_per_mm2"], c["median_area_px"], c["median_area_um2"]) == ("0", "0.0", "", "")


def test_without_mpp_physical_columns_are_blank(everycell, model, folder, out):
    everycell("predict", folder / "a.png", "-o", out)
    row = summary(out)["a"]
    assert (row["cells_per_mm2"], row["median_area_um2"], row["mpp"], row["median_area_px"]) == ("", "", "", "36.0")


def test_run_record(everycell, model, folder, out):
    everycell("predict", folder, "-o", out, "--score-thresh", "0.4")
    record = json.loads((out / "run.json").read_bytes())
    assert record["made_by"]["model_sha256"] == "0" * 64
    assert record["made_by"]["score_thresh"] == 0.4
    assert (record["n_images"], record["n_failed"], record["n_cells"]) == (3, 0, 8)
    assert {"torch", "torchvision", "python"} == record["versions"].keys()


def test_options_reach_the_model(everycell, model, folder, out):
    everycell("predict", folder / "a.png", "-o", out, "--diameter", "12", "--score-thresh", "0.3")
    everycell("predict", folder / "b.png", "-o", out / "b", "--views", "flips", "--no-skip-background", "--mpp", "0.25")
    (_, first), (source, second) = model.seen
    assert first == PredictOptions(diameter=12.0, score_thresh=0.3)
    assert second == PredictOptions(views="flips", skip_background=False)
    assert source.mpp == 0.25


def test_every_kind_of_views_can_be_chosen():
    assert get_args(ViewsName) == tuple(VIEWS)


def test_chosen_channels_are_read(everycell, model, folder, out):
    everycell("predict", folder / "a.png", "-o", out, "--channels", "3,1")
    with PIL.Image.open(out / "a.overlay.png") as overlay:
        assert overlay.getpixel((3 * 8, 6 * 8)) == (200, 200, 0)  # two channels: blue stays black


def test_formats_limit_what_is_written(everycell, model, folder, out):
    everycell("predict", folder / "a.png", "-o", out, "--formats", "table,labels")
    names = {path.name for path in out.iterdir()} - {"run.json", "summary.csv"}
    assert names == {"a.labels.tif", "a.cells.csv", "a.cells.parquet"}


def test_a_note_is_said_once(everycell, model, folder, out):
    model.notes = ("scale unknown",)
    _, _, err = everycell("predict", folder, "-o", out)
    assert err == "everycell: note: scale unknown (first in a.png)\n"
    assert [row["notes"] for row in summary(out).values()] == ["scale unknown"] * 3


def test_id_map_numbers_the_coco_files(everycell, model, folder, out, tmp_path):
    entries = [{"file_name": f"{stem}.png", "id": i, "height": 80, "width": 100} for stem, i in (("a", 70), ("b", 50))]
    (tmp_path / "ids.json").write_text(json.dumps(entries))
    code, _, err = everycell("predict", folder, "-o", out, "--id-map", tmp_path / "ids.json")
    assert code == 1
    assert err.count("\n") == 1
    assert "the id map has no 'c'" in err
    assert {entry["image_id"] for entry in json.loads((out / "a.coco.json").read_bytes())} == {70}
    assert {entry["image_id"] for entry in json.loads((out / "b.coco.json").read_bytes())} == {50}
    assert summary(out)["c"]["status"] == "failed"


@pytest.mark.parametrize("size", [(1, 1), (80, 100)])
def test_black_images_succeed_without_cells(everycell, model, tmp_path, out, size):
    PIL.Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "black.png")
    code, _, err = everycell("predict", tmp_path / "black.png", "-o", out)
    assert (code, err) == (0, "")
    assert summary(out)["black"]["n_cells"] == "0"
    assert all(path.exists() for path in output_paths(out, "black", FORMATS))


def not_an_image(path):
    path.write_text("cells, honestly")


def truncated(path):
    tifffile.imwrite(path, np.arange(6400, dtype=np.uint16).reshape(80, 80))
    path.write_bytes(path.read_bytes()[:2000])


def empty(path):
    path.touch()


def nan_pixels(path):
    pixels = np.full((20, 20), 0.5, np.float32)
    pixels[3, 4] = np.nan
    tifffile.imwrite(path, pixels)


@pytest.mark.parametrize("spoil", [not_an_image, truncated, empty, nan_pixels])
def test_a_bad_image_fails_alone(everycell, model, folder, out, spoil):
    spoil(folder / "bad.tif")
    code, said, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert err.startswith("everycell: error: ")
    assert err.count("\n") == 1
    assert str(folder / "bad.tif") in err
    assert said == f"8 cells in 3 of 4 images; 1 failed; see {out / 'summary.csv'}\n"
    rows = summary(out)
    assert {stem: row["status"] for stem, row in rows.items()} == {"a": "ok", "b": "ok", "bad": "failed", "c": "ok"}
    assert rows["bad"]["error"] in err
    assert not list(out.glob("bad.*"))


def test_not_enough_memory_fails_alone(everycell, model, folder, out, monkeypatch):
    detect = model.detect

    def hungry(source, tile):
        if source.name.endswith("b.png"):
            raise MemoryError
        return detect(source, tile)

    monkeypatch.setattr(model, "detect", hungry)
    code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert err == f"everycell: error: {folder / 'b.png'}: not enough memory; cut the image into smaller ones\n"
    assert summary(out)["c"]["status"] == "ok"


def test_a_folder_without_images(everycell, model, tmp_path, out):
    (tmp_path / "none").mkdir()
    code, _, err = everycell("predict", tmp_path / "none", "-o", out)
    assert code == 1
    assert err.startswith(f"everycell: error: no images in {tmp_path / 'none'}")
    assert not out.exists()


def test_unknown_model(everycell, model, folder, out):
    code, _, err = everycell("predict", folder, "-o", out, "-m", "nucleii")
    assert code == 1
    assert err == "everycell: error: no model named 'nucleii' and no such file; shipped models: nuclei\n"
    assert not out.exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_output_folder_that_cannot_be_made(everycell, model, folder, tmp_path, below):
    (tmp_path / "file").touch()
    code, _, err = everycell("predict", folder, "-o", tmp_path / "file" / below)
    assert code == 1
    assert err.startswith(f"everycell: error: cannot make the folder {tmp_path / 'file' / below}: ")
    assert err.count("\n") == 1


def cannot_write(monkeypatch, *names, reason=errno.ENOSPC):
    """Let `reason` come up whenever one of the files `names` is about to appear."""
    replace = Path.replace

    def fail(self, target):
        if Path(target).name in names:
            raise OSError(reason, os.strerror(reason))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)


def test_an_image_that_cannot_be_written_fails_alone(everycell, model, folder, out, monkeypatch):
    cannot_write(monkeypatch, "b.cells.parquet", reason=errno.ENAMETOOLONG)
    code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert err.count("\n") == 1
    assert str(folder / "b.png") in err
    assert "File name too long" in err
    assert {stem: row["status"] for stem, row in summary(out).items()} == {"a": "ok", "b": "failed", "c": "ok"}
    assert not list(out.glob("b.*"))
    assert not list(out.glob(".everycell*"))


def test_two_such_images_in_a_row_stop_the_run(everycell, model, folder, out, monkeypatch):
    cannot_write(monkeypatch, "a.coco.json", "b.labels.tif", reason=errno.EACCES)
    code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert [line.count("Permission denied") for line in err.splitlines()] == [1, 1, 0]
    assert "stopped after two images in a row" in err
    assert {stem: row["status"] for stem, row in summary(out).items()} == {"a": "failed", "b": "failed"}
    assert {path.name for path in out.iterdir()} == {"run.json", "summary.csv"}


def test_a_full_disk_stops_the_run(everycell, model, folder, out, monkeypatch):
    with monkeypatch.context() as patch:
        cannot_write(patch, "b.geojson")
        code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert err.count("\n") == 1
    assert "No space left on device; free some space or choose another folder; the same command then goes on" in err
    assert {stem: row["status"] for stem, row in summary(out).items()} == {"a": "ok", "b": "failed"}
    assert not list(out.glob("b.*"))
    assert not list(out.glob(".everycell*"))
    assert everycell("predict", folder, "-o", out)[0] == 0
    assert [Path(source.name).stem for source, _ in model.seen] == ["a", "b", "b", "c"]


def test_disk_full_for_the_record(everycell, model, folder, out, monkeypatch):
    cannot_write(monkeypatch, "run.json")
    code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert err.count("\n") == 1
    assert str(out / "run.json") in err
