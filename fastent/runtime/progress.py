"""The progress reporter, and interruption of long work without losing its results."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastent.options import flag
from fastent.printable import printable, shortened

__all__ = ["Progress", "Report", "interruptible", "reporting", "say_resumed"]

# What callers may pass as `progress=`: a bar on stderr, silence, or a function of (done, total, message).
Progress = bool | None | Callable[[int, int, str], None]
Report = Callable[[int, str], None]

# A bar is one line.
_LONGEST = 100


@contextmanager
def reporting(progress: Progress, description: str, total: int) -> Iterator[Report]:
    """Yield `report(done, message)`; True shows a bar with an estimate of the time left if stderr is a terminal."""
    if callable(progress):
        yield lambda done, message: progress(done, total, message)
    elif flag("progress", progress is not None and progress) and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        said = TextColumn("{task.fields[message]}", markup=False)
        with Bar(*columns, said, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(_short(description), total=total, message="")
            yield lambda done, message: bar.update(task, completed=done, message=_short(message))
    else:
        yield lambda done, message: None


def say_resumed(progress: Progress, what: str) -> None:
    """A line on stderr, where a bar was asked for, that work goes on from what an earlier call has kept."""
    if progress is True:
        print(f"fastent: {printable(what)}", file=sys.stderr)


def _short(text: str) -> str:
    return shortened(printable(text), _LONGEST)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM arrived, so that the work can stop where its state is whole.

    A second Ctrl-C interrupts at once. Outside the main thread, signals cannot be handled, and the function returns False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    arrived = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        if arrived:
            raise KeyboardInterrupt
        arrived = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
