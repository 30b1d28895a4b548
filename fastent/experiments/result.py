"""What every experiment returns: a claim, the verdict on it, a table, a picture, and all numbers."""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from fastent.files import atomic_path, output_folder, write_text
from fastent.intervals import Estimate

if TYPE_CHECKING:
    import rich.console
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "Result", "Table", "Verdict", "error_axis", "estimate_text", "percent_text"]

# Of Okabe and Ito: can be told apart by everybody.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6f75")


class Verdict(NamedTuple):
    """Whether a claim holds on these data with these networks, and the figure that says so."""

    holds: Literal["yes", "no", "undecided"]
    sentence: str


class Table(NamedTuple):
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Result(ABC):
    """A finished experiment.

    Attributes
    ----------
    config : dict
        Data, networks and options, JSON throughout.
    name, title, claim : str
        Of the experiment; the claim is what the source paper says.
    """

    config: dict[str, Any]
    name: ClassVar[str]
    title: ClassVar[str]
    claim: ClassVar[str]

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """Whether the claim holds here."""

    @abstractmethod
    def table(self) -> Table:
        """The result as people read it."""

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Every number of the result under its name: floats, estimates, arrays and dicts of these."""

    @abstractmethod
    def draw(self, axes: "Axes") -> None:
        """Draw the result."""

    def plot(self) -> "tuple[Figure, Axes]":
        """Draw the result with matplotlib; returns the figure and its axes."""
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
        self.draw(axes)
        return figure, axes

    def as_json(self) -> dict[str, Any]:
        """Claim, verdict, numbers and configuration: plain types, null for what is NaN or infinite."""
        return {
            "experiment": self.name,
            "claim": self.claim,
            "holds": self.verdict.holds,
            "verdict": self.verdict.sentence,
            "numbers": _plain(self.numbers()),
            "config": _plain(self.config),
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write NAME.json and NAME.svg into a folder, which is made if it is missing."""
        place = output_folder(folder)
        write_text(place / f"{self.name}.json", json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n")
        self.save_picture(place / f"{self.name}.svg")

    def save_picture(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the ending says how: .svg, .pdf or .png."""
        import matplotlib
        from matplotlib.figure import Figure

        figure = Figure((7, 4.2), layout="constrained")
        self.draw(figure.subplots())
        with atomic_path(Path(path)) as temporary, matplotlib.rc_context({"svg.hashsalt": self.name}):
            figure.savefig(temporary, metadata={"Date": None} if Path(path).suffix == ".svg" else None)

    def __rich__(self) -> "rich.console.Group":
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table as RichTable

        content = self.table()
        shown = RichTable(title=escape(self.title), caption=escape(content.note) or None)
        for i, heading in enumerate(content.headings):
            shown.add_column(escape(heading), justify="right" if i else "left")
        for row in content.rows:
            shown.add_row(*map(escape, row))
        mark = {"yes": "Holds", "no": "Does not hold", "undecided": "Undecided"}[self.verdict.holds]
        return Group(shown, escape(f"Claim: {self.claim}"), f"[bold]{mark}.[/bold] {escape(self.verdict.sentence)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config['data']}, {self.config['seeds']} seeds: {self.verdict.sentence})"


def error_axis(axes: "Axes", n: int) -> None:
    """Training error of n points along x: logarithmic, falling to the right, with a place for 0 where there is any."""
    axes.set_xlabel("training error")
    axes.grid(alpha=0.25)
    least, most = axes.dataLim.intervalx
    if not (math.isfinite(least) and math.isfinite(most)):
        return  # nothing is drawn
    most = max(most, 1 / n)
    axes.set_xscale("symlog", linthresh=1 / n, linscale=0.4)
    ticks = [factor * 10.0**-power for power in range(1, 6) for factor in (5, 2, 1)]
    ticks = [tick for tick in ticks if max(least, 2 / n) <= tick <= most]
    if len(ticks) > 7:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    if least < 1 / n:
        ticks.append(0)
        axes.set_xlim(1.15 * most, 0)
    else:
        axes.set_xlim(1.15 * most, least / 1.15)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)


def percent_text(share: float | None, digits: int = 2) -> str:
    return "\u2013" if share is None or math.isnan(share) else f"{100 * share:.{digits}f} %"


def estimate_text(estimate: Estimate, *, percent: bool = False, digits: int = 2) -> str:
    """value (low to high), or the value alone where there is no interval."""
    value, _, low, high = estimate
    if math.isnan(value):
        return "\u2013"
    scale, unit = (100, " %") if percent else (1, "")
    if math.isnan(low) or math.isnan(high):
        return f"{scale * value:.{digits}f}{unit}"
    return f"{scale * value:.{digits}f}{unit} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def _plain(value: Any) -> Any:
    import numpy as np

    if isinstance(value, Estimate):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
