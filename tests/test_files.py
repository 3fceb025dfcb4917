"""The file format: exact round trips, atomic writes, and a refusal that says why for every unusable file."""

from __future__ import annotations

import errno
import math
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlra import _files
from dlra._files import SCHEMA, FileFormatError, check_target, read, write

h5py = pytest.importorskip("h5py")

ROOT = Path(__file__).resolve().parents[1]
TREE = {"t": [0.0, 0.5], "y": [{"U": np.arange(6.0).reshape(3, 2), "V": np.ones((2, 2), order="F")}], "n": 3}
DTYPES = ["?", "i1", "u1", "<i2", ">i2", "<u4", ">u4", "<i8", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]
DTYPES += ["<c8", ">c8", "<c16", ">c16"]

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and file semantics")


def same(a, b) -> bool:
    """Whether two trees agree in types, bits and memory layout."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (np.ndarray, np.generic)):
        flags = ("c_contiguous", "f_contiguous")
        return (
            a.dtype.str == b.dtype.str
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
            and all(getattr(a.flags, flag) == getattr(b.flags, flag) for flag in flags)
        )
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    return a == b


def round_trip(path, tree, kind="solution"):
    write(path, kind, tree)
    return read(path, kind)


def leftovers(directory) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".dlra-")]


# ---- round trips -------------------------------------------------------------------------------------------


@st.composite
def arrays(draw):
    """Arrays of random bits (so with NaN payloads, -0.0, subnormals), any order of axes in memory, 0-d to 4-d."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size = math.prod(shape)
    bits = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    flat = np.frombuffer(bits, dtype="u1")
    flat = (flat % 2).astype(bool) if dtype.kind == "b" else flat.view(dtype)
    axes = draw(st.permutations(range(len(shape))))
    return flat.copy().reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes) if axes else ())


floats = st.floats() | st.integers(0, 2**64 - 1).map(
    lambda bits: struct.unpack("d", struct.pack("Q", bits))[0]
)
texts = st.text(st.characters(exclude_categories=()), max_size=8)  # all of Unicode, lone surrogates too
scalars = arrays().filter(lambda array: array.size and array.dtype.isnative).map(lambda array: array.flat[0])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | floats
    | st.complex_numbers()
    | texts
    | arrays()
    | scalars
)
uniform = st.sampled_from([floats, st.integers(), st.booleans(), st.complex_numbers(), texts]).flatmap(
    lambda entries: st.lists(entries, min_size=14, max_size=20)
)
trees = st.recursive(
    leaves | uniform | uniform.map(tuple),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(texts, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees)
def test_trees_come_back_with_the_same_types_and_bits(tmp_path, tree):
    assert same(round_trip(tmp_path / "tree.h5", tree), tree)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, 1.0, "1", 1j, (), [], {}, [()], ([],), "", "\0", "\ud83d\ude00", {"": {"\ud800": 1}},
        -0.0, math.nan, -math.inf, 5e-324, 0.1 + 0.2, complex(-0.0, math.nan),
        2**63 - 1, -(2**63), 2**63, 10**5000, [2**70] * 20, [1] * 19 + [True], [1.0] * 19 + [1],
        [True] * 20, (0.5,) * 20, [1j] * 20, ("a",) * 20, [None] * 20, [[]] * 20,
        ["list", 1], ["array", "<f8", [1], 0], {"array": ["int", "ff"]},
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:24]!a}" if type(value) is not int else hex(value)[:24],
)  # fmt: skip
def test_values_at_the_edges_of_json(tmp_path, value):
    assert same(round_trip(tmp_path / "edge.h5", value), value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_as_matrix_scalar_and_empty(tmp_path, dtype):
    matrix = (np.arange(12) % 2).reshape(3, 4).astype(dtype)
    tree = [matrix, matrix.T, matrix[:0], matrix[0, 0].reshape(()), matrix[1, 1]]
    assert same(round_trip(tmp_path / "dtype.h5", tree), tree)


@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_extended_precision(tmp_path, dtype):
    # Their bytes include padding without meaning, so values are compared, here ones that float64 does not have.
    matrix = np.array([[1, -0.0, np.inf], [2, 3, 4]], dtype=dtype) + np.finfo(dtype).eps
    first, second, scalar = round_trip(tmp_path / "long.h5", [matrix, matrix.T, matrix[0, 0]])
    for array in (first, second.T):
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, matrix)
    assert type(scalar) is dtype
    assert scalar == matrix[0, 0]


@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (1, 1), (1, 5, 1), (5, 3), (2, 1, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_strides_of_contiguous_arrays_are_kept(tmp_path, shape, order):
    # Both flags of a column are set in either order, but its strides decide how BLAS is called.
    array = np.ones(shape, order=order)
    assert round_trip(tmp_path / "order.h5", array).strides == array.strides


def test_views_are_stored_densely_in_their_order_of_axes(tmp_path):
    fortran = np.asfortranarray(np.arange(60.0).reshape(6, 10))
    views = [fortran[:, ::2], fortran[1:4], fortran.T[::-1], np.broadcast_to(np.arange(3.0), (2, 3))]
    for view, back in zip(views, round_trip(tmp_path / "view.h5", views), strict=True):
        np.testing.assert_array_equal(back, view)
    dense = round_trip(tmp_path / "view.h5", views)
    assert dense[0].flags.f_contiguous
    assert dense[1].flags.f_contiguous
    assert dense[2].flags.c_contiguous


def test_products_of_restored_factors_have_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((50, 7)))[0]
    S, V = rng.standard_normal((7, 7)).T, np.asfortranarray(rng.standard_normal((40, 7)))
    U1, S1, V1 = round_trip(tmp_path / "factors.h5", (U, S, V))
    assert (U1 @ S1 @ V1.T).tobytes() == (U @ S @ V.T).tobytes()


def test_restored_arrays_are_writable_and_independent(tmp_path):
    first, second = round_trip(tmp_path / "own.h5", [np.zeros(3), np.zeros(3)])
    first[:] = 1
    assert not second.any()
    assert all(
        array.base is None or array.base.size == 3 for array in (first, second)
    )  # no share of a large one


def test_state_of_a_random_generator(tmp_path):
    rng = np.random.default_rng(1)
    rng.standard_normal(7)
    state = rng.bit_generator.state
    rng.bit_generator.state = round_trip(tmp_path / "rng.h5", state)
    again = np.random.default_rng()
    again.bit_generator.state = state
    assert rng.random() == again.random()


def test_many_small_arrays_share_one_dataset_per_dtype(tmp_path):
    states = [{"U": np.ones((4, 2)), "S": np.ones((2, 2)), "V": np.ones((3, 2), "f4")} for _ in range(1000)]
    write(tmp_path / "many.h5", "solution", states)
    with h5py.File(tmp_path / "many.h5") as file:
        assert set(file) == {"header", "arrays"}
        assert {name: file["arrays"][name].shape for name in file["arrays"]} == {
            "<f8": (12000,),
            "<f4": (6000,),
        }
    assert same(read(tmp_path / "many.h5", "solution"), states)


def test_long_uniform_lists_do_not_fill_the_header(tmp_path):
    tree = [[0.1] * 1000, [7] * 1000, (True,) * 1000, [1j] * 1000]
    write(tmp_path / "lists.h5", "solution", tree)
    with h5py.File(tmp_path / "lists.h5") as file:
        assert file["header"].size < 500
    assert same(read(tmp_path / "lists.h5", "solution"), tree)


def test_header_beyond_the_limit_of_an_attribute(tmp_path):
    tree = {f"key {i}": "x" * 100 for i in range(2000)}
    assert same(round_trip(tmp_path / "long.h5", tree), tree)


def test_attributes_identify_the_file(tmp_path):
    write(tmp_path / "a.h5", "checkpoint", TREE)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["format"] == b"dlra"
        assert file.attrs["kind"] == b"checkpoint"
        assert file.attrs["schema"] == SCHEMA
        assert file.attrs["version"]
        assert len(file.attrs["digest"]) == 64


def test_equal_trees_give_equal_files(tmp_path):
    write(tmp_path / "a.h5", "solution", TREE)
    write(tmp_path / "b.h5", "solution", TREE)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


# ---- what cannot be stored ---------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        ({1}, "set"),
        (b"raw", "bytes"),
        (print, "builtin_function_or_method"),
        (Point(1, 2), "Point"),
        (OrderedDict(), "collections.OrderedDict"),
        (np.array([None]), "numpy.ndarray of dtype object"),
        (np.array(["a"]), "numpy.ndarray of dtype <U1"),
        (np.datetime64("2020-01-01"), "numpy.datetime64"),
        (np.str_("a"), "numpy.str_"),
        (np.ma.masked_array([1.0], [True]), "numpy.ma.MaskedArray"),
        (np.zeros(2, [("a", "f8")]), "numpy.ndarray of dtype [('a'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_type_error_names_place_type_and_remedy(tmp_path, value, type_name):
    with pytest.raises(TypeError) as caught:
        write(tmp_path / "bad.h5", "solution", {"saved": [1, 2, 3, {"rho": value}]})
    message = str(caught.value)
    assert 'saved[3]["rho"]' in message
    assert type_name in message
    assert "NumPy arrays" in message
    assert os.listdir(tmp_path) == []


def test_type_error_names_a_key_and_the_root(tmp_path):
    with pytest.raises(TypeError, match=r'saved\["a"\]: a key is int, 1, not str'):
        write(tmp_path / "bad.h5", "solution", {"saved": {"a": {1: 2}}})
    with pytest.raises(TypeError, match=r"the tree: it is object"):
        write(tmp_path / "bad.h5", "solution", object())
    with pytest.raises(TypeError, match=r"cannot store \[1\]: it is object"):
        write(tmp_path / "bad.h5", "solution", [0, object()])


def test_a_tree_within_itself_is_a_type_error(tmp_path):
    tree: dict = {"saved": []}
    tree["saved"].append(tree)
    with pytest.raises(TypeError, match=r'saved\[0\]\["saved"\].*in itself'):
        write(tmp_path / "bad.h5", "solution", tree)


# ---- writing: all or nothing -------------------------------------------------------------------------------


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["os.fsync", "os.replace", "h5py.File"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where, error):
    path = tmp_path / "run.h5"
    write(path, "checkpoint", {"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(where, fail_with(error))
        with pytest.raises(type(error)):
            write(path, "checkpoint", {"n": 2})
    assert os.listdir(tmp_path) == ["run.h5"]
    assert read(path, "checkpoint") == {"n": 1}


def test_what_cannot_be_stored_leaves_the_old_file(tmp_path):
    write(tmp_path / "run.h5", "checkpoint", {"n": 1})
    with pytest.raises(TypeError):
        write(tmp_path / "run.h5", "checkpoint", {"n": object()})
    assert os.listdir(tmp_path) == ["run.h5"]
    assert read(tmp_path / "run.h5", "checkpoint") == {"n": 1}


def test_the_file_reaches_the_disk_before_the_rename_and_the_rename_too(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    is_directory = lambda fd: os.path.isdir(f"/proc/self/fd/{fd}")  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(f"fsync {is_directory(fd)}"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b))[1])
    write(tmp_path / "run.h5", "checkpoint", TREE)
    if os.path.isdir("/proc/self/fd"):
        assert events == ["fsync False", "replace", "fsync True"]
    else:
        assert [event.split()[0] for event in events][:2] == ["fsync", "replace"]


def test_a_directory_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def refuse_directories(fd):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse_directories)
    assert same(round_trip(tmp_path / "run.h5", TREE), TREE)


def run_python(code: str, *args, **kwargs) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, env=environment, **kwargs)


@posix
def test_a_disk_that_fills_up(tmp_path):
    # A limit on the size of files stands for the full disk: the write system call itself fails.
    path = tmp_path / "run.h5"
    write(path, "checkpoint", {"n": 1})
    process = run_python(
        """
        import resource, sys
        import numpy as np
        from dlra._files import write
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write(sys.argv[1], "checkpoint", np.zeros(100_000))
        except OSError as error:
            sys.exit(7)
        """,
        path,
    )
    assert process.wait(60) == 7
    assert os.listdir(tmp_path) == ["run.h5"]
    assert read(path, "checkpoint") == {"n": 1}


@posix
def test_a_process_killed_in_the_middle_of_a_write(tmp_path):
    path = tmp_path / "run.h5"
    write(path, "checkpoint", {"n": 1})
    process = run_python(
        """
        import os, signal, sys
        from dlra._files import write
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        write(sys.argv[1], "checkpoint", {"n": 2})
        """,
        path,
    )
    assert process.wait(60) == -signal.SIGKILL
    assert len(leftovers(tmp_path)) == 1
    assert read(path, "checkpoint") == {"n": 1}
    write(tmp_path / "other.h5", "checkpoint", {})
    assert len(leftovers(tmp_path)) == 1  # not of this file
    write(path, "checkpoint", {"n": 3})
    assert leftovers(tmp_path) == []


@posix
def test_only_temporary_files_of_ended_processes_are_removed(tmp_path):
    path = tmp_path / "run.h5"
    prefix = _files._temporary_prefix(path)
    ended = run_python("pass")
    ended.wait(60)
    token = "0123456789abcdef"
    stale = f"{prefix}{ended.pid}-{token}.tmp"
    kept = {
        f"{prefix}{os.getppid()}-{token}.tmp",  # still runs
        f"{prefix}{ended.pid}-{token}.tmp.bak",
        f"{prefix}{ended.pid}-{token[:-1]}.tmp",
        f"x{stale}",
        f"{_files._temporary_prefix(tmp_path / 'other.h5')}{ended.pid}-{token}.tmp",
    }
    for name in {stale, *kept}:
        (tmp_path / name).touch()
    write(path, "solution", TREE)
    assert set(os.listdir(tmp_path)) == {"run.h5", *kept}


@posix
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03])
def test_a_writer_killed_at_any_time_leaves_a_readable_file(tmp_path, delay):
    path = tmp_path / "run.h5"
    process = run_python(
        """
        import itertools, sys
        import numpy as np
        from dlra._files import write
        for n in itertools.count():
            write(sys.argv[1], "checkpoint", {"n": n, "y": np.full(50_000, float(n))})
        """,
        path,
    )
    try:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        process.kill()
        process.wait(60)
    tree = read(path, "checkpoint")
    assert (tree["y"] == tree["n"]).all()
    write(path, "checkpoint", {})
    assert os.listdir(tmp_path) == ["run.h5"]


@posix
def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run.h5").symlink_to(tmp_path / "scratch" / "target.h5")
    assert same(round_trip(tmp_path / "run.h5", TREE), TREE)
    assert (tmp_path / "run.h5").is_symlink()
    assert os.listdir(tmp_path / "scratch") == ["target.h5"]


def test_names_as_long_as_the_file_system_allows(tmp_path):
    assert same(round_trip(tmp_path / ("n" * 255), TREE), TREE)


def test_strings_and_relative_names_are_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same(round_trip("run.h5", TREE), TREE)


# ---- reading: refusals -------------------------------------------------------------------------------------


def test_missing_file_and_directories(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"none\.h5.*written by dlra\.solve\(\.\.\., checkpoint=path\)"
    ):
        read(tmp_path / "none.h5", "checkpoint")
    with pytest.raises(IsADirectoryError, match="is a directory; give"):
        read(tmp_path, "solution")
    with pytest.raises(IsADirectoryError, match="is a directory; give"):
        write(tmp_path, "solution", {})
    with pytest.raises(FileNotFoundError, match=r"create the directory .*absent"):
        write(tmp_path / "absent" / "run.h5", "solution", {})
    with pytest.raises(ValueError, match=r"kind is 'picture'; expected one of solution, checkpoint, network"):
        write(tmp_path / "run.h5", "picture", {})
    with pytest.raises(ValueError, match="kind is 'picture'"):
        read(tmp_path / "run.h5", "picture")


def test_check_target_foresees_the_error_of_write(tmp_path, monkeypatch):
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "absent" / "run.h5", FileNotFoundError)):
        with pytest.raises(error) as foreseen:
            check_target(path)
        with pytest.raises(error) as caught:
            write(path, "solution", {})
        assert str(foreseen.value) == str(caught.value)
    check_target(tmp_path / "run.h5")
    assert os.listdir(tmp_path) == []
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="files"):
        check_target(tmp_path / "run.h5")


@posix
def test_pipes_and_devices_are_refused_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # stands for a device, which a failing test would destroy
    with pytest.raises(FileFormatError, match="is foreign: not a regular file"):
        write(tmp_path / "pipe", "solution", {})
    assert not os.path.isfile(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="is foreign: not a regular file"):
        read(tmp_path / "pipe", "solution")


@pytest.mark.parametrize("content", [b"PK\3\4 an npz", b"x", b"t,y\n0,1\n" * 100])
def test_not_hdf5_is_foreign(tmp_path, content):
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"data is foreign: not an HDF5 file; give .* Solution\.save"):
        read(path, "solution")


@pytest.mark.parametrize("label", [None, "dlra2", np.arange(4), np.bytes_("netcdf"), h5py.Empty("f8")])
def test_other_hdf5_is_foreign(tmp_path, label):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.arange(3)
        if label is not None:
            file.attrs["format"] = label
    with pytest.raises(FileFormatError, match=r"data\.h5 is foreign: an HDF5 file, but"):
        read(tmp_path / "data.h5", "solution")


def test_kind_mismatch_names_the_function_to_use(tmp_path):
    path = tmp_path / "run.h5"
    write(path, "solution", TREE)
    with pytest.raises(FileFormatError, match=r"holds a solution, not a checkpoint: .*Solution\.load"):
        read(path, "checkpoint")
    write(path, "checkpoint", TREE)
    with pytest.raises(FileFormatError, match=r"holds a checkpoint, not a solution: .*resume="):
        read(path, "solution")


@pytest.mark.parametrize(
    ("schema", "message"),
    [(SCHEMA - 1, "older format.*read it with that"), (SCHEMA + 1, "newer format.*upgrade")],
)
def test_other_schemas(tmp_path, monkeypatch, schema, message):
    with monkeypatch.context() as patch:
        patch.setattr(_files, "SCHEMA", schema)
        write(tmp_path / "run.h5", "solution", TREE)
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path / "run.h5", "solution")


strides = pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])


@strides
def test_every_truncation_is_torn(tmp_path, stride):
    path = tmp_path / "run.h5"
    write(path, "solution", TREE)
    content = path.read_bytes()
    for length in {*range(0, len(content), stride), *range(10), len(content) - 1}:
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match="is torn:"):
            read(path, "solution")
        if content[length:].strip(b"\0"):  # the same file with its length, the rest zero
            path.write_bytes(content[:length] + bytes(len(content) - length))
            with pytest.raises(FileFormatError, match="is torn:"):
                read(path, "solution")


@strides
def test_every_flipped_byte_is_refused_or_harmless(tmp_path, stride):
    path = tmp_path / "run.h5"
    write(path, "solution", TREE)
    content = path.read_bytes()
    with h5py.File(path) as file:
        data = [file["header"], *file["arrays"].values()]
        extents = [(item.id.get_offset(), item.id.get_storage_size()) for item in data]
    stored = {byte for offset, size in extents for byte in range(offset, offset + size)}
    assert len(stored) > 100
    for byte in range(0, len(content), stride):
        path.write_bytes(content[:byte] + bytes([content[byte] ^ 0x10]) + content[byte + 1 :])
        try:
            tree = read(path, "solution")
        except FileFormatError as error:
            problem = str(error)
        else:
            problem = ""
            assert same(tree, TREE)  # where HDF5 keeps nothing
        assert "is torn:" in problem or (byte not in stored and ("is foreign:" in problem or not problem))


def edit(path, change) -> None:
    """Change an open file and make its digest fit again, so that later checks are reached."""
    with h5py.File(path, "r+") as file:
        change(file)
        header, stored = _files._load(path, file, os.path.getsize(path))
        file.attrs["digest"] = np.bytes_(_files._digest(header, stored))


def set_header(text):
    def change(file):
        del file["header"]
        file["header"] = np.frombuffer(text.encode(), "u1")

    return change


@pytest.mark.parametrize(
    "node",
    [
        '["array", "<f8", [9], 0]', '["array", "<f8", [1], 8]', '["array", "<f8", [1], -2]', '["scalar", "<f8", 8]',
        '["array", "<f8", [-1], 0]', '["array", "<f8", [-2, -1], 0]',
        '["array", "<f8", [2, 2], 0, [0]]', '["array", "<f4", [1], 0]', '["array"]', '["new", 1]', "[]",
        '["float", "00"]', '["int", "x"]',
    ],
)  # fmt: skip
def test_header_that_does_not_fit_the_arrays(tmp_path, node):
    path = tmp_path / "run.h5"
    write(path, "solution", np.arange(8.0))
    edit(path, set_header('{"tree": ["array", "<f8", [2, 2], 4], "arrays": {"<f8": 8}}'))
    assert same(read(path, "solution"), np.arange(4.0, 8.0).reshape(2, 2))  # the edit itself is sound
    edit(path, set_header(f'{{"tree": {node}, "arrays": {{"<f8": 8}}}}'))
    with pytest.raises(FileFormatError, match="is torn:"):
        read(path, "solution")


@pytest.mark.parametrize("name", ["header", "arrays/<f8", "arrays"])
def test_missing_dataset_is_torn(tmp_path, name):
    path = tmp_path / "run.h5"
    write(path, "solution", TREE)
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(FileFormatError, match=r"is torn: its dataset .* is missing"):
        read(path, "solution")


@pytest.mark.parametrize("name", ["kind", "schema", "digest"])
def test_missing_attribute_is_torn(tmp_path, name):
    path = tmp_path / "run.h5"
    write(path, "solution", TREE)
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
    with pytest.raises(FileFormatError, match="is torn:"):
        read(path, "solution")


@pytest.mark.parametrize("data", [np.zeros(7), np.zeros(9), np.zeros(8, "f4"), np.zeros((2, 4))])
def test_dataset_of_another_length_or_dtype_is_torn(tmp_path, data):
    path = tmp_path / "run.h5"
    write(path, "solution", np.zeros(8))
    with h5py.File(path, "r+") as file:
        del file["arrays/<f8"]
        file["arrays/<f8"] = data
    with pytest.raises(FileFormatError, match=r"is torn: its dataset arrays/<f8 has another dtype or length"):
        read(path, "solution")


def test_a_length_beyond_the_file_reserves_no_memory(tmp_path):
    path = tmp_path / "run.h5"
    write(path, "solution", np.zeros(8))
    with h5py.File(path, "r+") as file:
        del file["arrays/<f8"]
        file["arrays"].create_dataset("<f8", shape=(2**50,), dtype="<f8", chunks=(8,))
        set_header(f'{{"tree": null, "arrays": {{"<f8": {2**50}}}}}')(file)
    with pytest.raises(FileFormatError, match="is torn: its dataset arrays/<f8 is longer than the file"):
        read(path, "solution")


# ---- h5py --------------------------------------------------------------------------------------------------


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    for call in (
        lambda: write(tmp_path / "a.h5", "solution", {}),
        lambda: read(tmp_path / "a.h5", "solution"),
    ):
        with pytest.raises(ImportError, match=r'pip install "dlra\[files\]"'):
            call()
    assert os.listdir(tmp_path) == []


def test_h5py_is_imported_only_when_a_file_is_used():
    process = run_python("import sys; from dlra import _files; sys.exit('h5py' in sys.modules)")
    assert process.wait(60) == 0
