"""`fastent trajectory`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from fastent.cli.config import Config
from fastent.cli.existing_output import check_free, check_not_read, remove_other_kinds
from fastent.cli.options import MAP_HELP, OUTPUT, STATISTICS, AsJson, option
from fastent.cli.output import command_line, print_json, say
from fastent.cli.without_effect import NEEDS_OUT, refuse_given

__all__ = ["trajectory"]


def trajectory(
    context: typer.Context,
    captures: Annotated[
        list[Path],
        typer.Argument(
            help="Folders that fastent capture wrote, one for each checkpoint, or one folder that holds them. If some have no "
            "number in their name, such as final, they are taken in the order in which all are named.",
            metavar="DIR...",
        ),
    ],
    labels: Annotated[
        str | None, option("Labels (n,): .npy or FILE.npz:NAME.", STATISTICS, default="those that were captured")
    ] = None,
    layers: Annotated[
        str | None, option("Names of the layers, separated by commas.", STATISTICS, default="all that were captured")
    ] = None,
    k: Annotated[int, option("Number of nearest neighbours for mixing and intrinsic dimension.", STATISTICS)] = 10,
    metrics: Annotated[
        str, option("all, or metrics of fastent measure separated by commas.", STATISTICS)
    ] = "mixing,margins,geometry,dimension",
    queries: Annotated[
        int | None, option("Number of randomly drawn query rows, as in fastent measure.", STATISTICS, default="all rows")
    ] = None,
    normalize: Annotated[
        bool, option("Scale rows to unit length first; radii always are.", STATISTICS, "--normalize", default="rows as given")
    ] = False,
    seed: Annotated[int, option("Seed for everything that is drawn at random.", STATISTICS)] = 0,
    memory: Annotated[str | None, option("How much memory to use, e.g. 2GiB.", STATISTICS, default="what is available")] = None,
    threads: Annotated[
        int | None, option("Number of threads.", STATISTICS, default="all processors, or OMP_NUM_THREADS")
    ] = None,
    out: Annotated[
        Path | None,
        option("Folder for summary.json, curves.parquet and report.html; an interrupted command resumes from it.", OUTPUT),
    ] = None,
    map: Annotated[str | None, option(f"{MAP_HELP} Of the last layer at the last checkpoint.", OUTPUT, default="pca")] = None,
    overwrite: Annotated[bool, option("Replace other results in --out.", OUTPUT, "--overwrite")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Measure every layer of every captured checkpoint, and write one report."""
    from fastent.activations.trajectory import trajectory as measure_all
    from fastent.activations.trajectory import without_number
    from fastent.io.files import alone_in, output_folder
    from fastent.io.opening import read_labels
    from fastent.report.trajectory import write_trajectory_report
    from fastent.runtime.threads import limit_threads
    from fastent.statistics.inversion import reasons_without

    if out is None:
        refuse_given(context, ("map", "overwrite"), NEEDS_OUT)
    check_not_read(out, *captures, labels)
    asked = {
        "captures": [str(place.absolute()) for place in captures], "labels": labels and str(Path(labels).absolute()),
        "layers": layers, "k": k, "metrics": metrics, "queries": queries, "normalize": normalize, "seed": seed,
    }  # fmt: skip
    with alone_in(None if out is None else output_folder(out)), limit_threads(threads):
        if out is not None and not overwrite:
            check_free(out, "trajectory", asked, context)
        found = measure_all(
            captures if len(captures) > 1 else captures[0],
            None if labels is None else read_labels(labels),
            layers=None if layers is None else [name.strip() for name in layers.split(",")],
            metrics="all" if metrics == "all" else [name.strip() for name in metrics.split(",")],
            map="none" if out is None else map or "pca",
            out=out,
            progress=True,
            k=k,
            queries=queries,
            normalize=normalize,
            memory_budget=memory,
            seed=seed,
        )
        if len(captures) > 1 and (unnumbered := without_number(found.names)):
            say(
                f"fastent: {unnumbered[0]!r} has no number that says where it belongs: the order is as given, "
                f"{', '.join(found.names)}",
                error=True,
            )
        if out is not None:
            found.save(out, asked=asked)
            write_trajectory_report(found, out / "report.html", command=command_line())
            if overwrite:
                remove_other_kinds(out, "trajectory")
    if as_json:
        print_json(found.summary())
        return
    say(found)
    for layer, row in zip(found.layers, found.inversions(), strict=True):
        reasons = [f"{reason} ({times})" for reason, times in reasons_without(row).items()]
        said = f"{sum(1 for each in row if each)} of {len(row)} classes have an inversion"
        say(f"layer {layer or '(the model)'}: {'; '.join([said, *reasons])}")
    if out is not None:
        say(f"Report: {out / 'report.html'}")
