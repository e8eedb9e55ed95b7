import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from everycell.errors import DataError
from everycell.structures import MaskCrops
from everycell.structures.rle import decode, encode


def paste(masks, size):
    full = np.zeros((len(masks), *size), np.uint8)
    for image, (rows, columns, bits) in zip(full, masks, strict=True):
        image[rows, columns] = bits
    return full


def by_pycocotools(masks, size):
    return [coco.encode(np.asfortranarray(full))["counts"].decode() for full in paste(masks, size)]


@st.composite
def masks_on_images(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    origins, crops = [], []
    for _ in range(draw(st.integers(0, 4))):
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        h, w = draw(st.integers(0, height - y0)), draw(st.integers(0, width - x0))
        origins.append((x0, y0))
        crops.append(rng.random((h, w)) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])))
    return MaskCrops.from_crops(np.array(origins).reshape(-1, 2), crops), (height, width)


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_single_pixels_full_masks_and_windows_at_the_edges(height, width, data):
    x0, y0 = data.draw(st.sampled_from([0, width - 1])), data.draw(st.sampled_from([0, height - 1]))
    x1, y1 = data.draw(st.sampled_from([x0 + 1, width])), data.draw(st.sampled_from([y0 + 1, height]))
    filled = np.full((y1 - y0, x1 - x0), data.draw(st.booleans()))
    masks = MaskCrops.from_crops(np.array([[x0, y0], [0, 0]]), [filled, np.ones((height, width), np.bool_)])
    assert encode(masks, (height, width)) == by_pycocotools(masks, (height, width))


@given(masks_on_images())
def test_uncompressed_counts_decode_to_the_same_masks(case):
    masks, size = case
    for full, code in zip(paste(masks, size), encode(masks, size), strict=True):
        line = full.ravel(order="F")
        counts = np.diff(np.flatnonzero(np.diff(line, prepend=0, append=2)), prepend=0).tolist()
        found, expected = decode(counts, size), decode(code, size)
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("counts", [[], [1, -1, 6], [1.0, 5], [True, 5], ["1", 5], [2**63, 1]])
def test_broken_uncompressed_counts_are_a_data_error(counts):
    with pytest.raises(DataError, match="uncompressed RLE counts must be whole numbers"):
        decode(counts, (3, 2))


def test_uncompressed_counts_of_another_image():
    with pytest.raises(DataError, match=r"add up to 3 x 2 = 6 pixels, got 5"):
        decode([1, 4], (3, 2))


@given(masks_on_images())
def test_codes_equal_pycocotools_and_decode_to_the_same_masks(case):
    masks, size = case
    codes = encode(masks, size)
    assert codes == by_pycocotools(masks, size)
    pairs = [decode(code, size) for code in codes]
    decoded = MaskCrops.from_crops(np.array([origin for origin, _ in pairs]), [crop for _, crop in pairs])
    np.testing.assert_array_equal(paste(decoded, size), paste(masks, size))
    for i in range(len(decoded)):
        crop = decoded.crop(i)
        assert crop.size == 0 or (crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any())


def test_counts_by_hand():
    # Column-major on 3 x 2: pixel (row 1, column 0) is number 1, so 1 background, 1 cell, 4 background: "114".
    masks = MaskCrops.from_crops(np.array([[0, 1]]), [np.ones((1, 1), bool)])
    assert encode(masks, (3, 2)) == ["114"]
    origin, crop = decode("114", (3, 2))
    assert origin == (0, 1)
    np.testing.assert_array_equal(crop, [[True]])


@pytest.mark.parametrize(
    ("origin", "shape"),
    [
        ((0, 0), (1, 1)),
        ((99, 69), (1, 1)),
        ((0, 0), (70, 100)),
        ((20, 0), (70, 5)),
        ((0, 30), (1, 100)),
        ((5, 5), (0, 0)),
    ],
)
def test_corners_full_columns_whole_image_and_nothing(origin, shape):
    masks = MaskCrops.from_crops(np.array([origin]), [np.ones(shape, bool)])
    assert encode(masks, (70, 100)) == by_pycocotools(masks, (70, 100))


def test_a_mask_on_a_very_large_image_needs_no_large_array():
    masks = MaskCrops.from_crops(np.array([[190_000, 150_000]]), [np.ones((3, 2), bool)])
    [code] = encode(masks, (200_000, 200_000))
    origin, crop = decode(code, (200_000, 200_000))
    assert origin == (190_000, 150_000)
    np.testing.assert_array_equal(crop, np.ones((3, 2), bool))


def test_no_masks():
    assert encode(MaskCrops.empty(), (5, 5)) == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("113", r"add up to 3 x 2 = 6 pixels, got 5"),
        ("", "not a compressed COCO RLE"),
        ("11 4", "not a compressed COCO RLE"),
        ("11é", "not a compressed COCO RLE"),
        ("11€", "not a compressed COCO RLE"),
        ("11T", "not a compressed COCO RLE"),
        ("o" * 20 + "0", "number above"),
        ("1N6", "negative run length"),
    ],
)
def test_a_broken_code_is_a_data_error(code, says):
    with pytest.raises(DataError, match=says):
        decode(code, (3, 2))


@given(st.text(max_size=30))
def test_any_text_decodes_or_is_a_data_error(text):
    try:
        _, crop = decode(text, (4, 3))
    except DataError:
        return
    assert crop.shape[0] <= 4
    assert crop.shape[1] <= 3
