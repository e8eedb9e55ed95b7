from itertools import product

import numpy as np
import pytest
import torch

from everycell.predict.views import ONE_VIEW, VIEWS, View


@pytest.mark.parametrize(("flip", "turns"), list(product((False, True), range(4))))
def test_what_a_view_shows_is_taken_back(flip, turns):
    """A cell of its own shape in a corner of an oblong image: its box and mask come back where they were."""
    view = View(1.0, flip, turns)
    image = torch.zeros(3, 20, 30)
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    image[:, 2:6, 5:9] = mask
    shown = view.show(image)
    y, x = np.nonzero(shown[0].numpy())
    # The box of the 4 by 4 window, found by the corner that the mask leaves free.
    window = view.show(torch.nn.functional.pad(torch.ones(1, 4, 4), (5, 21, 2, 14)))[0].nonzero()
    (y0, x0), (y1, x1) = window.min(0).values.tolist(), (window.max(0).values + 1).tolist()
    assert y0 <= y.min() <= y.max() < y1
    assert x0 <= x.min() <= x.max() < x1
    boxes, masks, size = view.undo(
        torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32), shown[None, :1, y0:y1, x0:x1], shown
    )
    assert size == (20, 30)
    assert boxes.tolist() == [[5, 2, 9, 6]]
    assert torch.equal(masks[0, 0], mask)


def test_the_eight_views_differ():
    image = torch.arange(48.0).reshape(3, 4, 4)
    shown = {view.show(image).numpy().tobytes() for view in VIEWS["turns"]}
    assert len(shown) == 8


def test_a_scaled_view_keeps_its_scale():
    shown = View(1.5, True, 1).show(torch.zeros(3, 20, 30))
    assert shown.shape == (3, 45, 30)
    *_, size = View(1.5, True, 1).undo(torch.zeros(0, 4), torch.zeros(0, 1, 4, 4), shown)
    assert size == (30, 45)


def test_every_set_holds_the_plain_view():
    assert all(View() in views for views in VIEWS.values())
    assert VIEWS["none"] == ONE_VIEW
    assert len(VIEWS["all"]) == 24
