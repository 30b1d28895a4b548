"""What the commands have in common: options, how errors end, and how texts become options' values."""

import functools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fastent.cli.completion import data_sets, one_of
from fastent.cli.output import say
from fastent.data.presets import default_epochs
from fastent.errors import FastentError
from fastent.runtime.interrupts import interrupts
from fastent.training.options import DEFAULTS

__all__ = [
    "DATA", "NETWORK", "OUTPUT", "STATISTICS", "Activation", "AsJson", "BatchSize", "BurnIn", "Classes", "DataDir",
    "DataSource", "Device", "Dtype", "Epochs", "Exclude", "Grayscale", "Hidden", "InitScale", "Labels", "Layers",
    "LearningRate", "MinRise", "Model", "Momentum", "Optimizer", "Out", "Overwrite", "Preset",
    "RecordEvery", "RecordPoints", "RunQueries", "Seed", "Seeds",
    "Standardize", "Stream", "Subset", "SubsetSeed", "Test", "TestEvery", "TestLabels", "Threads", "numbers", "option",
    "plain_errors", "widths",
]  # fmt: skip

DATA, NETWORK, STATISTICS, OUTPUT = "Data", "Networks and training", "What is measured, and how", "Output"


def option(text: str, panel: str, *flags: str, values: Sequence[str] = (), default: str = "", **more: Any) -> Any:
    """An option in a panel of the help; `values` are offered by the shell, others are not refused.

    `default` says in words what happens without the option, where its value is decided later.
    """
    if default:
        text = f"{text} [dim]\\[default: {default}][/dim]"
    if values:
        more["autocompletion"] = one_of(*values)
    return typer.Option(*flags, help=text, rich_help_panel=panel, **more)


DataSource = Annotated[
    str,
    option(
        "digits, mnist, fashion-mnist, kmnist, cifar10; an .npz (x_train, y_train\\[, x_test, y_test]) or .npy; or a folder of "
        "shards, .zarr, .parquet or .safetensors, which are streamed from disk. Without a test set, a quarter of the rows is "
        "held out as one, unless the data are streamed.",
        DATA,
        autocompletion=data_sets,
    ),
]
Labels = Annotated[str | None, option("Label file (.npy), if --data contains no labels.", DATA)]
Stream = Annotated[
    bool,
    option(
        "Stream --data from disk instead of loading it. --record-every does so too, and so does --data that does not fit in "
        "memory.",
        DATA,
        "--stream",
    ),
]
Test = Annotated[str | None, option("Test set for streamed data, in any form that --data takes.", DATA)]
TestLabels = Annotated[str | None, option("Labels of the streamed test set (.npy).", DATA)]
DataDir = Annotated[str | None, option("Where named data sets lie (or FASTENT_DATA).", DATA)]
Subset = Annotated[int | None, option("The first so many training points only.", DATA)]
SubsetSeed = Annotated[int | None, option("Draw the subset at random, with this seed.", DATA)]
Exclude = Annotated[str | None, option("Row numbers to leave out, as .npy.", DATA, metavar="FILE")]
Classes = Annotated[
    str | None,
    option(
        "all (every label is a class) or parity (even against odd labels).",
        DATA,
        values=("parity", "all"),
        default="all; parity for data sets known by name",
    ),
]
Preset = Annotated[
    str | None,
    option("paper: the source paper's first 8192 points, classes by parity, and 20 tanh units.", DATA, values=("paper",)),
]
Standardize = Annotated[str, option("safe, paper or none.", DATA, values=("safe", "paper", "none"))]
Grayscale = Annotated[bool, option("Sum the three standardised colour channels.", DATA, "--grayscale")]

Hidden = Annotated[
    str | None,
    option("Units of each hidden layer, e.g. 512,128.", NETWORK, default=",".join(map(str, DEFAULTS.hidden))),
]
Activation = Annotated[str, option("tanh or relu.", NETWORK, values=("tanh", "relu"))]
InitScale = Annotated[float, option("What the initial weights are multiplied with.", NETWORK)]


def _model(said: str | None) -> str | None:
    """None for the fully connected network that is trained unless something else is said."""
    return None if said == "mlp" else said


Model = Annotated[
    str | None,
    option(
        "mlp, cnn, or package.module:factory of a torch module of your own.",
        NETWORK,
        values=("mlp", "cnn"),
        default="mlp",
        callback=_model,
    ),
]
Layers = Annotated[str | None, option("Of the model: names of the layers to record, with commas.", NETWORK)]
Seeds = Annotated[int, option("How many networks to train, all together.", NETWORK)]
Seed = Annotated[int, option("The first network's seed.", NETWORK)]
Epochs = Annotated[
    int | None,
    option("Passes over the data.", NETWORK, default=f"{default_epochs(None)}; {default_epochs('digits')} for digits"),
]
LearningRate = Annotated[float, option("Learning rate.", NETWORK)]
Optimizer = Annotated[str, option("sgd or adam; for streamed data also package.module:Class.", NETWORK, values=("sgd", "adam"))]
Momentum = Annotated[float, option("SGD momentum.", NETWORK)]
BatchSize = Annotated[int | None, option("Points for an update.", NETWORK, default="all points")]
RecordEvery = Annotated[
    float | None,
    option(
        "Streamed data: epochs between records; with --batch-size also a fraction, e.g. 0.25. "
        "[default: 1, and more often within the first]",
        NETWORK,
    ),
]
RecordPoints = Annotated[
    int | None,
    option("Streamed data: how many randomly drawn points to record; 0 for all.", NETWORK, default="50000"),
]
RunQueries = Annotated[
    int | None,
    option(
        "Streamed data: how many of the recorded points to use as queries for neighbour mixing; 0 for no mixing.",
        NETWORK,
        default="5000",
    ),
]
TestEvery = Annotated[int, option("Epochs between test errors.", NETWORK)]
BurnIn = Annotated[float, option("Parameter updates at the start in which no turn counts as an inversion.", STATISTICS)]
MinRise = Annotated[
    float, option("Least fall before and rise after an inversion, as a share of the radius's range.", STATISTICS)
]
Dtype = Annotated[str, option("float32 or float64.", NETWORK, values=("float32", "float64"))]
Device = Annotated[str | None, option("cpu, cuda, cuda:1, ...", NETWORK, values=("cpu", "cuda"))]
Threads = Annotated[int | None, option("Number of threads. [default: all processors; 1 for small problems]", NETWORK)]

Out = Annotated[Path | None, option("Folder for the results; what was interrupted in it is continued.", OUTPUT)]
Overwrite = Annotated[bool, option("Replace another run in --out.", OUTPUT, "--overwrite")]
AsJson = Annotated[bool, option("Print the result as JSON, and nothing else, on stdout.", OUTPUT, "--json")]


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"fastent: warning: {message}", file=sys.stderr)


def plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Bad input ends in one line and exit status 2, an interruption in 130; neither in a traceback."""

    @functools.wraps(command)
    def run_command(*args: Any, **options: Any) -> None:
        try:
            interrupts.at_work = True
            try:
                with warnings.catch_warnings():
                    warnings.showwarning = _say_warning
                    command(*args, **options)
            except Exception as error:
                if interrupts.arrived:  # an exception in a callback, or in an import, may come out as another
                    raise KeyboardInterrupt from error
                raise
        except FastentError as error:
            say(f"fastent: error: {error}", error=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            out = options.get("out")
            kept = out is not None and Path(out).is_dir() and any(Path(out).iterdir())
            say("fastent: interrupted" + f"; the same command goes on from what {out} keeps" * kept, error=True)
            interrupts.said = True
            raise typer.Exit(130) from None
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            place = f" {error.filename!r}" if error.filename else ""
            say(f"fastent: error: {error.strerror or error}{place}", error=True)
            raise typer.Exit(2) from error

    return run_command


def widths(text: str | None) -> tuple[int, ...]:
    return DEFAULTS.hidden if text is None else numbers("hidden", text, int)


def numbers(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        whole = "whole " if kind is int else ""
        raise FastentError(
            f"{name}={text!r}: {whole}numbers separated by commas are needed, for instance 20 or 512,128"
        ) from None
