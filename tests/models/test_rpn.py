import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

from everycell.config import ModelSettings
from everycell.models.mask_rcnn import build_rpn

SIZE = (96, 160)


def rpn_and_anchors():
    rpn = build_rpn(ModelSettings(anchor_sizes=(8, 16, 32, 64, 128)))
    maps = [torch.zeros(1, 1, SIZE[0] // s, SIZE[1] // s) for s in (4, 8, 16, 32, 96)]
    [anchors] = rpn.anchor_generator(ImageList(torch.zeros(1, 3, *SIZE), [SIZE]), maps)
    return rpn, anchors


def random_boxes(count: int, seed: int, *, whole: bool) -> torch.Tensor:
    """Boxes xyxy in px, of any size; with `whole`, whole pixels, so that several overlap equally."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand((count, 2, 2), generator=generator) * torch.tensor([SIZE[1] - 2.0, SIZE[0] - 2.0])
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)
    return boxes.round() if whole else boxes


@settings(derandomize=True, deadline=None, max_examples=30)
@given(count=st.integers(1, 30), seed=st.integers(0, 2**31), whole=st.booleans())
def test_anchors_get_the_cells_that_torchvision_gives_them(count, seed, whole):
    rpn, anchors = rpn_and_anchors()
    target = {"boxes": random_boxes(count, seed, whole=whole)}
    found = rpn.assign_targets_to_anchors([anchors], [target])
    expected = RegionProposalNetwork.assign_targets_to_anchors(rpn, [anchors], [target])
    assert torch.equal(found[0][0], expected[0][0])
    belongs = expected[0][0] == 1  # the boxes of the others are not read
    assert torch.equal(found[1][0][belongs], expected[1][0][belongs])


@pytest.mark.parametrize("whole", [True, False])
def test_the_pairs_are_those_that_overlap(whole):
    rpn, anchors = rpn_and_anchors()
    boxes = random_boxes(25, 1, whole=whole)
    box, anchor = rpn.anchor_generator.overlapping(boxes)
    named = torch.zeros(len(boxes), len(anchors), dtype=torch.int64)
    named.index_put_((box, anchor), torch.tensor(1), accumulate=True)
    assert torch.equal(named, (box_iou(boxes, anchors) > 0).long())


def test_without_cells_all_is_background():
    rpn, anchors = rpn_and_anchors()
    [labels], [boxes] = rpn.assign_targets_to_anchors([anchors], [{"boxes": torch.zeros(0, 4)}])
    assert labels.tolist() == [0] * len(anchors)
    assert boxes.shape == anchors.shape


def test_anchors_of_bfloat16_features_are_not_rounded():
    def anchors(dtype):
        maps = [torch.zeros(1, 1, 8, 1536 // s, dtype=dtype) for s in (4, 8, 16, 32, 64)]
        rpn = build_rpn(ModelSettings(anchor_sizes=(8, 16, 32, 64, 128)))
        return rpn.anchor_generator(ImageList(torch.zeros(1, 3, 512, 1536), [(512, 1536)]), maps)[0]

    half = anchors(torch.bfloat16)
    assert half.dtype == torch.float32
    assert torch.equal(half, anchors(torch.float32))
    assert len(half.unique(dim=0)) == len(half)
