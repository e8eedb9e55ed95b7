"""Whole files or none, offered where readers and writers look for it; see `everycell.files`."""

from everycell.files import atomic_write, write_bytes

__all__ = ["atomic_write", "write_bytes"]
