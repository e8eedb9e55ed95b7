import numpy as np
import pytest

from everycell.plot import plot_panels
from everycell.plot.panels import scale_bar_um
from everycell.structures import Instances


def cells(mpp=None, names=()):
    labels = np.kron(np.diag([1, 2, 3]), np.ones((20, 20), int))
    found = Instances.from_labels(labels, mpp=mpp)
    class_ids = np.array([1, 2, 2]) if names else np.ones(3, np.int64)
    return Instances.from_masks(found.masks, (60, 60), class_ids=class_ids, mpp=mpp, class_names=names)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_three_titled_panels():
    figure = plot_panels(np.zeros((60, 60, 3), np.uint8), cells(), title="a")
    assert [axes.get_title() for axes in figure.axes] == ["Image", "Instance mask: 3 cells", "Overlay"]
    assert figure.get_suptitle() == "a"
    mask = figure.axes[1].images[0].get_array()
    assert mask.shape == (60, 60, 3)
    assert (mask[0, 59] == 0).all()
    assert len({tuple(mask[i, i]) for i in (10, 30, 50)}) == 3


def test_scale_bar_only_when_the_scale_is_known():
    pixels = np.zeros((60, 60, 3), np.uint8)
    assert texts(plot_panels(pixels, cells())) == []
    figure = plot_panels(pixels, cells(mpp=0.5))
    assert texts(figure) == ["5 µm"]
    [bar] = figure.axes[0].patches
    assert bar.get_width() * 0.5 == pytest.approx(5)


@pytest.mark.parametrize(("width_um", "bar_um"), [(275, 50), (40, 10), (39, 5), (8000, 2000), (1, 0.2)])
def test_scale_bar_is_a_round_length_within_a_quarter(width_um, bar_um):
    assert scale_bar_um(width_um) == pytest.approx(bar_um)


def test_a_legend_counts_several_classes():
    pixels = np.zeros((60, 60, 3), np.uint8)
    [legend] = plot_panels(pixels, cells(names=("stroma", "tumour"))).legends
    assert [text.get_text() for text in legend.get_texts()] == ["stroma (1)", "tumour (2)"]
    assert plot_panels(pixels, cells()).legends == []


@pytest.mark.parametrize("size", [(1, 1), (10, 300)])
def test_no_cells_and_odd_sizes_draw(size):
    figure = plot_panels(np.zeros((*size, 3), np.uint8), Instances.empty(size, mpp=1.0))
    figure.canvas.draw()
    assert figure.axes[1].get_title() == "Instance mask: 0 cells"
