"""`fastent measure`: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastent.cli.config import Config
from fastent.cli.existing_output import check_free, check_not_read, check_same_measurement, remove_other_kinds
from fastent.cli.options import MAP_HELP, OUTPUT, STATISTICS, AsJson, option
from fastent.cli.output import command_line, print_cost, print_json, say, show
from fastent.cli.without_effect import NEEDS_OUT, refuse_given
from fastent.errors import FastentError
from fastent.measurement.metrics import METRICS

if TYPE_CHECKING:
    from fastent.measurement.result import Measurement

__all__ = ["measure"]


def _metric_names(incomplete: str) -> list[str]:
    """For the shell: one more, after those that are there already with a comma behind each."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    choices = METRICS if comma else ("all", *METRICS)
    return [f"{before}{comma}{name}" for name in choices if name.startswith(last) and name not in taken]


def measure(
    context: typer.Context,
    features: Annotated[
        str,
        typer.Argument(
            help="Activations (n, d), or pictures (n, ...): .npy, FILE.npz:NAME, a table (.parquet, .csv, .tsv, .arrow, "
            ".feather, FILE:COLUMNS for some of its columns), a folder of shards or of pictures, a data set of Hugging Face, "
            ".zarr, FILE.safetensors:NAME, FOLDER:LAYER of fastent capture.",
            metavar="X",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Argument(
            help="Labels (n,): COLUMN of the table X, .npy, FILE.npz:NAME, FILE.csv:COLUMN, or a captured folder. Left out if "
            "X is a captured folder, a folder of pictures with a subfolder for each class, or an .npz with X and y.",
            metavar="[Y]",
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        option("Names of the classes: a file with a name in each line, or of JSON; or names with commas between.", STATISTICS),
    ] = None,
    k: Annotated[int, option("Number of nearest neighbours for mixing and intrinsic dimension.", STATISTICS)] = 10,
    metrics: Annotated[
        str,
        option(
            f"all, or some of {', '.join(METRICS)}, separated by commas. all leaves out capacity, which takes seconds to "
            "minutes: all,capacity measures it too.",
            STATISTICS,
            autocompletion=_metric_names,
        ),
    ] = "all",
    queries: Annotated[
        int | None,
        option(
            "Number of randomly drawn query rows, each compared with all rows; means are then reported with intervals.",
            STATISTICS,
            default="all rows",
        ),
    ] = None,
    normalize: Annotated[
        bool,
        option(
            "Scale rows to unit length first, as for the radii of a run.", STATISTICS, "--normalize", default="rows as given"
        ),
    ] = False,
    standardize: Annotated[
        bool,
        option(
            "Standardise features first, as for a table whose columns have different units.",
            STATISTICS,
            "--standardize",
            default="features as given",
        ),
    ] = False,
    temperature: Annotated[
        str, option("Temperature of the soft nearest neighbour loss: median, optimal or a number.", STATISTICS)
    ] = "median",
    seed: Annotated[int, option("Seed for everything that is drawn at random.", STATISTICS)] = 0,
    memory: Annotated[str | None, option("How much memory to use, e.g. 2GiB.", STATISTICS, default="what is available")] = None,
    threads: Annotated[
        int | None, option("Number of threads.", STATISTICS, default="all processors, or OMP_NUM_THREADS")
    ] = None,
    scheduler: Annotated[str | None, option("Address of a Dask scheduler whose workers share the work.", STATISTICS)] = None,
    workers: Annotated[
        int | None, option("Number of processes on this machine that share the work.", STATISTICS, min=1)
    ] = None,
    scratch: Annotated[
        str | None,
        option(
            "Folder, or address of an object store (s3://BUCKET/FOLDER), for what does not fit in memory.",
            STATISTICS,
            default="--out, or TMPDIR",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option(
            "Folder for summary.json, per_point.parquet, differences.npz and report.html; an interrupted measurement resumes "
            "from it.",
            OUTPUT,
        ),
    ] = None,
    map: Annotated[str, option(f"{MAP_HELP} auto: pca where all metrics are asked for.", OUTPUT)] = "auto",
    images: Annotated[
        str | None,
        option(
            "Pictures of the points (n, h, w[, 3]) for the report: .npy, FILE.npz:NAME, a folder of pictures by class.",
            OUTPUT,
            default="X, if its points are pictures",
        ),
    ] = None,
    overwrite: Annotated[bool, option("Replace another measurement in --out.", OUTPUT, "--overwrite")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Measure how tangled the classes of a representation are, in every accepted view."""
    from fastent.arrays.labelled import paired
    from fastent.io.files import alone_in, output_folder
    from fastent.io.opening import read_features
    from fastent.measurement.measure import measure as measure_all
    from fastent.measurement.plan import CHECKPOINT
    from fastent.runtime.cluster import connected
    from fastent.runtime.threads import limit_threads, working_threads

    _check_effects(context, out, metrics, map)
    check_not_read(out, features, labels, images)
    X, y = paired(features, labels)
    if isinstance(X, str):
        X = read_features(X)
    pictures = _pictures(X, images)
    where = str(Path(y).absolute()) if isinstance(y, str) else labels
    asked = {
        "X": str(Path(features).absolute()), "y": where, "k": k, "metrics": metrics, "queries": queries,
        "normalize": normalize, "standardize": standardize, "temperature": temperature, "seed": seed,
    }  # fmt: skip
    with alone_in(None if out is None else output_folder(out)):
        if out is not None and not overwrite:
            check_free(out, "measurement", asked, context)
        if out is not None and any((out / CHECKPOINT).glob("*.npz")):
            fitting = "where they are of the same data and options"
            say(f"fastent: the measurement resumes from the parts that {str(out)!r} keeps, {fitting}", error=True)
        with limit_threads(threads), connected(scheduler, workers) as client:
            measured = measure_all(
                X,
                y,
                k=k,
                queries=queries,
                metrics="all" if metrics == "all" else [name.strip() for name in metrics.split(",")],  # type: ignore[misc]
                normalize=normalize,
                standardize=standardize,
                temperature=_temperature(temperature),
                class_names=class_names,
                map="none" if out is None else map,  # type: ignore[arg-type]
                memory_budget=memory,
                checkpoint=out,
                client=client,
                scratch=scratch,
                seed=seed,
                progress=True,
            )
        if out is not None:
            if not overwrite:
                check_same_measurement(measured, out)
            _keep(measured, out, asked, pictures)
            if overwrite:
                remove_other_kinds(out, "measurement")
    if as_json:
        print_json(measured.as_json() | {"asked": asked})
        return
    show(measured)
    print_cost(sum(stage.seconds for stage in measured.stages), "measuring", threads or working_threads())
    if out is not None:
        say(f"Report: {out / 'report.html'}")


def _check_effects(context: typer.Context, out: Path | None, metrics: str, map: str) -> None:
    if out is None:
        refuse_given(context, ("map", "images", "overwrite"), NEEDS_OUT)
    chosen = {name.strip() for name in metrics.split(",")}
    if "all" in chosen:
        return
    if "soft_nearest_neighbor" not in chosen:
        refuse_given(context, ("temperature",), "that is for soft_nearest_neighbor: add it to --metrics")
    if "margins" not in chosen and map in ("auto", "none"):
        refuse_given(context, ("images",), "pictures are shown of margins or on a map: add margins to --metrics, or --map pca")


def _pictures(X: Any, images: str | None) -> Any:
    """Pictures of the points, those that were named or the points themselves; None if there are none."""
    from fastent.io.opening import read_features
    from fastent.report.pictures import pictures_in

    if images is None:
        return pictures_in(X)
    found = pictures_in(read_features(images, any_rank=True))
    if found is None:
        raise FastentError(f"--images {images!r} holds no pictures: (n, height, width) or (n, height, width, 3) are needed")
    if len(found) != len(X):
        raise FastentError(f"--images {images!r} has {len(found)} pictures, X has {len(X)} rows: one of each row is needed")
    return found


def _keep(measured: "Measurement", out: Path, asked: dict[str, Any], pictures: Any) -> None:
    """Write the files and the report, and clear the parts from which an interrupted measurement would resume."""
    from fastent.io.result_cache import ResultCache
    from fastent.measurement.plan import CHECKPOINT
    from fastent.report.measurement import write_measurement_report

    measured.save(out, asked=asked)
    write_measurement_report(measured, out / "report.html", name=Path(asked["X"]).name, command=command_line(), images=pictures)
    ResultCache(out, name=CHECKPOINT).clear()


def _temperature(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
