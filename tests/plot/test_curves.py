import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from everycell.plot import plot_curves

ROWS = [
    {"epoch": 1, "train_loss": 2.0, "val_loss": 2.5, "val_map": None, "val_ap50": None, "lr": 0.1},
    {"epoch": 2, "train_loss": 1.0, "val_loss": 1.5, "val_map": 0.4, "val_ap50": 0.7, "lr": 0.1},
    {"epoch": 3, "train_loss": 0.5, "val_loss": 1.6, "val_map": 0.3, "val_ap50": 0.6, "lr": 0.1},
]


@pytest.mark.parametrize("history", [ROWS, pd.DataFrame(ROWS)])
def test_curves_hold_the_history(history):
    losses, precision = plot_curves(history).axes
    lines = {line.get_label(): line for line in [*losses.lines, *precision.lines]}
    assert lines["training"].get_ydata().tolist() == [2.0, 1.0, 0.5]
    assert lines["validation"].get_ydata().tolist() == [2.5, 1.5, 1.6]
    assert lines["AP at IoU 0.5"].get_xdata().tolist() == [2, 3]
    assert same_color(lines["training"].get_color(), "tab:blue")
    assert same_color(lines["validation"].get_color(), "tab:orange")
    assert precision.get_title() == "Validation AP: best mAP 0.400 in epoch 2"


@pytest.mark.parametrize(
    "history", [[], [{"epoch": 1, "train_loss": 1.0}], [{"epoch": 1, "train_loss": np.nan, "val_map": None}]]
)
def test_a_run_that_has_just_begun_draws(history):
    figure = plot_curves(history)
    figure.canvas.draw()
    assert len(figure.axes) == 2
