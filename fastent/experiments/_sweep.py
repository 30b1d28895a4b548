"""Which choice of network and training moves the inversion, and how much?"""

import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import DivergedError, FastentError
from fastent.experiments.critical import (
    TURNING,
    compared_text,
    count_reasons,
    counted,
    errors_by_class,
    mean_of_found,
    mean_over,
    mean_share,
    usual_classes,
)
from fastent.experiments.result import Result, Table, Verdict, below, overall
from fastent.experiments.setting import Setting
from fastent.experiments.steadiness import QUESTION, Steadiness, Turns, errors_at_fixed_epoch, steadiness, turns_of
from fastent.io.result_cache import Arrays
from fastent.options import whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean
from fastent.statistics.spread_ratio import log_share, relative_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastent.training.run import Run

__all__ = ["FACTORS", "Factor", "LayerProfile", "Sweep", "analysis_of_variance", "largest_differences", "sweep"]

# A factor of its own: the paper's initialisations are random draws, which the seeds repeat in every cell.
_SCALE = "initial scale"
_OF_SCALE = "Does eps* depend only weakly on the scale of the initial weights?"
FACTORS: dict[str, tuple[Any, ...]] = {
    "optimizer": ("sgd", "momentum", "adam"),
    "learning rate": ("low", "high"),
    "width": (10, 20, 40),
    "depth": (1, 2),
    "activation": ("tanh", "relu"),
    _SCALE: (0.5, 1.0, 2.0),
}
_COMBINATIONS = int(np.prod([len(levels) for levels in FACTORS.values()]))
_RATES = {"sgd": (0.1, 0.2), "momentum": (0.02, 0.04), "adam": (0.002, 0.004)}
# Weak: eps* at one level of a factor is less than so many times that at any other.
_WEAK = 1.2


class Factor(NamedTuple):
    """What one factor does to eps* of the first hidden layer.

    levels; critical_error, mean over the cells at each level, in [0, 1]; found, share of the radii at each level, of all
    classes, that turn; eta_squared, partial, in [0, 1]: the share of what other factors leave unexplained that this one
    explains; f, p: of the F test; ratio, of eps* at the two levels farthest apart, other factors being equal, in [1, inf): the
    95 % intervals of all factors hold together; no upper end where a level has no inversion; at_fixed_epoch, the same ratio of
    the training errors at one epoch, the median epoch of the inversion.
    """

    levels: tuple[Any, ...]
    critical_error: list[Estimate]
    found: list[float]
    eta_squared: float
    f: float
    p: float
    ratio: Estimate
    at_fixed_epoch: Estimate


class LayerProfile(NamedTuple):
    """One layer of the networks of one depth: the share of its radii that turn, eps* over cells, and why other radii do not.

    eps* is of the classes that turn in at least half of these networks.
    """

    layer: int
    depth: int
    found: float
    critical_error: Estimate
    reasons: Counter[str]


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Result):
    """eps* over optimisers, learning rates, widths, depths, activations and scales of the initial weights.

    Effects are those of an analysis of variance of the logarithms of the cells' mean eps*: main effects, each factor compared
    with a fit of all others. Where radii of deep layers do not turn, those of the first hidden layer may, so that the verdict
    reads the first.

    Attributes
    ----------
    design : list of dict
        Level of each factor, for each cell.
    critical_errors : (cells, S) float64
        eps* of each network in its first hidden layer, in [0, 1]; NaN without an inversion of every compared class: of those
        that turn in at least half of all networks.
    reasons : list of Counter
        How many radii of a cell have no inversion for each reason.
    factors : dict of Factor
    layers : list of LayerProfile
    draw_spread : Estimate
        What the random draw of the initial weights does: the standard deviation of log eps* over the networks of a cell, pooled
        over cells.
    steadiness : Steadiness
        The spread of eps* over cells compared with that of the training error at one epoch, the median of the inversion over
        all networks.
    burnt : int
        Networks whose radii turn within the burn-in, if one was asked for, which are compared as if they had no inversion.
    turned : float
        Share of the radii in the first hidden layer, of all networks and classes, that turn.
    compared : str
        Which classes are compared, if these are not all.
    """

    design: list[dict[str, Any]]
    critical_errors: NDArray[np.float64]
    reasons: list[Counter[str]]
    factors: dict[str, Factor]
    layers: list[LayerProfile]
    draw_spread: Estimate
    steadiness: Steadiness
    burnt: int
    turned: float
    compared: str = ""

    name = "sweep"
    title = "What moves the inversion"
    claim = "The training error at the inversion depends only weakly on optimiser, learning rate and architecture."

    @property
    def verdict(self) -> Verdict:
        means = mean_of_found(self.critical_errors)
        found = ~np.isnan(means)
        burnt = f" {self.burnt} turn within the burn-in and are not compared." if self.burnt else ""
        if found.sum() < 2:
            why = counted(sum(self.reasons, Counter[str]()))
            turned = f"{percent(self.turned, 0)} of the radii turn; of the others: {why}"
            return Verdict("undecided", f"Too few cells have an inversion of every class to compare: {turned}.{burnt}")
        level = float(means[found].mean())
        if level == 0:
            return Verdict("undecided", "The inversions are at a training error of 0, which has no relative change.")
        ratios = {name: factor.ratio for name, factor in self.factors.items() if name != _SCALE}
        most = max(ratios, key=lambda name: -1.0 if np.isnan(ratios[name].value) else ratios[name].value)
        said = (
            f"In the first hidden layer eps* is {percent(level)} on average over {found.sum()} cells, its standard deviation "
            f"{percent(means[found].std(ddof=1) / level, 0)} of that. {most.capitalize()} moves it most: by a factor of "
            f"{estimate_text(ratios[most])} from level to level (partial eta squared {self.factors[most].eta_squared:.2f}, "
            f"p = {self.factors[most].p:.2g}); weakly means by less than {_WEAK:g}. The random draw of the initial weights "
            f"moves it by {estimate_text(self.draw_spread, percent=True, digits=1)}. {percent(self._turning, 0)} of the "
            f"networks have an inversion of every {'compared ' if self.compared else ''}class.{burnt}"
        )
        weak = {name: below(ratio, _WEAK) for name, ratio in ratios.items()}
        holds = overall(weak.values())
        said += self.compared and f" {self.compared}"
        if holds == "undecided":
            said += f" The cells are inconclusive for {', '.join(name for name in weak if weak[name] == 'undecided')}."
        return self._of_all(Verdict(holds, said))

    @property
    def answers(self) -> dict[str, Verdict]:
        ratio = self.factors[_SCALE].ratio
        said = f"A scale of {' or '.join(map(str, FACTORS[_SCALE]))} moves it by a factor of {estimate_text(ratio)}."
        scale = self._of_all(Verdict(below(ratio, _WEAK), f"{said} Weakly means by less than {_WEAK:g}."))
        if np.isnan(ratio.value):
            scale = Verdict("undecided", "Too few cells have an inversion.")
        return super().answers | {_OF_SCALE: scale, QUESTION: self.steadiness.verdict("cells")}

    @property
    def _turning(self) -> float:
        """Share of the networks with an inversion."""
        return float(np.isfinite(self.critical_errors).mean())

    def _of_all(self, verdict: Verdict) -> Verdict:
        """The same verdict, unless it is a yes and many networks have no inversion."""
        if verdict.holds == "yes" and self._turning < TURNING:
            return Verdict("undecided", f"{verdict.sentence} Networks with an inversion are a selection.")
        return verdict

    def table(self) -> Table:
        rows = []
        for name, factor in self.factors.items():
            for i, level in enumerate(factor.levels):
                tested = ((factor.eta_squared, ".2f"), (factor.f, ".1f"), (factor.p, ".2g"))
                statistics = [NOTHING if np.isnan(figure) else format(figure, how) for figure, how in tested]
                effect = (*map(estimate_text, factor[-2:]), *statistics) if i == 0 else [""] * 5
                rows.append(
                    (
                        f"{name}: {level}",
                        estimate_text(factor.critical_error[i], percent=True),
                        percent(factor.found[i], 0),
                        *effect,
                    )
                )
        for each in self.layers:
            name = f"layer {each.layer} of {each.depth}"
            rows.append((name, estimate_text(each.critical_error, percent=True), percent(each.found, 0), *[""] * 5))
        note = (
            f"{len(self.design)} cells of {self.critical_errors.shape[1]} networks; the first hidden layer, other layers in "
            "the last rows. Intervals of eps*: over cells. Ratio: of eps* at the two levels farthest apart, other factors "
            "being equal; at a fixed epoch: the same of the training error at the median epoch of the inversion. The intervals "
            "of all factors hold at once (Bonferroni, over all pairs of levels). Eta squared: partial, of the whole factor."
        )
        headings = (
            "factor", "eps* (95 % interval)", "radii that turn", "ratio", "at a fixed epoch", "eta squared", "F", "p"
        )  # fmt: skip
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "cells": [
                {**cell, "critical_error": row, "reasons": reason}
                for cell, row, reason in zip(self.design, self.critical_errors, self.reasons, strict=True)
            ],
            "factors": {name: factor._asdict() for name, factor in self.factors.items()},
            "layers": self.layers,
            "draw_spread": self.draw_spread,
            "steadiness": self.steadiness,
            "networks_within_burn_in": self.burnt,
            "radii_that_turn": self.turned,
            "compared": self.compared,
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
    """Find eps* for a balanced selection of optimisers, learning rates, widths, depths, activations and initial scales.

    The verdict reads the first hidden layer. In the selection every level of every factor is as frequent as its others, give or
    take one. Learning rates are 0.1 and 0.2 for SGD, 0.02 and 0.04 with a momentum of 0.9, 0.002 and 0.004 for Adam.

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
    by_class = np.stack([cell["errors"][0] for cell in found])
    classes = _usual(by_class)
    errors = mean_over(classes, by_class)
    epochs, fixed = _at_fixed_epoch(found, classes, errors)
    n = len(setting.data.y_train)
    return Sweep(
        config={**setting.config, "cells": cells},
        design=design,
        critical_errors=errors,
        reasons=[_reasons(cell, 0) for cell in found],
        factors=_factors(design, errors, fixed, np.isfinite(by_class), n),
        layers=_layers(design, found),
        draw_spread=relative_spread([log_share(row, n) for row in errors]),
        steadiness=steadiness(mean_of_found(errors), mean_of_found(fixed), epochs, n),
        burnt=_only_burnt(found, by_class),
        turned=float(np.isfinite(by_class).mean()),
        compared=compared_text(next((cell["names"].tolist() for cell in found if "names" in cell), []), classes),
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


def _cell(setting: Setting, cell: dict[str, Any], total: int) -> Arrays:
    """What is kept of a cell: errors of each class (L, S, C), reasons as JSON (L,), which classes turn in the first hidden
    layer without a burn-in (S, C), the classes' names, and the `Turns` of that layer."""
    momentum = cell["optimizer"] == "momentum"
    here = setting.changed(
        optimizer="sgd" if momentum else cell["optimizer"],
        momentum=0.9 if momentum else 0.0,
        lr=_RATES[cell["optimizer"]][cell["learning rate"] == "high"],
        hidden=(cell["width"],) * cell["depth"],
        activation=cell["activation"],
        init_scale=cell[_SCALE],
        test_every=10**9,
    )

    def make() -> Arrays:
        try:
            run = here.train_afresh("sweep", total=total)
        except DivergedError:
            nothing = np.full((cell["depth"], here.seeds, len(here.data.classes)), np.nan)
            reasons = json.dumps({"training diverged": nothing[0].size})
            return {
                "errors": nothing,
                "reasons": np.array([reasons] * cell["depth"]),
                "unburnt": np.zeros(nothing.shape[1:], bool),
            }
        layers = range(run.n_layers)
        return {
            "errors": np.stack([errors_by_class(run, layer) for layer in layers]),
            "reasons": np.array([json.dumps(count_reasons([run], layer)) for layer in layers]),
            "unburnt": run.turned[:, 0] | (_turned_without_burn_in(run) if run.burn_in else False),
            "names": np.array(run.class_names),
            **turns_of(run, 0)._asdict(),
        }

    return here.keep("cell", make)


def _reasons(cell: Arrays, layer: int) -> Counter[str]:
    return Counter(json.loads(str(cell["reasons"][layer])))


def _usual(errors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which classes turn in at least half of the networks, of eps* by class (..., C)."""
    return usual_classes(np.isfinite(errors).reshape(-1, errors.shape[-1]))


def _turned_without_burn_in(run: "Run") -> NDArray[np.bool_]:
    """(S, C) of the first hidden layer."""
    return np.array([[bool(i) for i in row] for row in run.inversions(burn_in=0)[:, 0]])


def _only_burnt(found: list[Arrays], by_class: NDArray[np.float64]) -> int:
    """How many networks lack an inversion in the first hidden layer only because of the burn-in."""
    unburnt = np.stack([cell["unburnt"] for cell in found])
    classes = usual_classes(unburnt.reshape(-1, unburnt.shape[-1]))
    lacking = ~np.isfinite(by_class[..., classes]).all(-1)
    return int((unburnt[..., classes].all(-1) & lacking).sum())


def _at_fixed_epoch(
    found: list[Arrays], classes: NDArray[np.bool_], errors: NDArray[np.float64]
) -> tuple[list[float], NDArray[np.float64]]:
    """The median epoch over the networks of all cells, for each compared class, and the training errors there of those
    networks that have an inversion, as `errors` (cells, S) says."""
    fixed = np.full(errors.shape, np.nan)
    trained = [i for i, cell in enumerate(found) if "epoch" in cell]
    if not trained:
        return [], fixed
    together = ("epoch", "interval", "train_error")
    turns = {name: found[trained[0]][name] for name in Turns._fields}
    turns |= {name: np.concatenate([found[i][name] for i in trained]) for name in together}
    epochs, at_epochs = errors_at_fixed_epoch(Turns(**turns), classes)
    fixed[trained] = at_epochs.reshape(len(trained), -1)
    return epochs, np.where(np.isfinite(errors), fixed, np.nan)


def _layers(design: list[dict[str, Any]], found: list[Arrays]) -> list[LayerProfile]:
    profiles = []
    for depth in FACTORS["depth"]:
        cells = [cell for cell, levels in zip(found, design, strict=True) if levels["depth"] == depth]
        for layer in range(depth if cells else 0):
            by_class = np.stack([cell["errors"][layer] for cell in cells])
            errors = mean_over(_usual(by_class), by_class)
            reasons = sum((_reasons(cell, layer) for cell in cells), Counter[str]())
            share = float(np.isfinite(by_class).mean())
            profiles.append(LayerProfile(layer + 1, depth, share, mean_share(mean_of_found(errors)), reasons))
    return profiles


def _factors(
    design: list[dict[str, Any]],
    errors: NDArray[np.float64],
    fixed: NDArray[np.float64],
    turned: NDArray[np.bool_],
    points: int,
) -> dict[str, Factor]:
    """From eps* and the error at a fixed epoch, (cells, S), and which radii turn, (cells, S, C)."""
    means = mean_of_found(errors)
    found = ~np.isnan(means)
    columns = {name: np.array([levels.index(cell[name]) for cell in design]) for name, levels in FACTORS.items()}
    used, sizes = {name: column[found] for name, column in columns.items()}, {name: len(of) for name, of in FACTORS.items()}
    logs = log_share(means[found], points)
    effects, ratios = analysis_of_variance(logs, used), _ratios(logs, used, sizes)
    at_fixed_epoch = _ratios(log_share(mean_of_found(fixed)[found], points), used, sizes)
    return {
        name: Factor(
            levels,
            [mean_share(means[found & (columns[name] == i)]) for i in range(len(levels))],
            [float(turned[columns[name] == i].mean()) for i in range(len(levels))],
            *effects[name],
            ratios[name],
            at_fixed_epoch[name],
        )
        for name, levels in FACTORS.items()
    }


def _ratios(
    logarithms: NDArray[np.float64], factors: dict[str, NDArray[np.int64]], n_levels: dict[str, int]
) -> dict[str, Estimate]:
    """The largest differences of logarithms as ratios, in [1, inf)."""
    return {
        name: Estimate(math.exp(each.value), math.exp(each.value) * each.standard_error, math.exp(each.low), _exp(each.high))
        for name, each in largest_differences(logarithms, factors, n_levels).items()
    }


def _exp(end: float) -> float:
    return math.exp(end) if end < 700 else math.inf if not math.isnan(end) else math.nan


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
