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
        if (make is None) == (loader is None or layers is None) or (make is not None and options):
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
            self._probe.load_state_dict(self._state)
            self._state = None
        return self.probe(0) if step == 0 and not self.probe.steps else None

    def state_dict(self) -> dict[str, Any]:
        return {} if self._probe is None else self._probe.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the records of a checkpoint, when training begins."""
        self._state = state or None
