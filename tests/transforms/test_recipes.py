import pytest
import torch

from everycell.errors import ConfigError
from everycell.transforms import RECIPES, augment, get_recipe, intensity, stain

REPORT = (
    (0.9, intensity.colour_jitter),
    (0.7, intensity.intensity_shift),
    (0.3, intensity.equalise),
    (0.5, intensity.gaussian_blur),
    (0.6, intensity.gaussian_noise),
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("none", (False, ())),
        ("none+geometry", (True, ())),
        ("report", (False, REPORT)),
        ("report+geometry", (True, REPORT)),
        ("report+stain", (False, ((0.5, stain.stain_jitter), *REPORT))),
        ("report+erasing", (False, (*REPORT, (0.5, intensity.random_erasing)))),
        (
            "report+erasing+geometry+stain+stain",
            (True, ((0.5, stain.stain_jitter), *REPORT, (0.5, intensity.random_erasing))),
        ),
    ],
)
def test_options_are_added_to_a_recipe(name, recipe):
    assert get_recipe(name) == recipe


def test_options_leave_the_recipe_itself_alone():
    get_recipe("report+geometry+stain+erasing")
    assert RECIPES["report"] == (False, REPORT)


def test_steps_are_drawn_independently(monkeypatch):
    seen: set[str] = set()

    def note(name):
        return lambda image, generator: seen.add(name) or image

    monkeypatch.setitem(RECIPES, "noted", (False, ((0.9, note("first")), (0.6, note("second")))))
    image, layers, generator = torch.zeros(3, 1, 1), torch.zeros((1, 1, 1), dtype=torch.int32), seeded(0)
    both, n = 0, 3000
    for _ in range(n):
        seen.clear()
        augment("noted", image, layers, generator)
        both += len(seen) == 2
    p = 0.9 * 0.6
    assert abs(both - n * p) <= 5 * (n * p * (1 - p)) ** 0.5


def test_no_augmentation_changes_nothing():
    image, layers = torch.rand((3, 4, 5), generator=seeded(0)), torch.ones((1, 4, 5), dtype=torch.int32)
    changed, moved = augment("none", image, layers, seeded(1))
    assert torch.equal(changed, image)
    assert torch.equal(moved, layers)


@pytest.mark.parametrize("name", ["repot", "report+colour", "report+", "stain", "", "+stain"])
def test_unknown_recipe_lists_the_known(name):
    with pytest.raises(ConfigError) as error:
        augment(name, torch.zeros(3, 1, 1), torch.zeros((1, 1, 1), dtype=torch.int32), seeded(0))
    assert str(error.value) == (
        f"unknown augmentation recipe {name!r}; known are none, report, nuclei, tissue, each also with +geometry, "
        "+stain, +erasing, as in report+geometry"
    )
