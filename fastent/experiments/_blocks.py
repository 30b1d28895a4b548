"""Is the training error at the inversion the same whichever points are drawn?"""

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.experiments.critical import (
    compared_classes,
    compared_text,
    critical_errors,
    critical_test_errors,
    mean_of_found,
    reasons_text,
)
from fastent.experiments.result import Holds, Result, Table, Verdict
from fastent.experiments.setting import Setting
from fastent.options import whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, Z
from fastent.statistics.variance_components import variance_components

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Blocks", "Spread", "blocks", "has_every_class"]

# The source paper's number of points, and the least number of blocks.
_SIZE, _LEAST_BLOCKS = 8192, 3
# "The same" is a spread shown to be below so many times what sampling alone would give.
_ALIKE = 1.5
_NOTHING = Estimate(np.nan, np.nan, np.nan, np.nan)


class Spread(NamedTuple):
    """How an error at the inversion varies: standard deviations as shares of its mean, each with a 95 % interval in [0, inf).

    mean, over the networks compared; between_blocks, of one seed's networks in the limit of many seeds; between_seeds, the same
    of seeds; residual, what neither explains; one_network, from one block to another with one network in each: the root of the
    squares of between_blocks and residual; sampling, the binomial standard deviation of a share of a block's points, NaN for
    test errors, whose points are the same for all blocks; ratio, of one_network to sampling; seeds, how many have an inversion
    in every block and are compared.
    """

    mean: float
    between_blocks: Estimate
    between_seeds: Estimate
    residual: Estimate
    one_network: Estimate
    sampling: float
    ratio: Estimate
    seeds: int


@dataclass(frozen=True, eq=False, repr=False)
class Blocks(Result):
    """eps* of networks trained on disjoint blocks of the points.

    The null is binomial sampling: each of the P points of a block is misclassified at the inversion with the same probability
    eps, independently of the others, so that eps* has the standard deviation ``sqrt(eps (1 - eps) / P)``. It assumes that a
    block's points are drawn at random and that the inversion comes at the same expected error in every block. Points may differ
    in difficulty. Networks that fit their own points, or turn at different times, spread more or less than that.

    Attributes
    ----------
    size : int
        Points in each block.
    critical_errors : (L, B, S) float64
        eps* of each layer, block and network: the mean over the compared classes of the training error at the class's
        inversion, in [0, 1]; NaN where one of them has none. Compared are classes that turn in at least half of all networks.
    test_errors : (L, B, S) float64
        The same of the test error.
    spread, test_spread : list of Spread
        Their variance components, for each layer.
    reasons : list of str
        Why radii of a layer have no inversion.
    compared : list of str
        Which classes are compared, for each layer, if these are not all.
    """

    size: int
    critical_errors: NDArray[np.float64]
    test_errors: NDArray[np.float64]
    spread: list[Spread]
    test_spread: list[Spread]
    reasons: list[str]
    compared: list[str]

    name = "blocks"
    title = "The inversion and the choice of points"
    claim = "Apart from sampling, the training error at the inversion is the same whichever points are drawn."

    @property
    def verdict(self) -> Verdict:
        found, errors = self.spread[0], self.critical_errors[0]
        missing = int(np.isnan(errors).sum())
        without = (
            f"{missing} of {errors.size} networks lack an inversion in the first hidden layer (reasons, by radius: "
            f"{self.reasons[0]})"
        )
        if math.isnan(found.ratio.value):
            if found.mean == 0:
                return Verdict("undecided", "The inversions are at a training error of 0, which has no relative spread.")
            return Verdict("undecided", f"No seed has an inversion in every block: {without}. {self.compared[0]}".rstrip())
        said = (
            f"In {errors.shape[0]} blocks of {self.size:,} points eps* is {percent(found.mean)} on average. From block to "
            f"block it varies by {estimate_text(found.one_network, percent=True, digits=1)} of that; sampling so many points "
            f"gives {percent(found.sampling, 1)}. The ratio is {estimate_text(found.ratio)}: more than 1 is a spread that "
            f"sampling does not explain, and \u201cthe same\u201d means below {_ALIKE:g}"
        )
        if missing:
            said += f". {without}; only seeds that have one in every block are compared"
        if self.compared[0]:
            said += f". {self.compared[0].removesuffix('.')}"
        return Verdict(_same(found.ratio, complete=not missing), f"{said}.")

    def table(self) -> Table:
        rows = [
            (
                f"layer {layer + 1}, {kind} error",
                percent(found.mean),
                *(
                    estimate_text(each, percent=True, digits=1)
                    for each in (found.one_network, found.between_blocks, found.between_seeds, found.residual)
                ),
                percent(found.sampling, 1) if found.sampling > 0 else NOTHING,
                estimate_text(found.ratio),
            )
            for layer, both in enumerate(zip(self.spread, self.test_spread, strict=True))
            for kind, found in zip(("training", "test"), both, strict=True)
        ]
        headings = (
            "at the inversion", "mean", "block to block", "between blocks", "between seeds", "residual", "sampling", "ratio"
        )  # fmt: skip
        note = (
            "Standard deviations as shares of the mean, with 95 % intervals. Block to block: of single networks of the same "
            "seed; its square is the sum of those between blocks and of the residual. Sampling: the binomial standard "
            f"deviation of a share of {self.size:,} points, each of which is misclassified with the same probability."
        )
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "critical_errors": self.critical_errors,
            "test_errors": self.test_errors,
            "spread": {f"layer {layer + 1}": found for layer, found in enumerate(self.spread)},
            "test_spread": {f"layer {layer + 1}": found for layer, found in enumerate(self.test_spread)},
            "reasons": self.reasons,
            "compared": self.compared,
        }

    def draw(self, axes: "Axes") -> None:
        place = 1 + np.arange(self.critical_errors.shape[1])
        for errors, color, label in ((self.critical_errors, COLORS[0], "training"), (self.test_errors, COLORS[1], "test")):
            axes.plot(place, 100 * errors[0], "o", color=color, markersize=3, alpha=0.35)
            axes.plot(place, 100 * mean_of_found(errors[0]), "_", color=color, markersize=14, label=f"{label} error, mean")
        mean, sampling = self.spread[0].mean, self.spread[0].sampling
        if sampling > 0:
            low, high = 100 * mean * (1 - Z * sampling), 100 * mean * (1 + Z * sampling)
            axes.axhspan(
                low, high, color=COLORS[0], alpha=0.12, linewidth=0, label="95 % of training errors, by sampling alone"
            )
        axes.set(xlabel=f"block of {self.size:,} points", ylabel="error at the inversion, %", title=self.titled())
        axes.set_xticks(place if len(place) <= 20 else place[:: -(-len(place) // 20)])
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.25)
        axes.legend(frameon=False, fontsize="small")


def blocks(
    data: Any = "digits", *, size: int | None = None,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Blocks:  # fmt: skip
    """Train on disjoint blocks of the points, with the same seeds, and compare the training errors at the inversion.

    The points are shuffled first, since files may be sorted. Each block is standardised by itself, as in the source paper's
    notebook, and the test points with it.

    Parameters
    ----------
    data
        As for `dynamics`.
    size : int, optional
        Points in each block, at most half of all. The default is 8,192, the source paper's, or a third of the points if that
        is less; where a block lacks a class, a third or else half of the points. Points left over are not used.
    seeds, seed, preset, out, progress, **options
        As for `dynamics`, except that blocks are cut from all points with a preset too.

    Returns
    -------
    Blocks

    Raises
    ------
    FastentError
        Bad data or options, or a block that lacks a class.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    if size is not None:
        whole_number("size", size, minimum=2)
    setting = Setting.make(
        data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options,
        defaults={"test_every": 2}, all_points=True,
    )  # fmt: skip
    n = len(setting.data.y_train)
    usual = sorted({max(each, 1) for each in (min(_SIZE, n // _LEAST_BLOCKS), n // _LEAST_BLOCKS, n // 2)})
    tried = usual if size is None else [whole_number("size", size, minimum=2, maximum=n // 2)]
    for size in tried:
        blocks_of = _rows_of_blocks(setting.data, size, setting.seed)
        if all(has_every_class(setting.data, rows) for rows in blocks_of):
            break
    else:
        raise FastentError(f"size={size}: a block lacks a class; choose larger blocks, or more points")
    runs = [setting.changed(data=setting.data.take_alone(rows)).train("blocks") for rows in blocks_of]
    layers = range(runs[0].n_layers)
    classes = [compared_classes(runs, layer) for layer in layers]
    errors, test_errors = (
        np.array([[errors_of(run, layer, classes=classes[layer]) for run in runs] for layer in layers])
        for errors_of in (critical_errors, critical_test_errors)
    )
    return Blocks(
        config={**setting.config, "size": size, "blocks": len(runs)},
        size=size,
        critical_errors=errors,
        test_errors=test_errors,
        spread=[spread_of(each, size) for each in errors],
        test_spread=[spread_of(each) for each in test_errors],
        reasons=[reasons_text(runs, layer, classes[layer] if classes[layer].any() else None) for layer in layers],
        compared=[compared_text(runs[0].class_names, each) for each in classes],
    )


def _rows_of_blocks(data: Data, size: int, seed: int) -> list[NDArray[np.int64]]:
    """Positions of the points of each block, ascending."""
    order = np.random.default_rng((seed, 5)).permutation(len(data.y_train))
    return [np.sort(order[start : start + size]) for start in range(0, len(order) - size + 1, size)]


def has_every_class(data: Data, rows: NDArray[np.int64]) -> bool:
    """Whether every class has a point among these rows."""
    return len(np.unique(data.y_train[rows])) == len(data.classes)


def spread_of(errors: NDArray[np.float64], size: int | None = None) -> Spread:
    """Variance components of the errors at the inversion, (B, S), as shares of their mean, and the null of `size` points."""
    complete = errors[:, np.isfinite(errors).all(0)]
    seeds = complete.shape[1]
    mean = float(complete.mean()) if seeds else np.nan
    if not mean > 0:
        return Spread(mean, _NOTHING, _NOTHING, _NOTHING, _NOTHING, np.nan, _NOTHING, seeds)
    found = variance_components(complete / mean)
    sampling = np.nan if size is None else math.sqrt((1 - mean) / (mean * size))
    ratio = Estimate(*(figure / sampling if sampling > 0 else np.nan for figure in found.one_column))
    return Spread(mean, found.rows, found.columns, found.residual, found.one_column, sampling, ratio, seeds)


def _same(ratio: Estimate, *, complete: bool) -> Holds:
    """Whether blocks spread no more than sampling: networks without an inversion leave open what would be a yes."""
    if ratio.low > 1:
        return "no"
    return "yes" if ratio.high < _ALIKE and complete else "undecided"
