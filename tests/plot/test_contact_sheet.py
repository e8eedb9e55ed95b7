import numpy as np
import pytest
from matplotlib.colors import to_hex

from everycell.plot import SheetPanel, contact_sheet
from everycell.structures import Instances

TRUTH, PRED = "#00d8ff", "#ffb000"


def panel(**fields):
    """An image of 30 by 40 px with true cells at x 2 … 8 and 20 … 26, and one prediction at x 3 … 9."""
    labels = np.zeros((30, 40), int)
    labels[2:8, 2:8], labels[2:8, 20:26] = 1, 2
    found = np.zeros((30, 40), int)
    found[2:8, 3:9] = 1
    pixels = np.arange(30 * 40 * 3, dtype=np.uint32).astype(np.uint8).reshape(30, 40, 3)
    return SheetPanel(pixels, Instances.from_labels(labels), Instances.from_labels(found), **fields)


def outlines(axes):
    """Drawn outlines as (colour, width, corners)."""
    return [
        (
            to_hex(lines.get_color()[0]),
            float(lines.get_linewidth()[0]),
            [tuple(map(tuple, path.vertices)) for path in lines.get_paths()],
        )
        for lines in axes.collections
        if lines.get_paths()
    ]


def test_outlines_of_both_sets_follow_the_pixels():
    [axes] = contact_sheet({"All": [panel(caption="one")]}).axes
    (truth_color, truth_width, truth), (pred_color, pred_width, pred) = outlines(axes)
    assert (truth_color, pred_color) == (TRUTH, PRED)
    assert truth_width > pred_width
    assert [set(ring) for ring in truth] == [
        {(2, 2), (8, 2), (8, 8), (2, 8)},
        {(20, 2), (26, 2), (26, 8), (20, 8)},
    ]
    assert [set(ring) for ring in pred] == [{(3, 2), (9, 2), (9, 8), (3, 8)}]
    assert axes.get_xlabel() == "one"
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 40), (30, 0))


def test_a_window_shows_its_part_and_stresses_what_is_in_focus():
    shown = panel(window=(1, 0, 15, 10), focus_truth=(0,))
    [axes] = contact_sheet({"Part": [shown]}).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), shown.pixels[0:10, 1:15])
    assert axes.images[0].get_extent() == [1, 15, 10, 0]
    (_, stressed, truth), (_, faint, _) = outlines(axes)
    assert len(truth) == 1  # the other true cell lies outside
    alike = outlines(contact_sheet({"Part": [panel(window=(1, 0, 15, 10))]}).axes[0])
    assert (stressed, faint) == (alike[0][1], pytest.approx(0.6 * alike[1][1]))


def test_sections_are_rows_of_equal_squares():
    close = panel(window=(0, 0, 20, 20), caption="a\nb")
    figure = contact_sheet({"Whole": [panel()] * 2, "None": [], "Close": [close] * 5}, title="Sheet", columns=4)
    assert [text.get_text() for text in figure.texts if text.get_text()] == ["Sheet", "Whole", "Close"]
    width, height = figure.get_size_inches()
    places = [axes.get_position(original=True) for axes in figure.axes]
    sides = [(place.width * width, place.height * height) for place in places]
    assert all(w == pytest.approx(h) for w, h in sides)
    assert sides[0][0] > 2 * sides[2][0]  # two whole images in place of four crops
    rows = [round(place.y1, 6) for place in places]
    assert [rows.index(row) for row in rows] == [0, 0, 2, 2, 2, 2, 6]
    assert all(0 <= edge <= 1 for place in places for edge in place.extents)
    for i, a in enumerate(places):
        assert not any(a.overlaps(b) for b in places[:i])


def test_long_captions_are_broken_and_never_overlap():
    caption = "WWWWWW necrotic, other $x$ → " + "fibroblast_" * 6 + "\nIoU 0.50   score 0.80"
    panels = [panel(caption=caption, window=(0, 0, 20, 20)) for _ in range(6)]
    figure = contact_sheet({"Close": panels, "More": panels})
    figure.canvas.draw()
    labels = [axes.xaxis.label for axes in figure.axes]
    extents = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])
    assert labels[0].get_text().replace("\n", "").replace(" ", "") == caption.replace("\n", "").replace(" ", "")


def test_nothing_to_show_is_a_sheet_without_pictures():
    figure = contact_sheet({"None": []})
    figure.canvas.draw()
    assert figure.axes == []


def test_an_image_without_cells_draws():
    nothing = Instances.empty((1, 1))
    figure = contact_sheet({"Dot": [SheetPanel(np.zeros((1, 1, 3), np.uint8), nothing, nothing)]})
    figure.canvas.draw()
    assert outlines(figure.axes[0]) == []
