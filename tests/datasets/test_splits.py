import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everycell.datasets import near_duplicate_groups, split, synthetic_sample, thumbnail
from everycell.errors import ConfigError, DataError
from everycell.structures import Image


def test_209_images_at_a_tenth() -> None:
    train, validation = split(209)
    assert (len(train), len(validation)) == (188, 21)
    assert sorted(train + validation) == list(range(209))
    assert split(209) == (train, validation)
    assert split(209, seed=1) != (train, validation)


def test_few_images() -> None:
    assert split(0) == ([], [])
    assert split(1) == ([0], [])
    for n, fraction in itertools.product((2, 3, 4), (0.01, 0.5, 0.99)):
        assert all(split(n, fraction=fraction))


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.floats(0.01, 0.99), st.integers(0, 9))
def test_groups_stay_together_and_no_other_choice_is_nearer(groups: list[int], fraction: float, seed: int) -> None:
    n = len(groups)
    if len(set(groups)) == 1:
        with pytest.raises(DataError, match=f"all {n} images are near duplicates"):
            split(n, groups=groups)
        return
    train, validation = split(n, fraction=fraction, seed=seed, groups=groups)
    assert sorted(train + validation) == list(range(n))
    assert not {groups[i] for i in train} & {groups[i] for i in validation}
    assert train
    assert validation
    sizes = [groups.count(group) for group in set(groups)]
    sums = {sum(chosen) for k in range(1, len(sizes)) for chosen in itertools.combinations(sizes, k)}
    target = int(n * fraction + 0.5)
    assert abs(len(validation) - target) == min(abs(total - target) for total in sums)


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_fractions_outside(fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"between 0 and 1, got {fraction}"):
        split(9, fraction=fraction)


def test_brighter_noisy_and_slightly_moved_copies_form_a_group() -> None:
    rng = np.random.default_rng(0)
    one, other = (synthetic_sample(rng, (200, 200), 60).image.pixels for _ in range(2))
    noisy = (one * 0.6 + 30 + rng.normal(0, 5, one.shape)).clip(0, 255).astype(np.uint8)
    moved = np.roll(one, 1, axis=1)
    groups = near_duplicate_groups([thumbnail(Image(pixels)) for pixels in (one, other, noisy, moved)])
    assert groups[0] == groups[2] == groups[3] != groups[1]


def test_chains_join_and_constant_images_stay_apart() -> None:
    a = np.zeros(1024, np.float32)
    b, c = a.copy(), a.copy()
    a[0] = 1
    b[:2] = np.cos(0.4), np.sin(0.4)  # correlates with a at 0.92
    c[:2] = np.cos(0.8), np.sin(0.8)  # with b at 0.92, with a at 0.70
    black = thumbnail(Image(np.zeros((9, 9, 3), np.uint8)))
    groups = near_duplicate_groups([a, black, c, b, black])
    assert groups[0] == groups[2] == groups[3]
    assert len(set(groups)) == 3
    assert near_duplicate_groups([]) == []


def test_thumbnails_have_mean_0_and_length_1() -> None:
    small = thumbnail(synthetic_sample(np.random.default_rng(1)).image)
    assert small.shape == (1024,)
    assert small.dtype == np.float32
    assert small.mean() == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(small) == pytest.approx(1, abs=1e-5)
