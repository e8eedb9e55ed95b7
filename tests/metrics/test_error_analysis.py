import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from everycell.metrics import (
    PRED_CATEGORIES,
    TRUTH_CATEGORIES,
    Category,
    analyse_errors,
    confusion_matrix,
    image_hits,
    match,
    overlap,
    overlap_of_labels,
    surroundings,
)
from everycell.structures import Instances, MaskCrops

SIZE = (12, 40)
PAGE = Path(__file__).parents[2] / "docs" / "evaluate.md"


def boxes(*corners, scores=None, class_ids=None):
    """Cells that fill the boxes (x0, y0, x1, y1)."""
    crops = [np.ones((y1 - y0, x1 - x0), np.bool_) for x0, y0, x1, y1 in corners]
    masks = MaskCrops.from_crops(np.array(corners).reshape(-1, 4)[:, :2], crops)
    return Instances.from_masks(
        masks,
        SIZE,
        scores=None if scores is None else np.array(scores, np.float32),
        class_ids=None if class_ids is None else np.array(class_ids),
    )


def labels_of(cell_errors):
    return [Category(value).label for value in cell_errors.category]


def categories(truth, pred):
    errors = analyse_errors(truth, pred)
    return labels_of(errors.truth), labels_of(errors.pred)


TEN = (0, 0, 10, 1)  # a true cell of ten pixels in a row


@pytest.mark.parametrize(
    ("pred", "of_truth", "of_pred"),
    [
        ([(0, 0, 6, 1)], "correct", ["correct"]),  # IoU 6 / 10
        ([(0, 0, 5, 1)], "poor_localisation", ["poor_localisation"]),  # 5 / 10 is not above a half
        ([(9, 0, 10, 1)], "poor_localisation", ["poor_localisation"]),  # 1 / 10
        ([(9, 0, 11, 1)], "missed", ["spurious"]),  # 1 / 11
        ([], "missed", []),
        ([(20, 0, 25, 1)], "missed", ["spurious"]),
        ([(0, 0, 5, 1), (5, 0, 10, 1)], "split", ["split", "split"]),  # halves, 5 / 10 each
        ([(0, 0, 8, 1), (8, 0, 10, 1)], "correct", ["correct", "split"]),  # 8 / 10 and a piece of 2 / 10
        ([(0, 0, 5, 1), (8, 0, 12, 1)], "poor_localisation", ["poor_localisation"] * 2),  # one lies half outside
    ],
)
def test_one_true_cell(pred, of_truth, of_pred):
    assert categories(boxes(TEN), boxes(*pred)) == ([of_truth], of_pred)


def test_a_prediction_that_holds_two_true_cells_merges_them():
    pair = boxes((0, 0, 4, 1), (4, 0, 10, 1))
    # The larger one is 6 of 10 pixels, a match: the smaller one alone is lost in it.
    assert categories(pair, boxes(TEN)) == (["merged", "correct"], ["correct"])
    halves = boxes((0, 0, 5, 1), (5, 0, 10, 1))
    assert categories(halves, boxes(TEN)) == (["merged", "merged"], ["merged"])
    # Exactly half of the second one is not more than half of it, and 4 of 10 pixels are no match.
    assert categories(boxes((0, 0, 4, 1), (7, 0, 13, 1)), boxes(TEN)) == (
        ["poor_localisation"] * 2,
        ["poor_localisation"],
    )


def test_the_higher_score_is_the_match_and_the_other_one_a_duplicate():
    pred = boxes((0, 0, 8, 1), (0, 0, 9, 1), scores=[0.9, 0.8], class_ids=[1, 2])
    assert categories(boxes(TEN), pred) == (["correct"], ["correct", "duplicate"])
    other = replace(pred, scores=pred.scores[::-1].copy())
    assert categories(boxes(TEN), other) == (["wrong_class"], ["duplicate", "wrong_class"])
    # Of equal scores, as in a label image, the better fit counts; of equal fits the right class.
    even = replace(pred, scores=np.ones(2, np.float32))
    assert categories(boxes(TEN), even) == (["wrong_class"], ["duplicate", "wrong_class"])
    twins = boxes(TEN, TEN, class_ids=[2, 1])
    assert categories(boxes(TEN), twins) == (["correct"], ["duplicate", "correct"])


def test_partners_and_their_iou():
    truth = boxes(TEN, (0, 5, 4, 6), (30, 5, 34, 6))
    pred = boxes((0, 0, 5, 1), (0, 0, 8, 1), (0, 5, 1, 6), scores=[0.9, 0.8, 0.7])
    errors = analyse_errors(truth, pred)
    assert errors.truth.partner.tolist() == [1, 2, -1]
    assert errors.truth.iou.tolist() == [0.8, 0.25, 0]
    assert errors.truth.matched.tolist() == [True, False, False]
    assert errors.pred.partner.tolist() == [0, 0, 1]
    assert errors.pred.iou.tolist() == [0.5, 0.8, 0.25]


def test_a_given_overlap_is_used():
    truth, pred = boxes(TEN), boxes(TEN)
    apart = overlap(truth.masks, boxes((20, 0, 25, 1)).masks)
    assert analyse_errors(truth, pred, apart).truth.category.tolist() == [Category.MISSED]
    assert image_hits(truth, pred).tolist() == [True]
    assert image_hits(truth, pred, apart).tolist() == [False]


def test_confusion_matrix_by_hand():
    truth = boxes(TEN, (0, 5, 4, 6), (30, 5, 34, 6), class_ids=[1, 2, 2])
    pred = boxes(TEN, (0, 5, 4, 6), (20, 5, 24, 6), class_ids=[1, 1, 2])
    counts = confusion_matrix(truth, pred, analyse_errors(truth, pred), 2)
    assert counts.tolist() == [
        [0, 0, 1],  # one spurious of class 2
        [0, 1, 0],
        [1, 1, 0],  # of class 2 one missed and one taken for class 1
    ]


def test_the_example_of_the_documentation():
    page = PAGE.read_text(encoding="utf-8")
    rows = [
        row.split() for row in re.findall(r"^(?:truth|prediction) +((?:[A-Za-z.] )+[A-Za-z.])$", page, re.MULTILINE)
    ]
    truth_row, pred_row = (np.array([0 if v == "." else ord(v.lower()) for v in row]) for row in rows)
    pair = [Instances.from_labels(np.tile(row, (2, 1))) for row in (truth_row, pred_row)]
    found = categories(*pair)
    table = re.findall(r"^\| ([A-G](?:, [A-G])*|–) \| ([a-g](?:, [a-g])*|–) \| ([a-z ]+) \|", page, re.MULTILINE)
    stated = {
        name: what.strip().replace(" ", "_") for *sides, what in table for side in sides for name in side.split(", ")
    }
    del stated["–"]
    names = sorted({v for v in rows[0] if v != "."}) + sorted({v for v in rows[1] if v != "."})
    assert len(names) >= 12
    assert stated == dict(zip(names, found[0] + found[1], strict=True))


label_images = hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 4))
classes = st.lists(st.integers(1, 3), min_size=12, max_size=12)


@st.composite
def rectangles(draw):
    """Up to six cells with scores and classes that may overlap one another."""
    n = draw(st.integers(0, 6))
    corners = [(draw(st.integers(0, 5)), draw(st.integers(0, 4))) for _ in range(n)]
    sides = [(draw(st.integers(1, 7 - x)), draw(st.integers(1, 6 - y))) for x, y in corners]
    cells = boxes(*((x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sides, strict=True)))
    scores = np.array([draw(st.sampled_from([0.3, 0.6, 0.9])) for _ in range(n)], np.float32)
    class_ids = np.array([draw(st.integers(1, 3)) for _ in range(n)], np.int64)
    return replace(cells, scores=scores, class_ids=class_ids, image_size=(6, 7))


def with_classes(labels, class_ids):
    cells = Instances.from_labels(labels)
    return replace(cells, class_ids=np.array(class_ids[: len(cells)], np.int64))


def dense(cells):
    masks = np.zeros((len(cells), *cells.image_size), np.bool_)
    for mask, (rows, columns, bits) in zip(masks, cells.masks, strict=True):
        mask[rows, columns] = bits
    return masks


def expected(truth, pred, errors):
    """The definitions, word by word, on dense masks; who is matched is taken from `errors`."""
    t, p = dense(truth), dense(pred)
    shared = (t[:, None] & p[None]).sum(axis=(2, 3))
    union = (t[:, None] | p[None]).sum(axis=(2, 3))
    iou = shared / union
    holds_truth = [[2 * shared[i, j] > t[i].sum() for j in range(len(p))] for i in range(len(t))]
    holds_pred = [[2 * shared[i, j] > p[j].sum() and iou[i, j] >= 0.1 for j in range(len(p))] for i in range(len(t))]
    merges = [sum(row[j] for row in holds_truth) >= 2 for j in range(len(p))]
    is_cut = [sum(row) >= 2 for row in holds_pred]

    def of_truth(i):
        if errors.truth.matched[i]:
            same = truth.class_ids[i] == pred.class_ids[errors.truth.partner[i]]
            return Category.CORRECT if same else Category.WRONG_CLASS
        if any(holds and merges[j] for j, holds in enumerate(holds_truth[i])):
            return Category.MERGED
        if is_cut[i]:
            return Category.SPLIT
        return Category.POOR_LOCALISATION if (iou[i] >= 0.1).any() else Category.MISSED

    def of_pred(j):
        if errors.pred.matched[j]:
            same = pred.class_ids[j] == truth.class_ids[errors.pred.partner[j]]
            return Category.CORRECT if same else Category.WRONG_CLASS
        if (iou[:, j] > 0.5).any():
            return Category.DUPLICATE
        if merges[j]:
            return Category.MERGED
        if any(holds_pred[i][j] and is_cut[i] for i in range(len(t))):
            return Category.SPLIT
        return Category.POOR_LOCALISATION if (iou[:, j] >= 0.1).any() else Category.SPURIOUS

    return [of_truth(i) for i in range(len(t))], [of_pred(j) for j in range(len(p))]


@given(label_images, classes, rectangles())
def test_categories_are_those_of_the_definitions(labels, class_ids, pred):
    truth = with_classes(labels, class_ids)
    errors = analyse_errors(truth, pred)
    assert (errors.truth.category.tolist(), errors.pred.category.tolist()) == expected(truth, pred, errors)
    assert set(errors.truth.category) <= set(TRUTH_CATEGORIES)
    assert set(errors.pred.category) <= set(PRED_CATEGORIES)
    # Matches are one to one, lie above 0.5, and are as many as there can be.
    found, real = np.flatnonzero(errors.truth.matched), np.flatnonzero(errors.pred.matched)
    assert sorted(errors.truth.partner[found]) == real.tolist()
    assert errors.pred.partner[errors.truth.partner[found]].tolist() == found.tolist()
    assert (errors.truth.iou[found] > 0.5).all()
    reachable = {int(errors.pred.partner[j]) for j in np.flatnonzero(errors.pred.iou > 0.5)}
    assert reachable == set(found.tolist())
    counts = confusion_matrix(truth, pred, errors, 3)
    assert counts.sum(axis=1)[1:].tolist() == [(truth.class_ids == k).sum() for k in (1, 2, 3)]
    assert counts.sum(axis=0)[1:].tolist() == [(pred.class_ids == k).sum() for k in (1, 2, 3)]
    assert np.trace(counts) == (errors.truth.category == Category.CORRECT).sum()


@given(label_images, classes, rectangles(), st.randoms(use_true_random=False))
def test_numbering_does_not_matter(labels, class_ids, pred, random):
    truth = with_classes(labels, class_ids)
    order_truth, order_pred = np.arange(len(truth)), np.arange(len(pred))
    random.shuffle(order_truth)
    random.shuffle(order_pred)
    before = analyse_errors(truth, pred)
    renumbered = truth.select(order_truth), pred.select(order_pred)
    after = analyse_errors(*renumbered)
    assert after.truth.category.tolist() == before.truth.category[order_truth].tolist()
    assert sorted(after.pred.category) == sorted(before.pred.category)  # identical twins may swap
    np.testing.assert_array_equal(confusion_matrix(*renumbered, after, 3), confusion_matrix(truth, pred, before, 3))


@given(label_images, classes)
def test_a_perfect_prediction_is_all_correct(labels, class_ids):
    truth = with_classes(labels, class_ids)
    errors = analyse_errors(truth, truth)
    assert (errors.truth.category == Category.CORRECT).all()
    assert (errors.pred.category == Category.CORRECT).all()
    assert errors.truth.partner.tolist() == list(range(len(truth)))


@given(label_images, label_images)
def test_matches_are_those_of_f1_where_nothing_overlaps(truth, pred):
    errors = analyse_errors(Instances.from_labels(truth), Instances.from_labels(pred))
    matches = match(overlap_of_labels(truth, pred).iou(), 0.5)
    assert np.flatnonzero(errors.truth.matched).tolist() == matches.truth.tolist()
    assert errors.truth.partner[errors.truth.matched].tolist() == matches.pred.tolist()


def test_no_cells_on_either_side():
    nothing, one = Instances.empty(SIZE), boxes(TEN)
    assert categories(nothing, nothing) == ([], [])
    assert categories(one, nothing) == (["missed"], [])
    assert categories(nothing, one) == ([], ["spurious"])
    empty_mask = boxes((3, 3, 3, 3))
    assert categories(one, empty_mask) == (["missed"], ["spurious"])


def test_two_thousand_cells_are_quick():
    rng = np.random.default_rng(0)
    crops = [np.ones((18, 18), np.bool_)] * 2000
    truth, pred = (
        Instances.from_masks(MaskCrops.from_crops(rng.integers(0, 980, (2000, 2)), crops), (1000, 1000))
        for _ in range(2)
    )
    start = time.process_time()
    analyse_errors(truth, pred)
    assert time.process_time() - start < 1.5  # 0.05 s; the margin is for loaded machines


def test_size_spacing_and_edge_by_hand():
    cells = boxes((2, 3, 6, 7), (8, 3, 12, 7), (30, 4, 38, 12))
    where = surroundings(cells)
    diameters = [4 * (4 / np.pi) ** 0.5] * 2 + [8 * (4 / np.pi) ** 0.5]  # of squares of 4, 4 and 8 px
    assert where.diameter_px == pytest.approx(diameters)
    # Centres lie at x 3.5, 9.5 and 33.5 and y 4.5, 4.5 and 7.5.
    assert where.spacing == pytest.approx([6 / diameters[0]] * 2 + [2 * (24**2 + 3**2) ** 0.5 / sum(diameters[1:])])
    assert where.edge_px.tolist() == [2, 3, 0]
    alone = surroundings(cells.select(np.array([0])))
    assert (alone.spacing.tolist(), alone.edge_px.tolist()) == ([np.inf], [2])


def test_an_empty_mask_has_no_place():
    where = surroundings(boxes((3, 3, 3, 3), (0, 0, 2, 2)))
    assert (where.diameter_px[0], where.spacing.tolist(), where.edge_px.tolist()) == (0, [np.inf] * 2, [np.inf, 0])
