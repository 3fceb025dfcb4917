"""Reader of the IDX format, in which MNIST and its kin are distributed."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

__all__ = ["read_idx"]

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""The third byte of a file says the type of its entries."""

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_REMEDY = "get the file again from its source"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an array from an IDX file, plain or compressed by gzip.

    The file begins with two zero bytes, a byte for the type of the entries (unsigned and signed byte, 16- and 32-bit
    integer, single and double precision), a byte for the number of axes and the length of each axis as a 32-bit
    integer; the entries follow in C order. All numbers are big-endian. Whether the file is compressed is seen from
    its first bytes, not from its name.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    array
        A writable array in the byte order of this machine.

    Raises
    ------
    TypeError
        ``path`` is no path.
    OSError
        The file cannot be opened.
    ValueError
        The file is no IDX file, is damaged, or has fewer or more bytes than its header says.

    References
    ----------
    Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits, section "File formats".
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a path, got {type(path).__name__}")
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(2)
        file.seek(0)
        if start != _GZIP:
            return _parse(file, path)
        with gzip.GzipFile(fileobj=file) as unpacked:
            try:
                return _parse(cast(BinaryIO, unpacked), path)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{path}: the gzip data are damaged ({error}); {_REMEDY}") from error


def _parse(file: BinaryIO, path: Path) -> np.ndarray:
    dtype, shape = _header(file, path)
    expected = math.prod(shape) * dtype.itemsize
    data = _at_most(file, expected + 1)
    if len(data) != expected:
        found = f"only {len(data)}" if len(data) < expected else "more"
        raise ValueError(
            f"{path}: the header says shape {shape} with {dtype.itemsize} bytes an entry, so {expected} bytes must "
            f"follow it, found {found}; {_REMEDY}"
        )
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(file: BinaryIO, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """Read the type of the entries and the shape."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or magic[3] == 0:
        types = " ".join(f"{code:02x}" for code in DTYPES)
        raise ValueError(
            f"{path}: not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, expected 00 00, a type (one of "
            f"{types}) and the number of axes, or a gzip file of that; {_REMEDY}"
        )
    lengths = file.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise ValueError(
            f"{path}: the file ends within its header: {magic[3]} axes need {4 * magic[3]} bytes, found "
            f"{len(lengths)}; {_REMEDY}"
        )
    return np.dtype(DTYPES[magic[2]]), tuple(np.frombuffer(lengths, dtype=">u4").tolist())


def _at_most(file: BinaryIO, size: int) -> bytearray:
    """Read to the end of the file, at most `size` bytes: what a header promises is not allocated in advance."""
    data = bytearray()
    while len(data) < size and (chunk := file.read(min(_CHUNK, size - len(data)))):
        data += chunk
    return data
