"""The command line: its commands in the order of the help, with examples."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from fastent.cli.bench import bench
from fastent.cli.capture import capture
from fastent.cli.duplicates import duplicates
from fastent.cli.experiments import app as experiments
from fastent.cli.info import info
from fastent.cli.measure import measure
from fastent.cli.options import plain_errors
from fastent.cli.report import report
from fastent.cli.run import run
from fastent.cli.trajectory import trajectory
from fastent.cli.warmup import warmup
from fastent.printable import printable
from fastent.runtime.interrupts import interrupts
from fastent.version import __version__

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


class Example(NamedTuple):
    """In the help of each command; the tests run every one."""

    what: str
    command: str


EXAMPLES = {
    "": (
        Example("Ten networks on scikit-learn's digits", "run --out digits"),
        Example("How tangled stored activations are", "measure X.npy y.npy --out layer3"),
        Example("Whether the stragglers cause the inversion", "experiment pruning --out claims"),
    ),
    "run": (
        Example("Ten networks on scikit-learn's digits", "run --out digits"),
        Example("The source paper's set-up", "run --data mnist --data-dir data --preset paper --out mnist"),
        Example(
            "Your own data, a larger network",
            "run --data own.npz --hidden 512,128 --activation relu --optimizer adam --lr 0.001 --out own",
        ),
        Example(
            "Data streamed from disk, in mini-batches",
            "run --data X.npy --labels y.npy --model cnn --seeds 1 --epochs 10 --batch-size 256 --record-every 0.25 --out big",
        ),
        Example("Only the numbers, for a script", "run --json"),
    ),
    "measure": (
        Example("All rows, every statistic", "measure X.npy y.npy --out layer3"),
        Example("Millions of rows, read from disk: means with intervals", "measure shards/ y.npy --queries 20000 --out all"),
        Example("Two statistics, limited memory", "measure X.npy y.npy --metrics mixing,margins --memory 1GiB --json"),
        Example("A layer stored by fastent capture", "measure acts:layer3 acts --out captured"),
    ),
    "duplicates": (
        Example("Near duplicates with different labels", "duplicates X.npy --labels y.npy --quantile 0.01 --out duplicates"),
        Example("Test rows that are in the training set", "duplicates X.npy --queries test.npy --radius 0.1"),
    ),
    "capture": (
        Example(
            "The activations of two layers",
            "capture --model net:make --weights W.pt --data X.npy --labels y.npy --layers layer3,fc --out acts",
        ),
        Example(
            "Each of many checkpoints",
            "capture --model net:make --checkpoint 'ckpt/*.pt' --data X.npy --labels y.npy --layers fc --out checkpoints",
        ),
        Example("Check every byte", "capture --verify acts"),
    ),
    "trajectory": (Example("All layers of all captured checkpoints", "trajectory checkpoints --out trajectory"),),
    "report": (
        Example("The report of a stored run, written again", "report digits"),
        Example("Two runs side by side", "report sgd adam --out optimisers.html"),
        Example("Measurements of layers, in this order", "report layer1 layer2 layer3"),
    ),
    "experiment": (
        Example("One claim", "experiment stability --out claims"),
        Example("All claims, in the source paper's set-up", "experiment all --data mnist --preset paper --out paper"),
    ),
    "info": (Example("As JSON, for a script", "info --json"),),
    "warmup": (Example("Once after installation, as in the recipe of a container", "warmup"),),
    "bench": (
        Example("As much as fits in two minutes", "bench --minutes 2"),
        Example("Only some jobs, as JSON for a script", "bench --minutes 1 --only margins --json"),
    ),
}


def _examples(command: str) -> str:
    """The text below the help of a command."""
    lines = [f"{what}:\n  fastent {line}" for what, line in EXAMPLES[command]]
    return "\n".join(["[bold]Examples[/bold]", *lines])


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
    epilog=_examples("") + "\n\nEvery command has its own examples: fastent run --help.\n"
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


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"fastent {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Options that need no command."""


# In the order of the help.
app.command(epilog=_examples("run"), rich_help_panel=MEASURING)(plain_errors(run))
app.command(epilog=_examples("measure"), rich_help_panel=MEASURING)(plain_errors(measure))
app.command(epilog=_examples("duplicates"), rich_help_panel=MEASURING)(plain_errors(duplicates))
app.command(epilog=_examples("trajectory"), rich_help_panel=MEASURING)(plain_errors(trajectory))
app.add_typer(experiments, name="experiment", epilog=_examples("experiment"), rich_help_panel=MEASURING)
app.command(epilog=_examples("capture"), rich_help_panel=KEEPING)(plain_errors(capture))
app.command(epilog=_examples("report"), rich_help_panel=KEEPING)(plain_errors(report))
app.command(epilog=_examples("info"), rich_help_panel=INSTALLED)(plain_errors(info))
app.command(epilog=_examples("warmup"), rich_help_panel=INSTALLED)(plain_errors(warmup))
app.command(epilog=_examples("bench"), rich_help_panel=INSTALLED)(plain_errors(bench))


if __name__ == "__main__":
    main()
