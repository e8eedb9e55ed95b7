"""How far two ways through the same weights find the same cells."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.evaluate import Evaluator
from everycell.metrics import match, overlap
from everycell.structures import Instances

MIN_SCORE = 0.3
IOUS = (0.95, 0.9, 0.5)


class Agreement:
    """Cells of torchvision that everycell finds too, added up over images; and AP50 of both."""

    def __init__(self) -> None:
        self.n_images = self.n_cells = 0
        self.matched: dict[tuple[str, float], int] = defaultdict(int)
        self.differences: list[NDArray[np.float32]] = []
        self.evaluators: dict[str, Evaluator] = {}

    def add(
        self,
        truth: Instances | None,
        pasted: Instances,
        resampled: Instances,
        everycell: Instances,
        without_rule: Instances,
    ) -> None:
        """Count one image.

        Args:
            truth: if it is known, for AP50.
            pasted: torchvision's cells, as it pastes them.
            resampled: the same cells in the same order, brought into the image as everycell does it.
            everycell: its cells.
            without_rule: its cells, those that lie under better ones included.
        """
        self.n_images += 1
        sure = pasted.scores >= MIN_SCORE
        self.n_cells += int(sure.sum())
        for way, theirs in (("pasted", pasted.select(sure)), ("resampled", resampled.select(sure))):
            iou = overlap(theirs.masks, without_rule.masks).iou()
            for thresh in IOUS:
                pairs = match(iou, thresh)
                self.matched[way, thresh] += len(pairs.truth)
        # Of the last: whatever is one cell to both.
        self.differences.append(np.abs(theirs.scores[pairs.truth] - without_rule.scores[pairs.pred]))
        if truth is not None:
            found = {"pasted": pasted, "resampled": resampled, "everycell": everycell, "without_rule": without_rule}
            for way, cells in found.items():
                evaluator = self.evaluators.setdefault(way, Evaluator(("cell",)))
                evaluator.add(str(self.n_images), class_blind(truth), class_blind(cells))

    def result(self) -> dict[str, Any]:
        """Shares of torchvision's cells, quantiles of the score difference, AP50."""
        differences = np.concatenate(self.differences) if self.n_cells else np.zeros(1)
        return {
            "images": self.n_images,
            "cells": self.n_cells,
            "found": {
                f"{way}, IoU > {thresh}": round(n / max(1, self.n_cells), 4)
                for (way, thresh), n in self.matched.items()
            },
            "score_difference": {f"p{q}": round(float(np.percentile(differences, q)), 4) for q in (50, 95, 100)},
            "ap50": {way: round(evaluator.result().ap50, 4) for way, evaluator in self.evaluators.items()},
        }


def class_blind(cells: Instances) -> Instances:
    """The same cells, all of one class: data sets and models differ in theirs."""
    return replace(cells, class_ids=np.ones_like(cells.class_ids), class_names=())
