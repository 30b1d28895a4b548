"""The `notes` of every result: why its statistics say less than they seem to, in words.

A note is a reason and its effects on the statistics of one part of a measurement. Parts with the same reason, say a class with
one point, share a sentence.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.printable import printable
from fastent.statistics.intervals import MINIMUM_QUERIES, SKEWED, Estimate, Population, heaviest

__all__ = ["Note", "few_or_skewed", "listed", "merged", "of_classes", "one_point", "sentence_list", "unexplained"]

# So many classes or rows are named, of more the first.
_NAMED = 5


class Note(str):
    """A reason and its effects, read as one sentence: "class 2 has one point: its radius is 0; its silhouette is 0"."""

    reason: str
    effects: tuple[str, ...]

    def __new__(cls, reason: str, *effects: str) -> "Note":
        note = super().__new__(cls, f"{reason}: {'; '.join(effects)}" if effects else reason)
        note.reason, note.effects = reason, effects
        return note


def merged(notes: Iterable[Note]) -> tuple[Note, ...]:
    """A note for each reason with all its effects, in the order in which they first come."""
    effects: dict[str, dict[str, None]] = {}
    for note in notes:
        effects.setdefault(note.reason, {}).update(dict.fromkeys(note.effects))
    return tuple(Note(reason, *what) for reason, what in effects.items())


def listed(names: Sequence[Any] | NDArray[Any]) -> str:
    """`2`, `2 and 5`, or `2, 5, 7, 8, 9 and 115 more`."""
    shown = [printable(name) for name in names[:_NAMED]]
    if len(names) > _NAMED:
        return f"{', '.join(shown)} and {len(names) - _NAMED:,} more"
    return sentence_list(shown)


def sentence_list(parts: list[str]) -> str:
    """Join parts as in a sentence, with "and" before the last one."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def of_classes(classes: NDArray[Any], which: NDArray[np.bool_], one: str, several: str) -> str:
    """`class 2 has one point`, or `classes 2 and 5 have one point`."""
    names = classes[which]
    if len(names) == 1:
        return f"class {printable(names[0])} {one}"
    if len(names) <= _NAMED:
        return f"classes {listed(names)} {several}"
    return f"{len(names):,} of {len(classes):,} classes {several} ({listed(names)})"


def one_point(classes: NDArray[Any], counts: NDArray[np.int64], effect: str) -> Iterator[Note]:
    """What follows from classes that have one point, if there are any."""
    if (counts == 1).any():
        yield Note(of_classes(classes, counts == 1, "has one point", "have one point"), effect)


def few_or_skewed(
    values: Mapping[str, NDArray[Any]],
    rows: NDArray[np.int64] | None,
    intervals: Mapping[str, Estimate],
    population: Population = math.inf,
) -> Iterator[Note]:
    """What makes intervals for means of unbounded values unsafe: too few queries, or one that outweighs the others.

    values : of each query (q,), for each such statistic, by the name of its interval. rows : their numbers; None for 0, 1, ...
    """
    for name, of in values.items():
        known = int((~np.isnan(of)).sum())
        if not known or intervals[name].standard_error == 0:
            continue
        if known < MINIMUM_QUERIES:
            yield Note(
                f"{known} usable quer{'y' if known == 1 else 'ies'}, where values without bounds take {MINIMUM_QUERIES}",
                f"the interval of {name} may be too narrow",
            )
            continue
        place, share = heaviest(of, population)
        if share > SKEWED:
            row = place if rows is None else rows[place]
            yield Note(
                f"row {row} makes up {100 * share:.0f} % of the variance of {name} among the queries",
                "with tails this heavy the interval may be too narrow, and more queries would help",
            )


# Names of statistics that are words as well.
_WORDS = frozenset(
    {"mean", "error", "distance", "radius", "loss", "exact", "chance", "margin", "relative", "overlap", "squared"}
)


def unexplained(summary: Mapping[str, float], notes: Sequence[str]) -> Iterator[str]:
    """A note for what is infinite or NaN and that no note names."""
    text = " ".join(notes).lower().replace("neighbour", "neighbor")
    said = set(re.findall(r"\w+(?:-\w+)?", text))

    def named(statistic: str) -> bool:
        group, name = statistic.split("/")
        # A word that any sentence may have is a name only next to its group's.
        return name in said and (name not in _WORDS or group in said or group.replace("_", " ") in text)

    for kind, wrong in (("infinite", math.isinf), ("unknown", math.isnan)):
        names = [name for name, value in summary.items() if wrong(value) and not named(name)]
        if names:
            yield f"{listed(names)} {'is' if len(names) == 1 else 'are'} {kind} for these points"
