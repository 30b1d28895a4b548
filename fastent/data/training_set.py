"""From raw arrays to training data: chosen rows, standardised features, class codes."""

import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labels import plain_labels, without_objects
from fastent.arrays.validation import as_array, as_features, check_finite
from fastent.data.datasets import known_name, read_dataset
from fastent.data.fingerprint import fingerprints
from fastent.data.presets import PRESETS, default_classes
from fastent.data.standardization import standardized
from fastent.data.stored_rows import class_codes
from fastent.errors import FastentError
from fastent.io.row_numbers import labels_listed, read_row_numbers, run_that_listed
from fastent.options import choice, whole_number
from fastent.printable import storable

__all__ = ["DATA_OPTIONS", "Data", "load_data", "reload_data"]

Array = NDArray[Any]

# The options of load_data that a configuration keeps, in addition to the source of the data.
DATA_OPTIONS = ("labels", "data_dir", "subset", "subset_seed", "exclude", "classes", "standardize", "grayscale", "split_seed")


@dataclass(frozen=True, eq=False)
class Data:
    """A training and a test set, standardised, with class codes.

    Attributes
    ----------
    name : str
    x_train : (n, d) float32
    y_train : (n,) int64
        Class codes 0..C-1.
    x_test : (m, d) float32
    y_test : (m,) int64
    classes : (C,)
        The sorted classes; for "parity" 0 (even) and 1 (odd).
    labels : (n,)
        The training points' labels as stored.
    index : (n,) int64
        Their row numbers in the training set as stored; for data without a test set, of which a quarter became one, in all of
        the data.
    raw, raw_test : (n, ...) and (m, ...)
        The training and test points as stored, for pictures and to be standardised anew.
    fingerprint : str
        Of all training and test points and their classes, 16 hexadecimal digits.
    digests : dict of str
        Fingerprints of the parts, which show where two data sets differ.
    options : dict
        The arguments of `load_data`, JSON throughout; `classes` as decided.
    """

    name: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: Array
    labels: Array
    index: NDArray[np.int64]
    raw: Array
    raw_test: Array
    fingerprint: str
    digests: dict[str, str]
    options: dict[str, Any]

    @property
    def pictures(self) -> Array | None:
        """`raw` if the points are pictures, (n, h, w) or (n, h, w, 3), else None."""
        return self.raw if self.raw.ndim == 3 or (self.raw.ndim == 4 and self.raw.shape[3] == 3) else None

    def take(self, rows: NDArray[np.int64]) -> "Data":
        """The same with some of the training points only (positions), standardised as they are here."""
        return self._with(
            x_train=self.x_train[rows],
            y_train=self.y_train[rows],
            labels=self.labels[rows],
            index=self.index[rows],
            raw=self.raw[rows],
        )

    def take_alone(self, rows: NDArray[np.int64]) -> "Data":
        """The same with some of the training points only (positions), standardised as if there were no others."""
        x_train, x_test = _prepared(self.raw[rows], self.raw_test, self.options["standardize"], self.options["grayscale"])
        return self.take(rows)._with(x_train=x_train, x_test=x_test)

    def relabel(self, codes: NDArray[np.int64]) -> "Data":
        """The same with other classes of the training points, (n,) codes of `classes`."""
        return self._with(y_train=codes)

    def _with(self, **changes: Any) -> "Data":
        changed = replace(self, **changes)
        parts = (changed.x_train, changed.y_train, changed.x_test, changed.y_test, changed.labels)
        return replace(changed, **fingerprints(*parts))


def load_data(
    data: Any,
    labels: Any = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    subset: int | None = None,
    subset_seed: int | None = None,
    exclude: Any = None,
    classes: Literal["parity", "all"] | None = None,
    standardize: Literal["safe", "paper", "none"] = "safe",
    grayscale: bool = False,
    split_seed: int = 0,
    preset: Literal["paper"] | None = None,
) -> Data:
    """Load a data set as the source paper prepares it.

    Parameters
    ----------
    data : str, path, tuple or mapping
        "digits" (part of scikit-learn), "mnist", "fashion-mnist", "kmnist" or "cifar10"; a path to an .npz with x_train,
        y_train[, x_test, y_test] or X, y; a path to an .npy; arrays (X, y) or (x_train, y_train, x_test, y_test).
    labels : array-like or path, optional
        Labels for a `data` that is an .npy.
    data_dir : path, optional
        Folder of the named data sets: `<name>.npz`, or the original IDX or CIFAR-10 files, there or in a folder of that name.
        By default the folder in ``FASTENT_DATA``; data sets that are not there are fetched from OpenML.
    subset : int, optional
        Number of training points to take: the first ones, or with `subset_seed` a random selection.
    subset_seed : int, optional
        Seed of the random selection.
    exclude : array-like of int, or path, optional
        Row numbers (in the training set as stored) to leave out; or a file of them: an .npy, or a table with a column "index",
        such as the stragglers.csv of another run. The standardisation is taken from the whole subset, so that
        the remaining points do not change.
    classes : "parity" or "all", optional
        label % 2, or every label its own class. The default is "parity" for the data sets known by name, as in the source
        paper, and "all" for any other data.
    standardize : "safe", "paper" or "none", optional, default "safe"
        (x - mean) / (std + 1e-9) by feature, from the training subset, unbiased. "safe" sets features that never vary there to
        0; "paper" does not, so that a test point may have an enormous value in them.
    grayscale : bool, optional, default False
        Sum the three standardised colour channels of pictures (h, w, 3).
    split_seed : int, optional, default 0
        Seed of the 75/25 split, stratified by label, of data that come without a test set.
    preset : "paper", optional
        The source paper's data: the first 8,192 training points (or all, if there are fewer), classes by parity. `subset` and
        `classes` take precedence.

    Returns
    -------
    Data

    Raises
    ------
    FastentError
        Invalid data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.load_data("digits").x_train.shape
    (1347, 64)
    """
    known = None if preset is None else PRESETS[choice("preset", preset, tuple(PRESETS))]
    if classes is None:
        classes = default_classes(known_name(data)) if known is None else known.classes
    choice("classes", classes, ("parity", "all"))
    choice("standardize", standardize, ("safe", "paper", "none"))
    stored = read_dataset(data, labels=labels, data_dir=data_dir, split_seed=split_seed)
    if known is not None and subset is None:
        subset = min(known.subset, len(stored.x_train))
    chosen = _chosen_rows(len(stored.x_train), subset, subset_seed)
    numbers = chosen if stored.rows is None else stored.rows[chosen]
    left_out = _excluded_rows(exclude, numbers)
    if isinstance(exclude, str | os.PathLike) and left_out.any():
        _refuse_list_of_others(exclude, known_name(data), numbers, np.asarray(stored.y_train)[chosen])
    if grayscale and (stored.x_train.ndim != 4 or stored.x_train.shape[3] != 3):
        raise FastentError(f"grayscale needs colour pictures (n, h, w, 3), these have shape {stored.x_train.shape}")

    raw = stored.x_train if len(chosen) == len(stored.x_train) else stored.x_train[chosen]
    x_train, x_test = _prepared(raw, stored.x_test, standardize, grayscale)
    point_labels = without_objects(np.asarray(stored.y_train)[chosen][~left_out], "y_train")
    y_train, y_test, names = class_codes(point_labels, stored.y_test, classes)
    if left_out.any():
        x_train, raw = x_train[~left_out], raw[~left_out]
    return Data(
        name=stored.name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=names,
        labels=point_labels,
        index=numbers[~left_out],
        raw=raw,
        raw_test=stored.x_test,
        **fingerprints(x_train, y_train, x_test, y_test, point_labels),
        options={
            "source": str(data) if isinstance(data, (str, os.PathLike)) else None,
            "labels": str(labels) if isinstance(labels, (str, os.PathLike, int)) else None,
            "data_dir": None if data_dir is None else str(data_dir),
            "subset": None if subset is None else len(chosen),
            "subset_seed": None if subset_seed is None else int(subset_seed),
            "exclude": numbers[left_out].tolist(),
            "classes": classes,
            "standardize": standardize,
            "grayscale": bool(grayscale),
            "split_seed": int(split_seed),
        },
    )


def reload_data(config: dict[str, Any]) -> Data:
    """Load the data of a run again, from its configuration, and make sure that they are the same.

    Raises
    ------
    FastentError
        The run was given arrays, or its data are gone or have changed.
    """
    lacking = [name for name in ("source", "fingerprint", *DATA_OPTIONS) if name not in config]
    if lacking:
        raise FastentError(f"the configuration of the run lacks {', '.join(lacking)}: train it again")
    if config["source"] is None:
        raise FastentError("the run was given arrays, which are not kept with it")
    options = {name: config[name] for name in DATA_OPTIONS}
    if known_name(config["source"]) in (None, "digits"):
        options["data_dir"] = None  # earlier versions kept one that had no effect
    data = load_data(config["source"], **options)
    if data.fingerprint != config["fingerprint"]:
        raise FastentError(
            f"{config['source']} has fingerprint {data.fingerprint}, the run was trained on {config['fingerprint']}"
        )
    return data


def _chosen_rows(n: int, subset: int | None, subset_seed: int | None) -> NDArray[np.int64]:
    if subset is None:
        if subset_seed is not None:
            raise FastentError(f"subset_seed={subset_seed} without subset: say how many points to draw")
        return np.arange(n)
    subset = whole_number("subset", subset, minimum=1, maximum=n)
    if subset_seed is None:
        return np.arange(subset)
    generator = np.random.default_rng(whole_number("subset_seed", subset_seed, minimum=0))
    return np.sort(generator.choice(n, subset, replace=False))


def _excluded_rows(exclude: Any, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the chosen rows to leave out."""
    if isinstance(exclude, str | os.PathLike):
        exclude = read_row_numbers(exclude)
    rows = np.empty(0, np.int64) if exclude is None else as_array(exclude, "exclude")
    if rows.size == 0:
        return np.zeros(len(chosen), bool)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise FastentError(
            f"exclude has shape {rows.shape} and dtype {rows.dtype}: row numbers, a 1-D array of integers, are needed"
        )
    unknown = rows[~np.isin(rows, chosen)]
    if len(unknown):
        raise FastentError(
            f"exclude names {len(unknown)} rows that are not among the {len(chosen)} training points, first {unknown[0]}"
        )
    return np.isin(chosen, rows)


def _refuse_list_of_others(place: str | os.PathLike[str], known: str | None, numbers: Array, labels: Array) -> None:
    """Refuse stragglers of another data set, which the run that wrote them names, or whose labels are not those of the rows."""
    remedy = "name a list of these data, or save its row numbers alone, with numpy.save, if they are meant"
    source = known_name(run_that_listed(place).get("source"))
    if known is not None and source is not None and source != known:
        raise FastentError(f"exclude={os.fspath(place)!r} is of a run on {source}, not {known}: {remedy}")
    listed = labels_listed(place)
    if listed is None:
        return
    rows = read_row_numbers(place)
    here, there = (_as_text(each) for each in (labels[np.searchsorted(numbers, rows)], listed))
    differ = [at for at, (one, other) in enumerate(zip(here, there, strict=True)) if one != other]
    if differ:
        raise FastentError(
            f"exclude={os.fspath(place)!r} is of other data: {len(differ)} of its {len(rows)} rows have other labels there, "
            f"first row {rows[differ[0]]}, {there[differ[0]]!r} and not {here[differ[0]]!r}: {remedy}"
        )


def _as_text(labels: Array) -> list[str]:
    """Labels as a file has them, where text such as "true" and whole numbers such as 1.0 may be read as other types."""
    values = storable(plain_labels(labels, "labels")).tolist()
    return [(each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)).casefold() for each in values]


def _prepared(
    raw: Array, raw_test: Array, standardize: str, grayscale: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points as stored, (n, ...) and (m, ...), as standardised rows; the training points say how."""
    x_train, x_test = standardized(_rows(raw, "x_train"), _rows(raw_test, "x_test"), standardize)
    if grayscale:
        x_train, x_test = (rows.reshape(len(rows), -1, 3).sum(2) for rows in (x_train, x_test))
    for name, rows in (("x_train", x_train), ("x_test", x_test)):
        check_finite(rows, name=f"{name}, as standardised in float32,")
    return x_train, x_test


def _rows(points: Array, name: str) -> Array:
    """Points (n, ...) as checked rows (n, d)."""
    rows = as_features(points.reshape(len(points), -1) if points.ndim != 2 else points, name=name)
    check_finite(rows, name=name)
    return rows
