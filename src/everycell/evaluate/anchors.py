"""How well anchors and proposals cover the cells of a data set, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.config import ModelSettings
from everycell.models import network_zoom
from everycell.models.anchors import COVERED, POSITIVE, TrueBoxes, all_best_ious, suggest_sizes, taught

SUGGESTED = "suggested"
_EDGES_PX = (0, 8, 16, 32, 64, 128, np.inf)


@dataclass(frozen=True)
class Coverage:
    """How well anchors fit some cells.

    Attributes:
        n_cells: how many cells, at least one.
        covered_50: share with an anchor of IoU ≥ 0.5.
        covered_70: share with an anchor of IoU ≥ 0.7, which is positive in training.
        mean_best_iou: mean of each cell's best IoU with any anchor.
        best_anchor_only: cells without an anchor of IoU ≥ 0.7; in training only their best anchor is positive, whatever
            its IoU.
        never_taught: cells that no positive anchor is taught, see `everycell.models.anchors.taught`.
    """

    n_cells: int
    covered_50: float
    covered_70: float
    mean_best_iou: float
    best_anchor_only: int
    never_taught: int

    @classmethod
    def of(cls, ious: NDArray[np.float64], shown: NDArray[np.bool_]) -> Coverage:
        """Of the cells with these best IoUs, float64 [N], of which training shows those in `shown`, bool [N]."""
        return cls(
            n_cells=len(ious),
            covered_50=float((ious >= COVERED).mean()),
            covered_70=float((ious >= POSITIVE).mean()),
            mean_best_iou=float(ious.mean()),
            best_anchor_only=int((ious < POSITIVE).sum()),
            never_taught=int((~shown).sum()),
        )


@dataclass(frozen=True)
class AnchorFit:
    """One set of anchors on all cells of a data set.

    Attributes:
        names: who has these anchors: presets, and `suggested` for the set that fits the data.
        anchor_sizes: px at network scale, one for each pyramid level.
        overall: all cells.
        by_size: cells by size, see `size_groups`.
        ious: best IoU of each cell, float64 [N].
    """

    names: tuple[str, ...]
    anchor_sizes: tuple[int, ...]
    overall: Coverage
    by_size: Mapping[str, Coverage]
    ious: NDArray[np.float64]

    def as_json(self) -> dict[str, Any]:
        """Everything but the single IoUs."""
        return {
            "names": list(self.names),
            "anchor_sizes": list(self.anchor_sizes),
            "overall": asdict(self.overall),
            "by_size": {label: asdict(coverage) for label, coverage in self.by_size.items()},
        }


def size_groups(sides: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Cells by size in octaves, bool [N] each; a group without cells is left out.

    Args:
        sides: of the square as large as each cell's box, px of the image, float64 [N].
    """
    groups = {}
    for low, high in pairwise(_EDGES_PX):
        chosen = (sides >= low) & (sides < high)
        if chosen.any():
            groups[f"<{high}" if low == 0 else f"≥{low}" if high == np.inf else f"{low}–{high}"] = chosen
    return groups


def fit_anchors(truths: Sequence[TrueBoxes], models: Mapping[str, ModelSettings]) -> list[AnchorFit]:
    """Measure the anchors of `models`, and last those that fit the cells best; equal sets are measured once.

    Args:
        truths: cells of each image, px of the image; at least one cell in all.
        models: by name; they share scale, pyramid levels and anchor ratios.
    """
    model = next(iter(models.values()))
    ratios = model.anchor_ratios
    zoomed = [truth.zoomed(network_zoom(model, truth.size)) for truth in truths]
    names: dict[tuple[int, ...], list[str]] = {}
    for name, settings in models.items():
        names.setdefault(settings.anchor_sizes, []).append(name)
    names.setdefault(suggest_sizes(zoomed, ratios, list(names)), []).append(SUGGESTED)
    groups = size_groups(np.concatenate([truth.sides() for truth in truths]))
    fits = []
    for sizes, owners in names.items():
        ious = all_best_ious(zoomed, sizes, ratios)
        shown = np.concatenate([taught(truth, sizes, ratios) for truth in zoomed])
        by_size = {label: Coverage.of(ious[chosen], shown[chosen]) for label, chosen in groups.items()}
        fits.append(AnchorFit(tuple(owners), sizes, Coverage.of(ious, shown), by_size, ious))
    return fits


@dataclass(frozen=True)
class Recall:
    """Share of some cells that a box of IoU ≥ 0.5 covers after each step of `everycell.predict.proposals.STEPS`."""

    n_cells: int
    anchors: float
    candidates: float
    after_nms: float
    proposals: float


def recall_by_size(sides: NDArray[np.float64], covered: NDArray[np.bool_]) -> dict[str, Recall]:
    """Recall of all cells, then of each of the `size_groups`.

    Args:
        sides: float64 [N], N ≥ 1.
        covered: bool [steps, N].
    """
    groups = {"all": np.ones(len(sides), np.bool_), **size_groups(sides)}
    return {
        label: Recall(int(chosen.sum()), *covered[:, chosen].mean(axis=1).tolist()) for label, chosen in groups.items()
    }
