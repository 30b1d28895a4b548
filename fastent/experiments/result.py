"""What every experiment returns: a claim, the verdict on it, a table, a picture, and all numbers."""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from fastent.io.files import atomic_path, output_folder, write_text
from fastent.plots.style import plain
from fastent.printable import printable
from fastent.runtime.plain import as_plain
from fastent.statistics.intervals import Estimate

if TYPE_CHECKING:
    import rich.console
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Result", "Table", "Verdict", "estimate_text", "percent_text"]

_SAID = {"yes": "Holds", "no": "Does not hold", "undecided": "Undecided"}


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

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the result with matplotlib, on `ax` or in a new figure; returns the figure and its axes."""
        from fastent.plots.figure import axes_of

        figure, axes = axes_of(ax)
        self.draw(axes)
        return figure, axes

    def titled(self, what: str = "") -> str:
        """What stands above a picture: the data's name, which is no formula, and what is drawn."""
        return plain(f"{self.config['data']}{what}")

    def as_json(self) -> dict[str, Any]:
        """Claim, verdict, numbers and configuration: plain types, null for what is NaN or infinite."""
        return {
            "experiment": self.name,
            "claim": self.claim,
            "holds": self.verdict.holds,
            "verdict": self.verdict.sentence,
            "numbers": as_plain(self.numbers()),
            "config": as_plain(self.config),
        }

    def save(self, folder: str | os.PathLike[str], *, asked: dict[str, Any] | None = None) -> None:
        """Write NAME.json and NAME.svg into a folder, which is made if it is missing.

        `asked` is kept in the JSON too: the options of the command line that it was asked with.
        """
        place = output_folder(folder)
        found = self.as_json() | ({} if asked is None else {"asked": asked})
        write_text(place / f"{self.name}.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
        self.save_picture(place / f"{self.name}.svg")

    def save_picture(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the ending says how: .svg, .pdf or .png."""
        import matplotlib
        from matplotlib.figure import Figure

        figure = Figure((7, 4.2), layout="constrained")
        self.draw(figure.subplots())
        with atomic_path(Path(path)) as temporary, matplotlib.rc_context({"svg.hashsalt": self.name}):
            figure.savefig(temporary, metadata={"Date": None} if Path(path).suffix == ".svg" else None)

    def __rich_console__(
        self, console: "rich.console.Console", options: "rich.console.ConsoleOptions"
    ) -> "rich.console.RenderResult":
        from rich.measure import Measurement
        from rich.text import Text

        from fastent.runtime.terminal import shown, stacked_table, text_table

        table = text_table(self.title, *self.table())
        if Measurement.get(console, options.update(width=1000), table).minimum > options.max_width:
            table = stacked_table(self.title, *self.table())  # where words would be cut
        yield table
        yield shown(f"Claim: {self.claim}")
        yield Text.assemble((f"{_SAID[self.verdict.holds]}.", "bold"), " ", shown(self.verdict.sentence))

    def _repr_html_(self) -> str:
        from fastent.runtime.notebook import html_table

        content = self.table()
        notes = (content.note, f"Claim: {self.claim}", f"{_SAID[self.verdict.holds]}. {self.verdict.sentence}")
        return html_table(self.title, content.headings, content.rows, notes)

    def __repr__(self) -> str:
        return printable(f"{type(self).__name__}({self.config['data']}, {self.config['seeds']} seeds: {self.verdict.sentence})")


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
