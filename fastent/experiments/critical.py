"""eps* of each network: the training error at the inversion, over the classes that turn; or why there is none."""

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.result import Holds
from fastent.statistics.intervals import Estimate, student_mean
from fastent.training.tables import may_turn_later

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastent.training.run import Run

__all__ = [
    "LONG_ENOUGH",
    "TURNING",
    "compared_classes",
    "compared_text",
    "count_reasons",
    "counted",
    "critical_errors",
    "critical_test_errors",
    "errors_by_class",
    "mean_of_found",
    "mean_over",
    "mean_share",
    "most_turn",
    "own_class_errors",
    "reasons_text",
    "share_turning",
    "still_open",
    "usual_classes",
    "usual_epoch",
]  # fmt: skip

# Classes with an inversion in fewer of the networks are not compared.
_USUAL = 0.5
# Where fewer of the networks have an inversion of every compared class, those that have one are a selection.
TURNING = 0.9
# A curve that is still falling when training ends may turn later, which leaves the question open; but not where it was trained
# for this many times the epoch at which such curves usually turn: then it counts as a curve that does not.
LONG_ENOUGH = 20


def compared_classes(runs: "Sequence[Run]", layer: int = -1) -> NDArray[np.bool_]:
    """(C,) which classes have an inversion in a hidden layer of at least half of the networks of the runs.

    Of ten classes few may turn, and a network that needed all of them would never be compared.
    """
    return usual_classes(np.concatenate([run.turned[:, layer] for run in runs]))


def usual_classes(turned: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(C,) the same of what turned, (networks, C)."""
    usual: NDArray[np.bool_] = turned.mean(0) >= _USUAL
    return usual


def compared_text(of: "Sequence[str]", classes: NDArray[np.bool_]) -> str:
    """A sentence about the classes that are compared, of these names, if they are some of all; "" otherwise."""
    if classes.all() or not classes.any():
        return ""
    names = [str(name) for name, compared in zip(of, classes, strict=True) if compared]
    if len(names) == 1:
        return f"Only one class of {len(classes)} turns in at least half of the networks and is compared: {names[0]}."
    said = ", ".join(names)
    return f"Only {len(names)} of {len(classes)} classes turn in at least half of the networks and are compared: {said}."


def errors_by_class(run: "Run", layer: int) -> NDArray[np.float64]:
    """(S, C) the training error of each network at each class's inversion; NaN without one."""
    return np.array([[i.train_error if i else np.nan for i in row] for row in run.inversion[:, layer]])


def own_class_errors(run: "Run", layer: int) -> NDArray[np.float64]:
    """(S, C) the share of each class's own points that are misclassified at its inversion; NaN without one."""
    errors = np.full((run.n_seeds, len(run.classes)), np.nan)
    for s, c in zip(*np.nonzero(run.turned[:, layer]), strict=True):
        wrong = run.misclassified(run.epoch[run.inversion[s, layer, c].index])[s]
        errors[s, c] = wrong[run.codes == c].mean()
    return errors


def critical_errors(run: "Run", layer: int = -1, *, classes: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """(S,) eps* of each network: the mean over the compared classes of the training error at the class's inversion.

    By default those compared within the run. NaN where one of them has no inversion, or none is compared.
    """
    return mean_over(compared_classes([run], layer) if classes is None else classes, errors_by_class(run, layer))


def critical_test_errors(run: "Run", layer: int, *, classes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S,) the same of the test error, taken on the line between the measurements before and after the inversion."""
    found = [
        [float(np.interp(i.epoch, run.test_epoch, errors)) if i else np.nan for i in row]
        for row, errors in zip(run.inversion[:, layer], run.test_error, strict=True)
    ]
    return mean_over(classes, np.array(found))


def mean_over(classes: NDArray[np.bool_], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...,) the mean of errors (..., C) over the compared classes; NaN if there are none."""
    return errors[..., classes].mean(-1) if classes.any() else np.full(errors.shape[:-1], np.nan)


def mean_of_found(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean eps* over the last axis, of the networks that have an inversion; NaN where none has."""
    counts = (~np.isnan(errors)).sum(-1)
    means: NDArray[np.float64] = np.where(counts > 0, np.nansum(errors, axis=-1) / np.maximum(counts, 1), np.nan)
    return means


def mean_share(shares: NDArray[np.float64]) -> Estimate:
    """Mean of independent shares (n,), such as eps*, with Student's interval, which does not leave [0, 1]."""
    return student_mean(shares, least=0, most=1)


def reasons_text(runs: "Sequence[Run]", layer: int = -1, classes: NDArray[np.bool_] | None = None) -> str:
    """Why radii of these classes, by default all, have no inversion in a hidden layer, by default the last, with counts."""
    return counted(count_reasons(runs, layer, classes))


def count_reasons(runs: "Sequence[Run]", layer: int = -1, classes: NDArray[np.bool_] | None = None) -> Counter[str]:
    """How many radii have no inversion for each reason; as for `reasons_text`."""
    found = np.concatenate([run.inversion[:, layer, slice(None) if classes is None else classes] for run in runs])
    return Counter(each.reason for each in found.flat if not each)


def counted(reasons: Counter[str]) -> str:
    """Reasons with their counts, the most frequent first, without the name of the option that decides one of them."""
    said = {reason: reason.replace("is below min_rise", "is too small to count") for reason in reasons}
    return ", ".join(f"{said[reason]} ({n})" for reason, n in reasons.most_common())


def share_turning(turned: NDArray[np.bool_], later: NDArray[np.bool_], confidence: float = 0.95) -> Estimate:
    """Share of the radii that turn, of which of S networks and C classes turn, (S, C), and which may do so later.

    Clopper and Pearson's exact interval, whose upper end counts those that may turn later. The classes of one network are one
    repetition.
    """
    from scipy.special import betainccinv, betaincinv  # scipy.stats takes longer to import

    share, most, n = float(turned.mean()), float((turned | later).mean()), len(turned)
    tail = (1 - confidence) / 2
    low = float(betaincinv(n * share, n * (1 - share) + 1, tail)) if share > 0 else 0.0
    high = float(betainccinv(n * most + 1, n * (1 - most), tail)) if most < 1 else 1.0
    return Estimate(share, math.sqrt(share * (1 - share) / n), low, high)


def most_turn(share: Estimate) -> Holds:
    """Whether more than half of the radii turn, as far as the interval tells: yes, no, undecided."""
    return "yes" if share.low > _USUAL else "no" if share.high < _USUAL else "undecided"


def usual_epoch(run: "Run", layer: int, classes: NDArray[np.bool_] | slice = slice(None)) -> float:
    """Median epoch at which the radii of these classes turn; NaN unless at least half of them do."""
    found = run.inversion[:, layer, classes]
    turns = [run.epoch[i.index] for i in found.flat if i]
    return float(np.median(turns)) if len(turns) >= max(_USUAL * found.size, 1) else math.nan


def still_open(
    run: "Run", layer: int, usual_epoch: float, classes: NDArray[np.bool_] | slice = slice(None)
) -> NDArray[np.bool_]:
    """(S, C) which radii of these classes have no inversion but may have one later, and were trained for less than is enough.

    `usual_epoch` is NaN where no curve turns.
    """
    found, enough = run.inversion[:, layer, classes], run.epoch[-1] >= LONG_ENOUGH * usual_epoch
    return np.array([[may_turn_later(i.reason) and not enough for i in row] for row in found], bool)
