"""`fastent measure`: parse, call, print."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastent.cli.completion import metrics as metric_names
from fastent.cli.config import Config
from fastent.cli.options import OUTPUT, STATISTICS, AsJson, plain_errors
from fastent.cli.output import print_cost, print_json, say, show
from fastent.errors import FastentError
from fastent.io.reading import read_json
from fastent.measurement.metrics import METRICS
from fastent.runtime.threads import working_threads

if TYPE_CHECKING:
    from fastent.measurement.result import Measurement

__all__ = ["measure"]


@plain_errors
def measure(
    features: Annotated[
        str,
        typer.Argument(
            help="Activations (n, d), read from disk as needed: .npy, a folder of shards, .zarr, FILE.parquet:COLUMN, "
            "FILE.safetensors:NAME, FOLDER:LAYER of fastent capture; or FILE.npz:NAME.",
            metavar="X",
        ),
    ],
    labels: Annotated[
        str, typer.Argument(help="Labels (n,): .npy, FILE.npz:NAME, FILE.parquet:COLUMN, or a captured folder.", metavar="Y")
    ],
    k: Annotated[int, typer.Option(help="Neighbours for mixing and dimension.", rich_help_panel=STATISTICS)] = 10,
    metrics: Annotated[
        str,
        typer.Option(
            help=f"all, or some of {', '.join(METRICS)}.",
            rich_help_panel=STATISTICS,
            autocompletion=metric_names,
        ),
    ] = "all",
    queries: Annotated[
        int | None,
        typer.Option(
            help="So many rows, drawn at random, meet all rows: every mean comes with an interval.", rich_help_panel=STATISTICS
        ),
    ] = None,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize",
            help="Scale rows to unit length first, as for the radii of a run. [dim]\\[default: rows as given][/dim]",
            rich_help_panel=STATISTICS,
        ),
    ] = False,
    temperature: Annotated[
        str, typer.Option(help="Of the soft nearest neighbour loss: median, optimal or a number.", rich_help_panel=STATISTICS)
    ] = "median",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn at random.", rich_help_panel=STATISTICS)] = 0,
    memory: Annotated[
        str | None,
        typer.Option(help="How much may be used, as 2GiB; what is available unless said.", rich_help_panel=STATISTICS),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads; all processors unless said.", rich_help_panel=STATISTICS)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler whose workers share the work.", rich_help_panel=STATISTICS),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="So many processes of this machine share the work.", rich_help_panel=STATISTICS),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for summary.json, per_point.parquet and report.html; what is killed goes on from there.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another measurement in --out.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Measure how tangled the classes of a representation are, in every accepted view."""
    from fastent.io.files import alone_in, output_folder
    from fastent.io.opening import read_features, read_labels
    from fastent.measurement.measure import measure as measure_all
    from fastent.runtime.cluster import connected
    from fastent.runtime.threads import limit_threads

    asked = {
        "X": str(Path(features).absolute()), "y": str(Path(labels).absolute()), "k": k, "metrics": metrics, "queries": queries,
        "normalize": normalize, "temperature": temperature, "seed": seed,
    }  # fmt: skip
    with alone_in(None if out is None else output_folder(out)):
        if out is not None and not overwrite:
            _check_free(out, asked)
        X, y = read_features(features), read_labels(labels)
        with limit_threads(threads), connected(scheduler, workers) as client:
            measured = measure_all(
                X,
                y,
                k=k,
                queries=queries,
                metrics="all" if metrics == "all" else [name.strip() for name in metrics.split(",")],  # type: ignore[misc]
                normalize=normalize,
                temperature=_temperature(temperature),
                memory_budget=memory,
                checkpoint=out,
                client=client,
                seed=seed,
                progress=True,
            )
        if out is not None:
            if not overwrite:
                _check_same_data(measured, out)
            _keep(measured, out, asked)
    if as_json:
        print_json(measured.as_json() | {"asked": asked})
        return
    show(measured)
    print_cost(sum(stage.seconds for stage in measured.stages), "measuring", threads or _numba_threads())
    if out is not None:
        say(f"Report: {out / 'report.html'}")


def _check_same_data(measured: "Measurement", out: Path) -> None:
    """Refuse to replace a measurement of what was under the same path before; what was measured now is kept in its parts."""
    found = out / "summary.json"
    there = read_json(found, "choose another folder, or --overwrite").get("fingerprint") if found.exists() else None
    if there not in (None, measured.fingerprint):
        raise FastentError(
            f"{str(out)!r} holds a measurement of other data (fingerprint {there}, not {measured.fingerprint}): choose another "
            "folder, or --overwrite"
        )


def _keep(measured: "Measurement", out: Path, asked: dict[str, Any]) -> None:
    """Write the files and the report, and clear what an interruption would have gone on from."""
    from fastent.io.result_cache import ResultCache
    from fastent.measurement.plan import CHECKPOINT
    from fastent.report.measurement import write_measurement_report

    measured.save(out, asked=asked)
    command = shlex.join(["fastent", *sys.argv[1:]])
    write_measurement_report(measured, out / "report.html", name=Path(asked["X"]).name, command=command)
    ResultCache(out, name=CHECKPOINT).clear()


def _check_free(out: Path, asked: dict[str, Any]) -> None:
    """Refuse a folder with other results than those of the same command."""
    found = out / "summary.json"
    if not found.exists() and not (out / "report.html").exists():
        return
    try:
        there = read_json(found, "choose another folder, or --overwrite")["asked"]
        other = [name for name, value in asked.items() if there[name] != value]
    except (OSError, ValueError, LookupError, TypeError):  # FastentError is a ValueError
        raise FastentError(f"{str(out)!r} holds other results: choose another folder, or --overwrite") from None
    if other:
        raise FastentError(
            f"{str(out)!r} holds a measurement with {other[0]}={there[other[0]]!r}, not {asked[other[0]]!r}: "
            "choose another folder, or --overwrite"
        )


def _numba_threads() -> int:

    return working_threads()


def _temperature(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
