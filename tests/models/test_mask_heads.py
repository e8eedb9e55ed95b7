import pytest
import torch

from everycell.config import ModelSettings
from everycell.models.mask_heads import build_mask_head

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
