import numpy as np
import pytest

from everycell.evaluate import Evaluator, worst_sheet
from everycell.structures import Instances, MaskCrops

SIZE = (80, 120)


def cells(*boxes, scores=None, class_ids=None):
    crops = [np.ones((y1 - y0, x1 - x0), np.bool_) for x0, y0, x1, y1 in boxes]
    masks = MaskCrops.from_crops(np.array(boxes).reshape(-1, 4)[:, :2], crops)
    return Instances.from_masks(
        masks,
        SIZE,
        scores=None if scores is None else np.array(scores, np.float32),
        class_ids=None if class_ids is None else np.array(class_ids),
    )


@pytest.fixture
def evaluator():
    found = Evaluator(["round", "long"])
    truth = cells((0, 0, 8, 8), (20, 0, 40, 20), (60, 0, 64, 4), (60, 40, 70, 50), (70, 40, 80, 50))
    pred = cells(
        (0, 0, 8, 8),
        (60, 40, 80, 50),
        (0, 60, 6, 66),
        (100, 60, 106, 66),
        scores=[0.9, 0.8, 0.6, 0.7],
        class_ids=[2, 1, 1, 2],
    )
    found.add("bad", truth, pred)
    found.add("good", truth, truth)
    found.add("empty", cells(), cells())
    return found


def headings(figure):
    return [text.get_text() for text in figure.texts if text.get_text()]


def captions(figure):
    return [axes.get_xlabel() for axes in figure.axes]


def test_images_then_cells_of_each_category_worst_first(evaluator):
    read = []

    def read_pixels(name):
        read.append(name)
        return np.zeros((*SIZE, 3), np.uint8)

    figure = worst_sheet(evaluator.images, read_pixels, title="a run")
    assert headings(figure) == [
        "a run",
        "Worst images: lowest PQ",
        "Missed: largest first",
        "Spurious: surest first",
        "Merged: lowest IoU first",
        "Wrong class: surest first",
    ]
    shown = captions(figure)
    assert [caption.split("\n")[0] for caption in shown] == ["bad", "good", *["bad"] * 6]
    assert shown[0].endswith("PQ 0.22   F1 0.22   5 true, 4 predicted")
    assert shown[2:] == [
        "bad\nround\nbest IoU 0.00",  # 20 px wide, before the one of 4 px
        "bad\nround\nbest IoU 0.00",
        "bad\nlong\nbest IoU 0.00   score 0.70",
        "bad\nround\nbest IoU 0.00   score 0.60",
        "bad\nround → round\nIoU 0.50   score 0.80",  # two true cells, one picture
        "bad\nround → long\nIoU 1.00   score 0.90",
    ]
    largest, smallest = figure.axes[2:4]
    assert sorted(largest.get_xlim()) == [10, 50]  # twice the cell's width around it
    assert sorted(smallest.get_xlim()) == [42, 82]  # at least 40 px
    assert sorted(smallest.get_ylim()) == [0, 40]  # moved into the image
    assert sorted(read) == ["bad", "good"]


def test_numbers_of_pictures_are_as_asked_for(evaluator):
    def read_pixels(name):
        return np.zeros((*SIZE, 3), np.uint8)

    assert len(worst_sheet(evaluator.images, read_pixels, n_images=1, n_cells=0).axes) == 1
    assert len(worst_sheet(evaluator.images, read_pixels, n_images=0, n_cells=1).axes) == 4
    assert worst_sheet([], read_pixels).axes == []


def test_long_names_are_cut():
    evaluator = Evaluator(["cell"])
    evaluator.add("x" * 90, cells((0, 0, 8, 8)), cells())
    figure = worst_sheet(evaluator.images, lambda _: np.zeros((*SIZE, 3), np.uint8))
    assert captions(figure)[1] == "x" * 27 + "…\nbest IoU 0.00"
