"""Arrays in ``.npy`` files that somebody else has made: the header is compared with the file before memory is taken."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"


class NpyError(ValueError):
    """Bytes are no ``.npy`` file that can be read; the message says why, without the file's name."""


def parse_npy(content: bytes) -> NDArray[Any]:
    """Read the content of a ``.npy`` file.

    Source: NumPy, Enhancement Proposal 1, A simple file format for NumPy arrays.

    Args:
        content: All bytes of the file.

    Raises:
        NpyError: If they are of another kind, such as an ``.npz`` archive or pickled objects, the header cannot be
            read, or the file is not exactly as long as the header says.
    """
    if content[:2] == b"PK":
        raise NpyError("an .npz archive of several arrays, expected one array as np.save writes it")
    if content[:6] != _MAGIC:
        raise NpyError("no .npy file")
    stream = io.BytesIO(content)
    try:
        shape, _, dtype = _read_header(stream)
    except NpyError:
        raise
    except Exception as error:  # a parser's: ValueError, SyntaxError, RecursionError, TokenError, MemoryError, ...
        raise NpyError(f"its header is damaged ({type(error).__name__})") from error
    if dtype.hasobject:
        raise NpyError("it holds pickled objects, which are refused")
    if any(isinstance(n, bool) or n < 0 for n in shape):
        raise NpyError(f"its header gives the shape {shape}")
    declared, present = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if declared != present:
        kind = "truncated" if declared > present else "too long"
        raise NpyError(f"it is {kind}: {dtype} {shape} takes {declared} bytes, and {present} are there")
    stream.seek(0)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array


def _read_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    if version in ((2, 0), (3, 0)):  # they differ in the encoding of field names only, which images do not have
        return npy_format.read_array_header_2_0(stream)
    raise NpyError(f"it has the format version {version[0]}.{version[1]}, expected 1.0 to 3.0")
