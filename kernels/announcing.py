"""Long compilation is not silent: what is said while kernels are compiled, and how long they have been."""

import sys
import threading
import time
from typing import Any

from numba.core import event

__all__ = ["Announcer"]

# Compilation that is over sooner is not mentioned.
_QUIET_SECONDS = 1.0
_REDRAW_SECONDS = 0.2
_BAR = 30
# About how long the kernels take, on a core of Zen 4, that belong to what has been imported so far.
_EXPECTED = {"fastent.measurement.measure": 15, "fastent.search.exact_index": 6, "fastent.training.ensemble": 5}


class Announcer(event.Listener):  # type: ignore[misc]
    """A line on stderr, once in a process, when kernels have been compiled for a second; on a terminal a bar as well."""

    def __init__(self, kind: type) -> None:
        """Of what numba compiles, `kind` is meant. It compiles for one thread at a time."""
        self._kind = kind
        self._seconds_before, self._began, self._depth = 0.0, 0.0, 0
        self._is_said = False
        self._over, self._thread = threading.Event(), threading.Thread()

    def seconds(self) -> float:
        """Wall time that compilation has taken in this process."""
        return self._seconds_before + (time.perf_counter() - self._began if self._depth else 0.0)

    def on_start(self, event: Any) -> None:
        if not isinstance(event.data["dispatcher"], self._kind):
            return
        self._depth += 1
        if self._depth == 1:
            self._began = time.perf_counter()
            self._over.clear()
            self._thread = threading.Thread(target=self._tell, name="fastent-compiling", daemon=True)
            self._thread.start()

    def on_end(self, event: Any) -> None:
        if not isinstance(event.data["dispatcher"], self._kind):
            return
        if self._depth == 1:
            self._seconds_before = self.seconds()
            self._over.set()
            self._thread.join()
        self._depth -= 1

    def _tell(self) -> None:
        """Until compilation is over."""
        if self._over.wait(max(0.0, _QUIET_SECONDS - self._seconds_before)) or sys.stderr is None:
            return
        expected = max([3, *(seconds for module, seconds in _EXPECTED.items() if module in sys.modules)])
        if not self._is_said:
            self._is_said = True
            print(f"fastent: compiling kernels for this machine, once, about {expected} s", file=sys.stderr, flush=True)
        # A live display of rich's stands in for stderr, and breaks lines.
        if not sys.stderr.isatty() or type(sys.stderr).__module__.startswith("rich."):
            return
        while not self._over.wait(_REDRAW_SECONDS):
            filled = min(_BAR, round(_BAR * self.seconds() / expected))
            print(f"\r{'█' * filled}{'░' * (_BAR - filled)} {self.seconds():.0f} s", end="", file=sys.stderr, flush=True)
        print(f"\r{' ' * (_BAR + 8)}\r", end="", file=sys.stderr, flush=True)
