"""What the callbacks have in common: making the probe once there is a model, and counting epochs.

An epoch is a whole pass over the training data. A pass that is cut short (by `max_steps`, a fraction of an epoch, early
stopping) does not count; one that a checkpoint divides is whole when its second part ends. Epochs are numbered from the
beginning of training.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastent.activations.probe import Probe
from fastent.errors import FastentError, warn
from fastent.options import choice

__all__ = ["Attachment"]


class Attachment:
    """A probe that is made when training begins, from its arguments or by a function of the model."""

    def __init__(
        self, loader: Any, layers: Sequence[str] | None, make: Callable[[Any], Probe] | None, per: str, options: dict[str, Any]
    ) -> None:
        given = loader is not None and layers is not None
        if given is (make is not None) or (make is not None and (loader is not None or layers is not None or options)):
            raise FastentError(
                "a probe takes a loader and layers, with options of fe.Probe, or make=, a function of the model: one of both"
            )
        self.per = choice("per", per, ("epoch", "step"))
        self._make = make or (lambda model: Probe(model, loader, layers or (), **options))
        self._probe: Probe | None = None
        self._state: dict[str, Any] | None = None
        self._passes = 0
        # The trainer's number of a pass whose last batch was used but which is not counted yet.
        self._ended: int | None = None

    @property
    def probe(self) -> Probe:
        if self._probe is None:
            raise FastentError("there is no probe yet: it is made when training begins")
        return self._probe

    def begin(self, model: Any, step: int, passes: int, current: int) -> dict[str, float] | None:
        """Make the probe, the first time, and record the model before its first update, unless that was done.

        passes : how many the trainer has made, unless a checkpoint says. current : the trainer's number of the next pass.
        """
        if self._probe is None:
            self._probe, self._passes = self._make(model), passes
        if step == 0:
            self._passes, self._ended = 0, None
        if self._state is not None:
            self._take_up(self._state, passes)
            self._state = None
        steps = self._probe.steps
        if step == 0 and steps and steps[-1] > 0:
            raise FastentError(
                f"the probe has records up to step {steps[-1]} of another training: make a new callback for each"
            )
        if step == 0:
            return self._probe(0) if not steps else None
        # The checkpoint was made between the last batch of a pass and its end, which the trainer does not repeat.
        return self.end_pass() if self._ended is not None and current > self._ended else None

    def last_batch(self, current: int | None) -> None:
        """Note whether the batch that has just been used was the last of the trainer's pass `current`."""
        self._ended = current

    def end_pass(self) -> dict[str, float] | None:
        """Count a whole pass, and record if it is due."""
        self._passes, self._ended = self._passes + 1, None
        return self.probe(self._passes) if self.per == "epoch" else None

    def updated(self, step: int) -> dict[str, float] | None:
        """Record if this number of updates is due and new."""
        new = step > (self.probe.steps or (0,))[-1]
        return self.probe(step) if self.per == "step" and new else None

    def finish(self, step: int) -> None:
        """Say why nothing was recorded, if nothing was."""
        if self._probe is not None and any(self._probe.steps):
            return
        every = f"every={self._probe.every}" if self._probe is not None else "every"
        if not step or self._probe is None:
            why = "training made no updates"
        elif self.per == "step":
            why = f"{every}, and training made {step} update{'s' * (step != 1)}: choose a smaller every"
        elif not self._passes:
            why = f"no pass over the training data ended within {step} update{'s' * (step != 1)}: per='step' counts updates"
        else:
            why = f"{every}, and training had {self._passes} epoch{'s' * (self._passes != 1)}: choose a smaller every"
        what = "update" if self.per == "step" else "epoch"
        warn(f"the probe recorded nothing after any {what}, because {why}")

    def state_dict(self) -> dict[str, Any]:
        if self._probe is None:
            return {}
        return {"per": self.per, "probe": self._probe.state_dict(), "passes": self._passes, "ended": self._ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the records of a checkpoint, when training begins."""
        self._state = state or None

    def _take_up(self, kept: dict[str, Any], passes: int) -> None:
        if not isinstance(kept, dict) or not {"per", "probe"} <= kept.keys():
            raise FastentError(
                "the checkpoint holds no records of a probe's callback: resume from one that this callback wrote"
            )
        if kept["per"] != self.per:
            raise FastentError(
                f"the checkpoint's records are per {kept['per']}, these are to be per {self.per}: make both alike"
            )
        self.probe.load_state_dict(kept["probe"])
        # Missing in checkpoints of earlier versions.
        self._passes, self._ended = kept.get("passes", passes), kept.get("ended")
