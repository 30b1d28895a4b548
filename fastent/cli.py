"""The command line: parse, call, print."""

import functools
import os
import resource
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fastent.errors import FastentError

if TYPE_CHECKING:
    from fastent.training.run import Run

app = typer.Typer(
    help="How tangled are the classes in a network's representations: where, since when, and which examples are to blame?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="rich",
)

DATA, NETWORK, STATISTICS, OUTPUT = "Data", "Networks and training", "What is measured, and how", "Output"


def main() -> None:
    app(prog_name="fastent")


def _plain_errors(command: Callable[..., None]) -> Callable[..., None]:
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


@app.command()
@_plain_errors
def run(
    data: Annotated[
        str,
        typer.Option(
            help="digits, mnist, fashion-mnist, kmnist, cifar10; an .npz (x_train, y_train[, x_test, y_test]) or an .npy.",
            rich_help_panel=DATA,
        ),
    ] = "digits",
    labels: Annotated[str | None, typer.Option(help="Labels .npy for a --data .npy.", rich_help_panel=DATA)] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where named data sets lie (or FASTENT_DATA).", rich_help_panel=DATA)
    ] = None,
    subset: Annotated[int | None, typer.Option(help="The first so many training points only.", rich_help_panel=DATA)] = None,
    subset_seed: Annotated[
        int | None, typer.Option(help="Draw the subset at random, with this seed.", rich_help_panel=DATA)
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Row numbers to leave out, as .npy.", metavar="FILE", rich_help_panel=DATA)
    ] = None,
    classes: Annotated[str, typer.Option(help="parity (label % 2) or all.", rich_help_panel=DATA)] = "parity",
    standardize: Annotated[str, typer.Option(help="safe, paper or none.", rich_help_panel=DATA)] = "safe",
    grayscale: Annotated[
        bool, typer.Option("--grayscale", help="Sum the three standardised colour channels.", rich_help_panel=DATA)
    ] = False,
    hidden: Annotated[
        str, typer.Option(help="Units of each hidden layer, e.g. 20 or 512,128.", rich_help_panel=NETWORK)
    ] = "20",
    activation: Annotated[str, typer.Option(help="tanh or relu.", rich_help_panel=NETWORK)] = "tanh",
    seeds: Annotated[int, typer.Option(help="How many networks, trained together.", rich_help_panel=NETWORK)] = 10,
    seed: Annotated[int, typer.Option(help="The first network's seed.", rich_help_panel=NETWORK)] = 0,
    epochs: Annotated[
        int | None,
        typer.Option(help="Full-batch updates; 500, or 1500 for digits, unless said.", rich_help_panel=NETWORK),
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate.", rich_help_panel=NETWORK)] = 0.1,
    optimizer: Annotated[str, typer.Option(help="sgd or adam.", rich_help_panel=NETWORK)] = "sgd",
    momentum: Annotated[float, typer.Option(help="Of SGD.", rich_help_panel=NETWORK)] = 0.0,
    test_every: Annotated[int, typer.Option(help="Epochs between test errors.", rich_help_panel=NETWORK)] = 10,
    dtype: Annotated[str, typer.Option(help="float32 or float64.", rich_help_panel=NETWORK)] = "float32",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...", rich_help_panel=NETWORK)] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads; unless said all processors, or one for little work.", rich_help_panel=NETWORK)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; an interrupted run in it is continued.", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another run in --out.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Train networks, find the inversion of each class, and name the stragglers.

    [bold]fastent run --out digits[/bold] trains 10 seeds on scikit-learn's digits.
    [bold]fastent run --data mnist --data-dir DIR --subset 8192 --epochs 500 --out mnist[/bold] is the source paper's set-up.
    """
    from fastent.files import output_folder, read_npy
    from fastent.training.data import load_data
    from fastent.training.run import RECORDS_FILE, load_run
    from fastent.training.train import train

    if out is not None:
        output_folder(out)
    stored = load_run(out) if out is not None and not overwrite and (out / RECORDS_FILE).exists() else None
    points = load_data(
        data,
        labels=labels,
        data_dir=data_dir,
        subset=subset,
        subset_seed=subset_seed,
        exclude=None if exclude is None else read_npy(exclude),
        classes=classes,  # type: ignore[arg-type]
        standardize=standardize,  # type: ignore[arg-type]
        grayscale=grayscale,
    )
    try:
        result = train(
            points,
            hidden=_widths(hidden),
            activation=activation,  # type: ignore[arg-type]
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            lr=lr,
            optimizer=optimizer,  # type: ignore[arg-type]
            momentum=momentum,
            test_every=test_every,
            dtype=dtype,  # type: ignore[arg-type]
            device=device,
            threads=threads,
            checkpoint=out,
            resume=stored,
            progress=True,
        )
    except KeyboardInterrupt:
        if out is not None and (out / RECORDS_FILE).exists():
            _finish(load_run(out), out, points.pictures)
            print(f"Interrupted; what was done is in {out}, and the same command goes on from there.", file=sys.stderr)
        raise
    _finish(result, out, points.pictures)


@app.command()
@_plain_errors
def measure(
    features: Annotated[
        str,
        typer.Argument(
            help="Activations (n, d): an .npy, read from disk as needed, or an .npz's member, FILE.npz:NAME.", metavar="X"
        ),
    ],
    labels: Annotated[str, typer.Argument(help="Labels (n,), likewise.", metavar="Y")],
    k: Annotated[int, typer.Option(help="Neighbours for mixing and dimension.", rich_help_panel=STATISTICS)] = 10,
    metrics: Annotated[
        str,
        typer.Option(
            help="all, or some of geometry, mixing, lisi, dimension, margins, silhouette, soft_nearest_neighbor, complexity.",
            rich_help_panel=STATISTICS,
        ),
    ] = "all",
    queries: Annotated[
        int | None,
        typer.Option(
            help="So many rows, drawn at random, meet all rows: every mean comes with an interval.", rich_help_panel=STATISTICS
        ),
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Scale rows to unit length first.", rich_help_panel=STATISTICS)
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
    out: Annotated[
        Path | None, typer.Option(help="Folder for summary.json, per_point.parquet and report.html.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Measure how tangled the classes of a representation are, in every accepted view.

    [bold]fastent measure X.npy y.npy --out layer3[/bold] measures all rows.
    [bold]fastent measure X.npy y.npy --queries 20000 --out layer3[/bold] is for millions of rows, larger than memory.
    """
    from fastent.files import output_folder, read_array
    from fastent.measure import measure as measure_all
    from fastent.threads import limit_threads

    if out is not None:
        output_folder(out)
    X, y = read_array(features, "X"), read_array(labels, "y")
    with limit_threads(threads):
        measured = measure_all(
            X,
            y,
            k=k,
            queries=queries,
            metrics="all" if metrics == "all" else [name.strip() for name in metrics.split(",")],  # type: ignore[misc]
            normalize=normalize,
            temperature=_temperature(temperature),
            memory_budget=memory,
            seed=seed,
            progress=True,
        )
    Console(width=None if sys.stdout.isatty() else 120).print(measured)
    _print_cost(sum(stage.seconds for stage in measured.stages), "measuring", threads or _numba_threads())
    if out is not None:
        from fastent.report.measurement import write_measurement_report

        command = shlex.join(["fastent", *sys.argv[1:]])
        measured.save(out)
        write_measurement_report(measured, out / "report.html", name=Path(features).name, command=command)
        print(f"Report: {out / 'report.html'}")


@app.command()
@_plain_errors
def report(folder: Annotated[Path, typer.Argument(help="A folder that fastent run wrote.")]) -> None:
    """Write the report of a stored run anew."""
    from fastent.report.html import write_report
    from fastent.training.data import reload_data
    from fastent.training.run import load_run

    stored = load_run(folder)
    try:
        pictures = reload_data(stored.config).pictures
    except FastentError as error:
        print(f"fastent: the report is without pictures: {error}", file=sys.stderr)
        pictures = None
    write_report(stored, folder / "report.html", pictures=pictures, command=stored.config.get("command"))
    print(folder / "report.html")


@app.command()
@_plain_errors
def info() -> None:
    """Print versions, threads, SIMD, devices and where compiled kernels are cached."""
    from importlib.metadata import version

    import llvmlite.binding as llvm
    import numba
    import torch

    from fastent.kernels.moments import class_moments
    from fastent.memory import available_bytes, readable_bytes

    features = llvm.get_host_cpu_features()
    simd = [name for name in ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "neon", "sve") if features.get(name)]
    devices = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    table = Table(show_header=False, box=None)
    for package in ("fastent", "numpy", "numba", "torch", "scikit-learn", "pyarrow"):
        table.add_row(package, version(package))
    table.add_row("python", sys.version.split()[0])
    table.add_row("processor", llvm.get_host_cpu_name())
    table.add_row("SIMD", " ".join(simd) or "none found")
    table.add_row("threads", f"numba {numba.get_num_threads()}, torch {torch.get_num_threads()}")
    table.add_row("devices", ", ".join(["cpu", *devices]))
    table.add_row("memory", f"{readable_bytes(available_bytes())} available")
    table.add_row("kernel cache", str(class_moments.stats.cache_path or "none (nowhere to write)"))
    Console().print(table)


def _finish(result: "Run", out: Path | None, pictures: Any) -> None:
    """Print the table; write the files and the report."""
    if out is not None:
        from fastent.report.html import write_report

        command = shlex.join(["fastent", *sys.argv[1:]])
        result.config["command"] = command
        result.save(out)
        write_report(result, out / "report.html", pictures=pictures, command=command)
    _print_result(result)
    _print_cost(result.seconds, "training", result.config["threads"])
    if out is not None:
        print(f"Report: {out / 'report.html'}")


def _print_cost(seconds: float, what: str, threads: int) -> None:
    from fastent.memory import readable_bytes

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{seconds:.1f} s {what} on {threads} thread{'s' * (threads > 1)}, peak memory {readable_bytes(peak)}")


def _numba_threads() -> int:
    import numba

    return int(numba.get_num_threads())


def _temperature(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _print_result(result: "Run") -> None:
    from fastent.report.words import class_names
    from fastent.training.tables import summary

    numbers = summary(result)
    title = f"{numbers['data']}: {numbers['points']} points, {numbers['seeds']} seeds, {numbers['epochs']} epochs"
    table = Table(
        title=title, caption="eps*: training error at the inversion, mean over seeds. Radius: of the last hidden layer."
    )
    for heading in (
        "class",
        "seeds",
        "eps*",
        "95 % interval",
        "epoch",
        "radius there",
        "at the end",
        "stragglers",
        "in >= half",
    ):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    rows = list(zip(class_names(result), numbers["classes"], strict=True))
    for name, row in rows:
        found = row["found"] > 0
        spread = f" ± {100 * row['std']:.2f}" if row["std"] is not None else ""
        interval = f"{100 * row['interval'][0]:.2f} to {100 * row['interval'][1]:.2f} %" if row["interval"] else ""
        table.add_row(
            name,
            f"{row['found']}/{row['seeds']}",
            f"{100 * row['train_error']:.2f}{spread} %" if found else "no inversion",
            interval,
            f"{row['epoch']:.0f}" if found else "",
            f"{row['value']:.4f}" if found else "",
            f"{row['radius_at_end']:.4f}",
            f"{row['stragglers_per_seed']:.0f}",
            str(row["consensus_stragglers"]),
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for name, row in rows:
        for reason, count in row["reasons"].items():
            console.print(f"Class {name}: no inversion in {count} of {row['seeds']} seeds, {reason}.", markup=False)


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise FastentError(
            f"hidden={text!r}: whole numbers separated by commas are needed, for instance 20 or 512,128"
        ) from None


if __name__ == "__main__":
    main()
