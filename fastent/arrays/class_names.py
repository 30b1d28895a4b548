"""Names of classes for people to read: values stay what they are, tables, plots and reports show the names."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import as_path, name_list, reading, require_file
from fastent.printable import natural_key

__all__ = ["class_names_of", "in_natural_order", "reading_order"]


def class_names_of(given: Any, classes: NDArray[Any]) -> tuple[str, ...] | None:
    """A name for each of the sorted classes (C,); None where none were given.

    Parameters
    ----------
    given : sequence of str, mapping, or path, optional
        Names by class: a mapping from labels; or a sequence, whose entry i is the name of label i if all labels are whole
        numbers that are places in it, and otherwise that of the i-th class, text in its natural order (class2 before class10);
        classes of text that are called so already, in any order, keep their names. Or a file of these: text with a name in
        each line, or JSON. Or text with commas between the names.

    Raises
    ------
    FastentError
        Too few or too many names; a class without one; names that are the same.
    """
    if given is None:
        return None
    if isinstance(given, str | os.PathLike):
        given = _read(given)
    values = classes.tolist()
    if isinstance(given, Mapping):
        found = {str(value): name for value, name in given.items()}
        lacking = [value for value in values if str(value) not in found]
        if lacking:
            raise FastentError(f"class_names has no name for {name_list(map(repr, lacking))}: name every class")
        names = [found[str(value)] for value in values]
    else:
        if not isinstance(given, Iterable):
            raise FastentError(f"class_names is a {type(given).__name__}: a list of names, a mapping or a file is needed")
        names = list(given)
        if classes.dtype.kind in "iu" and values[0] >= 0 and values[-1] < len(names):
            names = [names[value] for value in values]
        elif len(names) != len(values):
            raise FastentError(
                f"class_names holds {len(names)} names for {len(values)} classes ({name_list(_in_order(values))}): name every "
                "class, in this order"
            )
        elif {str(name).strip() for name in names} == set(values):
            names = values
        else:
            by_class = dict(zip(_in_order(values), names, strict=True))
            names = [by_class[value] for value in values]
    texts = tuple(str(name).strip() for name in names)
    twins = sorted({name for name in texts if texts.count(name) > 1})
    if twins or "" in texts:
        raise FastentError(
            f"class_names has {name_list(map(repr, twins or ['']))} for several classes or as a name: tell them apart"
        )
    return texts


def _read(given: str | os.PathLike[str]) -> Any:
    path = as_path(given, "a file of class names")
    if isinstance(given, str) and "," in given and not os.path.exists(path):
        return given.split(",")
    require_file(path)
    with reading(path, "write a name in each line, or JSON", "no file of names"):
        text = Path(path).read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text)
        return [line for line in text.splitlines() if line.strip()]


def _in_order(classes: list[Any]) -> list[Any]:
    """Numbers ascending, text as people expect."""
    texts = all(isinstance(each, str | bytes) for each in classes)
    return [classes[i] for i in in_natural_order(map(str, classes))] if texts else classes


def in_natural_order(names: Iterable[str]) -> list[int]:
    """Places of the names in the order that people expect: class2 before class10."""
    keys = [natural_key(name) for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)


def reading_order(classes: NDArray[Any], names: Sequence[str]) -> list[int]:
    """Places of sorted classes in the order in which people read them: numbers as they are, text by its natural order."""
    return in_natural_order(names) if classes.dtype.kind in "US" else list(range(len(names)))
