"""The report of a measurement: in words, in tables, and the numbers behind its figures."""

import math
import os
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.class_names import reading_order
from fastent.arrays.validation import which_rows
from fastent.measurement.metrics import MEANINGS, METRICS
from fastent.measurement.result import Measurement
from fastent.report.deepest import deepest
from fastent.report.map import Fact, Layout, MapSection, map_section
from fastent.report.page import COLORS, Headline, Page, option_rows, percent, room_beside, write_page
from fastent.runtime.formatting import NOTHING, Table, count, readable, readable_interval, rounded

__all__ = ["map_of", "write_measurement_report"]

# As many classes as a table and a figure can hold; of more, the most tangled.
_CLASSES = 40
_SMALLEST_MARGINS = 24
_BINS = 80


def write_measurement_report(
    measured: Measurement,
    path: str | os.PathLike[str],
    *,
    name: str = "Measurement",
    command: str | None = None,
    images: Any = None,
) -> None:
    """Write a measurement as one HTML page; `name` says what was measured, `command` reproduces it.

    images : (n, h, w) or (n, h, w, 3), pictures of the points, for a gallery of those deepest in another class and for the map.
    """
    places, counts = _places(measured, measured.queries), _counts(measured)
    order = _most_tangled(measured, places)
    figures = _figure_data(measured, places, counts, order)
    shown = deepest(measured, images, room_beside(figures) // 2)
    if shown is not None and shown.sheet is not None:
        sheet = shown.sheet
        figures |= {"gallery": shown.details, "sheet": {name: getattr(sheet, name) for name in ("width", "height", "columns")}}
        figures["names"] = measured.class_names
    mapped = map_of(measured, images, room_beside(figures) - (0 if shown is None or shown.sheet is None else shown.sheet.size))
    write_page(
        path,
        "measurement.html.j2",
        Page(
            title=f"{name}: how tangled the classes are",
            kicker=f"fastent measure \u00b7 {name}",
            headline=_headline(measured, places, counts),
            configuration=_config(measured),
            command=command,
            facts=_description(measured),
            notices=[f"{note[0].upper()}{note[1:]}." for note in measured.notes],
        ),
        figures | ({} if mapped is None else {"map": mapped.figure}),
        ("measurement.js", "gallery.js", "map.js"),
        map=mapped,
        gallery=shown,
        colors=COLORS,
        groups=_groups(measured),
        classes=_class_table(measured, places, counts, order),
        n_classes=len(measured.classes),
        ranked=any(part is not None for part in (measured.margins, measured.mixing, measured.silhouette)),
        smallest_margins=None if shown is not None else _smallest_margins(measured),
        matrix=measured.mixing is not None and measured.mixing.matrix is not None,
        purity=measured.mixing is not None,
        margins=measured.margins is not None,
        dimensions=_dimensions(measured),
        collapse=_collapse(measured),
        k=measured.k,
    )


def map_of(measured: Measurement, images: Any = None, room: int = 0, *, where: str = "") -> MapSection | None:
    """The section of a page with the maps of a measurement, of what `where` says."""
    codes = np.searchsorted(measured.classes, measured.labels)
    names, labels = measured.class_names, [str(label) for label in measured.classes.tolist()]
    facts = [] if labels == names else [Fact("label", labels, codes)]
    if measured.mixing is not None:
        votes = np.searchsorted(measured.classes, measured.mixing.vote)
        shares, of = np.unique(measured.mixing.purity, return_inverse=True)
        found = np.zeros((2, len(codes)), np.int64)
        found[:, measured.queries] = votes, of
        facts += [
            Fact("neighbours\u2019 vote", names, found[0]),
            Fact("neighbours of its class", [percent(share, 0) for share in shares], found[1]),
        ]
    other = f"most frequent class among their {measured.k} neighbours is another"
    if measured.mixing is None:
        other = "nearest neighbour is of another class"
    layouts = [Layout(each.title, f"{where}{each.title}:", each) for each in (measured.maps or {}).values()]
    rows = np.arange(len(codes))
    return map_section(
        layouts, codes, names, order=reading_order(measured.classes, names),
        rows=rows, facts=facts, marked=measured.outvoted, mark="outvoted",
        rings_mark=f"Rings mark points whose {other}.", images=images, room=room,
    )  # fmt: skip


def _headline(measured: Measurement, places: list[NDArray[np.int64]], counts: NDArray[np.int64]) -> Headline:
    sentences = []
    mixing, margins = measured.mixing, measured.margins
    if margins is not None:
        asked = len(margins.hit)
        wrong = round(margins.n3 * asked)
        lie = "lie nearest to a point of another class"
        if math.isclose(wrong, margins.n3 * asked, abs_tol=1e-6):
            sentences.append(f"{count(wrong)} of {count(asked)} points {lie}.")
        else:  # classes of a stratified sample weigh as among all rows
            sentences.append(f"{percent(margins.n3)} of the points {lie}, estimated from {count(asked)} of them.")
    if mixing is not None:
        title = (
            f"{percent(mixing.overlap)} of a point\u2019s {measured.k} nearest neighbours share its label; "
            f"chance would give {percent(mixing.chance)}."
        )
        worst = _worst_class(measured, places, counts)
        if worst is not None:
            name, purity, by_chance = worst
            found = f"there it is {percent(purity)}, by chance {percent(by_chance)}"
            sentences.append(f"Class {name} is the most tangled: {found}.")
        return Headline(title, tuple(sentences))
    if sentences:
        return Headline(sentences[0])
    if measured.silhouette is not None:
        return Headline(f"The mean silhouette is {measured.silhouette.intervals['exact'].value:.3f}.")
    first = next(iter(measured.summary().items()))
    return Headline(f"{METRICS[first[0].split('/')[0]].title}: {MEANINGS[first[0]]} {readable(first[1])}.")


def _worst_class(
    measured: Measurement, places: list[NDArray[np.int64]], counts: NDArray[np.int64]
) -> tuple[str, float, float] | None:
    assert measured.mixing is not None
    means = _class_means(measured.mixing.purity, places)
    # A class of fewer points than neighbours are asked for cannot be pure.
    means[counts <= measured.k] = np.nan
    if len(means) < 3 or np.isnan(means).all():
        return None
    worst = int(np.nanargmin(means))
    return measured.class_names[worst], float(means[worst]), float(measured.mixing.class_chance[worst])


def _description(measured: Measurement) -> list[str]:
    n, d = measured.shape
    parts = [f"{count(n)} points", f"{count(d)} features", f"{count(len(measured.classes))} classes"]
    if len(measured.queries) < n:
        parts.append(f"{count(len(measured.queries))} queries drawn from them")
    parts.append(which_rows(measured.normalize, measured.standardize))
    return [*parts, f"{sum(stage.seconds for stage in measured.stages):,.1f} s"]


def _groups(measured: Measurement) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """For each group its title and rows of name, value, interval and meaning."""
    intervals = measured.intervals()
    groups: dict[str, list[tuple[str, str, str, str]]] = {}
    for name, value in measured.summary().items():
        group, statistic = name.split("/")
        row = (statistic.replace("_", " "), readable(value), readable_interval(intervals.get(name)), MEANINGS[name])
        groups.setdefault(METRICS[group].title, []).append(row)
    return list(groups.items())


def _places(measured: Measurement, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """For each class the positions of its rows among these."""
    codes = np.searchsorted(measured.classes, measured.labels[rows])
    counts = np.bincount(codes, minlength=len(measured.classes))
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])


def _class_means(values: NDArray[np.float64], places: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Mean of the known values of each class; NaN where there are none."""
    known = [of[~np.isnan(of)] for of in (values[mine] for mine in places)]
    return np.array([of.mean() if len(of) else math.nan for of in known])


def _ranked_by(measured: Measurement, places: list[NDArray[np.int64]]) -> NDArray[np.float64] | None:
    """A mean for each class that is smallest where it is most tangled: of margins, or else of purity, or of silhouettes."""
    if measured.margins is not None:
        return _class_means(measured.margins.relative, places)
    if measured.mixing is not None:
        return _class_means(measured.mixing.purity, places)
    if measured.silhouette is not None:
        return _class_means(measured.silhouette.exact, _places(measured, measured.sampled))
    return None


def _most_tangled(measured: Measurement, places: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Numbers of the classes shown, in their order; of many the most tangled, or the first where nothing says which."""
    every = np.arange(len(measured.classes))
    means = _ranked_by(measured, places) if len(every) > _CLASSES else None
    shown = every[:_CLASSES] if means is None else np.sort(np.argsort(means, kind="stable")[:_CLASSES])
    return shown[reading_order(measured.classes, [measured.class_names[i] for i in shown])]


def _class_table(
    measured: Measurement, places: list[NDArray[np.int64]], counts: NDArray[np.int64], order: NDArray[np.int64]
) -> Table:
    headings = (
        "Class", "Points", "Gyration radius", "Neighbours of the same class", "By chance", "Most frequent other class",
        "Relative margin", "Silhouette",
    )  # fmt: skip
    of_capacity = ("Capacity (mean field)", "Anchor radius", "Anchor dimension") if measured.capacity is not None else ()
    of_sample = _places(measured, measured.sampled)
    margins = None if measured.margins is None else _class_means(measured.margins.relative, places)
    names = measured.class_names
    rows: list[tuple[str, ...]] = []
    for i in order.tolist():
        mine, its_sample = places[i], of_sample[i]
        purity = chance = other = margin = width = silhouette = NOTHING
        if measured.mixing is not None:
            chance = percent(float(measured.mixing.class_chance[i]))
        if measured.mixing is not None and len(mine):
            purity = percent(float(measured.mixing.purity[mine].mean()))
            if measured.mixing.matrix is not None:
                shares = measured.mixing.matrix[i].copy()
                shares[i] = -1
                worst = int(np.argmax(shares))
                other = f"{names[worst]} ({percent(shares[worst])})" if shares[worst] > 0 else "none"
        if margins is not None and len(mine):
            margin = readable(float(margins[i]))
        if measured.geometry is not None:
            width = readable(float(measured.geometry.radius[i]))
        if measured.silhouette is not None and len(its_sample):
            silhouette = readable(float(measured.silhouette.exact[its_sample].mean()))
        rows.append((names[i], count(counts[i]), width, purity, chance, other, margin, silhouette))
        if measured.capacity is not None:
            found = (measured.capacity.class_capacity, measured.capacity.radius, measured.capacity.dimension)
            rows[-1] += tuple(readable(float(each[i])) for each in found)
    return Table((*headings, *of_capacity), rows)


def _counts(measured: Measurement) -> NDArray[np.int64]:
    """Points of each class, among all rows."""
    return np.bincount(np.searchsorted(measured.classes, measured.labels), minlength=len(measured.classes))


def _smallest_margins(measured: Measurement) -> Table | None:
    margins = measured.margins
    if margins is None or not len(margins.relative):
        return None
    headings = (
        "Row", "Label", "Relative margin", "Nearest other class", "Row of the nearest point", "Neighbours of the same class",
    )  # fmt: skip
    worst = np.argsort(np.where(np.isnan(margins.relative), math.inf, margins.relative), kind="stable")[:_SMALLEST_MARGINS]
    rows: list[tuple[str, ...]] = []
    names, codes = measured.class_names, np.searchsorted(measured.classes, measured.labels)
    for place in worst:
        row, other = int(measured.queries[place]), int(margins.miss_index[place])
        purity = NOTHING if measured.mixing is None else percent(float(measured.mixing.purity[place]), 0)
        rows.append(
            (
                str(row), names[codes[row]], readable(float(margins.relative[place])), names[codes[other]],
                str(other), purity,
            )
        )  # fmt: skip
    return Table(headings, rows)


def _figure_data(
    measured: Measurement, places: list[NDArray[np.int64]], counts: NDArray[np.int64], order: NDArray[np.int64]
) -> dict[str, Any]:
    """Everything that measurement.js draws, as plain lists and numbers."""
    data: dict[str, Any] = {"classes": [measured.class_names[i] for i in order]}
    if measured.margins is not None:
        relative = measured.margins.relative
        heights, edges = np.histogram(relative[~np.isnan(relative)], _BINS, (-1, 1))
        data["histogram"] = {"counts": heights.tolist(), "edges": edges.round(6).tolist()}
        known = [of[~np.isnan(of)] for of in (relative[places[i]] for i in order)]
        quantiles = [np.quantile(of, (0.05, 0.25, 0.5, 0.75, 0.95)) if len(of) else [] for of in known]
        data["quantiles"] = [[round(float(value), 5) for value in each] for each in quantiles]
    if measured.mixing is not None:
        n = len(measured.labels)
        shown = counts[order]
        # Of what other points there are: a point is none of its own neighbours.
        data["chance"] = {"own": rounded(measured.mixing.class_chance[order], ".6f"), "other": rounded(shown / (n - 1), ".6f")}
        means = np.column_stack([measured.mixing.class_purity, measured.mixing.class_intervals])
        data["purity"] = [rounded(means[i], ".6f") if len(places[i]) else [None, None, None] for i in order]
        if measured.mixing.matrix is not None:
            data["matrix"] = [rounded(row, ".6f") for row in measured.mixing.matrix[np.ix_(order, order)]]
    if measured.dimension:
        per_class = {name: part.per_class for name, part in measured.dimension.items() if part.per_class is not None}
        data["dimension"] = {name: rounded(of[order], ".6f") for name, of in per_class.items()}
    if measured.geometry is not None:
        data["cdnv"] = [rounded(row, ".6f") for row in measured.geometry.cdnv[np.ix_(order, order)]]
    return data


def _dimensions(measured: Measurement) -> list[tuple[str, str]]:
    """The methods that know the intrinsic dimension of each class, and what they find for all points."""
    parts = (measured.dimension or {}).items()
    return [(name, readable(part.value)) for name, part in parts if part.per_class is not None]


def _collapse(measured: Measurement) -> list[tuple[str, str, str]]:
    """Name, value and meaning of the statistics of how far the classes have collapsed to points."""
    found = measured.summary()
    names = ("geometry/nc1", "geometry/nc2_norm_spread", "geometry/nc2_angle_deviation", "geometry/cdnv")
    return [(name.split("/")[1].replace("_", " "), readable(found[name]), MEANINGS[name]) for name in names if name in found]


def _config(measured: Measurement) -> list[tuple[str, str]]:
    found = measured.as_json()
    names = ("points", "features", "queries", "sampled", "k", "normalize", "standardize", "fingerprint")
    seconds = [(stage.name, f"{stage.seconds:.2f} s") for stage in measured.stages]
    versions = [(package, version(package)) for package in ("fastent", "numpy", "numba")]
    options = option_rows({name: found[name] for name in names if found[name] is not None})
    return [*options, *seconds, *versions, ("python", platform.python_version()), ("machine", platform.machine())]
