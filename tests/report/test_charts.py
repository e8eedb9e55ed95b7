import pytest

from everycell.report.charts import line_chart

NAN = float("nan")


def test_values_lie_between_the_ticks():
    chart = line_chart("loss", [1, 2, 3], {"a": [0.0, 0.5, 1.0]})
    ticks = {text: y for y, text in chart.y_ticks}
    assert ticks["0"] == chart.bottom
    assert ticks["1"] == chart.top
    assert [(p.x, p.y) for p in chart.lines["a"]] == [
        (chart.left, chart.bottom),
        ((chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2),
        (chart.right, chart.top),
    ]
    assert [text for _, text in chart.x_ticks] == ["1", "2", "3"]


def test_unknown_values_are_left_out():
    chart = line_chart("AP", [1, 2, 3, 4], {"a": [NAN, 0.25, NAN, 0.5], "b": [NAN] * 4})
    assert [(p.at, p.value) for p in chart.lines["a"]] == [(2, 0.25), (4, 0.5)]
    assert chart.lines["b"] == ()


def test_one_epoch_lies_in_the_middle():
    chart = line_chart("loss", [1], {"a": [3.0]}, best=1)
    [point] = chart.lines["a"]
    middle = (chart.left + chart.right) / 2
    assert point.x == middle
    assert chart.guides == ((middle, chart.top, middle, chart.bottom),)
    assert [text for _, text in chart.x_ticks] == ["1"]


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [NAN, NAN]])
def test_nothing_to_draw_still_has_axes(values):
    chart = line_chart("loss", list(range(1, len(values) + 1)), {"a": values})
    assert chart.y_ticks[0] == (chart.bottom, "0")
    assert chart.y_ticks[-1] == (chart.top, "1")


def test_a_common_scale():
    chart = line_chart("AP", [1, 2], {"a": [0.1, 0.2]}, y_max=0.8)
    assert chart.y_ticks[-1] == (chart.top, "0.8")
    assert chart.lines["a"][1].y == pytest.approx(chart.bottom - (chart.bottom - chart.top) / 4, abs=0.1)


def test_a_diagonal_runs_from_corner_to_corner():
    chart = line_chart("precision", [0.25, 0.75], {"a": [0.5, 1.0]}, diagonal=True, y_max=1)
    assert chart.guides == ((chart.left, chart.bottom, chart.right, chart.top),)
    assert [text for _, text in chart.x_ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert chart.lines["a"][0].x == pytest.approx(chart.left + (chart.right - chart.left) / 4)


def test_ticks_between_whole_numbers():
    chart = line_chart("F1", [0.5, 0.55, 0.95], {"a": [1, 1, 0]}, x_name="IoU")
    assert [text for _, text in chart.x_ticks] == ["0.5", "0.6", "0.7", "0.8", "0.9"]
