"""Do the classes turn, and always at the same training error?"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.result import Result, Table, Verdict, estimate_text, percent_text
from fastent.experiments.setting import Setting
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import coefficient_of_variation, student_mean
from fastent.training.reasons import ended_too_early
from fastent.training.run import Run
from fastent.training.tables import epoch_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Dynamics", "critical_errors", "dynamics", "mean_of_found", "reasons_text", "usual_critical_errors"]

# The claim of stability: the spread of eps* over seeds, as a share of its mean.
_STABLE = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Dynamics(Result):
    """Segregation, inversion and entanglement of each class in each hidden layer, over seeds.

    Attributes
    ----------
    run : Run
        With all curves; `run.save` keeps it.
    critical_error : (L, C) of Estimate
        eps*, the training error at the inversion, in [0, 1]: mean over the seeds that have one, with its interval.
    variation : (L, C) float64
        Coefficient of variation of eps* over seeds (ddof 1); NaN for fewer than two.
    variation_of_mean : (L,) of Estimate
        The same of each network's eps*, the mean over its classes, with its interval.
    share : (L, C) float64
        Share of the seeds that have an inversion.
    rebound : (L, C) of Estimate
        How much of the fall of the radius the rise after the inversion undoes: 0 nothing, 1 all.
    """

    run: Run
    critical_error: Any
    variation: NDArray[np.float64]
    variation_of_mean: Any
    share: NDArray[np.float64]
    rebound: Any

    name = "dynamics"
    title = "Segregation, inversion, entanglement"
    claim = "Training first segregates the classes, then entangles them again; the training error at the turn varies little."

    @property
    def verdict(self) -> Verdict:
        share, variation = self.share[-1], self.variation_of_mean[-1]
        # A radius that still falls where the epochs end may turn yet.
        missing: Literal["no", "undecided"] = "undecided" if ended_too_early(self.run.inversion_summary()) else "no"
        if not share.any():
            return Verdict(missing, f"No inversion in the last hidden layer: {reasons_text([self.run])}.")
        said = f"{percent_text(share.mean(), 0)} of the radii in the last hidden layer have an inversion"
        spread = (
            "the coefficient of variation over seeds of its training error is "
            f"{estimate_text(variation, percent=True, digits=1)}; stable means below {percent_text(_STABLE, 0)}"
        )
        if share.min() < 1:
            known = "" if math.isnan(variation.value) else f"; {spread}"
            return Verdict(missing, f"{said}: {reasons_text([self.run])}{known}.")
        if math.isnan(variation.low):
            why = "one network does" if self.run.n_seeds == 1 else "networks without an error there do"
            return Verdict("undecided", f"{said}; {why} not tell how stable its training error is.")
        holds: Literal["yes", "no", "undecided"] = "undecided"
        if variation.high < _STABLE or variation.low >= _STABLE:
            holds = "yes" if variation.high < _STABLE else "no"
        return Verdict(holds, f"{said}; {spread}.")

    def table(self) -> Table:
        rows: list[tuple[str, ...]] = []
        for layer, c in np.ndindex(*self.share.shape):
            found = self.run.inversion_summary(layer)[c]
            rows.append(
                (
                    self.run.class_names[c],
                    str(layer + 1),
                    f"{found.found}/{found.seeds}",
                    estimate_text(self.critical_error[layer, c], percent=True),
                    percent_text(float(self.variation[layer, c]), 1),
                    "\u2013" if found.epoch is None else epoch_of(self.run, found.epoch),
                    estimate_text(self.rebound[layer, c]),
                    ", ".join(f"{reason} ({n})" for reason, n in found.reasons.items()),
                )
            )
        headings = (
            "class",
            "hidden layer",
            "seeds",
            "eps* (95 % interval)",
            "variation",
            "epoch",
            "rebound",
            "without, because",
        )
        note = (
            "eps*: training error at the inversion. Variation: of eps* over seeds. Rebound: share of the radius's fall undone."
        )
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        layers, classes = self.share.shape
        return {
            f"layer {layer + 1}": {"variation_of_mean": self.variation_of_mean[layer]}
            | {
                self.run.class_names[c]: {
                    "seeds_with_inversion": self.share[layer, c],
                    "critical_error": self.critical_error[layer, c],
                    "variation": self.variation[layer, c],
                    "rebound": self.rebound[layer, c],
                    "reasons": self.run.inversion_summary(layer)[c].reasons,
                }
                for c in range(classes)
            }
            for layer in range(layers)
        }

    def draw(self, axes: "Axes") -> None:
        self.run.plot(against="train_error", ax=axes)


def dynamics(
    data: Any = "digits",
    *,
    seeds: int = 10,
    seed: int = 0,
    preset: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = None,
    **options: Any,
) -> Dynamics:
    """Train from many seeds; find the inversion of each class in each hidden layer, and how stable it is.

    Parameters
    ----------
    data, seeds, seed
        As for `fe.train`.
    preset : "paper", optional
        The source paper's set-up: the first 8192 points, classes by parity, 20 tanh units.
    out : path, optional
        A folder in which finished parts are kept: what is interrupted goes on from there, to the same bits.
    progress : bool or callable
    **options
        Any further options of `fe.load_data` and `fe.train`.

    Returns
    -------
    Dynamics

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    run = setting.train("dynamics")
    n_layers, n_classes = run.radius.shape[2:]
    critical_error, rebound = np.empty((n_layers, n_classes), object), np.empty((n_layers, n_classes), object)
    variation, share = np.full((n_layers, n_classes), np.nan), np.zeros((n_layers, n_classes))
    for layer, c in np.ndindex(n_layers, n_classes):
        found = [(s, i) for s, i in enumerate(run.inversion[:, layer, c]) if i]
        errors = np.array([i.train_error for _, i in found])
        share[layer, c] = len(found) / run.n_seeds
        critical_error[layer, c] = student_mean(errors, least=0)
        variation[layer, c] = coefficient_of_variation(errors).value
        rebound[layer, c] = student_mean(np.array([i.rebound for _, i in found]))
    of_mean = np.empty(n_layers, object)
    for layer in range(n_layers):
        of_mean[layer] = coefficient_of_variation(critical_errors(run, layer))
    return Dynamics(setting.config, run, critical_error, variation, of_mean, share, rebound)


def critical_errors(run: Run, layer: int = -1) -> NDArray[np.float64]:
    """(S,) eps* of each network: the mean over classes of the training error at the class's inversion; NaN without one."""
    return np.array([np.mean([i.train_error if i else np.nan for i in row]) for row in run.inversion[:, layer]])


def usual_critical_errors(run: Run) -> NDArray[np.float64]:
    """The same of those classes alone that have an inversion in at least half of the networks; NaN where there are none."""
    errors = np.array([[i.train_error if i else np.nan for i in row] for row in run.inversion[:, -1]])
    usual = np.isfinite(errors).mean(0) >= 0.5
    mean: NDArray[np.float64] = errors[:, usual].mean(1) if usual.any() else np.full(len(errors), np.nan)
    return mean


def mean_of_found(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean eps* over the last axis, of the networks that have an inversion; NaN where none has."""
    counts = (~np.isnan(errors)).sum(-1)
    means: NDArray[np.float64] = np.where(counts > 0, np.nansum(errors, axis=-1) / np.maximum(counts, 1), np.nan)
    return means


def reasons_text(runs: Sequence[Run]) -> str:
    """Why radii in the last hidden layer have no inversion, with counts."""
    reasons: dict[str, int] = {}
    for run in runs:
        for found in run.inversion_summary():
            for reason, n in found.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + n
    return ", ".join(f"{reason} ({n})" for reason, n in reasons.items())
