import pytest
import torch
import torch.nn.functional as F
from torch import nn

from everycell.config import ModelSettings
from everycell.models import winograd
from everycell.models.mask_heads import build_mask_head
from everycell.models.winograd import WinogradConv2d, convolve, speed_up, transform_kernel

SHAPES = [(1, 1, 1), (2, 5, 5), (3, 14, 14), (1, 6, 23), (1, 100, 9)]


@pytest.fixture
def made():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def everywhere(monkeypatch):
    """Winograd's way for layers of any size."""
    for limit in ("_LEAST_CHANNELS", "_LEAST_TILES", "_LEAST_TILES_LEARNT"):
        monkeypatch.setattr(winograd, limit, 0)


def layer(made, c_in=6, c_out=4):
    conv = nn.Conv2d(c_in, c_out, 3, padding=1)
    for parameter in conv.parameters():
        parameter.data = torch.randn(parameter.shape, generator=made)
    return conv


def worst(found, expected):
    return float((found - expected).abs().max() / expected.std())


@pytest.mark.parametrize(("n", "height", "width"), SHAPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_convolution_is_torchs(made, monkeypatch, n, height, width, memory_format):
    monkeypatch.setattr(winograd, "_TILES_AT_A_TIME", 7)  # so that images and rows are taken in several parts
    conv, x = layer(made), torch.randn(n, 6, height, width, generator=made).to(memory_format=memory_format)
    with torch.no_grad():
        expected = conv.double()(x.double())
        weight, bias = (p.float() for p in (conv.weight, conv.bias))
        found = convolve(x, transform_kernel(weight), bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert worst(found, expected) < 1e-4


def test_no_image_and_no_bias(made):
    weight = torch.randn(4, 6, 3, 3, generator=made)
    assert convolve(torch.zeros(0, 6, 14, 14), transform_kernel(weight), None).shape == (0, 4, 14, 14)
    x = torch.randn(1, 6, 8, 8, generator=made)
    assert worst(convolve(x, transform_kernel(weight), None), F.conv2d(x, weight, padding=1)) < 1e-4


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("least_channels", [0, 256])
@pytest.mark.parametrize(("n", "height", "width"), SHAPES[1:])
def test_gradients_are_torchs(made, monkeypatch, n, height, width, least_channels):
    monkeypatch.setattr(winograd, "_TILES_AT_A_TIME", 7)
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", least_channels)  # 256: only the kernels' gradients
    fast, x = layer(made), torch.randn(n, 6, height, width, generator=made)
    weights = torch.randn(n, 4, height, width, generator=made)
    plain = nn.Conv2d(6, 4, 3, padding=1).double()
    plain.load_state_dict(fast.state_dict())
    fast.__class__ = WinogradConv2d
    found, expected = [], []
    for conv, gradients in ((fast, found), (plain, expected)):
        place = x.detach().to(conv.weight.dtype).requires_grad_()
        (torch.relu_(conv(place)) * weights).sum().backward()  # as in networks, changed in place
        gradients += [place.grad, conv.weight.grad, conv.bias.grad]
    assert all(worst(own, theirs) < 1e-4 for own, theirs in zip(found, expected, strict=True))


@pytest.mark.usefixtures("everywhere")
def test_frozen_kernels_get_no_gradient(made):
    conv = layer(made)
    conv.__class__ = WinogradConv2d
    conv.requires_grad_(requires_grad=False)
    x = torch.randn(1, 6, 9, 9, generator=made, requires_grad=True)
    conv(x).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is None


def test_only_wide_plain_layers_change_and_keep_their_names():
    network = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    speed_up(network)
    assert [type(module) for module in network] == [WinogradConv2d] + [nn.Conv2d] * 6
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("reason", ["bfloat16", "few tiles", "few channels", "float64"])
def test_torchs_way_is_taken_elsewhere(made, monkeypatch, reason):
    if reason.startswith("few"):
        monkeypatch.setattr(winograd, f"_LEAST_{reason[4:].upper()}", 5)
    monkeypatch.setattr(winograd, "convolve", lambda *_: pytest.fail("not torch's"))
    conv, x = layer(made), torch.randn(1, 6, 10, 10, generator=made)
    if reason == "float64":
        conv, x = conv.double(), x.double()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=reason == "bfloat16"):
        expected = conv(x)
        conv.__class__ = WinogradConv2d
        assert torch.equal(conv(x), expected)


@pytest.mark.usefixtures("everywhere")
def test_a_network_gives_the_same(made):
    torch.manual_seed(0)
    head, predictor = build_mask_head(ModelSettings(mask_head="wide"), 3)
    network = nn.Sequential(head, predictor).eval()
    x = torch.rand(2, 256, 14, 14, generator=made)
    with torch.inference_mode():
        expected = network(x)
        speed_up(network)
        found = network(x)
    assert sum(isinstance(module, WinogradConv2d) for module in network.modules()) == 8
    assert not torch.equal(found, expected)
    assert worst(found, expected) < 1e-4


@pytest.mark.usefixtures("everywhere")
def test_a_frozen_layer_transforms_its_kernel_once(made, monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS_LEARNT", 0)
    network = nn.Sequential(layer(made))
    x = torch.randn(1, 6, 9, 9, generator=made)
    speed_up(network, frozen=True)
    with torch.no_grad():
        expected = F.conv2d(x, network[0].weight, network[0].bias, padding=1)
        first = network(x)
        monkeypatch.setattr(winograd, "transform_kernel", None)
        assert torch.equal(network(x), first)
    assert worst(first, expected) < 1e-4
    assert set(network.state_dict()) == {"0.weight", "0.bias"}
