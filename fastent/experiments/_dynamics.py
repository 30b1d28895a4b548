"""Do the classes turn, and always at the same training error?"""

import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.critical import (
    TURNING,
    compared_classes,
    compared_text,
    counted,
    critical_errors,
    mean_share,
    most_turn,
    own_class_errors,
    reasons_text,
    share_turning,
    still_open,
    usual_epoch,
)
from fastent.experiments.result import Result, Table, Verdict, below, joined
from fastent.experiments.setting import Setting
from fastent.experiments.steadiness import QUESTION, Steadiness, errors_at_fixed_epoch, steadiness, turns_of
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import coefficient_of_variation, student_mean
from fastent.training.run import Run
from fastent.training.tables import epoch_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Dynamics", "dynamics"]

# The claim of stability: the spread of eps* over seeds, as a share of its mean.
_STABLE = 0.05
QUESTIONS = ("Do the classes turn?", "Is the training error at the turn the same over seeds?", QUESTION)


@dataclass(frozen=True, eq=False, repr=False)
class Dynamics(Result):
    """Segregation, inversion and entanglement of each class in each hidden layer, over seeds; the verdict is on the first.

    Attributes
    ----------
    run : Run
        With all curves; `run.save` keeps it.
    critical_error : (L, C) of Estimate
        eps*, the training error at the inversion, in [0, 1]: mean over the seeds that have one, with its interval.
    own_class_error : (L, C) of Estimate
        The same of the share of the class's own points that are misclassified there.
    variation : (L, C) float64
        Coefficient of variation of eps* over seeds (ddof 1); NaN for fewer than two.
    variation_of_mean : (L,) of Estimate
        The same of each network's eps*, the mean over the classes that turn in at least half of the networks, with its
        interval.
    share : (L, C) float64
        Share of the seeds that have an inversion.
    rebound : (L, C) of Estimate
        How much of the fall of the radius the rise after the inversion undoes: 0 nothing, 1 all.
    steadiness : list of Steadiness
        For each layer, the spread over seeds of each network's eps* compared with that of its training error at a fixed epoch,
        the median epoch of the inversion: the null of a stable eps*.
    """

    run: Run
    critical_error: Any
    own_class_error: Any
    variation: NDArray[np.float64]
    variation_of_mean: Any
    share: NDArray[np.float64]
    rebound: Any
    steadiness: list[Steadiness]

    name = "dynamics"
    title = "Segregation, inversion, entanglement"
    claim = "Training first segregates the classes, then entangles them again; the training error at the turn varies little."

    @property
    def verdict(self) -> Verdict:
        return joined({QUESTIONS[0]: self._turn, QUESTIONS[1]: self._stable})

    @property
    def answers(self) -> dict[str, Verdict]:
        return dict(zip(QUESTIONS, (self._turn, self._stable, self.steadiness[0].verdict("seeds")), strict=True))

    @property
    def further(self) -> dict[str, Verdict]:
        return {QUESTION: self.answers[QUESTION]}

    @property
    def _turn(self) -> Verdict:
        later = still_open(self.run, 0, usual_epoch(self.run, 0))
        share = share_turning(self.run.turned[:, 0], later)
        seeds = self.run.n_seeds
        said = (
            f"{percent(share.value, 0)} of the radii in the first hidden layer have an inversion "
            f"({100 * share.low:.0f} to {100 * share.high:.0f}, over {seeds} {'network' if seeds == 1 else 'networks'})"
        )
        if share.value < 1:
            said += f"; of the others: {reasons_text([self.run], 0)}"
        if later.any():
            said += "; the upper end counts those that may turn later"
        return Verdict(most_turn(share), f"{said}. Yes means more than half.")

    @property
    def _stable(self) -> Verdict:
        variation, classes = self.variation_of_mean[0], compared_classes([self.run], 0)
        if not classes.any():
            return Verdict("undecided", "No class has an inversion in half of the networks.")
        said = f"The coefficient of variation of eps* over seeds is {estimate_text(variation, percent=True, digits=1)}"
        compared = compared_text(self.run.class_names, classes)
        compared = compared and f" {compared}"
        if math.isnan(variation.low):
            why = "one network" if self.run.n_seeds == 1 else "networks whose inversions are at a training error of 0"
            return Verdict("undecided", f"{why.capitalize()} cannot show how stable the training error is.{compared}")
        said += f"; stable means below {percent(_STABLE, 0)}.{compared}"
        found, holds = float(np.isfinite(critical_errors(self.run, 0)).mean()), below(variation, _STABLE)
        if found < TURNING and holds == "yes":
            return Verdict("undecided", f"{said} Only {percent(found, 0)} of the networks have an inversion: a selection.")
        return Verdict(holds, said)

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
                    estimate_text(self.own_class_error[layer, c], percent=True),
                    percent(float(self.variation[layer, c]), 1),
                    NOTHING if found.epoch is None else epoch_of(self.run, found.epoch),
                    estimate_text(self.rebound[layer, c]),
                    counted(Counter(found.reasons)),
                )
            )
        headings = (
            "class", "hidden layer", "seeds", "eps* (95 % interval)", "own-class error", "variation", "epoch", "rebound",
            "reasons for no inversion",
        )  # fmt: skip
        note = (
            "eps*: training error at the inversion. Own-class error: the share of the class's points that are misclassified "
            "there. Variation: coefficient of variation of eps* over seeds. Rebound: share of "
            "the radius's fall that is undone."
        )
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        layers, classes = self.share.shape
        return {
            f"layer {layer + 1}": {"variation_of_mean": self.variation_of_mean[layer], "steadiness": self.steadiness[layer]}
            | {
                self.run.class_names[c]: {
                    "seeds_with_inversion": self.share[layer, c],
                    "critical_error": self.critical_error[layer, c],
                    "own_class_error": self.own_class_error[layer, c],
                    "variation": self.variation[layer, c],
                    "rebound": self.rebound[layer, c],
                    "reasons": self.run.inversion_summary(layer)[c].reasons,
                }
                for c in range(classes)
            }
            for layer in range(layers)
        }

    def draw(self, axes: "Axes") -> None:
        self.run.plot(against="train_error", layer=0, ax=axes)


def dynamics(
    data: Any = "digits", *,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Dynamics:  # fmt: skip
    """Train from many seeds; find the inversion of each class in each hidden layer, and how stable it is.

    Parameters
    ----------
    data : str, path, arrays or Data, default "digits"
        As for `fe.train`.
    seeds : int, default 10
        How many networks, trained together.
    seed : int, default 0
        Seed of the first network.
    preset : "paper", optional
        The source paper's set-up: the first 8192 points, classes by parity, 20 tanh units.
    out : path, optional
        Folder for finished parts, from which an interrupted experiment continues, to the same bits.
    progress : bool or callable, optional
        True shows a bar on stderr; a function is called with (done, total, message).
    **options : any
        Further options of `fe.load_data` and `fe.train`.

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
    critical_error, own_class_error, rebound = (np.empty((n_layers, n_classes), object) for _ in range(3))
    variation, share = np.full((n_layers, n_classes), np.nan), np.zeros((n_layers, n_classes))
    own = [own_class_errors(run, layer) for layer in range(n_layers)]
    for layer, c in np.ndindex(n_layers, n_classes):
        found = [(s, i) for s, i in enumerate(run.inversion[:, layer, c]) if i]
        errors = np.array([i.train_error for _, i in found])
        share[layer, c] = len(found) / run.n_seeds
        critical_error[layer, c] = mean_share(errors)
        own_class_error[layer, c] = mean_share(own[layer][run.turned[:, layer, c], c])
        variation[layer, c] = coefficient_of_variation(errors).value
        rebound[layer, c] = student_mean(np.array([i.rebound for _, i in found]))
    of_mean = np.empty(n_layers, object)
    for layer in range(n_layers):
        of_mean[layer] = coefficient_of_variation(critical_errors(run, layer))
    return Dynamics(
        setting.config,
        run,
        critical_error,
        own_class_error,
        variation,
        of_mean,
        share,
        rebound,
        [_steadiness(run, i) for i in range(n_layers)],
    )


def _steadiness(run: Run, layer: int) -> Steadiness:
    epochs, fixed = errors_at_fixed_epoch(turns_of(run, layer), compared_classes([run], layer))
    return steadiness(critical_errors(run, layer), fixed, epochs, run.n_recorded)
