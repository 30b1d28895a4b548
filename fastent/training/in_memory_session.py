"""The training of many networks at once on rows in memory; with full batches every epoch is recorded from its forward pass."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.activations.history import Recording
from fastent.data.fingerprint import check_same_data
from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.runtime.clock import working_seconds
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.training.ensemble import Ensemble, Observation
from fastent.training.factories import diverged
from fastent.training.held_out import HeldOut
from fastent.training.in_memory_networks import networks_and_points, restore_networks
from fastent.training.module_ensemble import ModuleEnsemble
from fastent.training.networks import Factory
from fastent.training.optimizers import make_optimizer
from fastent.training.run import Run
from fastent.training.schedule import updates_to_record
from fastent.training.snapshot import Snapshot
from fastent.training.stored_run import check_same

__all__ = ["InMemorySession"]


_CHECKPOINT_SECONDS = 60.0
# What must be the same for a run to be continued; the rest (epochs, versions, threads) may differ.
_IDENTITY = (
    "classes", "standardize", "model", "model_digest", "layers", "hidden", "activation", "init_scale", "seeds",
    "seed", "exclude_per_seed", "lr", "optimizer", "momentum", "batch_size", "dtype", "test_every",
)  # fmt: skip
_RECORDED = ("train_error", "wrong", "radius", "distance")


class InMemorySession:
    """A run under way: networks, their optimiser, the points that they learn from, and what was recorded so far.

    `left_out` (S, n) are the points that one network or the other is trained without.
    """

    def __init__(
        self,
        data: Data,
        config: dict[str, Any],
        factory: Factory | None,
        left_out: NDArray[np.bool_] | None,
    ) -> None:
        self.data, self.config = data, config
        self.n_epochs, self.per_epoch = config["epochs"], config["updates_per_epoch"]
        self.due = updates_to_record(self.n_epochs, self.per_epoch)
        self.seconds_before, self.started = 0.0, working_seconds()
        _check_memory(config, data, len(self.due))
        self.networks, self.points, test_points = networks_and_points(data, config, factory, left_out)
        self.held_out = HeldOut(self.networks, test_points)
        self.optimizer = make_optimizer(config["optimizer"], self.networks.parameters, config["lr"], config["momentum"])
        self.counts = self.points.counts()
        self.records, self.tests = Recording(len(self.due)), Recording(self.n_epochs // config["test_every"] + 2)
        self.complete = False

    def resume(self, run: Run) -> None:
        """Take up where the run ends; `complete` tells whether nothing is left to train."""
        check_same(run.config, self.config, _IDENTITY)
        check_same_data(run.config, self.config)
        self.complete = bool(run.epoch[-1] >= self.n_epochs)
        if self.complete:
            return
        if not np.array_equal(run.update, self.due[: len(run.update)]):
            raise FastentError(
                "the run to resume is of an earlier version of fastent, which recorded training in batches after whole passes "
                "only: start anew (another folder, without resume, or --overwrite)"
            )
        _restore_state(self.networks, self.optimizer, run.state)
        self.records.load(run.update.tolist(), {name: getattr(run, name) for name in _RECORDED})
        regular = run.test_epoch % self.config["test_every"] == 0  # without the extra test at the run's last epoch
        self.tests.load(run.test_epoch[regular].tolist(), {"test_error": run.test_error[:, regular]})
        self.seconds_before = run.seconds

    def train(
        self,
        checkpoint: Path | None,
        observe: Callable[[Snapshot], None] | None,
        progress: Progress,
        *,
        observe_within: bool = False,
        what: str = "training",
    ) -> Run:
        """Train to the last epoch, saving the run so far in the folder `checkpoint` once a minute and at an interruption.

        `observe` is called after each whole epoch, and with `observe_within` at records within epochs too. `what` is shown with
        the progress.
        """
        self.started, saved = working_seconds(), time.perf_counter()
        full_batch = self.config["batch_size"] is None
        with torch.no_grad(), interruptible() as interrupted, reporting(progress, what, self.n_epochs) as report:
            # Parameters belong to the last record: where a run is resumed its forward pass is made once more for the gradient.
            first = max(len(self.records) - 1, 0)
            for position, update in enumerate(self.due[first:].tolist(), first):
                epoch, within = divmod(update, self.per_epoch)
                at_end = update == self.due[-1]
                observed = self.networks.observe(self.points, learn=full_batch and not at_end)
                self._check_finite(observed, update)
                if position == len(self.records):
                    self.records.add(update, **_record_of(observed, self.counts))
                    if not within and (epoch % self.config["test_every"] == 0 or at_end):
                        self.tests.add(epoch, test_error=self.held_out.errors())
                if observe is not None and (observe_within or not within):
                    observe(self._snapshot(update / self.per_epoch if within else epoch, observed))
                report(epoch, f"training error {self.records.last_of('train_error').mean():.4f}")
                if checkpoint is not None and (interrupted() or time.perf_counter() - saved > _CHECKPOINT_SECONDS):
                    self.run().save(checkpoint)
                    saved = time.perf_counter()
                if interrupted():
                    raise KeyboardInterrupt
                if not at_end:
                    self._learn(update, int(self.due[position + 1]))
        return self.run()

    def at_end_of(self, run: Run) -> Snapshot:
        """The networks with the weights that a run ended with."""
        with torch.no_grad():
            _restore_state(self.networks, self.optimizer, run.state)
            return self._snapshot(run.epoch[-1].item(), self.networks.observe(self.points, learn=False))

    def _snapshot(self, epoch: float, observed: Observation) -> Snapshot:
        return Snapshot(epoch, self.networks, self.points, self.data.x_train, observed.logits)

    def run(self) -> Run:
        """The run so far."""
        updates = self.due[: len(self.records)]
        arrays: dict[str, Any] = {**self.tests.arrays(), **self.records.arrays()}
        return Run(
            config=self.config,
            classes=self.data.classes,
            index=self.data.index,
            labels=self.data.labels,
            codes=self.data.y_train,
            epoch=updates.copy() if self.per_epoch == 1 else updates / self.per_epoch,
            seconds=self.seconds_before + working_seconds() - self.started,
            state=_state(self.networks, self.optimizer),
            test_epoch=np.array(self.tests.updates, np.int64),
            **arrays,
        )

    def _learn(self, update: int, until: int) -> None:
        """Make the updates up to the next record; with full batches the forward pass has usually set the gradients."""
        if self.config["batch_size"] is None:
            if not self.networks.learns_when_observed:
                self.networks.learn(self.points)
            self.optimizer.step()
            return
        for rows in _batches(len(self.data.x_train), self.config, range(update, until)):
            self.networks.learn(self.points.batch(rows))
            self.optimizer.step()

    def _check_finite(self, observed: Observation, update: int) -> None:
        if torch.isfinite(observed.logits.sum()):
            return
        raise diverged(update, f"at epoch {update / self.per_epoch:.6g}", self.config["lr"])


def _record_of(observed: Observation, counts: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """One record of S networks, given how many points of each class each learns from, (S, C): from a forward pass over all.

    With full batches that is the pass which training makes anyway. Misclassified points are kept as one bit each, so that the
    stragglers at any record are those of the weights at that moment, whatever came later.
    """
    known = np.where(counts > 0, counts, np.nan)  # a class of which a network is left nothing has no radius
    radius = np.empty((len(counts), len(observed.sums), counts.shape[1]))
    distance = np.empty((*radius.shape, counts.shape[1]))
    for layer, (sums, directed) in enumerate(zip(observed.sums, observed.directed, strict=True)):
        means = sums / known[:, :, None]
        # Mean squared norm of the unit rows, 1 but for rows of zeros, less the squared norm of their mean.
        spread = directed / known - (means * means).sum(2)
        radius[:, layer] = np.sqrt(np.maximum(spread, 0.0))
        for c in range(counts.shape[1]):
            distance[:, layer, c] = np.sqrt(((means - means[:, c, None]) ** 2).sum(2))
    train_error, wrong = observed.wrong.sum(1) / counts.sum(1), np.packbits(observed.wrong, axis=1)
    return {"train_error": train_error, "wrong": wrong, "radius": radius, "distance": distance}


def _batches(n: int, config: dict[str, Any], updates: range) -> Iterator[NDArray[np.int64]]:
    """The points of each of these updates, all of one epoch.

    An epoch takes every point once, in an order of its own; its last batch may be smaller.
    """
    epoch, first = divmod(updates[0], config["updates_per_epoch"])
    order, size = np.random.default_rng((config["seed"], epoch)).permutation(n), config["batch_size"]
    for batch in range(first, first + len(updates)):
        yield order[batch * size : (batch + 1) * size]


def _state(networks: Ensemble | ModuleEnsemble, optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """Parameters and optimiser state as plain arrays (copies): "0" and "0.exp_avg" for the first parameter."""
    state = {}
    for i, parameter in enumerate(networks.parameters):
        state[str(i)] = parameter.cpu().numpy().copy()
        for name, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                state[f"{i}.{name}"] = value.cpu().numpy().copy()
    return state | {f"buffer.{name}": buffer.cpu().numpy().copy() for name, buffer in networks.buffers.items()}


def _restore_state(
    networks: Ensemble | ModuleEnsemble, optimizer: torch.optim.Optimizer, state: dict[str, NDArray[Any]]
) -> None:
    restore_networks(networks, state)
    for key, value in state.items():
        i, _, name = key.partition(".")
        if name and i != "buffer":
            parameter, tensor = networks.parameters[int(i)], torch.from_numpy(np.array(value))
            # PyTorch keeps Adam's step count on the CPU, everything else on the device of its parameter.
            optimizer.state[parameter][name] = tensor if tensor.ndim == 0 else tensor.to(parameter.device)


def _check_memory(config: dict[str, Any], data: Data, n_records: int) -> None:
    n, n_networks = len(data.x_train), config["seeds"]
    widths = config.get("hidden", [0])
    n_classes, n_layers = len(data.classes), len(widths)
    item = 4 if config["dtype"] == "float32" else 8
    records = n_records * n_networks * (n / 8 + 8 * (1 + n_layers * n_classes * (n_classes + 1)))
    # Activations, one gradient of the widest layer twice, logits and their softmax; the inputs, sorted and transposed.
    units = sum(widths) + 2 * max(widths) + 3 * n_classes
    rows = max(n, len(data.x_test))
    working = item * (rows * n_networks * units + 2 * (n + len(data.x_test)) * data.x_train.shape[1])
    # Saving copies the records once.
    check_fits(
        2 * records + working,
        f"training {n_networks} seeds on {n} points for {config['epochs']} epochs",
        "use fewer seeds, fewer epochs, narrower layers or a smaller subset",
    )
