"""A probe as a callback of Lightning's Trainer, from `lightning` or from `pytorch_lightning`."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from fastent.activations.probe import Probe
from fastent.errors import FastentError
from fastent.integrations.attaching import Attachment
from fastent.integrations.loggers import log_to, prefixed

__all__ = ["ProbeCallback"]


def _callbacks() -> tuple[type, ...]:
    """The Callback classes of the packages that are imported, or else installed; neither accepts the other's."""
    names = ("lightning.pytorch", "pytorch_lightning")
    in_use = [name for name in names if sys.modules.get(name) is not None]
    for name in in_use or names:
        try:
            import_module(name)
        except ImportError:
            continue
        in_use = in_use or [name]
    if not in_use:
        raise FastentError("lightning is not installed: pip install '.[lightning]' in the clone")
    return tuple(sys.modules[name].Callback for name in in_use)


class ProbeCallback(*_callbacks()):  # type: ignore[misc]
    """Calls a probe before the first update and after every epoch (or update); its records are in the checkpoints.

    Each record is also in `trainer.callback_metrics`, so that `ModelCheckpoint(monitor="fastent/LAYER/radius/CLASS")` and
    `EarlyStopping(monitor="fastent/error")` can monitor it, after validation too: an epoch is recorded before that. If training
    ends without a record after its beginning, one warning says so, and why.

    Parameters
    ----------
    loader, layers, **options
        As for `fe.Probe`, on the LightningModule: its forward runs, and layers are named from it.
    make : callable, optional
        Instead of these: given the LightningModule, it returns a probe, for instance on a module inside it.
    per : {"epoch", "step"}, default "epoch"
        What is counted: epochs, or updates (`trainer.global_step`). The probe records every `every` of them. An epoch is a
        whole pass over the training data (or over `limit_train_batches` of it); one that is cut short, by `max_steps` or early
        stopping, is not recorded.
    log : bool, default True
        Send each record to the trainer's loggers as well, by the same names.
    name : str, default "fastent"
        The first part of the names of its numbers, and the name of its records in a checkpoint. If there are several of these
        callbacks, give each its own.

    Attributes
    ----------
    probe : Probe
        From the start of training on.
    """

    def __init__(
        self,
        loader: Any = None,
        layers: Sequence[str] | None = None,
        *,
        make: Callable[[Any], Probe] | None = None,
        per: str = "epoch",
        log: bool = True,
        name: str = "fastent",
        **options: Any,
    ) -> None:
        super().__init__()
        self._attached = Attachment(loader, layers, make, per, options)
        self._log, self._name, self._prefix = log, name, f"{name}/"

    @property
    def probe(self) -> Probe:
        return self._attached.probe

    @property
    def state_key(self) -> str:
        return f"ProbeCallback({self._name})"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        epoch = trainer.current_epoch
        self._tell(trainer, self._attached.begin(pl_module, trainer.global_step, epoch, epoch))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        # Batches whose gradients are only accumulated are no updates.
        self._tell(trainer, self._attached.updated(trainer.global_step))
        # Not at the end of the epoch, which is after validation, when callbacks compare what they monitor.
        if trainer.is_last_batch:
            self._tell(trainer, self._attached.end_pass())

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self._attached.finish(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return self._attached.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._attached.load_state_dict(state_dict)

    def _tell(self, trainer: Any, found: dict[str, float] | None) -> None:
        if not found:
            return
        import torch

        monitored = {key: torch.tensor(value, dtype=torch.float64) for key, value in prefixed(found, self._prefix).items()}
        trainer.callback_metrics.update(monitored)
        if self._log:
            for logger in trainer.loggers:
                log_to(logger, found, trainer.global_step, prefix=self._prefix)
