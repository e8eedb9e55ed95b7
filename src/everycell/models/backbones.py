"""ResNet + FPN backbones, whole or without layer4, from whole or partial ImageNet weights."""

from __future__ import annotations

import urllib.error
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import misc

from everycell.config import ModelSettings
from everycell.errors import ModelError

_LAYERS = ("stem", "layer1", "layer2", "layer3", "layer4")


class FrozenBatchNorm2d(misc.FrozenBatchNorm2d):
    """Frozen batch norm that stays in the input's precision (torchvision's turns bfloat16 into float32)."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift [B, C, H, W]."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype).view(1, -1, 1, 1) + bias.to(x.dtype).view(1, -1, 1, 1)


@dataclass(frozen=True)
class InitReport:
    """What initial weights filled.

    Attributes:
        source: where the weights came from.
        filled: names of tensors taken from the source.
        missing: names of tensors that kept their random start.
        unused: names in the source that there is no place for.
        part: what the names belong to: "backbone", or "model" where the source is a whole one.
    """

    source: str
    filled: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    part: str = "backbone"

    def __str__(self) -> str:
        parts = [f"{self.source}: filled {len(self.filled)} {self.part} tensors"]
        if self.missing:
            depth, how = (2, ", with trainable batch norm") if self.part == "backbone" else (3, "")
            blocks = sorted({".".join(name.split(".")[:depth]) for name in self.missing})
            parts.append(f"{len(self.missing)} start at random{how} ({_shorten(blocks)})")
        if self.unused:
            parts.append(f"{len(self.unused)} tensors of the file are not used")
        return "; ".join(parts)


def _shorten(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])} … {names[-1]}"


def build_backbone(settings: ModelSettings) -> BackboneWithFPN:
    """ResNet + FPN with frozen batch norm and frozen bottom layers; weights are random.

    Returns:
        A module from images float [B, 3, H, W] to a dict of maps [B, fpn_channels, H / s, W / s], s = 4, 8, 16 (, 32)
        and one level pooled from the last.
    """
    body = getattr(zoo, settings.backbone)(weights=None, norm_layer=FrozenBatchNorm2d)
    width = body.inplanes // 8
    layers = range(1, settings.backbone_layers + 1)
    backbone = BackboneWithFPN(
        body,
        return_layers={f"layer{i}": str(i - 1) for i in layers},
        in_channels_list=[width * 2 ** (i - 1) for i in layers],
        out_channels=settings.fpn_channels,
    )
    freeze(backbone, settings)
    return backbone


def freeze(backbone: BackboneWithFPN, settings: ModelSettings) -> None:
    """Freeze all but the top `trainable_layers` of stem, layer1 … layer4, whatever the initial weights were."""
    frozen = _LAYERS[: len(_LAYERS) - settings.trainable_layers]
    for name, parameter in backbone.body.named_parameters():
        layer = name.split(".")[0]
        parameter.requires_grad_((layer if layer in _LAYERS else "stem") not in frozen)


def imagenet_state(backbone: str) -> dict[str, Tensor]:
    """ImageNet weights of torchvision itself (IMAGENET1K_V1), downloaded and cached by torch.hub.

    Raises:
        ModelError: they cannot be downloaded.
    """
    weights = zoo.get_model_weights(backbone)["IMAGENET1K_V1"]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"ImageNet weights of {backbone} could not be downloaded ({error}); "
            "give a local .safetensors file with --init-weights FILE, or --init-weights random"
        ) from None


def init_backbone(backbone: BackboneWithFPN, settings: ModelSettings, source: str | Path) -> InitReport:
    """Fill the backbone from `source`: "imagenet", "random", or a .safetensors file with torchvision's names.

    Blocks that the source does not fill get trainable batch norm instead of frozen, since random weights under frozen
    batch norm explode. A residual block added on top of a filled layer starts as the identity, by a zero weight in its
    last norm (Goyal et al. 2017), so a ResNet-101 grows from a ResNet-50.

    Raises:
        ModelError: the source is missing, damaged, or fits no tensor of the backbone.
    """
    body = backbone.body
    if source == "random":
        state = {}
    elif source == "imagenet":
        state = imagenet_state(settings.backbone)
    else:
        state = _read_weights(Path(source))
    own = body.state_dict()
    filled = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if state and not filled:
        raise ModelError(
            f"{source}: no tensor fits {settings.backbone}; expected names such as 'layer1.0.conv1.weight'"
        )
    ignorable = {"fc.weight", "fc.bias"}
    report = InitReport(
        str(source),
        tuple(sorted(filled)),
        tuple(sorted(own.keys() - filled.keys())),
        tuple(sorted(k for k in state.keys() - filled.keys() - ignorable if not k.endswith("num_batches_tracked"))),
    )
    body.load_state_dict({**own, **{k: v.float() for k, v in filled.items()}})
    _thaw_norms(body, filled.keys())
    freeze(backbone, settings)
    return report


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weights file") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a .safetensors file ({error})") from None


def _thaw_norms(body: nn.Module, filled: Collection[str]) -> None:
    """Swap frozen norms that were not filled for trainable ones; new residual blocks become identities."""
    for name, module in list(body.named_modules()):
        if not isinstance(module, FrozenBatchNorm2d) or f"{name}.weight" in filled:
            continue
        parent = body.get_submodule(name.rpartition(".")[0])
        norm = nn.BatchNorm2d(module.weight.numel(), eps=module.eps)
        leaf = name.rpartition(".")[2]
        last = leaf == ("bn3" if hasattr(parent, "bn3") else "bn2")
        layer = name.split(".")[0]
        grown = last and any(key.startswith(f"{layer}.") for key in filled)
        if grown and getattr(parent, "downsample", None) is None:
            nn.init.zeros_(norm.weight)
        setattr(parent, leaf, norm)


def thaw_norms_like(body: nn.Module, state: dict[str, Tensor]) -> None:
    """Make trainable batch norm where a saved state has it, so that the state can be loaded."""
    thawed = {key.removesuffix(".num_batches_tracked") for key in state if key.endswith(".num_batches_tracked")}
    frozen = {
        f"{name}.weight" for name, m in body.named_modules() if isinstance(m, FrozenBatchNorm2d) and name not in thawed
    }
    _thaw_norms(body, frozen)


def fold_norms(network: nn.Module) -> None:
    """Put batch norms into the convolutions before them, in place: the same function in fewer passes.

    ResNet modules and the wide mask predictor register a norm right after its convolution. For prediction only: the
    parameter names are no longer torchvision's.
    """
    for parent in list(network.modules()):
        children = dict(parent.named_children())
        for (_, conv), (name, norm) in pairwise(children.items()):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d):
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())


def _fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> None:
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(norm.bias - shift * scale, requires_grad=False)


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """(trainable, total) parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def supports_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on `device`."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
