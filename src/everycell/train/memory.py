"""How much memory training steps take."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak resident set size, VmHWM


class PeakMemory:
    """Highest memory in use since `reset`.

    Attributes:
        kind: what is measured: memory that torch allocated on a CUDA device, else the process's resident set, which
            includes libraries and the images kept in memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.kind = "allocated on the GPU" if device.type == "cuda" else "resident set of the process"

    def reset(self) -> None:
        """Start anew; where the system cannot, the peak is that of the whole process."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            with suppress(OSError):
                _CLEAR.write_text(_RESET_PEAK)

    def read(self) -> int | None:
        """Bytes, None where the system does not tell."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        if _STATUS.exists():
            lines = (line.split() for line in _STATUS.read_text().splitlines())
            return next((int(line[1]) * 1024 for line in lines if line[0] == "VmHWM:"), None)
        return _peak_of_process()


def _peak_of_process() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
