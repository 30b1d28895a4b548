"""`fastent run`: parse, call, print."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastent.cli.config import Config
from fastent.cli.existing_output import check_free, check_not_longer, check_not_read, longer_than_usual, remove_other_kinds
from fastent.cli.options import (
    CONTEXT,
    DATA,
    DATA_OPTIONS,
    OUTPUT,
    AsJson,
    MapOption,
    Options,
    Predictions,
    option,
    parsed,
    training_options,
    with_options,
)
from fastent.cli.output import command_line, fitting_table, print_cost, print_json, say, show
from fastent.cli.without_effect import NEEDS_OUT, refuse_given
from fastent.errors import FastentError
from fastent.training.options import DEFAULTS, STREAMED_DEFAULTS, InMemoryOptions, StreamedOptions

if TYPE_CHECKING:
    import typer

    from fastent.training.run import Run

__all__ = ["DISPENSABLE", "print_run", "run"]

# Columns of the table of a run that a narrow terminal does without.
DISPENSABLE = (
    "final radius", "radius at inversion", "rebound", "stragglers / seed", "consensus stragglers", "epoch", "95 % interval",
    "seeds",
)  # fmt: skip

_STREAMED_DATA: Options = {
    "stream": (
        Annotated[
            bool,
            option(
                "Stream --data from disk instead of loading it. Implied by --record-every, and for data that do not fit in "
                "memory.",
                DATA,
                "--stream",
            ),
        ],
        False,
    ),
    "test": (Annotated[str | None, option("Test set for streamed data, in any form that --data takes.", DATA)], None),
    "test_labels": (Annotated[str | None, option("Labels of the streamed test set (.npy).", DATA)], None),
}
_IN_MEMORY, _STREAMED = ([each.name for each in fields(kind)] for kind in (InMemoryOptions, StreamedOptions))
_TRAINING = [name for name in dict.fromkeys([*_IN_MEMORY, *_STREAMED]) if name != "metrics"]
_REMARKS = {
    "optimizer": "for streamed data also package.module:Class", "record_points": "0 for all", "queries": "0 for no mixing",
}  # fmt: skip
_OUTPUT: Options = {
    "out": (Annotated[Path | None, option("Folder for the results; an interrupted run resumes from it.", OUTPUT)], None),
    "map": (MapOption, "pca"),
    "predictions": (Predictions, True),
    "overwrite": (Annotated[bool, option("Replace another run in --out.", OUTPUT, "--overwrite")], False),
    "as_json": (AsJson, False),
    "config": (Config, None),
}
_CLASS_NAMES: Options = {
    "class_names": (
        Annotated[
            str | None,
            option("Names of the classes: a file with a name in each line, or of JSON; or names with commas between.", DATA),
        ],
        None,
    ),
}
_OPTIONS = {
    **CONTEXT,
    **DATA_OPTIONS,
    **_CLASS_NAMES,
    **_STREAMED_DATA,
    **training_options(_TRAINING, defaults=True, remarks=_REMARKS),
    **_OUTPUT,
}
# --record-every makes the data streamed.
_ONLY_STREAMED = ("test", "test_labels", "record_points", "queries")
_ONLY_IN_MEMORY = (
    *(name for name in DATA_OPTIONS if name not in ("data", "labels", "classes", "standardize")),
    *(name for name in _IN_MEMORY if name not in _STREAMED),
)


@with_options(_OPTIONS)
def run(
    *,
    context: "typer.Context",
    data: str,
    labels: str | None,
    stream: bool,
    out: Path | None,
    map: str,
    predictions: bool,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train networks, find the inversion of each class, and name the stragglers."""
    from fastent.data.datasets import known_name
    from fastent.io.files import alone_in, output_folder
    from fastent.statistics.point_map import map_methods
    from fastent.training.run import RECORDS_FILE, load_run

    if out is None:
        refuse_given(context, ("map", "predictions", "overwrite"), NEEDS_OUT)
    maps = map_methods("map", map)
    check_not_read(out, None if known_name(data) else data, labels, given.get("test"), given.get("test_labels"))
    why, too_large = _streamed_because(data, stream, given["record_every"])
    if too_large or not why:
        # Whether the data fit must not decide which options there are.
        refuse_given(
            context, _ONLY_STREAMED, "that is for streamed data: add --stream, with a --data that is a file or a folder"
        )
    if why:
        streamed = f"not available for streamed data, and {data} is streamed from disk ({why})"
        refuse_given(context, (*_ONLY_IN_MEMORY, "predictions"), streamed)
        if labels is None:
            raise FastentError(f"{data!r} has no labels: name an .npy of them with --labels")
        same = "; same network and training as in memory, but all rows are trained on, none held out as a test set"
        say(f"fastent: {data} is streamed from disk: {why}{same * too_large}", error=True)
    given = parsed(given)
    if given["hidden"] is None:
        given["hidden"] = DEFAULTS.hidden
    # A streamed run keeps others away itself.
    with alone_in(None if out is None or why else output_folder(out)):
        if out is not None and not overwrite:
            check_free(out, "run")
        train, points = (_streamed if why else _in_memory)(data, labels, given, out, overwrite)
        try:
            result = train()
        except KeyboardInterrupt:
            if out is not None and (out / RECORDS_FILE).exists():
                so_far = load_run(out)
                _finish(so_far, out, points(so_far), maps, as_json, predictions=False, replaces=overwrite)
            raise
        if out is not None:
            check_not_longer(result, given["epochs"], out)
            if given["epochs"] is None and (longer := longer_than_usual(result, data, out)):
                say(f"fastent: {longer}", error=True)
        _finish(result, out, points(result), maps, as_json, predictions=predictions, replaces=overwrite)
        if why and not as_json:
            share = 100 * result.seconds_recording / result.seconds
            say(f"{result.seconds_recording:.1f} s of that ({share:.0f} %) recording")


# A function that trains, and one that gives the data of a run: all that were loaded, or the training points as stored.
_Training = tuple[Callable[[], "Run"], Callable[["Run"], Any]]


def _in_memory(data: str, labels: str | None, given: Mapping[str, Any], out: Path | None, overwrite: bool) -> _Training:
    from fastent.data.training_set import load_data
    from fastent.training.run import RECORDS_FILE, run_to_resume
    from fastent.training.train import train

    stored = None
    if out is not None and not overwrite and (out / RECORDS_FILE).exists():
        stored = run_to_resume(out, "start anew with --overwrite, or name another folder")
    chosen = {name: given[name] for name in DATA_OPTIONS if name in given}
    points = load_data(data, labels=labels, **chosen)
    if given["exclude"] is not None:
        left_out = len(points.options["exclude"])
        rows = "1 row is" if left_out == 1 else f"{left_out:,} rows are"
        say(f"fastent: {rows} left out, all that {given['exclude']!r} lists", error=True)
    options = {name: given[name] for name in (*_IN_MEMORY, "class_names")}
    return partial(train, points, checkpoint=out, resume=stored, progress=True, **options), lambda run: points


def _streamed(data: str, labels: str | None, given: Mapping[str, Any], out: Path | None, overwrite: bool) -> _Training:
    from fastent.data.stored_rows import stored_pictures
    from fastent.training.train_streamed import train_streamed

    options = {
        name: given[name]
        for name in (*_STREAMED, *_CLASS_NAMES, "test", "test_labels", "classes", "standardize")
        if name in given
    }
    options["record_points"] = options["record_points"] or None
    if not options["queries"]:
        options |= {"queries": STREAMED_DEFAULTS.queries, "metrics": ("geometry",)}
    train = partial(train_streamed, data, labels, checkpoint=out, resume=not overwrite, progress=True, **options)
    return train, lambda run: stored_pictures(run.config, run.codes, checked=True)


def _streamed_because(data: str, stream: bool, record_every: float | None) -> tuple[str, bool]:
    """Why training reads the data from disk as it goes, or "" if it has them in memory; whether they are too large for that."""
    from fastent.data.datasets import known_name
    from fastent.io.opening import NPY, reader_of

    reader = reader_of(data)
    if known_name(data) or reader is None:  # a name, whatever else is called so here
        given = "--stream" if stream else "--record-every" if record_every is not None else ""
        if given:
            raise FastentError(f"{given} is for streamed data, not {data!r}: name an .npy, a folder of shards, .zarr, ...")
        return "", False
    if stream or record_every is not None:
        return ("--stream" if stream else "--record-every") + " was given", False
    if reader.whole:
        return "", False
    if reader is not NPY:
        return "all sources are but .npy, .npz, .csv, .tsv and folders of pictures", False
    from fastent.io.npy import read_npy
    from fastent.runtime.memory import available_bytes, readable_bytes

    # As float32, standardised, and sorted and transposed for training.
    needed, available = 12 * read_npy(data).size, available_bytes()
    if needed <= available:
        return "", False
    return f"it would need {readable_bytes(needed)} of memory, and {readable_bytes(available)} are available", True


def _finish(
    result: "Run",
    out: Path | None,
    points: Any,
    maps: Iterable[str],
    as_json: bool,
    *,
    predictions: bool,
    replaces: bool,
) -> None:
    """Write the files and the report; print the table, or the summary for scripts.

    For the `predictions` training is repeated up to the last inversion. `replaces` results of another kind, if there are some.
    """
    from fastent.training.tables import summary

    if out is not None:
        from fastent.report.run import write_run_report
        from fastent.training.stragglers import stragglers_of

        result.config["command"] = command = command_line()
        result.save(out)
        found = stragglers_of(result, points, repeat=predictions, progress=True)
        for note in found.notes:
            say(f"fastent: of the stragglers, {note}", error=True)
        found.save(out)
        write_run_report(result, out / "report.html", points=points, stragglers=found, command=command, maps=tuple(maps))
        if replaces:
            remove_other_kinds(out, "run")
    if as_json:
        print_json(summary(result))
        return
    print_run(result)
    print_cost(result.seconds, "training", result.config["threads"])
    if out is not None:
        say(f"Report: {out / 'report.html'}")


def print_run(result: "Run") -> None:
    from fastent.training.tables import epoch_of, readable_rows, rule_text, turning_text, without_inversion

    last = float(result.epoch[-1])
    seeds, epochs = "seed" + "s" * (result.n_seeds != 1), "epoch" + "s" * (last != 1)
    title = f"{result.config['data']}: {len(result.index)} points, {result.n_seeds} {seeds}, {epoch_of(result, last)} {epochs}"
    if result.parity:
        title += "\nclasses by parity: even against odd"  # a line of its own: narrow tables would break a longer title anywhere
    caption = "eps*: training error at the inversion. Each row covers the seeds with an inversion. Radii: last hidden layer."
    show(fitting_table(title, *readable_rows(result), caption, dispensable=DISPENSABLE))
    for sentence in (turning_text(result), *without_inversion(result), rule_text(result)):
        if sentence:
            say(sentence)
