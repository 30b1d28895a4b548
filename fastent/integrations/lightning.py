"""A probe as a callback of Lightning's Trainer, from `lightning` or from `pytorch_lightning`."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from fastent.errors import FastentError
from fastent.integrations.attaching import Attachment
from fastent.streaming.probe import Probe

__all__ = ["ProbeCallback"]


def _callbacks() -> tuple[type, ...]:
    """The Callback classes of those packages that are in use, or else that are there: the two do not know each other."""
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

    Parameters
    ----------
    loader, layers, **options
        As for `fe.Probe`, on the LightningModule: its forward runs, and layers are named from it.
    make : function, optional
        In place of these: given the LightningModule, it returns a probe, for instance of a module inside of it.
    per : "epoch" or "step"
        What is counted: epochs, or updates (`trainer.global_step`). The probe records every `every` of them.
    log : bool
        Pass each record to the trainer's loggers, as {"LAYER/radius/CLASS": ...}.
    name : str
        Under which its records are in a checkpoint, where there are several of these callbacks.

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
        name: str = "probe",
        **options: Any,
    ) -> None:
        super().__init__()
        self._attached = Attachment(loader, layers, make, per, options)
        self._log, self._name = log, name

    @property
    def probe(self) -> Probe:
        return self._attached.probe

    @property
    def state_key(self) -> str:
        return f"ProbeCallback({self._name})"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._tell(trainer, self._attached.begin(pl_module, trainer.global_step))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        # Batches whose gradients are only accumulated are no updates.
        if self._attached.per == "step" and trainer.global_step > (self.probe.steps or (0,))[-1]:
            self._tell(trainer, self.probe(trainer.global_step))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._attached.per == "epoch":
            self._tell(trainer, self.probe(trainer.current_epoch + 1))

    def state_dict(self) -> dict[str, Any]:
        return self._attached.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._attached.load_state_dict(state_dict)

    def _tell(self, trainer: Any, found: dict[str, float] | None) -> None:
        if found and self._log:
            for logger in trainer.loggers:
                logger.log_metrics(found, step=trainer.global_step)
