"""Validation: losses that disturb nothing, mask AP, and the score threshold."""

from __future__ import annotations

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
    """

    map: float
    ap50: float
    ap75: float
    score_thresh: float
    f1_50: float
    max_dets: int


def validate(model: Model, samples: list[Sample]) -> Validation:
    """Predict `samples` and compare with their truth."""
    truths = [sample.to_instances() for sample in samples]
    preds = [model.predict(sample.image, score_thresh=AP_SCORE_THRESH) for sample in samples]
    ap = average_precision(truths, preds, len(model.class_names))
    thresh, f1 = best_threshold(truths, preds)
    return Validation(ap.map, ap.ap50, ap.ap75, thresh, f1, ap.max_dets)


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
    return round(float(score[best]), 4), float(f1[best])


def validation_loss(
    network: CellMaskRCNN, source: CropSource, device: torch.device, *, bf16: bool, limit: int | None
) -> float:
    """Mean total loss over the validation crops, in evaluation mode; torch's random state is put back."""
    losses = []
    network.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        torch.manual_seed(0)
        for position in range(len(source.indices))[:limit]:
            example = source.validation_example(position)
            target = {key: value.to(device) for key, value in example.target.items()}
            _, terms = network([example.image.to(device)], [target])
            losses.append(float(sum(terms.values())))
    return float(np.mean(losses))
