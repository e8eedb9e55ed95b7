import pickle

import numpy as np
import pytest
import torch
from scipy import ndimage

from everycell.config import ModelSettings
from everycell.errors import ConfigError, DataError, ModelError
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, file_sha256, save_model
from everycell.predict import Model, choose_device, load_model
from everycell.structures import Image

TINY = ModelSettings(
    backbone="resnet18",
    backbone_layers=3,
    fpn_channels=8,
    anchor_sizes=(8, 16, 32, 64),
    box_head_channels=16,
    mask_channels=8,
    proposals_test=40,
    detections_per_image=15,
    aligned=True,
    normalize="percentile",
)


def card(settings: ModelSettings = TINY, **changes) -> ModelCard:
    return ModelCard(
        **({"name": "tiny", "settings": settings, "class_names": ("round", "long"), "score_thresh": 0.3} | changes)
    )


def random_network(settings: ModelSettings = TINY) -> CellMaskRCNN:
    torch.manual_seed(0)
    network = CellMaskRCNN(settings, 2).eval()
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(3)
        network.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(30)
    return network


@pytest.fixture(scope="module")
def network() -> CellMaskRCNN:
    return random_network()


def model(network, a_card: ModelCard | None = None) -> Model:
    return Model(network, a_card or card(), torch.device("cpu"), bf16=False)


class NoProposals:
    """In place of a region proposal network."""

    def filter_proposals(self) -> None: ...


class NoHeads:
    """In place of the heads."""

    score_thresh = 0.05


class SquareFinder:
    """In place of a network: every bright spot is a cell, its score is its brightness, its mask its pixels' box."""

    def __init__(self) -> None:
        self.rpn, self.roi_heads = NoProposals(), NoHeads()
        self.sizes: list[tuple[int, int]] = []
        self.counts: list[int] = []

    def __call__(self, images):
        [image] = images
        self.sizes.append(tuple(image.shape[1:]))
        labels, count = ndimage.label(image[0].numpy() > 0.5)
        self.counts.append(count)
        windows = ndimage.find_objects(labels)
        boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in windows]
        scores = torch.tensor([float(image[0][window].max()) for window in windows])
        found = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "scores": scores,
            "labels": torch.ones(count, dtype=torch.int64),
            "masks": torch.ones(count, 1, 28, 28),
        }
        return [found], {}


def squares(size: tuple[int, int], seed: int = 0, largest: int = 20) -> np.ndarray:
    """Bright squares apart from each other, each of its own brightness, on black."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((*size, 3), np.uint8)
    brightness = iter(rng.permutation(np.arange(140, 256)))
    for _ in range(4000):
        side = int(rng.integers(4, largest + 1))
        y, x = rng.integers(0, size[0] - side + 1), rng.integers(0, size[1] - side + 1)
        if not pixels[max(0, y - 1) : y + side + 1, max(0, x - 1) : x + side + 1].any():
            value = next(brightness, None)
            if value is None:
                break
            pixels[y : y + side, x : x + side] = value
    return pixels


def same(found, expected) -> None:
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.masks.boxes, expected.masks.boxes)
    np.testing.assert_array_equal(found.masks.bits, expected.masks.bits)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)


class TestPredict:
    @pytest.mark.parametrize("shape", [(1, 1), (33, 35), (64, 97), (1, 50), (40, 60, 3), (40, 60, 4)])
    def test_any_size_and_number_of_channels(self, network, shape):
        array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        cells = model(network).predict(array)
        assert cells.image_size == shape[:2]
        assert cells.class_names == ("round", "long")
        assert (cells.masks.areas() > 0).all()
        assert set(cells.class_ids.tolist()) <= {1, 2}
        assert ((cells.boxes >= 0) & (cells.boxes <= [shape[1], shape[0]] * 2)).all()
        assert (np.diff(cells.scores) <= 0).all()
        assert (cells.scores >= 0.3).all()

    def test_black_is_an_ordinary_image(self, network):
        cells = model(network).predict(np.zeros((50, 60, 3), np.uint8))
        assert cells.image_size == (50, 60)
        assert len(model(SquareFinder()).predict(np.zeros((50, 60, 3), np.uint8))) == 0

    def test_the_order_of_images_does_not_matter(self, network):
        image = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
        after = model(random_network())
        after.predict(np.zeros((1, 1), np.uint8))
        after.predict(np.zeros((40, 40), np.uint8))
        expected = model(random_network()).predict(image)
        assert len(expected) > 5
        same(after.predict(image), expected)

    def test_input_is_not_changed(self, network):
        array = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
        before = array.copy()
        model(network).predict(array)
        np.testing.assert_array_equal(array, before)

    def test_threshold_keeps_the_best(self, network):
        array = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        low = model(network).predict(array, score_thresh=0.05)
        middle = float(low.scores[len(low) // 2])
        high = model(network).predict(array, score_thresh=middle)
        assert 0 < len(high) < len(low)
        same(high, low.select(low.scores >= np.float32(middle)))

    def test_the_cap_is_said(self, network):
        array = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        [note] = model(network).predict(array).notes  # no room to split it
        assert note == ("cap of 15 detections in window (0, 0, 64, 64) (x0, y0, x1, y1): cells may be missing there")
        assert model(SquareFinder()).predict(array * 0).notes == ()

    def test_cells_below_the_threshold_fill_no_cap(self):
        pixels = np.zeros((30, 30, 3), np.uint8)
        pixels[2:6, 2:6], pixels[2:6, 20:26], pixels[20:26, 2:6] = 150, 200, 250
        plain = card(TINY.model_copy(update={"normalize": "none", "detections_per_image": 3}))
        assert model(SquareFinder(), plain).predict(pixels, score_thresh=0.6).notes == ()
        [note] = model(SquareFinder(), plain).predict(pixels, score_thresh=0.5).notes
        assert note.startswith("cap of 3 detections in window (0, 0, 30, 30)")

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"mpp": 0}, "mpp must lie in 0.001 … 1000, got 0"),
            ({"mpp": float("nan")}, "mpp must lie in 0.001 … 1000, got nan"),
            ({"diameter": 0.5}, "diameter must lie in 1 … 10000, got 0.5"),
            ({"score_thresh": 1.5}, "score_thresh must lie in 0 … 1, got 1.5"),
        ],
    )
    def test_values_out_of_range(self, network, options, expected):
        with pytest.raises(ConfigError, match=f"^{expected}$"):
            model(network, card(diameter_px=(5, 10, 20))).predict(np.zeros((9, 9)), **options)

    def test_a_model_without_diameter(self, network):
        with pytest.raises(ConfigError, match="'tiny' does not know its cells' diameter; give --mpp"):
            model(network).predict(np.zeros((9, 9)), diameter=10)

    def test_an_array_that_is_no_image(self, network):
        with pytest.raises(DataError):
            model(network).predict(np.zeros(9))

    def test_autocast_finds_about_the_same(self, network):
        array = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        cells = Model(network, card(), torch.device("cpu"), bf16=True).predict(array)
        expected = model(network).predict(array)
        assert len(cells) > 3
        np.testing.assert_allclose(cells.scores[0], expected.scores[0], atol=0.1)


class TestScale:
    """What the network gets to see: (height, width) of a 40 by 60 px image at network scale."""

    def seen(self, a_card: ModelCard, image_mpp: float | None = None, **options) -> tuple[tuple[int, int], tuple]:
        finder = SquareFinder()
        cells = model(finder, a_card).predict(Image(np.zeros((40, 60, 3), np.uint8), image_mpp), **options)
        return finder.sizes[0], cells.notes

    @pytest.mark.parametrize(
        ("image_mpp", "options", "size"),
        [
            (0.5, {}, (40, 60)),
            (1.0, {}, (80, 120)),
            (0.25, {}, (20, 30)),
            (0.25, {"mpp": 1.0}, (80, 120)),
            (None, {"mpp": 1.0}, (80, 120)),
            (None, {"diameter": 10}, (80, 120)),
            (0.25, {"diameter": 40}, (20, 30)),  # a given diameter counts more than the file's pixel size
        ],
    )
    def test_a_model_that_knows_its_scale(self, image_mpp, options, size):
        known = card(mpp=0.5, diameter_px=(10, 20, 30))
        assert self.seen(known, image_mpp, **options) == (size, ())

    def test_an_image_without_scale_is_noted_once(self):
        size, notes = self.seen(card(mpp=0.5))
        assert size == (40, 60)
        assert notes == ("scale unknown: taken as the model's 0.5 µm/px; give --mpp or --diameter if it differs",)

    def test_a_model_without_scale_takes_pixels_as_they_are(self):
        assert self.seen(card(), 0.1) == ((40, 60), ())

    def test_magnification_comes_on_top(self):
        doubled = TINY.model_copy(update={"magnification": 2.0})
        assert self.seen(card(doubled))[0] == (80, 120)
        assert self.seen(card(doubled, mpp=0.5), 1.0)[0] == (160, 240)

    def test_resizing_the_short_side(self):
        assert self.seen(card(TINY.model_copy(update={"resize_short_px": 80})))[0] == (80, 120)
        short = TINY.model_copy(update={"resize_short_px": 80, "resize_max_px": 90})
        assert self.seen(card(short))[0] == (60, 90)

    def test_zoom_stops_at_sixteen(self):
        assert self.seen(card(mpp=0.1), 100.0)[0] == (640, 960)

    def test_boxes_and_masks_are_in_image_pixels(self):
        pixels = np.zeros((40, 60, 3), np.uint8)
        pixels[8:20, 12:32] = 255
        cells = model(SquareFinder(), card(mpp=0.5)).predict(Image(pixels, mpp=1.0))
        np.testing.assert_allclose(cells.boxes, [[12, 8, 32, 20]], atol=0.6)
        assert cells.masks.boxes.tolist() == [[12, 8, 32, 20]]
        assert cells.mpp == 1.0


def test_predict_instances_speaks_stardist():
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[2:6, 3:9], pixels[20:30, 30:40] = 200, 250
    plain = card(TINY.model_copy(update={"normalize": "none"}))
    labels, details = model(SquareFinder(), plain).predict_instances(pixels)
    assert labels.dtype == np.uint32
    assert (labels[25, 35], labels[4, 5], labels[0, 0], labels.max()) == (1, 2, 0, 2)
    np.testing.assert_allclose(details["prob"], [250 / 255, 200 / 255], rtol=1e-6)
    assert details["points"].tolist() == [[24.5, 34.5], [3.5, 5.5]]  # row, column
    assert details["class_id"].tolist() == [1, 1]


class TestTiles:
    PLAIN = TINY.model_copy(update={"normalize": "none", "detections_per_image": 1000})

    @pytest.fixture(autouse=True)
    def _small_tiles(self, monkeypatch):
        monkeypatch.setattr("everycell.predict.predictor._TILE_NETWORK_PX", 192)

    @pytest.mark.parametrize("seed", range(3))
    def test_tiles_find_each_cell_once_as_the_whole_image_does(self, seed, monkeypatch):
        pixels = squares((430, 610), seed)
        finder = SquareFinder()
        tiled = model(finder, card(self.PLAIN)).predict(pixels)
        assert len(finder.sizes) >= 12
        assert max(max(size) for size in finder.sizes) <= 192
        monkeypatch.setattr("everycell.predict.predictor._TILE_NETWORK_PX", 4096)
        whole = model(SquareFinder(), card(self.PLAIN)).predict(pixels)
        assert len(whole) > 100
        same(tiled, whole)
        np.testing.assert_array_equal(whole.to_labels() > 0, pixels[..., 0] > 0)

    @pytest.mark.parametrize("first", [1, -1])
    def test_tiles_that_disagree_by_a_pixel_lose_no_cell_and_count_none_twice(self, first):
        class Wobbly(SquareFinder):
            """Moves its boxes by a pixel, to the right and to the left in turn."""

            def __call__(self, images):
                [found], losses = super().__call__(images)
                found["boxes"] += torch.tensor([1.0, 0, 1, 0]) * first * (-1) ** len(self.sizes)
                return [found], losses

        plain = model(Wobbly(), card(self.PLAIN))
        seam = plain.tiling((60, 300), 1.0).tiles[0].core[2]
        for x in range(seam - 12, seam + 3):
            pixels = np.zeros((60, 300, 3), np.uint8)
            pixels[20:30, x : x + 10] = 255
            assert len(plain.predict(pixels)) == 1

    @pytest.mark.parametrize("magnification", [1.0, 2.0])
    def test_windows_begin_on_whole_strides(self, magnification, monkeypatch):
        monkeypatch.setattr("everycell.predict.predictor._TILE_NETWORK_PX", 384)
        settings = self.PLAIN.model_copy(update={"magnification": magnification})
        tiles = model(None, card(settings, diameter_px=(5, 12, 41.3))).tiling((900, 700), magnification).tiles
        assert len(tiles) > 9
        for tile in tiles:
            assert [start * magnification % 32 for start in (*tile.core[:2], *tile.window[:2])] == [0] * 4
            x0, y0, x1, y1 = tile.window
            assert max(x1 - x0, y1 - y0) * magnification <= 384
            # A cell of the largest diameter fits into the halo.
            assert x0 == 0 or tile.core[0] - x0 >= 41.3

    def test_a_whole_image_preset_is_never_cut(self):
        settings = self.PLAIN.model_copy(update={"resize_short_px": 300, "resize_max_px": 3000})
        finder = SquareFinder()
        model(finder, card(settings)).predict(np.zeros((300, 2000, 3), np.uint8))
        assert finder.sizes == [(300, 2000)]

    def test_contrast_is_the_whole_images(self):
        """A dim region is not blown up because its tile holds nothing brighter."""
        pixels = np.zeros((200, 600, 3), np.uint8)
        pixels[50:60, 50:60], pixels[50:110, 500:560] = 20, 255
        cells = model(SquareFinder(), card(TINY)).predict(pixels)
        assert cells.masks.boxes.tolist() == [[500, 50, 560, 110]]

    def test_a_capped_tile_is_predicted_again_in_smaller_ones(self):
        settings = self.PLAIN.model_copy(update={"detections_per_image": 25, "anchor_sizes": (8, 16, 32, 64)})
        pixels = squares((300, 300), largest=12)
        small = card(settings, diameter_px=(4, 8, 12))
        capped, free = (
            model(SquareFinder(), card(s, diameter_px=(4, 8, 12))).predict(pixels) for s in (settings, self.PLAIN)
        )
        assert len(capped) > 100
        same(capped, free)
        windows = [tile.window for tile in model(None, small).tiling((300, 300), 1.0).tiles]
        counts = [ndimage.label(pixels[y0:y1, x0:x1, 0])[1] for x0, y0, x1, y1 in windows]
        n = np.count_nonzero(np.array(counts) >= 25)
        assert capped.notes == (
            f"{n} of {len(windows)} tiles reached the cap of 25 detections and were predicted again in smaller ones",
        )

    def test_windows_that_cannot_shrink_are_named(self):
        settings = self.PLAIN.model_copy(update={"detections_per_image": 1})
        pixels = np.zeros((100, 500, 3), np.uint8)
        pixels[40:50, 20:30] = pixels[40:50, 470:480] = 255
        cells = model(SquareFinder(), card(settings)).predict(pixels)
        assert len(cells) == 2
        again, background, named = cells.notes
        assert again.endswith("reached the cap of 1 detections and were predicted again in smaller ones")
        assert background.endswith("% of the image was left out as background")
        assert named.startswith("cap of 1 detections in window (")


class TestLoad:
    @pytest.fixture
    def path(self, network, tmp_path):
        path = tmp_path / "tiny.safetensors"
        save_model(path, network.state_dict(), card())
        return path

    def test_a_loaded_model_predicts_the_same(self, network, path):
        array = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        loaded = load_model(path, device="cpu", bf16=False)
        assert (loaded.name, loaded.class_names, loaded.sha256) == ("tiny", ("round", "long"), file_sha256(path))
        assert (loaded.device, loaded.bf16) == (torch.device("cpu"), False)
        found, expected = loaded.predict(array), model(network).predict(array)
        assert len(expected) > 3
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)

    def test_a_pickled_model_is_loaded_again_from_its_file(self, path, network):
        loaded = load_model(path, device="cpu", bf16=False)
        data = pickle.dumps(loaded)
        assert len(data) < 1000
        again = pickle.loads(data)
        assert (again.sha256, again.bf16, again.device) == (loaded.sha256, False, loaded.device)
        array = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        same(again.predict(array), loaded.predict(array))
        save_model(path, network.state_dict(), card(name="another"))
        with pytest.raises(ModelError, match="another model than where this run was started"):
            pickle.loads(data)
        with pytest.raises(ConfigError, match="'tiny' came from no file"):
            pickle.dumps(model(network))

    def test_unknown_model(self):
        with pytest.raises(ModelError, match="no model named 'nuclie' and no such file"):
            load_model("nuclie", device="cpu")

    def test_unknown_device(self, path):
        with pytest.raises(ConfigError, match=r"device must be auto or one of .*cpu.*, got 'tpu'"):
            load_model(path, device="tpu")

    def test_auto_takes_the_best_device(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        assert choose_device("auto").type == "cpu"
        with pytest.raises(ConfigError, match="one of cpu on this machine, got 'cuda'"):
            choose_device("cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device("auto").type == choose_device("cuda").type == "cuda"
