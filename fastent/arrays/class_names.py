"""Names of classes for people to read: values stay what they are, tables, plots and reports show the names."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError, warn
from fastent.io.reading import as_path, name_list, reading, require_file
from fastent.printable import natural_key

__all__ = ["class_names_of", "in_natural_order", "reading_order"]


def class_names_of(given: Any, classes: NDArray[Any], notes: list[str] | None = None) -> tuple[str, ...] | None:
    """A name for each of the sorted classes (C,); None where none were given.

    Parameters
    ----------
    given : sequence of str, mapping, or path, optional
        Names by class: a mapping from labels; or a sequence, whose entry i is the name of label i if all labels are whole
        numbers that are places in it, and otherwise that of the i-th class, text in its natural order (class2 before class10);
        classes of text that are called so already, in any order, but for case, blanks, "_" and "-", have these names. Or a file
        of these: text with a name in each line, or JSON. Or text with commas between the names.
    notes : list of str, optional
        Where a sentence is added, or else it is a warning, if labels that lack 0 may count from 1.

    Raises
    ------
    FastentError
        Too few or too many names; a class without one; names that are the same, are no text, or are those of other classes.
    """
    if given is None:
        return None
    if isinstance(given, str | os.PathLike):
        given = _read(given)
    values = classes.tolist()
    if isinstance(given, Mapping):
        found = {value: _key(value, given) for value in values}
        lacking = [value for value, key in found.items() if key is None]
        if lacking:
            raise FastentError(f"class_names has no name for {name_list(map(repr, lacking))}: name every class")
        names = [given[found[value][0]] for value in values]  # type: ignore[index]
    else:
        if not isinstance(given, Iterable):
            raise FastentError(f"class_names is a {type(given).__name__}: a list of names, a mapping or a file is needed")
        names = list(given)
        if classes.dtype.kind in "iu" and values[0] >= 0 and values[-1] < len(names):
            if values[0] > 0:
                _say_places(names, values, notes)
            names = [names[value] for value in values]
        elif len(names) != len(values):
            raise FastentError(
                f"class_names holds {len(names)} names for {len(values)} classes ({name_list(_in_order(values))}): name every "
                "class, in this order"
            )
        else:
            names = _by_class(names, values)
    wrong = next((name for name in names if not isinstance(name, str | int | float | np.generic) or name != name), "")
    if wrong != "":
        raise FastentError(f"class_names has {wrong!r}, a {type(wrong).__name__}, as a name: text is needed for every class")
    texts = tuple(str(name).strip() for name in names)
    twins = sorted({name for name in texts if texts.count(name) > 1})
    if twins or "" in texts:
        raise FastentError(
            f"class_names has {name_list(map(repr, twins or ['']))} for several classes or as a name: tell them apart"
        )
    return texts


def _key(value: Any, given: Mapping[Any, Any]) -> tuple[Any] | None:
    """The key of a class in a mapping: its value, or that as text, as JSON has keys: 0 or 0.0 of 0, 0 or false of False."""
    if value in given:
        return (value,)
    texts = {str(key): key for key in given}
    forms = [str(value)]
    if isinstance(value, bytes):
        forms.append(value.decode("utf-8", "backslashreplace"))
    elif isinstance(value, int):
        forms += [str(value).lower(), str(int(value)), str(float(value))]
    return next(((texts[form],) for form in forms if form in texts), None)


def _say_places(names: Sequence[Any], values: list[int], notes: list[str] | None) -> None:
    """Labels without 0 are places in the names, but might count from 1."""
    taken = name_list(f"{value} is {names[value]!r}" for value in values[:3])
    other = ", ".join(f"{value}: {names[value - 1]!r}" for value in values[:2])
    remark = (
        f"class_names count from 0, and no label is 0: label {taken}{', ...' * (len(values) > 3)}; if labels count from 1, "
        f"pass a mapping, {{{other}{', ...' * (len(values) > 2)}}}"
    )
    (warn if notes is None else notes.append)(remark)


def _by_class(names: Sequence[Any], values: list[Any]) -> list[Any]:
    """As many names as classes: those that are called as the classes are, in any order; or else names in the classes' order.

    Refused are those of which some are called as classes are, but would name others.
    """
    by_class = dict(zip(_in_order(values), names, strict=True))
    if isinstance(values[0], str):
        seen, classes = [_plain(name) for name in names], [_plain(value) for value in values]
        if {str(name).strip() for name in names} == set(values):
            return values
        if len(set(seen)) == len(names) and set(seen) == set(classes):
            by_name = dict(zip(seen, names, strict=True))
            return [by_name[each] for each in classes]
        for value, name in by_class.items():
            if _plain(name) != _plain(value) and _plain(name) in classes:
                raise FastentError(
                    f"class_names would call the class {value!r} {name!r}, which another class is called: pass a mapping from "
                    f"classes to names, {{{value!r}: ...}}"
                )
    return [by_class[value] for value in values]


def _plain(name: Any) -> str:
    """A name without case, blanks, "_" and "-"."""
    return re.sub(r"[\s_-]+", "", str(name)).casefold()


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
