"""`everycell export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from everycell.errors import ModelError

if TYPE_CHECKING:
    from everycell.metrics import Counts

_DRAWN_PX = (200, 300)
_LEAST_SCORE = 0.05  # that of the network itself, so that there is much to compare
_SAME_IOU = 0.95
_SAME = 0.98  # share of the cells; two that are equally good may be exchanged by a difference in the last bit


def export(
    model: Annotated[str, Parameter(metavar="MODEL")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], metavar="FILE")],
    to: Annotated[Literal["onnx", "torchscript", "openvino"], Parameter(metavar="FORMAT")],
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a model as one graph for ONNX Runtime, OpenVINO or TorchScript.

    The file runs with `everycell predict -m FILE` too. It is tried out before the command ends.

    Args:
        model: name of a model (`everycell models` lists them), or a .safetensors file.
        output: the file, .onnx or .torchscript, or .xml for OpenVINO, whose weights go into a .bin beside it.
        to: onnx, torchscript or openvino.
        overwrite: replace a file that is there.
    """
    # Imported here, so that help and wrong usage do not wait for torch.
    from everycell.cli.outputs import refuse_existing
    from everycell.models.checkpoint import find_model, load_network
    from everycell.models.exported import export_network, exported_files

    if not overwrite:
        refuse_existing(exported_files(output))
    path = find_model(model)
    network, card = load_network(path)
    export_network(network, card, output, to)
    found = _compare(path, output)
    n_cells, n_same = found.tp + found.fn, found.tp
    if n_same < _SAME * max(n_cells, n_same + found.fp):
        raise ModelError(f"{output}: finds only {n_same} of the {n_cells} cells that {card.name} finds; do not use it")
    size = sum(file.stat().st_size for file in exported_files(output)) / 1e6
    print(f"{output}: {size:.1f} MB; tried on a drawn image, it finds {n_same} of the {n_cells} cells of {card.name}")


def _compare(model: Path, exported: Path) -> Counts:
    """Cells of a drawn image that two files of one model find alike, and those that only one finds."""
    import numpy as np

    from everycell.datasets import synthetic_sample
    from everycell.metrics import match, overlap
    from everycell.predict import load_model

    image = synthetic_sample(np.random.default_rng(0), _DRAWN_PX, n_cells=60, tissue=True).image
    masks = []
    for path in (model, exported):
        cells = load_model(path, device="cpu", bf16=False).predict(image, score_thresh=_LEAST_SCORE)
        masks.append(cells.select(cells.masks.areas() > 0).masks)
    return match(overlap(*masks).iou(), _SAME_IOU).counts
