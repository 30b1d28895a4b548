"""What labels hold: missing labels are refused, with their row; values that are probably not meant as classes are reported."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError

__all__ = ["label_remarks", "plain_labels", "remedy_for_shape", "sorted_classes", "without_objects"]

Array = NDArray[Any]

_NEEDED = "integers, strings or booleans are needed"
_DROP = "drop the rows without a label"
# Numbers that often mean "no label", and what uses them so.
_SPECIAL = {
    -1: "noise or unlabelled rows in scikit-learn",
    -100: "rows to ignore in torch (ignore_index)",
    -999: "a missing value",
    -9999: "a missing value",
    -(2**15): "a missing value, as NaN becomes in int16",
    -(2**31): "a missing value, as NaN becomes in int32",
    -(2**63): "a missing value, as NaN becomes in int64",
}
_IGNORED_PIXEL = 255
_MISSING = {"", "nan", "none", "null", "na", "n/a", "<na>", "nat"}


def plain_labels(array: Array, name: str) -> Array:
    """Labels (n,) as integers, booleans, strings or bytes.

    Raises
    ------
    FastentError
        No label in some rows (NaN, None, pandas.NA); fractions; objects of several types; other dtypes. With the first row.
    """
    if array.dtype.kind == "T":  # numpy's strings of any length, which may have gaps
        array = array.astype(object)
    if array.dtype.kind == "O":
        array = _uniform(array, name)
    if array.dtype.kind == "f":
        array = _whole(array, name)
    if array.dtype.kind not in "iubUS":
        remedy = "; drop rows without one, and convert the others to text" if array.dtype.kind == "M" else ""
        raise FastentError(f"{name} has dtype {array.dtype}: {_NEEDED}{remedy}")
    return array


def without_objects(array: Array, name: str) -> Array:
    """Labels (n,) as they are, but objects as the strings, numbers or booleans that they are: such labels can be stored."""
    return plain_labels(array, name) if array.dtype.kind in "OT" else array


def label_remarks(classes: Array, codes: NDArray[np.int64]) -> Iterator[str]:
    """Sentences about values that may not be classes, and about classes that may be one class under two names."""
    if classes.dtype.kind in "iu" and len(classes) > 2:  # else there would be nothing to tell apart without it
        for value, what in _special(classes):
            rows = int(np.count_nonzero(codes == np.searchsorted(classes, value)))
            yield (
                f"{rows:,} rows have the label {value}, which often stands for {what}: here it is a class of its own; "
                "if it is none, drop these rows"
            )
    if classes.dtype.kind in "US":
        texts = [_text(each) for each in classes.tolist()]
        for code, text in enumerate(texts):
            if text.strip().casefold() in _MISSING:
                rows = int(np.count_nonzero(codes == code))
                yield (
                    f"{rows:,} rows have the label {text!r}, which often stands for a missing value: here it is a class of its "
                    "own; if it is none, drop these rows"
                )
        alike = [group for group in _alike(texts) if len(group) > 1]
        if alike:
            shown = "; ".join(", ".join(map(ascii, group[:4])) for group in alike[:3])
            more = f"; and {len(alike) - 3} more" if len(alike) > 3 else ""
            yield (
                f"{sum(map(len, alike)):,} labels look alike and are classes of their own: {shown}{more}; if they are meant to "
                "be the same, make them equal"
            )


def _special(classes: Array) -> Iterator[tuple[int, str]]:
    present = set(classes[: len(_SPECIAL)].tolist()) | {int(classes[-1])}
    yield from ((value, what) for value, what in _SPECIAL.items() if value in present)
    if classes[-1] == _IGNORED_PIXEL and classes[-2] < _IGNORED_PIXEL - 1:
        yield _IGNORED_PIXEL, "pixels to ignore in masks"


def _alike(texts: list[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(_seen_as(text), []).append(text)
    return list(groups.values())


def _seen_as(text: str) -> str:
    """A label without what readers do not see: forms of a letter, blanks, control characters, leading zeros of a number."""
    text = unicodedata.normalize("NFKC", text)
    seen = "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cf") or letter in "\t\n\r\v\f")
    seen = " ".join(seen.split())
    return re.sub(r"^([+-]?)0*(\d+?)(\.0*)?$", r"\1\2", seen)


def _text(label: str | bytes) -> str:
    return label if isinstance(label, str) else label.decode("utf-8", "backslashreplace")


def _uniform(array: Array, name: str) -> Array:
    kinds = {type(value) for value in array}
    gaps = [row for row, value in enumerate(array) if _is_missing(value)]
    if gaps:
        many = f"{len(gaps)} rows have" if len(gaps) > 1 else "1 row has"
        raise FastentError(
            f"{name} holds objects of type {_names(kinds)}: {_NEEDED}; {many} no label, first row {gaps[0]} "
            f"({array[gaps[0]]}): {_DROP}"
        )
    if kinds == {Decimal}:
        array = np.array([int(value) if value.is_finite() and value == int(value) else float(value) for value in array], object)
        kinds = {type(value) for value in array}
    if kinds <= {str, np.str_}:
        return array.astype(np.str_)
    if kinds <= {bytes, np.bytes_}:
        return array.astype(np.bytes_)
    if all(issubclass(kind, (int, np.integer, np.bool_)) for kind in kinds):
        large = [row for row, value in enumerate(array) if not -(2**63) <= value < 2**63]
        if large:
            raise FastentError(f"{name} has {array[large[0]]} in row {large[0]}: numbers within 64 bits are needed, or strings")
        return array.astype(np.int64)
    if all(issubclass(kind, (int, float, np.number, np.bool_)) and not issubclass(kind, np.complexfloating) for kind in kinds):
        return _whole(array.astype(np.float64), name)
    first = {type(value): row for row, value in reversed(list(enumerate(array)))}
    shown = ", ".join(f"{kind.__name__} in row {row}" for kind, row in sorted(first.items(), key=lambda each: each[1])[:3])
    raise FastentError(f"{name} holds objects of type {_names(kinds)}: {_NEEDED}, all of one type ({shown})")


def _is_missing(value: Any) -> bool:
    """None, NaN, pandas.NA and NaT."""
    if isinstance(value, float | np.floating):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _names(kinds: Iterable[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))


def _whole(array: Array, name: str) -> Array:
    array = array.astype(np.float64, copy=False)
    bad = np.flatnonzero(~(np.abs(array) < 2.0**63) | (array != np.round(array)))
    if len(bad):
        value = array[bad[0]]
        remedy = f"; {_DROP}" if np.isnan(value) else ""
        raise FastentError(
            f"{name} holds {len(bad)} value{'s that are no whole numbers' if len(bad) > 1 else ' that is no whole number'}, "
            f"first {value} at row {bad[0]}: classes are integers, strings or booleans{remedy}"
        )
    return array.astype(np.int64)


def sorted_classes(labels: Array) -> tuple[Array, Array]:
    """Sorted classes and codes; integers that are close together, such as class numbers, need no sort."""
    if labels.dtype.kind in "iu":
        low, high = int(labels.min()), int(labels.max())
        if high - low < len(labels) and high < 2**62:
            offsets = labels.astype(np.int64, copy=False) - low
            present = np.zeros(high - low + 1, bool)
            present[offsets] = True
            return (np.flatnonzero(present) + low).astype(labels.dtype), (np.cumsum(present) - 1)[offsets]
    return np.unique(labels, return_inverse=True)


def remedy_for_shape(array: Array, name: str) -> str:
    """How to make labels (n,) of an array of another rank."""
    if array.ndim == 2 and 1 not in array.shape and array.dtype.kind in "fiub":
        with np.errstate(invalid="ignore"):
            one_hot = bool(((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all())
        return f"use {name}.argmax(1) for one-hot rows" if one_hot else f"choose a column, for instance {name}[:, 0]"
    if array.ndim == 2 and 1 not in array.shape:
        return f"choose a column, for instance {name}[:, 0]"
    return f"use numpy.ravel({name})"
