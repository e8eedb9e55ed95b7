from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everycell.errors import ConfigError
from everycell.transforms import RECIPES, augment, intensity


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_reports_recipe():
    assert RECIPES["report"] == (
        False,
        (
            (0.9, intensity.colour_jitter),
            (0.7, intensity.intensity_shift),
            (0.3, intensity.equalise),
            (0.5, intensity.gaussian_blur),
            (0.6, intensity.gaussian_noise),
        ),
    )
    assert RECIPES["none"] == (False, ())
    assert RECIPES["report+geometry"] == (True, RECIPES["report"][1])
    assert RECIPES["report+erasing"] == (False, (*RECIPES["report"][1], (0.5, intensity.random_erasing)))


def test_probabilities_are_respected_and_independent(monkeypatch):
    probabilities = [p for p, _ in RECIPES["report"][1]]
    seen: list[int] = []

    def note(i, image, generator):
        seen.append(i)
        return image

    monkeypatch.setitem(RECIPES, "noted", (False, tuple((p, partial(note, i)) for i, p in enumerate(probabilities))))
    image, layers = torch.zeros(3, 1, 1), torch.zeros((1, 1, 1), dtype=torch.int32)
    together, n = 0, 3000
    for seed in range(n):
        start = len(seen)
        augment("noted", image, layers, seeded(seed))
        together += {0, 4} <= set(seen[start:])
    for i, p in enumerate(probabilities):
        assert seen.count(i) / n == pytest.approx(p, abs=0.035)
    assert together / n == pytest.approx(0.9 * 0.6, abs=0.035)


@pytest.mark.parametrize("recipe", RECIPES)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 12), width=st.integers(1, 12))
def test_every_recipe_keeps_range_shape_and_labels(recipe, seed, height, width):
    image = torch.rand((3, height, width), generator=seeded(seed))
    layers = torch.randint(3, (2, height, width), generator=seeded(seed), dtype=torch.int32)
    state = torch.get_rng_state()
    changed, moved = augment(recipe, image, layers, seeded(seed))
    assert changed.is_contiguous()
    assert moved.is_contiguous()
    assert -1e-6 <= changed.min() <= changed.max() <= 1 + 1e-6
    turns = RECIPES[recipe][0]
    assert changed.shape[1:] == moved.shape[1:]
    assert changed.shape[1:] == image.shape[1:] or (turns and changed.shape[:0:-1] == image.shape[1:])
    assert moved.dtype == torch.int32
    assert sorted(moved.flatten().tolist()) == sorted(layers.flatten().tolist())
    if not turns:
        assert torch.equal(moved, layers)
    again, _ = augment(recipe, image, layers, seeded(seed))
    assert torch.equal(again, changed)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_augmentation_changes_nothing():
    image, layers = torch.rand((3, 4, 5), generator=seeded(0)), torch.ones((1, 4, 5), dtype=torch.int32)
    changed, moved = augment("none", image, layers, seeded(1))
    assert torch.equal(changed, image)
    assert torch.equal(moved, layers)


def test_unknown_recipe_lists_the_known():
    with pytest.raises(ConfigError, match="unknown augmentation recipe 'repot'; known are none, report, ") as error:
        augment("repot", torch.zeros(3, 1, 1), torch.zeros((1, 1, 1), dtype=torch.int32), seeded(0))
    assert str(error.value).endswith(", nuclei")
