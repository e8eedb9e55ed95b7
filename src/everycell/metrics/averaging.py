"""Panoptic quality (PQ) of several classes and images under each published averaging rule.

With the matched and unmatched cells of one class, PQ = (sum of IoU of the matches) / (TP + FP / 2 + FN / 2), where a
match has the same class and an IoU strictly above 0.5 (Kirillov et al. 2019, "Panoptic Segmentation", CVPR). Papers
that call their figure PQ, bPQ or mPQ differ in how they average it:

- `bpq` and `mpq`, PanNuke (Gamper et al. 2020, "PanNuke Dataset Extension, Insights and Baselines", arXiv:2003.10778,
  and its published code): PQ blind to classes, or the mean PQ over the classes that the image's truth holds; then the
  mean over the images of each group (there a tissue), then over groups. Images without a true cell are left out, and so
  are false positives of a class that the image's truth does not hold.
- `mpq_monusac`, the MoNuSAC challenge (Verma et al. 2021, IEEE Transactions on Medical Imaging 40(12)) as its code
  ranked: `mpq` with one mean over all images. The code's mistake in counting false positives is not repeated here.
- `mpq_monusac_corrected`, after Foucart, Debeir and Decaestecker 2022 (IEEE Transactions on Medical Imaging 41(4)): the
  same over the classes that truth or prediction hold, so that a class that was only predicted counts as 0. For one team
  of the challenge their code gives 0.424 in place of 0.554.
- `mpq_plus`, mPQ+ of CoNIC (Graham et al. 2021, arXiv:2111.14485): counts of all images together, PQ of each class,
  mean over classes. Kirillov et al. average in this way too.

A class that occurs in no image, true or predicted, is left out of every mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from everycell.metrics.matching import match
from everycell.metrics.overlap import Overlap


@dataclass(frozen=True)
class ClassCounts:
    """Matches of one image, or of several added up, at IoU strictly above 0.5.

    Entry 0 of each array is blind to classes, entries 1 … K are of the classes, where a match needs equal classes.

    Attributes:
        tp: int64 [K + 1], matches.
        fp: int64 [K + 1], predicted cells without a match.
        fn: int64 [K + 1], true cells without a match.
        iou_sum: float64 [K + 1], summed IoU of the matches.
    """

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    iou_sum: NDArray[np.float64]

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou_sum + other.iou_sum)

    @property
    def pq(self) -> NDArray[np.float64]:
        """Panoptic quality, float64 [K + 1]; NaN where nothing is true and nothing was found."""
        whole = self.tp + (self.fp + self.fn) / 2
        values: NDArray[np.float64] = np.divide(self.iou_sum, whole, out=np.full(len(whole), np.nan), where=whole > 0)
        return values


@dataclass(frozen=True)
class PQAverages:
    """PQ of any number of images under each rule (see the module), in [0, 1]; NaN where a rule has nothing to average.

    Attributes:
        bpq: PanNuke, blind to classes.
        mpq: PanNuke.
        mpq_monusac: MoNuSAC challenge.
        mpq_monusac_corrected: Foucart et al.
        mpq_plus: CoNIC.
        per_class: K entries, the mean over the images whose truth holds the class, as in PanNuke.
        per_class_pooled: K entries, from the counts of all images together, as in CoNIC.
    """

    bpq: float
    mpq: float
    mpq_monusac: float
    mpq_monusac_corrected: float
    mpq_plus: float
    per_class: tuple[float, ...]
    per_class_pooled: tuple[float, ...]


def class_counts(
    overlap: Overlap, truth_classes: NDArray[np.int64], pred_classes: NDArray[np.int64], n_classes: int
) -> ClassCounts:
    """Count the matches of one image whose cells do not overlap within a set.

    Args:
        overlap: of N true and M predicted cells.
        truth_classes: int64 [N], 1 … K.
        pred_classes: int64 [M], 1 … K.
        n_classes: K.
    """
    iou = overlap.iou()
    pairs = iou.tocoo()
    same = truth_classes[pairs.row] == pred_classes[pairs.col]
    of_class = csr_array((pairs.data[same], (pairs.row[same], pairs.col[same])), shape=iou.shape)
    blind, matches = match(iou, 0.5), match(of_class, 0.5)
    matched_classes = truth_classes[matches.truth]

    def per_class(class_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(class_ids, minlength=n_classes + 1)

    tp = per_class(matched_classes)
    fp, fn = per_class(pred_classes) - tp, per_class(truth_classes) - tp
    iou_sum = np.zeros(n_classes + 1)  # bincount would turn no weight at all into integers
    np.add.at(iou_sum, matched_classes, matches.iou)
    tp[0], fp[0], fn[0], iou_sum[0] = blind.counts.tp, blind.counts.fp, blind.counts.fn, blind.iou.sum()
    return ClassCounts(tp, fp, fn, iou_sum)


def average_pq(images: Sequence[ClassCounts], groups: Sequence[str] | None = None) -> PQAverages:
    """PQ of the images under each published averaging rule.

    Args:
        images: counts of each image, at least one, all of the same K classes.
        groups: the group (tissue, organ, patient) of each image for `bpq` and `mpq`; one group unless given.
    """
    assert images and (groups is None or len(groups) == len(images))
    pq = np.stack([image.pq for image in images])
    in_truth = np.stack([image.tp + image.fn > 0 for image in images])
    of_truth = np.where(in_truth, pq, np.nan)  # false positives of a class without truth are forgiven
    means, all_means = _means(of_truth[:, 1:], axis=1), _means(pq[:, 1:], axis=1)
    pooled = sum(images[1:], start=images[0]).pq[1:]
    _, group = np.unique(["" for _ in images] if groups is None else list(groups), return_inverse=True)
    return PQAverages(
        bpq=_mean_over_groups(of_truth[:, 0], group),
        mpq=_mean_over_groups(means, group),
        mpq_monusac=float(_means(means)),
        mpq_monusac_corrected=float(_means(all_means)),
        mpq_plus=float(_means(pooled)),
        per_class=tuple(_means(of_truth[:, 1:]).tolist()),
        per_class_pooled=tuple(pooled.tolist()),
    )


def _mean_over_groups(values: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """Mean over groups of the mean over the images of each."""
    return float(_means(np.array([_means(values[group == g]) for g in range(group.max() + 1)])))


def _means(values: NDArray[np.float64], axis: int = 0) -> NDArray[np.float64]:
    """Means along `axis` that leave NaN out; NaN where nothing is left."""
    known = ~np.isnan(values)
    n = np.asarray(known.sum(axis=axis))
    total = np.asarray(np.where(known, values, 0).sum(axis=axis))
    means: NDArray[np.float64] = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
    return means
