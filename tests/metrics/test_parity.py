"""Agreement with independent programs on crowded images: hundreds of touching cells, found imperfectly."""

import itertools
import warnings
from dataclasses import astuple, replace

import faster_coco_eval
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import directed_hausdorff
from skimage.metrics import hausdorff_distance
from skimage.segmentation import find_boundaries
from torchmetrics.functional.detection import panoptic_quality as torchmetrics_pq

from everycell.evaluate import Evaluator
from everycell.metrics import (
    IOU_THRESHOLDS,
    Counts,
    aggregated_jaccard_index,
    aggregated_jaccard_index_plus,
    boundary_agreement,
    centroid_scores,
    dice,
    match,
    overlap,
    overlap_of_labels,
    pair_centroids,
    panoptic_quality,
)
from everycell.structures import Instances, MaskCrops

NAMES = ("round", "long", "flat")
K = len(NAMES)


def crowd(centres, size, radius=7):
    """Labels of cells that grow from their centres until they touch."""
    distances, nearest = KDTree(centres).query(np.stack(np.indices(size), axis=-1))
    return np.where(distances <= radius, nearest + 1, 0)


def found(rng, centres, size):
    """Labels of the same cells, found the worse the farther right: moved, missed, merged, split and invented ones."""
    blur = 1.5 * centres[:, 1:] / size[1]
    moved = centres + blur * rng.normal(size=centres.shape)
    kept = moved[rng.random(len(moved)) < 0.92]
    return crowd(np.concatenate([kept, rng.uniform(0, size, (len(moved) // 12, 2))]), size)


def field(seed, n=350, size=(200, 230)):
    """True and predicted labels of an image."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, size, (n, 2))
    return crowd(centres, size), found(rng, centres, size)


def cells(labels, rng=None):
    """Instances of a label image: classes by place; predictions, with `rng`, also some random ones and few scores."""
    masks, _ = MaskCrops.from_labels(labels)
    n, class_ids = len(masks), 1 + (masks.boxes[:, 0].astype(np.int64) // 20) % K
    if rng is None:
        return Instances.from_masks(masks, labels.shape, class_ids=class_ids)
    class_ids = np.where(rng.random(n) < 0.1, rng.integers(1, K + 1, n), class_ids)
    scores = rng.integers(1, 40, n).astype(np.float32) / 40
    return Instances.from_masks(masks, labels.shape, class_ids=class_ids, scores=scores)


def joined(*parts):
    """The cells of all parts as one set, which may overlap."""
    masks = MaskCrops(
        np.concatenate([part.masks.boxes for part in parts]), np.concatenate([part.masks.bits for part in parts])
    )
    of_all = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "class_ids")}
    return Instances.from_masks(masks, parts[0].image_size, **of_all)


def one_class(cells):
    return replace(cells, class_ids=np.ones_like(cells.class_ids))


def full_masks(cells):
    masks = np.zeros((len(cells), *cells.image_size), np.bool_)
    for mask, (rows, columns, bits) in zip(masks, cells.masks, strict=True):
        mask[rows, columns] = bits
    return masks


# Average precision


@pytest.fixture(scope="module")
def found_twice():
    """Truth and predictions of three images, with cells found twice or more, and what the evaluator says of them."""
    rng = np.random.default_rng(8)
    truths, preds = [], []
    for n, size in ((260, (150, 230)), (40, (90, 60))):
        centres = rng.uniform(0, size, (n, 2))
        truths.append(cells(crowd(centres, size)))
        preds.append(
            joined(*(cells(found(rng, centres, size), rng) for _ in range(2)), truths[-1].select(np.arange(9)))
        )
    truths.append(Instances.empty((90, 60)))
    preds.append(preds[1].select(np.arange(5)))
    evaluator = Evaluator(NAMES)
    for i, image in enumerate(zip(truths, preds, strict=True)):
        evaluator.add(str(i), *image)
    return truths, preds, evaluator.result()


FASTER = {
    "kind": faster_coco_eval.COCO,
    "evaluator": faster_coco_eval.COCOeval_faster,
    "print_function": lambda *_: None,
}


@pytest.mark.parametrize("program", [{}, FASTER], ids=["pycocotools", "faster-coco-eval"])
def test_average_precision(found_twice, coco_figures, program):
    truths, preds, ours = found_twice
    per_class = coco_figures(truths, preds, n_classes=K, max_dets=ours.max_dets, **program)
    assert 0.05 < ours.map < 0.95
    found = [(c.ap, c.ap50, c.ap75, c.ar) for c in ours.per_class.values()]
    np.testing.assert_allclose(found, per_class, rtol=0, atol=1e-6)
    overall = ours.map, ours.ap50, ours.ap75, ours.ar
    np.testing.assert_allclose(overall, per_class.mean(axis=0), rtol=0, atol=1e-6)
    blind = [list(map(one_class, side)) for side in (truths, preds)]
    expected, *_ = coco_figures(*blind, max_dets=ours.max_dets, **program)
    np.testing.assert_allclose(astuple(ours.class_agnostic), expected, rtol=0, atol=1e-6)


# Panoptic quality


def painted(images):
    """Class and number of the cell of each pixel, [images, H, W, 2]; background is a class of its own."""
    size = np.max([image.image_size for image in images], axis=0)
    pixels = np.zeros((len(images), *size, 2), np.int64)
    for image, place in zip(images, pixels, strict=True):
        labels = image.to_labels().astype(np.int64)
        place[: labels.shape[0], : labels.shape[1]] = np.stack([np.append(0, image.class_ids)[labels], labels], axis=-1)
    return torch.from_numpy(pixels)


def torchmetrics_qualities(truths, preds):
    """PQ, SQ and DQ of classes 1 … K over all images together, [K, 3]."""
    sides = painted(preds), painted(truths)
    qualities = torchmetrics_pq(*sides, {1, 2, 3}, {0}, return_sq_and_rq=True, return_per_class=True)
    return qualities[:K].numpy()


def test_panoptic_quality_of_torchmetrics(found_twice):
    truths, preds, ours = found_twice
    expected = torchmetrics_qualities(truths, preds)
    found = np.array([(of.panoptic.pq, of.panoptic.sq, of.panoptic.dq) for of in ours.per_class.values()])
    assert (found > 0.2).all()
    assert (found < 0.95).all()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert ours.panoptic.mpq_plus == pytest.approx(expected[:, 0].mean(), abs=1e-6)
    blind, *_ = torchmetrics_qualities(*(list(map(one_class, side)) for side in (truths, preds)))
    pooled = ours.panoptic.pooled
    assert (pooled.pq, pooled.sq, pooled.dq) == pytest.approx(blind, abs=1e-6)


# Detection


@pytest.fixture(scope="module")
def stardist():
    plain = warnings.formatwarning
    module = pytest.importorskip("stardist.matching", reason="StarDist is not installed")
    warnings.formatwarning = plain  # which StarDist replaces
    return module


def above(threshold):
    """The next number: StarDist takes an IoU on the threshold too, and keeps IoU in 32 bits."""
    return float(np.nextafter(np.float32(threshold), np.float32(1)))


def test_detection_rates_of_stardist(stardist):
    scenes = [field(seed) for seed in range(3)]
    ours = [[match(overlap_of_labels(*scene).iou(), threshold) for scene in scenes] for threshold in IOU_THRESHOLDS]
    just_above = [above(threshold) for threshold in IOU_THRESHOLDS]
    per_image = zip(*(stardist.matching(*scene, thresh=just_above) for scene in scenes), strict=True)
    pooled = stardist.matching_dataset(*zip(*scenes, strict=True), thresh=just_above, show_progress=False)
    for found, expected, of_all in zip(ours, per_image, pooled, strict=True):
        for matches, theirs in zip(found, expected, strict=True):
            assert_same_rates(matches.counts, matches.iou, theirs)
        total = sum((matches.counts for matches in found), Counts())
        assert_same_rates(total, np.concatenate([matches.iou for matches in found]), of_all)
    assert 20 < total.tp < 200  # at 0.95, where matches are rare


def test_detection_rates_of_the_evaluator(found_twice, stardist):
    truths, preds, ours = found_twice
    labels = [[image.to_labels().astype(np.int64) for image in side] for side in (truths, preds)]
    just_above = [above(threshold) for threshold in IOU_THRESHOLDS]
    pooled = stardist.matching_dataset(*labels, thresh=just_above, show_progress=False)
    means = stardist.matching_dataset(*labels, thresh=just_above, show_progress=False, by_image=True)
    for found, *expected in zip(ours.thresholds, pooled, means, strict=True):
        for rates, theirs in zip((found.pooled, found.image_mean), expected, strict=True):
            theirs = theirs.precision, theirs.recall, theirs.f1, theirs.accuracy
            assert astuple(rates) == pytest.approx(theirs, rel=1e-6)


def assert_same_rates(counts, iou, theirs):
    assert counts == Counts(theirs.tp, theirs.fp, theirs.fn)
    found = (counts.precision, counts.recall, counts.f1, counts.dsb_ap, iou.mean(), counts.recall * iou.mean())
    expected = (theirs.precision, theirs.recall, theirs.f1, theirs.accuracy)
    assert found == pytest.approx((*expected, theirs.mean_matched_score, theirs.mean_true_score), rel=1e-6)
    assert counts.f1 * iou.mean() == pytest.approx(theirs.panoptic_quality, rel=1e-6)


def test_as_many_pairs_as_stardist_where_a_cell_has_several_partners(stardist):
    # There StarDist also weighs the overlap of cells that it leaves unmatched: pairs may differ, not their number.
    for seed in range(3):
        scene = field(seed)
        iou = overlap_of_labels(*scene).iou()
        for threshold in (0.1, 0.25, 0.4):
            assert match(iou, threshold).counts.tp == stardist.matching(*scene, thresh=above(threshold)).tp


# The measures published with HoVer-Net, by their formulas on dense arrays


def by_formula(truth, pred):
    """AJI, AJI+, PQ, DQ, SQ and Dice of two label images, from the table of the pixels of every pair."""
    shared = np.zeros((truth.max() + 1, pred.max() + 1), np.int64)
    np.add.at(shared, (truth, pred), 1)
    true_areas, pred_areas = shared.sum(axis=1)[1:], shared.sum(axis=0)[1:]
    shared = shared[1:, 1:][true_areas > 0][:, pred_areas > 0]
    true_areas, pred_areas = true_areas[true_areas > 0], pred_areas[pred_areas > 0]
    union = true_areas[:, None] + pred_areas - shared
    iou = shared / union

    best = [(i, int(row.argmax())) for i, row in enumerate(iou) if row.any()]
    lost = sum(true_areas) - sum(true_areas[i] for i, _ in best)
    unused = sum(area for j, area in enumerate(pred_areas) if j not in {j for _, j in best})
    aji = sum(shared[pair] for pair in best) / (sum(union[pair] for pair in best) + lost + unused)

    pairs = [pair for pair in zip(*linear_sum_assignment(-iou), strict=True) if shared[pair]]
    alone = true_areas.sum() + pred_areas.sum() - sum(true_areas[i] + pred_areas[j] for i, j in pairs)
    aji_plus = sum(shared[pair] for pair in pairs) / (sum(union[pair] for pair in pairs) + alone)

    matched = iou[iou > 0.5]
    dq = len(matched) / (len(matched) + (len(true_areas) - len(matched)) / 2 + (len(pred_areas) - len(matched)) / 2)
    sq = matched.mean()
    foreground = (truth > 0).sum() + (pred > 0).sum()
    return aji, aji_plus, dq * sq, dq, sq, 2 * ((truth > 0) & (pred > 0)).sum() / foreground


@pytest.mark.parametrize("seed", range(4))
def test_aji_pq_and_dice_by_formula(seed):
    truth, pred = field(seed)
    shared = overlap_of_labels(truth, pred)
    quality = panoptic_quality(shared)
    ours = aggregated_jaccard_index(shared), aggregated_jaccard_index_plus(shared)
    ours += quality.pq, quality.dq, quality.sq, dice(shared)
    assert ours == pytest.approx(by_formula(truth, pred))


def test_detection_and_classification_scores_by_formula():
    rng = np.random.default_rng(4)
    images, pairs, lone_truth, lone_pred = [], [], [], []
    for _ in range(40):
        centres = rng.uniform(0, 40, (rng.integers(1, 7), 2))
        moved = centres[rng.random(len(centres)) < 0.8] + rng.normal(0, 5, (1, 2))
        pred = crowd(np.concatenate([moved, rng.uniform(0, 40, (1, 2))]), (40, 40), radius=6)
        images.append((cells(crowd(centres, (40, 40), radius=6)), cells(pred, rng)))
        truth, pred = (side.class_ids.tolist() for side in images[-1])
        chosen = pairs_within(12, *map(middles, images[-1]))
        pairs += [(truth[i], pred[j]) for i, j in chosen]
        lone_truth += [k for i, k in enumerate(truth) if i not in {i for i, _ in chosen}]
        lone_pred += [k for j, k in enumerate(pred) if j not in {j for _, j in chosen}]

    ours = centroid_scores([pair_centroids(*image) for image in images], K)
    n_wrong = sum(t != p for t, p in pairs)
    assert min(n_wrong, len(lone_truth), len(lone_pred)) > 10
    assert ours.f_d == pytest.approx(2 * len(pairs) / (2 * len(pairs) + len(lone_pred) + len(lone_truth)))
    assert ours.accuracy == pytest.approx(1 - n_wrong / len(pairs))
    for k in range(1, K + 1):
        right = sum(t == p == k for t, p in pairs)
        wrong = sum(t != p and k in (t, p) for t, p in pairs)  # FP_c + FN_c
        alone = lone_truth.count(k) + lone_pred.count(k)  # FN_d + FP_d
        assert ours.f_c[k - 1] == pytest.approx(2 * right / (2 * right + 2 * wrong + alone))


def middles(instances):
    return [np.argwhere(mask).mean(axis=0) for mask in full_masks(instances)]


def pairs_within(radius, truth, pred):
    """Of all ways to pair every cell of the smaller side, the one of least total distance; then its near pairs."""
    distances = np.array([[np.hypot(*(a - b)) for b in pred] for a in truth]).reshape(len(truth), len(pred))
    if len(truth) > len(pred):
        return [(i, j) for j, i in pairs_within(radius, pred, truth)]
    ways = itertools.permutations(range(len(pred)), len(truth))
    best = min(ways, key=lambda way: sum(distances[i, j] for i, j in enumerate(way)))
    return [(i, j) for i, j in enumerate(best) if distances[i, j] <= radius]


# Boundaries


def test_hausdorff_distances_of_scikit_image_and_scipy():
    truth, pred = map(cells, field(5, 90, (120, 110)))
    matches = match(overlap(truth.masks, pred.masks).iou(), 0.3)
    ours = boundary_agreement(truth, pred, matches).hausdorff_px
    assert len(ours) > 60
    true_masks, pred_masks = (np.pad(full_masks(side), ((0, 0), (1, 1), (1, 1))) for side in (truth, pred))
    for i, j, found in zip(matches.truth, matches.pred, ours, strict=True):
        edges = [find_boundaries(mask, connectivity=1, mode="inner") for mask in (true_masks[i], pred_masks[j])]
        a, b = map(np.argwhere, edges)
        assert found == pytest.approx(hausdorff_distance(*edges))
        assert found == pytest.approx(max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]))
