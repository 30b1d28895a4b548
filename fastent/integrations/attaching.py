"""What the callbacks have in common: a probe that is made when the model is there, and takes up what a checkpoint kept."""

from collections.abc import Callable, Sequence
from typing import Any

from fastent.errors import FastentError
from fastent.options import choice
from fastent.streaming.probe import Probe

__all__ = ["Attachment"]


class Attachment:
    """A probe to be, from its arguments or from a function of the model that makes it."""

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

    @property
    def probe(self) -> Probe:
        if self._probe is None:
            raise FastentError("there is no probe yet: it is made when training begins")
        return self._probe

    def begin(self, model: Any, step: int) -> dict[str, float] | None:
        """Make the probe, the first time; look at the model before its first update, unless that was done."""
        if self._probe is None:
            self._probe = self._make(model)
        if self._state is not None:
            kept, self._state = self._state, None
            if kept["per"] != self.per:
                raise FastentError(
                    f"the checkpoint's records are per {kept['per']}, these are to be per {self.per}: make both alike"
                )
            self._probe.load_state_dict(kept["probe"])
        steps = self._probe.steps
        if step == 0 and steps and steps[-1] > 0:
            raise FastentError(
                f"the probe has records up to step {steps[-1]} of another training: make a new callback for each"
            )
        return self._probe(0) if step == 0 and not steps else None

    def state_dict(self) -> dict[str, Any]:
        return {} if self._probe is None else {"per": self.per, "probe": self._probe.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the records of a checkpoint, when training begins."""
        self._state = state or None
