"""The training of networks on data from disk; its state is kept so that an interruption or a crash loses a minute at most.

What is in the folder meanwhile: see `fastent.training.checkpoint`.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.activations.history import Recording
from fastent.data.fingerprint import check_same_data
from fastent.data.standardization import read_standardizer
from fastent.data.stored_rows import Feed, LabelledRows, TrainingRows
from fastent.errors import DivergedError, FastentError
from fastent.runtime.clock import working_seconds
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, reporting, say_resumed
from fastent.training.checkpoint import Checkpoint
from fastent.training.factories import checked_networks, diverged
from fastent.training.learning import Learner
from fastent.training.networks import Factory, hidden_layers, make_network, model_digest, widths_of
from fastent.training.optimizers import make_optimizer
from fastent.training.run import Run
from fastent.training.schedule import Schedule
from fastent.training.stored_run import check_same
from fastent.training.streamed_recorder import Diverged, StreamedRecorder, recording_bytes, sample_rows
from fastent.training.streamed_stragglers import StragglerSearch, Targets

__all__ = ["StreamedSession"]

_CHECKPOINT_SECONDS = 60.0
# Updates after which it is checked that the losses are finite.
_CHECKED_EVERY = 64
# What must be the same for a run to be continued; the rest (epochs, versions, threads, device) may differ.
_IDENTITY = (
    "classes", "standardize", "model", "picture", "layers", "hidden", "activation", "seeds", "seed", "lr", "optimizer",
    "momentum", "batch_size", "record_every", "record_points", "queries", "metrics",
)  # fmt: skip
# What decides which weights are kept, where there is no room for those of every record.
_OF_THINNING = ("burn_in", "min_rise")


class StreamedSession:
    """A run under way, continued from its checkpoint if there is one; `result` trains it to its end."""

    def __init__(
        self,
        rows: TrainingRows,
        config: dict[str, Any],
        factory: Factory,
        checkpoint: Checkpoint,
        progress: Progress,
        interrupted: Callable[[], bool],
    ) -> None:
        self.rows, self.config, self.checkpoint = rows, config, checkpoint
        self.progress, self.interrupted = progress, interrupted
        self.started, self.saved = working_seconds(), time.perf_counter()
        self.seconds_before = self.seconds_recording = 0.0
        self.update = 0
        state = checkpoint.state()
        before = self._same_as_before(state)
        device, n_classes = torch.device(config["device"]), len(rows.classes)
        self.seeds = [config["seed"] + s for s in range(config["seeds"])]
        self.networks = checked_networks(partial(make_network, factory), self.seeds, lambda network: network.to(device))
        self.feed = Feed(rows.train.X, rows.codes, config["batch_size"], config["seed"])
        self.schedule = Schedule(config["record_every"], config["epochs"], self.feed.updates_per_epoch)
        self.due = self.schedule.due()
        self.recording = Recording(len(self.due))
        self.stragglers = StragglerSearch(self.networks, checkpoint, len(self.due))
        self._check_memory()
        self.optimizers = [
            make_optimizer(config["optimizer"], network.parameters(), config["lr"], config["momentum"])
            for network in self.networks
        ]
        self.recorded, queries = sample_rows(config, rows.codes, rows.classes)
        constants = None if state is None else (state["mean"].numpy(), state["scale"].numpy())
        self.standardizer, fingerprint = read_standardizer(
            rows, config["standardize"], str(device), constants, progress, interrupted
        )
        config |= {"fingerprint": fingerprint.value, "digests": fingerprint.after}
        if before is not None:
            check_same_data(before, config)
        trial = self.standardizer(np.array(rows.train.X[:2]))
        if config["layers"] is None:
            config["layers"] = hidden_layers(self.networks[0], trial)
        widths = widths_of(self.networks[0], config["layers"], trial, n_classes)
        self._check_memory_of_records(widths)
        self.recorder = StreamedRecorder(
            LabelledRows(rows.train.X, rows.codes, self.recorded),
            None if rows.test is None or rows.test_codes is None else LabelledRows(rows.test.X, rows.test_codes),
            self.standardizer,
            config["layers"],
            widths,
            n_classes,
            queries,
        )
        if config["model"] not in ("mlp", "cnn"):
            config["model_digest"] = model_digest(factory, self.seeds[0], trial.cpu().numpy())
            if before is not None:
                check_same(before, config, ("model_digest",))
        for network in self.networks:
            network.train()
        self.learner = Learner(self.networks, self.optimizers, self.seeds, self.feed.pieces_per_update, len(rows.codes))
        if state is not None and before is not None:
            self._restore(state)
            if self.recorded is not None and self.stragglers.lacks(self.recording.updates):
                check_same(before, config, _OF_THINNING)

    def _same_as_before(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """The configuration that the checkpoint was made with, if there is one, and if this run may go on from it."""
        if state is not None:
            before: dict[str, Any] = json.loads(state["config"])
            # Where none are named every hidden layer is recorded, then and now, if the model is the same.
            without = {"layers"} if self.config["layers"] is None else set()
            without |= {"picture"} if self.config["model"] != "cnn" else set()  # to all others, rows are rows
            check_same(before, self.config, [key for key in _IDENTITY if key not in without])
            return before
        if self.checkpoint.holds_run():
            raise FastentError(
                f"{str(self.checkpoint.folder)!r} holds a run without a checkpoint to go on from: choose another folder, or "
                "start anew (resume=False, or --overwrite)"
            )
        return None

    def result(self) -> Run:
        """Train to the last epoch, and find the stragglers among all points."""
        last = self.schedule.last
        if self.update >= last:
            self.learner.abandon()  # fewer epochs are asked for than before
        trained = self.update > last or (self.update == last and self.recording.last == last)  # its record may be missing
        if trained and (self.recorded is None or self.stragglers.complete(self._targets())):
            self.started = working_seconds()  # nothing is left to do
            return self.run()
        if not trained:
            if self.update:
                at = self.schedule.epochs_of([self.update])[0]
                say_resumed(self.progress, f"training resumes from epoch {at:g} of {self.config['epochs']}")
            # A record that was made because training ended there is not one that a longer run has.
            self.recording.only(self.due)
            self.stragglers.forget_others(self.recording.updates)
            with reporting(self.progress, "training", last) as report:
                self._train(last, report)
        if self.recorded is not None:
            X, codes = self.rows.train.X, self.rows.codes
            targets = self._targets()
            if not self.stragglers.complete(targets):
                with reporting(self.progress, "stragglers", len(codes)) as report:
                    self.stragglers.search(X, codes, targets, self.standardizer, report, self._pause)
        self._keep()
        return self.run()

    def run(self) -> Run:
        """The run so far."""
        updates, arrays = self.recording.updates, self.recording.arrays()
        epoch = self.schedule.epochs_of(updates)
        n_tests = len(epoch) if self.rows.test is not None else 0
        return Run(
            config=dict(self.config),
            classes=self.rows.classes,
            index=np.arange(len(self.rows.codes)),
            labels=self.rows.labels,
            codes=self.rows.codes,
            epoch=epoch,
            test_epoch=epoch[:n_tests],
            seconds=self.seconds_before + working_seconds() - self.started,
            seconds_recording=self.seconds_recording,
            recorded=self.recorded,
            state={
                f"{s}.{k}": v.cpu().numpy().copy() for s, net in enumerate(self.networks) for k, v in net.state_dict().items()
            },
            **self.stragglers.result(updates, epoch, len(self.rows.classes)),
            **(arrays | {"test_error": arrays["test_error"][:, :n_tests]}),
        )

    def _train(self, last: int, report: Callable[[int, str], None]) -> None:
        message = self._record()
        while self.update < last:
            epoch, first = divmod(self.update, self.feed.updates_per_epoch)
            for batch in self.feed.batches(epoch, first * self.feed.pieces_per_update + self.learner.piece):
                targets = torch.from_numpy(batch.codes).to(self.config["device"])
                if self.learner.learn(self.standardizer(batch.data), targets, self.update):
                    self.update += 1
                    if self.update % _CHECKED_EVERY == 0 or self.update == last:
                        self._check_finite()
                    message = self._record() or message
                    report(self.update, message)
                self._pause()

    def _record(self) -> str:
        """Make a record if one is due, and return a message about it."""
        if self.update not in self.due or self.recording.last >= self.update:
            return ""
        begun = working_seconds()
        self._check_finite()
        try:
            self.recording.add(self.update, **self.recorder.record(self.networks))
        except Diverged:
            raise self._diverged() from None
        except KeyboardInterrupt:  # a search hears of it itself; the record is made when training goes on
            self._stop()
        if self.recorded is not None and self.update > 0:  # else all points are recorded; no curve has fallen at the start
            # A record that is made because training ends here takes nobody's room: a longer run does not have it.
            spare = int(not self.schedule.lasts(self.update))
            self.stragglers.keep_weights(self.update, self.recording.updates, self._inversions, spare)
        self.seconds_recording += working_seconds() - begun
        epoch, error = self.schedule.epochs_of([self.update])[0], self.recording.last_of("train_error").mean()
        return f"epoch {epoch:g}: training error {error:.4f}"

    def _inversions(self) -> NDArray[Any]:
        """(S, C): those of the last layer, so far."""
        inversions: NDArray[Any] = self.run().inversion[:, -1]
        return inversions

    def _targets(self) -> Targets:
        return self.stragglers.targets(self.recording.updates, self._inversions())

    def _pause(self) -> None:
        """Save the state if it is time to, and stop if an interruption was requested."""
        if self.interrupted():
            self._stop()
        if self.checkpoint.folder is not None and time.perf_counter() - self.saved > _CHECKPOINT_SECONDS:
            self._keep()

    def _stop(self) -> NoReturn:
        """Save the state and the run so far, and stop as Ctrl-C does."""
        if self.checkpoint.folder is not None:
            self._keep()
            if self.recording.updates:
                self.run().save(self.checkpoint.folder)
        raise KeyboardInterrupt

    def _keep(self) -> None:
        state = {
            "config": json.dumps(self.config),
            "update": self.update,
            **self.recording.state_dict(),
            "seconds": self.seconds_before + working_seconds() - self.started,
            "seconds_recording": self.seconds_recording,
            "mean": torch.from_numpy(self.standardizer.mean),
            "scale": torch.from_numpy(self.standardizer.scale),
            "networks": [network.state_dict() for network in self.networks],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "under_way": self.learner.state_dict(),
            **self.stragglers.state_dict(),
        }
        self.checkpoint.keep(state, self.stragglers.needed)
        self.saved = time.perf_counter()

    def _restore(self, state: dict[str, Any]) -> None:
        self.update = state["update"]
        self.recording.load_state_dict(state)
        self.seconds_before, self.seconds_recording = state["seconds"], state["seconds_recording"]
        for network, weights in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(weights)
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        if "under_way" in state:
            self.learner.load_state_dict(state["under_way"])
        self.stragglers.load_state_dict(state)

    def _check_finite(self) -> None:
        if not torch.isfinite(self.learner.losses).all():
            raise self._diverged()

    def _diverged(self) -> DivergedError:
        return diverged(self.update, f"by epoch {self.update / self.feed.updates_per_epoch:.3g}", self.config["lr"])

    def _check_memory(self) -> None:
        check_fits(
            self._training_bytes(),
            f"training {len(self.networks)} networks from {self.rows.name}",
            "use fewer seeds, a smaller model or a smaller batch_size",
        )

    def _check_memory_of_records(self, widths: list[int]) -> None:
        m, q = len(self.rows.codes) if self.recorded is None else len(self.recorded), self.config["queries"] or 0
        n_classes = len(self.rows.classes)
        curves = 8 * len(widths) * n_classes * (n_classes + 1)  # radii and distances
        records = 3 * len(self.due) * len(self.networks) * (-(-m // 8) + curves)  # as recorded, as a run, as kept
        recording = recording_bytes(self.rows.train.X, m, widths, n_classes, q)
        if self.recorded is not None and self.checkpoint.folder is None:
            recording += self.stragglers.kept_bytes
        check_fits(
            self._training_bytes() + records + recording,
            f"recording {m:,} points with {q:,} queries in {len(widths)} layers of {sum(widths):,} features in all",
            "use fewer queries or record_points, or name fewer layers",
        )

    def _training_bytes(self) -> int:
        parameters = sum(p.numel() * p.element_size() for p in self.networks[0].parameters())
        networks = 5 * parameters * len(self.networks)  # gradients, two moments, a copy for the checkpoint
        return int(3 * self.feed.pool_bytes) + networks + 24 * len(self.rows.codes)
