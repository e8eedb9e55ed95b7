import urllib.error
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models as zoo
from torchvision.ops import misc

from everycell.config import ModelSettings, RunSettings
from everycell.errors import ModelError
from everycell.models import CellMaskRCNN, count_parameters, fold_norms, init_backbone
from everycell.models.backbones import FrozenBatchNorm2d, build_backbone
from everycell.models.mask_heads import wide_predictor
from everycell.train.presets import PRESETS
from everycell.transforms import get_recipe

RESNET18 = ModelSettings(backbone="resnet18", fpn_channels=8)


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    """A filled ResNet-18, as ImageNet weights come: float tensors, norms with statistics, and the classifier."""
    torch.manual_seed(5)
    state = zoo.resnet18(weights=None).state_dict()
    return {key: value + 0.25 if key.endswith("running_mean") else value for key, value in state.items()}


@pytest.fixture
def write(tmp_path) -> Callable:
    """`write(state)`: the state as a weights file."""

    def write(state):
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "weights.safetensors")
        return tmp_path / "weights.safetensors"

    return write


@pytest.mark.parametrize(
    ("preset", "trainable", "total"), [("reference", 70_658_605, 70_881_005), ("baseline", 43_716_141, 43_938_541)]
)
def test_parameter_counts_of_the_reports_two_systems(preset, trainable, total):
    with torch.device("meta"):
        network = CellMaskRCNN(PRESETS[preset].model, 4)
    assert count_parameters(network) == (trainable, total)
    assert total < 200_000_000


@pytest.mark.parametrize("preset", ["reference", "baseline"])
def test_which_parameters_of_the_reports_two_systems_are_frozen(preset):
    """Stem and layer1: convolutions only, since a frozen norm has no parameters; the same in both."""
    with torch.device("meta"):
        network = CellMaskRCNN(PRESETS[preset].model, 4)
    assert [name for name, parameter in network.named_parameters() if not parameter.requires_grad] == [
        "backbone.body.conv1.weight",
        "backbone.body.layer1.0.conv1.weight",
        "backbone.body.layer1.0.conv2.weight",
        "backbone.body.layer1.0.conv3.weight",
        "backbone.body.layer1.0.downsample.0.weight",
        "backbone.body.layer1.1.conv1.weight",
        "backbone.body.layer1.1.conv2.weight",
        "backbone.body.layer1.1.conv3.weight",
        "backbone.body.layer1.2.conv1.weight",
        "backbone.body.layer1.2.conv2.weight",
        "backbone.body.layer1.2.conv3.weight",
    ]


# What turning a switch from the baseline's value to the reference's adds to the trainable parameters, by hand.
SWITCHES = {
    # 17 more blocks in layer3: 1 × 1 from 1024 to 256 channels, 3 × 3, 1 × 1 back, without bias.
    "backbone": 17 * (1024 * 256 + 256 * 256 * 9 + 256 * 1024),
    "anchor_sizes": 0,
    # Four 3 × 3 of 512 with bias, their norms, and 1 × 1 to five classes; without the deconvolution and its 1 × 1.
    "mask_head": (256 * 9 + 1) * 512 + 3 * (512 * 9 + 1) * 512 + 4 * 2 * 512 + 513 * 5 - (256 * 4 + 1) * 256 - 257 * 5,
    "recipe": 0,
}


@pytest.mark.parametrize("on", [on for n in range(5) for on in combinations(SWITCHES, n)])
def test_the_four_switches_are_free_of_each_other(on):
    off, full = PRESETS["baseline"], PRESETS["reference"]
    values = off.model_dump()
    for switch in on:
        table = "train" if switch == "recipe" else "model"
        values[table][switch] = full.model_dump()[table][switch]
    run = RunSettings.parse(values, "switches")
    assert (run == off, run == full) == (len(on) == 0, len(on) == 4)
    with torch.device("meta"):
        network = CellMaskRCNN(run.model, 4)
    added = sum(SWITCHES[switch] for switch in on)
    assert count_parameters(network) == (43_716_141 + added, 43_938_541 + added)
    assert len(network.backbone.body.layer3) == (23 if "backbone" in on else 6)
    assert network.rpn.anchor_generator.sizes[0] == ((8,) if "anchor_sizes" in on else (32,))
    assert hasattr(network.roi_heads.mask_predictor, "conv4") == ("mask_head" in on)
    assert bool(get_recipe(run.train.recipe).steps) == ("recipe" in on)


@pytest.mark.parametrize("preset", PRESETS)
def test_stem_and_layer1_are_frozen_whatever_the_preset(preset):
    settings = PRESETS[preset].model
    with torch.device("meta"):
        network = CellMaskRCNN(settings, 1)
    frozen = {name.split(".")[2] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == ({"conv1", "layer1"} if settings.trainable_layers == 3 else {"conv1"})
    assert all(isinstance(m, FrozenBatchNorm2d) for n, m in network.backbone.body.named_modules() if "bn" in n)


@pytest.mark.parametrize("count", range(6))
def test_layers_are_frozen_from_the_bottom(count):
    backbone = build_backbone(RESNET18.model_copy(update={"trainable_layers": count}))
    trained = {name.split(".")[0] for name, p in backbone.body.named_parameters() if p.requires_grad}
    assert trained == set(["layer4", "layer3", "layer2", "layer1", "conv1"][:count])
    assert all(p.requires_grad for p in backbone.fpn.parameters())


@pytest.mark.parametrize("layers", [3, 4])
def test_maps_of_the_pyramid(layers):
    backbone = build_backbone(RESNET18.model_copy(update={"backbone_layers": layers}))
    maps = backbone(torch.zeros(1, 3, 64, 128))
    sizes = [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)][: layers + 1]
    assert list(maps) == [*map(str, range(layers)), "pool"]
    assert [tuple(m.shape) for m in maps.values()] == [(1, 8, *size) for size in sizes]


def test_frozen_norm_equals_torchvisions_and_keeps_bfloat16():
    generator = torch.Generator().manual_seed(0)
    own, theirs = FrozenBatchNorm2d(6), misc.FrozenBatchNorm2d(6)
    state = {key: torch.rand(6, generator=generator) for key in own.state_dict()}
    own.load_state_dict(state)
    theirs.load_state_dict(state)
    x = torch.randn(2, 6, 4, 5, generator=generator)
    assert torch.equal(own(x), theirs(x))
    half = own(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), own(x), rtol=0.03, atol=0.03)


class TestInit:
    def test_whole_weights_fill_everything_and_keep_norms_frozen(self, resnet18, write):
        backbone = build_backbone(RESNET18)
        before = count_parameters(backbone)
        report = init_backbone(backbone, RESNET18, write(resnet18))
        assert report.missing == report.unused == ()
        assert len(report.filled) == len(backbone.body.state_dict()) == 100
        assert str(report).endswith("weights.safetensors: filled 100 backbone tensors")
        assert count_parameters(backbone) == before
        for key, value in backbone.body.state_dict().items():
            assert torch.equal(value, resnet18[key])

    def test_a_missing_layer4_gets_trainable_norms_and_is_named(self, resnet18, write):
        backbone = build_backbone(RESNET18)
        partial = {key: value for key, value in resnet18.items() if not key.startswith(("layer4", "fc"))}
        report = init_backbone(backbone, RESNET18, write(partial))
        assert {name.split(".")[0] for name in report.missing} == {"layer4"}
        assert len(report.missing) == 25  # five convolutions, and five norms of four tensors
        assert "25 start at random, with trainable batch norm (layer4.0, layer4.1)" in str(report)
        kinds = {name: type(m) for name, m in backbone.body.named_modules() if "bn" in name or "downsample.1" in name}
        for name, kind in kinds.items():
            assert kind is (torch.nn.BatchNorm2d if name.startswith("layer4") else FrozenBatchNorm2d)
        # A layer that is missing as a whole is no grown layer: it has nothing to be the identity of.
        assert backbone.body.layer4[1].bn2.weight.tolist() == [1.0] * 512
        # The norms' weights and biases are parameters now: 2 x 5 x 512.
        assert count_parameters(backbone)[0] == count_parameters(build_backbone(RESNET18))[0] + 5120

    def test_grown_blocks_start_as_the_identity(self, resnet18, write):
        settings = RESNET18.model_copy(update={"backbone": "resnet34"})
        backbone = build_backbone(settings)
        report = init_backbone(backbone, settings, write(resnet18))
        assert "layer1.2.conv1.weight" in report.missing
        assert "layer1.1.conv1.weight" in report.filled
        grown = backbone.body.layer3[4].train()
        assert grown.bn2.weight.tolist() == [0.0] * 256
        assert grown.bn1.weight.tolist() == [1.0] * 256
        x = torch.rand(2, 256, 4, 4)
        assert torch.equal(grown(x), x)

    def test_grown_layers_below_the_frozen_border_stay_frozen(self, resnet18, write):
        settings = RESNET18.model_copy(update={"backbone": "resnet34"})
        backbone = build_backbone(settings)
        init_backbone(backbone, settings, write(resnet18))
        assert not any(p.requires_grad for p in backbone.body.layer1.parameters())
        assert all(p.requires_grad for p in backbone.body.layer2.parameters())

    def test_random_weights_have_trainable_norms_everywhere(self):
        settings = RESNET18.model_copy(update={"trainable_layers": 5})
        backbone = build_backbone(settings)
        report = init_backbone(backbone, settings, "random")
        assert report.filled == ()
        assert not any(isinstance(m, FrozenBatchNorm2d) for m in backbone.body.modules())
        assert all(p.requires_grad for p in backbone.parameters())
        assert backbone.body.layer1[0].bn2.weight.tolist() == [1.0] * 64

    def test_tensors_without_a_place_are_counted(self, resnet18, write):
        settings = RESNET18.model_copy(update={"backbone_layers": 3})
        report = init_backbone(build_backbone(settings), settings, write(resnet18))
        assert report.missing == ()
        assert {name.split(".")[0] for name in report.unused} == {"layer4"}
        assert "25 tensors of the file are not used" in str(report)

    def test_imagenet_weights_come_from_torchvision(self, monkeypatch, resnet18):
        monkeypatch.setattr(type(zoo.ResNet18_Weights.DEFAULT), "get_state_dict", lambda self, **options: resnet18)
        report = init_backbone(build_backbone(RESNET18), RESNET18, "imagenet")
        assert (report.source, len(report.filled), report.missing) == ("imagenet", 100, ())

    def test_a_failing_download_names_the_way_out(self, monkeypatch):
        def fail(self, **options):
            raise urllib.error.URLError("no route to host")

        monkeypatch.setattr(type(zoo.ResNet18_Weights.DEFAULT), "get_state_dict", fail)
        with pytest.raises(ModelError, match=r"resnet18 .*no route to host.*--init-weights FILE") as error:
            init_backbone(build_backbone(RESNET18), RESNET18, "imagenet")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, "no such weights file"),
            (b"\x80\x02}q\x00.", "not a .safetensors file"),  # a pickle
            (b"", "not a .safetensors file"),
            ("folder", "not a .safetensors file"),
        ],
    )
    def test_files_that_are_no_weights(self, tmp_path, content, expected):
        path = tmp_path / "weights.pth"
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=expected) as error:
            init_backbone(build_backbone(RESNET18), RESNET18, path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)

    def test_weights_of_another_network(self, write):
        path = write({"encoder.weight": torch.zeros(2), "conv1.weight": torch.zeros(1, 1, 7, 7)})
        with pytest.raises(ModelError, match="no tensor fits resnet18; expected names such as 'layer1"):
            init_backbone(build_backbone(RESNET18), RESNET18, path)


def set_norms(network):
    """Batch norms of a network, as if trained."""
    norms = [m for m in network.modules() if isinstance(m, FrozenBatchNorm2d | torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1)
        norm.bias.data.uniform_(-0.3, 0.3)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    return norms


def assert_folding_changes_nothing(network, x):
    torch.manual_seed(0)
    norms = set_norms(network.eval())
    with torch.no_grad():
        before = network(x)
        fold_norms(network)
        after = network(x)
    assert norms
    assert not any(norm in list(network.modules()) for norm in norms)
    pairs = zip(before.values(), after.values(), strict=True) if isinstance(before, dict) else [(before, after)]
    for was, now in pairs:
        torch.testing.assert_close(was, now, rtol=1e-4, atol=1e-4 * float(was.abs().max()))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_folded_norms_compute_the_same(backbone):
    made = build_backbone(ModelSettings(backbone=backbone, backbone_layers=3, fpn_channels=8))
    assert_folding_changes_nothing(made, torch.rand(1, 3, 64, 96))


def test_folded_norms_of_layers_that_started_at_random_compute_the_same():
    made = build_backbone(RESNET18)
    init_backbone(made, RESNET18, "random")
    assert_folding_changes_nothing(made, torch.rand(1, 3, 64, 96))


def test_folded_norms_after_convolutions_with_a_bias_compute_the_same():
    assert_folding_changes_nothing(wide_predictor(8, 3, upsample=False, dropout=0.1), torch.rand(2, 8, 14, 14))
