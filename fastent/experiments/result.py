"""What every experiment returns (a claim, the verdict on it, table, picture, numbers), and eps*, which all of them compare."""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.io.files import atomic_path, output_folder, write_text
from fastent.plots.style import plain
from fastent.printable import printable
from fastent.runtime.formatting import Table, as_plain, estimate_text, html_table
from fastent.statistics.intervals import Estimate, student_mean

if TYPE_CHECKING:
    import rich.console
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastent.training.run import Run

__all__ = [
    "ANSWERS", "HOLDS", "LONG_ENOUGH", "NEAR", "NEGLIGIBLE", "TURNING", "Holds", "Result", "Table", "Verdict", "below",
    "critical_errors", "critical_test_errors", "joined", "mark_inversion", "mean_of_found", "mean_share", "near", "overall",
    "points_text", "reasons_text", "still_open", "usual_critical_errors",
]  # fmt: skip

Holds = Literal["yes", "no", "undecided"]
HOLDS = {"yes": "Holds", "no": "Does not hold", "undecided": "Undecided"}
# The same of a question.
ANSWERS = {"yes": "Yes", "no": "No", "undecided": "Undecided"}
# Training errors are near each other if they differ by no more than this factor.
NEAR = 1.33
# A difference of test errors is negligible below this share of the test error that it is compared with.
NEGLIGIBLE = 0.1
# Where fewer of the networks have an inversion, those that have one are a selection.
TURNING = 0.9
# A curve that is still falling when training ends may turn later, which leaves the question open; but not where it was trained
# for this many times the epoch at which such curves usually turn: then it counts as a curve that does not.
LONG_ENOUGH = 20


class Verdict(NamedTuple):
    """Whether a claim holds on these data with these networks, and the figure that says so."""

    holds: Holds
    sentence: str


def below(estimate: Estimate, limit: float) -> Holds:
    """Whether an estimate is below a limit, as far as its interval tells."""
    return "yes" if estimate.high < limit else "no" if estimate.low >= limit else "undecided"


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


def still_open(reason: str, last_epoch: float, usual_epoch: float) -> bool:
    """Whether a curve without a turn, for this reason, may have one later, and was trained for less than is enough."""
    from fastent.training.tables import may_turn_later

    return may_turn_later(reason) and last_epoch < LONG_ENOUGH * usual_epoch


def critical_errors(run: "Run", layer: int = -1) -> NDArray[np.float64]:
    """(S,) eps* of each network: the mean over classes of the training error at the class's inversion; NaN without one."""
    mean: NDArray[np.float64] = _by_class(run, layer).mean(1)
    return mean


def critical_test_errors(run: "Run", layer: int = -1) -> NDArray[np.float64]:
    """(S,) the same of the test error, taken on the line between the measurements before and after the inversion."""
    found = [
        [float(np.interp(i.epoch, run.test_epoch, errors)) if i else np.nan for i in row]
        for row, errors in zip(run.inversion[:, layer], run.test_error, strict=True)
    ]
    mean: NDArray[np.float64] = np.array(found).mean(1)
    return mean


def usual_critical_errors(run: "Run") -> NDArray[np.float64]:
    """The same of those classes alone that have an inversion in at least half of the networks; NaN where there are none."""
    errors = _by_class(run, -1)
    usual = np.isfinite(errors).mean(0) >= 0.5
    mean: NDArray[np.float64] = errors[:, usual].mean(1) if usual.any() else np.full(len(errors), np.nan)
    return mean


def _by_class(run: "Run", layer: int) -> NDArray[np.float64]:
    """(S, C), NaN without an inversion."""
    return np.array([[i.train_error if i else np.nan for i in row] for row in run.inversion[:, layer]])


def mean_of_found(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean eps* over the last axis, of the networks that have an inversion; NaN where none has."""
    counts = (~np.isnan(errors)).sum(-1)
    means: NDArray[np.float64] = np.where(counts > 0, np.nansum(errors, axis=-1) / np.maximum(counts, 1), np.nan)
    return means


def mean_share(shares: NDArray[np.float64]) -> Estimate:
    """Mean of independent shares (n,), such as eps*, with Student's interval, which does not leave [0, 1]."""
    mean = student_mean(shares, least=0)
    return mean._replace(high=min(mean.high, 1.0)) if mean.high > 1 else mean


def points_text(difference: Estimate) -> str:
    """A difference of shares in percentage points, with its sign."""
    return estimate_text(Estimate(*(100 * figure for figure in difference)), signed=True)


def reasons_text(runs: "Sequence[Run]", layer: int = -1) -> str:
    """Why radii in a hidden layer, by default the last, have no inversion, with counts."""
    reasons: dict[str, int] = {}
    for run in runs:
        for found in run.inversion_summary(layer):
            for reason, n in found.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + n
    return ", ".join(f"{reason} ({n})" for reason, n in reasons.items())


def mark_inversion(axes: "Axes", critical_error: Estimate, color: str, *, interval: bool = False) -> None:
    """Mark the training error of the inversion, if there is one, on an axis of training errors."""
    value, _, low, high = critical_error
    if math.isnan(value):
        return
    axes.axvline(value, color=color, label="inversion")
    if interval and not math.isnan(low):
        axes.axvspan(low, high, color=color, alpha=0.2, linewidth=0)


@dataclass(frozen=True, eq=False, repr=False)
class Result(ABC):
    """A finished experiment.

    Attributes
    ----------
    config : dict
        Data, networks and options, JSON throughout.
    name, title, claim : str
        What the experiment is called, and what the source paper claims.
    """

    config: dict[str, Any]
    name: ClassVar[str]
    title: ClassVar[str]
    claim: ClassVar[str]

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """Whether the claim holds here."""

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
        yield Text.assemble((f"{HOLDS[self.verdict.holds]}.", "bold"), " ", shown(self.verdict.sentence))
        for question, (holds, sentence) in self.further.items():
            yield Text.assemble(shown(question), " ", (f"{ANSWERS[holds]}.", "bold"), " ", shown(sentence))

    def _repr_html_(self) -> str:
        content = self.table()
        further = [f"{question} {ANSWERS[holds]}. {sentence}" for question, (holds, sentence) in self.further.items()]
        notes = (content.note, f"Claim: {self.claim}", f"{HOLDS[self.verdict.holds]}. {self.verdict.sentence}", *further)
        return html_table(self.title, content.headings, content.rows, notes)

    def __repr__(self) -> str:
        return printable(f"{type(self).__name__}({self.config['data']}, {self.config['seeds']} seeds: {self.verdict.sentence})")
