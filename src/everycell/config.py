"""Frozen, validated settings, with TOML in and out."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from everycell.errors import ConfigError


class Settings(BaseModel):
    """Base of every settings record: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: dict[str, Any], source: str) -> Self:
        """Validate `values`, read from `source`.

        Raises:
            ConfigError: a key is unknown or a value is out of range; the message lists the valid keys.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                owner: Any = cls
                for part in first["loc"][:-1]:
                    owner = owner.model_fields[part].annotation
                raise ConfigError(
                    f"{source}: unknown setting {key!r}; valid are {', '.join(owner.model_fields)}"
                ) from None
            raise ConfigError(f"{source}: {key}: {first['msg']}, got {first['input']!r}") from None


class ModelSettings(Settings):
    """Everything that decides a network's shape and its inference limits.

    The defaults are torchvision's Mask R-CNN; presets change only what they need.
    """

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    backbone_layers: Literal[3, 4] = Field(4, description="residual layers that exist; 3 leaves layer4 away")
    trainable_layers: int = Field(
        3, ge=0, le=5, description="layers trained, counted from the top; 3 freezes stem and layer1"
    )
    fpn_channels: int = Field(256, ge=8)
    anchor_sizes: tuple[int, ...] = Field(
        (32, 64, 128, 256, 512), description="px at network scale, one per pyramid level"
    )
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    box_head_channels: int = Field(1024, ge=8)
    mask_head: Literal["standard", "wide", "wide28"] = "standard"
    mask_channels: int = Field(256, ge=8)
    mask_dropout: float = Field(0.0, ge=0, lt=1)
    class_agnostic: bool = Field(
        False, description="one box and mask for all classes: a box keeps its best class and scores as any cell"
    )
    class_context: float | None = Field(
        None, ge=1, description="classes from a head of their own, which sees the box widened this many times too"
    )
    canonical_px: int = Field(224, ge=8, description="box size that reads pyramid level 4 (Lin et al. 2017, eq. 1)")
    aligned: bool = Field(
        False, description="sub-pixel exact RoIAlign and masks; False is torchvision's half-pixel rule"
    )
    normalize: Literal["none", "percentile"] = "none"
    resize_short_px: int | None = Field(None, description="resize the short side to this before the network")
    resize_max_px: int = Field(1333, description="longest side after `resize_short_px`")
    magnification: float = Field(1.0, gt=0, description="network px per image px when `resize_short_px` is None")
    rpn_score_thresh: float = 0.05
    rpn_nms_thresh: float = 0.7
    proposals_train: int = 2000
    proposals_test: int = 1000
    box_batch_per_image: int = 512
    mask_batch_per_image: int | None = Field(
        None, ge=1, description="boxes of an image that the mask loss samples; None takes all of cells"
    )
    nms_thresh: float = 0.5
    detections_per_image: int = 1000
    max_covered: float | None = Field(
        None, ge=0, le=1, description="drop a cell when a larger share of its mask lies under better ones"
    )

    def levels(self) -> int:
        """Pyramid levels: one per residual layer, and the pooled one."""
        return self.backbone_layers + 1


class TrainSettings(Settings):
    """How a model is trained; the defaults are the report's."""

    init_weights: str = Field(
        "imagenet", description="imagenet, random, a backbone's file, or an everycell model by name or file"
    )
    recipe: str = Field(
        "report",
        description="augmentation: none, report, nuclei or tissue, each with any of +geometry, +stain, +erasing",
    )
    crop_px: int | None = Field(
        None, ge=64, description="side of square training crops at network scale, None for whole images"
    )
    scale_jitter: tuple[float, float] = Field((1.0, 1.0), description="range of the random zoom of a crop")
    epochs: int = Field(100, ge=1)
    steps_per_epoch: int | None = Field(
        None, ge=1, description="optimizer steps; None: as many as every image once needs"
    )
    batch_size: int = Field(2, ge=1, description="images or crops in a batch, shared among the processes")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added up for one optimizer step")
    balance_classes: float = Field(
        0.0, ge=0, le=1, description="0: images alike; up to 1: places drawn so that rare classes come up more"
    )
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["plateau", "cosine"] = "plateau"
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    warmup_steps: int = 0
    clip_norm: float = 1.0
    ema_decay: float = Field(0.0, ge=0, lt=1, description="0 keeps no moving average of the weights")
    keep_start: float = Field(
        0.0, ge=0, le=1, description="share of the start model in the one that is validated and saved"
    )
    early_stopping: int | None = Field(None, ge=1, description="epochs without a better validation mAP")
    val_fraction: float = Field(0.1, ge=0, lt=1, description="share of images held out; 0 trains on all of them")
    val_limit: int | None = Field(None, ge=1, description="validate on at most this many images")
    validate_every: int = Field(1, ge=1)
    seed: int = 0
    bf16: bool = True


class RunSettings(Settings):
    """One training run."""

    model: ModelSettings
    train: TrainSettings


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such settings file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def to_toml(settings: Settings) -> str:
    """Settings as TOML, one table per nested record; settings that are None are left out."""
    lines: list[str] = []
    for key, value in settings.model_dump(mode="json", exclude_none=True).items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()), ""]
        else:
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines).rstrip() + "\n"
