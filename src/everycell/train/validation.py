"""Validation: losses that disturb nothing, mask AP, and the score threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from everycell.metrics import average_precision, match, overlap
from everycell.models import CellMaskRCNN
from everycell.predict import Model
from everycell.structures import Instances, Sample
from everycell.train.data import CropSource

AP_SCORE_THRESH = 0.05


@dataclass(frozen=True)
class Validation:
    """How a model does on validation images.

    Attributes:
        map: COCO mask AP over IoU 0.50 … 0.95, mean over classes.
        ap50: the same at 0.50.
        ap75: the same at 0.75.
        score_thresh: the score that gives the best pooled F1 at IoU 0.5.
        f1_50: that F1.
        max_dets: COCO's maxDets, above the largest count of an image.
        class_ap: AP of each class by name; NaN where it has no cell in the images.
        class_ap50: the same at 0.50.
    """

    map: float
    ap50: float
    ap75: float
    score_thresh: float
    f1_50: float
    max_dets: int
    class_ap: dict[str, float]
    class_ap50: dict[str, float]


def validation_row(validation: Validation | None, class_names: Sequence[str]) -> dict[str, float | None]:
    """Columns of the history; None where there was no validation, or where a class has no cell."""
    keys = {f"val_{key}": key for key in ("map", "ap50", "ap75", "f1_50")}
    row = {column: getattr(validation, key) if validation else None for column, key in keys.items()}
    for key in ("ap", "ap50"):
        for name in class_names:
            row[f"val_{key}_{name}"] = getattr(validation, f"class_{key}")[name] if validation else None
    return {column: None if value is None or math.isnan(value) else value for column, value in row.items()}


def validate(model: Model, samples: list[Sample]) -> Validation:
    """Predict `samples` and compare with their truth."""
    truths = [sample.to_instances() for sample in samples]
    preds = [model.predict(sample.image, score_thresh=AP_SCORE_THRESH) for sample in samples]
    ap = average_precision(truths, preds, len(model.class_names))
    thresh, f1 = best_threshold(truths, preds)
    by_name = dict(zip(model.class_names, ap.per_class, strict=True))
    return Validation(
        map=ap.map,
        ap50=ap.ap50,
        ap75=ap.ap75,
        score_thresh=thresh,
        f1_50=f1,
        max_dets=ap.max_dets,
        class_ap={name: of_class.ap for name, of_class in by_name.items()},
        class_ap50={name: of_class.ap50 for name, of_class in by_name.items()},
    )


def best_threshold(truths: list[Instances], preds: list[Instances]) -> tuple[float, float]:
    """The score threshold with the best pooled, class-blind F1 at IoU 0.5, and that F1; (0.5, 0) without any match."""
    scores, hits = [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    for truth, pred in zip(truths, preds, strict=True):
        hit = np.zeros(len(pred), np.bool_)
        hit[match(overlap(truth.masks, pred.masks).iou(), 0.5).pred] = True
        scores.append(pred.scores)
        hits.append(hit)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    score, hit = np.concatenate(scores)[order], np.concatenate(hits)[order]
    if not hit.any():
        return 0.5, 0.0
    # 2 TP / (predicted + true) when everything down to each score is kept.
    f1 = 2 * np.cumsum(hit) / (np.arange(1, len(hit) + 1) + sum(len(truth) for truth in truths))
    best = int(np.argmax(f1))
    # Rounded down, so that the cell with that score is kept.
    return math.floor(float(score[best]) * 1e4) / 1e4, float(f1[best])


def validation_loss(
    network: CellMaskRCNN, source: CropSource, device: torch.device, *, bf16: bool, limit: int | None
) -> float:
    """Mean total loss over the validation crops, in evaluation mode; torch's random state is put back."""
    losses = []
    network.eval()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        torch.manual_seed(0)
        for position in range(len(source.indices))[:limit]:
            example = source.validation_example(position)
            target = {key: value.to(device) for key, value in example.target.items()}
            _, terms = network([example.image.to(device)], [target])
            losses.append(float(sum(terms.values())))
    return float(np.mean(losses))
