"""What the commands have in common: options, how errors end, and how texts become options' values.

Options of training are made from the specification in `fastent.training.options`, so that each default and description stands
once. An option is a name with its annotation and its default, as Typer reads them from a signature.
"""

import functools
import glob
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import Field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from fastent.cli.output import say
from fastent.data.presets import default_epochs
from fastent.errors import FastentError
from fastent.io.files import empty_folders_removed
from fastent.runtime.interrupts import interrupts
from fastent.training.options import DEFAULTS, InMemoryOptions, StreamedOptions

__all__ = [
    "CONTEXT", "DATA", "DATA_OPTIONS", "NETWORK", "OUTPUT", "STATISTICS", "AsJson", "Device", "Options",
    "numbers", "option", "parsed", "plain_errors", "preset_option", "training_options", "with_options",
]  # fmt: skip

Options = dict[str, tuple[Any, Any]]

DATA, NETWORK, STATISTICS, OUTPUT = "Data", "Networks and training", "What is measured, and how", "Output"


def _one_of(*values: str) -> Callable[[str], list[str]]:
    """What the shell offers when Tab is pressed."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def _data_sets(incomplete: str) -> list[str]:
    """Names that fastent knows, and files."""
    from fastent.data.datasets import NAMES

    return [name for name in NAMES if name.startswith(incomplete)] + sorted(glob.glob(glob.escape(incomplete) + "*"))


def option(text: str, panel: str, *flags: str, values: Sequence[str] = (), default: str = "", **more: Any) -> Any:
    """An option in a panel of the help; `values` are offered by the shell, others are not refused.

    `default` says in words what happens without the option, where its value is decided later.
    """
    if default:
        text = f"{text} [dim]\\[default: {default}][/dim]"
    if values:
        more["autocompletion"] = _one_of(*values)
    return typer.Option(*flags, help=text, rich_help_panel=panel, **more)


def _maybe(kind: Any, *declared: Any, **more: Any) -> tuple[Any, None]:
    return Annotated[kind | None, option(*declared, **more)], None


def preset_option(epochs: str = "") -> tuple[Any, None]:
    """`--preset`; `epochs` names the epochs that it has in an experiment."""
    text = f"paper: the source paper's first 8192 points, classes by parity, and 20 tanh units{epochs}."
    return _maybe(str, text, DATA, values=("paper",))


# Of `fe.load_data`, but for those that experiments do without.
DATA_OPTIONS: Options = {
    "data": (
        Annotated[
            str,
            option(
                "digits, mnist, fashion-mnist, kmnist, cifar10; an .npz (x_train, y_train\\[, x_test, y_test]) or .npy; or a "
                "folder of shards, .zarr, .parquet or .safetensors, which are streamed from disk. If the data contain no test "
                "set, a quarter of the rows is held out as one, except for streamed data.",
                DATA,
                autocompletion=_data_sets,
            ),
        ],
        "digits",
    ),
    "labels": _maybe(str, "Label file (.npy), if --data contains no labels.", DATA),
    "data_dir": _maybe(str, "Folder of the data sets known by name.", DATA, default="$FASTENT_DATA"),
    "subset": _maybe(int, "Number of training points to use.", DATA, default="all"),
    "subset_seed": _maybe(int, "Seed for drawing the subset at random.", DATA, default="the first points"),
    "exclude": _maybe(
        str,
        "Rows to leave out, by their numbers: an .npy, or the column index of a table, such as stragglers.csv of another run.",
        DATA,
        metavar="FILE",
    ),
    "classes": _maybe(
        str,
        "all (every label is a class) or parity (even against odd labels).",
        DATA,
        values=("parity", "all"),
        default="all; parity for data sets known by name",
    ),
    "standardize": (
        Annotated[str, option("How features are standardised: safe, paper or none.", DATA, values=("safe", "paper", "none"))],
        "safe",
    ),
    "grayscale": (Annotated[bool, option("Sum the three standardised colour channels.", DATA, "--grayscale")], False),
    "preset": preset_option(),
}

_FIELDS: dict[str, Field[Any]] = {each.name: each for each in (*fields(StreamedOptions), *fields(InMemoryOptions))}
_ONLY_STREAMED = {each.name for each in fields(StreamedOptions)} - {each.name for each in fields(InMemoryOptions)}
_UNSET = {
    "hidden": ",".join(map(str, DEFAULTS.hidden)),
    "epochs": f"{default_epochs(None)}; {default_epochs('digits')} for digits",
}


def training_options(names: Iterable[str], *, defaults: bool, remarks: Mapping[str, str] = MappingProxyType({})) -> Options:
    """Options of the training specification, with its defaults, or with None and none of them in the help.

    `remarks` are what the command line has to add to the descriptions.
    """
    return {name: _training_option(_FIELDS[name], defaults, remarks.get(name, "")) for name in names}


def _training_option(each: Field[Any], defaults: bool, remark: str) -> tuple[Any, Any]:
    about, name = each.metadata, each.name
    text, values = about["help"], about["values"]
    if values and values[0] not in text:
        text = f"{text[:-1]}: {' or '.join(values)}."
    if remark:
        text = f"{text[:-1]}; {remark}."
    if name in _ONLY_STREAMED:
        text = f"Streamed data: {text[0].lower()}{text[1:]}"
    numeric = each.type in (int, float, int | None, float | None)
    kind: Any = each.type if numeric else str
    default = each.default if defaults and (numeric or isinstance(each.default, str)) else None
    unset = (_UNSET.get(name) or about["unset"]) if defaults or about["unset"] else ""
    return Annotated[
        kind if default is not None else kind | None,
        option(
            text,
            STATISTICS if name in ("burn_in", "min_rise") else NETWORK,
            values=values,
            default=unset if default is None else "",
        ),
    ], default


# What was typed, for commands that refuse options without effect.
CONTEXT: Options = {"context": (typer.Context, inspect.Parameter.empty)}


def with_options(options: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a signature of these options, for Typer."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, default=value, annotation=kind) for name, (kind, value) in options.items()]

    def declare(command: Callable[..., None]) -> Callable[..., None]:
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {name: kind for name, (kind, _) in options.items()}
        return command

    return declare


Device = training_options(["device"], defaults=True)["device"][0]
MAP_HELP = "How the report lays the points out in two dimensions: pca, umap and pca, tsne and pca, or none."
MapOption = Annotated[str, option(MAP_HELP, OUTPUT)]
Predictions = Annotated[
    bool,
    option(
        "Repeat the training up to the last inversion, for what the networks predicted of the stragglers there.",
        OUTPUT,
        "--predictions/--no-predictions",
    ),
]
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
                out = options.get("out")
                made = nullcontext() if out is None else empty_folders_removed(out)
                with warnings.catch_warnings(), made:
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
            say("fastent: interrupted" + f"; the same command resumes from what {out} keeps" * kept, error=True)
            interrupts.said = True
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of stdout closed it, e.g. head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            place = f" {error.filename!r}" if error.filename else ""
            say(f"fastent: error: {error.strerror or error}{place}", error=True)
            raise typer.Exit(2) from error

    return run_command


def parsed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of data and training, of which some are texts, as functions take them."""
    readers: dict[str, Callable[[str], Any]] = {
        "hidden": lambda text: numbers("hidden", text, int), "layers": lambda text: text.split(","),
    }  # fmt: skip
    return {name: readers[name](value) if value is not None and name in readers else value for name, value in given.items()}


def numbers(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        whole = "whole " if kind is int else ""
        raise FastentError(
            f"{name}={text!r}: {whole}numbers separated by commas are needed, for instance 20 or 512,128"
        ) from None
