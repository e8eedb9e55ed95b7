"""`everycell export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from everycell.errors import ModelError

if TYPE_CHECKING:
    from everycell.metrics import Counts
    from everycell.predict import Model
    from everycell.structures import Image

_DRAWN_PX = (200, 300)
_LEAST_SCORE = 0.05  # that of the network itself, so that there is much to compare
_SAME = 0.98  # share of the cells; two that are equally good may be exchanged by a difference in the last bit
_SAME_INT8 = 0.9
_CALIBRATION, _CALIBRATION_NETWORK_PX = 40, 512


def export(
    model: Annotated[str, Parameter(metavar="MODEL")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], metavar="FILE")],
    to: Annotated[Literal["onnx", "torchscript", "openvino"], Parameter(metavar="FORMAT")],
    int8: Annotated[str | None, Parameter(metavar="IMAGES")] = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a model as one graph for ONNX Runtime, OpenVINO or TorchScript.

    The file runs with `everycell predict -m FILE` too. It is tried out before the command ends.

    Args:
        model: name of a model (`everycell models` lists them), or a .safetensors file.
        output: the file, .onnx or .torchscript, or .xml for OpenVINO, whose weights go into a .bin beside it.
        to: onnx, torchscript or openvino.
        int8: for openvino, compute in 8-bit integers: faster, and a little less exact. Their ranges are measured on
            these images (a file, a folder or a quoted glob), so give ten or more of those that the model is for.
        overwrite: replace a file that is there.
    """
    # Imported here, so that help and wrong usage do not wait for torch.
    from everycell.cli.outputs import refuse_existing
    from everycell.io import find_images
    from everycell.models.checkpoint import find_model, load_network
    from everycell.models.exported import check_export, export_network, exported_files
    from everycell.predict import load_model

    check_export(output, to, int8=bool(int8))
    if not overwrite:
        refuse_existing(exported_files(output))
    images = [image for _, image in find_images([int8])] if int8 else []
    path = find_model(model)
    network, card = load_network(path)
    original = load_model(path, device="cpu", bf16=False)
    shown = _middles(original, images)
    export_network(network, card, output, to, [original.network_input(image) for image in shown])
    exported = load_model(output, device="cpu")
    if shown:
        found, least, where = _compare(original, exported, shown, card.score_thresh, 0.5), _SAME_INT8, "these images"
    else:
        found, least, where = _compare(original, exported, [_drawn()], _LEAST_SCORE, 0.95), _SAME, "a drawn image"
    n_cells, n_same = found.tp + found.fn, found.tp
    if n_same < least * max(n_cells, n_same + found.fp):
        raise ModelError(f"{output}: finds only {n_same} of the {n_cells} cells that {card.name} finds; do not use it")
    size = sum(file.stat().st_size for file in exported_files(output)) / 1e6
    print(f"{output}: {size:.1f} MB; tried on {where}, it finds {n_same} of the {n_cells} cells of {card.name}")


def _middles(model: Model, images: list[Path]) -> list[Image]:
    """The middle of each image, or of `_CALIBRATION` of them, evenly spread; whole where the scale depends on it."""
    from everycell.io import open_source
    from everycell.structures import Image

    middles = []
    for path in images[:: max(1, -(-len(images) // _CALIBRATION))]:
        with open_source(path) as source:
            height, width = source.size
            half = round(_CALIBRATION_NETWORK_PX / model.zoom(source, None)[0] / 2)
            if model.card.settings.resize_short_px is not None:
                half = max(height, width)
            x, y = width // 2, height // 2
            window = max(0, x - half), max(0, y - half), min(width, x + half), min(height, y + half)
            middles.append(Image(source.read(window), source.mpp))
    return middles


def _drawn() -> Image:
    import numpy as np

    from everycell.datasets import synthetic_sample

    return synthetic_sample(np.random.default_rng(0), _DRAWN_PX, n_cells=60, tissue=True).image


def _compare(original: Model, exported: Model, images: list[Image], least_score: float, iou: float) -> Counts:
    """Cells that two forms of one model find alike, with a mask IoU above `iou`, and those that only one finds."""
    from everycell.metrics import Counts, match, overlap

    counts = Counts()
    for image in images:
        masks = []
        for model in (original, exported):
            cells = model.predict(image, score_thresh=least_score)
            masks.append(cells.select(cells.masks.areas() > 0).masks)
        counts += match(overlap(*masks).iou(), iou).counts
    return counts
