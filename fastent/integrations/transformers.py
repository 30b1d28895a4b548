"""A probe as a callback of transformers' Trainer."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastent.activations.probe import Probe
from fastent.errors import warn
from fastent.integrations.attaching import Attachment
from fastent.integrations.loggers import prefixed
from fastent.io.checksums import read_checked_torch, write_checked_torch
from fastent.runtime.optional import needed

__all__ = ["ProbeCallback"]

_TrainerCallback: Any = needed("transformers", "TrainerCallback")

# The Trainer's epoch is a sum of fractions.
_TOLERANCE = 1e-6
_REMEDY = "resume from another checkpoint, or delete this file to begin the records anew"


class ProbeCallback(_TrainerCallback):  # type: ignore[misc]
    """Calls a probe before the first update and after every epoch (or update); its records are kept with the checkpoints.

    If training ends without a record after its beginning, one warning says so, and why.

    Parameters
    ----------
    loader, layers, **options
        As for `fe.Probe`, on the Trainer's model: layers are named from it. The loader yields mappings, as for the model.
    make : callable, optional
        Instead of these: given the model, it returns a probe.
    per : {"epoch", "step"}, default "epoch"
        What is counted: epochs, or updates. The probe records every `every` of them. An epoch is a whole pass over the training
        data, even if these have no length and the Trainer's own epochs mean something else; one that is cut short, by
        `max_steps`, a fraction of an epoch or early stopping, is not recorded.
    log : Trainer or callable, optional
        The Trainer: each record goes to its `log`, and so to all that `report_to` names and to its `log_history`. Any other
        function is called with the record and the number of updates made by then.
    name : str, default "fastent"
        The first part of the names of its numbers, "fastent/LAYER/radius/CLASS". Records are kept as `NAME-probe.pt` in each
        checkpoint's folder. If there are several of these callbacks, give each its own.
    resume : path, optional
        The folder of the checkpoint that training resumes from, if it is not `output_dir/checkpoint-STEP`.

    Attributes
    ----------
    probe : Probe
        From the start of training on.

    Examples
    --------
    trainer.add_callback(ProbeCallback(probe_set, ["layer"], log=trainer))
    """

    def __init__(
        self,
        loader: Any = None,
        layers: Sequence[str] | None = None,
        *,
        make: Callable[[Any], Probe] | None = None,
        per: str = "epoch",
        log: Any = None,
        name: str = "fastent",
        resume: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._attached = Attachment(loader, layers, make, per, options)
        self._log, self._prefix, self._file, self._resume = log, f"{name}/", f"{name}-probe.pt", resume
        # Batches of the current pass, and those whose gradients no update has used; batches of the last whole pass.
        self._batches = self._waiting = self._length = 0
        self._resumed = self._said = False

    @property
    def probe(self) -> Probe:
        return self._attached.probe

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step:
            self._take_up(args, state.global_step)
        whole = math.floor((state.epoch or 0) + _TOLERANCE)
        # Passes that ended before the checkpoint are not ended again.
        self._tell(self._attached.begin(model, state.global_step, whole, sys.maxsize), state, control)
        self._batches = self._waiting = 0
        self._resumed = bool(state.global_step)

    def on_substep_end(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        self._count(1, state, train_dataloader)

    def on_step_end(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        self._count(-self._waiting, state, train_dataloader)
        self._tell(self._attached.updated(state.global_step), state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        cut = control.should_training_stop or control.should_epoch_stop
        if self._batches and (not cut or self._all_seen(state, train_dataloader)):
            if self._waiting and not self._said:
                self._said = True
                warn(
                    f"the training data have no length: the gradients of the last {self._waiting} of {self._batches} batches "
                    "wait for the next pass's first update: the probe records at the end of each pass, before that update"
                )
            if not self._resumed:  # else perhaps only the rest of a pass
                self._length = self._batches
            self._tell(self._attached.end_pass(), state, control)
        self._batches, self._resumed = 0, False

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._attached.finish(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder = _checkpoint(args, state.global_step)
        # A missing folder is not made: training would resume from it, and it has no weights.
        if not folder.is_dir():
            warn(f"no folder {str(folder)!r}: the probe's records are not kept with this checkpoint; keep probe.state_dict()")
            return
        write_checked_torch(folder / self._file, self._attached.state_dict())

    def _count(self, waiting: int, state: Any, loader: Any) -> None:
        """One more batch; `waiting` is the change in the number of batches whose gradients no update has used."""
        self._batches, self._waiting = self._batches + 1, self._waiting + waiting
        self._attached.last_batch(0 if self._all_seen(state, loader) else None)

    def _all_seen(self, state: Any, loader: Any) -> bool:
        """Whether the last batch was a pass's last, as far as can be known before the next one is loaded."""
        if _has_length(loader):
            return abs(state.epoch - round(state.epoch)) < _TOLERANCE and not self._waiting
        # The loaders of accelerate load one batch ahead.
        return bool(getattr(loader, "end_of_dataloader", False)) or self._batches == self._length

    def _take_up(self, args: Any, step: int) -> None:
        path = Path(self._resume or _checkpoint(args, step)) / self._file
        if path.is_file():
            self._attached.load_state_dict(read_checked_torch(path, _REMEDY, "no file of this callback"))
        else:
            warn(f"no {str(path)!r}: the probe's records begin anew at step {step}; name the checkpoint's folder as resume=")

    def _tell(self, found: dict[str, float] | None, state: Any, control: Any) -> None:
        if not found or self._log is None:
            return
        named = prefixed(found, self._prefix)
        if hasattr(self._log, "callback_handler"):
            # The Trainer takes what it logs for its own log, and would not make that afterwards.
            due = control.should_log
            self._log.log(named)
            control.should_log = due
        elif state.is_world_process_zero:
            self._log(named, state.global_step)


def _checkpoint(args: Any, step: int) -> Path:
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def _has_length(loader: Any) -> bool:
    try:
        return len(loader) > 0
    except (TypeError, NotImplementedError):
        return False
