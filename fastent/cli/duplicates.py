"""`fastent duplicates`: parse, call, print."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastent.cli.config import Config
from fastent.cli.existing_output import check_free, check_not_read, remove_other_kinds
from fastent.cli.options import DATA, OUTPUT, STATISTICS, AsJson, option
from fastent.cli.output import print_cost, print_json, say, show
from fastent.cli.without_effect import NEEDS_OUT, refuse_given
from fastent.errors import FastentError

if TYPE_CHECKING:
    from fastent.search.found_duplicates import NearDuplicates

__all__ = ["duplicates"]

# Pairs that are printed.
_SHOWN = 5
_METRICS, _EQUAL = ("euclidean", "cosine"), ("all", "first")


def duplicates(
    context: typer.Context,
    features: Annotated[str, typer.Argument(help="Rows (n, d), as for fastent measure.", metavar="X")],
    labels: Annotated[
        str | None, option("Labels (n,), as for fastent measure: pairs whose labels differ are counted and listed.", DATA)
    ] = None,
    queries: Annotated[
        str | None, option("Rows of another set, such as the test set, which are compared with those of X only.", DATA)
    ] = None,
    query_labels: Annotated[str | None, option("Labels of --queries.", DATA)] = None,
    radius: Annotated[float | None, option("Largest distance of a pair. Either this or --quantile.", STATISTICS)] = None,
    quantile: Annotated[
        float | None, option("The radius within which this share of the rows has another row, e.g. 0.01.", STATISTICS)
    ] = None,
    metric: Annotated[str, option("euclidean or cosine (1 - cos).", STATISTICS, values=_METRICS)] = "euclidean",
    equal: Annotated[
        str, option("Pairs of equal rows: all, or first (each copy with the first of its equals).", STATISTICS, values=_EQUAL)
    ] = "all",
    seed: Annotated[int, option("Seed of the rows that are drawn for --quantile.", STATISTICS)] = 0,
    memory: Annotated[str | None, option("How much memory to use, e.g. 2GiB.", STATISTICS, default="what is available")] = None,
    threads: Annotated[
        int | None, option("Number of threads.", STATISTICS, default="all processors, or OMP_NUM_THREADS")
    ] = None,
    scratch: Annotated[
        str | None, option("Folder for copies of rows that do not fit in memory.", STATISTICS, default="TMPDIR")
    ] = None,
    out: Annotated[Path | None, option("Folder for summary.json, pairs.parquet and groups.parquet.", OUTPUT)] = None,
    overwrite: Annotated[bool, option("Replace other results in --out.", OUTPUT, "--overwrite")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Find all rows that lie within a radius of each other: near duplicates, wrong labels, test rows in the training set."""
    from fastent.arrays.labelled import with_labels
    from fastent.io.files import alone_in, output_folder
    from fastent.io.opening import read_features, read_labels
    from fastent.runtime.threads import limit_threads, working_threads
    from fastent.search.near_duplicates import near_duplicates

    if query_labels is not None and queries is None:
        raise FastentError("--query-labels are for --queries, which is not given: use --labels")
    if out is None:
        refuse_given(context, ("overwrite",), NEEDS_OUT)
    if quantile is None:
        refuse_given(context, ("seed",), "that is for the rows drawn for --quantile, which is not given")
    places = {"X": features, "labels": labels, "queries": queries, "query_labels": query_labels}
    asked = {name: None if place is None else str(Path(place).absolute()) for name, place in places.items()} | {
        "radius": radius, "quantile": quantile, "metric": metric, "equal": equal, "seed": seed,
    }  # fmt: skip
    check_not_read(out, *places.values())
    if out is not None and not overwrite:
        check_free(out, "duplicates", asked, context)

    def read(place: str | None, labels: str | None) -> tuple[Any, Any]:
        X, y = with_labels(place, labels)
        y = read_labels(y) if isinstance(y, str) else y
        return read_features(X) if isinstance(X, str) else X, y

    X, y = read(features, labels)
    others, other_labels = read(queries, query_labels)
    with limit_threads(threads):
        begun = time.perf_counter()
        found = near_duplicates(
            X,
            radius,
            quantile=quantile,
            queries=others,
            labels=y,
            query_labels=other_labels,
            metric=metric,  # type: ignore[arg-type]
            equal=equal,  # type: ignore[arg-type]
            memory_budget=memory,
            scratch=scratch,
            seed=seed,
            progress=True,
        )
        seconds = time.perf_counter() - begun
    if out is not None:
        with alone_in(output_folder(out)):
            found.save(out, asked=asked)
            if overwrite:
                remove_other_kinds(out, "duplicates")
    if as_json:
        print_json(found.summary() | {"asked": asked})
        return
    _show(found)
    print_cost(seconds, "searching", threads or working_threads())
    if out is not None:
        say(f"Pairs: {out / 'pairs.parquet'}")


def _show(found: "NearDuplicates") -> None:
    """The counts, and the nearest pairs: those with two labels, if labels were given."""
    import numpy as np

    from fastent.runtime.formatting import readable
    from fastent.runtime.terminal import text_table

    counts = [(name.replace("_", " "), _text(value)) for name, value in found.summary().items()]
    show(text_table("Near duplicates", ("", "value"), counts))
    some = np.arange(len(found.pairs)) if found.pair_labels is None else np.flatnonzero(found.conflicts)
    some = some[np.argsort(found.distances[some], kind="stable")][:_SHOWN]
    if not len(some):
        return
    headings, title = (
        ["row", "other", "distance"] if found.queries is None else ["of --queries", "row of X", "distance"],
        "Nearest",
    )
    rows = [[f"{i:,}", f"{j:,}", readable(each)] for (i, j), each in zip(found.pairs[some], found.distances[some], strict=True)]
    if found.pair_labels is not None:
        headings, title = [*headings, "label", "other label"], "Nearest pairs with two labels"
        rows = [[*row, *map(str, pair)] for row, pair in zip(rows, found.pair_labels[some].tolist(), strict=True)]
    show(text_table(title, headings, rows))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
