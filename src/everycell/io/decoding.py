"""What decoders raise on damaged files, as one clear line."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from everycell.errors import DataError

# What tifffile, zarr and imagecodecs raise on damaged files; imagecodecs' own errors are RuntimeErrors.
_ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, struct.error, zlib.error, MemoryError)


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turn what a decoder raises into a `DataError` about `what`."""
    try:
        yield
    except _ERRORS as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if isinstance(error, KeyError):
            reason += " is missing"
        raise DataError(f"cannot decode {what}, it is damaged or of an unsupported kind ({reason})") from error
