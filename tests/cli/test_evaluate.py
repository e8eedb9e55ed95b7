import json

import numpy as np
import PIL.Image
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


@pytest.fixture
def dataset(tmp_path, folders):
    """A data set of one image with two cells."""
    truth, _ = folders
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (truth / "x.tif").rename(tmp_path / "data" / "labels" / "x.tif")
    PIL.Image.fromarray(np.full((20, 20), 200, np.uint8)).save(tmp_path / "data" / "images" / "x.png")
    return tmp_path / "data"


def test_errors_are_shown_and_in_json(folders, tmp_path, capsys):
    truth, pred = folders
    labels = tifffile.imread(pred / "x.tif")
    labels[labels == 2] = 0
    tifffile.imwrite(pred / "x.tif", labels)
    assert run("--truth", truth, "--pred", pred, "--json", tmp_path / "out.json") == 0
    shown = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    assert ["correct", "1", "50.0%", "1", "100.0%"] in shown
    assert ["missed", "1", "50.0%"] in shown
    assert ["duplicate", "0", "0.0%"] in shown
    assert ["up", "to", "7.34", "1", "1.0000", "1.0000", "1", "1.0000"] in shown  # the smaller cell was found
    errors = json.loads((tmp_path / "out.json").read_text())["errors"]
    assert (errors["truth"]["missed"], errors["pred"]["correct"], errors["unit"]) == (1, 1, "px")


def test_the_score_threshold_reaches_the_result(folders, tmp_path):
    truth, pred = folders
    arguments = ("--truth", truth, "--pred", pred, "--json", tmp_path / "out.json", "--score-thresh", "0.25")
    assert run(*arguments) == 0
    assert json.loads((tmp_path / "out.json").read_text())["score_thresh"] == 0.25
    assert run(*arguments[:-1], "1.5") == 2


def test_the_worst_are_drawn(dataset, folders, tmp_path):
    assert run("--truth", dataset, "--pred", folders[1], "--worst", tmp_path / "worst.png") == 0
    with PIL.Image.open(tmp_path / "worst.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1800
    assert run("--truth", dataset, "--pred", folders[1], "--worst", tmp_path / "worst.jpg") == 2


def test_the_worst_need_images(folders, tmp_path, capsys):
    truth, pred = folders
    assert run("--truth", truth, "--pred", pred, "--worst", tmp_path / "worst.png") == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "--worst needs the images, not the truth alone" in shown.err
    assert not (tmp_path / "worst.png").exists()


def test_classes_are_confused_in_a_table(tmp_path, capsys):
    from everycell.formats import write_coco
    from everycell.structures import Instances

    labels = tifffile.imread(_cell_folder(tmp_path) / "class1.tif")
    found = Instances.from_masks(Instances.from_labels(labels).masks, labels.shape, class_ids=np.array([2]))
    (tmp_path / "pred").mkdir()
    write_coco(found, tmp_path / "pred" / "a.coco.json", 1)
    assert run("--truth", tmp_path / "truth", "--pred", tmp_path / "pred") == 0
    shown = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    assert ["class1", "0", "0", "1"] in shown
    assert ["class2", "1", "0", "0"] in shown


def _cell_folder(tmp_path):
    """One image with a cell of each of two classes."""
    folder = tmp_path / "truth" / "a"
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "image.tif", np.zeros((20, 20, 3), np.uint8))
    for i in (1, 2):
        mask = np.zeros((20, 20), np.uint8)
        mask[2:8, 8 * i : 8 * i + 4] = 1
        tifffile.imwrite(folder / f"class{i}.tif", mask)
    return folder


@pytest.fixture
def two_predictions(tmp_path):
    """Six images of four cells; the better prediction holds three of each, the worse one two."""
    labels = np.kron(np.array([[1, 0, 2], [0, 0, 0], [3, 0, 4]]), np.ones((4, 4), int)).astype(np.uint16)
    for folder, n in (("truth", 4), ("better", 3), ("worse", 2)):
        (tmp_path / folder).mkdir()
        for i in range(6):
            tifffile.imwrite(tmp_path / folder / f"{i}.tif", np.where(labels <= n, labels, 0))
    return tmp_path / "truth", tmp_path / "better", tmp_path / "worse"


def test_two_predictions_are_compared(two_predictions, tmp_path, capsys):
    truth, better, worse = two_predictions
    arguments = ("--truth", truth, "--pred", better, "--against", worse, "--json", tmp_path / "out.json")
    assert run(*arguments) == 0
    shown = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    assert ["PQ", "0.6667", "0.8571", "+0.1905", "+0.1905", "…", "+0.1905", "0.0312"] in shown
    document = json.loads((tmp_path / "out.json").read_text())["comparison"]
    assert (document["first"], document["second"]) == (str(worse), str(better))
    assert document["measures"]["pq"]["p_value"] == 2 / 2**6


def test_groups_come_from_a_file(two_predictions, tmp_path, capsys):
    truth, pred, _ = two_predictions
    table = tmp_path / "groups.csv"
    table.write_text("image,group\n" + "".join(f"{i},p{i // 2}\n" for i in range(5)))
    arguments = ("--truth", truth, "--pred", pred, "--groups", table, "--json", tmp_path / "out.json")
    assert run(*arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "1 of 6 images have no group (5)" in shown.err
    with table.open("a") as file:
        file.write("5,p2\n")
    assert run(*arguments) == 0
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["intervals"]["pq"]["n_groups"] == 3
    assert document["per_image"][5]["group"] == "p2"
    assert "got 3" in capsys.readouterr().out  # too few for an interval


def test_the_page_has_the_figures(dataset, folders, tmp_path):
    assert run("--truth", dataset, "--pred", folders[1], "--html", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "maxDets 3" in page
    assert run("--truth", dataset, "--pred", folders[1], "--html", tmp_path / "page.txt") == 2


def test_lengths_in_micrometres_need_a_known_scale(folders, capsys):
    truth, pred = folders
    assert run("--truth", truth, "--pred", pred, "--radius-um", 3) == 1
    assert "x: lengths in µm need µm/px" in capsys.readouterr().err
