import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import regionprops

from everycell.structures import MaskCrops
from everycell.structures.runs import row_runs

crops = st.lists(
    st.tuples(
        st.integers(0, 40), st.integers(0, 40), hnp.arrays(np.bool_, st.tuples(st.integers(0, 5), st.integers(0, 6)))
    ),
    max_size=5,
)


def test_runs_by_hand():
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], np.bool_)
    runs = row_runs(MaskCrops.from_crops(np.array([[10, 20], [3, 4]]), [mask, np.ones((1, 1), np.bool_)]))
    assert runs.cell.tolist() == [0, 0, 0, 1]
    assert runs.y.tolist() == [20, 20, 22, 4]
    assert runs.x0.tolist() == [10, 13, 10, 3]
    assert runs.x1.tolist() == [12, 14, 14, 4]
    assert runs.areas().tolist() == [7, 1]
    assert runs.centroids().tolist() == [[(10 + 11 + 13 + 10 + 11 + 12 + 13) / 7, (3 * 20 + 4 * 22) / 7], [3, 4]]


@given(crops)
def test_runs_hold_every_pixel_once(drawn):
    masks = MaskCrops.from_crops(np.array([place for *place, _ in drawn]).reshape(-1, 2), [bits for *_, bits in drawn])
    runs = row_runs(masks)
    found = np.zeros((len(drawn), 50, 50), np.int64)
    for cell, y, x0, x1 in zip(runs.cell, runs.y, runs.x0, runs.x1, strict=True):
        found[cell, y, x0:x1] += 1
    expected = np.zeros_like(found)
    for image, (rows, columns, bits) in zip(expected, masks, strict=True):
        image[rows, columns] = bits
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(runs.areas(), masks.areas())
    order = np.lexsort((runs.x0, runs.y, runs.cell))
    assert order.tolist() == list(range(len(order)))
    same_row = (np.diff(runs.cell) == 0) & (np.diff(runs.y) == 0)
    assert (runs.x0[1:] > runs.x1[:-1])[same_row].all()
    np.testing.assert_array_equal(np.isnan(runs.centroids()[:, 0]), masks.areas() == 0)


def test_centroids_equal_scipy_and_skimage():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 9, (6, 6)), np.ones((5, 7), np.int64))
    labels[rng.random(labels.shape) < 0.3] = 0
    masks, values = MaskCrops.from_labels(labels)
    found = row_runs(masks).centroids()[:, ::-1]
    np.testing.assert_allclose(found, ndimage.center_of_mass(labels > 0, labels, values))
    np.testing.assert_allclose(found, [region.centroid for region in regionprops(labels)])
