"""Data sets: the IDX reader, the search for files, downloads (from a stand-in for the web), and the digits."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlra.nn import datasets
from dlra.nn.datasets import Dataset, digits, fashion_mnist, mnist, read_idx

TRAIN_X, TRAIN_Y = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_X, TEST_Y = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(a) -> bytes:
    """The bytes of an IDX file."""
    a = np.asarray(a)
    header = bytes([0, 0, CODES[a.dtype.name], a.ndim]) + b"".join(n.to_bytes(4, "big") for n in a.shape)
    return header + a.astype(a.dtype.newbyteorder(">")).tobytes()


def small_arrays(n_train=7, n_test=4, shape=(5, 3), seed=1):
    rng = np.random.default_rng(seed)
    return {
        TRAIN_X: rng.integers(0, 256, (n_train, *shape), dtype=np.uint8),
        TRAIN_Y: rng.integers(0, 10, n_train, dtype=np.uint8),
        TEST_X: rng.integers(0, 256, (n_test, *shape), dtype=np.uint8),
        TEST_Y: rng.integers(0, 10, n_test, dtype=np.uint8),
    }


def write_folder(folder: Path, arrays, spelling="{}", compress=False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, a in arrays.items():
        data = idx_bytes(a)
        (folder / spelling.format(name)).write_bytes(gzip.compress(data) if compress else data)
    return folder


@pytest.fixture
def no_data(monkeypatch):
    """No DLRA_DATA."""
    monkeypatch.delenv("DLRA_DATA", raising=False)


@pytest.fixture
def web(monkeypatch, tmp_path, no_data):
    """A stand-in for the web: {address: bytes or exception}; requested addresses are noted in ``web.log``."""
    pooch = pytest.importorskip("pooch")

    class Web(dict):
        def __init__(self):
            self.log = []

    pages = Web()

    class Downloader:
        def __init__(self, **kwargs):
            assert kwargs.get("timeout")

        def __call__(self, url, output_file, pooch, check_only=False):
            pages.log.append(url)
            page = pages.get(url, OSError(f"404 for {url}"))
            if isinstance(page, Exception):
                raise page
            Path(output_file).write_bytes(page)

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return pages


@pytest.fixture
def small_mnist(monkeypatch):
    """Small files in the place of MNIST's: (arrays, {file name: bytes of the .gz}), with two mirrors a and b."""
    arrays = small_arrays()
    files = {f"{name}.gz": gzip.compress(idx_bytes(a)) for name, a in arrays.items()}
    source = dataclasses.replace(
        datasets._MNIST,
        mirrors=("https://a.test/", "https://b.test/"),
        sha256={name: hashlib.sha256(files[f"{name}.gz"]).hexdigest() for name in arrays},
    )
    monkeypatch.setattr(datasets, "_MNIST", source)
    return arrays, files


# ---- IDX files


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 5), (0, 4)])
def test_read_idx_gives_back_what_was_written(tmp_path, dtype, shape, compress):
    a = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    data = idx_bytes(a)
    file = tmp_path / "anything"  # what tells gzip from plain is the content
    file.write_bytes(gzip.compress(data) if compress else data)
    b = read_idx(file)
    assert b.dtype == np.dtype(dtype) and b.dtype.isnative and b.flags.writeable
    np.testing.assert_array_equal(b, a)
    np.testing.assert_array_equal(read_idx(str(file)), a)


GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (GOOD[:-1], "24 bytes must follow it, found only 23"),
        (GOOD + b"\0", "24 bytes must follow it, found more"),
        (GOOD[:10], "ends within its header: 3 axes need 12 bytes, found 6"),
        (GOOD[:4], "ends within its header"),
        (GOOD[:3], "not an IDX file: it begins with 00 00 08,"),
        (b"", "not an IDX file: it begins with nothing"),
        (b"\x01" + GOOD[1:], "not an IDX file: it begins with 01 00 08 03"),
        (b"\0\0\x0a" + GOOD[3:], "not an IDX file: it begins with 00 00 0a 03"),
        (b"\0\0\x08\0" + GOOD[4:], "not an IDX file"),
        (b"<!DOCTYPE html>", "not an IDX file: it begins with 3c 21 44 4f"),
        (b"\0\0\x0e\x03" + b"\xff" * 12 + b"\0" * 99, "found only 99"),  # 6e29 bytes, not allocated
    ],
)
def test_damaged_idx_file(tmp_path, data, text, compress):
    file = tmp_path / TRAIN_X
    file.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(ValueError, match=TRAIN_X) as info:
        read_idx(file)
    assert text in str(info.value) and "get the file again" in str(info.value)


@pytest.mark.parametrize(
    "damage", ["cut", "header only", "flipped data", "flipped checksum", "garbage behind"]
)
def test_damaged_gzip_file(tmp_path, damage):
    packed = bytearray(gzip.compress(GOOD))
    match damage:
        case "cut":
            packed = packed[:-9]
        case "header only":
            packed = packed[:6]
        case "flipped data":
            packed[14] ^= 0xFF
        case "flipped checksum":
            packed[-6] ^= 1
        case "garbage behind":
            packed += b"garbage"
    file = tmp_path / f"{TRAIN_X}.gz"
    file.write_bytes(packed)
    with pytest.raises(ValueError, match="gzip data are damaged") as info:
        read_idx(file)
    assert f"{TRAIN_X}.gz" in str(info.value)


def test_read_idx_of_something_else(tmp_path):
    with pytest.raises(TypeError, match="path must be a str or a path, got int"):
        read_idx(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")
    with pytest.raises(OSError, match=str(tmp_path.name)):
        read_idx(tmp_path)


# ---- a folder given as path


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_folder(tmp_path, load, compress, other):
    arrays = small_arrays()
    spelt = {name.replace("-idx", ".idx") if other else name: a for name, a in arrays.items()}
    write_folder(tmp_path, spelt, "{}.gz" if compress else "{}", compress)
    data = load(tmp_path)
    assert isinstance(data, Dataset) and data._fields == ("x_train", "y_train", "x_test", "y_test")
    assert data.x_train.shape == (7, 15) and data.x_test.shape == (4, 15)
    for got, name in [(data.x_train, TRAIN_X), (data.x_test, TEST_X)]:
        assert got.dtype == np.float32 and got.flags.c_contiguous and got.flags.writeable
        np.testing.assert_array_equal(got, arrays[name].reshape(-1, 15) / np.float32(255))
    for got, name in [(data.y_train, TRAIN_Y), (data.y_test, TEST_Y)]:
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, arrays[name])


def test_shape_and_dtype(tmp_path):
    arrays = small_arrays()
    arrays[TRAIN_X][0, 0, 0], arrays[TRAIN_X][0, 0, 1] = 0, 255
    write_folder(tmp_path, arrays)
    data = mnist(str(tmp_path), flatten=False, dtype=np.float64)
    assert data.x_train.shape == (7, 1, 5, 3) and data.x_train.dtype == np.float64
    assert data.x_train.min() == 0 and data.x_train.max() == 1
    np.testing.assert_array_equal(data.x_train[:, 0], arrays[TRAIN_X] / 255)


def test_path_is_the_only_folder_searched(tmp_path, monkeypatch, web):
    write_folder(tmp_path / "data" / "mnist", small_arrays())
    monkeypatch.setenv("DLRA_DATA", str(tmp_path / "data"))
    incomplete = small_arrays()
    del incomplete[TEST_X], incomplete[TEST_Y]
    write_folder(tmp_path / "mine", incomplete)
    with pytest.raises(FileNotFoundError, match=f"mine has no {TEST_X}, {TEST_Y}") as info:
        mnist(tmp_path / "mine")
    assert "t10k-images.idx3-ubyte" in str(info.value)
    with pytest.raises(FileNotFoundError, match="path: there is no folder"):
        mnist(tmp_path / "absent")
    with pytest.raises(NotADirectoryError, match="path must be a folder"):
        mnist(tmp_path / "mine" / TRAIN_X)
    assert web.log == []


@pytest.mark.parametrize(
    ("change", "file", "text"),
    [
        ({TRAIN_Y: np.zeros(6, np.uint8)}, TRAIN_Y, "6 labels, expected 7"),
        ({TEST_X: np.zeros((5, 5, 3), np.uint8)}, TEST_Y, "4 labels, expected 5"),
        ({TRAIN_X: np.zeros(7, np.uint8)}, TRAIN_X, "uint8 entries on 1 axes, expected uint8 on 3"),
        ({TRAIN_Y: np.zeros((7, 2), np.uint8)}, TRAIN_Y, "expected uint8 on 1 (magic number 00 00 08 01)"),
        ({TEST_X: np.zeros((4, 5, 3), np.int32)}, TEST_X, "int32 entries on 3 axes"),
        ({TEST_Y: np.array([1, 9, 10, 3], np.uint8)}, TEST_Y, "label 10 at position 2, expected 0 to 9"),
        ({TEST_X: np.zeros((4, 5, 4), np.uint8)}, TEST_X, "images of (5, 4) pixels, expected (5, 3)"),
        ({TEST_X: np.zeros((0, 5, 3), np.uint8), TEST_Y: np.zeros(0, np.uint8)}, TEST_X, "no images"),
        ({TRAIN_X: np.zeros((7, 0, 3), np.uint8)}, TRAIN_X, "no images"),
    ],
)
def test_files_that_do_not_fit(tmp_path, change, file, text):
    write_folder(tmp_path, small_arrays() | change)
    with pytest.raises(ValueError, match=file) as info:
        mnist(tmp_path)
    assert text in str(info.value)


def test_truncated_file_is_named(tmp_path):
    write_folder(tmp_path, small_arrays())
    file = tmp_path / TEST_X
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{TEST_X}: the header says shape \\(4, 5, 3\\)"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "float16"}, "dtype must be float32 or float64, got 'float16'"),
        ({"dtype": int}, "dtype must be float32 or float64"),
        ({"dtype": None}, "dtype must be float32 or float64, got None"),
        ({"dtype": "nonsense"}, "dtype must be float32 or float64"),
        ({"flatten": 1}, "flatten must be True or False, got 1"),
        ({"download": "no"}, "download must be True or False, got 'no'"),
        ({"path": 3}, "path must be a folder"),
    ],
)
def test_wrong_arguments(tmp_path, options, text):
    with pytest.raises(TypeError, match=text):
        mnist(**{"path": tmp_path} | options)  # refused before the folder, which is empty, is read


# ---- DLRA_DATA


@pytest.mark.parametrize(
    ("load", "folder"), [(mnist, "mnist"), (fashion_mnist, "fashion-mnist"), (fashion_mnist, "fashion_mnist")]
)
def test_environment_variable(tmp_path, monkeypatch, web, load, folder):
    arrays = small_arrays()
    write_folder(tmp_path / folder, arrays)
    monkeypatch.setenv("DLRA_DATA", str(tmp_path))
    np.testing.assert_array_equal(load().y_train, arrays[TRAIN_Y])
    (tmp_path / folder / TEST_Y).unlink()
    with pytest.raises(FileNotFoundError, match=f"DLRA_DATA: .*{folder} has no {TEST_Y}"):
        load()
    assert web.log == []


# ---- cache and download


def test_download_once(web, small_mnist, tmp_path):
    arrays, files = small_mnist
    for name, data in files.items():
        web[f"https://a.test/{name}"] = data
    data = mnist()
    np.testing.assert_array_equal(data.y_test, arrays[TEST_Y])
    assert web.log == [f"https://a.test/{name}" for name in files]
    assert sorted(p.name for p in (tmp_path / "cache/dlra/mnist").iterdir()) == sorted(files)
    web.clear()
    np.testing.assert_array_equal(mnist(download=False).x_train, data.x_train)
    assert len(web.log) == 4


def test_pooch_does_not_print(web, small_mnist):
    import pooch

    logger = pooch.get_logger()
    for name, data in small_mnist[1].items():
        web[f"https://a.test/{name}"] = data
    texts = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())
    logger.addHandler(handler)
    try:
        logger.info("before")
        mnist()
        logger.info("after")
    finally:
        logger.removeHandler(handler)
    assert texts == ["before", "after"]


@pytest.mark.parametrize("failure", ["absent", "forged"])
def test_second_mirror(web, small_mnist, failure):
    arrays, files = small_mnist
    for name, data in files.items():
        if failure == "forged":
            web[f"https://a.test/{name}"] = gzip.compress(idx_bytes(np.zeros(3, np.uint8)))
        web[f"https://b.test/{name}"] = data
    np.testing.assert_array_equal(mnist().y_train, arrays[TRAIN_Y])
    assert len(web.log) == 8


def test_a_damaged_file_in_the_cache_is_replaced(web, small_mnist, tmp_path):
    arrays, files = small_mnist
    for name, data in files.items():
        web[f"https://a.test/{name}"] = data
    mnist()
    file = tmp_path / "cache/dlra/mnist" / f"{TRAIN_Y}.gz"
    # A well-formed file with other labels: only the digest tells.
    file.write_bytes(gzip.compress(idx_bytes((arrays[TRAIN_Y] + 1) % 10)))
    with pytest.raises(FileNotFoundError, match="another SHA-256 than the original"):
        mnist(download=False)
    np.testing.assert_array_equal(mnist().y_train, arrays[TRAIN_Y])
    assert web.log[4:] == [f"https://a.test/{TRAIN_Y}.gz"]


def test_forged_files_are_refused(web, small_mnist, tmp_path):
    for mirror in "ab":
        for name in small_mnist[1]:
            web[f"https://{mirror}.test/{name}"] = b"forged"
    with pytest.raises(FileNotFoundError, match="SHA256 hash"):
        mnist()
    assert list((tmp_path / "cache/dlra/mnist").iterdir()) == []


def test_nothing_works(web, monkeypatch, tmp_path):
    monkeypatch.setenv("DLRA_DATA", str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError) as info:
        fashion_mnist()
    text = str(info.value)
    assert text.startswith("fashion_mnist() found no files:")
    for part in [
        "data/fashion-mnist (from DLRA_DATA)",
        "data/fashion_mnist",
        "cache/dlra/fashion-mnist",
        "path=",
    ]:
        assert str(Path(part)) in text
    assert len(web.log) == 2 and all(
        url in text for url in web.log
    )  # two mirrors of the first file, then it stops
    monkeypatch.delenv("DLRA_DATA")
    with pytest.raises(FileNotFoundError, match="DLRA_DATA is not set"):
        fashion_mnist()


def test_download_refused(web):
    with pytest.raises(FileNotFoundError, match="or allow download=True") as info:
        mnist(download=False)
    assert "no such file" in str(info.value) and web.log == []


@pytest.mark.parametrize(("download", "error"), [(True, ImportError), (False, FileNotFoundError)])
def test_without_pooch(monkeypatch, no_data, tmp_path, download, error):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(error, match='pip install "dlra\\[learn\\]"') as info:
        mnist(download=download)
    assert "DLRA_DATA is not set" in str(info.value) and "path=" in str(info.value)
    write_folder(tmp_path, small_arrays())
    assert len(mnist(tmp_path).y_train) == 7  # local files need no pooch


@pytest.mark.parametrize("source", [datasets._MNIST, datasets._FASHION_MNIST])
def test_sources_are_complete(source):
    assert set(source.sha256) == {TRAIN_X, TRAIN_Y, TEST_X, TEST_Y}
    assert len(set(source.sha256.values())) == 4
    assert all(len(digest) == 64 and int(digest, 16) for digest in source.sha256.values())
    assert len(source.mirrors) == 2 and all(mirror.endswith("/") for mirror in source.mirrors)


def test_import_is_light():
    code = "import sys, dlra.nn.datasets; print([m for m in ('pooch', 'sklearn', 'requests') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---- the files themselves


def mnist_folder() -> Path:
    folder = Path(os.environ.get("DLRA_DATA", "")) / "mnist"
    if not os.environ.get("DLRA_DATA") or not folder.is_dir():
        pytest.skip("needs the folder mnist in the folder that the environment variable DLRA_DATA names")
    return folder


def test_mnist():
    mnist_folder()
    data = mnist(flatten=False)
    assert data.x_train.shape == (60000, 1, 28, 28) and data.x_test.shape == (10000, 1, 28, 28)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]  # figure 4 of LeCun et al. begins with these
    # Mean and standard deviation of the training pixels, as they are quoted everywhere.
    assert data.x_train.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert data.x_train.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_original_files_have_the_known_digests():
    folder = mnist_folder()
    files = [folder / f"{name}.gz" for name in datasets._MNIST.sha256]
    if not all(file.is_file() for file in files):
        pytest.skip("needs the compressed files of MNIST")
    for file, digest in zip(files, datasets._MNIST.sha256.values(), strict=True):
        assert datasets._has_digest(file, digest)


# ---- digits


class TestDigits:
    @pytest.fixture(autouse=True)
    def _needs_sklearn(self):
        pytest.importorskip("sklearn")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("flatten", "shape"), [(True, (64,)), (False, (1, 8, 8))])
    def test_shape_and_range(self, flatten, shape, dtype):
        data = digits(flatten=flatten, dtype=dtype)
        assert data.x_train.shape == (1348, *shape) and data.x_test.shape == (449, *shape)
        assert data.x_train.dtype == data.x_test.dtype == dtype and data.y_train.dtype == np.int64
        assert data.x_train.min() == 0 and data.x_train.max() == 1

    @pytest.mark.parametrize("test_share", [0.001, 0.25, 0.999])
    def test_split_is_a_partition(self, test_share):
        from sklearn.datasets import load_digits

        data = digits(test_share=test_share, dtype="float64")
        assert len(data.y_test) == round(1797 * test_share)
        rows = np.column_stack(
            [np.concatenate([data.x_train, data.x_test]) * 16, np.concatenate([data.y_train, data.y_test])]
        )
        expected = np.column_stack(load_digits(return_X_y=True))
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])

    def test_rng(self):
        first = digits()
        np.testing.assert_array_equal(first.x_train, digits(rng=0).x_train)
        np.testing.assert_array_equal(first.x_train, digits(rng=np.random.default_rng(0)).x_train)
        assert not np.array_equal(first.y_train, digits(rng=1).y_train)
        flat, image = digits(rng=3), digits(rng=3, flatten=False)
        np.testing.assert_array_equal(flat.x_test, image.x_test.reshape(-1, 64))

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"test_share": 0}, ValueError, "strictly between 0 and 1, got 0"),
            ({"test_share": 1.0}, ValueError, "strictly between 0 and 1"),
            ({"test_share": float("nan")}, ValueError, "strictly between 0 and 1"),
            ({"test_share": "half"}, TypeError, "test_share must be a real number"),
            ({"test_share": 1e-4}, ValueError, "leaves 0 of 1797"),
            ({"test_share": 0.9999}, ValueError, "leaves 1797 of 1797"),
            ({"dtype": "complex64"}, TypeError, "dtype must be float32 or float64"),
            ({"flatten": "yes"}, TypeError, "flatten must be"),
            ({"rng": "seed"}, TypeError, "rng must be"),
        ],
    )
    def test_wrong_arguments(self, options, error, text):
        with pytest.raises(error, match=text):
            digits(**options)


def test_digits_without_sklearn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match='digits\\(\\) needs scikit-learn: pip install "dlra\\[learn\\]"'):
        digits()
