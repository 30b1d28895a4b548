"""Networks, optimisers and records from the first update to the last, kept so that an end of any kind loses a minute at most.

What is in the folder meanwhile: see `fastent.training.checkpoint`.
"""

import copy
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastent.activations.evaluation import evaluating
from fastent.arrays.validation import row_blocks
from fastent.data.digests import CLASSES, POINTS, TEST_CLASSES, TEST_POINTS, DataDigest, check_same_data
from fastent.data.feed import Feed
from fastent.data.standardizer import Standard
from fastent.data.stored_rows import TrainingRows
from fastent.errors import DivergedError, FastentError
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, reporting
from fastent.training.checkpoint import Checkpoint
from fastent.training.factories import NEVER_FINITE, checked_networks
from fastent.training.learning import Learner
from fastent.training.modules import make_network, model_digest
from fastent.training.resuming import check_same
from fastent.training.run import Run
from fastent.training.streamed_curves import Curves
from fastent.training.streamed_networks import Factory, hidden_layers, make_optimizer, widths_of
from fastent.training.streamed_recording import Diverged, Points, observe, observing_bytes, wrong_of
from fastent.training.streamed_schedule import Schedule, thinned
from fastent.training.streamed_stragglers import Asked, find_stragglers, is_about, nothing_found

__all__ = ["Session"]

_CHECKPOINT_SECONDS = 60.0
# Updates between looks at whether the losses are finite.
_LOOK = 64
_NEIGHBORS = 10
_TEST_ROWS = 8192
# Moments of each network whose weights are kept for the last pass, and the bytes for all of them.
_LEAST_KEPT, _MOST_KEPT = 8, 64
_KEPT_BYTES = 1 << 30
# What must be the same for a run to be continued; the rest (epochs, versions, threads, device) may differ.
_IDENTITY = (
    "classes", "standardize", "model", "picture", "layers", "hidden", "activation", "seeds", "seed", "lr", "optimizer",
    "momentum", "batch_size", "record_every", "record_points", "queries", "metrics",
)  # fmt: skip
# What decides which weights are kept, where there is no room for those of every record.
_OF_THINNING = ("burn_in", "min_rise")

Moment = tuple[int, int]


class Session:
    """A run under way, from where its checkpoint stands; `result` brings it to its end."""

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
        self.n_classes, self.device = len(rows.classes), torch.device(config["device"])
        self.started = self.saved = time.perf_counter()
        self.seconds_before = self.seconds_recording = 0.0
        self.update = 0
        self.curves = Curves()
        self.found: dict[str, Any] | None = None  # by the last pass, as far as it got
        self.needed: set[Moment] = set()
        state = checkpoint.state()
        before = None if state is None else json.loads(state["config"])
        if before is not None:
            # Where none are named every hidden layer is recorded, then and now, if the model is the same.
            without = {"layers"} if config["layers"] is None else set()
            without |= {"picture"} if config["model"] != "cnn" else set()  # to all others, rows are rows
            check_same(before, config, [key for key in _IDENTITY if key not in without])
        elif checkpoint.holds_run():
            raise FastentError(
                f"{str(checkpoint.folder)!r} holds a run without a checkpoint to go on from: choose another folder, or start "
                "anew (resume=False, or --overwrite)"
            )
        self.seeds = [config["seed"] + s for s in range(config["seeds"])]
        self.networks = checked_networks(partial(make_network, factory), self.seeds, lambda network: network.to(self.device))
        self.feed = Feed(rows.train.X, rows.codes, config["batch_size"], config["seed"])
        self.schedule = Schedule(config["record_every"], config["epochs"], self.feed.updates_per_epoch)
        self.n_due = len(self.schedule.due())
        self._check_memory()
        self.optimizers = [
            make_optimizer(config["optimizer"], network, config["lr"], config["momentum"]) for network in self.networks
        ]
        self.recorded, self.queries = self._sample()
        self.k = min(_NEIGHBORS, len(rows.codes if self.recorded is None else self.recorded) - 1)
        self.standard = self._standard(state)
        if before is not None:
            check_same_data(before, config)
        trial = self.standard(np.array(rows.train.X[:2]))
        if config["layers"] is None:
            config["layers"] = hidden_layers(self.networks[0], trial)
        self.widths = widths_of(self.networks[0], config["layers"], trial, self.n_classes)
        self._check_memory_of_records()
        self.points = Points(rows.train.X, rows.codes, self.recorded)
        self.test_points = None if rows.test is None or rows.test_codes is None else Points(rows.test.X, rows.test_codes, None)
        if config["model"] not in ("mlp", "cnn"):
            config["model_digest"] = model_digest(factory, self.seeds[0], trial.cpu().numpy())
            if before is not None:
                check_same(before, self.config, ("model_digest",))
        for network in self.networks:
            network.train()
        self.learner = Learner(self.networks, self.optimizers, self.seeds, self.feed.pieces_per_update, len(rows.codes))
        if state is not None and before is not None:
            self._restore(state)
            if self._thinned():
                check_same(before, config, _OF_THINNING)

    def result(self) -> Run:
        """Train to the last epoch, and find the stragglers among all points."""
        last, due = self.schedule.last, self.schedule.due()
        if self.update >= last:
            self.learner.abandon()  # fewer epochs are asked for than before
        trained = self.update > last or (self.update == last and self.curves.last == last)  # its record may be missing
        if trained and (self.recorded is None or self._stragglers_known()):
            self.started = time.perf_counter()  # nothing is left to do
            return self.run()
        if not trained:
            # A record that was made because training ended there is not one that a longer run has.
            self.curves.only(due)
            self.needed = {moment for moment in self.needed if moment[1] in self.curves.updates}
            self.found = None
            with reporting(self.progress, "training", last) as report:
                self._train(last, due, report)
        if self.recorded is not None:
            self._last_pass()
        self._keep()
        return self.run()

    def run(self) -> Run:
        """The run so far."""
        epoch, stacked = self.schedule.epochs_of(self.curves.updates), self.curves.arrays()
        bits = epochs = None
        if self.found is not None and self.found["complete"]:
            bits, epochs = self.found["bits"], np.full((len(self.networks), self.n_classes), np.nan)
            for network, update, *classes in self.found["asked"]:
                epochs[network, classes] = epoch[self.curves.updates.index(update)]
        tested = self.test_points is not None
        return Run(
            config=dict(self.config),
            classes=self.rows.classes,
            index=np.arange(len(self.rows.codes)),
            labels=self.rows.labels,
            codes=self.rows.codes,
            epoch=epoch,
            test_epoch=epoch if tested else epoch[:0],
            seconds=self.seconds_before + time.perf_counter() - self.started,
            seconds_recording=self.seconds_recording,
            recorded=self.recorded,
            straggler_bits=bits,
            straggler_epochs=epochs,
            state={
                f"{s}.{k}": v.cpu().numpy().copy() for s, net in enumerate(self.networks) for k, v in net.state_dict().items()
            },
            **(stacked | {"test_error": stacked["test_error"] if tested else stacked["test_error"][:, :0]}),
        )

    def _train(self, last: int, due: set[int], report: Callable[[int, str], None]) -> None:
        message = self._record(due)
        while self.update < last:
            epoch, first = divmod(self.update, self.feed.updates_per_epoch)
            for batch in self.feed.batches(epoch, first * self.feed.pieces_per_update + self.learner.piece):
                targets = torch.from_numpy(batch.codes).to(self.device)
                if self.learner.learn(self.standard(batch.data), targets, self.update):
                    self.update += 1
                    if self.update % _LOOK == 0 or self.update == last:
                        self._check_finite()
                    message = self._record(due) or message
                    report(self.update, message)
                self._pause()

    def _record(self, due: set[int]) -> str:
        """A record, if one is due; what there is to say then."""
        if self.update not in due or self.curves.last >= self.update:
            return ""
        begun = time.perf_counter()
        self._check_finite()
        found = []
        for network in self.networks:
            try:
                found.append(
                    observe(
                        network,
                        self.config["layers"],
                        self.widths,
                        self.points,
                        self.standard,
                        self.n_classes,
                        self.queries,
                        self.k,
                    )
                )
            except Diverged:
                raise self._diverged() from None
            except KeyboardInterrupt:  # a search hears of it itself; the record is made when training goes on
                self._stop()
        self.curves.add(self.update, found, [self._test_error(network) for network in self.networks])
        self._keep_weights()
        self.seconds_recording += time.perf_counter() - begun
        epoch, error = self.schedule.epochs_of([self.update])[0], np.mean([each.wrong.mean() for each in found])
        return f"epoch {epoch:g}: training error {error:.4f}"

    def _test_error(self, network: nn.Module) -> float:
        if self.test_points is None:
            return np.nan
        wrong = 0
        with evaluating(network):
            for start, stored in self.test_points.chunks(_TEST_ROWS):
                codes = self.test_points.codes[start : start + len(stored)]
                wrong += int(wrong_of(network, self.standard(stored), codes).sum())
        return wrong / len(self.test_points)

    def _keep_weights(self) -> None:
        """Keep these weights, for an inversion may turn out to lie here, and of earlier ones as many as there is room for."""
        if self.recorded is None or self.update == 0:
            return  # the bits of all points are in the records; and no curve has fallen before it begins
        # A record that is made because training ends here takes nobody's room: a longer run does not have it.
        room = self._kept_moments() + (not self.schedule.lasts(self.update))
        needed: set[Moment] = set()
        run: Run | None = None
        for s, network in enumerate(self.networks):
            self.checkpoint.keep_weights((s, self.update), network.state_dict())
            kept = sorted({update for network_of, update in self.needed if network_of == s} | {self.update})
            spared = set[int]()
            if len(kept) > room:
                run = self.run() if run is None else run
                spared = {_nearest(kept, self.curves.updates[i.index]) for i in run.inversion[s, -1] if i}
            needed |= {(s, update) for update in thinned(kept, spared, room)}
        self.needed = needed
        if self.checkpoint.folder is None:
            self.checkpoint.forget_in_memory(self.needed)

    def _kept_moments(self) -> int:
        fitting = _KEPT_BYTES // (self._weights_bytes() * len(self.networks))
        return min(max(_LEAST_KEPT, min(_MOST_KEPT, fitting)), self.n_due)

    def _thinned(self) -> bool:
        """Whether there are records whose weights were not kept, for want of room."""
        return self.recorded is not None and len(self.needed) < len(self.networks) * sum(u > 0 for u in self.curves.updates)

    def _weights_bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.networks[0].state_dict().values())

    def _asked(self) -> Asked:
        """Which classes have an inversion in the last layer, by the nearest moment whose weights were kept."""
        asked: Asked = {}
        for (s, c), inversion in np.ndenumerate(self.run().inversion[:, -1]):
            if inversion:
                kept = [update for network, update in self.needed if network == s]
                moment = (s, _nearest(sorted(kept), self.curves.updates[inversion.index]))
                asked.setdefault(moment, []).append(c)
        return asked

    def _stragglers_known(self) -> bool:
        return self.found is not None and self.found["complete"] and is_about(self.found, self._asked())

    def _last_pass(self) -> None:
        """Which points are misclassified with the weights at each class's inversion, in one pass over all rows."""
        asked = self._asked()
        n = len(self.rows.codes)
        if self.found is None or not is_about(self.found, asked):
            self.found = nothing_found(asked, len(self.networks), n)
        if self.found["complete"]:
            return
        with reporting(self.progress, "stragglers", n) as report:
            find_stragglers(
                self.rows.train.X,
                self.rows.codes,
                asked,
                self.found,
                network_at=self._network_at,
                weights_bytes=self._weights_bytes(),
                standard=self.standard,
                report=lambda share: report(round(share * n), ""),
                pause=self._pause,
            )

    def _network_at(self, moment: Moment) -> nn.Module:
        network = copy.deepcopy(self.networks[moment[0]])
        network.load_state_dict(self.checkpoint.weights(moment))
        return network

    def _pause(self) -> None:
        """Keep the state where it is time, and end where that is asked for."""
        if self.interrupted():
            self._stop()
        if self.checkpoint.folder is not None and time.perf_counter() - self.saved > _CHECKPOINT_SECONDS:
            self._keep()

    def _stop(self) -> NoReturn:
        """Keep the state, and the run so far, and end as Ctrl-C does."""
        if self.checkpoint.folder is not None:
            self._keep()
            if self.curves.updates:
                self.run().save(self.checkpoint.folder)
        raise KeyboardInterrupt

    def _keep(self) -> None:
        found = self.found
        state = {
            "config": json.dumps(self.config),
            "update": self.update,
            **self.curves.state_dict(),
            "seconds": self.seconds_before + time.perf_counter() - self.started,
            "seconds_recording": self.seconds_recording,
            "mean": torch.from_numpy(self.standard.mean),
            "scale": torch.from_numpy(self.standard.scale),
            "networks": [network.state_dict() for network in self.networks],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "under_way": self.learner.state_dict(),
            "found": None if found is None else {**found, "bits": torch.from_numpy(found["bits"])},
            "needed": [list(moment) for moment in sorted(self.needed)],
        }
        self.checkpoint.keep(state, self.needed)
        self.saved = time.perf_counter()

    def _restore(self, state: dict[str, Any]) -> None:
        self.update = state["update"]
        self.curves.load_state_dict(state)
        self.seconds_before, self.seconds_recording = state["seconds"], state["seconds_recording"]
        for network, weights in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(weights)
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        if "under_way" in state:
            self.learner.load_state_dict(state["under_way"])
        found = state["found"]
        self.found = None if found is None else {**found, "bits": found["bits"].numpy()}
        self.needed = {(s, update) for s, update in state["needed"]}

    def _sample(self) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        """Rows that are recorded, and which of these (positions) are queries; all and none as None."""
        m, n = self.config["record_points"], len(self.rows.codes)
        generator = np.random.default_rng((self.config["seed"], 0x5A))
        recorded = None if m is None else np.sort(generator.choice(n, m, replace=False))
        codes = self.rows.codes if recorded is None else self.rows.codes[recorded]
        absent = np.flatnonzero(np.bincount(codes, minlength=self.n_classes) == 0)
        if len(absent):
            raise FastentError(
                f"record_points={m}: no point of class {self.rows.classes[absent[0]]!s} is among them; record more of the {n}"
            )
        q = self.config["queries"]
        return recorded, None if q is None else np.sort(generator.choice(len(codes), q, replace=False))

    def _standard(self, state: dict[str, Any] | None) -> Standard:
        """The constants, from a pass over all rows, in which these are told from those of any other data."""
        X, device, digest = self.rows.train.X, str(self.device), DataDigest()
        digest.begin(X)
        if state is None:
            with reporting(self.progress, "standardising", len(X)) as report:
                how = self.config["standardize"]
                found = Standard.of(X, how, device, report=report, interrupted=self.interrupted, also=digest.update)
        else:
            found = Standard(state["mean"].numpy(), state["scale"].numpy(), X.dtype, device)
            with reporting(self.progress, "the same data?", len(X)) as report:
                for start, block in row_blocks(X):
                    if self.interrupted():
                        raise KeyboardInterrupt
                    digest.update(block)
                    report(start + len(block), "")
        digest.end(POINTS)
        digest.add(CLASSES, self.rows.codes)
        if self.rows.test is not None and self.rows.test_codes is not None:
            digest.add_rows(TEST_POINTS, self.rows.test.X)
            digest.add(TEST_CLASSES, self.rows.test_codes)
        digest.of_labels(self.rows.labels)
        self.config |= {"fingerprint": digest.value, "digests": digest.after}
        return found

    def _check_finite(self) -> None:
        if not torch.isfinite(self.learner.losses).all():
            raise self._diverged()

    def _diverged(self) -> DivergedError:
        epoch = self.update / self.feed.updates_per_epoch
        if not self.update:
            return DivergedError(NEVER_FINITE)
        return DivergedError(
            f"training diverged by epoch {epoch:.3g}: the networks' outputs are no longer finite; lower lr={self.config['lr']}"
        )

    def _check_memory(self) -> None:
        check_fits(
            self._training_bytes(),
            f"training {len(self.networks)} networks from {self.rows.name}",
            "use fewer seeds, a smaller model or a smaller batch_size",
        )

    def _check_memory_of_records(self) -> None:
        m, q = len(self.rows.codes) if self.recorded is None else len(self.recorded), self.config["queries"] or 0
        curves = 8 * len(self.widths) * self.n_classes * (self.n_classes + 1)  # radii and distances
        bits = 3 * self.n_due * len(self.networks) * (-(-m // 8) + curves)  # as recorded, as a run, as kept
        recording = observing_bytes(self.rows.train.X, m, self.widths, self.n_classes, q, self.k)
        if self.recorded is not None and self.checkpoint.folder is None:
            recording += self._kept_moments() * self._weights_bytes() * len(self.networks)
        check_fits(
            self._training_bytes() + bits + recording,
            f"recording {m:,} points with {q:,} queries in {len(self.widths)} layers of {sum(self.widths):,} features in all",
            "use fewer queries or record_points, or name fewer layers",
        )

    def _training_bytes(self) -> int:
        parameters = sum(p.numel() * p.element_size() for p in self.networks[0].parameters())
        networks = 5 * parameters * len(self.networks)  # gradients, two moments, a copy for the checkpoint
        return int(3 * self.feed.pool_bytes) + networks + 24 * len(self.rows.codes)


def _nearest(updates: list[int], update: int) -> int:
    """The one of some ascending updates that is nearest on a log scale."""
    return min(updates, key=lambda each: abs(np.log((each + 1) / (update + 1))))
