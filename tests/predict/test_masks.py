import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from everycell.models.roi_heads import mask_targets
from everycell.predict.masks import masks_to_crops
from everycell.structures import MaskCrops

SIZE = (40, 56)


def paste(masks: MaskCrops, size: tuple[int, int]) -> np.ndarray:
    full = np.zeros((len(masks), *size), bool)
    for image, (rows, columns, bits) in zip(full, masks, strict=True):
        image[rows, columns] = bits
    return full


def random_masks(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Smooth blobs with edges at many places, and noise."""
    rows, columns = np.mgrid[:size, :size] / size
    centres, radii = rng.uniform(0.2, 0.8, (count, 2, 1, 1)), rng.uniform(0.1, 0.6, (count, 1, 1))
    distance = np.hypot(rows - centres[:, 0], columns - centres[:, 1])
    return (1 / (1 + np.exp(9 * (distance - radii))) * rng.uniform(0.7, 1, distance.shape)).astype(np.float32)


@given(st.integers(0, 2**31), st.sampled_from([14, 28]), st.sampled_from([0.02, 3.0, 40.0]))
def test_without_alignment_the_pixels_are_torchvisions(seed, size, largest):
    rng = np.random.default_rng(seed)
    probabilities = random_masks(rng, 6, size)
    # Corners in the image or up to 6 px beyond it, boxes from a fiftieth of a pixel to the whole image.
    centre = rng.uniform(0, 1, (6, 2)) * SIZE[::-1]
    half = rng.uniform(0, largest, (6, 2)) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1).clip(-6, [SIZE[1] + 6, SIZE[0] + 6] * 2)
    boxes = boxes.astype(np.float32)
    crops = masks_to_crops(probabilities, boxes, SIZE, aligned=False)
    pasted = paste_masks_in_image(torch.from_numpy(probabilities)[:, None], torch.from_numpy(boxes), SIZE)[:, 0].numpy()
    clear = np.abs(pasted - 0.5) > 1e-6  # at exactly a half, the last bit decides
    np.testing.assert_array_equal(paste(crops, SIZE)[clear], pasted[clear] > 0.5)


@given(st.floats(8, 14), st.floats(18, 22), st.floats(18, 22), st.lists(st.floats(-0.3, 0.3), min_size=4, max_size=4))
def test_a_disc_comes_back_where_it_was(radius, x, y, jitter):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    disc = np.hypot(rows - y, columns - x) < radius
    boxes = (np.array([x - radius, y - radius, x + radius, y + radius]) + jitter).astype(np.float32)[None]
    layers = torch.from_numpy(disc.astype(np.int32) * 7)[None]
    truth = mask_targets(
        layers,
        torch.zeros(1, dtype=torch.int64),
        torch.full((1,), 7, dtype=torch.int32),
        torch.from_numpy(boxes),
        28,
        aligned=True,
    )
    [back] = paste(masks_to_crops(truth.numpy(), boxes, SIZE, aligned=True), SIZE)
    assert (back & disc).sum() / (back | disc).sum() > 0.95


@given(st.integers(0, 2**31), st.booleans())
def test_crops_lie_inside_the_image(seed, aligned):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-20, 70, (5, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    crops = masks_to_crops(np.ones((5, 28, 28), np.float32), boxes, SIZE, aligned=aligned)
    assert len(crops) == 5
    assert ((crops.boxes >= 0) & (crops.boxes <= [SIZE[1], SIZE[0]] * 2)).all()
    if aligned:  # a full mask gives exactly the pixels whose centre lies in the box
        centres_y, centres_x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
        for full, (x0, y0, x1, y1) in zip(paste(crops, SIZE), boxes, strict=True):
            inside = (x0 <= centres_x) & (centres_x < x1) & (y0 <= centres_y) & (centres_y < y1)
            np.testing.assert_array_equal(full, inside)


def test_halves_by_hand():
    mask = np.array([[[0.0, 1.0], [0.0, 1.0]]], np.float32)
    crops = masks_to_crops(mask, np.array([[2, 1, 6, 3]], np.float32), (5, 8), aligned=True)
    # The cells' centres are at x = 3 and 5; halfway, at x = 4, the probability passes 0.5.
    assert crops.boxes.tolist() == [[2, 1, 6, 3]]
    assert crops.crop(0).astype(int).tolist() == [[0, 0, 1, 1]] * 2


@pytest.mark.parametrize("aligned", [False, True])
def test_no_cells_and_a_box_without_a_pixel(aligned):
    nothing = masks_to_crops(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), SIZE, aligned=aligned)
    assert len(nothing) == 0
    thin = np.array([[3.6, 3.6, 3.8, 3.8]], np.float32)
    crops = masks_to_crops(np.ones((1, 28, 28), np.float32), thin, SIZE, aligned=aligned)
    # The aligned box holds no pixel centre; torchvision's rule gives every box at least one pixel.
    assert crops.areas().tolist() == [0 if aligned else 1]
