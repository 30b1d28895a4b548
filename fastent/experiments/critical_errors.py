"""The training errors at which the networks of a run have their inversions (eps*), and why some have none."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastent.training.run import Run

__all__ = ["critical_errors", "mean_of_found", "reasons_text", "usual_critical_errors"]


def critical_errors(run: Run, layer: int = -1) -> NDArray[np.float64]:
    """(S,) eps* of each network: the mean over classes of the training error at the class's inversion; NaN without one."""
    mean: NDArray[np.float64] = _by_class(run, layer).mean(1)
    return mean


def usual_critical_errors(run: Run) -> NDArray[np.float64]:
    """The same of those classes alone that have an inversion in at least half of the networks; NaN where there are none."""
    errors = _by_class(run, -1)
    usual = np.isfinite(errors).mean(0) >= 0.5
    mean: NDArray[np.float64] = errors[:, usual].mean(1) if usual.any() else np.full(len(errors), np.nan)
    return mean


def _by_class(run: Run, layer: int) -> NDArray[np.float64]:
    """(S, C), NaN without an inversion."""
    return np.array([[i.train_error if i else np.nan for i in row] for row in run.inversion[:, layer]])


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
