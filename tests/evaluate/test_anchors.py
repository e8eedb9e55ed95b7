from dataclasses import fields

import numpy as np
import pytest

from everycell.config import ModelSettings
from everycell.evaluate.anchors import Coverage, Recall, fit_anchors, recall_by_size, size_groups
from everycell.models.anchors import TrueBoxes
from everycell.predict.proposals import STEPS

SMALL, LARGE = (8, 16, 32, 64, 128), (32, 64, 128, 256, 512)


def test_coverage_by_hand():
    coverage = Coverage.of(np.array([0.1, 0.5, 0.7, 0.9]), np.array([False, True, True, True]))
    assert coverage == Coverage(4, 0.75, 0.5, pytest.approx(0.55), best_anchor_only=2, never_taught=1)


def test_sizes_belong_to_the_octave_they_begin():
    groups = size_groups(np.array([7.9, 8, 15.9, 16, 200]))
    assert {label: np.flatnonzero(chosen).tolist() for label, chosen in groups.items()} == {
        "<8": [0],
        "8–16": [1, 2],
        "16–32": [3],
        "≥128": [4],
    }


class TestFit:
    # Twice 16 px, once 64 px; at half the scale they are squares of 8 and 32 px around places of the grid.
    TRUTHS = (
        TrueBoxes((512, 512), np.array([[16.0, 16, 32, 32], [128, 128, 192, 192]])),
        TrueBoxes((512, 512), np.array([[48.0, 16, 64, 32]])),
    )

    def test_each_set_once_and_the_suggested_last(self):
        settings = {
            "a": ModelSettings(anchor_sizes=LARGE, magnification=0.5),
            "b": ModelSettings(anchor_sizes=SMALL, magnification=0.5),
            "c": ModelSettings(anchor_sizes=LARGE, magnification=0.5),
        }
        fits = fit_anchors(self.TRUTHS, settings)
        # The small set fits every cell exactly, so that it is what is suggested.
        assert [(fit.names, fit.anchor_sizes) for fit in fits] == [(("a", "c"), LARGE), (("b", "suggested"), SMALL)]
        assert fits[1].overall == Coverage(3, 1, 1, 1, 0, 0)
        # A 32 px square around (8, 8) holds the 8 px cell: IoU 1 / 16; the flat and the upright one: 64 / (46 · 22).
        assert fits[0].ious.tolist() == pytest.approx([64 / (46 * 22), 1, 64 / (46 * 22)])
        assert fits[0].by_size["16–32"].covered_50 == 0
        assert fits[0].by_size["64–128"] == Coverage(1, 1, 1, 1, 0, 0)

    def test_whole_images_are_measured_at_their_resized_scale(self):
        fits = fit_anchors(self.TRUTHS, {"whole": ModelSettings(anchor_sizes=SMALL, resize_short_px=256)})
        assert fits[0].overall.mean_best_iou == 1


def test_recall_by_hand():
    covered = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 0]], bool)
    found = recall_by_size(np.array([10.0, 12, 20, 20]), covered)
    assert found == {
        "all": Recall(4, 1, 0.75, 0.5, 0.25),
        "8–16": Recall(2, 1, 1, 0.5, 0),
        "16–32": Recall(2, 1, 0.5, 0.5, 0.5),
    }
    assert tuple(field.name for field in fields(Recall)) == ("n_cells", *STEPS)
