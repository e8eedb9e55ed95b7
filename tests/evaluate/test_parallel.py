import os

import numpy as np
import pytest
import tifffile

from everycell.errors import DataError
from everycell.evaluate import Evaluator, compare_all, open_comparison, usual_workers


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("truth", "pred"):
        (tmp_path / name).mkdir()
        for i in range(6):
            labels = np.kron(rng.integers(0, 2, (5, 5)) * np.arange(1, 26).reshape(5, 5), np.ones((6, 6), int))
            tifffile.imwrite(tmp_path / name / f"{i}.tif", labels.astype(np.uint16))
    return tmp_path / "truth", tmp_path / "pred"


def evaluate(comparison, workers):
    evaluator = Evaluator(comparison.class_names)
    for image in compare_all(comparison, evaluator.settings, workers):
        evaluator.collect(image)
    return evaluator


def test_the_number_of_workers_changes_nothing(folders):
    comparison = open_comparison(*folders)
    alone, together = evaluate(comparison, 1), evaluate(comparison, 2)
    assert [image.name for image in together.images] == list(comparison.names) == [str(i) for i in range(6)]
    assert alone.result().to_json() == together.result().to_json()


def test_an_error_in_a_worker_is_the_same_error(folders):
    tifffile.imwrite(folders[1] / "3.tif", np.zeros((5, 5), np.uint8))
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"3\.tif is for an image of"):
            evaluate(open_comparison(*folders), workers)


def test_few_images_are_not_worth_a_process():
    assert usual_workers(0) == usual_workers(49) == 1
    assert 1 <= usual_workers(10**6) <= os.cpu_count()
