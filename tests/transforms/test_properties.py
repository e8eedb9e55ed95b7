"""What holds for every augmentation, and for every recipe made of them."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everycell.transforms import OPTIONS, RECIPES, augment, get_recipe, intensity, stain
from everycell.transforms.recipes import Recipe

STEPS = {
    "colour_jitter": intensity.colour_jitter,
    "intensity_shift": intensity.intensity_shift,
    "equalise": intensity.equalise,
    "gaussian_blur": intensity.gaussian_blur,
    "gaussian_noise": intensity.gaussian_noise,
    "gamma": intensity.gamma,
    "random_erasing": intensity.random_erasing,
    "stain_jitter": stain.stain_jitter,
    "strong_stain_jitter": partial(stain.stain_jitter, sigma=0.5),
    "restain": stain.restain,
}
NAMES = [*RECIPES, *(f"report+{option}" for option in OPTIONS), "+".join(("report", *OPTIONS))]
SEEDS = st.integers(0, 2**31)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(kind: str, height: int, width: int, seed: int) -> torch.Tensor:
    image = torch.rand((3, height, width), generator=seeded(seed))
    plain = {"black": 0.0, "white": 1.0, "grey": 0.3}
    if kind in plain:
        image.fill_(plain[kind])
    return image[:1].expand(3, -1, -1) if kind == "gray noise" else image


def cells(height: int, width: int, seed: int) -> torch.Tensor:
    return torch.randint(4, (2, height, width), generator=seeded(seed), dtype=torch.int32)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@given(
    SEEDS,
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["colours", "gray noise", "black", "white", "grey"]),
)
def test_a_step_keeps_shape_type_range_and_input_and_the_seed_decides(step, seed, height, width, kind):
    image = picture(kind, height, width, seed)
    before, state = image.clone(), torch.get_rng_state()
    result = step(image, seeded(seed))
    assert result.shape == image.shape
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert -1e-6 <= result.min() <= result.max() <= 1 + 1e-6
    assert torch.equal(step(image, seeded(seed)), result)
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "step", [s for n, s in STEPS.items() if n != "equalise"], ids=[n for n in STEPS if n != "equalise"]
)
def test_another_seed_gives_another_image(step):
    image = picture("colours", 40, 40, 0)
    results = [step(image, seeded(seed)) for seed in range(5)]
    assert all(not torch.equal(a, b) for a, b in combinations(results, 2))


@pytest.mark.parametrize("name", NAMES)
def test_every_probability_is_respected(name, monkeypatch):
    """Each step runs as often as its probability says, within five standard deviations of the binomial."""
    turns, steps = get_recipe(name)
    counts, n = [0] * len(steps), 2000

    def note(i, image, generator):
        counts[i] += 1
        return image

    noted = Recipe(turns, tuple((p, partial(note, i)) for i, (p, _) in enumerate(steps)))
    monkeypatch.setitem(RECIPES, "noted", noted)
    image, layers = torch.zeros(3, 1, 1), torch.zeros((1, 1, 1), dtype=torch.int32)
    generator = seeded(0)
    for _ in range(n):
        augment("noted", image, layers, generator)
    for count, (p, _) in zip(counts, steps, strict=True):
        assert abs(count - n * p) <= 5 * (n * p * (1 - p)) ** 0.5


@given(SEEDS)
def test_probability_0_is_never_and_1_is_always(seed):
    def invert(image, generator):
        return 1 - image

    image, layers = picture("colours", 3, 4, seed), cells(3, 4, seed)
    with pytest.MonkeyPatch.context() as patch:
        for p, expected in ((0.0, image), (1.0, 1 - image)):
            patch.setitem(RECIPES, "one step", Recipe(False, ((p, invert),)))
            assert torch.equal(augment("one step", image, layers, seeded(seed))[0], expected)


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS, height=st.integers(1, 12), width=st.integers(1, 12))
def test_every_recipe_keeps_range_and_cells(name, seed, height, width):
    image, layers = picture("colours", height, width, seed), cells(height, width, seed)
    before, state = (image.clone(), layers.clone()), torch.get_rng_state()
    changed, moved = augment(name, image, layers, seeded(seed))
    assert changed.is_contiguous()
    assert moved.is_contiguous()
    assert changed.dtype == torch.float32
    assert moved.dtype == torch.int32
    assert -1e-6 <= changed.min() <= changed.max() <= 1 + 1e-6
    assert changed.shape[1:] == moved.shape[1:]
    if get_recipe(name).turns:
        assert sorted(changed.shape) == sorted(image.shape)
        # Cells keep their areas, layer by layer.
        assert [np.bincount(layer.flatten()).tolist() for layer in moved] == [
            np.bincount(layer.flatten()).tolist() for layer in layers
        ]
    else:
        assert changed.shape == image.shape
        assert torch.equal(moved, layers)
    again, moved_again = augment(name, image, layers, seeded(seed))
    assert torch.equal(again, changed)
    assert torch.equal(moved_again, moved)
    assert torch.equal(image, before[0])
    assert torch.equal(layers, before[1])
    assert torch.equal(torch.get_rng_state(), state)


@given(SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_masks_follow_the_image_exactly(seed, height, width):
    layers = cells(height, width, seed)
    image = layers[:1].expand(3, -1, -1) / 4  # painted with its own labels
    changed, moved = augment("none+geometry", image, layers, seeded(seed))
    assert torch.equal(changed[0] * 4, moved[0].float())
