"""In what measurements that are compared differ, other than in what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastent.runtime.formatting import count

__all__ = ["differing_settings"]

# Statistics depend on these, so that measurements in which they differ are not all comparable.
_SAME = ("points", "queries", "k", "normalize", "standardize")


def differing_settings(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """In words, of what `Measurement.as_json` has of each."""
    for name in _SAME:
        values = [each.get(name, False) for each in measured]
        if len(set(values)) > 1:
            yield f"{name}: {'; '.join(count(value) if type(value) is int else str(value) for value in values)}"
    classes = [tuple(each["classes"]) for each in measured]
    if len(set(map(len, classes))) > 1:
        yield f"classes: {'; '.join(count(len(each)) for each in classes)}"
    elif len(set(classes)) > 1:
        yield "the classes are not the same"
