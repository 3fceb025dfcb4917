"""The file format of dlra: solutions and checkpoints as HDF5, written atomically and read back bit for bit.

A file holds one tree of dicts, lists, tuples, numbers, strings and arrays:

- ``header``: the tree as JSON, a dataset of bytes since an HDF5 attribute ends at 64 KiB. Where an array or a
  NumPy scalar stands, it names the dtype, the shape and the offset in that dtype's dataset;
- ``arrays/<dtype>``: the entries of all arrays of one dtype, one array after the other, each in its memory
  order. Thousands of small factors so cost one dataset;
- attributes ``format``, ``kind``, ``schema``, ``version``, and ``digest``: a SHA-256 of header and arrays.

It is plain HDF5, without filters: ``json.loads(bytes(h5py.File(path)["header"][:]))`` shows what is inside.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import secrets
import struct
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SCHEMA", "FileFormatError", "check_target", "read", "write"]

SCHEMA = 1
"""Version of the layout above; a file of another schema is refused."""

KINDS = {  # kind: (what writes it, what reads it)
    "solution": ("Solution.save(path)", "Solution.load(path)"),
    "checkpoint": ("dlra.solve(..., checkpoint=path)", "dlra.solve(..., resume=path)"),
    "network": ("net.save(path)", "dlra.nn.load(path)"),
    "training": ("dlra.nn.train(..., checkpoint=path)", "dlra.nn.train(..., resume=path)"),
}

_STORABLE = (
    "None, bool, int, float, complex, str, NumPy arrays and scalars of bool or numeric dtype, "
    "and lists, tuples and dicts (with str keys) of these"
)
_NUMERIC = "biufc"  # dtype kinds: bool, signed, unsigned, float, complex
_PACKED = {float: "<f8", int: "<i8", bool: "|b1", complex: "<c16"}  # lists of only these are stored as arrays
_PACK_FROM = 16  # shorter lists stay legible in the header
_MAX_DEPTH = 100
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MALFORMED = (  # what h5py and the decoder raise on damaged bytes
    OSError, LookupError, ArithmeticError, RuntimeError, ValueError, TypeError, AttributeError, struct.error,
)  # fmt: skip


class FileFormatError(ValueError):
    """A file that cannot be used: foreign, torn, of another kind or schema. The message says which."""


def write(path: str | os.PathLike[str], kind: str, tree: Any) -> None:
    """Write `tree` to the file `path`, wholly or not at all.

    The bytes go to a temporary file beside `path`, reach the disk (fsync), then take the place of `path` in
    one rename. Whatever stops this earlier (a full disk, Ctrl-C) leaves an old file at `path` as it was and
    no temporary file. Those of processes that were killed are removed by the next successful write.

    Parameters
    ----------
    path : path of the file; its directory must exist. A symbolic link is followed.
    kind : one of KINDS.
    tree : nested dict (str keys), list, tuple, None, bool, int, float, complex, str, NumPy scalar or array of
        bool or numeric dtype; exactly these types, as a subclass would come back as something else. A strided
        view is stored densely, with its axes in the same memory order.

    Raises
    ------
    TypeError
        A value cannot be stored; the message says where in the tree it is.
    FileNotFoundError, IsADirectoryError, OSError
        The directory does not exist; `path` is a directory; the disk is full.
    ImportError
        h5py is not installed.
    """
    _check_kind(kind)
    check_target(path)
    target = Path(os.path.realpath(path))
    pools = _Pools()
    node = _encode(tree, (), pools)
    arrays = pools.join()
    lengths = {name: array.size for name, array in arrays.items()}
    # Strings may hold surrogates (file names do); escaped, a pair of them would come back as one character.
    text = json.dumps({"tree": node, "arrays": lengths}, ensure_ascii=False, allow_nan=False)
    image = _image(kind, text.encode("utf-8", "surrogatepass"), arrays)

    temporary = target.parent / f"{_temporary_prefix(target)}{os.getpid()}-{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as handle:
            handle.write(image)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _fsync_directory(target.parent)
    _remove_stale(target)


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise the error that `write` would raise for this path, before there is anything to lose."""
    _import_h5py()
    if not os.fspath(path):
        raise ValueError("the path of a file to write is empty")
    _check_regular(path)
    directory = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"cannot write {path}: create the directory {directory} first")


def read(path: str | os.PathLike[str], kind: str) -> Any:
    """Read the tree that `write` stored in `path`: the same types, bits and memory order of arrays.

    Parameters
    ----------
    path : path of the file.
    kind : one of KINDS: what the file must hold.

    Returns
    -------
    tree : as it was given to `write`; every array has its own, writable memory.

    Raises
    ------
    FileFormatError
        The file is foreign (not written by dlra), torn (incomplete or altered), of the other kind, or of an
        older or newer schema. The message says which, and what to do.
    FileNotFoundError, IsADirectoryError
        There is no file `path`; it is a directory.
    ImportError
        h5py is not installed.
    """
    _check_kind(kind)
    h5py = _import_h5py()
    _check_regular(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}; a {kind} is written by {KINDS[kind][0]}")
    with open(path, "rb") as handle:
        signature = handle.read(len(_SIGNATURE))
        if signature != _SIGNATURE:
            if _SIGNATURE.startswith(signature.rstrip(b"\0")):
                raise _torn(path, "it is empty, or ends within its first bytes")
            raise _foreign(path, kind, "not an HDF5 file")
        try:
            with h5py.File(handle, "r") as file:
                _check_attributes(path, kind, file.attrs)
                header, arrays = _load(path, file, os.fstat(handle.fileno()).st_size)
                if file.attrs["digest"] != _digest(header, arrays):
                    raise _torn(path, "its content does not match its checksum")
            return _decode(_parse(header)["tree"], arrays)
        except FileFormatError:
            raise
        except _MALFORMED as error:
            raise _torn(path, f"it cannot be read ({error})") from error


# ---- the tree as JSON header and flat arrays
# In the header None, bool, str, dict, ints of 64 bits and finite floats stand for themselves (JSON writes a
# float by its repr, which is exact). Everything else is a JSON list [tag, ...].


class _Pools:
    """Flat arrays, collected by dtype."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[np.ndarray]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, flat: np.ndarray) -> int:
        """Append a 1-D array; return its offset among those of its dtype."""
        name = flat.dtype.str
        offset = self.sizes.get(name, 0)
        self.pieces.setdefault(name, []).append(flat)
        self.sizes[name] = offset + flat.size
        return offset

    def join(self) -> dict[str, np.ndarray]:
        # out= keeps the byte order, which concatenate alone would make native
        return {
            name: np.concatenate(pieces, out=np.empty(self.sizes[name], dtype=name))
            for name, pieces in self.pieces.items()
        }


def _encode(value: Any, where: tuple[str | int, ...], pools: _Pools) -> Any:
    """The JSON node of `value`; its arrays go to `pools`.

    Types are compared exactly: an np.float64 is a float too. `where` is the path from the root, for messages.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if value.bit_length() < 64 else ["int", hex(value)]
    if kind is float:
        return value if math.isfinite(value) else ["float", struct.pack(">d", value).hex()]
    if kind is complex:
        return ["complex", _encode(value.real, where, pools), _encode(value.imag, where, pools)]
    if kind in (list, tuple, dict) and len(where) == _MAX_DEPTH:
        raise TypeError(f"cannot store {_place(where[:3])}: nested over {_MAX_DEPTH} deep, or in itself")
    if kind is list or kind is tuple:
        types = set(map(type, value)) if len(value) >= _PACK_FROM else set()
        if len(types) == 1 and (dtype := _PACKED.get(types.pop())):
            with contextlib.suppress(OverflowError):  # an int beyond 64 bits: not packed
                return [f"packed {kind.__name__}", _encode(np.array(value, dtype=dtype), where, pools)]
        return [kind.__name__, *(_encode(item, (*where, i), pools) for i, item in enumerate(value))]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"cannot store {_place(where)}: a key is {_type_name(key)}, {key!r}, not str")
        return {key: _encode(item, (*where, key), pools) for key, item in value.items()}
    if kind is np.ndarray and value.dtype.kind in _NUMERIC:
        axes = _memory_axes(value)
        node = ["array", value.dtype.str, list(value.shape), pools.add(value.transpose(axes).reshape(-1))]
        return node if axes == sorted(axes) else [*node, axes]
    if isinstance(value, np.generic) and value.dtype.kind in _NUMERIC:
        return ["scalar", value.dtype.str, pools.add(np.array([value]))]
    dtype = f" of dtype {value.dtype}" if isinstance(value, (np.ndarray, np.generic)) else ""
    raise TypeError(
        f"cannot store {_place(where)}: it is {_type_name(value)}{dtype}; what can be stored: {_STORABLE}. "
        "Convert it (an array with numpy.asarray), or leave it out"
    )


def _decode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value of a JSON node; the inverse of `_encode`."""
    if isinstance(node, dict):
        return {key: _decode(item, arrays) for key, item in node.items()}
    if not isinstance(node, list):
        return node
    match node:
        case ["list", *items]:
            return [_decode(item, arrays) for item in items]
        case ["tuple", *items]:
            return tuple([_decode(item, arrays) for item in items])
        case ["packed list", array]:
            return _decode(array, arrays).tolist()
        case ["packed tuple", array]:
            return tuple(_decode(array, arrays).tolist())
        case ["array", *place]:
            return _take(arrays, *place)
        case ["scalar", name, offset]:
            return _take(arrays, name, [], offset)[()]
        case ["int", digits]:
            return int(digits, 16)
        case ["float", bits]:
            return struct.unpack(">d", bytes.fromhex(bits))[0]
        case ["complex", real, imag]:
            return complex(_decode(real, arrays), _decode(imag, arrays))
    raise ValueError(f"its header has an unknown entry {node[:1]}")


def _take(
    arrays: dict[str, np.ndarray], name: str, shape: list[int], offset: int, axes: list[int] | None = None
) -> np.ndarray:
    """Copy one array out of the flat array of its dtype; `axes` as from `_memory_axes`, None for C order."""
    pool, size = arrays[name], math.prod(shape)
    if min(shape, default=0) < 0 or not 0 <= offset <= pool.size - size:
        raise ValueError(f"its header names an array of shape {shape} outside the dataset {name}")
    flat = pool[offset : offset + size].copy()
    if axes is None:
        return flat.reshape(shape)
    return flat.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))


def _memory_axes(array: np.ndarray) -> list[int]:
    """Axes from slowest to fastest in memory: [0, 1, ...] in C order, reversed in Fortran order.

    From the strides, not the contiguity flags: a column has both flags, yet NumPy may call BLAS differently
    for its two layouts. Where strides tie, the axis of length one is the faster.
    """
    return sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), array.shape[axis] == 1))


def _place(where: tuple[str | int, ...]) -> str:
    """`where` as one would write it in Python: saved[3]["rho"]."""
    if not where:
        return "the tree"
    start = where[0] if isinstance(where[0], str) else f"[{where[0]}]"
    return start + "".join(f"[{json.dumps(key, ensure_ascii=False)}]" for key in where[1:])


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# ---- HDF5 --------------------------------------------------------------------------------------------------


def _import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError('dlra reads and writes files with h5py: pip install "dlra[files]"') from error
    return h5py


def _image(kind: str, header: bytes, arrays: dict[str, np.ndarray]) -> memoryview:
    """The bytes of the HDF5 file, made in memory because HDF5 does not recover from a disk that fills up."""
    h5py = _import_h5py()
    buffer = io.BytesIO()
    # The format of HDF5 1.8 has checksums of its metadata, the older default has none. Attributes that are
    # strings of fixed length are covered by them.
    with h5py.File(buffer, "w", libver=("v108", "v110")) as file:
        file.attrs["format"] = np.bytes_("dlra")
        file.attrs["kind"] = np.bytes_(kind)
        file.attrs["schema"] = SCHEMA
        file.attrs["version"] = np.bytes_(_dlra_version())
        file.attrs["digest"] = np.bytes_(_digest(header, arrays))
        file["header"] = np.frombuffer(header, dtype=np.uint8)
        for name, array in arrays.items():
            file[f"arrays/{name}"] = array
    return buffer.getbuffer()


def _load(path: Any, file: Any, file_size: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """The header and the flat arrays of an open file."""

    def load(name: str, dtype: str, length: int | None = None) -> np.ndarray:
        stored = file.get(name)
        if stored is None:
            raise _torn(path, f"its dataset {name} is missing")
        if stored.dtype != np.dtype(dtype) or stored.ndim != 1 or length not in (None, stored.size):
            raise _torn(path, f"its dataset {name} has another dtype or length than its header says")
        if stored.nbytes > file_size:  # never reserve memory for a length that is damaged
            raise _torn(path, f"its dataset {name} is longer than the file")
        return stored[...]

    header = load("header", "|u1").tobytes()
    lengths = _parse(header)["arrays"]
    return header, {name: load(f"arrays/{name}", name, length) for name, length in lengths.items()}


def _parse(header: bytes) -> Any:
    return json.loads(header.decode("utf-8", "surrogatepass"))


def _digest(header: bytes, arrays: dict[str, np.ndarray]) -> bytes:
    sha = hashlib.sha256(header)  # the header has the names and lengths of the arrays
    for name in sorted(arrays):
        sha.update(arrays[name].view(np.uint8).data)
    return sha.hexdigest().encode()


def _check_attributes(path: Any, kind: str, attributes: Any) -> None:
    """Refuse a foreign file, then another schema, then another kind."""
    label = attributes.get("format")
    if not isinstance(label, bytes) or label != b"dlra":
        raise _foreign(path, kind, "an HDF5 file, but not one that dlra wrote")
    schema, found = int(attributes["schema"]), attributes["kind"].decode()
    if schema != SCHEMA:
        age = "newer" if schema > SCHEMA else "older"
        remedy = "upgrade dlra" if schema > SCHEMA else "read it with that version, or compute it anew"
        writer = f"schema {schema}, dlra {attributes['version'].decode()}"
        raise FileFormatError(f"{path} is of {age} format ({writer}; this one reads {SCHEMA}): {remedy}")
    if found != kind:
        reader = KINDS[found][1] if found in KINDS else "what reads one, perhaps in a newer dlra"
        raise FileFormatError(f"{path} holds a {found}, not a {kind}: pass it to {reader}")


def _foreign(path: Any, kind: str, what: str) -> FileFormatError:
    return FileFormatError(f"{path} is foreign: {what}; give a file written by {KINDS[kind][0]}")


def _torn(path: Any, what: str) -> FileFormatError:
    return FileFormatError(f"{path} is torn: {what}; use an earlier copy of the file, or compute it anew")


@functools.cache
def _dlra_version() -> str:
    try:
        return importlib.metadata.version("dlra")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")


def _check_regular(path: str | os.PathLike[str]) -> None:
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a directory; give the path of a file")
    if os.path.exists(path) and not os.path.isfile(path):  # a device would be replaced, a pipe would block
        raise FileFormatError(f"{path} is foreign: not a regular file; give the path of a file")


# ---- temporary files


def _temporary_prefix(target: Path) -> str:
    """How the names of temporary files for `target` start; the process id and a random token follow.

    The hash covers the host too: on a shared directory a process id says nothing about another host.
    """
    return f".dlra-{hashlib.sha256(os.fsencode(f'{platform.node()}/{target.name}')).hexdigest()[:16]}-"


def _remove_stale(target: Path) -> None:
    """Remove the temporary files for `target` whose process no longer runs."""
    if os.name != "posix":  # elsewhere signal 0 is more than a question
        return
    pattern = re.compile(re.escape(_temporary_prefix(target)) + r"(\d{1,9})-[0-9a-f]{16}\.tmp")
    with contextlib.suppress(OSError):
        for match in filter(None, map(pattern.fullmatch, os.listdir(target.parent))):
            try:
                os.kill(int(match[1]), 0)
            except ProcessLookupError:
                os.unlink(target.parent / match[0])
            except PermissionError:  # it runs, under another user
                pass


def _fsync_directory(directory: Path) -> None:
    """Bring the rename to the disk, where the system can."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            raise
