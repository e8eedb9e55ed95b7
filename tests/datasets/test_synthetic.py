import numpy as np
import pytest
from scipy import ndimage

from everycell.datasets import synthetic_sample


@pytest.mark.parametrize("tissue", [False, True])
def test_cells_are_whole_counted_and_stand_out(tissue: bool) -> None:
    sample = synthetic_sample(np.random.default_rng(3), (96, 128), 25, n_classes=3, tissue=tissue)
    labels = sample.layers[0]
    assert sample.image.size == (96, 128)
    assert len(sample.class_ids) == 25
    assert set(sample.class_ids.tolist()) == {1, 2, 3}
    assert np.unique(labels).tolist() == list(range(26))
    assert all(ndimage.label(labels == i)[1] == 1 for i in range(1, 26))
    gray = sample.image.pixels.mean(axis=2)
    contrast = gray[labels > 0].mean() - gray[labels == 0].mean()
    assert (contrast < -40) if tissue else (contrast > 80)


def test_same_seed_same_sample_and_some_cells_touch() -> None:
    one, two = (synthetic_sample(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.image.pixels, two.image.pixels)
    np.testing.assert_array_equal(one.layers, two.layers)
    left, right = one.layers[0, :, :-1], one.layers[0, :, 1:]
    assert ((left != right) & (left > 0) & (right > 0)).any()


def test_a_full_image_takes_fewer() -> None:
    assert 0 < len(synthetic_sample(np.random.default_rng(0), (40, 40), 100).class_ids) < 30
    assert len(synthetic_sample(np.random.default_rng(0), n_cells=0).class_ids) == 0
