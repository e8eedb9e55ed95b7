from contextlib import nullcontext

import pytest
import torch

from everycell.config import ModelSettings
from everycell.models import CellMaskRCNN
from everycell.predict.caps import keep_believed, leave_out_below

IMAGE = torch.rand((3, 96, 96), generator=torch.Generator().manual_seed(0))


def proposals(
    objectness: float, limit_before_nms: int, limit_after_nms: int, *, kept: bool, image: torch.Tensor = IMAGE
) -> torch.Tensor:
    """Proposals of a network that gives every anchor one objectness, a logit, with all believed ones kept or not."""
    torch.manual_seed(0)
    settings = ModelSettings(
        backbone="resnet18",
        fpn_channels=8,
        anchor_sizes=(8, 16, 32, 64, 128),
        box_head_channels=8,
        mask_channels=8,
        rpn_nms_thresh=1.0,
    )
    network = CellMaskRCNN(settings, 1).eval()
    rpn, seen = network.rpn, []
    torch.nn.init.zeros_(rpn.head.cls_logits.weight)
    torch.nn.init.constant_(rpn.head.cls_logits.bias, objectness)
    rpn._pre_nms_top_n["testing"], rpn._post_nms_top_n["testing"] = limit_before_nms, limit_after_nms
    rpn.register_forward_hook(lambda *call: seen.append(call[-1][0][0]))
    with torch.inference_mode(), keep_believed(rpn) if kept else nullcontext():
        network([image])
    assert "filter_proposals" not in vars(rpn)
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (limit_before_nms, limit_after_nms)
    return seen[0]


# 96 px make 24² · 3 = 1728 anchors on the finest of five levels, and 2307 in all; with NMS off all are proposals.
@pytest.mark.parametrize(
    ("objectness", "before", "after", "expected"),
    [
        (1.0, 100, 5000, 2307),
        (1.0, 5000, 20, 2307),
        (1.0, 100, 20, 2307),
        (-1.0, 5000, 20, 20),
        (-1.0, 5000, 5000, 2307),
        (-1.0, 100, 5000, 100 + 100 + 100 + 27 + 12),
    ],
)
def test_limits_cut_only_what_the_network_takes_for_background(objectness, before, after, expected):
    assert len(proposals(objectness, before, after, kept=True)) == expected


def test_proposals_within_the_limits_are_the_same():
    plain, kept = (proposals(-1.0, 50, 80, kept=kept) for kept in (False, True))
    assert torch.equal(plain, kept)


def test_the_network_is_itself_again_after_an_error():
    with pytest.raises(IndexError):
        proposals(1.0, 10, 10, kept=True, image=torch.zeros(3))


class TestLeaveOutBelow:
    def found(self, score: float | None) -> tuple[dict[str, torch.Tensor], int]:
        """Detections of a network with random weights, and how many boxes got a mask."""
        torch.manual_seed(3)
        settings = ModelSettings(
            backbone="resnet18",
            fpn_channels=8,
            anchor_sizes=(8, 16, 32, 64, 128),
            box_head_channels=8,
            mask_channels=8,
            detections_per_image=10_000,
        )
        network = CellMaskRCNN(settings, 2).eval()
        torch.nn.init.normal_(network.roi_heads.box_predictor.cls_score.weight, std=30)
        drawn = []
        network.roi_heads.mask_roi_pool.register_forward_hook(lambda *call: drawn.append(len(call[-1])))
        with torch.inference_mode(), leave_out_below(network.roi_heads, score) if score else nullcontext():
            [detections], _ = network([IMAGE])
        assert network.roi_heads.score_thresh == 0.05
        return detections, sum(drawn)

    def test_the_same_remain_as_when_left_out_afterwards(self):
        everything, n_all = self.found(None)
        score = float(everything["scores"].median())  # held by a detection: it stays
        kept, n_kept = self.found(score)
        chosen = everything["scores"] >= score
        assert n_all == len(chosen)
        assert 10 < n_kept == int(chosen.sum()) < n_all
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(kept[name], everything[name][chosen])
        torch.testing.assert_close(kept["masks"], everything["masks"][chosen])

    def test_never_more_than_without(self):
        assert torch.equal(self.found(0.01)[0]["scores"], self.found(None)[0]["scores"])
