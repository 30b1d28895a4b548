"""Which choice of network and training moves the inversion, and how much?"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import DivergedError, FastentError
from fastent.experiments.result import Result, Table, Verdict, below, critical_errors, mean_of_found, overall, reasons_text
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FACTORS", "Factor", "Sweep", "analysis_of_variance", "largest_differences", "sweep"]

FACTORS: dict[str, tuple[Any, ...]] = {
    "optimizer": ("sgd", "momentum", "adam"),
    "learning rate": ("low", "high"),
    "width": (10, 20, 40),
    "depth": (1, 2),
    "activation": ("tanh", "relu"),
    "initialisation": (0.5, 1.0, 2.0),
}
_COMBINATIONS = int(np.prod([len(levels) for levels in FACTORS.values()]))
_RATES = {"sgd": (0.1, 0.2), "momentum": (0.02, 0.04), "adam": (0.002, 0.004)}
# Weak: eps* stays within this share of its mean over all cells, from level to level of any factor.
_WEAK = 0.2


class Factor(NamedTuple):
    """What one factor does to eps*.

    levels; critical_error, mean over the cells at each level; found, share of the networks at each level with an inversion of
    every class; eta_squared, partial, in [0, 1]: the share of what other factors leave unexplained that this one explains;
    f, p: of the F test; difference, between the two levels farthest apart, other factors being equal, as a share of the mean
    eps*: the 95 % intervals of all factors hold together; no upper end where a level has no inversion.
    """

    levels: tuple[Any, ...]
    critical_error: list[Estimate]
    found: list[float]
    eta_squared: float
    f: float
    p: float
    difference: Estimate


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Result):
    """eps* over optimisers, learning rates, widths, depths, activations and initialisations.

    Attributes
    ----------
    design : list of dict
        Level of each factor, for each cell.
    critical_errors : (cells, S) float64
        eps* of each network; NaN without an inversion.
    reasons : list of str
        Why networks of a cell have none.
    factors : dict of Factor
        Analysis of variance of the cells' mean eps*: main effects, each factor compared with a fit of all others.
    """

    design: list[dict[str, Any]]
    critical_errors: NDArray[np.float64]
    reasons: list[str]
    factors: dict[str, Factor]

    name = "sweep"
    title = "What moves the inversion"
    claim = (
        "The training error at the inversion depends only weakly on optimiser, learning rate, architecture and initialisation."
    )

    @property
    def verdict(self) -> Verdict:
        means = mean_of_found(self.critical_errors)
        found = ~np.isnan(means)
        if found.sum() < 2:
            return Verdict(
                "undecided", f"Too few cells have an inversion: {'; '.join(sorted(set(filter(None, self.reasons))))}."
            )
        level = float(means[found].mean())
        if level == 0:
            return Verdict("undecided", "The inversions are at a training error of 0, which has no relative change.")
        differences = {name: factor.difference for name, factor in self.factors.items()}
        most = max(differences, key=lambda name: -1.0 if np.isnan(differences[name].value) else differences[name].value)
        turning = float(np.isfinite(self.critical_errors).mean())
        said = (
            f"eps* is {percent(level)} on average over {found.sum()} cells, its standard deviation "
            f"{percent(means[found].std(ddof=1) / level, 0)} of that. {most.capitalize()} moves it most: by "
            f"{estimate_text(differences[most], percent=True, digits=0)} of the mean from level to level "
            f"(partial eta squared {self.factors[most].eta_squared:.2f}, p = {self.factors[most].p:.2g}); "
            f"weakly means by less than {percent(_WEAK, 0)}. {percent(turning, 0)} of the networks "
            "have an inversion of every class."
        )
        weak = {name: below(difference, _WEAK) for name, difference in differences.items()}
        holds = overall(weak.values())
        if holds == "undecided":
            said += f" The cells are inconclusive for {', '.join(name for name in weak if weak[name] == 'undecided')}."
        return Verdict(holds, said)

    def table(self) -> Table:
        rows = []
        for name, factor in self.factors.items():
            for i, level in enumerate(factor.levels):
                statistics = (f"{factor.eta_squared:.2f}", f"{factor.f:.1f}", f"{factor.p:.2g}")
                effect = (estimate_text(factor.difference, percent=True, digits=0), *statistics) if i == 0 else [""] * 4
                rows.append(
                    (
                        f"{name}: {level}",
                        estimate_text(factor.critical_error[i], percent=True),
                        percent(factor.found[i], 0),
                        *effect,
                    )
                )
        note = (
            f"{len(self.design)} cells of {self.critical_errors.shape[1]} networks. Eta squared: partial, of the whole factor. "
            "Intervals of eps*: over cells. Difference: of the two levels farthest apart, other factors being equal, as a "
            "share of the mean eps*; its intervals hold for all factors at once."
        )
        return Table(("factor", "eps* (95 % interval)", "with inversion", "difference", "eta squared", "F", "p"), rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "cells": [
                {**cell, "critical_error": row, "reasons": reason}
                for cell, row, reason in zip(self.design, self.critical_errors, self.reasons, strict=True)
            ],
            "factors": {name: factor._asdict() for name, factor in self.factors.items()},
        }

    def draw(self, axes: "Axes") -> None:
        place, ticks, labels = 0.0, [], []
        means = 100 * mean_of_found(self.critical_errors)
        for (name, factor), color in zip(self.factors.items(), COLORS, strict=False):
            for level, estimate in zip(factor.levels, factor.critical_error, strict=True):
                own = [mean for mean, cell in zip(means, self.design, strict=True) if cell[name] == level]
                axes.plot(np.full(len(own), place) + 0.15, own, "o", color=color, markersize=3, alpha=0.4)
                axes.plot(place, 100 * estimate.value, "o", color=color, markersize=7)
                axes.vlines(place, 100 * estimate.low, 100 * estimate.high, color=color)
                ticks.append(place)
                labels.append(str(level))
                place += 1
            place += 0.8
        axes.set_xticks(ticks, labels, rotation=45, ha="right")
        start = 0.0
        for name, factor in self.factors.items():
            middle = start + (len(factor.levels) - 1) / 2
            axes.annotate(name, (middle, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize="small")
            start += len(factor.levels) + 0.8
        axes.set(ylabel="training error at the inversion, %")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.25)


def sweep(
    data: Any = "digits", *, cells: int = 48,
    seeds: int = 3, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Sweep:  # fmt: skip
    """Find eps* for a balanced selection of optimisers, learning rates, widths, depths, activations and initialisation scales.

    In the selection every level of every factor is as frequent as its others, give or take one. Learning rates are 0.1 and 0.2
    for SGD, 0.02 and 0.04 with a momentum of 0.9, 0.002 and 0.004 for Adam.

    Parameters
    ----------
    data
        As for `dynamics`.
    cells : int, default 48
        Number of combinations to train, from 8 to all 216.
    seeds : int, default 3
        Networks for each combination.
    seed, preset, out, progress, **options
        As for `dynamics`. Options that vary in the sweep cannot be given.

    Returns
    -------
    Sweep

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    whole_number("cells", cells, minimum=8, maximum=_COMBINATIONS)
    for name in ("optimizer", "momentum", "lr", "hidden", "activation", "init_scale", "model"):
        if options.get(name) is not None:
            raise FastentError(f"{name}={options[name]!r}: that varies in a sweep; leave it out")
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    design = _design(cells, setting.seed)
    found = [_cell(setting, cell, cells) for cell in design]
    errors = np.stack([errors for errors, _ in found])
    return Sweep(
        config={**setting.config, "cells": cells},
        design=design,
        critical_errors=errors,
        reasons=[reason for _, reason in found],
        factors=_factors(design, errors),
    )


def _design(cells: int, seed: int) -> list[dict[str, Any]]:
    """Different combinations, in which the levels of each factor are equally frequent, give or take one."""
    rng = np.random.default_rng((seed, 3))
    everything = np.stack(np.unravel_index(np.arange(_COMBINATIONS), [len(levels) for levels in FACTORS.values()]), axis=1)
    if 2 * cells > _COMBINATIONS:  # the same by leaving out
        left_out = {tuple(row) for row in _balanced(_COMBINATIONS - cells, rng)} if cells < _COMBINATIONS else set()
        chosen = [row for row in everything if tuple(row) not in left_out]
    else:
        chosen = list(_balanced(cells, rng))
    return [{name: levels[i] for (name, levels), i in zip(FACTORS.items(), row, strict=True)} for row in chosen]


def _balanced(cells: int, rng: np.random.Generator) -> NDArray[np.int64]:
    columns = [rng.permutation(np.arange(cells) % len(levels)) for levels in FACTORS.values()]
    rows = np.stack(columns, axis=1)
    while len(np.unique(rows, axis=0)) < cells:
        # Exchange one level between a repeated cell and another: frequencies stay.
        _, first = np.unique(rows, axis=0, return_index=True)
        repeated = int(np.setdiff1d(np.arange(cells), first)[0])
        other, factor = int(rng.integers(cells)), int(rng.integers(len(columns)))
        rows[[repeated, other], factor] = rows[[other, repeated], factor]
    return rows


def _cell(setting: Setting, cell: dict[str, Any], total: int) -> tuple[NDArray[np.float64], str]:
    momentum = cell["optimizer"] == "momentum"
    here = setting.changed(
        optimizer="sgd" if momentum else cell["optimizer"],
        momentum=0.9 if momentum else 0.0,
        lr=_RATES[cell["optimizer"]][cell["learning rate"] == "high"],
        hidden=(cell["width"],) * cell["depth"],
        activation=cell["activation"],
        init_scale=cell["initialisation"],
        test_every=10**9,
    )

    def make() -> Arrays:
        try:
            run = here.train_afresh("cells", total=total)
        except DivergedError:
            return {"errors": np.full(here.seeds, np.nan), "reasons": np.array("training diverged")}
        return {"errors": critical_errors(run), "reasons": np.array(reasons_text([run]))}

    arrays = here.keep("cells", make)
    return arrays["errors"], str(arrays["reasons"])


def _factors(design: list[dict[str, Any]], errors: NDArray[np.float64]) -> dict[str, Factor]:
    means = mean_of_found(errors)
    found = ~np.isnan(means)
    columns = {name: np.array([levels.index(cell[name]) for cell in design]) for name, levels in FACTORS.items()}
    used = {name: column[found] for name, column in columns.items()}
    effects, level = analysis_of_variance(means[found], used), means[found].mean() if found.any() else np.nan
    differences = largest_differences(means[found], used, {name: len(levels) for name, levels in FACTORS.items()})
    return {
        name: Factor(
            levels,
            [student_mean(means[found & (columns[name] == i)], least=0) for i in range(len(levels))],
            [float((~np.isnan(errors[columns[name] == i])).mean()) for i in range(len(levels))],
            *effects[name],
            Estimate(*(np.nan if not level else figure / level for figure in differences[name])),
        )
        for name, levels in FACTORS.items()
    }


def analysis_of_variance(
    values: NDArray[np.float64], factors: dict[str, NDArray[np.int64]]
) -> dict[str, tuple[float, float, float]]:
    """Partial eta squared, F and p of each factor: main effects by least squares, each compared with a fit of all others.

    NaN where a factor has but one level among the values, or where no freedom is left.
    """
    from scipy.stats import f as f_distribution

    dummies = {name: _dummies(levels) for name, levels in factors.items()}
    everything, freedom = _fit(values, list(dummies.values()))
    effects = {}
    for name, own in dummies.items():
        without, more_freedom = _fit(values, [other for key, other in dummies.items() if key != name])
        explained, degrees = without - everything, more_freedom - freedom
        if own.shape[1] == 0 or degrees == 0 or freedom <= 0:
            effects[name] = (np.nan, np.nan, np.nan)
            continue
        ratio = (explained / degrees) / (everything / freedom) if everything > 0 else np.inf
        eta = explained / without if without > 0 else np.nan
        effects[name] = (float(eta), float(ratio), float(f_distribution.sf(ratio, degrees, freedom)))
    return effects


def largest_differences(
    values: NDArray[np.float64], factors: dict[str, NDArray[np.int64]], n_levels: dict[str, int]
) -> dict[str, Estimate]:
    """For each factor the difference between its two levels farthest apart, the other factors being equal (main effects).

    The 95 % intervals are Student's with Bonferroni's correction for every pair of levels of every factor: they hold together,
    and choosing the largest costs nothing. There is none where no freedom is left, and no upper end where a level is missing.
    """
    from scipy.stats import t

    dummies = {name: _dummies(levels) for name, levels in factors.items()}
    matrix = np.column_stack([np.ones(len(values)), *dummies.values()])
    left, freedom = _fit(values, list(dummies.values()))
    pairs = sum(own.shape[1] * (own.shape[1] + 1) // 2 for own in dummies.values())
    whole = freedom > 0 and pairs > 0 and len(values) - freedom == matrix.shape[1]
    inverse = np.linalg.pinv(matrix.T @ matrix)
    coefficients = inverse @ matrix.T @ values
    quantile = float(t.ppf(1 - 0.025 / pairs, freedom)) if whole else np.nan
    found, first = {}, 1
    for name, own in dummies.items():
        contrasts = np.zeros((own.shape[1] + 1, matrix.shape[1]))
        contrasts[1:, first : first + own.shape[1]] = np.eye(own.shape[1])
        first += own.shape[1]
        above, below = np.triu_indices(len(contrasts), 1)
        if not len(above):
            found[name] = student_mean([])
            continue
        between = contrasts[above] - contrasts[below]
        size = np.abs(between @ coefficients)
        error = np.sqrt(np.einsum("ij,jk,ik->i", between, inverse, between) * left / max(freedom, 1))
        low, high = np.maximum(size - quantile * error, 0), size + quantile * error
        missing = len(contrasts) < n_levels[name]
        found[name] = Estimate(
            float(size.max()),
            float(error[size.argmax()]) if whole else np.nan,
            float(low.max()),
            np.inf if missing and whole else float(high.max()),
        )
    return found


def _dummies(levels: NDArray[np.int64]) -> NDArray[np.float64]:
    dummies: NDArray[np.float64] = (levels[:, None] == np.unique(levels)[None, 1:]).astype(float)
    return dummies


def _fit(values: NDArray[np.float64], columns: list[NDArray[np.float64]]) -> tuple[float, int]:
    """Residual sum of squares and degrees of freedom of a linear fit."""
    matrix = np.column_stack([np.ones(len(values)), *columns])
    coefficients, _, rank, _ = np.linalg.lstsq(matrix, values, rcond=None)
    return float(((values - matrix @ coefficients) ** 2).sum()), len(values) - int(rank)
