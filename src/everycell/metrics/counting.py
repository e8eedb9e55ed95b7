"""Error of the number of cells, whatever their outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CountError:
    """Predicted less true number of cells, over any number of images.

    With the true numbers n and the predicted ones m of the images:

    Attributes:
        n_truth: sum of n.
        n_pred: sum of m.
        bias: mean of m - n: below 0 where cells are missing. NaN without an image.
        absolute: mean of |m - n|, the mean absolute error of Lempitsky and Zisserman 2010 ("Learning to count objects
            in images", NeurIPS). NaN without an image.
        relative: mean of |m - n| / n over the images with a true cell; NaN without any.
        relative_pooled: |sum of m - sum of n| / sum of n; NaN without a true cell.
    """

    n_truth: int
    n_pred: int
    bias: float
    absolute: float
    relative: float
    relative_pooled: float


def count_error(n_truth: NDArray[np.int64], n_pred: NDArray[np.int64]) -> CountError:
    """Count error over the images, from the number of true and of predicted cells in each, int64 [images]."""
    assert n_truth.shape == n_pred.shape
    error = n_pred - n_truth
    some = n_truth > 0
    total_truth, total_pred = int(n_truth.sum()), int(n_pred.sum())
    nan = float("nan")
    return CountError(
        n_truth=total_truth,
        n_pred=total_pred,
        bias=float(error.mean()) if len(error) else nan,
        absolute=float(np.abs(error).mean()) if len(error) else nan,
        relative=float((np.abs(error[some]) / n_truth[some]).mean()) if some.any() else nan,
        relative_pooled=abs(total_pred - total_truth) / total_truth if total_truth else nan,
    )


def count_errors(
    truths: Sequence[NDArray[np.int64]], preds: Sequence[NDArray[np.int64]], n_classes: int
) -> tuple[CountError, ...]:
    """Count error blind to classes (entry 0) and of each class (entries 1 … K).

    Args:
        truths: class of every true cell, 1 … K, one array an image.
        preds: class of every predicted cell of the same images, in the same order.
        n_classes: K.
    """
    truth, pred = (
        np.stack([_numbers(ids, n_classes) for ids in side]) if side else np.zeros((0, n_classes + 1), int)
        for side in (truths, preds)
    )
    return tuple(count_error(truth[:, k], pred[:, k]) for k in range(n_classes + 1))


def _numbers(class_ids: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Number of cells of all classes together and of each, int64 [K + 1]."""
    numbers: NDArray[np.int64] = np.bincount(class_ids, minlength=n_classes + 1)
    numbers[0] = len(class_ids)
    return numbers
