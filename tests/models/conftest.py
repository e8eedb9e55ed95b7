import pytest
import torch

from everycell.config import ModelSettings
from everycell.models import CellMaskRCNN


@pytest.fixture(scope="session")
def small() -> ModelSettings:
    """A network of a fortieth of a second."""
    return ModelSettings(
        backbone="resnet18",
        fpn_channels=16,
        anchor_sizes=(8, 16, 32, 64, 128),
        box_head_channels=32,
        mask_channels=16,
        proposals_train=60,
        proposals_test=40,
        box_batch_per_image=32,
        detections_per_image=20,
    )


def _build(settings: ModelSettings, num_classes: int = 2, seed: int = 0) -> CellMaskRCNN:
    torch.manual_seed(seed)
    network = CellMaskRCNN(settings, num_classes)
    with torch.no_grad():
        # Untrained outputs are all alike; spread them, so that an exchange of two cells would be seen.
        network.rpn.head.cls_logits.weight.mul_(20)
        network.roi_heads.box_predictor.cls_score.weight.mul_(3)
        network.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(30)
    return network.eval()


@pytest.fixture(scope="session")
def build():
    """`build(settings, num_classes, seed)`: an untrained network with lively outputs, in evaluation mode."""
    return _build


def _target(size: tuple[int, int], *cells: tuple[int, int, int, int, int]) -> dict[str, torch.Tensor]:
    """Rectangles (x0, y0, x1, y1, class), each in a layer of its own."""
    layers = torch.zeros((max(1, len(cells)), *size), dtype=torch.int32)
    for i, (x0, y0, x1, y1, _) in enumerate(cells):
        layers[i, y0:y1, x0:x1] = i + 1
    return {
        "boxes": torch.tensor([cell[:4] for cell in cells], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([cell[4] for cell in cells], dtype=torch.int64),
        "layers": layers,
        "layer_of": torch.arange(len(cells)),
        "values": torch.arange(1, len(cells) + 1, dtype=torch.int32),
    }


@pytest.fixture(scope="session")
def target():
    """`target(size, (x0, y0, x1, y1, class), …)`: the truth of an image with rectangular cells."""
    return _target
