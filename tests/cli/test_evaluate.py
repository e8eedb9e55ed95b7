import json

import numpy as np
import pytest
import tifffile

from everycell.cli import main

FIGURES = ("map", "ap50", "ap75", "pq", "aji", "f1_50", "dice")


@pytest.fixture
def folders(tmp_path):
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    labels = np.zeros((20, 20), np.uint16)
    labels[2:8, 2:8], labels[10:18, 10:18] = 1, 2
    for folder in (truth, pred):
        folder.mkdir()
        tifffile.imwrite(folder / "x.tif", labels)
    return truth, pred


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *map(str, arguments)])
    return stop.value.code or 0


def test_figures_on_the_terminal_and_in_json(folders, tmp_path, capsys):
    truth, pred = folders
    assert run("--truth", truth, "--pred", pred, "--json", tmp_path / "out.json") == 0
    shown = capsys.readouterr()
    assert "1 images, 2 true and 2 predicted cells" in shown.out
    assert "maxDets 3" in shown.out
    assert shown.err == ""
    document = json.loads((tmp_path / "out.json").read_text())
    assert [document[name] for name in FIGURES] == [1] * len(FIGURES)
    assert [document[name] for name in ("max_dets", "n_images", "n_truth", "n_pred")] == [3, 1, 2, 2]
    assert document["per_class"]["cell"]["ap"] == 1


def test_a_missing_prediction_is_one_line_and_exit_code_1(folders, capsys):
    truth, pred = folders
    (pred / "x.tif").rename(pred / "y.tif")
    assert run("--truth", truth, "--pred", pred) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "1 of 1 images have no prediction (x)" in shown.err
    assert shown.out == ""


def test_no_cells_at_all_is_a_success_without_values(folders, capsys):
    truth, pred = folders
    for folder in folders:
        tifffile.imwrite(folder / "x.tif", np.zeros((5, 5), np.uint8))
    assert run("--truth", truth, "--pred", pred) == 0
    assert "–" in capsys.readouterr().out
