import pytest
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from everycell.errors import ConfigError
from everycell.models import CellMaskRCNN
from everycell.models.backbones import build_backbone
from everycell.models.mask_heads import build_mask_head


def images(*sizes: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand((3, *size), generator=generator) for size in sizes]


def torchvisions(settings, num_classes: int) -> MaskRCNN:
    """torchvision's own Mask R-CNN with the same parts, its resizing switched off."""
    names = [str(i) for i in range(settings.backbone_layers)]
    network = MaskRCNN(
        build_backbone(settings),
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in settings.anchor_sizes), ((0.5, 1.0, 2.0),) * settings.levels()
        ),
        rpn_pre_nms_top_n_train=settings.proposals_train,
        rpn_post_nms_top_n_train=settings.proposals_train,
        rpn_pre_nms_top_n_test=settings.proposals_test,
        rpn_post_nms_top_n_test=settings.proposals_test,
        rpn_score_thresh=0.05,
        box_roi_pool=MultiScaleRoIAlign(names, 7, 2),
        box_head=TwoMLPHead(settings.fpn_channels * 49, settings.box_head_channels),
        box_predictor=FastRCNNPredictor(settings.box_head_channels, num_classes + 1),
        box_batch_size_per_image=settings.box_batch_per_image,
        box_detections_per_img=settings.detections_per_image,
        mask_roi_pool=MultiScaleRoIAlign(names, 14, 2),
        mask_head=MaskRCNNHeads(settings.fpn_channels, (settings.mask_channels,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(settings.mask_channels, settings.mask_channels, num_classes + 1)
        if settings.mask_head == "standard"
        else build_mask_head(settings, num_classes + 1)[1],
    )
    network.transform.resize = lambda image, target: (image, target)
    return network


@pytest.fixture(scope="module")
def truths(target):
    """Of two images of 96 × 130 and 70 × 64 px."""
    return [
        target((96, 130), (5, 5, 30, 40, 1), (20, 30, 80, 90, 2), (100, 3, 112, 12, 1)),
        target((70, 64), (0, 0, 64, 70, 2)),
    ]


# Of the small network with weights of seed 0, images of seed 0 and samples of seed 3, where `TestSameAsTorchvision`
# finds them equal to torchvision's. The first two do not depend on the mask head; the others do through the order in
# which the weights are drawn.
GOLDEN_LOSSES = {
    "standard": {
        "loss_objectness": 0.6527986,
        "loss_rpn_box_reg": 0.0037755,
        "loss_classifier": 1.965904,
        "loss_box_reg": 0.0934144,
        "loss_mask": 61.45616,
    },
    "wide": {
        "loss_objectness": 0.6527986,
        "loss_rpn_box_reg": 0.0037755,
        "loss_classifier": 1.219716,
        "loss_box_reg": 0.0911010,
        "loss_mask": 4.218135,
    },
    "wide28": {
        "loss_objectness": 0.6527986,
        "loss_rpn_box_reg": 0.0037755,
        "loss_classifier": 1.732740,
        "loss_box_reg": 0.0781785,
        "loss_mask": 1.952581,
    },
}


@pytest.mark.parametrize("mask_head", GOLDEN_LOSSES)
def test_golden_losses(small, build, truths, mask_head):
    """To 1 part in 10,000: changing every weight by one in 100,000 moves them by a quarter of that."""
    network = build(small.model_copy(update={"mask_head": mask_head})).train()
    torch.manual_seed(3)
    _, losses = network(images((96, 130), (70, 64)), truths)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(GOLDEN_LOSSES[mask_head], rel=1e-4)


@pytest.fixture(scope="module")
def pair(small, build):
    """Our network and torchvision's with equal weights."""
    own, theirs = build(small), torchvisions(small, 2)
    theirs.load_state_dict(own.state_dict(), strict=True)
    return own, theirs.eval()


class TestSameAsTorchvision:
    def test_detections(self, pair, monkeypatch):
        own, theirs = pair
        monkeypatch.setattr(theirs.transform, "postprocess", lambda result, *_: result, raising=False)
        batch = images((96, 130), (70, 64))
        with torch.inference_mode():
            found, losses = own(batch)
            expected = theirs(batch)
        assert losses == {}
        assert [len(f["boxes"]) for f in found] == [len(e["boxes"]) for e in expected]
        assert min(len(f["boxes"]) for f in found) >= 5
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f["boxes"], e["boxes"], rtol=0, atol=1e-3)
            torch.testing.assert_close(f["scores"], e["scores"], rtol=0, atol=1e-5)
            assert torch.equal(f["labels"], e["labels"])
            torch.testing.assert_close(f["masks"], e["masks"], rtol=0, atol=1e-3)
            assert f["masks"].std() > 0.01

    @pytest.mark.parametrize("mask_head", ["standard", "wide", "wide28"])
    def test_losses_with_the_same_samples(self, small, build, truths, mask_head):
        settings = small.model_copy(update={"mask_head": mask_head})
        own, theirs = build(settings).train(), torchvisions(settings, 2).train()
        theirs.load_state_dict(own.state_dict(), strict=True)
        masks = [
            {
                "boxes": t["boxes"],
                "labels": t["labels"],
                "masks": (t["layers"] == t["values"][:, None, None]).to(torch.uint8),
            }
            for t in truths
        ]
        torch.manual_seed(3)
        _, losses = own(images((96, 130), (70, 64)), truths)
        torch.manual_seed(3)
        expected = theirs(images((96, 130), (70, 64)), masks)
        assert set(losses) == set(expected) == set(GOLDEN_LOSSES[mask_head])
        for name, value in losses.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
            assert value > 0

    def test_parameter_names_are_torchvisions(self, pair):
        own, theirs = pair
        assert list(own.state_dict()) == list(theirs.state_dict())


def test_anchors_of_a_small_pyramid_by_hand(small, build):
    network = build(small)
    batch = torch.zeros(1, 3, 64, 96)
    features = [torch.zeros(1, 1, 64 // s, 96 // s) for s in (4, 8, 16, 32, 64)]
    [anchors] = network.rpn.anchor_generator(ImageList(batch, [(64, 96)]), features)
    # Three a place: ratio (height / width) 0.5, 1 and 2 of the same area, rounded to whole pixels.
    assert len(anchors) == 3 * (16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 1)
    assert anchors[:6].tolist() == [
        [-6, -3, 6, 3],
        [-4, -4, 4, 4],
        [-3, -6, 3, 6],
        [-2, -3, 10, 3],  # stride 4 to the right
        [0, -4, 8, 4],
        [1, -6, 7, 6],
    ]
    second = 3 * 16 * 24
    assert anchors[second : second + 3].tolist() == [[-11, -6, 11, 6], [-8, -8, 8, 8], [-6, -11, 6, 11]]
    assert anchors[-3:].tolist() == [[-91, -45, 91, 45], [-64, -64, 64, 64], [-45, -91, 45, 91]]


def test_one_anchor_size_a_level(small):
    with pytest.raises(ConfigError, match="one size for each of 4 pyramid levels, got 5"):
        CellMaskRCNN(small.model_copy(update={"backbone_layers": 3}), 1)


def test_a_small_image_first_changes_nothing_later(small, build):
    """Images of 40 px are padded to 64; whatever comes first, the pyramid's strides are the same."""
    alone, after = build(small), build(small)
    [image] = images((96, 130))
    with torch.inference_mode():
        after(images((40, 40)))
        [found], [expected] = after([image])[0], alone([image])[0]
    for key, value in expected.items():
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("aligned", [False, True])
def test_an_image_of_one_pixel(small, build, aligned):
    network = build(small.model_copy(update={"aligned": aligned}))
    with torch.inference_mode():
        [found], _ = network([torch.zeros(3, 1, 1)])
    boxes = found["boxes"]
    assert ((boxes >= 0) & (boxes <= 1)).all()


def test_images_of_a_batch_do_not_touch_each_other(small, build):
    network = build(small)
    batch = images((64, 128), (96, 40), (33, 35))
    with torch.inference_mode():
        together, _ = network(batch)
        beside_black, _ = network([batch[0], batch[1] * 0, batch[2] * 0])
    torch.testing.assert_close(together[0]["boxes"], beside_black[0]["boxes"])
    for found, image in zip(together, batch, strict=True):
        assert (found["boxes"][:, 2] <= image.shape[2]).all()
        assert (found["boxes"][:, 3] <= image.shape[1]).all()
        assert found["masks"].shape == (len(found["boxes"]), 1, 28, 28)
        assert (found["scores"].diff() <= 0).all()


def test_heads_take_few_boxes_at_a_time_with_the_same_outcome(small, build, monkeypatch):
    network = build(small)
    batch = images((64, 128), (96, 40), (33, 35))
    with torch.inference_mode():
        expected, _ = network(batch)
        monkeypatch.setattr("everycell.models.roi_heads._BOXES_AT_A_TIME", 7)
        monkeypatch.setattr("everycell.models.roi_heads._MASKS_AT_A_TIME", 3)
        found, _ = network(batch)
    assert sum(len(of_image["boxes"]) for of_image in expected) > 10
    for one, other in zip(found, expected, strict=True):
        for key, value in other.items():
            torch.testing.assert_close(one[key], value)


@pytest.mark.parametrize(("aligned", "head"), [(False, "wide"), (True, "standard")])
@pytest.mark.parametrize("with_cells", [False, True])
def test_images_with_and_without_cells_train(small, build, target, aligned, head, with_cells):
    settings = small.model_copy(update={"aligned": aligned, "mask_head": head})
    network = build(settings).train()
    truths = [target((64, 96)), target((50, 40), (3, 3, 20, 20, 1)) if with_cells else target((50, 40))]
    _, losses = network(images((64, 96), (50, 40)), truths)
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert (losses["loss_mask"] > 0) == with_cells
    assert (losses["loss_box_reg"] > 0) == with_cells
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert all(grad is not None and grad.isfinite().all() for grad in trained.values())
    assert all(value.isfinite().all() for value in network.state_dict().values())  # batch norm of nothing
    frozen = [p for p in network.parameters() if not p.requires_grad]
    assert frozen
    assert all(p.grad is None for p in frozen)


@pytest.mark.parametrize("training", [False, True])
def test_losses_and_detections_are_chosen_by_targets_not_by_mode(small, build, target, training):
    network = build(small).train(training)
    found, losses = network(images((64, 64)), [target((64, 64), (3, 3, 20, 20, 1))])
    assert (found, len(losses)) == ([], 5)
    with torch.no_grad():
        found, losses = network(images((64, 64)))
    assert (len(found), losses) == (1, {})
    assert all(module.training is training for module in network.modules())


def test_autocast_gives_float32_close_to_float32(small, build, target):
    network = build(small)
    batch, truths = images((64, 64)), [target((64, 64), (3, 3, 30, 30, 1))]
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(network(batch, truths)[1])
            with torch.no_grad():
                [found] = network(batch)[0]
        assert all(found[key].dtype == torch.float32 for key in ("boxes", "scores", "masks"))
    for name, value in losses[0].items():
        assert losses[1][name].dtype == torch.float32
        torch.testing.assert_close(losses[1][name], value, rtol=0.2, atol=0.05)


def test_pasted_masks_equal_torchvisions(pair):
    """The whole way: our probabilities and torchvision's pasting give what torchvision's network gives."""
    own, theirs = pair
    [image] = images((70, 96), seed=4)
    with torch.inference_mode():
        [found], _ = own([image])
        [expected] = theirs([image])
    pasted = paste_masks_in_image(found["masks"], found["boxes"], (70, 96))
    assert ((pasted > 0.5) == (expected["masks"] > 0.5)).float().mean() > 0.999
