"""Data sets for classification: MNIST, Fashion-MNIST, and the small digits of scikit-learn, which need no download.

The files of the first two are looked for in the folder given as ``path``, in the folder that the environment variable
``DLRA_DATA`` names, and in a cache, in this order; what none of these has is downloaded to the cache and verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlra._checks import check_number
from dlra.backend import kind
from dlra.nn._idx import read_idx
from dlra.nn._layer import generator

__all__ = ["Dataset", "digits", "fashion_mnist", "mnist", "read_idx"]

CLASSES = 10

_TRAIN_X, _TRAIN_Y = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
_TEST_X, _TEST_Y = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
_NAMES = (_TRAIN_X, _TRAIN_Y, _TEST_X, _TEST_Y)
_TIMEOUT = 30.0  # seconds without an answer


class Dataset(NamedTuple):
    """Images and their classes, for training and for testing.

    Attributes
    ----------
    x_train, x_test : array, shape (n, pixels) or (n, 1, height, width)
        Grey values from 0 to 1.
    y_train, y_test : array of int64, shape (n,)
        Classes from 0 to 9.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class _Source:
    """Where the files of a data set are: their folder in DLRA_DATA, web addresses, and the SHA-256 of the .gz files."""

    function: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


# The digests of MNIST were computed from the original files. Those of Fashion-MNIST are the ones that torchvision's
# data sets carry; the label files of the original repository have them.
_MNIST = _Source(
    "mnist",
    ("mnist",),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        _TRAIN_X: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        _TRAIN_Y: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        _TEST_X: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        _TEST_Y: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
)
_FASHION_MNIST = _Source(
    "fashion_mnist",
    ("fashion-mnist", "fashion_mnist"),
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
        "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    {
        _TRAIN_X: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        _TRAIN_Y: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        _TEST_X: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        _TEST_Y: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
)


def mnist(
    path: str | os.PathLike[str] | None = None,
    *,
    flatten: bool = True,
    dtype: Any = "float32",
    download: bool = True,
) -> Dataset:
    """MNIST: 60000 + 10000 images of handwritten digits, 28 x 28 pixels.

    Parameters
    ----------
    path : str or path, optional
        Folder with the four IDX files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``; also spelt ``train-images.idx3-ubyte`` and so on,
        and also compressed, with ``.gz`` appended (of several the plain one, then the first spelling, is taken).
        Nothing else is searched then. Other data in this form, such as a subset, are taken as they are.

        Without it: the folder ``mnist`` in the folder that the environment variable ``DLRA_DATA`` names, if there is
        one; else the cache of pooch, into which the files are downloaded if need be. Files in the cache must have the
        SHA-256 of the original ones.
    flatten : bool
        Whether an image is a row of 784 numbers; otherwise it has shape (1, 28, 28), as convolutions take it.
    dtype : {"float32", "float64"}
    download : bool
        Whether files may be downloaded (11 MB).

    Returns
    -------
    Dataset
        x_train (60000, 784) or (60000, 1, 28, 28), y_train (60000,), x_test and y_test likewise with 10000.

    Raises
    ------
    FileNotFoundError
        There are no such files; the message lists where they were looked for.
    ValueError
        A file is damaged, or the files do not fit together.
    ImportError
        The files are to be downloaded, and pooch is missing: ``pip install "dlra[learn]"``.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proc. IEEE 86 (1998), 2278-2324. Copyright Yann LeCun and Corinna Cortes, CC BY-SA 3.0.
    """
    return _load(_MNIST, path, flatten, dtype, download)


def fashion_mnist(
    path: str | os.PathLike[str] | None = None,
    *,
    flatten: bool = True,
    dtype: Any = "float32",
    download: bool = True,
) -> Dataset:
    """Fashion-MNIST: 60000 + 10000 images of clothes in ten classes, 28 x 28 pixels.

    The classes are, from 0 to 9: T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.

    Parameters
    ----------
    path : str or path, optional
        Folder with the four IDX files, as for :func:`mnist`. Without it: the folder ``fashion-mnist`` or
        ``fashion_mnist`` in the folder that the environment variable ``DLRA_DATA`` names, if there is one; else the
        cache of pooch, into which the files are downloaded if need be.
    flatten : bool
        Whether an image is a row of 784 numbers; otherwise it has shape (1, 28, 28).
    dtype : {"float32", "float64"}
    download : bool
        Whether files may be downloaded (31 MB).

    Returns
    -------
    Dataset
        Of the shapes of :func:`mnist`.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As :func:`mnist`.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms,
    arXiv:1708.07747 (2017). Copyright Zalando SE, MIT licence.
    """
    return _load(_FASHION_MNIST, path, flatten, dtype, download)


def digits(
    *, test_share: float = 0.25, flatten: bool = True, dtype: Any = "float32", rng: Any = 0
) -> Dataset:
    """The 1797 handwritten digits of scikit-learn, 8 x 8 pixels: part of scikit-learn, so no file is needed.

    Parameters
    ----------
    test_share : float
        Share of the images that is kept for testing, strictly between 0 and 1; the number is rounded.
    flatten : bool
        Whether an image is a row of 64 numbers; otherwise it has shape (1, 8, 8).
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int
        Draws which images are for training and which for testing.

    Returns
    -------
    Dataset

    Raises
    ------
    ImportError
        scikit-learn is missing: ``pip install "dlra[learn]"``.

    Examples
    --------
    >>> from dlra.nn import datasets
    >>> data = datasets.digits(flatten=False)
    >>> data.x_train.shape, data.x_test.shape
    ((1348, 1, 8, 8), (449, 1, 8, 8))

    References
    ----------
    E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits, UCI Machine Learning Repository (1998),
    CC BY 4.0; its test set.
    """
    flatten, dtype = _check_flag(flatten, "flatten"), _check_dtype(dtype)
    share = check_number(test_share, "test_share")
    if not 0 < share < 1:
        raise ValueError(f"test_share must be strictly between 0 and 1, got {test_share}")
    random = generator(rng)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('digits() needs scikit-learn: pip install "dlra[learn]"') from error
    images, labels = load_digits(return_X_y=True)
    count = len(images)
    n_test = round(share * count)
    if not 0 < n_test < count:
        raise ValueError(
            f"test_share = {test_share} leaves {n_test} of {count} images for testing; take another share"
        )
    order = random.permutation(count)
    test, train = order[:n_test], order[n_test:]
    x = _scaled(np.asarray(images).reshape(count, 8, 8), 16, flatten, dtype)
    y = np.asarray(labels, dtype=np.int64)
    return Dataset(x[train], y[train], x[test], y[test])


# ---- arguments


def _check_flag(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def _check_dtype(dtype: Any) -> np.dtype:
    try:
        result = np.dtype("object" if dtype is None else dtype)
    except TypeError:
        result = np.dtype("object")
    if result not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
    return result


# ---- from files to arrays


def _load(source: _Source, path: Any, flatten: Any, dtype: Any, download: Any) -> Dataset:
    flatten, dtype = _check_flag(flatten, "flatten"), _check_dtype(dtype)
    files = _find(source, path, _check_flag(download, "download"))
    x_train, y_train = _read_pair(files[_TRAIN_X], files[_TRAIN_Y])
    x_test, y_test = _read_pair(files[_TEST_X], files[_TEST_Y])
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{files[_TEST_X]}: images of {x_test.shape[1:]} pixels, expected {x_train.shape[1:]} as in "
            f"{files[_TRAIN_X]}; the files are not of one data set"
        )
    return Dataset(
        _scaled(x_train, 255, flatten, dtype), y_train, _scaled(x_test, 255, flatten, dtype), y_test
    )


def _read_pair(image_file: Path, label_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images, shape (n, height, width), and their labels."""
    images, labels = _read_bytes(image_file, 3), _read_bytes(label_file, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{label_file}: {len(labels)} labels, expected {len(images)}, one for each image of {image_file}; "
            f"the files are not of one data set"
        )
    if images.size == 0:
        raise ValueError(f"{image_file}: no images, the shape is {images.shape}; get the file again")
    if labels.max() >= CLASSES:
        where = int(np.argmax(labels >= CLASSES))
        raise ValueError(
            f"{label_file}: label {labels[where]} at position {where}, expected 0 to {CLASSES - 1}; the file is "
            f"damaged or of another data set"
        )
    return images, labels.astype(np.int64)


def _read_bytes(file: Path, ndim: int) -> np.ndarray:
    array = read_idx(file)
    if array.dtype != np.uint8 or array.ndim != ndim:
        raise ValueError(
            f"{file}: {array.dtype} entries on {array.ndim} axes, expected uint8 on {ndim} (magic number "
            f"00 00 08 {ndim:02x}): {'images' if ndim == 3 else 'labels'} belong in this file"
        )
    return array


def _scaled(images: np.ndarray, white: int, flatten: bool, dtype: np.dtype) -> np.ndarray:
    n, height, width = images.shape
    x = images.astype(dtype)
    x /= white
    return x.reshape((n, height * width) if flatten else (n, 1, height, width))


# ---- where the files are


def _find(source: _Source, path: Any, download: bool) -> dict[str, Path]:
    """Find the four files, or raise the error that says where they were looked for."""
    if path is not None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path must be a folder (str or path) or None, got {kind(path)}")
        return _in_folder(Path(path), "path")
    root = os.environ.get("DLRA_DATA")
    tried = ["the environment variable DLRA_DATA is not set"]
    if root:
        folders = [Path(root) / name for name in source.folders]
        for folder in folders:
            if folder.is_dir():
                return _in_folder(folder, "DLRA_DATA")
        tried = [f"{folder} (from DLRA_DATA): no such folder" for folder in folders]
    return _in_cache(source, download, tried)


def _in_folder(folder: Path, origin: str) -> dict[str, Path]:
    if not folder.exists():
        raise FileNotFoundError(f"{origin}: there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{origin} must be a folder with IDX files, {folder} is a file")
    found = {name: _spelt(folder, name) for name in _NAMES}
    missing = [name for name, file in found.items() if file is None]
    if missing:
        raise FileNotFoundError(
            f"{origin}: {folder} has no {', '.join(missing)} (plain or .gz, also spelt "
            f"{_other_spelling(missing[0])}); complete the folder or name another one"
        )
    return {name: file for name, file in found.items() if file is not None}


def _spelt(folder: Path, name: str) -> Path | None:
    """The file of that name in one of its spellings, or None."""
    for end in ("", ".gz"):
        for spelling in (name, _other_spelling(name)):
            file = folder / (spelling + end)
            if file.is_file():
                return file
    return None


def _other_spelling(name: str) -> str:
    return name.replace("-idx", ".idx")


def _in_cache(source: _Source, download: bool, tried: list[str]) -> dict[str, Path]:
    remedy = (
        f"Give {source.function}(path=...) a folder with the four IDX files, or put them into the folder "
        f"{source.folders[0]} of a folder that DLRA_DATA names"
    )
    try:
        import pooch
    except ImportError as error:
        text = "pooch, which downloads and caches, is not installed"
        remedy += ', or install pooch: pip install "dlra[learn]"'
        message = _not_found(source, [*tried, text], remedy)
        raise (ImportError(message) if download else FileNotFoundError(message)) from error
    cache = Path(pooch.os_cache("dlra")) / source.folders[0]
    files = {}
    for name in _NAMES:
        file = cache / f"{name}.gz"
        if not _has_digest(file, source.sha256[name]):
            state = "another SHA-256 than the original" if file.exists() else "no such file"
            attempts = [*tried, f"{file} (cache): {state}"]
            if not download:
                raise FileNotFoundError(
                    _not_found(source, [*attempts, "download=False"], f"{remedy}, or allow download=True.")
                )
            errors = _download(source, name, file)
            if errors is not None:
                raise FileNotFoundError(_not_found(source, [*attempts, *errors], f"{remedy}."))
        files[name] = file
    return files


def _has_digest(file: Path, sha256: str) -> bool:
    if not file.is_file():
        return False
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


def _download(source: _Source, name: str, file: Path) -> list[str] | None:
    """Download a file from the first mirror that has it; return None, or what went wrong with each mirror."""
    import pooch

    errors = []
    downloader: Any = pooch.HTTPDownloader(timeout=_TIMEOUT)
    for mirror in source.mirrors:
        url = f"{mirror}{name}.gz"
        try:
            with _quiet(pooch.get_logger()):
                pooch.retrieve(
                    url,
                    known_hash=f"sha256:{source.sha256[name]}",
                    fname=file.name,
                    path=file.parent,
                    downloader=downloader,
                )
            return None
        except (OSError, ValueError) as error:  # no connection, HTTP status, full disk; another digest
            errors.append(f"{url}: {type(error).__name__}: {error}")
    return errors


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep a logger that prints from telling less than warnings.

    A filter, as the levels of a logger outside logging's tree, such as pooch's, are cached and never looked up again.
    """

    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    logger.addFilter(is_warning)
    try:
        yield
    finally:
        logger.removeFilter(is_warning)


def _not_found(source: _Source, tried: list[str], remedy: str) -> str:
    return "\n".join([f"{source.function}() found no files:", *(f"- {text}" for text in tried), remedy])
