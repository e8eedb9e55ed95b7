"""Make the before/after pictures of docs/augmentation: `python docs/make_pictures.py`.

The tissue is `skimage.data.immunohistochemistry()`: colon, DAB (brown) and haematoxylin (blue), no known copyright
restrictions. The outlines are the cells that the shipped model `nuclei` finds in it. Seeds are fixed, so the pictures
come out the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
import torchvision.transforms.v2.functional as F
from matplotlib import font_manager
from numpy.typing import NDArray
from skimage.data import immunohistochemistry
from skimage.segmentation import find_boundaries
from torch import Generator, Tensor

import everycell
from everycell.files import atomic_write
from everycell.transforms import augment, geometric, intensity, stain, zoom

FOLDER = Path(__file__).parent / "images" / "augmentation"
DIAMETER_PX = 11  # of a typical nucleus in the connective tissue
SIDE_PX, GAP_PX, TEXT_PX = 160, 6, 20  # of a panel, between panels, and of the line above each
OUTLINE = (0, 160, 0)

Panel = tuple[str, NDArray[np.uint8]]
Step = Callable[[Tensor, Generator], Tensor]


def main() -> None:
    """Write every picture."""
    tissue = immunohistochemistry()
    labels = everycell.load_model("nuclei", device="cpu").predict(tissue, diameter=DIAMETER_PX).to_labels()
    image = torch.from_numpy(tissue).permute(2, 0, 1).float() / 255
    layers = torch.from_numpy(labels.astype(np.int32))[None]
    region, stroma = (slice(228, 308), slice(212, 292)), (slice(360, 440), slice(160, 240))
    wide = (slice(200, 360), slice(190, 350))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, rows in colour_pictures(image[:, *region], image[:, *stroma], image[:, *wide]).items():
        save(rows, FOLDER / f"{name}.png")
    for name, rows in geometry_pictures(image[:, *region], layers[:, *region], image, layers).items():
        save(rows, FOLDER / f"{name}.png")
    recipes = ["report", "report+geometry+stain+erasing", "nuclei", "tissue"]
    save([recipe_row(recipe, image[:, *wide], layers[:, *wide]) for recipe in recipes], FOLDER / "recipes.png")


def colour_pictures(region: Tensor, stroma: Tensor, wide: Tensor) -> dict[str, list[list[Panel]]]:
    """File stem → rows of panels, of augmentations that change pixels only; all images float32 [3, H, W]."""
    before = ("before", show(region))
    detail = region[:, 20:60, 20:60]
    close = ("before, 4 times", show(detail))
    dark = (region < 0.7).float()

    def drawn(step: Step, name: str = "seed", n: int = 4) -> list[Panel]:
        return [(f"{name} {seed}", show(step(region, seeded(seed)))) for seed in range(1, n + 1)]

    def strengths(step: Callable[..., Tensor], image: Tensor, name: str, values: tuple[float, ...]) -> list[Panel]:
        return [(f"{name} {v:g}", show(step(image, seeded(0), low=v, high=v))) for v in values]

    return {
        "colour-jitter": [
            [before, *drawn(intensity.colour_jitter)],
            [before, *jitters(region, ("brightness", "contrast"))],
            [before, *jitters(region, ("saturation", "hue"))],
        ],
        "intensity-shift": [
            [
                before,
                ("darker than 0.7", show(dark)),
                *strengths(intensity.intensity_shift, region, "×", (0.8, 0.9, 1.2)),
            ]
        ],
        "histogram-equalisation": [
            [
                panel
                for name, image in (("", wide), ("pale tissue, ", stroma))
                for panel in (
                    (f"{name}before", show(image)),
                    (f"{name}after", show(intensity.equalise(image, seeded(0)))),
                )
            ]
        ],
        "gaussian-blur": [[close, *strengths(intensity.gaussian_blur, detail, "sigma", (0.3, 0.5, 1, 2))]],
        "gaussian-noise": [
            [
                close,
                *(
                    (f"sd {sd:g}, seed {seed}", show(intensity.gaussian_noise(detail, seeded(seed), sd=sd)))
                    for sd, seed in ((0.02, 1), (0.03, 1), (0.03, 2), (0.06, 1))
                ),
            ]
        ],
        "gamma": [[before, *strengths(intensity.gamma, region, "gamma", (0.6, 0.8, 1.3, 1.6))]],
        "stain-jitter": [
            [before, *unmixed(region)],
            [before, *drawn(stain.stain_jitter, "sigma 0.05, seed")],
            [before, *drawn(partial(stain.stain_jitter, sigma=0.1), "sigma 0.1, seed")],
        ],
        "restaining": [[before, *drawn(stain.restain)], drawn(stain.restain, n=9)[4:]],
    }


def jitters(image: Tensor, parts: tuple[str, ...]) -> list[Panel]:
    """The two ends of what colour jitter does to each part."""
    steps = {
        "brightness": (F.adjust_brightness, "× 0.8", 0.8, "× 1.2", 1.2),
        "contrast": (F.adjust_contrast, "× 0.8", 0.8, "× 1.2", 1.2),
        "saturation": (F.adjust_saturation, "× 0.8", 0.8, "× 1.2", 1.2),
        "hue": (F.adjust_hue, "- 0.03", -0.03, "+ 0.03", 0.03),
    }
    panels = []
    for part in parts:
        step, low_name, low, high_name, high = steps[part]
        panels += [(f"{part} {low_name}", show(step(image, low))), (f"{part} {high_name}", show(step(image, high)))]
    return panels


def unmixed(image: Tensor) -> list[Panel]:
    """Each stain alone in its own colour, and all three mixed again."""
    amounts, colours = stain.unmix(image), stain.stain_colours()
    alone = [stain.mix(amounts * torch.eye(3)[i].view(3, 1, 1), colours) for i in range(3)]
    names = ("haematoxylin", "eosin", "DAB", "all three")
    return [(name, show(part)) for name, part in zip(names, (*alone, stain.mix(amounts, colours)), strict=True)]


def geometry_pictures(region: Tensor, cells: Tensor, image: Tensor, layers: Tensor) -> dict[str, list[list[Panel]]]:
    """File stem → rows of panels, of augmentations that move the cells as well."""
    before = show(region, cells)
    positions = {before.tobytes(): before}
    for seed in range(100):
        drawn = show(*geometric.dihedral(region, cells, seeded(seed)))
        positions.setdefault(drawn.tobytes(), drawn)
    assert len(positions) == 8
    panels = [("" if i else "before", drawn) for i, drawn in enumerate(positions.values())]
    erased = [(f"seed {seed}", show(intensity.random_erasing(region, seeded(seed)), cells)) for seed in range(1, 5)]
    zoomed = []
    for factor in (0.6, 0.8, 1.0, 1.15, 1.3):
        half = round(SIDE_PX / 4 / factor)
        window = (slice(268 - half, 268 + half), slice(252 - half, 252 + half))
        zoomed.append((f"zoom {factor:g}", show(*zoom(image[:, *window], layers[:, *window], factor))))
    return {
        "flips-and-turns": [panels[:4], panels[4:]],
        "random-erasing": [[("before", before), *erased]],
        "zoom": [zoomed],
    }


def recipe_row(recipe: str, image: Tensor, layers: Tensor) -> list[Panel]:
    """Five examples of a recipe, under its name."""
    return [("" if seed else recipe, show(*augment(recipe, image, layers, seeded(seed)))) for seed in range(5)]


def seeded(seed: int) -> Generator:
    """A random generator."""
    return torch.Generator().manual_seed(seed)


def show(image: Tensor, layers: Tensor | None = None) -> NDArray[np.uint8]:
    """A panel of about `SIDE_PX`: the image enlarged pixel by pixel, and the outlines of its cells.

    Args:
        image: float32 [3, H, W] in [0, 1].
        layers: int32 [1, H, W], label layer.
    """
    factor = max(1, round(SIDE_PX / image.shape[2]))
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().repeat(factor, 0).repeat(factor, 1)
    if layers is not None:
        pixels[find_boundaries(layers[0].numpy().repeat(factor, 0).repeat(factor, 1), mode="inner")] = OUTLINE
    return pixels[:SIDE_PX, :SIDE_PX]


def save(rows: list[list[Panel]], path: Path) -> None:
    """Write rows of named panels as a PNG of 256 colours."""
    n_columns = max(len(row) for row in rows)
    step = SIDE_PX + GAP_PX
    sheet = PIL.Image.new("RGB", (n_columns * step - GAP_PX, len(rows) * (step + TEXT_PX)), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)
    for i, row in enumerate(rows):
        for j, (name, pixels) in enumerate(row):
            left, top = j * step, i * (step + TEXT_PX)
            draw.text((left, top + 3), name, fill="black", font=font)
            sheet.paste(PIL.Image.fromarray(pixels), (left, top + TEXT_PX))
    with atomic_write(path) as temporary:
        sheet.quantize(256, kmeans=2, dither=PIL.Image.Dither.NONE).save(temporary, format="png", optimize=True)


if __name__ == "__main__":
    main()
