import numpy as np

from everycell.plot.anchors import plot_coverage


def test_the_share_of_cells_falls_over_iou():
    figure = plot_coverage({"a": {"one": np.array([0.8, 0.2, 0.5, 0.5])}, "b": {"x": np.ones(1), "y": np.zeros(1)}})
    left, right = figure.axes
    x, y = left.lines[0].get_data()
    # At IoU 0.5 three of four cells are still covered, right above it one.
    assert x.tolist() == [0, 0.2, 0.5, 0.5, 0.8, 1]
    assert y.tolist() == [1, 1, 0.75, 0.5, 0.25, 0]
    assert left.lines[0].get_drawstyle() == "steps-pre"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["x", "y"]
