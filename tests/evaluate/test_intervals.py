import math

import numpy as np
import pytest

from everycell.errors import DataError
from everycell.evaluate import Evaluator, compare_predictions, read_groups
from everycell.structures import Instances, MaskCrops

SIZE = (40, 40)
FIGURES = ("ap50", "pq", "aji", "aji_plus", "dice", "f1_50", "mpq_plus", "f_d", "boundary_f1")


def random_cells(rng, n, **fields):
    crops = [np.ones((6, 6), np.bool_)] * n
    spots = rng.permutation(25)[:n]
    masks = MaskCrops.from_crops(np.stack([spots % 5, spots // 5], axis=1) * 8, crops)
    return Instances.from_masks(masks, SIZE, class_ids=rng.integers(1, 3, n), **fields)


def evaluator(n_images, share, *, groups=None, seed=0, class_names=("x", "y")):
    """Images of which `share` of the cells were found, moved by a pixel."""
    rng = np.random.default_rng(seed)
    found = Evaluator(class_names, groups=groups)
    for i in range(n_images):
        truth = random_cells(rng, 12)
        pred = truth.select(rng.random(12) < share)
        scores = rng.uniform(0.3, 1, len(pred)).astype(np.float32)
        shifted = pred.masks.shifted(1, 0)
        pred = Instances.from_masks(shifted, SIZE, scores=scores, class_ids=pred.class_ids)
        if len(class_names) == 1:
            truth, pred = (Instances.from_masks(c.masks, SIZE, scores=c.scores) for c in (truth, pred))
        found.add(f"image{i}", truth, pred)
    return found


def test_intervals_hold_the_figures_themselves():
    result = evaluator(20, 0.7).result()
    figures = {
        "ap50": result.ap50,
        "pq": result.pq,
        "aji": result.aji,
        "aji_plus": result.aji_plus,
        "dice": result.dice,
        "f1_50": result.f1_50,
        "mpq_plus": result.panoptic.mpq_plus,
        "f_d": result.centroids.f_d,
        "boundary_f1": result.boundary.f1,
    }
    assert figures.keys() == result.intervals.keys()
    for name, interval in result.intervals.items():
        assert interval.value == pytest.approx(figures[name], abs=1e-12)
        assert interval.low <= interval.value <= interval.high
        assert (interval.n_groups, interval.level, interval.notes) == (20, 0.95, ())
    assert result.intervals["pq"].low < result.intervals["pq"].high


def test_the_same_images_give_the_same_intervals():
    assert evaluator(8, 0.7).result().to_json() == evaluator(8, 0.7).result().to_json()


def test_groups_are_drawn_whole():
    of_patient = {f"image{i}": f"patient{i % 6}" for i in range(30)}
    grouped = evaluator(30, 0.7, groups=of_patient)
    result = grouped.result()
    assert {interval.n_groups for interval in result.intervals.values()} == {6}
    assert [image.group for image in result.per_image[:2]] == ["patient0", "patient1"]
    pq = np.array([image.pq for image in result.per_image])
    means = [pq[i::6].mean() for i in range(6)]
    assert result.panoptic.bpq == pytest.approx(np.mean(means))
    # The mean of six means can only lie between the lowest and the highest of them.
    assert min(means) <= result.intervals["pq"].low <= result.intervals["pq"].high <= max(means)


def test_few_images_have_no_interval_and_say_so():
    interval = evaluator(4, 0.7).result().intervals["ap50"]
    assert math.isnan(interval.low)
    assert interval.value > 0
    assert interval.notes == ("no interval: expected at least 5 groups, got 4",)


def test_an_image_without_group_is_an_error():
    with pytest.raises(DataError, match=r"^image1: expected a group for every image"):
        evaluator(2, 1, groups={"image0": "a"})


def test_a_better_prediction_is_better_in_every_figure():
    worse, better = evaluator(10, 0.5), evaluator(10, 0.9)
    found = compare_predictions(worse.images, better.images, ("worse", "better"))
    assert (found.first, found.second, tuple(found.measures)) == ("worse", "better", FIGURES)
    first, second = worse.result(), better.result()
    assert (found.measures["ap50"].first, found.measures["ap50"].second) == (
        pytest.approx(first.ap50),
        pytest.approx(second.ap50),
    )
    for name in ("ap50", "pq", "aji", "dice", "f1_50", "mpq_plus", "f_d"):
        measure = found.measures[name]
        assert measure.difference.value == pytest.approx(measure.second - measure.first)
        assert measure.difference.low > 0
        assert measure.p_value == pytest.approx(2 / 2**10)  # better in each of ten images: only no swap and all swaps


def test_a_prediction_is_not_better_than_itself():
    same = evaluator(6, 0.7)
    for measure in compare_predictions(same.images, same.images, ("a", "b")).measures.values():
        assert (measure.difference.value, measure.difference.low, measure.difference.high) == (0, 0, 0)
        assert measure.p_value == 1


def test_without_the_same_classes_only_what_ignores_them_is_compared():
    found = compare_predictions(
        evaluator(6, 0.5, class_names=("cell",)).images, evaluator(6, 0.9).images, ("labels", "classes")
    )
    assert found.measures.keys() == set(FIGURES) - {"ap50", "mpq_plus"}


def test_without_scores_there_is_no_ranking_to_compare():
    same = evaluator(6, 0.7)
    labels = Evaluator(["x", "y"])
    for image in same.images:
        labels.add(image.name, image.truth, image.truth)
    assert "ap50" not in compare_predictions(same.images, labels.images, ("scores", "labels")).measures


def test_groups_come_from_a_csv_file(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("\ufeffgroup,image,more\np1,a,x\np1,b,y\np2,other,z\n", encoding="utf-8")
    assert read_groups(path, ["a", "b"]) == {"a": "p1", "b": "p1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,patient\na,p1\n", "expected the columns image,group in the first line, got 'image,patient'"),
        ("image,group\na,p1\n", r"2 of 3 images have no group \(b, c\)"),
        ("image,group\na,p1\na,p2\n", "image 'a' must have one group, got 'p1' and 'p2'"),
        ("image,group\na,\n", "expected a group for every image, got none for 'a'"),
        ("image,group\na\n", "expected a group for every image, got none for 'a'"),
        ("", "expected the columns image,group"),
    ],
)
def test_a_wrong_file_of_groups_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_groups(path, ["a", "b", "c"])
    with pytest.raises(DataError, match="cannot read the groups"):
        read_groups(tmp_path / "none.csv", ["a"])
