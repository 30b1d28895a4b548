"""A probe on a live model: geometry, mixing and margins of its layers, at every step that its training loop calls it with."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.batching import moved
from fastent.activations.evaluation import evaluating, named_layers, placed, torch_device, unwrapped
from fastent.activations.hooks import hooked
from fastent.activations.layouts import POOLINGS
from fastent.activations.probe_pass import ProbeOptions, take_reading
from fastent.activations.probe_recorder import RECORDED, ProbeRecorder, checked_scalars
from fastent.activations.probe_set import ProbeSet, Ranks, check_loader
from fastent.activations.records import ProbeRecords
from fastent.arrays.queries import as_queries
from fastent.errors import FastentError
from fastent.options import choice, whole_number
from fastent.printable import printable
from fastent.search.kept_view import KeptView

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Probe"]

METRICS = ("geometry", "distances", "nc1", "mixing", "margins", "dimension", "map")
# They are of a sample of the rows.
_OF_QUERIES = frozenset({"mixing", "margins", "dimension", "map"})
# Distances between all pairs of more classes than this are kept only if asked for: 8 C^2 bytes for each layer and record.
_MANY_CLASSES = 100
# Of state_dict; the one before had no map, and fewer statistics.
_FORMAT, _WITHOUT_MAP = 2, 1


class Probe:
    """Measures a model's layers during your own training loop, on a fixed set of labelled inputs.

    For each record the probe set passes through the model, in eval mode, batch by batch; the activations are never all in
    memory at once. Training proceeds as it would without the probe: parameters, buffers, modes, gradients and random numbers
    are left as they were. Between records the probe holds what it has recorded and, with "mixing" or "margins", 1 kB for each
    feature of each layer: the directions in which neighbours were searched, which the next records use again as long as they
    serve. They never change what is found. With "map" it holds the queries' activations in the last layer as well.

    Under torch.distributed, make the probe on every process with the loader of the whole set, and call it at the same steps:
    each takes some of the batches, and all have the same records.

    Parameters
    ----------
    model : torch.nn.Module
        May be wrapped (DistributedDataParallel, torch.compile).
    loader : DataLoader or list of batches
        The probe set, in the same order each time, not shuffled: (inputs, labels), or mappings of the model's arguments and
        "labels". Labels are class numbers; errors, loss and stragglers need those of the model's outputs (batch, C).
    layers : sequence of str
        Names as in `model.named_modules()`.
    metrics : sequence of str, default ("geometry",)
        "geometry" (radii, distances, Fisher ratio: always recorded); "mixing" and "margins" of `queries` rows among all;
        "distances" keeps the distances between class means even if there are more than 100 classes. "nc1" takes d
        multiplications for each number of a layer of d features, and memory for d^2. "dimension", the intrinsic dimension of
        the queries (TwoNN), takes as long as "mixing", and no longer if both are measured. "map" keeps the queries' activations
        in the last layer at the last record, for the map in the report.
    every : int, default 1
        `probe(step)` records when `step` is a multiple of it.
    queries : int, default 2000
        How many rows, drawn once with `seed`, have their neighbours searched for; all rows, if there are fewer.
    k : int, default 10
        The number of neighbours for "mixing" and "dimension", for which it is 2 or more.
    pooling : {"mean", "cls", "last", "tokens", "flatten"}, default "mean"
        What is kept of a layer's (batch, channels, positions...) or (batch, tokens, features): see `fe.capture`. With "tokens"
        the rows of all records are tokens, except those labelled -100; a token without a label or logits of its own has those
        of its input. The first record then needs one more pass over the probe set.
    normalize : bool, default True
        For geometry, scale each row to unit L2 norm first, as in `fe.geometry`: the inversion of the source paper is the
        minimum of radii of unit rows. Mixing and margins use the rows as they are.
    classes : sequence, optional
        Names of the classes, in the order of the sorted labels; by default the labels themselves.
    device : str or torch.device, optional
        Where to run, such as "cuda"; by default where the model is. It is moved back after each record.
    seed : int, default 0
        For the queries, and for random augmentation of the probe set, which is the same at every record.

    Raises
    ------
    FastentError
        Unknown layers or metrics; a loader that shuffles. When recording: a loader without labels or with other rows than
        before; activations that are not finite.

    Examples
    --------
    >>> import fastent as fe, torch
    >>> _ = torch.manual_seed(0)
    >>> X, y = torch.randn(64, 4), torch.arange(64) % 2
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> probe = fe.Probe(model, [(X, y)], ["1"])
    >>> for epoch in range(12):
    ...     found = probe(epoch)  # ... and train
    >>> sorted(found)
    ['1/distance', '1/fisher', '1/radius/0', '1/radius/1', 'error', 'loss']
    >>> probe.records.radius.shape
    (12, 1, 2)
    >>> probe.inversions[0, 0].reason
    'did not move'
    """

    def __init__(
        self,
        model: "nn.Module",
        loader: Any,
        layers: Sequence[str],
        *,
        metrics: Sequence[str] = ("geometry",),
        every: int = 1,
        queries: int = 2000,
        k: int = 10,
        pooling: str = "mean",
        normalize: bool = True,
        classes: Sequence[Any] | None = None,
        device: Any = None,
        seed: int = 0,
    ) -> None:
        if isinstance(metrics, str):
            raise FastentError(f"metrics={metrics!r}: a sequence of names is needed, for instance [{metrics!r}]")
        metrics = tuple(metrics)
        named_layers(unwrapped(model), layers)
        check_loader(loader)
        self._model, self._loader = model, loader
        self.every = whole_number("every", every, minimum=1)
        self._n_queries = whole_number("queries", queries, minimum=1)
        self._names = None if classes is None else np.asarray(classes)
        self._options = ProbeOptions(
            layers=tuple(layers),
            metrics=frozenset(choice("metrics", name, METRICS) for name in metrics) | {"geometry"},
            pooling=choice("pooling", pooling, POOLINGS),
            normalize=bool(normalize),
            k=whole_number("k", k, minimum=2 if "dimension" in metrics else 1),
            device=None if device is None else torch_device(device),
            seed=whole_number("seed", seed, minimum=0),
        )
        # The labels are known from the first record on, or from a checkpoint.
        self._codes: NDArray[np.int64] | None = None
        self._labels: NDArray[Any] | None = None
        self._rows: ProbeSet | None = None
        self._ranks = Ranks(0, 1)
        self._queries = np.empty(0, np.int64)
        self._views = tuple(KeptView() for _ in layers)
        self._recorder = ProbeRecorder(self._options.layers)
        self._records: ProbeRecords | None = None

    def __call__(self, step: int, **scalars: float) -> dict[str, float] | None:
        """Record if `step` is a multiple of `every`, and return what was recorded; see `record`."""
        if whole_number("step", step, minimum=0) % self.every:
            return None
        return self.record(step, **scalars)

    def record(self, step: int, **scalars: float) -> dict[str, float]:
        """Record the model as it is now.

        Parameters
        ----------
        step : int
            Epochs or updates made so far, more than at the last record.
        **scalars : float
            Numbers to keep with the record, such as the training loss.

        Returns
        -------
        dict
            The record as flat numbers, as in `last`.
        """
        step = whole_number("step", step, minimum=0)
        if self.steps and step <= self.steps[-1]:
            raise FastentError(f"step={step} comes after step {self.steps[-1]} was recorded: steps must increase")
        numbers = checked_scalars(scalars)
        if self._rows is None:
            self._read()
        assert self._rows is not None
        model = unwrapped(self._model)
        reading = take_reading(model, self._rows, self._queries, self._options, self._ranks, self._views)
        keep_distances = len(self._rows.labels.classes) <= _MANY_CLASSES or "distances" in self._options.metrics
        self._recorder.add(step, reading, numbers, keep_distances=keep_distances)
        self._records = None
        return self.last

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that were recorded."""
        return tuple(self._recorder.steps)

    @property
    def last(self) -> dict[str, float]:
        """The last record as {"error": ..., "LAYER/radius/CLASS": ..., ...}; nothing before the first."""
        return self.records.flat() if self.steps else {}

    @property
    def records(self) -> ProbeRecords:
        """Everything so far, as arrays."""
        if self._records is None:
            codes = np.empty(0, np.int64) if self._codes is None else self._codes
            labels = np.empty(0, np.int64) if self._labels is None else self._labels
            self._records = self._recorder.records(self._config(), codes, labels, self._names)
        return self._records

    @property
    def inversions(self) -> NDArray[Any]:
        """(L, C) of Inversion: where each class's radius has turned so far, or why it has not; see `records.inversions`."""
        return self.records.inversions()

    @property
    def stragglers(self) -> NDArray[np.bool_]:
        """(n,) bool: rows of the probe set misclassified at their class's inversion in the last layer."""
        return self.records.stragglers()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all records to a folder: see `records.save`. Of several processes the first does."""
        if Ranks.now().rank == 0:
            self.records.save(folder)

    def state_dict(self) -> dict[str, Any]:
        """Return all records, for a checkpoint: tensors and plain values, as torch.load(weights_only=True) takes them."""
        import torch

        def tensor(array: NDArray[Any] | None) -> Any:
            return None if array is None else torch.from_numpy(array.copy())

        arrays = {name: getattr(self.records, name) for name in RECORDED}
        return {
            "format": _FORMAT,
            "config": self._config(),
            "labels": tensor(self._labels),
            "codes": tensor(self._codes),
            "records": {name: tensor(array) for name, array in arrays.items() if array is not None},
            "scalars": {name: tensor(array) for name, array in self.records.scalars.items()},
            "map": {"queries": tensor(self.records.queries), "points": tensor(self.records.points)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the `state_dict` of a probe with the same options; the records are those of an uninterrupted probe.

        Raises
        ------
        FastentError
            This is no state of a probe, or one with other options or another probe set.
        """
        expected = {"format", "config", "labels", "codes", "records", "scalars", "map"}
        if isinstance(state, dict) and state.get("format") == _WITHOUT_MAP:
            state = {**state, "format": _FORMAT, "map": {"queries": None, "points": None}}
        if not isinstance(state, dict) or set(state) != expected or state["format"] != _FORMAT:
            raise FastentError(
                f"state is no state_dict of a probe of this version: one with {', '.join(sorted(expected))} is needed"
            )
        for name, value in self._config().items():
            if state["config"].get(name) != value:
                raise FastentError(
                    f"state is of a probe with {name}={state['config'].get(name)!r}, this one has {value!r}: make both alike"
                )
        if state["codes"] is not None:
            codes, labels = state["codes"].numpy(), state["labels"].numpy()
            if self._codes is not None:
                self._check_same(codes, labels)
            self._codes, self._labels = codes.copy(), labels.copy()
        arrays = {name: tensor.numpy() for name, tensor in state["records"].items()}
        self._recorder.restore(arrays, {name: tensor.tolist() for name, tensor in state["scalars"].items()})
        points, queries = state["map"]["points"], state["map"]["queries"]
        if points is not None:
            self._recorder.points, self._recorder.queries = points.numpy().copy(), queries.numpy().copy()
        self._records = None

    def _read(self) -> None:
        """Go through the probe set for its labels, once."""
        ranks = Ranks.now()
        with evaluating(unwrapped(self._model)):  # loaders draw random numbers, too
            of_tokens = self._options.pooling == "tokens"
            rows = self._read_tokens(ranks) if of_tokens else ProbeSet.read(self._loader, ranks)
        codes, labels = rows.labels
        if self._codes is not None:
            self._check_same(codes, labels)
        if self._names is not None and (self._names.ndim != 1 or len(self._names) != len(labels)):
            raise FastentError(
                f"classes has shape {self._names.shape}, the probe set has {len(labels)} classes: name each of them"
            )
        if self._options.metrics & _OF_QUERIES:
            n = len(codes)
            if self._options.metrics & {"mixing", "dimension"}:
                whole_number("k", self._options.k, minimum=1, maximum=n - 1)
            found = as_queries(min(self._n_queries, n), n, 1, seed=self._options.seed).rows
            assert found is not None
            self._queries = found
        self._codes, self._labels, self._rows, self._ranks = codes, labels, rows, ranks

    def _read_tokens(self, ranks: Ranks) -> ProbeSet:
        """Let the model run once more, because only its layers tell which of their tokens are padding."""
        model, options = unwrapped(self._model), self._options
        with placed(model, options.device) as device, hooked(model, options.layers, "tokens") as run_model:

            def kept(inputs: Any) -> Any:
                run_model(moved(inputs, device))
                return run_model.kept_tokens

            return ProbeSet.read(self._loader, ranks, kept)

    def _check_same(self, codes: NDArray[np.int64], labels: NDArray[Any]) -> None:
        if not np.array_equal(self._codes, codes) or not np.array_equal(self._labels, labels):  # type: ignore[arg-type]
            raise FastentError(
                "the records are of a probe set with other labels than the loader gives: use the same one, in its order"
            )

    def _config(self) -> dict[str, Any]:
        options = self._options
        return {
            "layers": list(options.layers),
            "metrics": sorted(options.metrics),
            "pooling": options.pooling,
            "normalize": options.normalize,
            "queries": self._n_queries,
            "k": options.k,
            "seed": options.seed,
        }

    def __repr__(self) -> str:
        recorded = f"{len(self.steps)} records" + (f", the last at step {self.steps[-1]}" if self.steps else "")
        return printable(f"Probe({', '.join(self._options.layers)}; every {self.every}; {recorded})")
