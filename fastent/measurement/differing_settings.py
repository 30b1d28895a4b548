"""In what measurements that are compared differ, other than in what was measured."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastent.runtime.formatting import count
from fastent.statistics.notes import sentence_list

__all__ = ["SETTINGS", "confounded", "differing_settings"]

# Where each setting is of account: statistics whose names begin so.
SETTINGS: dict[str, tuple[str, ...]] = {
    "k": ("mixing/", "dimension/mle", "dimension/gride"),
    "normalize": ("",),
    "standardize": ("",),
    "temperature": ("soft_nearest_neighbor/",),
}
# Whatever measurements may differ in so that statistics are not all comparable.
_SAME = ("points", "queries", *SETTINGS)


def differing_settings(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """In words, of what `Measurement.as_json` has of each."""
    for name in _SAME:
        values = [value for each in measured if (value := _setting(each, name)) is not None]
        if len(set(values)) > 1:
            yield f"{name}: {'; '.join(map(_shown, values))}"
    drawn = [seed for each in measured if (seed := _setting(each, "seed")) is not None and _draws(each)]
    if len(set(drawn)) > 1:
        yield f"seed: {'; '.join(map(str, drawn))}"
    classes = [tuple(each["classes"]) for each in measured]
    if len(set(map(len, classes))) > 1:
        yield f"classes: {'; '.join(count(len(each)) for each in classes)}"
    elif len(set(classes)) > 1:
        yield "the classes are not the same"


def confounded(one: Mapping[str, Any], other: Mapping[str, Any], statistics: Iterable[str]) -> tuple[frozenset[str], str]:
    """The statistics that depend on a setting that differs, which may explain their difference; and in words why they have no
    interval, "" where there are none."""
    settings = [name for name in SETTINGS if None not in (a := _setting(one, name), b := _setting(other, name)) and a != b]
    places = tuple(place for name in settings for place in SETTINGS[name])
    found = frozenset(name for name in statistics if places and name.startswith(places))
    if not found:
        return found, ""
    if "" in places:
        return found, f"no intervals, since all statistics depend on what differs: {sentence_list(settings)}"
    places = tuple(place for place in places if any(name.startswith(place) for name in found))
    settings = [name for name in settings if {*places} & {*SETTINGS[name]}]
    them = sentence_list([place.rstrip("/") for place in places])
    return found, f"no intervals of {them}, which depend on what differs: {sentence_list(settings)}"


def _setting(measured: Mapping[str, Any], name: str) -> Any:
    """Of earlier versions what is kept among the options, or the default; None if it is not known, or without effect."""
    if name == "temperature" and not any(
        each.startswith(SETTINGS[name]) for each in measured.get("statistics", SETTINGS[name])
    ):
        return None
    value = measured.get(name, (measured.get("asked") or {}).get(name))
    if value is None and name in ("normalize", "standardize"):
        return False
    if name != "temperature":
        return value
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value


def _draws(measured: Mapping[str, Any]) -> bool:
    some = measured.get("sampled", measured.get("queries")) != measured["points"]
    return some or any(each.startswith("capacity/") for each in measured.get("statistics", ()))


def _shown(value: Any) -> str:
    if type(value) is int:
        return count(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
