import platform
from pathlib import Path

import pytest

from everycell.predict import memory
from everycell.predict.memory import return_freed_memory


def resident_mb() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_freed_memory_goes_back():
    blocks = [bytes(2000) for _ in range(50_000)]
    kept = blocks[::500]  # holes all over the heap
    full = resident_mb()
    del blocks
    return_freed_memory()
    assert resident_mb() < full - 60
    assert len(kept) == 100


def test_without_glibc_nothing_happens(monkeypatch):
    class Other:
        def __init__(self, name):
            pass

    monkeypatch.setattr(memory.ctypes, "CDLL", Other)
    memory._glibc.cache_clear()
    try:
        assert return_freed_memory() is None
    finally:
        memory._glibc.cache_clear()
