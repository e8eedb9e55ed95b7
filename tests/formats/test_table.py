import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.draw import ellipse
from skimage.measure import regionprops

from everycell.errors import OutputError
from everycell.formats import Neighborhood, TableWriter, add_neighbors, measure, write_table
from everycell.structures import Instances, MaskCrops


def blobs():
    """Ellipses, a line, a corner, a single pixel, and noise in several parts."""
    labels = np.zeros((120, 150), np.int32)
    for value, (y, x, a, b, turn) in enumerate([(30, 40, 12, 20, 0.3), (80, 100, 9, 25, 1.2), (85, 30, 15, 15, 0)], 1):
        rows, columns = ellipse(y, x, a, b, rotation=turn)
        labels[rows, columns] = value
    labels[5, 100:120] = 4
    labels[0, 0] = 5
    labels[60:63, 140] = labels[60, 140:149] = 6
    labels[100:118, 130:148] = 7 * (np.random.default_rng(0).random((18, 18)) < 0.3)
    return labels


def test_values_equal_regionprops():
    labels = blobs()
    pixels = np.random.default_rng(1).integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    table = measure(Instances.from_labels(labels), pixels)
    regions = regionprops(labels, pixels)
    expected = {
        "centroid_x_px": [r.centroid[1] for r in regions],
        "centroid_y_px": [r.centroid[0] for r in regions],
        "area_px": [r.area for r in regions],
        "perimeter_px": [r.perimeter for r in regions],
        "major_axis_px": [r.axis_major_length for r in regions],
        "minor_axis_px": [r.axis_minor_length for r in regions],
        "equivalent_diameter_px": [r.equivalent_diameter_area for r in regions],
        "eccentricity": [r.eccentricity for r in regions],
        "solidity": [r.solidity for r in regions],
        "y0": [r.bbox[0] for r in regions],
        "x1": [r.bbox[3] for r in regions],
        "mean_red": [r.intensity_mean[0] for r in regions],
        "mean_blue": [r.intensity_mean[2] for r in regions],
        "std_green": [r.intensity_std[1] for r in regions],
    }
    for column, values in expected.items():
        np.testing.assert_allclose(table[column], values, rtol=1e-6, atol=1e-6, err_msg=column)
    assert table["cell"].tolist() == [1, 2, 3, 4, 5, 6, 7]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_shapes_equal_regionprops_whatever_the_mask(seed):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.random(rng.integers(1, 25, 2)), rng.random() * 3)
    labels = (smooth >= np.quantile(smooth, rng.random())).astype(int)
    [region] = regionprops(labels)
    [row] = measure(Instances.from_labels(labels), np.zeros((*labels.shape, 3), np.uint8)).to_dict("records")
    assert row["perimeter_px"] == pytest.approx(region.perimeter)
    assert row["solidity"] == pytest.approx(region.solidity)
    assert row["eccentricity"] == pytest.approx(region.eccentricity, abs=1e-6)


class Windows:
    """An image that hands out windows, and remembers how large they were."""

    def __init__(self, pixels):
        self.pixels, self.sizes = pixels, []

    def read(self, window):
        x0, y0, x1, y1 = window
        self.sizes.append((y1 - y0, x1 - x0))
        return self.pixels[y0:y1, x0:x1]


def test_an_image_read_in_windows_gives_the_same_table():
    rng = np.random.default_rng(0)
    n = 200
    origins = np.stack([rng.integers(0, 3000, n), rng.integers(0, 1500, n)], axis=1)
    crops = [rng.random(rng.integers(1, 30, 2)) < 0.8 for _ in range(n - 1)] + [np.zeros((0, 0), bool)]
    cells = Instances.from_masks(MaskCrops.from_crops(origins, crops), (1600, 3100))
    source = Windows(rng.integers(0, 256, (1600, 3100, 3), dtype=np.uint8))
    pd.testing.assert_frame_equal(measure(cells, source), measure(cells, source.pixels))
    assert len(source.sizes) == 6  # 2 × 3 blocks
    assert max(max(size) for size in source.sizes) < 1024 + 30


def test_batches_are_rows_of_the_whole_table_with_neighbours_over_all(tmp_path):
    cells = Instances.from_labels(blobs(), mpp=0.25)
    pixels = np.random.default_rng(1).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    whole = measure(cells, pixels, image="a")
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        with TableWriter(path, cells.image_size, cells.mpp, Neighborhood(radius_um=10)) as writer:
            for rows in (slice(0, 3), slice(3, 3), slice(3, 7)):
                batch = cells.select(np.arange(7)[rows])
                writer.write(batch, measure(batch, pixels, image="a", first_cell=rows.start + 1))
    expected = add_neighbors(whole, cells.image_size, cells.mpp, Neighborhood(radius_um=10))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), expected)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), expected, check_dtype=False, rtol=1e-5)
    with pyarrow.parquet.ParquetFile(tmp_path / "a.parquet") as file:
        assert file.num_row_groups == 1
        assert file.schema_arrow.names == list(expected.columns)


def test_an_unknown_suffix_is_an_output_error_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"\.csv or \.parquet, got \.xls"), TableWriter(tmp_path / "a.xls", (5, 5)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_um_columns_by_hand():
    cells = Instances.from_labels(np.pad(np.ones((2, 4), int), 1), mpp=0.5)
    [row] = measure(cells, np.zeros((4, 6, 3), np.uint8), image="slide 1").to_dict("records")
    assert (row["image"], row["cell"], row["class"], row["score"]) == ("slide 1", 1, "class1", 1)
    assert (row["centroid_x_px"], row["centroid_y_px"]) == (2.5, 1.5)
    assert (row["centroid_x_um"], row["centroid_y_um"]) == (1.25, 0.75)
    assert (row["area_px"], row["area_um2"]) == (8, 2)
    assert row["perimeter_um"] == row["perimeter_px"] / 2 == 4
    assert row["solidity"] == 1


def test_a_cell_below_others_keeps_its_row():
    crops = [np.ones((2, 2), bool), np.ones((4, 4), bool)]
    masks = MaskCrops.from_crops(np.array([[1, 1], [0, 0]]), crops)
    cells = Instances.from_masks(masks, (5, 5), scores=np.array([0.3, 0.8], np.float32), class_ids=np.array([1, 2]))
    assert 1 not in cells.to_labels()
    table = measure(cells, np.zeros((5, 5, 3), np.uint8))
    assert table[["cell", "area_px", "class_id"]].values.tolist() == [[1, 4, 1], [2, 16, 2]]


def test_a_mask_without_pixels_has_area_zero_and_no_shape():
    cells = Instances.from_masks(MaskCrops.from_crops(np.array([[1, 1]]), [np.zeros((2, 2), bool)]), (5, 5))
    [row] = measure(cells, np.zeros((5, 5, 3), np.uint8)).to_dict("records")
    assert row["area_px"] == 0
    assert np.isnan([row["centroid_x_px"], row["perimeter_px"], row["solidity"], row["mean_red"]]).all()


@pytest.mark.parametrize("mpp", [None, 0.25])
def test_no_cells_give_the_same_columns_and_types_and_no_rows(mpp):
    empty = measure(Instances.empty((4, 4), mpp=mpp), np.zeros((4, 4, 3), np.uint8))
    one = measure(Instances.from_labels(np.eye(4, dtype=int), mpp=mpp), np.zeros((4, 4, 3), np.uint8))
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, one.dtypes)
    assert ("area_um2" in empty.columns) == (mpp is not None)


def test_files_hold_the_table(tmp_path):
    table = measure(Instances.from_labels(blobs(), mpp=0.25), np.zeros((120, 150, 3), np.uint8), image="a")
    write_table(table, tmp_path / "a.cells.csv", tmp_path / "a.cells.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.cells.parquet"), table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.cells.csv"), table, check_dtype=False, rtol=1e-5)
    with pytest.raises(OutputError, match=r"\.csv or \.parquet"):
        write_table(table, tmp_path / "a.xls")
