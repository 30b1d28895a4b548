"""The command line: its commands, in the order of the help."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from fastent.cli.bench import bench
from fastent.cli.capture import capture
from fastent.cli.examples import examples
from fastent.cli.experiments import app as experiments
from fastent.cli.info import info
from fastent.cli.measure import measure
from fastent.cli.report import report
from fastent.cli.run import run
from fastent.printable import printable
from fastent.runtime.interrupts import interrupts

# A line for each paragraph: the terminal breaks them.
_PURPOSE = (
    "How tangled are the classes in a network's representations, where, and since when?\n\n"
    "[bold]run[/bold] trains networks, finds the moment at which each class turns from compacting to spreading (the "
    "inversion), and names the points that are still misclassified at that moment (the stragglers). [bold]measure[/bold] "
    "measures how the classes mix in activations that you have stored with their labels. [bold]experiment[/bold] tests the "
    "source paper's claims on your data. Each prints a table and, with --out, writes a report; after an interruption the same "
    "command resumes."
)
MEASURING, KEEPING, INSTALLED = "Measure", "Store and report", "This installation"


class _Commands(TyperGroup):
    """Commands whose usage errors, which quote what was typed, show it as all other text is shown."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _shown_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _shown_errors():
            return super().invoke(ctx)


@contextmanager
def _shown_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):
            message = printable(error.format_message(), keep="\n")
            error.format_message = lambda: message
        raise


app = typer.Typer(
    cls=_Commands,
    help=_PURPOSE,
    epilog=examples("") + "\n\nEvery command has its own examples: fastent run --help.\n"
    "Exit status: 0 done, 2 bad usage or bad input, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="rich",
)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where an encoding has no place for a sign, the rest is worth printing
    interrupts.watch()
    try:
        app(prog_name="fastent")
    finally:
        if interrupts.arrived:  # whatever has become of it
            interrupts.leave()
        interrupts.at_work = False


# In the order of the help.
app.command(epilog=examples("run"), rich_help_panel=MEASURING)(run)
app.command(epilog=examples("measure"), rich_help_panel=MEASURING)(measure)
app.add_typer(experiments, name="experiment", epilog=examples("experiment"), rich_help_panel=MEASURING)
app.command(epilog=examples("capture"), rich_help_panel=KEEPING)(capture)
app.command(epilog=examples("report"), rich_help_panel=KEEPING)(report)
app.command(epilog=examples("info"), rich_help_panel=INSTALLED)(info)
app.command(epilog=examples("bench"), rich_help_panel=INSTALLED)(bench)


if __name__ == "__main__":
    main()
