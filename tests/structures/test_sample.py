import numpy as np

from everycell.structures import Image, Sample


def sample(layers: list, class_ids: list[int]) -> Sample:
    pixels = np.zeros((2, 4, 3), np.uint8)
    array = np.array(layers, np.int32).reshape(-1, 2, 4)
    return Sample("a", Image(pixels, mpp=0.5), array, np.array(class_ids, np.int64))


def test_overlapping_layers_become_cells_in_the_order_of_their_values():
    bottom = [[1, 1, 1, 0], [1, 1, 1, 4]]
    top = [[0, 3, 0, 2], [0, 3, 0, 2]]
    cells = sample([bottom, top], [1, 2, 3, 1]).to_instances(("a", "b", "c"))
    assert cells.masks.boxes.tolist() == [[0, 0, 3, 2], [3, 0, 4, 2], [1, 0, 2, 2], [3, 1, 4, 2]]
    assert cells.masks.areas().tolist() == [6, 2, 2, 1]
    assert cells.class_ids.tolist() == [1, 2, 3, 1]
    assert cells.boxes.tolist() == cells.masks.boxes.tolist()
    assert (cells.mpp, cells.image_size, cells.class_names) == (0.5, (2, 4), ("a", "b", "c"))
    assert set(cells.scores.tolist()) == {1.0}


def test_a_value_that_was_cropped_away_takes_its_class_with_it():
    cells = sample([[[0, 3, 3, 0], [1, 0, 0, 0]]], [5, 6, 7]).to_instances()
    assert cells.class_ids.tolist() == [5, 7]


def test_samples_without_cells_or_layers():
    assert len(sample([[[0] * 4] * 2], []).to_instances()) == 0
    assert len(sample([], []).to_instances()) == 0
