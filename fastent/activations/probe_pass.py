"""One pass of a probe set through a live model: rows of its layers go into class moments and lists of neighbours.

Neighbours of a query are sought among all rows, those before it too, so the queries' rows must be known before the rest goes
by. No choice of rows makes one pass do that and remain a random sample, and running the queries by themselves first would put
them into other batches, where the same model returns other last bits (and tokens that are padded to the longest of their batch
other rows). So the rows pass twice, in the same batches, and the lists are those of `fe.neighbors` on all of them, bit for
bit; but the first batches are kept, up to a stated number of bytes, and do not go through the model again. A small probe set
is kept whole and one pass does. Geometry alone never needs a second one.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.activations.evaluation import placed
from fastent.activations.hooks import hooked
from fastent.activations.probe_recorder import Predictions, Reading, logits_by_token
from fastent.activations.probe_set import ProbeSet, Ranks
from fastent.arrays.ranges import resolution_of
from fastent.arrays.validation import as_array
from fastent.errors import FastentError
from fastent.search.found_neighbors import exact_neighbors
from fastent.statistics.class_moments import ClassMoments
from fastent.statistics.intrinsic_dimension import dimension_of
from fastent.statistics.margins import margins_from
from fastent.statistics.mixing import mixing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fastent.search.index import Among, NeighborLists
    from fastent.search.kept_view import KeptView

__all__ = ["ProbeOptions", "take_reading"]

Array = NDArray[Any]

# Rows of the first batches that are kept for the queries to meet, all layers together.
_KEPT_BYTES = 128 << 20
# Rows are handed on in pieces of at least so many bytes, which makes what a call costs disappear; to be searched, in pieces of
# so many rows, if these are not more than so many bytes.
_PIECE_BYTES = 4 << 20
_SEARCHED_ROWS, _SEARCHED_BYTES = 8192, 64 << 20


class ProbeOptions(NamedTuple):
    """What is measured in which layers."""

    layers: tuple[str, ...]
    metrics: frozenset[str]
    pooling: str
    normalize: bool
    k: int
    device: Any
    seed: int


class _Part(NamedTuple):
    """What one process found in the first pass. For each layer: the state of its moments, and its queries' rows."""

    moments: list[dict[str, Any]]
    points: list[Array]
    wrong: NDArray[np.bool_] | None
    loss: float


class _Kept(NamedTuple):
    """The first batches of this process: start, rows in each layer, codes. The next batch would begin at row `at`."""

    batches: list[tuple[int, list[Array], NDArray[np.int64]]]
    at: int


def take_reading(
    model: "nn.Module",
    rows: ProbeSet,
    queries: NDArray[np.int64],
    options: ProbeOptions,
    ranks: Ranks,
    views: "Sequence[KeptView]",
) -> Reading:
    """Pass the probe set through the model; each of several processes takes part of the rows, and all return the same.

    Parameters
    ----------
    queries : (q,) int64 ascending
        Row numbers; empty where no neighbours are wanted.
    views : sequence of KeptView
        Of each layer, from one reading to the next.
    """
    kept = _Kept([], rows.start)

    def pass_once() -> _Part:
        nonlocal kept
        part, kept = _first_pass(model, rows, queries, options)
        return part

    parts = [part for part in ranks.together(pass_once) if part.moments]
    merged = [_merged([part.moments[i] for part in parts]) for i in range(len(options.layers))]
    of_classes = [moments.compute() for moments in merged]
    of_layers = {"fisher": np.array([found.fisher for found in of_classes])}
    if "nc1" in options.metrics:
        of_layers["nc1"] = np.array([found.nc1 for found in of_classes])
    # Parts come in the order of the ranks, which is that of the rows, so these are in the order of the queries.
    points = [np.concatenate(each) for each in zip(*(part.points for part in parts), strict=True)]
    if _wanted(options):
        lists = ranks.together(lambda: _own_lists(model, rows, queries, points, options, kept, views))
        of_layers |= _of_neighbors(lists, rows, queries, points, options)
    wrong = [part.wrong for part in parts if part.wrong is not None]
    judged = len(wrong) == len(parts)
    n = len(rows)
    misses = np.concatenate(wrong) if judged else np.zeros(n, bool)
    return Reading(
        error=float(misses.mean()) if judged else np.nan,
        loss=sum(part.loss for part in parts) / n if judged else np.nan,
        wrong=misses,
        radius=np.array([found.radius for found in of_classes]),
        distance=np.array([found.distance for found in of_classes]),
        of_layers=of_layers,
        queries=queries if "map" in options.metrics else None,
        points=points[-1].astype(np.float32) if "map" in options.metrics else None,
    )


class _Pile:
    """Consecutive rows of one layer, handed on in pieces that are worth a call."""

    def __init__(self, bytes_of: Callable[[int], int], use: Callable[[int, Array, NDArray[np.int64]], None]) -> None:
        self._bytes_of, self._use = bytes_of, use
        self._start, self._waiting = 0, 0
        self._rows: list[Array] = []
        self._codes: list[NDArray[np.int64]] = []

    def add(self, start: int, rows: Array, codes: NDArray[np.int64]) -> None:
        if not len(rows):
            return
        if self._rows and rows.shape[1] != self._rows[0].shape[1]:
            self.flush()
        if not self._rows:
            self._start = start
        self._rows.append(rows)
        self._codes.append(codes)
        self._waiting += rows.nbytes
        if self._waiting >= self._bytes_of(rows.shape[1]):
            self.flush()

    def flush(self) -> None:
        if self._rows:
            rows, codes = self._rows, self._codes
            self._rows, self._codes, self._waiting = [], [], 0
            self._use(self._start, rows[0] if len(rows) == 1 else np.concatenate(rows), np.concatenate(codes))


def _first_pass(model: "nn.Module", rows: ProbeSet, queries: NDArray[np.int64], options: ProbeOptions) -> tuple[_Part, _Kept]:
    n_classes, layers = len(rows.labels.classes), options.layers
    moments: dict[str, ClassMoments] = {}

    def add_moments(layer: str) -> Callable[[int, Array, NDArray[np.int64]], None]:
        def add(start: int, found: Array, codes: NDArray[np.int64]) -> None:
            if layer not in moments:
                moments[layer] = ClassMoments(
                    n_classes, found.shape[1], normalize=options.normalize, scatter="nc1" in options.metrics
                )
            try:
                moments[layer].update(found, codes)
            except FastentError as error:
                what = str(error).split(": drop")[0]
                raise FastentError(
                    f"layer {layer!r}, rows {start} to {start + len(found) - 1} of the probe set: {what}: if the model does so "
                    "for most inputs its training has diverged, else repair these"
                ) from error

        return add

    # Moments of many classes are long, and a call goes over all of them a few times.
    piles = [_Pile(lambda d: max(_PIECE_BYTES, 16 * n_classes * d), add_moments(layer)) for layer in layers]
    predictions = Predictions(rows.labels.classes)
    points: list[list[Array]] = [[] for _ in layers]
    batches: list[tuple[int, list[Array], NDArray[np.int64]]] = []
    at, room = rows.start, _KEPT_BYTES if _wanted(options) else -1
    with placed(model, options.device) as device, hooked(model, layers, options.pooling) as run_model:
        for start, inputs, codes, labelled in rows.chunks(device, options.seed):
            output, by_layer = run_model(inputs)
            predictions.add(logits_by_token(output, run_model.kept_tokens, labelled), codes)
            found = [_labelled_rows(by_layer[layer], layer, labelled) for layer in layers]
            for pile, some in zip(piles, found, strict=True):
                pile.add(start, some, codes)
            if len(queries):
                inside = queries[np.searchsorted(queries, start) : np.searchsorted(queries, start + len(codes))] - start
                for own, some in zip(points, found, strict=True):
                    own.append(some[inside])
            room -= sum(some.nbytes for some in found)
            if room >= 0:
                batches.append((start, found, codes))
                at = start + len(codes)
    for pile in piles:
        pile.flush()
    states = [moments[layer].state_dict() for layer in layers] if moments else []
    joined = [np.concatenate(own) for own in points if own]
    return _Part(states, joined, predictions.wrong(), predictions.loss), _Kept(batches, at)


def _merged(states: list[dict[str, Any]]) -> ClassMoments:
    """Moments of all parts, in the order of the ranks: the same bits on each of them."""
    total: ClassMoments | None = None
    for state in states:
        moments = ClassMoments(*state["shift"].shape, normalize=state["normalize"], scatter=state["scatter"] is not None)
        moments.load_state_dict(state)
        total = moments if total is None else total.merge(moments)
    assert total is not None
    return total


def _wanted(options: ProbeOptions) -> "dict[Among, int]":
    """Which lists of neighbours, and how long."""
    lists: dict[Among, int] = {"all": options.k} if options.metrics & {"mixing", "dimension"} else {}
    return lists | {"own class": 1, "other classes": 1} if "margins" in options.metrics else lists


def _own_lists(
    model: "nn.Module",
    rows: ProbeSet,
    queries: NDArray[np.int64],
    points: list[Array],
    options: ProbeOptions,
    kept: _Kept,
    views: "Sequence[KeptView]",
) -> "list[list[NeighborLists]]":
    """For each layer and each wanted list: the nearest of this process's rows."""
    from fastent.search.index import ExternalQueries
    from fastent.search.out_of_core import NearestSoFar

    layers, wanted, codes = options.layers, _wanted(options), rows.labels.codes[queries]
    nearest = [
        NearestSoFar(ExternalQueries(some, queries, codes), wanted, view=its.view)
        for some, its in zip(points, views, strict=True)
    ]

    def meet(so_far: NearestSoFar) -> Callable[[int, Array, NDArray[np.int64]], None]:
        return lambda start, found, codes: so_far.update(found, start, codes)

    def piece(d: int) -> int:
        most, total = max(_PIECE_BYTES, min(4 * d * _SEARCHED_ROWS, _SEARCHED_BYTES)), 4 * d * (rows.stop - rows.start)
        return -(-total // -(-total // most))  # all of about one size: an index of few rows left over would see them otherwise

    piles = [_Pile(piece, meet(so_far)) for so_far in nearest]
    for start, found, codes in kept.batches:
        for pile, some in zip(piles, found, strict=True):
            pile.add(start, some, codes)
    if kept.at < rows.stop:
        with placed(model, options.device) as device, hooked(model, layers, options.pooling) as run_model:
            for start, inputs, codes, labelled in rows.chunks(device, options.seed, len(kept.batches), kept.at):
                _, by_layer = run_model(inputs)
                for pile, layer in zip(piles, layers, strict=True):
                    pile.add(start, _labelled_rows(by_layer[layer], layer, labelled), codes)
    for pile in piles:
        pile.flush()
    for so_far, its in zip(nearest, views, strict=True):
        its.judge(so_far)
    return [list(so_far.found().values()) for so_far in nearest]


def _of_neighbors(
    parts: "list[list[list[NeighborLists]]]",
    rows: ProbeSet,
    queries: NDArray[np.int64],
    points: list[Array],
    options: ProbeOptions,
) -> dict[str, Array]:
    codes, n = rows.labels.codes, len(rows)
    names = ("mixing", "mixing_error", "margin", "n2", "n3", "dimension")
    numbers = {name: np.full(len(options.layers), np.nan) for name in names}
    for i in range(len(options.layers)):
        lists = [_joined([part[i][j] for part in parts], n) for j in range(len(_wanted(options)))]
        if options.metrics & {"mixing", "dimension"}:
            near = exact_neighbors(lists.pop(0), queries, n, resolution_of(points[i], None))
        if "mixing" in options.metrics:
            mixed = mixing(near, codes, matrix=False)
            numbers["mixing"][i], numbers["mixing_error"][i] = mixed.overlap, mixed.error
        if "dimension" in options.metrics:
            with suppress(FastentError):  # rows that repeat each other, or lie on a grid, have none
                numbers["dimension"][i] = dimension_of(near, "twonn").value
        if "margins" in options.metrics:
            between = margins_from(queries, lists[0], lists[1], rows.labels, False)
            numbers["margin"][i] = between.intervals["relative"].value
            numbers["n2"][i], numbers["n3"][i] = between.n2, between.n3
    return numbers


def _joined(lists: "list[NeighborLists]", n: int) -> "NeighborLists":
    """The nearest of what all processes found: ascending, ties by the lower row number; n where there are fewer."""
    if len(lists) == 1:
        return lists[0]
    from fastent.search.index import NeighborLists, merged

    squared, found = merged(lists)
    return NeighborLists(squared, np.where(np.isinf(squared), n, found))


def _labelled_rows(found: "Tensor", layer: str, labelled: NDArray[np.bool_] | None) -> Array:
    rows = as_array(found, layer)
    if labelled is None:
        return rows
    if len(rows) != len(labelled):
        raise FastentError(
            f"layer {layer!r} has {len(rows)} tokens for a batch that had {len(labelled)} when the probe set was read: "
            "the same inputs and masks are needed at every record"
        )
    return rows[labelled]
