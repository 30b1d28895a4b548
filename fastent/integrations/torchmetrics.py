"""Class geometry as a torchmetrics metric: its states are sums, which torchmetrics can add up over processes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastent.errors import FastentError
from fastent.options import whole_number
from fastent.runtime.optional import needed
from fastent.statistics.class_geometry import ClassGeometry
from fastent.statistics.class_moments import ClassMoments

__all__ = ["ClassGeometryMetric"]

_Metric: Any = needed("torchmetrics", "Metric")

# What torchmetrics changes of a metric while `forward` computes the value of one batch.
_RESTORED = ("_update_count", "_is_synced", "_should_unsync", "_to_sync", "_computed", "_enable_grad", "compute_on_cpu")


class ClassGeometryMetric(_Metric):  # type: ignore[misc]
    """Class radii, distances between class means and Fisher ratio of rows that come in batches, on one or more processes.

    States are sums in float64, on the metric's device, about an origin that all processes share: sums about each process's
    first rows, as `fe.ClassMoments` has them, could not be added. They stay in float64 when the model that the metric belongs
    to is converted, by `half()` or otherwise. A radius R of rows at distance r from the origin is therefore known to about
    1e-16 r^2 / R: for unit rows, r = 1, a collapsed class has a radius of 1e-8 and not of 0. If rows are far from
    zero compared with the distances between them, give an `origin` near them.

    Parameters
    ----------
    n_classes, n_features : int
    normalize : bool, default True
        Scale each row to unit L2 norm, as in `fe.geometry`; a row of zeros stays zero.
    origin : array-like (n_features,), optional
        The same on all processes; a point among the unit rows if `normalize` is on. By default all zeros.
    **kwargs
        As for any torchmetrics.Metric.

    Raises
    ------
    FastentError
        From `update` and `forward`: rows or labels that do not fit; what was added before stays. From `compute`: NaN or
        infinity among the rows; processes or merged metrics with different `origin` or `normalize`.

    Notes
    -----
    `update(X, labels)` takes X (b, n_features) and class numbers (b,). `compute()` returns a flat dict of scalar tensors:
    "radius/0", ..., "radius" (their mean over the classes seen), "distance" (mean over pairs of classes seen), "fisher". A
    class not seen yet has a radius of NaN; as long as fewer than two classes were seen, all are NaN. `metric["radius"]` is a
    metric of one of these numbers, for what takes no dict, such as Lightning's `self.log`.
    `geometry()` returns all of it as a `fe.ClassGeometry`, of the classes that were seen.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    counts: Tensor
    sums: Tensor
    squares: Tensor
    origin: Tensor
    normalized: Tensor

    def __init__(self, n_classes: int, n_features: int, *, normalize: bool = True, origin: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_classes = whole_number("n_classes", n_classes, minimum=2)
        self.n_features = whole_number("n_features", n_features, minimum=1)
        self.normalize = bool(normalize)
        # What the sums are of. They are states, and the first ones, so that sums of different kinds are never added.
        self.add_state("origin", _as_origin(origin, n_features), dist_reduce_fx=_the_same_origin)
        self.add_state("normalized", torch.tensor(int(self.normalize)), dist_reduce_fx=_the_same_normalize)
        self.add_state("counts", torch.zeros(n_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(n_classes, n_features, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(n_classes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, X: Tensor, labels: Tensor) -> None:
        """Add rows (b, n_features) of classes (b,)."""
        self._check(X, labels)
        rows, codes = X.detach().double(), labels.long()
        if self.normalize:
            rows = _unit(rows)
        rows = rows - self.origin
        self.counts.index_add_(0, codes, torch.ones_like(codes))
        self.sums.index_add_(0, codes, rows)
        self.squares.index_add_(0, codes, rows.square().sum(1))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Add rows as `update` does, and return what `compute` makes of them alone."""
        # torchmetrics empties the states for the batch, and would leave them empty if the batch cannot be used.
        before = {name: self.__dict__[name] for name in _RESTORED}
        states = self._copy_state_dict()
        try:
            return super().forward(*args, **kwargs)
        except Exception:
            self.__dict__.update(before)
            for name, value in states.items():
                setattr(self, name, value)
            raise

    def compute(self) -> dict[str, Tensor]:
        """Radii and distances so far, as scalar tensors."""
        seen = self._seen()
        radius, mean, distance, fisher = np.full(self.n_classes, np.nan), np.nan, np.nan, np.nan
        if len(seen) > 1:
            found = self._geometry(seen)
            radius[seen], mean = found.radius, found.radius.mean()
            distance = found.distance[np.triu_indices(len(seen), 1)].mean()
            fisher = found.fisher
        numbers = {f"radius/{c}": value for c, value in enumerate(radius)}
        numbers |= {"radius": mean, "distance": distance, "fisher": fisher}
        return {name: torch.tensor(float(value), dtype=torch.float64, device=self.device) for name, value in numbers.items()}

    def geometry(self) -> ClassGeometry:
        """All of the geometry of the classes seen so far, by all processes.

        Raises
        ------
        FastentError
            Fewer than two classes were seen.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync):
            return self._geometry(self._seen())

    def merge_state(self, incoming_state: Any) -> None:
        """Add what another metric with the same arguments has seen."""
        given = incoming_state.metric_state if isinstance(incoming_state, ClassGeometryMetric) else incoming_state
        if isinstance(given, dict):
            given = {name: self._own(name, value) if name in self._defaults else value for name, value in given.items()}
        super().merge_state(given)

    @contextmanager
    def sync_context(self, *args: Any, should_unsync: bool = True, **kwargs: Any) -> Iterator[None]:
        """As of any torchmetrics.Metric; after an error too, each process has its own sums again."""
        self.sync(*args, **kwargs)
        try:
            yield
        finally:
            self.unsync(should_unsync=self._is_synced and should_unsync)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Any:
        """Move to another device; a conversion of the model's dtype leaves the sums as they are."""

        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        return super()._apply(moved, exclude_state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in self._defaults:
            if prefix + name in state_dict:
                state_dict[prefix + name] = self._own(name, state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _own(self, name: str, given: Tensor) -> Tensor:
        """A stored state as one of this metric."""
        mine = getattr(self, name)
        if given.shape != mine.shape:
            raise FastentError(
                f"the other metric's {name!r} has shape {tuple(given.shape)}, this one's {tuple(mine.shape)}: make both with "
                "the same n_classes and n_features"
            )
        if name == "normalized" and int(given) != int(mine):
            raise FastentError(f"the other metric has normalize={bool(given)}, this one {self.normalize}: make both alike")
        return given.to(mine)

    def _check(self, X: Any, labels: Any) -> None:
        if not isinstance(X, Tensor) or not isinstance(labels, Tensor):
            raise FastentError(f"X is {type(X).__name__}, labels {type(labels).__name__}: torch tensors are needed")
        if X.ndim != 2 or X.shape[1] != self.n_features or labels.shape != X.shape[:1]:
            raise FastentError(
                f"X has shape {tuple(X.shape)}, labels {tuple(labels.shape)}: (b, {self.n_features}) and (b,) are needed"
            )
        if X.is_complex():
            raise FastentError(f"X has dtype {X.dtype}: real numbers are needed, for instance X.abs()")
        if X.device != self.device or labels.device != self.device:
            raise FastentError(
                f"X is on {X.device}, labels on {labels.device}, the metric on {self.device}: move all to one, as by "
                "metric.to(X.device)"
            )
        if labels.is_floating_point() or labels.is_complex():
            raise FastentError(f"labels are {labels.dtype}: class numbers 0..{self.n_classes - 1} are needed, as integers")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.n_classes:
            raise FastentError(
                f"labels are {labels.dtype} from {labels.min()} to {labels.max()}: 0..{self.n_classes - 1} are needed"
            )

    def _seen(self) -> Any:
        return np.flatnonzero(self.counts.cpu().numpy())

    def _geometry(self, seen: Any) -> ClassGeometry:
        squares = self.squares.cpu().numpy()[seen]
        if not np.isfinite(squares).all():
            raise FastentError("X had NaN or infinity since the last reset: reset, and check what the model returns")
        if len(seen) < 2:
            raise FastentError(f"geometry needs at least 2 classes, {len(seen)} were seen: update with more rows")
        moments = ClassMoments(len(seen), self.n_features, normalize=self.normalize)
        moments.load_state_dict(
            {
                "normalize": self.normalize,
                "shift": np.broadcast_to(self.origin.cpu().numpy(), (len(seen), self.n_features)),
                "counts": self.counts.cpu().numpy()[seen],
                "sums": self.sums.cpu().numpy()[seen],
                "squares": squares,
                "scatter": None,
            }
        )
        return moments.compute(seen)


def _as_origin(origin: Any, n_features: int) -> Tensor:
    if origin is None:
        return torch.zeros(n_features, dtype=torch.float64)
    try:
        place = torch.as_tensor(
            np.asarray(origin.detach().cpu().double() if isinstance(origin, Tensor) else origin, np.float64)
        )
    except (TypeError, ValueError) as error:
        raise FastentError(f"origin cannot be read as numbers ({error}): {n_features} finite ones are needed") from error
    if place.shape != (n_features,) or not torch.isfinite(place).all():
        raise FastentError(f"origin has shape {tuple(place.shape)}: {n_features} finite numbers are needed")
    return place.clone()


def _unit(rows: Tensor) -> Tensor:
    """Rows at unit length; scaled by their largest value first, whose square may overflow or vanish."""
    largest = rows.abs().amax(1, keepdim=True)
    rows = rows / largest.masked_fill(largest == 0, 1)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit: Tensor = rows / norms.masked_fill(norms == 0, 1)
    return unit


def _the_same_origin(given: Tensor) -> Tensor:
    if not bool((given == given[0]).all()):
        raise FastentError("sums about different origins cannot be added: give every process and metric the same origin=")
    return given[0]


def _the_same_normalize(given: Tensor) -> Tensor:
    if not bool((given == given[0]).all()):
        raise FastentError("sums of unit rows and of rows as they are cannot be added: give every metric the same normalize=")
    return given[0]
