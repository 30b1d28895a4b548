"""One page on layers during training: a heat map of layers and moments for each statistic, curves, and where classes turn.

    ProbeRecords --> probe.py ------\
                                      LayerCurves, MapSection --> write_layers --> layers.html.j2, layers.js, map.js
    Trajectory   --> trajectory.py -/
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.class_names import reading_order
from fastent.report.map import MapSection
from fastent.report.page import COLORS, Headline, Page, write_page
from fastent.runtime.formatting import NOTHING, count, percent, readable, rounded
from fastent.statistics.inversion import reasons_without
from fastent.statistics.notes import sentence_list

__all__ = ["HEADINGS", "LayerCurves", "Statistic", "class_rows", "headline", "write_layers"]

Array = NDArray[np.float64]

# Numbers on a page, at about 8 bytes each, and moments that are drawn.
_NUMBERS, _DRAWN = 150_000, 400
# Classes that get a row in the table and a curve.
_CLASSES = 100
# Of the cells of `class_rows`, after the class; the moment's name comes before "at the inversion".
HEADINGS = (
    "Inversion", "95\u00a0% interval", "Radius at inversion", "Final radius", "Rebound (rise\u00a0/\u00a0fall)",
    "Error at inversion", "None, because",
)  # fmt: skip
_SPACE = "\u00a0"


class Statistic(NamedTuple):
    """Values (E, L) of each layer at each moment, what they say, and whether only their logarithms can be told apart."""

    name: str
    says: str
    values: Array
    logarithmic: bool = False


@dataclass(frozen=True, eq=False)
class LayerCurves:
    """What is known of L layers at E moments of training, and of C classes.

    Attributes
    ----------
    layers : (L,) names
    unit : str
        What a moment is: "step", "checkpoint".
    moments : (E,)
        Where they lie in training.
    names : (E,) of the moments
    classes : (C,) names
    statistics : (S,)
        At least one; the first is shown first.
    radius : (E, L, C)
    inversions : (L, C) of Inversion
    lines : dict of str to (E,)
        What is known of the whole network, such as its error; those without a number are not drawn.
    """

    layers: Sequence[str]
    unit: str
    moments: NDArray[Any]
    names: Sequence[str]
    classes: Sequence[str]
    statistics: Sequence[Statistic]
    radius: Array
    inversions: NDArray[Any]
    lines: dict[str, Array]

    def in_reading_order(self, classes: NDArray[Any]) -> "LayerCurves":
        """The same with its classes in the order in which people read them; `classes` : (C,) their values."""
        order = reading_order(classes, self.classes)
        names = [self.classes[c] for c in order]
        return replace(self, classes=names, radius=self.radius[..., order], inversions=self.inversions[:, order])


def write_layers(curves: LayerCurves, path: str | os.PathLike[str], page: Page, mapped: MapSection | None = None) -> None:
    """Write the page, whole or not at all; `mapped` : a map of the points."""
    shown = curves.classes[:_CLASSES]
    data = _figures(curves, len(shown))
    write_page(
        path,
        "layers.html.j2",
        page,
        data | ({} if mapped is None else {"map": mapped.figure}),
        ("curves.js", "layers.js", "map.js"),
        map=mapped,
        curves=curves,
        shown=data["statistics"],
        lines=[line["name"] for line in data["lines"]],
        headings=HEADINGS,
        tables=[class_rows(curves, layer, len(shown)) for layer in range(len(curves.layers))],
        without=[_without(curves, layer) for layer in range(len(curves.layers))],
        left_out=len(curves.classes) - len(shown),
        classes=shown,
        drawn=len(data["moment"]),
        last=[[readable(float(each.values[-1, layer])) for each in curves.statistics] for layer in range(len(curves.layers))],
        colors=COLORS,
    )


def headline(curves: LayerCurves) -> Headline:
    """How many classes have turned in the last layer, and in which layers others have."""
    turned = [[each for each in row if each] for row in curves.inversions]
    n, layer = len(curves.classes), curves.layers[-1]
    sentences = []
    if turned[-1]:
        epochs = [found.epoch for found in turned[-1]]
        first, last = count(min(epochs)), count(max(epochs))
        when = f"at {curves.unit} {first}" if first == last else f"between {curves.unit}s {first} and {last}"
        title = f"{len(turned[-1])} of {n} classes turned in layer {layer}, {when}."
    else:
        reasons = reasons_without(curves.inversions[-1])
        said = sentence_list([f"{reason} ({count(times)})" for reason, times in reasons.items()])
        title = f"No class has turned in layer {layer}."
        sentences.append(f"Reasons: {said}.")
    if len(curves.layers) > 1:
        others = [f"{len(found)} in {name}" for name, found in zip(curves.layers[:-1], turned[:-1], strict=True) if found]
        sentences.append(f"Classes with an inversion in other layers: {sentence_list(others) or 'none'}.")
    return Headline(title, tuple(sentences))


def class_rows(curves: LayerCurves, layer: int, most: int = _CLASSES) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """For each class its number, its name, and cells under the `HEADINGS`."""
    for c, name in enumerate(curves.classes[:most]):
        found, last = curves.inversions[layer, c], readable(float(curves.radius[-1, layer, c]))
        if not found:
            yield c, name, (NOTHING, "", NOTHING, last, NOTHING, NOTHING, found.reason)
            continue
        span = "" if found.epoch_interval is None else f"{count(found.epoch_interval[0])}\u2013{count(found.epoch_interval[1])}"
        rebound = NOTHING if found.rebound is None else f"{found.rebound:.2f}"
        error = percent(found.train_error, space=_SPACE)
        yield c, name, (count(found.epoch), span, readable(found.value), last, rebound, error, "")


def _without(curves: LayerCurves, layer: int) -> str:
    """Why some classes have no inversion in a layer, as a sentence; "" if all have one."""
    said = [f"{reason} ({count(times)})" for reason, times in reasons_without(curves.inversions[layer]).items()]
    return f"Classes without an inversion in {curves.layers[layer]}, by reason: {'; '.join(said)}." if said else ""


def _figures(curves: LayerCurves, n_classes: int) -> dict[str, Any]:
    """Everything that layers.js draws, of as many moments as a page has room for; those of inversions are kept."""
    n_layers = len(curves.layers)
    per_moment = n_layers * (n_classes + len(curves.statistics)) + len(curves.lines) + 2
    kept = _kept(curves, max(20, min(_DRAWN, _NUMBERS // per_moment)))
    lines = {name: values for name, values in curves.lines.items() if np.isfinite(values).any()}
    return {
        "unit": curves.unit,
        "layers": list(curves.layers),
        "classes": list(curves.classes[:n_classes]),
        "moment": curves.moments[kept].tolist(),
        "names": [curves.names[i] for i in kept],
        "statistics": [
            {
                "name": each.name,
                "log": each.logarithmic and bool((each.values[np.isfinite(each.values)] > 0).all()),
                "values": [rounded(each.values[kept, layer]) for layer in range(n_layers)],
            }
            for each in curves.statistics
        ],
        "radius": [[rounded(curves.radius[kept, layer, c]) for c in range(n_classes)] for layer in range(n_layers)],
        "inversion": [
            [_mark(curves.inversions[layer, c], curves.moments[kept]) for c in range(n_classes)] for layer in range(n_layers)
        ],
        "lines": [{"name": name, "values": rounded(values[kept])} for name, values in lines.items()],
    }


def _kept(curves: LayerCurves, most: int) -> NDArray[np.int64]:
    n = len(curves.moments)
    turns = {found.index for found in curves.inversions.flat if found} if n > most else set()
    spread = np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)
    return np.array(sorted({*spread.tolist(), *sorted(turns)[:most]}), np.int64)


def _mark(found: Any, moments: NDArray[Any]) -> dict[str, Any] | None:
    if not found:
        return None
    low, high = found.epoch_interval or (found.epoch, found.epoch)
    error = None if found.train_error is None else float(found.train_error)
    at = int(np.abs(moments - found.epoch).argmin())
    return {"at": at, "epoch": found.epoch, "low": low, "high": high, "value": float(found.value), "error": error}
