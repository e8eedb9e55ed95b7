"""Networks in other runtimes' files: writer and reader of each side by side. The card travels inside the file.

Every graph takes `image` float32 [3, H, W] in [0, 1], at network scale and of any size, and `score_thresh` float32 [];
it gives `boxes`, `scores`, `labels` and `masks` as `TraceableMaskRCNN` does.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from everycell.errors import ConfigError, ModelError
from everycell.files import atomic_write
from everycell.models.checkpoint import CARD_KEY, ModelCard, parse_card
from everycell.models.mask_rcnn import CellMaskRCNN
from everycell.models.roi_heads import Detections
from everycell.models.traceable import TraceableMaskRCNN

Format = Literal["onnx", "torchscript", "openvino"]
Program = Callable[[Tensor, float], Detections]
"""From an image float32 [3, H, W] and the least score to what was found."""

_INPUTS, _OUTPUTS = ("image", "score_thresh"), ("boxes", "scores", "labels", "masks")
_OPSET = 17
_LEAST_SCORE = 0.05  # of the cells that ranges of 8-bit integers are taken from
_TRACED_SIZE = (192, 256)  # any other serves as well


@dataclass(frozen=True)
class Exported:
    """An exported model, ready to run.

    Attributes:
        program: what finds cells.
        card: what the model is.
        sha256: of all its files, hexadecimal.
    """

    program: Program
    card: ModelCard
    sha256: str


@dataclass(frozen=True)
class _Runtime:
    """One kind of file.

    Attributes:
        suffix: of the file.
        package: what runs it.
        save: writes a network and its card.
        open: gives the program and the card of a file, as JSON text or None.
    """

    suffix: str
    package: str
    save: Callable[[TraceableMaskRCNN, str, Path], None]
    open: Callable[[Path], tuple[Program, str | None]]


def export_network(
    network: CellMaskRCNN, card: ModelCard, path: Path, to: Format, calibration: Sequence[Tensor] = ()
) -> None:
    """Write a network, with its card, for another runtime.

    Args:
        network: in evaluation mode, on the CPU.
        card: what the model is.
        path: its suffix is that of the format: .onnx, .torchscript, or .xml with the weights in a .bin beside it.
        to: the format.
        calibration: inputs float32 [3, H, W] in [0, 1], for OpenVINO alone: with them convolutions and linear layers
            compute in 8-bit integers, whose ranges are those that these inputs need (Jacob et al. 2018); without, in
            float32.

    Raises:
        ConfigError: as `check_export`, or a package is not installed.
        OutputError: the file cannot be written.
    """
    check_export(path, to, int8=bool(calibration))
    save = partial(_save_openvino, calibration=calibration) if calibration else _RUNTIMES[to].save
    save(TraceableMaskRCNN(network), card.model_dump_json(), path)


def check_export(path: Path, to: Format, *, int8: bool) -> None:
    """Refuse what `export_network` cannot write, before anything is read for it.

    Raises:
        ConfigError: the suffix of `path` is another format's, or the format has no 8-bit integers.
    """
    suffix = _RUNTIMES[to].suffix
    if path.suffix != suffix:
        raise ConfigError(f"{path}: expected a file name that ends in {suffix} for {to}, got {path.suffix!r}")
    if int8 and to != "openvino":
        raise ConfigError(f"8-bit integers are for openvino alone, got {to}")


def is_exported(path: Path) -> bool:
    """Whether the suffix of `path` is one of an exported model."""
    return any(path.suffix == runtime.suffix for runtime in _RUNTIMES.values())


def open_exported(path: Path) -> Exported:
    """Make an exported model ready to run on the CPU.

    Args:
        path: what `export_network` wrote.

    Raises:
        ModelError: the file is damaged or not everycell's.
        ConfigError: the package that runs it is not installed.
    """
    [runtime] = [runtime for runtime in _RUNTIMES.values() if runtime.suffix == path.suffix]
    _package(runtime.package)
    try:
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in exported_files(path)))
        program, card = runtime.open(path)
    except Exception as error:  # noqa: BLE001 - each runtime has its own
        raise ModelError(
            f"{path}: {runtime.package} cannot read it ({_reason(error)}); export the model anew"
        ) from None
    if card is None:
        raise ModelError(f"{path}: not an everycell model; make one with `everycell export`")
    return Exported(program, parse_card(card, path), digest.hexdigest())


def exported_files(path: Path) -> list[Path]:
    """All files of the exported model `path`."""
    return [path, path.with_suffix(".bin")] if path.suffix == _RUNTIMES["openvino"].suffix else [path]


def _reason(error: Exception) -> str:
    """The line that says something to a user."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith(("Exception from", "Check '"))]
    return lines[0] if lines else type(error).__name__


def _package(name: str) -> Any:
    # openvino counts its uses in the user's home folder, and can report them, unless this is not there.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module(name)
    except ImportError:
        extra = "int8" if name == "nncf" else "export"
        raise ConfigError(f"{name} is not installed: pip install 'everycell[{extra}]'") from None


@contextmanager
def _tracing() -> Iterator[tuple[Tensor, Tensor]]:
    """Example inputs, for a block without tracing's warnings.

    They tell of constants, which here are right for every image, and that tracing will give way to torch.export, which
    cannot follow a network whose number of boxes depends on the image.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield torch.rand(3, *_TRACED_SIZE, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)


def _save_torchscript(network: TraceableMaskRCNN, card: str, path: Path) -> None:
    with _tracing() as example, atomic_write(path) as temporary:
        script = torch.jit.trace(network, example, check_trace=False)
        torch.jit.save(script, str(temporary), _extra_files={CARD_KEY: card})


def _open_torchscript(path: Path) -> tuple[Program, str | None]:
    import_module("torchvision")  # its operations
    extra: dict[str, Any] = {CARD_KEY: b""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.load(path, map_location="cpu", _extra_files=extra)

    def run(image: Tensor, score_thresh: float) -> Detections:
        with torch.inference_mode():
            return dict(zip(_OUTPUTS, script(image, torch.tensor(score_thresh)), strict=True))

    return run, extra[CARD_KEY].decode() or None


def _save_onnx(network: TraceableMaskRCNN, card: str, path: Path) -> None:
    onnx = _package("onnx")
    with atomic_write(path) as temporary:
        _write_graph(network, temporary)
        model = onnx.load(temporary)
        model.metadata_props.add(key=CARD_KEY, value=card)
        onnx.save(model, temporary)


def _write_graph(network: TraceableMaskRCNN, path: Path) -> None:
    """The network as ONNX, without its card."""
    axes = {"image": {1: "height", 2: "width"}, **{name: {0: "cells"} for name in _OUTPUTS}}
    names: dict[str, Any] = {"input_names": _INPUTS, "output_names": _OUTPUTS, "dynamic_axes": axes}
    with _tracing() as example:
        torch.onnx.export(network, example, path, dynamo=False, opset_version=_OPSET, **names)


def _open_onnx(path: Path) -> tuple[Program, str | None]:
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor, score_thresh: float) -> Detections:
        return _detections(session.run(_OUTPUTS, _feed(image, score_thresh)))

    return run, session.get_modelmeta().custom_metadata_map.get(CARD_KEY)


def _save_openvino(network: TraceableMaskRCNN, card: str, path: Path, calibration: Sequence[Tensor] = ()) -> None:
    openvino = _package("openvino")
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        _write_graph(network, onnx)
        model = openvino.Core().read_model(onnx)
    model = _to_int8(model, calibration) if calibration else model
    model.set_rt_info(card, CARD_KEY)
    with atomic_write(path.with_suffix(".bin")) as weights, atomic_write(path) as graph:
        openvino.serialize(model, graph, weights)


def _to_int8(model: Any, calibration: Sequence[Tensor]) -> Any:
    """The graph with its convolutions and linear layers in 8-bit integers."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # nncf makes it look for a compiler
    nncf = _package("nncf")
    nncf.set_log_level(logging.ERROR)
    inputs = nncf.Dataset([_feed(image, _LEAST_SCORE) for image in calibration])
    preset, device = nncf.QuantizationPreset.MIXED, nncf.TargetDevice.CPU
    with redirect_stdout(sys.stderr), warnings.catch_warnings():  # the bar of its progress
        warnings.simplefilter("ignore")
        return nncf.quantize(model, inputs, subset_size=len(calibration), preset=preset, target_device=device)


def _open_openvino(path: Path) -> tuple[Program, str | None]:
    openvino = _package("openvino")
    core = openvino.Core()
    model = core.read_model(path)
    card = model.get_rt_info(CARD_KEY).astype(str) if model.has_rt_info(CARD_KEY) else None
    # In bfloat16, which it would choose itself, it rounds the corners of RoIs to whole px and more.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(model, "CPU", hints)

    def run(image: Tensor, score_thresh: float) -> Detections:
        found = compiled(_feed(image, score_thresh))
        return _detections([found[name].copy() for name in _OUTPUTS])  # the next image overwrites them

    return run, card


def _feed(image: Tensor, score_thresh: float) -> dict[str, Any]:
    return dict(zip(_INPUTS, (image.contiguous().numpy(), np.array(score_thresh, np.float32)), strict=True))


def _detections(outputs: list[Any]) -> Detections:
    return {name: torch.from_numpy(array) for name, array in zip(_OUTPUTS, outputs, strict=True)}


_RUNTIMES: dict[Format, _Runtime] = {
    "onnx": _Runtime(".onnx", "onnxruntime", _save_onnx, _open_onnx),
    "torchscript": _Runtime(".torchscript", "torch", _save_torchscript, _open_torchscript),
    "openvino": _Runtime(".xml", "openvino", _save_openvino, _open_openvino),
}
