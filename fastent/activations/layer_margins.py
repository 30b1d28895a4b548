"""How far points are from the decision boundary at each layer of a torch model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.evaluation import evaluating, uncompiled, unwrapped
from fastent.activations.layer_inputs import called_once, chosen_layers, followed, inputs_of, labelled_batches
from fastent.activations.layouts import Layouts
from fastent.activations.record_files import long_table
from fastent.errors import FastentError
from fastent.io.tabular import Tabular
from fastent.printable import printable, storable
from fastent.runtime.progress import Progress, reporting
from fastent.statistics.notes import Note, merged

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

__all__ = ["LayerMargins", "layer_margins"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerMargins(Tabular):
    """Distances of n points from the decision boundary, as seen from the input of each of L layers.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers, in the order in which the model calls them.
    margin : (L, n) float64
        Logit margin over the norm of its gradient with respect to the layer's input, in units of `spread`: the distance to the
        boundary, to first order. Negative where the model is wrong; infinite where the logits do not depend on the input.
    logit_margin : (n,) float64
        Logit of the true class less the largest other one.
    spread : (L,) float64
        Square root of the total variance of the layer's input over the n points. Where it is 0, margins are infinite.
    signature : Mapping of str to (L,) float64
        "lower fence", "first quartile", "median", "third quartile" and "upper fence" of the margins of correctly classified
        points (finite margins only; NaN where there are none). Fences lie 1.5 interquartile ranges outside of the quartiles, or
        at the outermost margin where that is nearer, so that logarithms exist.
    notes : tuple of str
        Which layers have margins that are infinite, and why a signature is NaN.
    """

    layers: tuple[str, ...]
    margin: Array
    logit_margin: Array
    spread: Array
    signature: Mapping[str, Array]
    notes: tuple[Note, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of points that the model classifies correctly; ties of logits are errors."""
        return float((self.logit_margin > 0).mean())

    def summary(self) -> dict[str, float]:
        """Return accuracy and signatures as a flat dict of floats, such as "fc1/median"."""
        signatures = {
            f"{layer}/{name}": float(values[i])
            for i, layer in enumerate(self.layers)
            for name, values in self.signature.items()
        }
        return {"accuracy": self.accuracy, **signatures}

    def table(self) -> "pa.Table":
        """A row for each layer and point, the points in the order of the loader."""
        columns = {
            "layer": (storable(np.array(self.layers)), (0,)),
            "point": (np.arange(len(self.logit_margin)), (1,)),
            "margin": (self.margin, (0, 1)),
            "logit_margin": (self.logit_margin, (1,)),
        }
        return long_table(self.margin.shape, {}, columns)

    def __repr__(self) -> str:
        medians = ", ".join(f"{layer} {value:.4g}" for layer, value in zip(self.layers, self.signature["median"], strict=True))
        found = f"LayerMargins({len(self.logit_margin)} points, accuracy {self.accuracy:.4f}, medians: {medians})"
        return printable(found)


def layer_margins(
    model: "nn.Module",
    loader: "Iterable[tuple[Tensor, Tensor]]",
    layers: Sequence[str] | None = None,
    *,
    progress: Progress = None,
) -> LayerMargins:
    """Measure each point's distance to the decision boundary at the inputs of a model's layers: one pass over the data.

    At a layer with input x the margin of a point of class y is (f_y - f_j) / |grad_x (f_y - f_j)|, where f are the logits and j
    is the other class with the largest one, divided by the square root of the total variance of x over all points.

    Parameters
    ----------
    model : torch.nn.Module
        Returns logits (b, C). It runs uncompiled, in eval mode (so that points do not influence each other), on the device of
        its parameters. Its mode, torch's random state, its parameters and their gradients are left as they were.
    loader : iterable of (inputs, labels)
        inputs (b, ...), labels (b,) class numbers 0..C-1. Points are reported in its order: do not shuffle.
    layers : sequence of str, optional
        Names as in `model.named_modules()`; "" is the model itself, that is the data. By default
        every linear and convolutional layer.
    progress : bool or callable, optional
        True for a bar on stderr; or a function of (done, total, message), in batches.

    Returns
    -------
    LayerMargins

    Raises
    ------
    FastentError
        Unknown layers; layers that are not called, called twice in a pass, or whose input is changed in place afterwards;
        batches of another form; outputs that are no logits or not finite; no points.

    References
    ----------
    Jiang et al., "Predicting the generalization gap in deep networks with margin distributions", 2019.

    Examples
    --------
    >>> import fastent as fe, torch
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> _ = torch.nn.init.eye_(model.weight)
    >>> points, labels = torch.tensor([[3.0, 1.0], [0.0, 4.0]]), torch.tensor([0, 1])
    >>> found = fe.layer_margins(model, [(points, labels)])
    >>> (found.margin * found.spread).round(4).tolist()  # distances to the diagonal
    [[1.4142, 2.8284]]
    """
    import torch

    model = unwrapped(model)
    modules = chosen_layers(model, layers)
    layouts = Layouts(model, modules)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    total = len(loader) if isinstance(loader, Sized) else 0
    spreads: dict[str, _Spread] = {}
    logit_margins: list[Array] = []
    margins: list[Array] = []
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(uncompiled())
        seen = stack.enter_context(inputs_of(modules))
        stack.enter_context(torch.enable_grad())
        report = stack.enter_context(reporting(progress, "layer margins", total))
        for batch, (inputs, labels) in enumerate(labelled_batches(loader)):
            seen.clear()
            inputs = inputs.to(device)
            own, other = _top_two(model(followed(inputs)), labels.to(device))
            called = called_once(seen, modules, len(labels), layouts)
            difference = own - other
            gradients = _gradients(difference, called)
            norms = np.stack([_row_norms(gradient) for gradient in gradients])
            logit_margins.append(difference.detach().double().cpu().numpy())
            with np.errstate(divide="ignore", invalid="ignore"):
                margins.append(np.where(logit_margins[-1] == 0, 0.0, logit_margins[-1] / norms))
            for name, tensor in called.items():
                spreads.setdefault(name, _Spread()).add(tensor.detach())
            report(batch + 1, f"{sum(map(len, logit_margins)):,} points")
    if not logit_margins:
        raise FastentError("loader has no points: at least one batch of (inputs, labels) is needed")
    spread = np.array([spreads[name].root() for name in spreads])
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.concatenate(margins, axis=1) / spread[:, None]
    margin[np.isnan(margin)] = 0.0
    logit_margin = np.concatenate(logit_margins)
    right = margin[:, logit_margin > 0]
    return LayerMargins(
        tuple(spreads), margin, logit_margin, spread, _signature(right), merged(_notes(tuple(spreads), right, spread))
    )


def _notes(layers: Sequence[str], right: Array, spread: Array) -> Iterator[Note]:
    """On margins (L, m) of the points that are classified correctly."""
    if not right.shape[1]:
        yield Note("no point is classified correctly", "there are no signatures")
        return
    for layer, values, width in zip(layers, right, spread, strict=True):
        infinite = int(np.isinf(values).sum())
        if width == 0:
            yield Note(
                f"the input of layer {layer!r} is the same for all points", "its margins are infinite, without a signature"
            )
        elif infinite:
            of = "all" if infinite == len(values) else f"{infinite:,} of {len(values):,}"
            yield Note(
                f"the logits of {of} correctly classified points do not depend on the input of layer {layer!r}",
                "their margins are infinite, and left out of its signature",
            )


def _top_two(logits: Any, labels: "Tensor") -> "tuple[Tensor, Tensor]":
    """Logits (b,) of the true class, and the largest of the others."""
    import torch

    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else None
    if shape is None or len(shape) != 2 or len(logits) != len(labels) or shape[1] < 2:
        found = f"a {type(logits).__name__}" if shape is None else f"a tensor of shape {shape}"
        raise FastentError(f"model returns {found}: logits of shape ({len(labels)}, classes), 2 classes or more, are needed")
    broken = (~torch.isfinite(logits).all(1)).nonzero()
    if len(broken):
        where = f"{len(broken)} of {len(logits)} rows of a batch, first row {int(broken[0])} of it"
        raise FastentError(f"model returns logits that are not finite: there are no margins in {where}")
    strange = ((labels < 0) | (labels >= shape[1])).nonzero()
    if len(strange):
        where = f"{len(strange)} of {len(labels)} rows of a batch have such labels, first row {int(strange[0])} of it"
        raise FastentError(f"the model has outputs 0 to {shape[1] - 1}, and none for label {int(labels[strange[0]])}; {where}")
    column = labels.long()[:, None]
    others = logits.scatter(1, column, -torch.inf)
    return logits.gather(1, column)[:, 0], others.amax(1)


def _gradients(difference: "Tensor", called: "dict[str, Tensor]") -> "tuple[Tensor, ...]":
    """Gradients of each point's margin in its row of each layer's input; rows do not mix, so the sum's gradient has them."""
    import torch

    none: tuple[Tensor | None, ...] = (None,) * len(called)
    found = none
    if difference.requires_grad:
        found = torch.autograd.grad(difference.sum(), list(called.values()), allow_unused=True)
    for name, gradient in zip(called, found, strict=True):
        if gradient is None:
            raise FastentError(
                f"the logits do not follow from the input of layer {name!r} by differentiable steps: choose others"
            )
    return tuple(gradient for gradient in found if gradient is not None)


def _row_norms(rows: "Tensor") -> Array:
    import torch

    norms: Array = (
        torch.linalg.vector_norm(rows.flatten(1) if rows.ndim > 1 else rows[:, None], dim=1, dtype=torch.float64).cpu().numpy()
    )
    return norms


class _Spread:
    """Total variance of rows that come in batches, about the mean of the first batch, summed in double precision."""

    def __init__(self) -> None:
        self._n = 0
        self._origin: Any = None
        self._sums: Any = None
        self._squares = 0.0

    def add(self, rows: "Tensor") -> None:
        import torch

        rows = rows.reshape(len(rows), -1)
        if self._origin is None:
            self._origin = rows.mean(0, dtype=torch.float64).to(rows.dtype)
            self._sums = torch.zeros_like(self._origin, dtype=torch.float64)
        if rows.shape[1:] != self._origin.shape:
            raise FastentError(
                f"a layer's input has {len(self._origin)} and then {rows.shape[1]} values a point: "
                "pad or crop the data to one size"
            )
        deviations = rows - self._origin
        self._n += len(rows)
        self._sums += deviations.sum(0, dtype=torch.float64)
        self._squares += float(torch.linalg.vector_norm(deviations, dtype=torch.float64)) ** 2

    def root(self) -> float:
        mean = self._sums / self._n
        return float(max(self._squares / self._n - float(mean @ mean), 0.0) ** 0.5)


def _signature(margin: Array) -> Mapping[str, Array]:
    """Quartiles and fences (L,) of margins (L, m), finite ones only."""
    rows = []
    for values in margin:
        values = values[np.isfinite(values)]
        if not len(values):
            rows.append([np.nan] * 5)
            continue
        first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
        reach = 1.5 * (third - first)
        rows.append([max(first - reach, values.min()), first, median, third, min(third + reach, values.max())])
    names = ("lower fence", "first quartile", "median", "third quartile", "upper fence")
    return MappingProxyType(dict(zip(names, np.array(rows).T, strict=True)))
