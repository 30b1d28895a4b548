"""Which measures of entanglement turn where the radii do, and which never do?"""

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.critical import counted, critical_errors
from fastent.experiments.result import NEAR, Holds, Result, Table, Verdict, mark_inversion, near, overall
from fastent.experiments.setting import Setting, spaced_epochs
from fastent.io.result_cache import Arrays
from fastent.options import whole_number
from fastent.plots.style import COLORS, error_axis
from fastent.runtime.formatting import estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.search.neighbors import neighbors
from fastent.statistics.geometry import geometry
from fastent.statistics.intervals import Estimate, student_mean, wilson
from fastent.statistics.inversion import find_inversion
from fastent.statistics.margins import margins
from fastent.statistics.mixing import mixing
from fastent.statistics.silhouette import silhouette
from fastent.statistics.soft_nearest_neighbor import soft_nearest_neighbor_loss
from fastent.statistics.turning import LEAST_RECORDS
from fastent.training.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Entanglement", "entanglement"]


class View(NamedTuple):
    """A measure of entanglement: which extremum is its turn, whether it is of how widely the classes spread, and in words."""

    kind: Literal["min", "max"]
    spread: bool
    words: str


_VIEWS = {
    "radius": View("min", True, "mean gyration radius"),
    "distance": View("max", True, "mean distance of class means"),
    "CDNV": View("min", True, "(s_a^2 + s_b^2) / (2 |m_a - m_b|^2), mean over pairs of classes"),
    "Fisher": View("max", True, "between-class over within-class scatter, traces"),
    "silhouette": View("max", True, "to class means (simplified), mean"),
    "soft nearest neighbour loss": View("min", True, "at the median squared distance"),
    "overlap": View("max", False, "share of the 10 nearest neighbours with the same label, classes weighing equally"),
    "relative margin": View("max", False, "(miss - hit) / (miss + hit), mean"),
    "NC1": View("min", False, "tr(S_W S_B^+) / C"),
    "nearest-mean error": View("min", False, "share of points nearer to the mean of another class"),
}
_OTHERS = tuple(name for name in _VIEWS if name != "radius")
# Each of the other views has a question of its own: their intervals hold together.
_CONFIDENCE = 1 - 0.05 / len(_OTHERS)
_MEASURED = _OTHERS[1:]  # radii and distances are recorded
_SAMPLED_ABOVE = 10_000
_NEIGHBORS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Entanglement(Result):
    """Measures of entanglement of the last hidden layer along training, rows of unit length.

    Attributes
    ----------
    epoch : (T,) int64
    train_error : (S, T) float64
    curves : dict of (S, T) float64
        "radius", "distance", "CDNV", "Fisher", "silhouette", "soft nearest neighbour loss", "overlap" (chi), "relative margin",
        "NC1", "nearest-mean error".
    turn : dict of Estimate
        Training error where each turns, mean over the networks in which it does.
    ratio : dict of Estimate
        That, divided by the training error at which the mean radius turns, paired over networks (geometric mean). Intervals are
        of 99.4 %, Bonferroni's for nine measures.
    found : dict of float
        Share of the networks in which each turns.
    reasons : dict of str
        Why it does not in the others.
    critical_error : Estimate
        eps* from all epochs, mean over classes.
    """

    epoch: NDArray[np.int64]
    train_error: NDArray[np.float64]
    curves: dict[str, NDArray[np.float64]]
    turn: dict[str, Estimate]
    ratio: dict[str, Estimate]
    found: dict[str, float]
    reasons: dict[str, str]
    critical_error: Estimate

    name = "entanglement"
    title = "Other measures of entanglement along training"
    claim = (
        "Measures of how widely the classes spread turn where the radii do; measures of how purely their points are separated "
        "do not."
    )
    of_paper = False

    @property
    def verdict(self) -> Verdict:
        if np.isnan(self.turn["radius"].value):
            return Verdict("undecided", f"The radii do not turn: {self.reasons['radius']}.")
        found = {name: self.near(name) for name in _OTHERS}
        parts = [
            f"{said}: {', '.join(self._said(name) for name in _OTHERS if found[name] == holds)}"
            for holds, said in (("yes", "with them turn"), ("no", "not with them"), ("undecided", "open"))
            if holds in found.values()
        ]
        said = (
            f"The radii turn at a training error of {estimate_text(self.turn['radius'], percent=True)}; {'; '.join(parts)}. "
            f"With them means in most networks, within a factor of {NEAR:g}; training ended at "
            f"{percent(float(self.train_error[:, -1].mean()))}."
        )
        opposite: dict[Holds, Holds] = {"yes": "no", "no": "yes", "undecided": "undecided"}
        return Verdict(overall(found[name] if _VIEWS[name].spread else opposite[found[name]] for name in _OTHERS), said)

    def _said(self, name: str) -> str:
        if not self.found[name]:
            return f"{name} (never: {self.reasons[name]})"
        return f"{name} (in {percent(self.found[name], 0)} of the networks, at {estimate_text(self.ratio[name])} times that)"

    def near(self, name: str) -> Holds:
        """Whether a measure turns where the radius does, in most networks, as far as the intervals tell.

        What has not turned when training ends may do so later, but then not where the radius does, if the training error is
        already below what is near to it; otherwise that is open.
        """
        found, where = wilson(self.found[name], len(self.train_error), confidence=_CONFIDENCE), near(self.ratio[name])
        if where == "no":
            return "no"
        if found.high < 0.5:
            return "no" if self.train_error[:, -1].mean() < self.turn["radius"].value / NEAR else "undecided"
        return where if found.low > 0.5 else "undecided"

    def table(self) -> Table:
        rows = [
            (
                name,
                percent(self.found[name], 0),
                estimate_text(self.turn[name], percent=True),
                estimate_text(self.ratio[name]),
                self.reasons[name],
                _VIEWS[name].words,
            )
            for name in _VIEWS
        ]
        asked = self.config["sampled"]
        note = "Ratio: to the training error at which the radius turns, paired over networks, intervals together 95 %."
        note += f" Neighbours of {asked:,} sampled points." if asked else ""
        headings = ("measure", "networks that turn", "training error at the turn", "ratio", "reasons for no turn", "definition")
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "train_error": self.train_error.mean(0),
            "curves": {name: curve.mean(0) for name, curve in self.curves.items()},
            "turn": self.turn,
            "ratio": self.ratio,
            "networks_that_turn": self.found,
            "reasons": self.reasons,
            "critical_error": self.critical_error,
        }

    def draw(self, axes: "Axes") -> None:
        errors = self.train_error.mean(0)
        for i, (name, view) in enumerate(_VIEWS.items()):
            curve = self.curves[name].mean(0) * (1 if view.kind == "max" else -1)
            scaled = (curve - curve.min()) / max(np.ptp(curve), 1e-300)
            style: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "linestyle": "-" if view.spread else "--"}
            axes.plot(errors, scaled, **style, label=name + (" (negative)" if view.kind == "min" else ""))
        mark_inversion(axes, self.turn["radius"], "black", interval=True)
        axes.set(
            ylabel="from most tangled, 0, to least, 1",
            title=self.titled("; solid: spread, dashed: separation"),
        )
        error_axis(axes, self.config["training_points"])
        axes.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(1, 0))


def entanglement(
    data: Any = "digits", *, points: int = 40, queries: int = 2000,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Entanglement:  # fmt: skip
    """Measure how the classes spread and how purely they are separated along training, and find which measures turn.

    Parameters
    ----------
    data
        As for `dynamics`.
    points : int, default 40
        How many epochs to measure, spaced logarithmically, at least 10.
    queries : int, default 2000
        Number of query points if there are more than 10,000.
    seeds, seed, preset, out, progress, **options
        As for `dynamics`.

    Returns
    -------
    Entanglement

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Doimo et al., "Hierarchical nucleation in deep neural networks", 2020. Frosst et al., "Analyzing and improving
    representations with the soft nearest neighbor loss", 2019.
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    whole_number("points", points, minimum=LEAST_RECORDS)
    whole_number("queries", queries, minimum=1)
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    run = setting.train("entanglement")
    n, last = len(setting.data.y_train), setting.options["epochs"]
    sampled = queries if n > max(_SAMPLED_ABOVE, queries) else None
    epochs = [0, *spaced_epochs(1, last, points).tolist()]
    measured = setting.keep("measured", lambda: _measured(setting, epochs, sampled), epochs=epochs, sampled=sampled)
    positions = run.positions(epochs)
    train_error = run.train_error[:, positions]
    curves = {
        "radius": run.radius[:, positions, -1].mean(2),
        "distance": _mean_distance(run.distance[:, positions, -1]),
        **measured,
    }
    turns, reasons = {}, {}
    for name, view in _VIEWS.items():
        found = [
            find_inversion(
                epochs,
                curves[name][s],
                train_error[s],
                kind=view.kind,
                burn_in=run.burn_in / run.updates_per_epoch,
                min_rise=run.min_rise,
            )
            for s in range(setting.seeds)
        ]
        turns[name] = np.array([np.nan if i.train_error is None else i.train_error for i in found])
        reasons[name] = counted(Counter(i.reason for i in found if not i))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = {name: np.log(turns[name] / turns["radius"]) for name in _VIEWS}
    return Entanglement(
        config={**setting.config, "points": points, "sampled": sampled, "training_points": n},
        epoch=np.array(epochs),
        train_error=train_error,
        curves=curves,
        turn={name: student_mean(errors, least=0, most=1) for name, errors in turns.items()},
        ratio={
            name: _exponential(student_mean(np.where(np.isfinite(ratios), ratios, np.nan), confidence=_CONFIDENCE))
            for name, ratios in logs.items()
        },
        found={name: float((~np.isnan(errors)).mean()) for name, errors in turns.items()},
        reasons=reasons,
        critical_error=student_mean(critical_errors(run), least=0, most=1),
    )


def _measured(setting: Setting, epochs: list[int], sampled: int | None) -> Arrays:
    """Curves of all networks, (S, T) each.

    All are trained together, as they are in `setting.train`: the order of batches belongs to the training, not to a network.
    Measuring an epoch takes longer than training it, and each is kept, so that an interruption costs the training alone.
    """
    labels = setting.data.y_train
    pieces: list[Arrays] = []

    def observe(snapshot: Snapshot) -> None:
        if snapshot.epoch not in epochs:
            return

        def make() -> Arrays:
            return {"rows": np.array([measures(hidden) for hidden in snapshot.hidden()])}

        pieces.append(setting.keep("measured-at", make, epoch=snapshot.epoch, sampled=sampled))

    def measures(hidden: NDArray[Any]) -> list[float]:
        X = hidden.astype(np.float32)
        norms = np.linalg.norm(X, axis=1, keepdims=True)
        X = np.divide(X, norms, out=np.zeros_like(X), where=norms > 0)
        near = neighbors(X, min(_NEIGHBORS, len(X) - 1), queries=sampled, seed=setting.seed)
        of_classes = geometry(X, labels)
        found: dict[str, Any] = {
            "CDNV": _mean_distance(of_classes.cdnv),
            "Fisher": of_classes.fisher,
            "silhouette": float(silhouette(X, labels, method="simplified").mean()),
            "soft nearest neighbour loss": soft_nearest_neighbor_loss(X, labels, queries=sampled, seed=setting.seed).loss,
            "overlap": mixing(near, labels).balanced_overlap,
            "relative margin": float(np.nanmean(margins(X, labels, queries=sampled, seed=setting.seed).relative)),
            "NC1": of_classes.nc1,
            "nearest-mean error": _nearest_mean_error(X, labels, of_classes.means),
        }
        return [float(found[name]) for name in _MEASURED]

    setting.train_afresh("measured", observe=observe)
    # In the order in which files hold them: sums over other strides round differently.
    curves = np.ascontiguousarray(np.stack([piece["rows"] for piece in pieces]).transpose(2, 1, 0))
    return dict(zip(_MEASURED, curves, strict=True))


def _nearest_mean_error(X: NDArray[np.float32], labels: NDArray[np.int64], means: NDArray[np.float64]) -> float:
    """Share of the points that are nearer to the mean of another class; classes are 0, 1, ..."""
    # |x|^2 is the same for all means.
    return float(((2 * (X @ means.T) - (means**2).sum(1)).argmax(1) != labels).mean())


def _mean_distance(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over pairs of classes of what has 0 on the diagonal."""
    n_classes = distance.shape[-1]
    mean: NDArray[np.float64] = distance.sum((-1, -2)) / (n_classes * (n_classes - 1))
    return mean


def _exponential(estimate: Estimate) -> Estimate:
    value, error, low, high = estimate
    return Estimate(float(np.exp(value)), float(np.exp(value) * error), float(np.exp(low)), float(np.exp(high)))
