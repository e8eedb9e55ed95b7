"""`TraceableMaskRCNN` against the network it is made of, with the proposals that `predict` keeps."""

import pytest
import torch

from everycell.models.traceable import TraceableMaskRCNN
from everycell.predict.caps import keep_believed, leave_out_below

VARIANTS = {
    "torchvision's": {},
    "aligned, three layers, wide head": {
        "backbone_layers": 3,
        "anchor_sizes": (8, 16, 32, 64),
        "aligned": True,
        "mask_head": "wide28",
    },
    "class-agnostic": {"class_agnostic": True, "canonical_px": 64},
    "classes by their surroundings": {"class_agnostic": True, "class_context": 2.0},
    "few proposals": {"proposals_test": 3},
    "few detections": {"detections_per_image": 4},
}


def expected(network, image, score_thresh):
    with torch.inference_mode(), keep_believed(network.rpn), leave_out_below(network.roi_heads, score_thresh):
        [found], _ = network([image])
    return [found[name] for name in ("boxes", "scores", "labels", "masks")]


def assert_same(found, wanted):
    for name, ours, theirs, tolerance in zip(
        ("boxes", "scores", "labels", "masks"), found, wanted, (1e-3, 1e-5, 0, 1e-3), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", VARIANTS)
def test_it_finds_what_the_network_finds(build, small, name):
    network = build(small.model_copy(update=VARIANTS[name]))
    traceable = TraceableMaskRCNN(network)
    for size in ((96, 128), (33, 70)):
        image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
        wanted = expected(network, image, 0.2)
        assert len(wanted[0]) > 3
        with torch.inference_mode():
            assert_same(traceable(image, torch.tensor(0.2)), wanted)


def test_believed_proposals_are_kept_beyond_the_limits(build, small):
    network = build(small.model_copy(update={"proposals_test": 1}))
    image = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        [limited], _ = network([image])
        boxes, *_ = TraceableMaskRCNN(network)(image, torch.tensor(0.0))
    assert len(boxes) > len(limited["boxes"])


def test_scores_on_the_threshold_are_kept(build, small):
    traceable = TraceableMaskRCNN(build(small))
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        _, scores, *_ = traceable(image, torch.tensor(0.0))
        _, kept, *_ = traceable(image, scores[2])
    assert kept.tolist() == scores[scores >= scores[2]].tolist()


def test_the_network_stays_as_it_was(build, small):
    network = build(small)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    TraceableMaskRCNN(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
