import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from everycell.datasets import synthetic_sample
from everycell.models.anchors import TrueBoxes, anchor_shapes, best_ious, suggest_sizes, taught
from everycell.models.mask_rcnn import build_rpn
from everycell.train import PRESETS

RATIOS = (0.5, 1.0, 2.0)
SIZES = (8, 16, 32, 64, 128)


def squares(side: float, *corners: tuple[float, float], size: tuple[int, int] = (256, 256)) -> TrueBoxes:
    return TrueBoxes(size, np.array([(x, y, x + side, y + side) for x, y in corners], np.float64).reshape(-1, 4))


def random_boxes(size: tuple[int, int], n: int, seed: int = 0) -> TrueBoxes:
    rng = np.random.default_rng(seed)
    extents = np.exp(rng.uniform(math.log(2), math.log(90), (n, 2)))
    low = rng.uniform(-5, 1, (n, 2)) + rng.random((n, 2)) * size[::-1]
    return TrueBoxes(size, np.concatenate([low, low + extents], axis=1))


@pytest.fixture(scope="module")
def anchors():
    """All anchors of the reference where the finest map has 64 × 64 places: an image of 256 × 256 px."""
    generator = build_rpn(PRESETS["reference"].model).anchor_generator
    maps = [torch.zeros(1, 1, n, n) for n in (64, 32, 16, 8, 4)]
    [found] = generator(ImageList(torch.zeros(1, 3, 256, 256), [(256, 256)]), maps)
    return found.tolist()


class TestAnchorsOfA64x64Pyramid:
    # Half width and half height of ratios 0.5, 1 and 2, px: size / 2 over and times the root of the ratio, to whole px.
    HALVES = (
        (4, ((6, 3), (4, 4), (3, 6))),
        (8, ((11, 6), (8, 8), (6, 11))),
        (16, ((23, 11), (16, 16), (11, 23))),
        (32, ((45, 23), (32, 32), (23, 45))),
        (64, ((91, 45), (64, 64), (45, 91))),
    )

    def test_every_one_by_a_plain_loop(self, anchors):
        expected = [
            [x - half_width, y - half_height, x + half_width, y + half_height]
            for stride, halves in self.HALVES
            for y in range(0, 256, stride)
            for x in range(0, 256, stride)
            for half_width, half_height in halves
        ]
        assert len(anchors) == 3 * (64 * 64 + 32 * 32 + 16 * 16 + 8 * 8 + 4 * 4) == 16_368
        assert anchors == expected

    def test_some_literally(self, anchors):
        assert anchors[:4] == [[-6, -3, 6, 3], [-4, -4, 4, 4], [-3, -6, 3, 6], [-2, -3, 10, 3]]
        assert anchors[3 * 64] == [-6, 1, 6, 7]  # the second row of the finest map
        assert anchors[3 * 64 * 64 - 1] == [249, 246, 255, 258]  # its last place is (252, 252)
        assert anchors[3 * 64 * 64] == [-11, -6, 11, 6]
        assert anchors[-3:] == [[101, 147, 283, 237], [128, 128, 256, 256], [147, 101, 237, 283]]


def test_the_baselines_shapes_by_hand():
    shapes = anchor_shapes(PRESETS["baseline"].model.anchor_sizes, RATIOS)
    assert [level.tolist() for level in shapes] == [
        [[46, 22], [32, 32], [22, 46]],
        [[90, 46], [64, 64], [46, 90]],
        [[182, 90], [128, 128], [90, 182]],
        [[362, 182], [256, 256], [182, 362]],
        [[724, 362], [512, 512], [362, 724]],
    ]


class TestBestIoU:
    def test_by_hand(self):
        # 8 × 8 anchors stand around multiples of 4. At (8, 8) one fits; 1 px beside it 7 of 8 columns are shared.
        # From (10, 10) two of 8 rows and columns would be lost; the 12 × 6 anchor around (12, 16) shares 8 × 5.
        truth = squares(8, (8, 8), (9, 8), (10, 10))
        expected = [1, 56 / (2 * 64 - 56), 40 / (64 + 72 - 40)]
        assert best_ious(truth, SIZES, RATIOS).tolist() == pytest.approx(expected)

    def test_anchors_end_where_the_map_ends(self):
        # The last 64 px anchor of the baseline's second level stands around 248: of this cell it shares 8 px less.
        truth = TrueBoxes((256, 256), np.array([[224.0, 224, 288, 288]]))
        assert best_ious(truth, (32, 64, 128, 256, 512), RATIOS)[0] == pytest.approx(56**2 / (2 * 64**2 - 56**2))

    @pytest.mark.parametrize("layers", [3, 4])
    @pytest.mark.parametrize("size", [(1, 1), (33, 97), (96, 130), (256, 100)])
    def test_equals_the_best_of_all_anchors_of_the_network(self, small, build, layers, size):
        """96 px make three places of stride 32 and two of stride 48 on the pooled level."""
        model = small.model_copy(update={"backbone_layers": layers, "anchor_sizes": (6, 13, 25, 60, 90)[: layers + 1]})
        network = build(model)
        batch = network.batch([torch.zeros(3, *size)])
        with torch.no_grad():
            features = list(network.backbone(batch).values())
        [anchors] = network.rpn.anchor_generator(ImageList(batch, [size]), features)
        truth = random_boxes(size, 60)
        expected = box_iou(torch.from_numpy(truth.boxes), anchors.double()).amax(1)
        np.testing.assert_allclose(best_ious(truth, model.anchor_sizes, RATIOS), expected, rtol=0, atol=1e-12)


class TestTaught:
    def test_a_small_cell_beside_a_larger_one_is_never_taught(self):
        # Every 32 px anchor that holds the 4 px cell holds the 12 px one too, and is taught that.
        truth = TrueBoxes((256, 256), np.array([[100.0, 100, 104, 104], [96, 104, 108, 116], [200, 200, 204, 204]]))
        assert taught(truth, (32, 64, 128, 256, 512), RATIOS).tolist() == [False, True, True]
        assert taught(truth, (4, 12, 32, 64, 128), RATIOS).all()

    @pytest.mark.parametrize("sizes", [(32, 64, 128, 256, 512), SIZES, (10, 14, 20, 28, 40)])
    def test_equals_what_the_network_assigns(self, small, build, sizes):
        network = build(small.model_copy(update={"anchor_sizes": sizes}))
        rng = np.random.default_rng(1)
        low = rng.integers(0, (150, 90), (80, 2))
        truth = TrueBoxes((96, 160), np.concatenate([low, low + rng.integers(2, 30, (80, 2))], axis=1).astype(float))
        maps = [torch.zeros(1, 1, rows, columns) for rows, columns in ((24, 40), (12, 20), (6, 10), (3, 5), (2, 3))]
        [anchors] = network.rpn.anchor_generator(ImageList(torch.zeros(1, 3, 96, 160), [(96, 160)]), maps)
        boxes = torch.from_numpy(truth.boxes).float()
        labels, matched = network.rpn.assign_targets_to_anchors([anchors], [{"boxes": boxes}])
        positive = {tuple(box) for box in matched[0][labels[0] == 1].tolist()}
        shown = taught(truth, sizes, RATIOS)
        assert shown.tolist() == [tuple(box) in positive for box in truth.boxes.tolist()]
        assert 0 < shown.sum() <= 80


class TestTrueBoxes:
    def test_of_a_sample(self):
        sample = synthetic_sample(np.random.default_rng(0), (64, 80), 6)
        truth = TrueBoxes.of(sample)
        assert truth.size == (64, 80)
        for value, (x0, y0, x1, y1) in enumerate(truth.boxes.tolist(), start=1):
            rows, columns = np.nonzero((sample.layers == value).any(0))
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)

    def test_zoom_rounds_the_image_not_the_boxes(self):
        truth = TrueBoxes((10, 20), np.array([[4.0, 2, 8, 10]]))
        zoomed = truth.zoomed(0.25)
        assert zoomed.size == (2, 5)  # 2.5 rounds to even
        assert zoomed.boxes.tolist() == [[1, 0.4, 2, 2]]
        assert truth.sides().tolist() == [math.sqrt(32)]

    def test_no_cells(self):
        assert best_ious(TrueBoxes((40, 40), np.zeros((0, 4))), SIZES, RATIOS).shape == (0,)


def score(truth: TrueBoxes, sizes: tuple[int, ...]) -> tuple[float, float]:
    ious = best_ious(truth, sizes, RATIOS)
    return (ious >= 0.5).mean(), ious.mean()


class TestSuggestion:
    def test_finds_the_one_size_that_there_is(self):
        truth = squares(30, *((x, y) for x in range(5, 220, 32) for y in range(3, 220, 40)))
        sizes = suggest_sizes([truth], RATIOS, [SIZES])
        assert score(truth, sizes)[1] > 0.8 > score(truth, SIZES)[1]
        assert any(28 <= size <= 32 for size in sizes)

    def test_small_and_large_cells_get_a_level_each(self):
        small, large = squares(12, *((x, 8) for x in range(8, 240, 12))), squares(100, (20, 40), (130, 130))
        sizes = suggest_sizes([small, large], RATIOS, [(32, 64, 128, 256, 512)])
        assert 10 <= sizes[0] <= 16
        assert any(90 <= size <= 110 for size in sizes[2:])

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1.0, 0.3]))
    def test_never_covers_less_and_never_fits_worse_than_the_best_known(self, seed, n, zoom):
        truth = random_boxes((200, 150), n, seed).zoomed(zoom)
        known = [SIZES, (32, 64, 128, 256, 512)]
        sizes = suggest_sizes([truth], RATIOS, known)
        assert score(truth, sizes) >= max(score(truth, one) for one in known) or (
            score(truth, sizes)[0] > max(score(truth, one)[0] for one in known)
        )
        assert list(sizes) == sorted(sizes)
        assert len(sizes) == 5

    def test_images_without_cells_change_nothing(self):
        truth = random_boxes((200, 150), 30)
        nothing = TrueBoxes((64, 64), np.zeros((0, 4)))
        assert suggest_sizes([nothing, truth], RATIOS, [SIZES]) == suggest_sizes([truth], RATIOS, [SIZES])
