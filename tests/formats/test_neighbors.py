import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from everycell.formats import Neighborhood, add_neighbors


def table(points):
    return pd.DataFrame(np.asarray(points, float).reshape(-1, 2), columns=["centroid_x_px", "centroid_y_px"])


def test_counts_and_densities_by_hand():
    # In a row, 10 px apart; the disc of 20 px lies inside the image only around the third cell.
    cells = table([[79.5, 99.5], [89.5, 99.5], [99.5, 99.5], [119.5, 99.5], [np.nan, np.nan]])
    found = add_neighbors(cells, (200, 200), neighborhood=Neighborhood(radius_px=20))
    assert found["neighbors_20px"].tolist() == [2, 2, 3, 1, 0]
    np.testing.assert_allclose(found["density_20px_per_px2"][:4] * np.pi * 400, [3, 3, 4, 2])
    assert np.isnan(found["density_20px_per_px2"][4])


def test_um_are_told_in_the_names_and_set_the_radius():
    # 0.5 µm/px: 50 µm are 100 px. The whole image, 100 × 200 µm, is within the disc but for its far corners.
    found = add_neighbors(table([[199.5, 99.5], [299, 99.5], [300, 99.5]]), (200, 400), 0.5)
    assert found["neighbors_50um"].tolist() == [1, 2, 1]
    assert found["density_50um_per_mm2"][0] == pytest.approx(2 / (np.pi * 0.05**2))


def test_a_disc_at_the_edge_counts_only_what_is_inside():
    corner, edge = add_neighbors(table([[-0.5, -0.5], [-0.5, 499.5]]), (1000, 1000))["density_100px_per_px2"]
    assert corner == pytest.approx(4 / (np.pi * 100**2))
    assert edge == pytest.approx(2 / (np.pi * 100**2))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.floats(0.6, 200),
)
def test_agreement_with_shapely(places, size, radius):
    height, width = size
    points = np.array(places) * [width, height]
    found = add_neighbors(table(points - 0.5), size, neighborhood=Neighborhood(radius_px=radius))
    count, density = (found.iloc[:, -2].to_numpy(), found.iloc[:, -1].to_numpy())
    near = np.linalg.norm(points[:, None] - points, axis=2) <= radius
    np.testing.assert_array_equal(count, near.sum(axis=1) - 1)
    discs = shapely.buffer(shapely.points(points), radius, quad_segs=300)
    area = shapely.area(shapely.intersection(discs, shapely.box(0, 0, width, height)))
    np.testing.assert_allclose((count + 1) / density, area, rtol=1e-4)


def test_no_cells():
    found = add_neighbors(table([]), (5, 5), 0.25)
    assert list(found.columns[2:]) == ["neighbors_50um", "density_50um_per_mm2"]
    assert len(found) == 0
