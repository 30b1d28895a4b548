"""What every experiment returns: a claim, the verdict on it, table, picture, numbers."""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from fastent.io.files import atomic_path, output_folder, write_text
from fastent.io.tabular import Tabular
from fastent.plots.style import plain
from fastent.printable import printable
from fastent.runtime.formatting import Table, as_plain, estimate_text, html_table
from fastent.statistics.intervals import Estimate

if TYPE_CHECKING:
    import pyarrow as pa
    import rich.console
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ANSWERS", "HOLDS", "NEAR", "NEGLIGIBLE", "Holds", "Result", "Table", "Verdict", "below", "exceeds", "joined",
    "mark_inversion", "near", "overall", "points_text",
]  # fmt: skip

Holds = Literal["yes", "no", "undecided"]
HOLDS = {"yes": "Holds", "no": "Does not hold", "undecided": "Undecided"}
# The same of a question.
ANSWERS = {"yes": "Yes", "no": "No", "undecided": "Undecided"}
# Training errors are near each other if they differ by no more than this factor.
NEAR = 1.33
# A difference of test errors is negligible below this share of the test error that it is compared with.
NEGLIGIBLE = 0.1


class Verdict(NamedTuple):
    """Whether a claim holds on these data with these networks, and the figure that says so."""

    holds: Holds
    sentence: str


def below(estimate: Estimate, limit: float) -> Holds:
    """Whether an estimate is below a limit, as far as its interval tells; one without width, of equal values, is no yes."""
    return "yes" if estimate.low < estimate.high < limit else "no" if estimate.low >= limit else "undecided"


def near(ratio: Estimate) -> Holds:
    """Whether two training errors of this ratio are near each other, as far as its interval tells."""
    if ratio.low > NEAR or ratio.high < 1 / NEAR:
        return "no"
    return "yes" if ratio.low > 1 / NEAR and ratio.high < NEAR else "undecided"


def overall(verdicts: Iterable[Holds]) -> Holds:
    """Whether all hold; one that does not is enough for no."""
    found = set(verdicts)
    return "no" if "no" in found else "yes" if found == {"yes"} else "undecided"


def joined(answers: dict[str, Verdict]) -> Verdict:
    """One verdict on several questions, with the answer to each; one that is answered by no is enough for no."""
    said = (f"{question} {verdict.holds.capitalize()}. {verdict.sentence}" for question, verdict in answers.items())
    return Verdict(overall(verdict.holds for verdict in answers.values()), " ".join(said))


def exceeds(difference: Estimate, negligible: float) -> Holds:
    """Whether a difference is positive by more than is negligible, as far as its interval tells: one below that is no.

    Test errors are multiples of one over the number of points, so that those of a few networks may differ equally by chance: an
    interval without width, which does not tell how far other networks would be, is no yes.
    """
    if difference.high < negligible:
        return "no"
    return "yes" if 0 < difference.low < difference.high else "undecided"


def points_text(difference: Estimate) -> str:
    """A difference of shares in percentage points, with its sign."""
    return estimate_text(Estimate(*(100 * figure for figure in difference)), signed=True)


def mark_inversion(axes: "Axes", critical_error: Estimate, color: str, *, interval: bool = False) -> None:
    """Mark the training error of the inversion, if there is one, on an axis of training errors."""
    value, _, low, high = critical_error
    if math.isnan(value):
        return
    axes.axvline(value, color=color, label="inversion")
    if interval and not math.isnan(low):
        axes.axvspan(low, high, color=color, alpha=0.2, linewidth=0)


@dataclass(frozen=True, eq=False, repr=False)
class Result(Tabular, ABC):
    """A finished experiment.

    Attributes
    ----------
    config : dict
        Data, networks and options, JSON throughout.
    name, title, claim : str
        What the experiment is called, and what is claimed.
    of_paper : bool
        Whether the source paper claims it.
    """

    config: dict[str, Any]
    name: ClassVar[str]
    title: ClassVar[str]
    claim: ClassVar[str]
    of_paper: ClassVar[bool] = True

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """Whether the claim holds here."""

    @property
    def claimed(self) -> str:
        """The claim, and whose it is."""
        return f"{'Claim' if self.of_paper else 'Not claimed by the paper'}: {self.claim}"

    @property
    def answers(self) -> dict[str, Verdict]:
        """The questions that the experiment asks, each with its own verdict; the claim alone where it is the only one."""
        return {self.claim: self.verdict}

    @property
    def further(self) -> dict[str, Verdict]:
        """Those beside the claim, which do not enter `verdict`; none where the verdict joins questions asked in its place."""
        answers = self.answers
        return {question: each for question, each in answers.items() if self.claim in answers and question != self.claim}

    @abstractmethod
    def table(self) -> Table:
        """The result as people read it; as a data frame it is text throughout, and `numbers()` has the figures."""

    def _arrow(self, *kind: str) -> "pa.Table":
        import pyarrow as pa

        headings, rows, _ = self.table(*kind)
        return pa.table([pa.array([row[i] for row in rows], pa.string()) for i in range(len(headings))], list(headings))

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Every number of the result under its name: floats, estimates, arrays and dicts of these."""

    @abstractmethod
    def draw(self, axes: "Axes") -> None:
        """Draw the result."""

    @property
    def drawings(self) -> "tuple[Callable[[Axes], None], ...]":
        """What draws each picture of the result on axes, the main one first."""
        return (self.draw,)

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the result with matplotlib, on `ax` or in a new figure; returns the figure and its axes."""
        from fastent.plots.figure import axes_of

        figure, axes = axes_of(ax)
        self.draw(axes)
        return figure, axes

    def titled(self, what: str = "") -> str:
        """The title of a picture: the name of the data, in which no formula is read, and what is drawn."""
        return plain(f"{self.config['data']}{what}")

    def as_json(self) -> dict[str, Any]:
        """Claim, verdict, numbers and configuration: plain types, null for what is NaN or infinite."""
        return {
            "experiment": self.name,
            "claim": self.claim,
            "holds": self.verdict.holds,
            "verdict": self.verdict.sentence,
            "answers": {question: as_plain(verdict) for question, verdict in self.answers.items()},
            "numbers": as_plain(self.numbers()),
            "config": as_plain(self.config),
        }

    def save(self, folder: str | os.PathLike[str], *, asked: dict[str, Any] | None = None) -> None:
        """Write NAME.json and NAME.svg into a folder, which is made if it is missing.

        `asked`, the options of the command line, is kept in the JSON too.
        """
        place = output_folder(folder)
        found = self.as_json() | ({} if asked is None else {"asked": asked})
        write_text(place / f"{self.name}.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
        self.save_picture(place / f"{self.name}.svg")

    def save_picture(self, path: str | os.PathLike[str], drawing: int = 0) -> None:
        """Write a picture, by default the main one; the ending says how: .svg, .pdf or .png."""
        import matplotlib
        from matplotlib.figure import Figure

        figure = Figure((7, 4.2), layout="constrained")
        self.drawings[drawing](figure.subplots())
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
        yield shown(self.claimed)
        yield Text.assemble((f"{HOLDS[self.verdict.holds]}.", "bold"), " ", shown(self.verdict.sentence))
        for question, (holds, sentence) in self.further.items():
            yield Text.assemble(shown(question), " ", (f"{ANSWERS[holds]}.", "bold"), " ", shown(sentence))

    def _repr_html_(self) -> str:
        content = self.table()
        further = [f"{question} {ANSWERS[holds]}. {sentence}" for question, (holds, sentence) in self.further.items()]
        notes = (content.note, self.claimed, f"{HOLDS[self.verdict.holds]}. {self.verdict.sentence}", *further)
        return html_table(self.title, content.headings, content.rows, notes)

    def __repr__(self) -> str:
        return printable(f"{type(self).__name__}({self.config['data']}, {self.config['seeds']} seeds: {self.verdict.sentence})")
