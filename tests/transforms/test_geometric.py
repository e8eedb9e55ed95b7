from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everycell.transforms import geometric, random_window, zoom


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twins(height: int, width: int, layers: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose grey levels are the labels of each layer, so that they can be compared pixel by pixel."""
    numbers = torch.arange(height * width, dtype=torch.int32).view(1, height, width)
    return numbers.expand(3, -1, -1).float(), numbers.expand(layers, -1, -1)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 3), st.integers(0, 2**31))
def test_every_image_pixel_keeps_its_label(height, width, count, seed):
    image, layers = geometric.dihedral(*twins(height, width, count), seeded(seed))
    assert layers.shape == (count, *image.shape[1:])
    assert sorted(image.shape[1:]) == sorted((height, width))
    for layer in layers:
        assert torch.equal(layer.float(), image[0])
    assert sorted(image[0].flatten().tolist()) == list(range(height * width))


def test_the_eight_positions_are_equally_likely():
    image, layers = twins(2, 3)
    seen = Counter(tuple(map(tuple, geometric.dihedral(image, layers, seeded(i))[0][0].tolist())) for i in range(2000))
    assert len(seen) == 8
    assert all(abs(count - 250) < 75 for count in seen.values())  # five standard deviations


@given(st.integers(8, 40), st.integers(8, 40), st.floats(0.3, 4))
def test_zoom_keeps_image_and_layers_together_to_half_a_pixel(height, width, factor):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, rows * 0]).float()  # the image says where each of its pixels comes from
    resized, layers = zoom(image, torch.stack([rows, columns]).int(), factor)
    assert resized.shape[1:] == layers.shape[1:] == (round(height * factor), round(width * factor))
    for axis in (0, 1):
        border = 0 if factor >= 1 else 2  # the average of a shrunk pixel is one-sided at the border
        inner = tuple(slice(border, side - border) for side in resized.shape[1:])
        difference = (resized[axis][inner] - layers[axis][inner]).abs()
        assert difference.numel() == 0 or difference.max() <= 0.5 + 1e-3


def test_zoom_by_hand():
    image = torch.tensor([[0.0, 1.0]]).expand(3, 1, 2)
    layers = torch.tensor([[[0, 5]]], dtype=torch.int32)
    resized, labels = zoom(image, layers, 2)
    torch.testing.assert_close(resized[0], torch.tensor([[0, 0.25, 0.75, 1]] * 2))
    assert labels.tolist() == [[[0, 0, 5, 5]] * 2]
    assert labels.dtype == torch.int32
    assert zoom(image, layers, 1) == (image, layers)
    assert zoom(image, layers, 0.01)[0].shape == (3, 1, 1)


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.1, 80), st.integers(0, 2**31))
def test_window_is_a_square_inside_the_image(height, width, side, seed):
    rows, columns = random_window((height, width), side, seeded(seed))
    for window, limit in ((rows, height), (columns, width)):
        assert 0 <= window.start < window.stop <= limit
        assert window.stop - window.start == min(limit, max(1, round(side)))


def test_windows_reach_every_place_equally():
    starts = Counter(random_window((5, 9), 4, seeded(i))[1].start for i in range(1200))
    assert set(starts) == set(range(6))
    assert all(abs(count - 200) < 65 for count in starts.values())  # five standard deviations


@pytest.mark.parametrize("call", [lambda g: geometric.dihedral(*twins(3, 4), g), lambda g: random_window((9, 9), 3, g)])
def test_global_randomness_is_left_alone(call):
    state = torch.get_rng_state()
    first, second = call(seeded(7)), call(seeded(7))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(first, second, strict=True))
