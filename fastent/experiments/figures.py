"""The four figures of the source paper, each in one call: from a result, or from data for the experiment."""

from typing import TYPE_CHECKING, Any

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
        A finished run, or data as for `fe.train`, which is then called.
    **options
        Options of `fe.train`, where `run` is data.

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
        A result of `fastent.experiments.pruning`, or data for it.
    **options
        Options of the experiment, where `result` is data.

    Returns
    -------
    (Figure, (2,) array of Axes)
    """
    return _with_detail("pruning", result, options)


def generalization(result: Any = "digits", **options: Any) -> "tuple[Figure, NDArray[Any]]":
    """Test error after training without the points misclassified at t, and its difference from leaving out random points.

    Parameters
    ----------
    result : Generalization or data
        A result of `fastent.experiments.generalization`, or data for it.
    **options
        Options of the experiment, where `result` is data.

    Returns
    -------
    (Figure, (2,) array of Axes)
    """
    return _with_detail("generalization", result, options)


def stability(result: Any = "digits", **options: Any) -> "tuple[Figure, NDArray[Any]]":
    """How far networks agree on the points they misclassify: Cohen's kappa; z, and how far the number of these points varies.

    Parameters
    ----------
    result : Stability or data
        A result of `fastent.experiments.stability`, or data for it.
    **options
        Options of the experiment, where `result` is data.

    Returns
    -------
    (Figure, (2,) array of Axes)
    """
    return _with_detail("stability", result, options)


def _with_detail(name: str, result: Any, options: dict[str, Any]) -> "tuple[Figure, NDArray[Any]]":
    """A result of this experiment, or of its being carried out on data, in two panels."""
    from fastent import experiments

    if not isinstance(result, getattr(experiments, name.capitalize())):
        result = getattr(experiments, name)(result, **options)
    figure, axes = _panels(2)
    for draw, panel in zip(result.drawings, axes, strict=True):
        draw(panel)
    return figure, axes


def _panels(number: int) -> "tuple[Figure, NDArray[Any]]":
    """Axes in a row, with letters as in a paper."""
    from fastent.plots.figure import new_figure

    figure = new_figure((4.6 * number, _HEIGHT))
    axes: NDArray[Any] = figure.subplots(1, number)
    for letter, panel in zip("abc", axes, strict=False):
        panel.set_title(letter, loc="left", fontweight="bold")
    return figure, axes
