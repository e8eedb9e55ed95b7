import json
import zipfile

import numpy as np
import PIL.Image
import pytest

STEMS = {"a": 70, "b": 50, "c": 60}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def ids(tmp_path):
    entries = [{"file_name": f"{stem}.png", "id": i, "height": 80, "width": 100} for stem, i in STEMS.items()]
    path = tmp_path / "ids.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def predict(everycell, model, folder, out, ids):
    """One command from the test folder to the zip."""
    model.class_names = ("round", "long")

    def run(*more):
        return everycell("predict", folder, "-o", out, "--id-map", ids, "--formats", "leaderboard", *more)

    return run


def results(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("test-results.json"))


def test_one_command_from_the_test_folder_to_the_zip(predict, model, out):
    code, said, err = predict()
    assert code == 0
    assert err.startswith("everycell: note: keeping cells that score at least 0.05, ")
    assert err.count("\n") == 1
    path = out / "test-results.zip"
    assert said.splitlines() == [
        f"8 cells in 3 of 3 images; see {out / 'summary.csv'}",
        f"{path} is valid: 8 cells in 2 of 3 images",
        "Cells by class: 1: 7, 2: 1",
        "Note: 1 of 3 images have no cell (c.png)",
    ]
    assert [entry["image_id"] for entry in results(path)] == [70] * 3 + [50] * 5
    assert all(options.score_thresh == 0.05 for _, options in model.seen)
    names = {item.name for item in out.iterdir()}
    assert names == {*(f"{stem}.coco.json" for stem in STEMS), path.name, "run.json", "summary.csv"}


def test_a_score_threshold_that_is_given_stays(predict, model):
    assert predict("--score-thresh", "0.3")[2] == ""
    assert {options.score_thresh for _, options in model.seen} == {0.3}


def test_an_interrupted_run_ends_in_the_same_zip(predict, model, out, monkeypatch, tmp_path):
    assert predict()[0] == 0
    whole = (out / "test-results.zip").read_bytes()
    out.rename(tmp_path / "whole")
    detect = model.detect

    def interrupt_third(source, tile):
        if len(model.seen) == 6:
            raise KeyboardInterrupt
        return detect(source, tile)

    monkeypatch.setattr(model, "detect", interrupt_third)
    assert predict()[0] == 130
    assert not (out / "test-results.zip").exists()
    monkeypatch.setattr(model, "detect", detect)
    assert "2 of them kept" in predict()[1]
    assert (out / "test-results.zip").read_bytes() == whole
    assert "3 of them kept" in predict()[1]


@pytest.mark.parametrize("content", ["[", "3"])
def test_a_part_that_was_changed_after_the_run_is_named(predict, out, content):
    predict()
    (out / "b.coco.json").write_text(content)
    code, _, err = predict()
    assert code == 1
    assert f"error: {out / 'b.coco.json'} was changed after the run; delete it, then" in err
    (out / "b.coco.json").unlink()
    assert predict()[0] == 0


def test_an_image_that_fails_is_missing_and_said_to_be(predict, folder, out):
    (folder / "b.png").write_bytes(b"")
    code, said, err = predict()
    assert code == 1
    assert str(folder / "b.png") in err
    assert "Note: 2 of 3 images have no cell (b.png, c.png)" in said
    assert {entry["image_id"] for entry in results(out / "test-results.zip")} == {70}


def test_an_image_that_is_not_there_is_named_before_the_run(predict, folder):
    (folder / "b.png").unlink()
    assert "note: 1 of 3 images of the id map are not among the inputs (b.png)\n" in predict()[2]


def test_an_image_of_another_size_than_the_id_map_says_fails(predict, folder):
    PIL.Image.fromarray(np.zeros((80, 90, 3), np.uint8)).save(folder / "c.png")
    code, _, err = predict()
    assert code == 1
    assert f"error: {folder / 'c.png'} is 80 × 90 px, but the id map says 80 × 100 (height × width)" in err


def test_the_leaderboard_needs_an_id_map(everycell, model, folder, out):
    code, _, err = everycell("predict", folder, "-o", out, "--formats", "leaderboard")
    assert code == 1
    assert err == "everycell: error: --formats leaderboard needs the image ids: give --id-map FILE\n"
    assert not out.exists()


def test_a_zip_of_unknown_origin_is_not_replaced(predict, out):
    out.mkdir()
    (out / "test-results.zip").write_text("mine")
    code, _, err = predict()
    assert code == 1
    assert f"{out / 'test-results.zip'}: already exists; use --overwrite" in err
    assert predict("--overwrite")[0] == 0


def test_a_run_without_any_cell_has_no_valid_file(predict, folder):
    for name in ("a.png", "b.png"):
        PIL.Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(folder / name)
    code, said, err = predict()
    assert code == 1
    assert "holds no cell at all" in said
    assert "test-results.zip has 1 fault, listed above" in err


@pytest.fixture
def path(predict, out):
    assert predict()[0] == 0
    return out / "test-results.zip"


def test_validate_says_what_a_valid_file_holds(everycell, path, ids, folder):
    code, said, err = everycell("validate", path, "--id-map", ids, "--images", folder)
    assert (code, err) == (0, "")
    assert said.startswith(f"{path} is valid: 8 cells in 2 of 3 images\n")


def test_validate_lists_five_faults_of_each_kind_and_counts_the_rest(everycell, path, ids):
    content = results(path)
    for entry in content:
        entry["score"] = 1.5
    content[0]["category_id"] = 5
    (path.parent / "bad.json").write_text(json.dumps(content))
    code, said, err = everycell("validate", path.parent / "bad.json", "--id-map", ids)
    assert code == 1
    lines = said.splitlines()
    assert lines[0] == "category out of range: 1"
    assert lines[1] == "  entry 0: category_id must be 1 … 4, got 5"
    assert lines[2] == "score out of range: 8"
    assert lines[3] == "  entry 0: score must be a number in 0 … 1, got 1.5"
    assert lines[7:] == ["  entry 4: score must be a number in 0 … 1, got 1.5", "  … 3 more"]
    assert err == f"everycell: error: {path.parent / 'bad.json'} has 9 faults, listed above; mend what wrote it\n"
    assert "category" not in everycell("validate", path.parent / "bad.json", "--id-map", ids, "--n-classes", "5")[1]


def test_validate_compares_the_id_map_with_the_images(everycell, path, ids, folder, draw):
    (folder / "a.png").unlink()
    draw(folder / "d.png")
    PIL.Image.fromarray(np.zeros((80, 90, 3), np.uint8)).save(folder / "c.png")
    code, said, err = everycell("validate", path, "--id-map", ids, "--images", folder)
    assert code == 1
    assert said.splitlines() == [
        "entry without image file: 1",
        "  a.png",
        "image file without entry: 1",
        f"  {folder / 'd.png'}",
        "wrong image size: 1",
        f"  {folder / 'c.png'} is 80 × 90 px, but the id map says 80 × 100 (height × width); is it another image?",
    ]
    assert f"{ids} has 3 faults" in err
