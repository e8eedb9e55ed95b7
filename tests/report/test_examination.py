import math
import shutil

import pytest

from everycell.datasets import open_dataset
from everycell.errors import DataError
from everycell.report import Examination, read_run


def examine(folder, *, limit=24, folders=()):
    examination = Examination(read_run(folder), folders, limit=limit, device="cpu")
    for name in examination.names:
        examination.add(name)
    return examination.findings()


def test_figures_by_hand(run_folder, stub_model):
    # Images of 3, 4 and 5 squares; of each the first one is missed, and the last, spurious prediction scores 0.3.
    result = examine(run_folder).result
    assert (result.n_images, result.n_truth) == (3, 12)
    assert result.n_pred == 12  # for AP, from score 0.05 on
    assert (result.errors.n_truth, result.errors.n_pred) == (12, 9)
    assert result.errors.truth["correct"] == result.errors.pred["correct"] == 9
    assert result.errors.truth["missed"] == 3
    assert result.f1_50 == pytest.approx(2 * 9 / (2 * 9 + 3))


def test_every_image_is_shown_once_and_the_worst_apart(run_folder, stub_model):
    findings = examine(run_folder)
    # PQ rises with the squares: 2 of 3, 3 of 4, 4 of 5 are found.
    assert [shown.image.name for shown in findings.worst] == ["two"]
    assert [shown.image.name for shown in findings.samples] == ["four", "three"]
    uris = [uri for shown in (*findings.samples, *findings.worst) for uri in (shown.truth, shown.pred)]
    assert len({*uris, findings.sheet}) == 7
    assert {shown.part for shown in (*findings.samples, *findings.worst)} == {""}


def test_a_single_image_is_a_sample(run_folder, stub_model):
    findings = examine(run_folder, limit=1)
    assert [shown.image.name for shown in findings.samples] == ["four"]
    assert findings.worst == ()


def test_no_error_no_sheet(run_folder, stub_model, data, monkeypatch):
    truth = open_dataset(data).load(0).to_instances()
    examination = Examination(read_run(run_folder), limit=1, device="cpu")
    monkeypatch.setattr(examination._model, "predict", lambda image, *, score_thresh: truth)
    examination.add("four")
    findings = examination.findings()
    assert findings.result.map == 1
    assert findings.sheet == ""


def test_no_cells_no_pictures_of_the_worst(run_folder, stub_model):
    examination = Examination(read_run(run_folder), limit=0, device="cpu")
    findings = examination.findings()
    assert (findings.result.n_images, findings.samples, findings.worst, findings.sheet) == (0, (), (), "")
    assert math.isnan(findings.result.ap50)


def test_moved_data_is_found_again(run_folder, stub_model, data):
    moved = shutil.move(data, data.with_name("moved"))
    with pytest.raises(DataError, match="no such folder"):
        examine(run_folder)
    assert examine(run_folder, folders=(moved,), limit=1).result.n_images == 1


def test_other_data_is_refused(run_folder, stub_model, data):
    for part in ("images/two.png", "labels/two.tif"):
        (data / part).unlink()
    with pytest.raises(DataError, match=r"1 of 3 validation images of .*my run are not there \(two\)"):
        examine(run_folder)


def test_data_of_other_classes_is_refused(run_folder, stub_model, data, write_model):
    write_model(run_folder, ("a", "b"))
    with pytest.raises(DataError, match=r"expected the 2 classes of .*my run, got 1"):
        examine(run_folder)


def test_a_run_without_a_model(run_folder):
    (run_folder / "best.safetensors").unlink()
    with pytest.raises(DataError, match="no model was saved yet"):
        examine(run_folder)


def test_a_run_that_does_not_know_its_data(run_folder, stub_model):
    (run_folder / "run.json").unlink()
    with pytest.raises(DataError, match="not recorded; give it with --data"):
        examine(run_folder)
