"""A probe as a callback of transformers' Trainer."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastent.files import atomic_path
from fastent.integrations.attaching import Attachment
from fastent.lazy import needed
from fastent.sealed import check_seal, seal
from fastent.streaming.probe import Probe

__all__ = ["ProbeCallback"]

_TrainerCallback: Any = needed("transformers", "TrainerCallback")


class ProbeCallback(_TrainerCallback):  # type: ignore[misc]
    """Calls a probe before the first update and after every epoch (or update); its records lie beside the checkpoints.

    Parameters
    ----------
    loader, layers, **options
        As for `fe.Probe`, on the Trainer's model: layers are named from it. The loader yields mappings, as for the model.
    make : function, optional
        In place of these: given the model, it returns a probe.
    per : "epoch" or "step"
        What is counted: epochs (one that `max_steps` cuts short is not recorded), or updates. The probe records every `every`
        of them.
    log : function of (dict, step), optional
        Told each record, as {"LAYER/radius/CLASS": ...}, and the updates made by then.
    name : str
        Records are kept as `fastent-NAME.pt` in each checkpoint's folder.
    resume : path, optional
        The checkpoint's folder that training is resumed from, if that is not `output_dir/checkpoint-STEP`.

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
        log: Callable[[dict[str, float], int], Any] | None = None,
        name: str = "probe",
        resume: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._attached = Attachment(loader, layers, make, per, options)
        self._log, self._file, self._resume = log, f"fastent-{name}.pt", resume

    @property
    def probe(self) -> Probe:
        return self._attached.probe

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step:
            self._take_up(args, state.global_step)
        self._tell(self._attached.begin(model, state.global_step), state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._attached.per == "step":
            self._tell(self.probe(state.global_step), state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        whole = round(state.epoch)
        if self._attached.per == "epoch" and abs(state.epoch - whole) < 1e-6:
            self._tell(self.probe(whole), state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        import torch

        if not state.is_world_process_zero:
            return
        folder = _checkpoint(args, state.global_step)
        # Not made where it is missing: training would be resumed from it, and it has no weights.
        if not folder.is_dir():
            warnings.warn(
                f"no folder {str(folder)!r}: the probe's records are not kept with this checkpoint; keep probe.state_dict()",
                stacklevel=2,
            )
            return
        with atomic_path(folder / self._file) as temporary:
            torch.save(self._attached.state_dict(), temporary)
            seal(temporary)

    def _take_up(self, args: Any, step: int) -> None:
        import torch

        path = Path(self._resume or _checkpoint(args, step)) / self._file
        if path.is_file():
            check_seal(path, "remove it, and the probe's records begin anew")
            self._attached.load_state_dict(torch.load(path, weights_only=True))
        else:
            warnings.warn(
                f"no {str(path)!r}: the probe's records begin anew at step {step}; name the checkpoint's folder as resume=",
                stacklevel=2,
            )

    def _tell(self, found: dict[str, float] | None, state: Any) -> None:
        if found and self._log is not None and state.is_world_process_zero:
            self._log(found, state.global_step)


def _checkpoint(args: Any, step: int) -> Path:
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
