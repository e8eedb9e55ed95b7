import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from everycell.config import ModelSettings
from everycell.models import CellMaskRCNN
from everycell.models.anchors import TrueBoxes, best_ious
from everycell.models.checkpoint import ModelCard
from everycell.predict import Model
from everycell.predict.proposals import propose, trace_cells
from everycell.structures import Image
from everycell.transforms import zoom_image

SETTINGS = ModelSettings(
    backbone="resnet18",
    fpn_channels=16,
    anchor_sizes=(8, 16, 32, 64, 128),
    box_head_channels=16,
    mask_channels=16,
    proposals_test=40,
    rpn_nms_thresh=0.5,
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = CellMaskRCNN(SETTINGS, 1).eval()
    with torch.no_grad():
        network.rpn.head.cls_logits.weight.mul_(20)
        network.rpn.head.bbox_pred.weight.mul_(20)
    return network


@pytest.fixture(scope="module")
def image():
    return torch.rand((3, 96, 130), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def steps(network, image):
    with torch.inference_mode():
        return propose(network, image)


class TestPropose:
    def test_the_last_step_is_what_the_heads_see(self, network, image, steps):
        batch = network.batch([image])
        with torch.inference_mode():
            [expected], _ = network.rpn(ImageList(batch, [(96, 130)]), network.backbone(batch))
        assert torch.equal(steps[2], expected)

    def test_steps_only_take_away(self, steps):
        candidates, after_nms, proposals = steps
        assert len(candidates) > len(after_nms) > len(proposals) == SETTINGS.proposals_test
        assert torch.equal(after_nms[: len(proposals)], proposals)
        everything = {tuple(box) for box in candidates.tolist()}
        assert {tuple(box) for box in after_nms.tolist()} < everything

    def test_what_nms_took_lies_under_something_that_stayed(self, steps):
        candidates, after_nms, _ = steps
        assert (box_iou(candidates, after_nms).amax(1) > SETTINGS.rpn_nms_thresh).all()

    def test_the_network_keeps_its_limits(self, network, steps):
        assert network.rpn.nms_thresh == 0.5
        assert network.rpn._post_nms_top_n == {"training": SETTINGS.proposals_train, "testing": 40}


class TestTrace:
    def test_cells_are_found_where_the_proposals_of_their_own_tile_lie(self, network, monkeypatch):
        """Truth is made of the proposals themselves, taken back from tile and scale to the image by hand."""
        monkeypatch.setattr("everycell.predict.predictor._TILE_NETWORK_PX", 224)
        settings = SETTINGS.model_copy(update={"magnification": 2.0})
        card = ModelCard(name="tiny", settings=settings, class_names=("cell",))
        model = Model(network, card, torch.device("cpu"), bf16=False)
        pixels = np.random.default_rng(0).integers(0, 256, (90, 128, 3), np.uint8)
        tiles = model.tiling((90, 128), 2.0).tiles
        assert len(tiles) > 2
        boxes = []
        for tile in tiles:
            x0, y0, x1, y1 = tile.window
            window = torch.from_numpy(pixels[y0:y1, x0:x1] / np.float32(255)).permute(2, 0, 1)
            with torch.inference_mode():
                proposals = propose(network, zoom_image(window, 2.0))[2].double() / 2 + torch.tensor([x0, y0, x0, y0])
            boxes += [(a, b, c, d) for a, b, c, d in proposals.tolist() if tile.owns((a + c) / 2, (b + d) / 2)]
        assert len(boxes) > len(tiles)
        lines = [(0, y, 128, y + 0.5) for y in (10, 50, 80)]  # too flat for any box
        covered = trace_cells(model, Image(pixels), np.array(boxes + lines))
        assert covered[1:, : len(boxes)].all()
        assert not covered[:, len(boxes) :].any()
        everywhere = best_ious(TrueBoxes((180, 256), 2 * np.array(boxes)), SETTINGS.anchor_sizes, (0.5, 1.0, 2.0))
        assert 0 < covered[0].sum() < len(boxes)
        # Tiles begin on whole strides of all but the pooled level, so that few anchors differ.
        assert (covered[0, : len(boxes)] == (everywhere >= 0.5)).mean() > 0.8

    def test_an_image_without_cells(self, network):
        card = ModelCard(name="tiny", settings=SETTINGS, class_names=("cell",))
        model = Model(network, card, torch.device("cpu"), bf16=False)
        assert trace_cells(model, Image(np.zeros((40, 40, 3), np.uint8)), np.zeros((0, 4))).shape == (4, 0)
