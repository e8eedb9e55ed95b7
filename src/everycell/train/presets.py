"""Named settings of a whole run: model, augmentation, schedule."""

from __future__ import annotations

from everycell.config import ModelSettings, RunSettings, TrainSettings
from everycell.errors import ConfigError

_REFERENCE = ModelSettings(
    backbone="resnet101", anchor_sizes=(8, 16, 32, 64, 128), mask_head="wide", resize_short_px=512
)

# Slim, without layer4, at twice the image's scale, since half of the nuclei in fluorescence are under 14 px across.
_SLIM = ModelSettings(
    backbone="resnet18",
    backbone_layers=3,
    trainable_layers=4,
    fpn_channels=128,
    anchor_sizes=(16, 32, 64, 128),
    box_head_channels=512,
    mask_channels=128,
    class_agnostic=True,
    canonical_px=160,
    aligned=True,
    normalize="percentile",
    magnification=2.0,
    proposals_train=600,
    proposals_test=2000,
    box_batch_per_image=128,
    max_covered=0.5,
)
_SLIM_TRAIN = TrainSettings(
    recipe="nuclei",
    crop_px=256,
    scale_jitter=(0.6, 1.3),
    optimizer="adamw",
    learning_rate=6e-4,
    weight_decay=1e-2,
    schedule="cosine",
    warmup_steps=200,
    clip_norm=5.0,
    ema_decay=0.998,
    epochs=16,
    steps_per_epoch=500,
    val_limit=24,
    validate_every=3,
)

PRESETS: dict[str, RunSettings] = {
    # The report's two systems: whole images, short side 512.
    "baseline": RunSettings(
        model=ModelSettings(resize_short_px=512),
        train=TrainSettings(recipe="none"),
    ),
    "reference": RunSettings(
        model=_REFERENCE,
        train=TrainSettings(recipe="report"),
    ),
    # The reference's network, trained as networks are trained now.
    "modern": RunSettings(
        model=_REFERENCE,
        train=TrainSettings(
            recipe="report+geometry",
            optimizer="adamw",
            learning_rate=2e-4,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=200,
            ema_decay=0.998,
        ),
    ),
    # The shipped one-class model.
    "nuclei": RunSettings(model=_SLIM, train=_SLIM_TRAIN),
    # Stained tissue with several classes, from few images: the one-class model goes on learning.
    "tissue": RunSettings(
        model=_SLIM.model_copy(update={"class_context": 2.0, "mask_batch_per_image": 16}),
        train=_SLIM_TRAIN.model_copy(
            update={
                "init_weights": "nuclei",
                "recipe": "tissue",
                "scale_jitter": (0.8, 1.25),
                "balance_classes": 1.0,
                "epochs": 8,
                "val_limit": None,
                "validate_every": 2,
            }
        ),
    ),
    # A trained model goes on with a few images of one's own; short and gentle, so that it keeps what it knows.
    "finetune": RunSettings(
        model=_SLIM,
        train=_SLIM_TRAIN.model_copy(
            update={
                "init_weights": "nuclei",
                "scale_jitter": (0.8, 1.25),
                "learning_rate": 1e-4,
                "warmup_steps": 50,
                "ema_decay": 0.99,
                "keep_start": 0.5,
                "epochs": 4,
                "steps_per_epoch": 100,
                "val_limit": None,
                "validate_every": 1,
            }
        ),
    ),
}


def get_preset(name: str) -> RunSettings:
    """The preset called `name`.

    Raises:
        ConfigError: there is none; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]
