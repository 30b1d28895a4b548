"""Labels of Hugging Face `datasets` that are numbers of classes (ClassLabel), whose names the table's metadata holds."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError

__all__ = ["named_classes"]

Array = NDArray[Any]


def named_classes(values: Array, schema: Any, column: str, place: str) -> Array:
    """The names of the classes whose numbers a column holds; values of any other column as they are.

    Raises
    ------
    FastentError
        Numbers without a name; `datasets` writes -1 for rows without a label.
    """
    names = _names(schema, column)
    if names is None or values.dtype.kind not in "iu":
        return values
    outside = np.flatnonzero((values < 0) | (values >= len(names)))
    if len(outside):
        row = outside[0]
        without = "stands for no label" if values[row] == -1 else f"is none of its {len(names)} classes"
        raise FastentError(
            f"{column!r} of {place} is {values[row]} in row {row}, which {without}, as in {len(outside)} of {len(values)} "
            "rows: drop those rows"
        )
    return np.array(names)[values]


def _names(schema: Any, column: str) -> list[str] | None:
    """The names that the metadata of a schema give for a column, or for a field "a.b"; None if none, or only the numbers."""
    feature: Any = None
    with suppress(ValueError, KeyError, TypeError, RecursionError):  # metadata of others, which may hold anything
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        for key in [column] if column in feature else column.split("."):
            feature = feature[key]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
        told_apart = isinstance(names, list) and all(isinstance(name, str) for name in names) and len({*names}) == len(names)
        if told_apart and names != [str(number) for number in range(len(names))]:
            return list(names)
    return None
