"""Ctrl-C ends the command in one line and exit status 130, whatever it is doing, its imports included.

Imports next to nothing itself: until it is there, Python's own handler is.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

__all__ = ["Interrupts", "interrupts", "watch_command"]

_STATUS = 130
_AGAIN_SECONDS = 0.05
# By then the command has kept what it had and ended, unless a lock was lost with the exception.
_AT_MOST_SECONDS = 300


class Interrupts:
    """What to do when Ctrl-C arrives in the command (in a library it is the program's business).

    While options are parsed and modules imported there is nothing to be kept: the process ends at once, as an exception may be
    lost, or turned into another, within a module that is half imported. Elsewhere KeyboardInterrupt is raised, so that files
    are closed and workers stopped; if it is lost on its way it is raised again. The second Ctrl-C ends the process.
    """

    def __init__(self) -> None:
        self.arrived = False
        self.at_work = False  # whether a command has begun
        self.said = False  # whether the one line was printed
        self._again = False
        self._process = 0  # the command's own; its children see to themselves

    def watch(self) -> None:
        if self._process:
            return
        self._process = os.getpid()
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a process that a shell put in the background
            signal.signal(signal.SIGINT, self._note)
            self._report, sys.unraisablehook = sys.unraisablehook, self._on_lost_exception

    def leave(self) -> NoReturn:
        """End the process without threads or callbacks, which would be interrupted in turn and say so."""
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105
                stream.flush()
            except (OSError, ValueError, RuntimeError, AttributeError):
                pass  # closed, or interrupted while it was written to
        if not self.said:
            shown = b"\x1b[?25h" if os.isatty(2) else b""  # the cursor, which bars of progress hide
            os.write(2, shown + b"fastent: interrupted\n")
        os._exit(_STATUS)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            signal.default_int_handler(number, frame)
        second = self.arrived and not self._again
        self.arrived, self._again = True, False
        if second or not self.at_work or (_importing(frame) and not _has_children()):
            self.leave()
        self._later(_AT_MOST_SECONDS, self.leave)
        raise _Interrupted(self)

    def raise_again(self) -> None:
        if self.said or os.getpid() != self._process:
            return
        self._again = True
        # In a moment, and by a thread: what is raised in a destructor or a callback would be lost again.
        self._later(_AGAIN_SECONDS, self._send_again)

    def _send_again(self) -> None:
        if not self.said:  # else the command is about to end, and Python's own handler may be gone already
            os.kill(os.getpid(), signal.SIGINT)

    def _later(self, seconds: float, work: Callable[..., Any], *arguments: Any) -> None:
        from threading import Timer

        timer = Timer(seconds, work, arguments)
        timer.daemon = True
        timer.start()

    def _on_lost_exception(self, lost: Any) -> None:
        """Called for what Python can only report, as exceptions in callbacks from C, and what comes of them."""
        if not self.arrived:
            self._report(lost)


class _Interrupted(KeyboardInterrupt):
    """Raised again if it is gone before the command has ended: somebody caught it for good."""

    def __init__(self, interrupts: Interrupts) -> None:
        super().__init__()
        self._interrupts = interrupts

    def __del__(self) -> None:
        self._interrupts.raise_again()


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _has_children() -> bool:
    """Whether there are processes to be stopped, as the workers of a cluster."""
    processes = sys.modules.get("multiprocessing")
    return processes is not None and bool(processes.active_children())


interrupts = Interrupts()


def watch_command() -> None:
    """Watch if this process is the command, the script of that name or ``python -m fastent``, and not a child of it."""
    processes = sys.modules.get("multiprocessing.process")  # which a child that was spawned has imported before
    if processes is not None and processes.parent_process() is not None:
        return
    arguments = sys.orig_argv
    if sys.argv[0] != "-m" or ("-m" in arguments[:-1] and arguments[arguments.index("-m") + 1].partition(".")[0] == "fastent"):
        interrupts.watch()
