"""`fastent experiment NAME`: parse, call, print. The functions are imported when they are called."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fastent import experiments
from fastent.cli.config import Config
from fastent.cli.existing_output import (
    check_free,
    check_not_read,
    check_same_experiment,
    check_same_options,
    remove_other_kinds,
)
from fastent.cli.options import (
    CONTEXT,
    DATA_OPTIONS,
    OUTPUT,
    AsJson,
    Options,
    numbers,
    option,
    parsed,
    plain_errors,
    preset_option,
    training_options,
    with_options,
)
from fastent.cli.output import command_line, print_json, say, show
from fastent.cli.without_effect import NEEDS_OUT, refuse_given
from fastent.errors import FastentError

if TYPE_CHECKING:
    from fastent.experiments.result import Result

__all__ = ["EXPERIMENTS", "app"]

app = typer.Typer(
    help="Test the source paper's claims on a data set: each answer has an effect size and an interval.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

THIS = "This experiment"
# What the numbers of a list are.
_OF_LIST: dict[Any, type] = {list: int, list[float]: float}


class Own(NamedTuple):
    """An option that only one experiment has: its kind, help and default. The kind list is one of whole numbers, separated by
    commas, list[float] of any."""

    kind: Any
    help: str
    default: str


class Experiment(NamedTuple):
    help: str
    own: dict[str, Own]


EXPERIMENTS = {
    "dynamics": Experiment("Do the classes turn, and always at the same training error?", {}),
    "pruning": Experiment(
        "Is there still an inversion without stragglers, half of them, random points, or points of the highest loss?",
        {
            "share": Own(float, "Share of the seeds in which a point must be a straggler to be left out.", "0.5"),
            "draws": Own(int, "Number of random controls, and of random halves of the stragglers.", "3"),
            "longer": Own(float, "Longest training, in multiples of the usual epoch of the inversion.", "20"),
        },
    ),
    "generalization": Experiment(
        "How does training without the points misclassified at epoch t change the test error?",
        {
            "points": Own(int, "Number of epochs t, around the inversion.", "10"),
            "noise": Own(float, "Standard deviation of the noise on test inputs.", "1.0"),
        },
    ),
    "stability": Experiment(
        "When do independent networks agree most on the points they misclassify?",
        {
            "pairs": Own(int, "Pairs of networks.", "100"),
            "times": Own(
                list,
                "Epochs at which to compare networks, separated by commas.",
                "17, from 2.2 times the inversion's training error to 1/2.2 of it",
            ),
        },
    ),
    "blocks": Experiment(
        "Is the training error at the inversion the same whichever points are drawn?",
        {"size": Own(int, "Number of points in each block.", "8,192, or a third of the points if that is less")},
    ),
    "subsampling": Experiment(
        "Does the training error at the inversion settle to a constant as the number of training points grows?",
        {
            "sizes": Own(list, "Numbers of points, separated by commas.", "seven, from an eighth to all of the points"),
            "draws": Own(int, "Number of random subsets of each size.", "3"),
        },
    ),
    "sweep": Experiment(
        "Which of optimiser, learning rate, width, depth, activation and initial scale moves the inversion, and how much?",
        {"cells": Own(int, "Number of combinations to train.", "48")},
    ),
    "layers": Experiment("Which hidden layers of a deep network turn, and in which order?", {}),
    "difficulty": Experiment(
        "Do stragglers agree with other scores of difficulty, and which score finds planted label noise?",
        {
            "el2n_epoch": Own(int, "Epoch at which EL2N is computed.", "20, or the last if that is earlier"),
            "noise": Own(float, "Share of the labels to flip.", "0.05"),
        },
    ),
    "removal": Experiment(
        "What does leaving out easy or hard training points do to easy and hard test points?",
        {
            "shares": Own(list[float], "Shares of the training points to leave out, separated by commas.", "0.05,0.1,0.2,0.4"),
            "score": Own(str, "Score by which points are easy or hard.", "straggler share"),
            "draws": Own(int, "Number of random controls.", "3"),
        },
    ),
    "stopping": Experiment(
        "Is the inversion a good epoch to stop training at, with wrong labels and without?",
        {"noise": Own(list[float], "Shares of the labels to flip, ascending from 0, separated by commas.", "0,0.1,0.2,0.4")},
    ),
    "entanglement": Experiment(
        "Which measures of entanglement turn where the radii do, and which never do?",
        {
            "points": Own(int, "Number of epochs to measure, spaced logarithmically.", "40"),
            "queries": Own(int, "Number of query points, if there are more than 10,000 points.", "2000"),
        },
    ),
}

# Options of every experiment; None leaves the experiment its own default.
_TRAINING = (
    "hidden", "activation", "model", "layers", "seeds", "seed", "epochs", "lr", "optimizer", "momentum", "batch_size", "device",
    "threads",
)  # fmt: skip
_COMMON: Options = {
    **CONTEXT,
    **DATA_OPTIONS,
    **training_options(_TRAINING, defaults=False),
    **training_options(["hidden", "seed"], defaults=True),
    "out": (
        Annotated[Path | None, option("Folder for results and report; finished parts in it are not repeated.", OUTPUT)],
        None,
    ),
    "overwrite": (
        Annotated[bool, option("Replace results of other options, or of other kinds, in --out.", OUTPUT, "--overwrite")],
        False,
    ),
    "as_json": (AsJson, False),
    "config": (Config, None),
}
# Where they are described otherwise: a sweep varies `hidden`, `layers` takes several, pruning has epochs of its own with the
# preset, and blocks take other points.
_DIFFERENT: dict[str, Options] = {
    "pruning": {"preset": preset_option("; 300 epochs by default")},
    "blocks": {"preset": preset_option("; blocks are cut from all points")},
    "sweep": training_options(["hidden"], defaults=False),
    "layers": training_options(["hidden"], defaults=False),
    "all": {"preset": preset_option("; pruning: 300 epochs; blocks: of all points")},
}
_OF_ALL = (
    "context", "data", "preset", "data_dir", "subset", "seeds", "seed", "epochs", "device", "threads", "out", "overwrite",
    "as_json", "config",
)  # fmt: skip
# Where results go and what they are computed with do not change them.
_ASIDE = ("out", "config", "threads", "device")


def _command(names: tuple[str, ...], options: Options) -> Any:
    """A command with these options, that carries out these experiments and writes one report."""

    @plain_errors
    @with_options(options)
    def command(context: typer.Context, as_json: bool, overwrite: bool, **given: Any) -> None:
        results: list[Result] = []
        refused: list[str] = []
        out = given["out"]
        if out is None:
            refuse_given(context, ("overwrite",), NEEDS_OUT)
        from fastent.data.datasets import known_name
        from fastent.io.files import alone_in, output_folder

        check_not_read(out, None if known_name(given["data"]) else given["data"], given.get("labels"))
        asked = {key: value for key, value in given.items() if key not in _ASIDE}
        if Path(asked["data"]).exists():
            asked["data"] = str(Path(asked["data"]).absolute())
        with alone_in(None if out is None else output_folder(out)):
            if out is not None and not overwrite:
                check_free(out, "experiments")
                check_same_options(out, names, asked)
            for name in names:
                try:
                    results.append(_carry_out(name, given))
                except FastentError as error:
                    if len(names) == 1:
                        raise
                    # What one experiment cannot do with these data, others may.
                    refused.append(f"{name}: {error}")
                    continue
                if out is not None:
                    from fastent.report.experiments import write_experiments_report

                    if not overwrite:
                        check_same_experiment(results[-1], out)
                    results[-1].save(out, asked=asked)
                    write_experiments_report(results, out / "report.html", command=command_line())
                    if overwrite:
                        remove_other_kinds(out, "experiments")
                if not as_json:
                    show(results[-1])
        for message in refused:
            say(f"Not carried out: {message}", error=True)
        if not results:
            raise FastentError("no experiment could be carried out on these data")
        if as_json:
            found = [result.as_json() for result in results]
            print_json(found[0] if len(names) == 1 else found)
        elif out is not None:
            say(f"Report: {out / 'report.html'}")

    return command


def _carry_out(name: str, given: dict[str, Any]) -> "Result":
    from fastent.runtime.threads import limit_threads

    options = {key: value for key, value in parsed(given).items() if value is not None}
    for own, (kind, _, _) in EXPERIMENTS[name].own.items():
        if kind in _OF_LIST and own in options:
            options[own] = numbers(own, options[own], _OF_LIST[kind])
    function = getattr(experiments, name)
    with limit_threads(options.get("threads")):
        found: Result = function(options.pop("data"), progress=True, **options)
    return found


def _options(name: str) -> Options:
    own = {
        name: (Annotated[(str if kind in _OF_LIST else kind) | None, option(text, THIS, default=default)], None)
        for name, (kind, text, default) in EXPERIMENTS[name].own.items()
    }
    return own | _COMMON | _DIFFERENT.get(name, {})


for _name, (_help, _) in EXPERIMENTS.items():
    _example = f"[bold]Example[/bold]\nResult and report in a folder:\n  fastent experiment {_name} --out claims"
    app.command(_name, help=_help, epilog=_example)(_command((_name,), _options(_name)))
app.command(
    "all",
    help="All experiments, one after the other, and one report.",
    epilog="[bold]Example[/bold]\nThe source paper's set-up:\n  fastent experiment all --data mnist --preset paper --out paper",
)(_command(tuple(EXPERIMENTS), {name: _COMMON[name] for name in _OF_ALL} | _DIFFERENT["all"]))
