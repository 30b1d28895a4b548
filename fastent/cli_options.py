"""What the commands have in common: options, how errors end, and how texts become options' values."""

import functools
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fastent.errors import FastentError

__all__ = [
    "DATA", "NETWORK", "OUTPUT", "STATISTICS", "Activation", "BatchSize", "Classes", "DataDir", "DataSource", "Device", "Dtype",
    "Epochs", "Exclude", "Grayscale", "Hidden", "InitScale", "Labels", "Layers", "LearningRate", "Model", "Momentum",
    "Optimizer", "Out", "Overwrite", "RecordEvery", "RecordPoints", "RunQueries", "Seed", "Seeds", "Standardize", "Stream",
    "Subset", "SubsetSeed", "Test", "TestEvery", "TestLabels", "Threads",
    "numbers", "plain_errors", "print_cost", "widths",
]  # fmt: skip

DATA, NETWORK, STATISTICS, OUTPUT = "Data", "Networks and training", "What is measured, and how", "Output"


def _option(text: str, panel: str, *flags: str, **more: Any) -> Any:
    return typer.Option(*flags, help=text, rich_help_panel=panel, **more)


DataSource = Annotated[
    str,
    _option(
        "digits, mnist, fashion-mnist, kmnist, cifar10; .npz (x_train, y_train[, x_test, y_test]) or .npy; a folder of shards, "
        ".zarr, .parquet or .safetensors, which stay on disk.",
        DATA,
    ),
]
Labels = Annotated[str | None, _option("Labels .npy for a --data without.", DATA)]
Stream = Annotated[
    bool, _option("Leave --data on disk; so does --record-every, and data too large for memory.", DATA, "--stream")
]
Test = Annotated[str | None, _option("Of data on disk: test points likewise.", DATA)]
TestLabels = Annotated[str | None, _option("Their labels.", DATA)]
DataDir = Annotated[str | None, _option("Where named data sets lie (or FASTENT_DATA).", DATA)]
Subset = Annotated[int | None, _option("The first so many training points only.", DATA)]
SubsetSeed = Annotated[int | None, _option("Draw the subset at random, with this seed.", DATA)]
Exclude = Annotated[str | None, _option("Row numbers to leave out, as .npy.", DATA, metavar="FILE")]
Classes = Annotated[str | None, _option("parity (label % 2) or all; parity unless said, all of data on disk.", DATA)]
Standardize = Annotated[str, _option("safe, paper or none.", DATA)]
Grayscale = Annotated[bool, _option("Sum the three standardised colour channels.", DATA, "--grayscale")]

Hidden = Annotated[str | None, _option("Units of each hidden layer, e.g. 20; 512,128 on disk unless said.", NETWORK)]
Activation = Annotated[str | None, _option("tanh or relu; tanh unless said, relu on disk.", NETWORK)]
InitScale = Annotated[float, _option("What the initial weights are multiplied with.", NETWORK)]
Model = Annotated[str | None, _option("mlp, cnn, or package.module:factory of a torch module of your own.", NETWORK)]
Layers = Annotated[str | None, _option("Of the model: names of the layers to record, with commas.", NETWORK)]
Seeds = Annotated[int | None, _option("How many networks, trained together; 10 unless said, 1 on disk.", NETWORK)]
Seed = Annotated[int, _option("The first network's seed.", NETWORK)]
Epochs = Annotated[int | None, _option("Passes over the data; 500, or 1500 for digits, unless said; 10 on disk.", NETWORK)]
LearningRate = Annotated[float, _option("Learning rate.", NETWORK)]
Optimizer = Annotated[str, _option("sgd or adam; of data on disk also package.module:Class.", NETWORK)]
Momentum = Annotated[float, _option("Of SGD.", NETWORK)]
BatchSize = Annotated[int | None, _option("Points for an update; all unless said, 256 on disk.", NETWORK)]
RecordEvery = Annotated[float | None, _option("Of data on disk: epochs between records, e.g. 0.25; 1 unless said.", NETWORK)]
RecordPoints = Annotated[
    int | None,
    _option("Of data on disk: how many points, drawn at random, are recorded; 50000 unless said, 0 for all.", NETWORK),
]
RunQueries = Annotated[
    int | None, _option("Of these, how many meet all for mixing; 5000 unless said, 0 for no mixing.", NETWORK)
]
TestEvery = Annotated[int, _option("Epochs between test errors.", NETWORK)]
Dtype = Annotated[str, _option("float32 or float64.", NETWORK)]
Device = Annotated[str | None, _option("cpu, cuda, cuda:1, ...", NETWORK)]
Threads = Annotated[int | None, _option("Threads; unless said all processors, or one for little work.", NETWORK)]

Out = Annotated[Path | None, _option("Folder for the results; what was interrupted in it is continued.", OUTPUT)]
Overwrite = Annotated[bool, _option("Replace another run in --out.", OUTPUT, "--overwrite")]


def plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Bad input ends in one line and exit status 2, an interruption in 130; neither in a traceback."""

    @functools.wraps(command)
    def run_command(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except FastentError as error:
            print(f"fastent: error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            print("fastent: interrupted", file=sys.stderr)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            place = f" {error.filename!r}" if error.filename else ""
            print(f"fastent: error: {error.strerror or error}{place}", file=sys.stderr)
            raise typer.Exit(2) from error

    return run_command


def print_cost(seconds: float, what: str, threads: int) -> None:
    from fastent.memory import readable_bytes

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{seconds:.1f} s {what} on {threads} thread{'s' * (threads > 1)}, peak memory {readable_bytes(peak)}")


def widths(text: str | None) -> tuple[int, ...]:
    return (20,) if text is None else numbers("hidden", text, int)


def numbers(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        whole = "whole " if kind is int else ""
        raise FastentError(
            f"{name}={text!r}: {whole}numbers separated by commas are needed, for instance 20 or 512,128"
        ) from None
