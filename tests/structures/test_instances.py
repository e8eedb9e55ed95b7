import numpy as np
import pytest

from everycell.structures import Instances, MaskCrops


def overlapping(scores: list[float]) -> Instances:
    """Two 2 by 2 squares on 3 by 3 px that share the pixel in the middle."""
    masks = MaskCrops.from_crops(np.array([[0, 0], [1, 1]]), [np.ones((2, 2), bool)] * 2)
    return Instances.from_masks(masks, (3, 3), scores=np.array(scores, np.float32))


@pytest.mark.parametrize(("scores", "middle"), [([0.9, 0.4], 1), ([0.4, 0.9], 2)])
def test_the_higher_score_wins_a_shared_pixel(scores, middle):
    labels = overlapping(scores).to_labels()
    assert labels.tolist() == [[1, 1, 0], [1, middle, 2], [0, 2, 2]]
    assert labels.dtype == np.uint32


def test_labels_round_trip():
    labels = np.array([[0, 4, 4], [9, 0, 4]])
    cells = Instances.from_labels(labels, mpp=0.5)
    assert cells.to_labels().tolist() == [[0, 1, 1], [2, 0, 1]]
    assert cells.boxes.tolist() == [[1, 0, 3, 2], [0, 1, 1, 2]]
    assert (cells.scores.tolist(), cells.class_ids.tolist(), cells.mpp) == ([1, 1], [1, 1], 0.5)


def test_no_cells_is_an_ordinary_value():
    cells = Instances.empty((2, 3), mpp=0.25, class_names=["nucleus"])
    assert (len(cells), cells.boxes.shape, cells.mpp, cells.class_names) == (0, (0, 4), 0.25, ("nucleus",))
    assert cells.to_labels().tolist() == [[0, 0, 0], [0, 0, 0]]
    assert len(cells.select(np.zeros(0, np.bool_))) == 0


def test_select_keeps_fields_together_and_the_rest():
    cells = overlapping([0.9, 0.4]).select(np.array([1]))
    assert cells.boxes.tolist() == [[1, 1, 3, 3]]
    assert cells.scores.tolist() == [np.float32(0.4)]
    assert cells.masks.boxes.tolist() == [[1, 1, 3, 3]]
    assert cells.image_size == (3, 3)


def test_class_name():
    cells = Instances.empty((1, 1), class_names=("lymphocyte", "stroma"))
    assert [cells.class_name(i) for i in (1, 2, 3)] == ["lymphocyte", "stroma", "class3"]
    assert Instances.empty((1, 1)).class_name(1) == "class1"


def test_fields_of_different_length_are_refused():
    masks = MaskCrops.from_crops(np.array([[0, 0]]), [np.ones((1, 1), bool)])
    with pytest.raises(AssertionError):
        Instances.from_masks(masks, (3, 3), scores=np.ones(2, np.float32))
