"""`fastent experiment NAME`: parse, call, print. The functions are imported when they are called."""

import inspect
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fastent import experiments
from fastent.cli.config import Config
from fastent.cli.existing_output import check_free_for_experiments, check_same_experiment
from fastent.cli.options import (
    DATA,
    NETWORK,
    OUTPUT,
    AsJson,
    BatchSize,
    Classes,
    DataDir,
    DataSource,
    Device,
    Exclude,
    Grayscale,
    Hidden,
    Labels,
    Layers,
    Model,
    Seed,
    Subset,
    SubsetSeed,
    Threads,
    numbers,
    option,
    plain_errors,
    widths,
)
from fastent.cli.output import print_json, say, show

if TYPE_CHECKING:
    from fastent.experiments.result import Result

__all__ = ["EXPERIMENTS", "app"]

app = typer.Typer(
    help="Test the source paper's claims on a data set: each answers with an effect size and an interval.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

THIS = "This experiment"


class Experiment(NamedTuple):
    """What a command says, and the options that only this one has: kind ("whole": whole numbers with commas) and help."""

    help: str
    own: dict[str, tuple[Any, str]]


EXPERIMENTS = {
    "dynamics": Experiment("Do the classes turn, and always at the same training error?", {}),
    "pruning": Experiment(
        "Is there still an inversion without stragglers, without random points, without those of the highest loss?",
        {
            "share": (float, "Share of the seeds in which a straggler is one; 0.5 unless said."),
            "draws": (int, "Random controls; 3 unless said."),
        },
    ),
    "generalization": Experiment(
        "What does training without the points misclassified at epoch t do to the test error?",
        {
            "points": (int, "How many epochs t, spaced logarithmically; 10 unless said."),
            "noise": (float, "Standard deviation of the noise on test inputs; 1 unless said."),
        },
    ),
    "stability": Experiment(
        "When do independent networks agree most on which points they get wrong?",
        {
            "pairs": (int, "Pairs of networks; 100 unless said."),
            "times": ("whole", "Epochs at which to compare, with commas; around the inversion unless said."),
        },
    ),
    "subsampling": Experiment(
        "Does the training error at the inversion depend on the number of training points?",
        {
            "sizes": ("whole", "Numbers of points, with commas; an eighth, a quarter, a half and all unless said."),
            "draws": (int, "Random subsets of each size; 3 unless said."),
        },
    ),
    "sweep": Experiment(
        "Which of optimiser, learning rate, width, depth, activation and initialisation moves the inversion, and how much?",
        {"cells": (int, "How many combinations to train; 48 unless said.")},
    ),
    "difficulty": Experiment(
        "Do stragglers agree with other scores of difficulty, and which score finds planted label noise?",
        {
            "el2n_epoch": (int, "Epoch at which EL2N is taken; 20 unless said."),
            "noise": (float, "Share of the labels that are flipped; 0.05 unless said."),
        },
    ),
    "entanglement": Experiment(
        "Do neighbour mixing, margins and the soft nearest neighbour loss turn where the radii do?",
        {
            "points": (int, "How many epochs, spaced logarithmically; 40 unless said."),
            "queries": (int, "Points asked for their neighbours, of more than 10,000; 2000 unless said."),
        },
    ),
}


def _maybe(kind: Any, text: str, panel: str, *values: str) -> Any:
    return Annotated[kind | None, option(text, panel, values=values)]


# Options of every experiment; None leaves the experiment its own default.
_COMMON: dict[str, tuple[Any, Any]] = {
    "data": (DataSource, "digits"),
    "preset": (
        _maybe(
            str, "paper: the source paper's first 8192 points, classes by parity, 20 tanh units, its epochs.", DATA, "paper"
        ),
        None,
    ),
    "labels": (Labels, None),
    "data_dir": (DataDir, None),
    "subset": (Subset, None),
    "subset_seed": (SubsetSeed, None),
    "exclude": (Exclude, None),
    "classes": (Classes, None),
    "standardize": (_maybe(str, "safe, paper or none.", DATA, "safe", "paper", "none"), None),
    "grayscale": (Grayscale, False),
    "hidden": (Hidden, None),
    "activation": (_maybe(str, "tanh or relu.", NETWORK, "tanh", "relu"), None),
    "model": (Model, None),
    "layers": (Layers, None),
    "seeds": (_maybe(int, "How many networks, trained together.", NETWORK), None),
    "seed": (Seed, 0),
    "epochs": (_maybe(int, "Passes over the data.", NETWORK), None),
    "lr": (_maybe(float, "Learning rate.", NETWORK), None),
    "optimizer": (_maybe(str, "sgd or adam.", NETWORK, "sgd", "adam"), None),
    "momentum": (_maybe(float, "SGD momentum.", NETWORK), None),
    "batch_size": (BatchSize, None),
    "device": (Device, None),
    "threads": (Threads, None),
}


_COMMON["out"] = (_maybe(Path, "Folder for results and report; what is finished in it is not done again.", OUTPUT), None)
_COMMON["overwrite"] = (
    Annotated[bool, option("Replace results of other options, or of other kinds, in --out.", OUTPUT, "--overwrite")],
    False,
)
_COMMON["as_json"] = (AsJson, False)
_COMMON["config"] = (Config, None)
_OF_ALL = ("data", "preset", "data_dir", "subset", "seed", "device", "threads", "out", "overwrite", "as_json", "config")
# Where results go and what they are computed with, which say nothing of what they are.
_ASIDE = ("out", "config", "threads", "device")


def _command(names: tuple[str, ...], options: dict[str, tuple[Any, Any]]) -> Any:
    """A function with these options, that carries out these experiments and writes one report of them."""

    @plain_errors
    def command(as_json: bool, overwrite: bool, **given: Any) -> None:
        results: list[Result] = []
        out = given["out"]
        from fastent.io.files import alone_in, output_folder

        asked = {key: value for key, value in given.items() if key not in _ASIDE}
        if Path(asked["data"]).exists():
            asked["data"] = str(Path(asked["data"]).absolute())
        with alone_in(None if out is None else output_folder(out)):
            if out is not None and not overwrite:
                check_free_for_experiments(out, names, asked)
            for name in names:
                results.append(_carry_out(name, given))
                if out is not None:
                    from fastent.report.experiments import write_experiments_report

                    if not overwrite:
                        check_same_experiment(results[-1], out)
                    results[-1].save(out, asked=asked)
                    write_experiments_report(results, out / "report.html", command=shlex.join(["fastent", *sys.argv[1:]]))
                if not as_json:
                    show(results[-1])
        if as_json:
            found = [result.as_json() for result in results]
            print_json(found[0] if len(names) == 1 else found)
        elif out is not None:
            say(f"Report: {out / 'report.html'}")

    keyword = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, keyword, default=value, annotation=kind) for name, (kind, value) in options.items()]
    )
    command.__annotations__ = {name: kind for name, (kind, _) in options.items()}
    return command


def _carry_out(name: str, given: dict[str, Any]) -> "Result":
    from fastent.io.npy import read_npy
    from fastent.runtime.threads import limit_threads

    options = {key: value for key, value in given.items() if value is not None}
    if "exclude" in options:
        options["exclude"] = read_npy(options["exclude"])
    if "hidden" in options:
        options["hidden"] = widths(options["hidden"])
    if "layers" in options:
        options["layers"] = options["layers"].split(",")
    for own, (kind, _) in EXPERIMENTS[name].own.items():
        if kind == "whole" and own in options:
            options[own] = numbers(own, options[own], int)
    function = getattr(experiments, name)
    with limit_threads(options.get("threads")):
        found: Result = function(options.pop("data"), progress=True, **options)
    return found


def _own_options(name: str) -> dict[str, tuple[Any, Any]]:
    own = EXPERIMENTS[name].own
    return {key: (_maybe(str if kind == "whole" else kind, text, THIS), None) for key, (kind, text) in own.items()}


for _name, (_help, _) in EXPERIMENTS.items():
    _example = f"[bold]Example[/bold]\nResult and report in a folder:\n  fastent experiment {_name} --out claims"
    app.command(_name, help=_help, epilog=_example)(_command((_name,), _own_options(_name) | _COMMON))
app.command(
    "all",
    help="Every experiment, one after the other, and one report.",
    epilog="[bold]Example[/bold]\nThe source paper's set-up:\n  fastent experiment all --data mnist --preset paper --out paper",
)(_command(tuple(EXPERIMENTS), {name: _COMMON[name] for name in _OF_ALL}))
