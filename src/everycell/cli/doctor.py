"""`everycell doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from everycell import __version__
from everycell.errors import EverycellError, ModelError


def doctor() -> int:
    """Check that everything everycell needs works on this computer.

    Prints one line per check; the exit code is 1 when something is broken.
    """
    broken = 0
    for name, check in _CHECKS.items():
        try:
            state, text = "ok", check()
        except (EverycellError, ImportError, OSError, PackageNotFoundError, RuntimeError) as error:
            state, text = "BROKEN", str(error)
            broken += 1
        print(f"{state:6}  {name:12}  {text}")
    print(f"{broken} of {len(_CHECKS)} checks failed" if broken else "everything works")
    return int(broken > 0)


def _versions() -> str:
    named = ("torch", "torchvision", "numpy", "tifffile", "scikit-image")
    return ", ".join(
        [f"everycell {__version__}", f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in named)]
    )


def _network() -> str:
    """Run torchvision's compiled code once: a torchvision that does not match torch fails only here."""
    import torch
    from torchvision.ops import nms

    kept = nms(torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]]), torch.tensor([0.9, 0.8]), 0.5)
    if kept.tolist() != [0]:
        raise RuntimeError(
            f"non-maximum suppression kept {kept.tolist()}, expected [0]; reinstall torch and torchvision"
        )
    return "torch and torchvision fit together"


def _device() -> str:
    import torch

    from everycell.models import supports_bf16
    from everycell.predict import choose_device

    device = choose_device("auto")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    bf16 = "fast in bfloat16" if supports_bf16(device) else "without fast bfloat16"
    return f"{device} ({name}), {bf16}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def _memory() -> str:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return "free memory is not known on this system"
    values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free, total = (int(values[key].split()[0]) / 2**20 for key in ("MemAvailable", "MemTotal"))
    return f"{free:.1f} of {total:.1f} GiB free"


def _disk() -> str:
    usage = shutil.disk_usage(Path.cwd())
    return f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free in {Path.cwd()}"


def _models() -> str:
    """Load every shipped model, after comparing its file with the SHA-256 that was released."""
    from everycell.models.checkpoint import file_sha256, load_network, shipped_models

    shipped = shipped_models()
    if not shipped:
        raise ModelError("no models come with this installation; reinstall everycell")
    for name, path in shipped.items():
        lines = (path.parent / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        released = {file: digest for digest, file in (line.split() for line in lines)}
        if released.get(path.name) != file_sha256(path):
            raise ModelError(f"{path}: differs from the released {name} model; reinstall everycell")
        load_network(path)
    return f"{', '.join(shipped)}: complete"


_CHECKS: dict[str, Callable[[], str]] = {
    "versions": _versions,
    "network": _network,
    "device": _device,
    "memory": _memory,
    "disk": _disk,
    "models": _models,
}
