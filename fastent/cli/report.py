"""`fastent report`: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastent.cli.existing_output import kind_without_report
from fastent.cli.options import MAP_HELP, OUTPUT, Predictions, option
from fastent.cli.output import command_line, say
from fastent.cli.without_effect import refuse_given
from fastent.errors import FastentError

if TYPE_CHECKING:
    from fastent.training.run import Run

__all__ = ["report"]

_COMPARISON, _PROBE = Path("comparison.html"), "probe.npz"


def report(
    context: typer.Context,
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="A folder written by fastent run or saved by a probe; or several folders, written by fastent run or fastent "
            "measure.",
            metavar="DIR...",
        ),
    ],
    out: Annotated[
        Path | None,
        option("The file to write.", OUTPUT, default="DIR/report.html; comparison.html for several folders"),
    ] = None,
    map: Annotated[str | None, option(MAP_HELP, OUTPUT, default="pca")] = None,
    predictions: Predictions = True,
) -> None:
    """Write the report of a stored run or probe, or one page that compares several runs or measurements."""
    if out is not None and not out.parent.is_dir():
        raise FastentError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}; make it, or name another file")
    if len(folders) > 1:
        refuse_given(context, ("map",), "the report of several folders has no map; leave --map out")
    if len(folders) > 1 or (folders[0] / _PROBE).is_file():
        what = "several folders" if len(folders) > 1 else "a probe"
        refuse_given(context, ("predictions",), f"the report of {what} has no stragglers one by one; leave this out")
    for folder in folders:
        if said := kind_without_report(folder):
            there = folder / "report.html"
            made = f"whose report is {str(there)!r}" if there.is_file() else "of which no report is made"
            raise FastentError(
                f"{str(folder)!r} holds {said}, {made}: name a folder of fastent run or of a probe, or several of fastent run "
                "or of fastent measure"
            )
    if len(folders) > 1:
        from fastent.report.comparison import write_comparison

        place = out or _COMPARISON
        write_comparison(folders, place, command=command_line())
    else:
        place = out or folders[0] / "report.html"
        _write_again(context, folders[0], place, map, predictions)
    say(place)


def _write_again(context: typer.Context, folder: Path, place: Path, map: str | None, predictions: bool) -> None:
    from fastent.report.run import write_run_report
    from fastent.statistics.point_map import map_methods
    from fastent.training.run import RECORDS_FILE, load_run
    from fastent.training.stragglers import stragglers_of

    maps = map_methods("map", map or "pca")
    if (folder / _PROBE).is_file():
        from fastent.activations.records import load_probe
        from fastent.report.probe import write_probe_report

        records = load_probe(folder)
        if map not in (None, "none") and records.points is None:
            raise FastentError(f"--map {map}: {str(folder)!r} keeps no points; make the probe with 'map' among its metrics")
        write_probe_report(records, place, command=command_line(), maps=maps)
        return
    if (folder / "per_point.parquet").is_file() and not (folder / RECORDS_FILE).is_file():
        there = str(folder / "report.html")
        raise FastentError(
            f"{str(folder)!r} holds a measurement, whose report is {there!r}: name a second one to compare it with"
        )
    stored = load_run(folder)
    if stored.config.get("streamed"):
        refuse_given(context, ("predictions",), "of a run that was streamed from disk none are known; leave this out")
    try:
        points = _points(stored)
    except FastentError as error:
        say(f"fastent: the report is without pictures, neighbours and map: {error}", error=True)
        points = None
    found = stragglers_of(stored, points, repeat=predictions, progress=True)
    for note in found.notes:
        say(f"fastent: of the stragglers, {note}", error=True)
    write_run_report(stored, place, points=points, stragglers=found, command=stored.config.get("command"), maps=maps)


def _points(stored: "Run") -> Any:
    """The training points as stored, if their data are where they were, and all of the data where they fit in memory."""
    if stored.config.get("streamed"):
        from fastent.data.stored_rows import stored_pictures

        return stored_pictures(stored.config, stored.codes)
    from fastent.data.training_set import reload_data

    return reload_data(stored.config)
