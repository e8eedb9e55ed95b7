import numpy as np
import pytest
from matplotlib.collections import LineCollection

from everycell.plot import plot_panels
from everycell.plot.panels import scale_bar_um
from everycell.structures import Instances, MaskCrops
from everycell.structures.colors import class_color, instance_colors

BLACK = np.zeros((60, 60, 3), np.uint8)


def cells(mpp=None, names=(), class_ids=(1, 2, 2)):
    """Three squares of 20 px along the diagonal."""
    labels = np.kron(np.diag([1, 2, 3]), np.ones((20, 20), int))
    masks = Instances.from_labels(labels).masks
    classes = np.array(class_ids) if names else np.ones(3, np.int64)
    return Instances.from_masks(masks, (60, 60), class_ids=classes, mpp=mpp, class_names=names)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def outlines(axes):
    """Colour (0 … 255) of each line, and its corners."""
    [lines] = [child for child in axes.collections if isinstance(child, LineCollection)]
    return (lines.get_colors()[:, :3] * 255).round().astype(int).tolist(), lines.get_segments()


def picture(axes):
    return np.asarray(axes.images[0].get_array())


def test_three_titled_panels():
    figure = plot_panels(BLACK, cells(), title="a")
    assert titles(figure) == ["Image", "Instance mask: 3 cells", "Overlay"]
    assert figure.get_suptitle() == "a"
    mask = picture(figure.axes[1])
    assert mask.shape == (60, 60, 3)
    assert (mask[0, 59] == 0).all()
    assert mask[[10, 30, 50], [10, 30, 50]].tolist() == instance_colors(3).tolist()


def test_outlines_run_along_the_edges_of_the_cells():
    colors, rings = outlines(plot_panels(BLACK, cells()).axes[2])
    assert colors == [list(class_color(1))] * 3
    for i, ring in enumerate(rings):
        corners = {(20 * i, 20 * i), (20 * i + 20, 20 * i), (20 * i + 20, 20 * i + 20), (20 * i, 20 * i + 20)}
        assert set(map(tuple, ring)) == corners


def test_colours_stand_for_classes_or_for_cells():
    pixels = np.full((60, 60, 3), (10, 20, 200), np.uint8)  # luma 38
    for by, expected in (
        ("class", [class_color(1), class_color(2), class_color(2)]),
        ("instance", [tuple(color) for color in instance_colors(3).tolist()]),
    ):
        overlay = plot_panels(pixels, cells(names=("stroma", "tumour")), by=by).axes[2]
        assert [tuple(color) for color in outlines(overlay)[0]] == expected
        filled = picture(overlay)[[10, 30, 50], [10, 30, 50]]
        np.testing.assert_allclose(filled, 0.7 * 38 + 0.3 * np.array(expected), atol=0.6)
        assert picture(overlay)[0, 59].tolist() == [38, 38, 38]


def test_scale_bar_only_when_the_scale_is_known():
    assert texts(plot_panels(BLACK, cells())) == []
    figure = plot_panels(BLACK, cells(mpp=0.5))
    assert texts(figure) == ["5 µm"]
    [bar] = figure.axes[0].patches
    assert bar.get_width() * 0.5 == pytest.approx(5)


@pytest.mark.parametrize(("width_um", "bar_um"), [(275, 50), (40, 10), (39, 5), (8000, 2000), (1, 0.2)])
def test_scale_bar_is_a_round_length_within_a_quarter(width_um, bar_um):
    assert scale_bar_um(width_um) == pytest.approx(bar_um)


def legend(figure):
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def test_a_legend_counts_several_classes():
    several = cells(names=("stroma", "tumour"))
    assert legend(plot_panels(BLACK, several)) == ["stroma (1)", "tumour (2)"]
    assert legend(plot_panels(BLACK, several, by="instance")) == []
    assert legend(plot_panels(BLACK, cells())) == []


def test_truth_is_a_fourth_panel_with_the_colours_of_the_same_names():
    truth = cells(names=("tumour", "immune", "stroma"), class_ids=(3, 1, 2))
    figure = plot_panels(BLACK, cells(names=("stroma", "tumour")), truth=truth)
    assert titles(figure) == ["Image", "Instance mask: 3 cells", "Prediction: 3 cells", "Truth: 3 cells"]
    assert legend(figure) == [
        "stroma (1 predicted, 1 true)",
        "tumour (2 predicted, 1 true)",
        "immune (0 predicted, 1 true)",
    ]
    assert outlines(figure.axes[2])[0] == [list(class_color(i)) for i in (1, 2, 2)]
    assert outlines(figure.axes[3])[0] == [list(class_color(i)) for i in (1, 2, 3)]


def test_one_class_is_one_class_by_whatever_name():
    figure = plot_panels(BLACK, cells(names=("nucleus",), class_ids=(1, 1, 1)), truth=cells())
    assert legend(figure) == []
    assert outlines(figure.axes[2])[0] == outlines(figure.axes[3])[0] == [list(class_color(1))] * 3


@pytest.mark.parametrize(
    ("size", "truth", "rows"),
    [((60, 60), False, 1), ((60, 60), True, 2), ((300, 40), True, 1), ((40, 300), False, 3), ((40, 300), True, 4)],
)
def test_panels_lie_where_there_is_room(size, truth, rows):
    found = Instances.empty(size)
    figure = plot_panels(np.zeros((*size, 3), np.uint8), found, truth=found if truth else None, title="a")
    boxes = [axes.get_position() for axes in figure.axes]
    assert len({round(box.y0, 3) for box in boxes}) == rows
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    # No panel is stretched: an image pixel is square.
    width, height = figure.get_size_inches()
    assert boxes[0].width * width / (boxes[0].height * height) == pytest.approx(size[1] / size[0])


def test_an_image_pixel_is_a_whole_number_of_pixels_in_the_figure():
    figure = plot_panels(BLACK, cells())
    inches = figure.axes[0].get_position().width * figure.get_figwidth()
    assert inches * figure.dpi == pytest.approx(16 * 60)  # 960 px are aimed at


def test_lines_are_thinner_where_cells_are_smaller():
    widths = []
    for side in (2, 12, 60):
        masks = MaskCrops.from_crops(np.array([[0, 0]]), [np.ones((side, side), bool)])
        size = (400, 400)
        figure = plot_panels(np.zeros((*size, 3), np.uint8), Instances.from_masks(masks, size))
        [width_pt] = figure.axes[2].collections[0].get_linewidths()
        widths.append(width_pt * figure.dpi / 72)
    assert widths == pytest.approx([0.9, 0.06 * 2 * 12 / np.pi**0.5 * 2, 2.4])


@pytest.mark.parametrize("size", [(1, 1), (10, 300)])
def test_no_cells_and_odd_sizes_draw(size):
    figure = plot_panels(np.zeros((*size, 3), np.uint8), Instances.empty(size, mpp=1.0))
    figure.canvas.draw()
    assert titles(figure)[1] == "Instance mask: 0 cells"
