"""Both models are stubs here: what matters is what is compared, and when it warns."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from everycell.structures import Image, Instances, Sample
from everycell.train.before_after import BeforeAfter, before_after, write_before_after

LABELS = np.zeros((40, 40), np.int32)
LABELS[2:12, 2:12], LABELS[2:12, 20:30], LABELS[20:30, 2:12], LABELS[20:30, 20:30] = 1, 2, 3, 4


@dataclass
class Finds:
    """A model that finds cells 1 … n, the last one with a low score."""

    n: int
    class_names: tuple[str, ...] = ("cell",)
    card = SimpleNamespace(score_thresh=0.5)

    def predict(self, image, *, score_thresh):
        assert score_thresh == 0.05
        labels = np.where(self.n >= LABELS, LABELS, 0)
        scores = np.full(self.n, 0.9, np.float32)
        scores[-1] = 0.3
        return replace(Instances.from_labels(labels), scores=scores, class_names=self.class_names)


@pytest.fixture
def samples():
    image = Image(np.zeros((40, 40, 3), np.uint8))
    return [Sample("a", image, LABELS[None], np.ones(4, np.int64))]


def test_f1_counts_cells_above_the_threshold_and_ap_all(samples):
    row = before_after(Finds(3), Finds(4), "new", samples, ("cell",))
    assert (row.data, row.n_images, row.n_cells) == ("new", 1, 4)
    assert row.f1_before == pytest.approx(2 * 2 / (2 + 4))
    assert row.f1_after == pytest.approx(2 * 3 / (3 + 4))
    # COCO's 101 recall levels: with 3 of 4 found at precision 1, 76 of them are reached.
    assert row.ap50_before == pytest.approx(76 / 101)
    assert row.ap50_after == pytest.approx(1)
    assert not row.is_worse


def test_models_of_other_classes_are_compared_blind_to_classes(samples):
    row = before_after(Finds(4, ("a", "b")), Finds(4), "old", samples, ("cell",))
    assert row.ap50_before == row.ap50_after == pytest.approx(1)


@pytest.mark.parametrize(
    ("f1", "ap50", "worse"), [(0.8, 0.7, False), (0.795, 0.7, False), (0.78, 0.9, True), (0.9, 0.68, True)]
)
def test_a_fall_of_more_than_a_hundredth_is_worse(f1, ap50, worse):
    assert BeforeAfter("old", 1, 4, 0.8, f1, 0.7, ap50).is_worse is worse


def test_the_table_is_written_whole(tmp_path):
    write_before_after([BeforeAfter("old", 1, 4, 0.5, 0.25, 1.0, 0.75)], tmp_path / "t.csv")
    names, values = (tmp_path / "t.csv").read_text().splitlines()
    assert names == "data,n_images,n_cells,f1_before,f1_after,ap50_before,ap50_after"
    assert values == "old,1,4,0.5,0.25,1.0,0.75"
