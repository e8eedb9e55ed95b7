import pytest
import torch
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from everycell.config import ModelSettings
from everycell.models.mask_heads import CellMaskPredictor, build_mask_head

FEATURES = torch.rand(2, 256, 14, 14, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "side"), [("standard", 28), ("wide", 14), ("wide28", 28)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resolution_and_classes(kind, side, dropout):
    settings = ModelSettings(mask_head=kind, mask_dropout=dropout)
    head, predictor = build_mask_head(settings, 5)
    assert predictor(head(FEATURES)).shape == (2, 5, side, side)


@pytest.mark.parametrize("kind", ["standard", "wide", "wide28"])
def test_dropout_adds_no_names_and_drops_only_in_training(kind):
    plain, _ = (build_mask_head(ModelSettings(mask_head=kind, mask_dropout=p), 3)[1] for p in (0.0, 0.5))
    predictor = build_mask_head(ModelSettings(mask_head=kind, mask_dropout=0.5), 3)[1]
    assert list(plain.state_dict()) == list(predictor.state_dict())
    predictor.eval()
    assert torch.equal(predictor(FEATURES), predictor(FEATURES))
    predictor.train()
    assert not torch.equal(predictor(FEATURES), predictor(FEATURES))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [0, 3])
def test_the_standard_predictor_is_torchvisions(memory_format, count):
    torch.manual_seed(0)
    own, theirs = CellMaskPredictor(8, 3, dropout=0.0), MaskRCNNPredictor(8, 8, 3)
    theirs.load_state_dict(own.state_dict())
    x = torch.rand(count, 8, 5, 7).to(memory_format=memory_format)
    weights = torch.rand(count, 3, 10, 14)
    results = []
    for predictor in (own, theirs):
        features = x.clone().requires_grad_()
        logits = predictor(features)
        (logits * weights).sum().backward()
        results.append([logits, features.grad, *(p.grad for p in predictor.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_reports_predictor():
    _, predictor = build_mask_head(ModelSettings(mask_head="wide"), 5)
    kinds = [type(layer).__name__ for layer in predictor]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 4 + ["Conv2d"]
    convs = [layer for layer in predictor if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convs] == [
        (256, 512, 3),
        (512, 512, 3),
        (512, 512, 3),
        (512, 512, 3),
        (512, 5, 1),
    ]
