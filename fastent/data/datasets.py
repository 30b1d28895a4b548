"""From a name, a path or arrays to a training and a test set, as stored."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labelled import paired, refuse_shuffled
from fastent.arrays.pairs import named_part, pair_of_torch
from fastent.arrays.validation import as_array, as_labels, check_lengths, check_same_columns, label_array, rows_of
from fastent.data.formats import find_cifar10, find_idx, read_cifar10, read_idx
from fastent.data.splitting import split_rows
from fastent.errors import FastentError, warn
from fastent.io.conversions import how_to_convert
from fastent.io.npy import is_npz, read_npz
from fastent.io.opening import own_labels, read_features, reader_of
from fastent.io.reading import as_path, is_there, name_list
from fastent.io.sources import Source
from fastent.options import short_repr, whole_number
from fastent.runtime.memory import check_fits

__all__ = ["NAMES", "RawData", "known_name", "read_dataset"]

Array = NDArray[Any]

_OPENML = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST", "kmnist": "Kuzushiji-MNIST", "cifar10": "CIFAR_10"}
NAMES = ("digits", *_OPENML)

# Folders in which other libraries keep the original files of a data set, in addition to the folder named for it.
_FOLDERS = {
    "mnist": ("MNIST",),
    "fashion-mnist": ("FashionMNIST", "fashion"),
    "kmnist": ("KMNIST",),
    "cifar10": ("CIFAR10",),
}
_KEYS = ("x_train", "y_train", "x_test", "y_test")
_TEST_SHARE = 0.25
_TRAIN_ROWS = {"cifar10": 50_000}


@dataclass(frozen=True, eq=False)
class RawData:
    """Points (n, ...) and labels (n,) of a training and a test set, as stored; memory maps are left on disk.

    `rows` are the training points' row numbers in data from which a test set was taken.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    rows: NDArray[np.int64] | None = None


def known_name(data: Any) -> str | None:
    """The name in `NAMES` that `data` is, however it is spelled; None for paths and arrays."""
    name = str(data).lower().replace("_", "-") if isinstance(data, (str, os.PathLike)) else None
    return name if name in NAMES else None


def read_dataset(
    data: Any, *, labels: Any = None, data_dir: str | os.PathLike[str] | None = None, split_seed: int = 0
) -> RawData:
    """Read a data set by name, from a path, or from arrays; the parameters are those of `fe.load_data`.

    Raises
    ------
    FastentError
        Unknown name, nothing on disk and no network, files that are damaged, pickled or lack an array, lengths that differ.
    """
    name = known_name(data) if isinstance(data, (str, os.PathLike)) else None
    if name is not None and labels is not None:
        raise FastentError(f"labels={short_repr(labels)}: {name!r} has its own; leave them out, or pass its points as arrays")
    if data_dir is not None and name in (None, "digits"):
        what = "digits come with scikit-learn" if name else "data names no data set of that folder"
        raise FastentError(f"data_dir={str(data_dir)!r}: {what}; leave it out")
    if isinstance(data, (str, os.PathLike)):
        if name is None:
            return _from_path(as_path(data, "a data set"), labels, split_seed)
        return _split("digits", *_digits(), split_seed) if name == "digits" else _named(name, data_dir)
    if labels is not None:
        data = paired(data, labels)
    data = pair_of_torch(data) or data
    if isinstance(data, Mapping):
        return _from_mapping(data, "arrays", "the mapping", split_seed)
    if isinstance(data, (tuple, list)) and len(data) in (2, 4):
        parts = dict(zip(_KEYS, data, strict=False))
        return _from_mapping(parts, "arrays", "the tuple", split_seed)
    raise FastentError(
        f"data is a {type(data).__name__}: pass a name ({', '.join(NAMES)}), a path, "
        "X with labels, (X, y), (x_train, y_train, x_test, y_test), or a Dataset or DataLoader of torch"
    )


def _digits() -> tuple[Array, Array]:
    """Scikit-learn's digits from its file: importing `sklearn.datasets` takes a second, as it brings scipy.stats and pandas."""
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        stored = Path(folder, "datasets", "data", "digits.csv.gz")
        if stored.is_file():
            rows = np.loadtxt(stored, delimiter=",")
            return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target


def _named(name: str, data_dir: str | os.PathLike[str] | None) -> RawData:
    folder = data_dir or os.environ.get("FASTENT_DATA")
    if folder:
        place = as_path(folder, "the folder of the data sets")
        is_there(place)  # or the system says why it cannot tell
        found = _from_folder(name, place)
        if found is not None:
            return found
    if data_dir:
        raise FastentError(f"no {name} in {str(data_dir)!r}: put {_expected(name)} there, or leave data_dir out to fetch it")
    return _from_openml(name)


def _from_folder(name: str, folder: Path) -> RawData | None:
    places = [folder / spelling for spelling in (name, *_FOLDERS[name])]
    for path in (folder / f"{name}.npz", *(place / f"{name}.npz" for place in places)):
        if path.is_file():
            return _from_mapping(read_npz(path, "save it with numpy.savez"), name, str(path), 0)
    if name == "cifar10":
        for place in (folder, *places):
            if paths := find_cifar10(place):
                batches = [read_cifar10(path) for path in paths]
                x_train, y_train = (np.concatenate(parts) for parts in zip(*batches[:5], strict=True))
                x_test, y_test = batches[5]
                return _checked(name, x_train, y_train, x_test, y_test, str(paths[0].parent))
        return None
    # The original files have the same names for all three sets: only MNIST's own are taken from the folder itself.
    own = [folder] if name == "mnist" else []
    for place in own + [path for named in places for path in (named, named / "raw")]:
        if paths := find_idx(place):
            x_train, y_train, x_test, y_test = map(read_idx, paths)
            return _checked(name, x_train, y_train, x_test, y_test, str(place))
    return None


def _from_openml(name: str) -> RawData:
    from sklearn.datasets import fetch_openml

    remedy = f"put {_expected(name)} into a folder and name it with --data-dir, data_dir= or FASTENT_DATA"
    if find_spec("pandas") is None:
        raise FastentError(
            f"{name} is not on disk, and fetching it needs pandas: pip install '.[openml]' in the clone, or {remedy}"
        )
    try:
        fetched = fetch_openml(_OPENML[name], version=1, as_frame=False)
        points, labels = fetched.data, fetched.target.astype(np.int64)
    except Exception as error:  # urllib, http, zlib and parser errors of every kind
        raise FastentError(f"{name} is not on disk and could not be fetched from OpenML ({error}): {remedy}") from error
    points = points.astype(np.uint8)
    pictures = points.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) if name == "cifar10" else points.reshape(-1, 28, 28)
    n = _TRAIN_ROWS.get(name, 60_000)  # OpenML keeps the original order, training rows first
    return _checked(name, pictures[:n], labels[:n], pictures[n:], labels[n:], "OpenML")


def _expected(name: str) -> str:
    original = "cifar-10-batches-bin or cifar-10-batches-py" if name == "cifar10" else "train-images-idx3-ubyte etc."
    place = "" if name in ("mnist", "cifar10") else f" in a folder {name}"
    return f"{name}.npz (x_train, y_train, x_test, y_test) or the original files ({original}{place})"


def _from_path(path: Path, labels: Any, split_seed: int) -> RawData:
    place = str(path)
    reader = reader_of(path)
    if place.lower().endswith(".npz"):
        if labels is not None:
            raise FastentError(f"labels go with one array, as {place}:X: an .npz brings its own, as y_train")
        return _from_mapping(read_npz(path, "save it with numpy.savez"), path.stem, place, split_seed)
    if reader is None and not is_npz(place):
        line = how_to_convert(path) if is_there(path) else None
        remedy = "" if line is None else f"; or convert it with {line}"
        raise FastentError(
            f"unknown data {place[:200]!r}: name one of {', '.join(NAMES)}, or a path to an .npz, .npy, .csv or .parquet file"
            f"{remedy}"
        )
    labels = own_labels(place) if labels is None else labels
    if labels is None:
        column = "" if reader is None or reader.table is None else ", or the column that holds them"
        raise FastentError(f"{place!r} has no labels: name an .npy of them{column} with --labels or labels=")
    X, y = paired(place, labels)
    return _from_mapping({"x_train": X, "y_train": y}, path.stem, place, split_seed)


def _opened(value: Any, name: str) -> Any:
    """Points of any kind as an array of any rank or a source."""
    return rows_of(read_features(os.fspath(value), any_rank=True) if isinstance(value, (str, os.PathLike)) else value, name)


def _points(value: Any, name: str) -> Array:
    """Points (n, ...) as they are stored; those of a source are read, if memory has room for them."""
    if not isinstance(value, Source):
        return as_array(value, name)
    for remark in value.remarks:
        warn(remark)
    n, d = value.shape
    check_fits(n * d * value.dtype.itemsize, f"{name} of {n:,} x {d}", "use fe.train_streamed, or fastent run --stream")
    return value[:].reshape(n, *(value.point_shape or (d,)))


def _from_mapping(parts: Mapping[str, Any], name: str, source: str, split_seed: int) -> RawData:
    x_train, y_train = named_part(parts, "X"), named_part(parts, "y")
    if x_train is None or y_train is None:
        raise FastentError(f"{source} holds {name_list(sorted(map(str, parts)))}: x_train and y_train (or X and y) are needed")
    if ("x_test" in parts) != ("y_test" in parts):
        raise FastentError(f"{source} has only one of x_test and y_test: give both or neither")
    refuse_shuffled(x_train, y_train, "x_train", "y_train")
    opened = _opened(x_train, "x_train")
    x_train, y_train = _points(opened, "x_train"), label_array(y_train, "y_train")
    if "x_test" not in parts:
        _check_part(source, "train", x_train, y_train)
        return _split(name, x_train, y_train, split_seed)
    refuse_shuffled(parts["x_test"], parts["y_test"], "x_test", "y_test")
    test = _opened(parts["x_test"], "x_test")
    check_same_columns(opened, test, name="x_train", others_name="x_test")
    return _checked(name, x_train, y_train, _points(test, "x_test"), label_array(parts["y_test"], "y_test"), source)


def _checked(name: str, x_train: Array, y_train: Array, x_test: Array, y_test: Array, source: str) -> RawData:
    _check_part(source, "train", x_train, y_train)
    _check_part(source, "test", x_test, y_test)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise FastentError(f"{source}: training points have shape {x_train.shape[1:]}, test points {x_test.shape[1:]}")
    return RawData(name, x_train, y_train, x_test, y_test)


def _check_part(source: str, part: str, x: Array, y: Array) -> None:
    if x.ndim < 2 or y.ndim != 1 or x.size == 0:
        raise FastentError(
            f"{source}: x_{part} has shape {x.shape} and y_{part} {y.shape}; (n, ...) and (n,), with n above 0, are needed"
        )
    check_lengths(len(x), len(y), features_name=f"x_{part}", labels_name=f"y_{part}")


def _split(name: str, X: Array, y: Array, seed: int) -> RawData:
    """75/25, stratified by label where every label has the two points that this takes; rows stay in order."""
    whole_number("split_seed", seed, minimum=0, maximum=2**32 - 1)
    codes, classes = as_labels(y, name="y_train")
    counts = np.bincount(codes)
    possible = counts.min() >= 2 and len(classes) <= _TEST_SHARE * len(X)
    if len(X) < 2:
        raise FastentError(f"{name} has {len(X)} point: a training and a test set need two or more")
    train, test = split_rows(len(X), _TEST_SHARE, int(seed), codes if possible else None)
    return RawData(name, X[train], y[train], X[test], y[test], train)
