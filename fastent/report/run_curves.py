"""The curves of a run as numbers for figures, thinned so that the page of a long run still has only a few megabytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.report.run_words import answers, usual_turn
from fastent.runtime.formatting import rounded
from fastent.statistics.inversion import fitted_curve
from fastent.statistics.turning import LEAST_RECORDS
from fastent.training.run import Run

__all__ = ["NUMBERS", "figure_data"]

# More lines than this hide each other: then each class has its mean and a band of one standard deviation.
_THIN_LINES = 40
# With more classes than this, pairs are too many to draw: then each class has its mean distance to the others.
_PAIRED_CLASSES = 4
_EPOCHS_DRAWN = 400
# All the numbers of a page; at about 8 bytes each.
NUMBERS = 150_000


def figure_data(
    run: Run, numbers: int = NUMBERS, layers: Sequence[int] | None = None, *, distances: bool = True, fits: bool = True
) -> dict[str, Any]:
    """Everything that run.js draws, of all hidden layers or some, as plain lists of at most about so many numbers."""
    names = run.class_names
    layers = range(run.n_layers) if layers is None else layers
    thin = len(names) * run.n_seeds <= _THIN_LINES
    curves_per_layer = len(names) * (run.n_seeds if thin else 3)
    affordable = numbers // ((1 + distances) * len(layers) * curves_per_layer + 2 * run.n_seeds + 1)
    n_drawn = max(50, min(_EPOCHS_DRAWN, affordable))
    kept = _epochs_to_draw(run, n_drawn)
    kept_test = _positions(run.test_epoch, n_drawn)
    return {
        "classes": names,
        "order": run.class_order,
        "n_layers": run.n_layers,
        "points": run.n_recorded,
        "seeds": [int(run.config.get("seed", 0)) + i for i in range(run.n_seeds)],
        "epoch": run.epoch[kept].tolist(),
        "start": _moment_to_open(run, kept),
        "epoch_axis": "epoch (parameter updates)" if run.updates_per_epoch == 1 else "epoch",
        "train_error": _curve(run.train_error[:, kept], run.n_seeds <= _THIN_LINES),
        "test_epoch": run.test_epoch[kept_test].tolist(),
        "test_error": _curve(run.test_error[:, kept_test], run.n_seeds <= _THIN_LINES),
        "radius": [[_curve(run.radius[:, kept, layer, c], thin) for c in range(len(names))] for layer in layers],
        "inversion": [[_marks(run.inversion[:, layer, c]) for c in range(len(names))] for layer in layers],
        "fit": [[_fits(run, layer, c) if thin and fits else [] for c in range(len(names))] for layer in layers],
        **(
            {"distance": _distances(run, kept, thin), "answers": [answers(run, layer) for layer in layers]} if distances else {}
        ),
    }


def _distances(run: Run, kept: NDArray[np.int64], thin: bool) -> list[list[dict[str, Any]]]:
    """For each layer the pairs of classes (`of` is [a, b]), or of many classes each and all others (`of` is [a])."""
    n_classes = len(run.classes)
    distance = run.distance[:, kept]
    if n_classes > _PAIRED_CLASSES:
        others = ~np.eye(n_classes, dtype=bool)
        to_others = np.stack([_mean(distance[..., a, others[a]], -1) for a in range(n_classes)], axis=-1)
        return [
            [{"of": [a], **_curve(to_others[:, :, layer, a], thin)} for a in range(n_classes)] for layer in range(run.n_layers)
        ]
    found = run.inversions("distance")
    return [
        [
            {"of": [a, b], "inversion": _marks(found[:, layer, a, b]), **_curve(distance[:, :, layer, a, b], thin)}
            for a in range(n_classes)
            for b in range(a + 1, n_classes)
        ]
        for layer in range(run.n_layers)
    ]


def _curve(values: NDArray[np.float64], thin: bool) -> dict[str, Any]:
    """Mean over seeds of (S, E) values, and either every seed's line or a band of one standard deviation."""
    mean = _mean(values, 0)
    curve = {"mean": rounded(mean)}
    if len(values) == 1:
        return curve
    if thin:
        return curve | {"seeds": [rounded(line) for line in values]}
    known = np.isfinite(values).sum(0)
    std = np.sqrt(_mean((values - mean) ** 2, 0) * known / np.maximum(known - 1, 1))
    return curve | {"low": rounded(mean - std), "high": rounded(mean + std)}


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of the known values: a network without points of a class leaves a gap."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, values, 0).sum(axis) / known.sum(axis)
    return mean


def _marks(inversions: NDArray[Any]) -> dict[str, list[Any]]:
    found = [(seed, inversion) for seed, inversion in enumerate(inversions) if inversion]
    return {
        "seed": [seed for seed, _ in found],
        "epoch": [inversion.epoch for _, inversion in found],
        "value": rounded(inversion.value for _, inversion in found),
        "error": rounded(inversion.train_error for _, inversion in found),
        # How far the intervals reach to both sides.
        **_reaching("epoch", found),
        **_reaching("error", found),
    }


def _reaching(name: str, found: list[tuple[int, Any]]) -> dict[str, list[Any]]:
    field = {"epoch": "epoch", "error": "train_error"}[name]
    middle = np.array([getattr(inversion, field) for _, inversion in found], float)
    low, high = np.array([getattr(inversion, f"{field}_interval") for _, inversion in found], float).reshape(-1, 2).T
    return {
        f"{name}_below": rounded(np.maximum(middle - low, 0)),
        f"{name}_above": rounded(np.maximum(high - middle, 0)),
    }


def _fits(run: Run, layer: int, c: int) -> list[dict[str, Any]]:
    """The fit of each seed in which its turn was searched for."""
    curves = [curve for curve in run.radius[:, :, layer, c] if np.isfinite(curve).all()]
    kept = run.epoch >= run.burn_in / run.updates_per_epoch
    if kept.sum() < LEAST_RECORDS:
        return []
    fits = [fitted_curve(run.epoch[kept], curve[kept]) for curve in curves]
    return [{"epoch": rounded(epoch), "value": rounded(value)} for epoch, value in fits]


def _epochs_to_draw(run: Run, n_drawn: int) -> NDArray[np.int64]:
    """Positions to draw: dense where curves move, early and around the inversions; the first and last always."""
    turns = np.unique([inversion.index for inversion in run.inversion.flat if inversion]).astype(np.int64)
    turns = turns[_positions(turns, n_drawn // 4)]
    return np.union1d(_positions(run.epoch, n_drawn - len(turns)), turns)


def _moment_to_open(run: Run, kept: NDArray[np.int64]) -> int:
    """Position of the epoch that the page opens with: the inversion of the last hidden layer, or else the last epoch."""
    turn = usual_turn(run)
    return len(kept) - 1 if turn is None else int(np.abs(kept - turn).argmin())


def _positions(epoch: NDArray[np.int64], n_drawn: int) -> NDArray[np.int64]:
    """About `n_drawn` positions, half of them evenly and half logarithmically spaced: the axis can be either."""
    last = len(epoch) - 1
    if last < n_drawn:
        return np.arange(last + 1)
    even = np.linspace(0, last, n_drawn // 2)
    logarithmic = np.geomspace(1, last, n_drawn - n_drawn // 2)
    return np.unique(np.concatenate([even, logarithmic]).round().astype(np.int64))
