import numpy as np
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tile_stubs import LabelDetector, ShuffledExecutor, canonical, random_cells

from everycell.io import open_source
from everycell.predict.detector import Rules
from everycell.predict.engine import TiledPrediction
from everycell.predict.stitch import centroids
from everycell.predict.tiling import Tiling

seeds = st.integers(0, 2**31)


def blank(size):
    return open_source(np.zeros(size, np.uint8))


def predict(labels, rules, detector=None, **options):
    prediction = TiledPrediction(blank(labels.shape), detector or LabelDetector(labels), rules)
    prediction.run(**options)
    return prediction


@st.composite
def tilings(draw, size):
    halo, multiple = draw(st.integers(1, 25)), draw(st.sampled_from([1, 4, 7]))
    core = draw(st.integers(max(multiple, min(size) // 6, 1), 60))
    return Tiling(size, 2 * halo + core, halo, multiple)


@settings(max_examples=40)
@given(st.data(), seeds, st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_tiles_give_what_the_whole_image_gives(data, seed, size):
    rng = np.random.default_rng(seed)
    labels = random_cells(rng, size, int(rng.integers(0, 25)), int(rng.integers(2, 50)))
    tiling = data.draw(tilings(size))
    rules = Rules(tiling, seam_px=data.draw(st.integers(0, 3)), max_covered=0.5)
    whole = predict(labels, Rules(Tiling(size, max(size), 0)))
    assert len(whole.cells()) == labels.max()
    n = len(tiling.tiles)
    shuffled = predict(labels, rules, executor=ShuffledExecutor(n, rng), in_flight=n).cells()
    assert canonical(shuffled) == canonical(whole.cells())
    again = predict(labels, rules).cells()
    np.testing.assert_array_equal(again.masks.boxes, shuffled.masks.boxes)
    np.testing.assert_array_equal(again.scores, shuffled.scores)


class TestCap:
    def test_a_crowd_beyond_the_cap_comes_back_whole(self):
        """4,000 cells in 1000 × 1000 px, at most 300 in a window."""
        rng = np.random.default_rng(0)
        labels = np.zeros((1000, 1000), np.int32)
        places = rng.permutation(4096)[:4000]
        for value, (row, column) in enumerate(zip(*np.divmod(places, 64), strict=True), start=1):
            y, x = 15 * row + rng.integers(0, 4), 15 * column + rng.integers(0, 4)
            labels[y : y + rng.integers(3, 12), x : x + rng.integers(3, 12)] = value
        rules = Rules(Tiling(labels.shape, 1000, 16, 8), max_covered=0.5)
        prediction = predict(labels, rules, LabelDetector(labels, cap=300))
        cells = prediction.cells()
        assert len(cells) == 4000
        assert canonical(cells) == canonical(predict(labels, rules).cells())
        assert cells.notes == (
            "1 of 1 tiles reached the cap of 300 detections and were predicted again in smaller ones",
        )

    def test_where_no_tile_is_small_enough_it_is_said(self):
        labels = np.arange(1, 401, dtype=np.int32).reshape(20, 20)  # each pixel a cell
        prediction = predict(labels, Rules(Tiling(labels.shape, 20, 4)), LabelDetector(labels, cap=30))
        split, capped = prediction.cells().notes
        assert split.startswith("1 of 1 tiles reached the cap of 30 detections")
        assert len(prediction.report.capped) > 1
        others = len(prediction.report.capped) - 1
        assert capped == f"{min(prediction.report.capped)} and {others} more: cells may be missing there"

    @settings(max_examples=15)
    @given(seeds, st.integers(8, 14))
    def test_split_tiles_and_whole_ones_fit_together(self, seed, cap):
        """Cells larger than the halo too, across tiles of all sizes."""
        rng = np.random.default_rng(seed)
        labels = random_cells(rng, (80, 80), 12, 40)
        prediction = predict(labels, Rules(Tiling(labels.shape, 60, 5), seam_px=1), LabelDetector(labels, cap))
        assume(prediction.report.split and not prediction.report.capped)
        assert canonical(prediction.cells()) == canonical(predict(labels, Rules(Tiling((80, 80), 80, 0))).cells())


class TestWithin:
    @settings(max_examples=25)
    @given(seeds, st.integers(3, 8))
    def test_the_cells_of_an_area_are_those_of_the_whole_image_in_it(self, seed, corners):
        rng = np.random.default_rng(seed)
        labels = random_cells(rng, (120, 100), 60, 8)
        area = shapely.convex_hull(shapely.multipoints(rng.uniform(0, 120, (corners, 2))))
        tiling = Tiling(labels.shape, 84, 33)  # no cell is larger than the halo
        everything = predict(labels, Rules(tiling, max_covered=0.5)).cells()
        inside = predict(labels, Rules(tiling, max_covered=0.5, within=area)).cells()
        expected = everything.select(shapely.intersects_xy(area, *centroids(everything.masks).T))
        assert canonical(inside) == canonical(expected)

    def test_only_tiles_near_the_area_are_predicted(self):
        labels = np.zeros((120, 100), np.int32)
        labels[10:14, 10:14], labels[10:14, 24:28], labels[90:95, 80:90] = 1, 2, 3
        rules = Rules(Tiling(labels.shape, 40, 10), within=shapely.box(5, 5, 25, 25))
        prediction = predict(labels, rules)
        assert prediction.report.n_tiles == 4  # the second core begins at 20, its window at 10
        assert len(rules.tiling.tiles) == 30
        assert prediction.cells().masks.boxes.tolist() == [[10, 10, 14, 14]]  # the second one's centroid is at 26

    def test_an_area_without_a_tile(self):
        labels = np.ones((20, 20), np.int32)
        prediction = predict(labels, Rules(Tiling((20, 20), 20, 0), within=shapely.box(50, 50, 60, 60)))
        assert (prediction.report.n_tiles, len(prediction.cells())) == (0, 0)


def test_background_is_left_out_and_its_share_is_said():
    labels = np.zeros((80, 400), np.int32)
    labels[30:40, 20:30], labels[30:40, 350:360] = 1, 2
    rules = Rules(Tiling(labels.shape, 80, 8), background_levels=20)
    seen = []

    class Watched(LabelDetector):
        def detect(self, source, tile):
            seen.append(tile)
            return super().detect(source, tile)

    source = open_source((labels > 0).astype(np.uint8) * 100)
    prediction = TiledPrediction(source, Watched(labels), rules)
    prediction.run()
    assert len(prediction.cells()) == 2
    assert [tile.core[0] for tile in rules.tiling.tiles] == [0, 58, 116, 174, 232, 290, 348]
    # The windows of the last two hold the second spot: 282 … 356 and 340 … 400.
    assert sorted(tile.core[0] for tile in seen) == [0, 290, 348]
    assert prediction.notes == (f"{4 * 58 / 400:.1%} of the image was left out as background",)
