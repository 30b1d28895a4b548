"""Class geometry as a metric of torchmetrics: states that are sums, so that its own machinery brings processes together."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastent.errors import FastentError
from fastent.geometry import ClassGeometry, ClassMoments
from fastent.lazy import needed
from fastent.options import whole_number

__all__ = ["ClassGeometryMetric"]

_Metric: Any = needed("torchmetrics", "Metric")


class ClassGeometryMetric(_Metric):  # type: ignore[misc]
    """Radii of classes, distances between their means and Fisher ratio, of rows that come in batches, on one or more processes.

    States are sums in float64, on the metric's device, about an origin that all processes share: sums about each process's
    first rows, as `fe.ClassMoments` has them, could not be added. A radius R of rows at distance r from the origin is therefore
    known to about 1e-16 r^2 / R: for unit rows, r = 1, a collapsed class has a radius of 1e-8 and not of 0. Where rows are far
    from zero compared with what separates them, give an `origin` that is near.

    Parameters
    ----------
    n_classes, n_features : int
    normalize : bool
        Scale each row to unit L2 norm; a row of zeros stays zero. On by default, as for `fe.geometry`.
    origin : array-like (n_features,), optional
        The same on all processes; of the unit rows, if `normalize` is on. Zeros unless said.
    **kwargs
        As for any torchmetrics.Metric.

    Notes
    -----
    `update(X, labels)` takes X (b, n_features) and class numbers (b,). `compute()` returns a flat dict of scalar tensors:
    "radius/0", ..., "radius" (their mean), "distance" (mean over pairs of classes), "fisher"; NaN for a class not seen yet.
    `geometry()` returns all of it as a `fe.ClassGeometry`, of the classes that were seen.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    counts: Tensor
    sums: Tensor
    squares: Tensor
    origin: Tensor

    def __init__(self, n_classes: int, n_features: int, *, normalize: bool = True, origin: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_classes = whole_number("n_classes", n_classes, minimum=2)
        self.n_features = whole_number("n_features", n_features, minimum=1)
        self.normalize = bool(normalize)
        place = torch.zeros(n_features) if origin is None else torch.as_tensor(origin)
        if place.shape != (n_features,) or not torch.isfinite(place).all():
            raise FastentError(f"origin has shape {tuple(place.shape)}: {n_features} finite numbers are needed")
        self.register_buffer("origin", place.double(), persistent=False)
        self.add_state("counts", torch.zeros(n_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(n_classes, n_features, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(n_classes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, X: Tensor, labels: Tensor) -> None:
        """Add rows (b, n_features) of classes (b,)."""
        if X.ndim != 2 or X.shape[1] != self.n_features or labels.shape != X.shape[:1]:
            raise FastentError(
                f"X has shape {tuple(X.shape)}, labels {tuple(labels.shape)}: (b, {self.n_features}) and (b,) are needed"
            )
        if labels.is_floating_point() or (len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.n_classes):
            raise FastentError(
                f"labels are {labels.dtype} from {labels.min()} to {labels.max()}: 0..{self.n_classes - 1} are needed"
            )
        rows, codes = X.detach().double(), labels.long()
        if self.normalize:
            norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            rows = rows / norms.masked_fill(norms == 0, 1)
        rows = rows - self.origin
        self.counts.index_add_(0, codes, torch.ones_like(codes))
        self.sums.index_add_(0, codes, rows)
        self.squares.index_add_(0, codes, rows.square().sum(1))

    def compute(self) -> dict[str, Tensor]:
        """Radii and distances so far, as scalar tensors."""
        seen = self._seen()
        radius, distance, fisher = np.full(self.n_classes, np.nan), np.nan, np.nan
        if len(seen) > 1:
            found = self._geometry(seen)
            radius[seen] = found.radius
            distance = found.distance[np.triu_indices(len(seen), 1)].mean()
            fisher = found.fisher
        numbers = {f"radius/{c}": value for c, value in enumerate(radius)}
        numbers |= {"radius": radius.mean(), "distance": distance, "fisher": fisher}
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

    def _seen(self) -> Any:
        return np.flatnonzero(self.counts.cpu().numpy())

    def _geometry(self, seen: Any) -> ClassGeometry:
        squares = self.squares.cpu().numpy()[seen]
        if not np.isfinite(squares).all():
            raise FastentError("X had NaN or infinity since the last reset: reset, and look at what the model returns")
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
