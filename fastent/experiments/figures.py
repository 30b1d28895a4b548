"""The four figures of the source paper, each in one call: from a result, or from data, whose experiment is then carried out."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["generalization", "inversion", "pruning", "stability"]

_HEIGHT = 3.6


def inversion(run: Any = "digits", **options: Any) -> "tuple[Figure, NDArray[Any]]":
    """Segregation, inversion and entanglement: radii and distances against the epoch, and radii against the training error.

    Parameters
    ----------
    run : Run, Dynamics or data
        A finished run, or whatever `fe.train` takes, which is then trained on.
    **options
        Of `fe.train`, where `run` is data.

    Returns
    -------
    (Figure, (3,) array of Axes)

    Examples
    --------
    >>> import fastent as fe
    >>> figure, axes = fe.figures.inversion(fe.train("digits", seeds=2, epochs=30))
    >>> [panel.get_xlabel() for panel in axes]
    ['epoch', 'epoch', 'training error']
    """
    from fastent.experiments._dynamics import Dynamics
    from fastent.training.run import Run
    from fastent.training.train import train

    if isinstance(run, Dynamics):
        run = run.run
    found: Run = run if isinstance(run, Run) else train(run, **options)
    figure, axes = _panels(3)
    found.plot(ax=axes[0])
    found.plot("distance", ax=axes[1])
    found.plot(against="train_error", ax=axes[2])
    return figure, axes


def pruning(result: Any = "digits", **options: Any) -> "tuple[Figure, NDArray[Any]]":
    """Radii with and without the stragglers, and how deep the dip is in each.

    Parameters
    ----------
    result : Pruning or data
        What `fastent.experiments.pruning` found, or what it takes.
    **options
        Of the experiment, where `result` is data.

    Returns
    -------
    (Figure, (2,) array of Axes)
    """
    from fastent.experiments._pruning import Pruning
    from fastent.experiments._pruning import pruning as carry_out
    from fastent.plots.style import COLORS

    found: Pruning = result if isinstance(result, Pruning) else carry_out(result, **options)
    figure, axes = _panels(2)
    found.plot(ax=axes[0])
    for place, (arm, color) in enumerate(zip(found.arms, COLORS, strict=False)):
        axes[1].plot(arm.depth.value, place, "o", color=color)
        axes[1].hlines(place, arm.depth.low, arm.depth.high, color=color)
    axes[1].set_yticks(range(len(found.arms)), [arm.name for arm in found.arms])
    axes[1].set(
        ylim=(len(found.arms) - 0.5, -0.5), xlabel="depth of the dip in the radius,\nshare of its range (95 % interval)"
    )
    axes[1].axvline(0, color="0.3", linewidth=0.8, linestyle="--")
    axes[1].grid(axis="x", alpha=0.25)
    return figure, axes


def generalization(result: Any = "digits", **options: Any) -> "tuple[Figure, NDArray[Any]]":
    """Test error after training without what was misclassified at t, and how that differs from leaving out random points.

    Parameters
    ----------
    result : Generalization or data
        What `fastent.experiments.generalization` found, or what it takes.
    **options
        Of the experiment, where `result` is data.

    Returns
    -------
    (Figure, (2,) array of Axes)
    """
    from fastent.experiments._generalization import Generalization
    from fastent.experiments._generalization import generalization as carry_out
    from fastent.plots.style import COLORS, error_axis, plain

    found: Generalization = result if isinstance(result, Generalization) else carry_out(result, **options)
    figure, axes = _panels(2)
    found.plot(ax=axes[0])
    axes[0].set_title(plain(f"{found.config['data']}, trained without S(t)"))
    errors = found.train_error.mean(1)
    for kind, color in zip(found.without, COLORS, strict=False):
        effects = 100 * np.array([found.effect(kind, i) for i in range(len(found.times))]).reshape(-1, 4)
        axes[1].plot(errors, effects[:, 0], "o-", color=color, markersize=4, label=kind)
        axes[1].fill_between(errors, effects[:, 2], effects[:, 3], color=color, alpha=0.2, linewidth=0)
    axes[1].axhline(0, color="0.3", linewidth=0.8, linestyle="--")
    if np.isfinite(found.critical_error.value):
        axes[1].axvline(found.critical_error.value, color=COLORS[-1], label="inversion")
    axes[1].set(ylabel="difference, percentage points", title="Without S(t), less without random points")
    error_axis(axes[1], found.config["training_points"])
    axes[1].set_xlabel("training error at t")
    axes[1].legend(frameon=False, fontsize="small")
    return figure, axes


def stability(result: Any = "digits", **options: Any) -> "tuple[Figure, NDArray[Any]]":
    """How far networks agree on what they get wrong, in standard deviations beyond chance, and in points.

    Parameters
    ----------
    result : Stability or data
        What `fastent.experiments.stability` found, or what it takes.
    **options
        Of the experiment, where `result` is data.

    Returns
    -------
    (Figure, (2,) array of Axes)
    """
    from fastent.experiments._stability import Stability
    from fastent.experiments._stability import stability as carry_out
    from fastent.plots.style import COLORS, error_axis

    found: Stability = result if isinstance(result, Stability) else carry_out(result, **options)
    figure, axes = _panels(2)
    found.plot(ax=axes[0])
    common = found.common
    axes[1].plot(found.train_error, common.mean(0), "o-", color=COLORS[0], markersize=4, label="two networks")
    axes[1].fill_between(found.train_error, *np.quantile(common, (0.05, 0.95), axis=0), color=COLORS[0], alpha=0.2, linewidth=0)
    axes[1].plot(found.train_error, found.expected.mean(0), "s--", color=COLORS[-1], markersize=3, label="by chance")
    if np.isfinite(found.critical_error.value):
        axes[1].axvline(found.critical_error.value, color=COLORS[1], label="inversion")
    axes[1].set(ylabel="points misclassified by both", title="Mean over pairs; band: 5 to 95 % of them")
    error_axis(axes[1], found.config["training_points"])
    axes[1].legend(frameon=False, fontsize="small")
    return figure, axes


def _panels(number: int) -> "tuple[Figure, NDArray[Any]]":
    """Beside each other, with letters as in a paper."""
    from fastent.plots.figure import new_figure

    figure = new_figure((4.6 * number, _HEIGHT))
    axes: NDArray[Any] = figure.subplots(1, number)
    for letter, panel in zip("abc", axes, strict=False):
        panel.set_title(letter, loc="left", fontweight="bold")
    return figure, axes
