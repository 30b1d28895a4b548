"""Long compilation is not silent: what is said while kernels are compiled, and how long they have been."""

import sys
import threading
import time
from contextlib import suppress
from typing import Any

from numba.core import event

__all__ = ["Announcer"]

# Compilation that is over sooner is not mentioned.
_QUIET_SECONDS = 1.0
_REDRAW_SECONDS = 0.2
_BAR = 30
# About how long the kernels take, on a core of Zen 4, that belong to what has been imported so far.
_EXPECTED = {"fastent.measurement.measure": 15, "fastent.search.exact_index": 7, "fastent.training.ensemble": 4}


class Announcer(event.Listener):  # type: ignore[misc]
    """A line on stderr, once in a process, when kernels have been compiled for a second; on a terminal a bar as well."""

    def __init__(self, kind: type) -> None:
        """Listens to what dispatchers of this class compile, which they do in one thread at a time."""
        self._kind = kind
        # Seconds before, and when the compilation under way began: assigned at once, so that other threads see both or neither.
        self._state: tuple[float, float | None] = 0.0, None
        self._is_said = False
        self._over, self._thread = threading.Event(), threading.Thread()

    def seconds(self) -> float:
        """Wall time that compilation has taken in this process, in whichever thread: others mostly wait for it."""
        before, began = self._state
        return before + (0.0 if began is None else time.perf_counter() - began)

    def on_start(self, happening: Any) -> None:
        if isinstance(happening.data["dispatcher"], self._kind):
            self._state = self._state[0], time.perf_counter()
            self._over.clear()
            self._thread = threading.Thread(target=self._tell, name="fastent-compiling", daemon=True)
            with suppress(RuntimeError):  # the interpreter is about to end, or the system has no thread left
                self._thread.start()

    def on_end(self, happening: Any) -> None:
        if isinstance(happening.data["dispatcher"], self._kind):
            self._over.set()
            try:
                if self._thread.ident is not None:
                    self._thread.join()
            finally:
                self._state = self.seconds(), None

    def _tell(self) -> None:
        """Until compilation is over."""
        with suppress(Exception):  # whatever stands in for stderr
            if not self._over.wait(max(0.0, _QUIET_SECONDS - self._state[0])) and sys.stderr is not None:
                self._announce()

    def _announce(self) -> None:
        expected = max([3, *(seconds for module, seconds in _EXPECTED.items() if module in sys.modules)])
        if not self._is_said:
            self._is_said = True
            print(f"fastent: compiling kernels for this machine, once, about {expected} s", file=sys.stderr, flush=True)
        # A live display of rich's stands in for stderr, and breaks lines.
        if not sys.stderr.isatty() or type(sys.stderr).__module__.startswith("rich."):
            return
        while not self._over.wait(_REDRAW_SECONDS):
            filled = min(_BAR, round(_BAR * self.seconds() / expected))
            print(f"\r[{'#' * filled:{_BAR}}] {self.seconds():.0f} s", end="", file=sys.stderr, flush=True)
        print(f"\r{' ' * (_BAR + 10)}\r", end="", file=sys.stderr, flush=True)
