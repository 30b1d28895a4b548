"""Points with their labels: two things, or one table in which a column holds the labels."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastent.arrays.frames import frame_table
from fastent.arrays.pairs import kind_of_pair, pair_in, points_in
from fastent.arrays.validation import Array, Labels, as_features, as_labels
from fastent.errors import FastentError
from fastent.io.npy import is_npz
from fastent.io.opening import FOLDER, located, own_labels, read_features
from fastent.io.reading import is_there, name_list, nothing_at
from fastent.io.tables import Table

__all__ = ["as_labelled", "paired", "refuse_shuffled", "with_labels"]


class _Place(NamedTuple):
    """A table, and which of its columns were named with it."""

    table: Table
    asked: str | None
    path: Path | None


def as_labelled(X: Any, labels: Any, *, minimum_classes: int = 2, notes: list[str] | None = None) -> tuple[Array, Labels]:
    """Return points as `as_features` does, and a label for each as `as_labels` does.

    Where X is a data frame, or the path of a table, labels may be the name of a column, which is then no feature: text, a
    number, or a tuple of a MultiIndex.
    """
    X, labels = paired(X, labels)
    features = as_features(X, notes=notes)
    return features, as_labels(labels, n=len(features), minimum_classes=minimum_classes, notes=notes)


def paired(X: Any, labels: Any) -> tuple[Any, Any]:
    """Points and labels with labels taken from the same table, if they name a column of it; otherwise as they are.

    Without labels, those that lie with X: of a captured folder, of class folders of pictures, of an .npz, of what `pair_in`
    splits. Of a table that had to be opened for its columns, the rows are returned: text would be read again.
    """
    if labels is None:
        pair = pair_in(X)
        return (X, _own_labels(X)) if pair is None else paired(*pair)
    _refuse_labels_twice(X)
    name = _as_name(X, labels)
    if name is None:
        refuse_shuffled(X, labels)
        return X, labels
    place = _table_of(X)
    if place is None:
        return X, labels
    column = _column(place, name)
    if column is None:
        return X if place.path is None else place.table.rows(place.asked), labels
    return place.table.rows(place.asked, column), place.table.column(column)


def _as_name(X: Any, labels: Any) -> str | None:
    """What may be the name of a column or a place, as text: strings, paths, numbers, tuples that name columns of pandas."""
    if isinstance(labels, str | os.PathLike):
        return os.fspath(labels)
    of_several_levels = isinstance(labels, tuple) and getattr(getattr(X, "columns", None), "nlevels", 1) > 1
    number = isinstance(labels, int | np.integer) and not isinstance(labels, bool)
    return str(labels) if number or (of_several_levels and labels in X.columns) else None


def _refuse_labels_twice(X: Any) -> None:
    what = kind_of_pair(X)
    if what is not None:
        raise FastentError(
            f"X is a {what}, which holds labels too, and labels are given: leave labels out, or pass its points as an array"
        )


def refuse_shuffled(X: Any, labels: Any, name: str = "X", labels_name: str = "labels") -> None:
    """Refuse pandas' objects whose indices say that rows are not of the same points: rows are paired by place here.

    Those are the same index in another order, and indices of one kind with other entries, such as those of a training and a
    test set. An index 0..n-1 in order says nothing: it may be a new one.
    """
    of_X: Any = getattr(X, "index", None)
    of_labels: Any = getattr(labels, "index", None)
    if not hasattr(of_X, "equals") or not hasattr(of_labels, "equals") or len(of_X) != len(of_labels):
        return
    if of_X.equals(of_labels) or of_X.nlevels != of_labels.nlevels:
        return
    remedy = f"{labels_name}.to_numpy() if the places are right"
    # Types of one index that do not compare are in no order, and another kind than those that do.
    alike = of_X.inferred_type == of_labels.inferred_type and not of_X.inferred_type.startswith("mixed")
    if of_X.nlevels > 1 or not alike:
        same = len(of_X.difference(of_labels, sort=False)) == len(of_labels.difference(of_X, sort=False)) == 0
    else:
        same = of_X.sort_values().equals(of_labels.sort_values())
    if same:
        raise FastentError(
            f"{labels_name} have the index of {name} in another order, and rows are paired by place: pass "
            f"{labels_name}.loc[{name}.index], or {remedy}"
        )
    if (alike or of_X.nlevels > 1) and not _counts(of_X) and not _counts(of_labels):
        row = next(row for row, (one, other) in enumerate(zip(of_X, of_labels, strict=True)) if one != other)
        raise FastentError(
            f"{labels_name} have another index than {name}, {_shown(of_labels[row])} in row {row} where {name} has "
            f"{_shown(of_X[row])}, and rows are paired by place: pass the labels of these points, as "
            f"{labels_name}.loc[{name}.index], or {remedy}"
        )


def _counts(index: Any) -> bool:
    """Whether an index is 0..n-1, as of a table that was read or whose index was reset."""
    return index.nlevels == 1 and index.inferred_type == "integer" and bool((np.asarray(index) == np.arange(len(index))).all())


def _shown(entry: Any) -> str:
    return repr(entry.item() if isinstance(entry, np.generic) else entry)


def with_labels(X: Any, labels: Any) -> tuple[Any, Any]:
    """As `paired`, where points need no labels: None stays None, and labels that X holds are left."""
    return (points_in(X), None) if labels is None else paired(X, labels)


def _own_labels(X: Any) -> str:
    found = own_labels(os.fspath(X)) if isinstance(X, str | os.PathLike) else None
    if found is None and isinstance(X, tuple | list) and len(X) == 2 and _lengths_agree(*X):
        raise FastentError(
            f"X is a {type(X).__name__} of {_kind(X[0])} and {_kind(X[1])}: points with labels in one are a tuple of an array "
            "(n, ...) and labels (n,); pass (numpy.asarray(points), labels), or both by themselves"
        )
    if found is None:
        columns = _columns_at(X) if isinstance(X, str | os.PathLike) else ""
        raise FastentError(
            f"labels are missing: pass one for each row, a path, or of a table the name of the column that holds them{columns}"
        )
    return found


def _lengths_agree(points: Any, labels: Any) -> bool:
    """Whether these are probably points and labels."""
    for part in (points, labels):
        if isinstance(part, str) or not hasattr(part, "__len__") or getattr(part, "shape", None) == ():
            return False
    rows = hasattr(points, "shape") or (len(points) > 0 and hasattr(points[0], "__len__"))
    return rows and len(points) == len(labels)


def _kind(part: Any) -> str:
    return f"{type(part).__name__} {tuple(part.shape)}" if hasattr(part, "shape") else f"{type(part).__name__} of {len(part)}"


def _columns_at(X: str | os.PathLike[str]) -> str:
    """The columns that a path has to choose from, for a message; of what is no table and no rows, the error."""
    path, name, reader = located(os.fspath(X))
    if not is_there(path):
        raise nothing_at(path)
    if reader is FOLDER:
        reader.open(path, name)  # which says what it lacks
    if reader is None:
        read_features(os.fspath(X))  # what cannot be read needs another remedy first
    if reader is None or reader.table is None:
        return ""
    table = reader.table(path)
    return f"; {table.name} has {name_list(map(repr, table.schema.names))}"


def _table_of(X: Any) -> _Place | None:
    if isinstance(X, str | os.PathLike):
        path, asked, reader = located(os.fspath(X))
        if reader is None or reader.table is None or not is_there(path):
            return None
        return _Place(reader.table(path), asked, path)
    frame = frame_table(X, "X")
    return None if frame is None else _Place(frame, None, None)


def _column(place: _Place, labels: str) -> str | None:
    """The column that labels name, by itself or as FILE:COLUMN of the same file; None if they lie elsewhere."""
    names = place.table.schema.names
    if labels in names or (labels.split(".")[0] in names and not is_there(Path(labels))):
        return labels
    path, column, reader = located(labels)
    if column is not None and path == place.path:
        return column
    if reader is None and not is_npz(labels) and not is_there(path):
        raise FastentError(
            f"labels={labels!r} is no column of {place.table.name}, which has {name_list(map(repr, names))}, and no file"
        )
    return None
