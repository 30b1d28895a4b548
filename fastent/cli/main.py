"""The command line: parse, call, print."""

import io
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from fastent.cli.bench import bench
from fastent.cli.capture import capture
from fastent.cli.config import Config
from fastent.cli.examples import examples
from fastent.cli.existing_output import check_free_for_run, say_if_longer
from fastent.cli.experiments import EXPERIMENTS
from fastent.cli.experiments import app as experiments
from fastent.cli.info import info
from fastent.cli.measure import measure
from fastent.cli.options import (
    Activation,
    AsJson,
    BatchSize,
    BurnIn,
    Classes,
    DataDir,
    DataSource,
    Device,
    Dtype,
    Epochs,
    Exclude,
    Grayscale,
    Hidden,
    InitScale,
    Labels,
    Layers,
    LearningRate,
    MinRise,
    Model,
    Momentum,
    Optimizer,
    Out,
    Overwrite,
    Preset,
    RecordEvery,
    RecordPoints,
    RunQueries,
    Seed,
    Seeds,
    Standardize,
    Stream,
    Subset,
    SubsetSeed,
    Test,
    TestEvery,
    TestLabels,
    Threads,
    plain_errors,
    widths,
)
from fastent.cli.output import fitting_table, print_cost, print_json, say, show
from fastent.cli.report import report
from fastent.errors import FastentError
from fastent.printable import printable
from fastent.runtime.interrupts import interrupts
from fastent.training.options import DEFAULTS

if TYPE_CHECKING:
    from fastent.training.run import Run

# Columns of the table of a run that a narrow terminal does without.
_DISPENSABLE = (
    "final radius", "radius at inversion", "rebound", "stragglers / seed", "consensus stragglers", "epoch", "95 % interval",
    "seeds",
)  # fmt: skip

# A line for each paragraph: the terminal breaks them.
_PURPOSE = (
    "How tangled are the classes in a network's representations, where, and since when?\n\n"
    "[bold]run[/bold] trains networks, finds the moment at which each class turns from compacting to spreading (the "
    "inversion), and names the points that are still misclassified there (the stragglers). [bold]measure[/bold] takes "
    "activations that you have stored, with labels, and says how they mix. [bold]experiment[/bold] tests the claims behind all "
    "this on your data. Each prints a table and, with --out, writes a report to look at; after an interruption the same "
    "command goes on from there."
)
MEASURING, KEEPING, INSTALLED = "Ask a question", "Keep and look again", "This installation"


class _Commands(TyperGroup):
    """Commands whose usage errors, which quote what was typed, show it as all other text is shown."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _shown_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _shown_errors():
            return super().invoke(ctx)


@contextmanager
def _shown_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):
            message = printable(error.format_message(), keep="\n")
            error.format_message = lambda: message
        raise


app = typer.Typer(
    cls=_Commands,
    help=_PURPOSE,
    epilog=examples("") + "\n\nEvery command has examples of its own: fastent run --help.\n"
    "Exit status: 0 done, 2 bad usage or bad input, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="rich",
)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where an encoding has no place for a sign, the rest is worth printing
    interrupts.watch()
    try:
        app(prog_name="fastent")
    finally:
        if interrupts.arrived:  # whatever has become of it
            interrupts.leave()
        interrupts.at_work = False


@app.command(epilog=examples("run"), rich_help_panel=MEASURING)
@plain_errors
def run(
    data: DataSource = "digits",
    labels: Labels = None,
    stream: Stream = False,
    test: Test = None,
    test_labels: TestLabels = None,
    data_dir: DataDir = None,
    subset: Subset = None,
    subset_seed: SubsetSeed = None,
    exclude: Exclude = None,
    classes: Classes = None,
    standardize: Standardize = "safe",
    grayscale: Grayscale = False,
    preset: Preset = None,
    hidden: Hidden = None,
    activation: Activation = DEFAULTS.activation,
    init_scale: InitScale = 1.0,
    model: Model = None,
    layers: Layers = None,
    seeds: Seeds = DEFAULTS.seeds,
    seed: Seed = 0,
    epochs: Epochs = None,
    lr: LearningRate = DEFAULTS.lr,
    optimizer: Optimizer = DEFAULTS.optimizer,
    momentum: Momentum = DEFAULTS.momentum,
    batch_size: BatchSize = DEFAULTS.batch_size,
    record_every: RecordEvery = None,
    record_points: RecordPoints = None,
    queries: RunQueries = None,
    test_every: TestEvery = 10,
    burn_in: BurnIn = DEFAULTS.burn_in,
    min_rise: MinRise = DEFAULTS.min_rise,
    dtype: Dtype = "float32",
    device: Device = None,
    threads: Threads = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Train networks, find the inversion of each class, and name the stragglers."""
    why, too_large = _streamed_because(data, stream, record_every)
    if too_large or not why:
        # Whether the data fit must not decide which options there are.
        only_streamed = {"test": test, "test-labels": test_labels, "record-points": record_points, "queries": queries}
        _refuse(only_streamed, "that is for streamed data: add --stream, with a --data that is a file or a folder")
    if why:
        others = {
            "data-dir": data_dir, "subset": subset, "subset-seed": subset_seed, "exclude": exclude,
            "grayscale": grayscale or None, "preset": preset,
            "init-scale": None if init_scale == 1 else init_scale, "test-every": None if test_every == 10 else test_every,
            "dtype": None if dtype == "float32" else dtype,
        }  # fmt: skip
        _refuse(others, f"not available for streamed data, and {data} is streamed from disk ({why})")
        if labels is None:
            raise FastentError(f"{data!r} has no labels: name an .npy of them with --labels")
        same = "; same network and training as in memory, but all rows are trained on, none held out as a test set"
        say(f"fastent: {data} is streamed from disk: {why}{same * too_large}", error=True)
        said = {
            "record_every": record_every, "layers": None if layers is None else layers.split(","), "model": model,
            "queries": queries or None, "metrics": ("geometry",) if queries == 0 else None,
        }  # fmt: skip
        options: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        if record_points is not None:
            options["record_points"] = record_points or None
        _run_on_disk(
            data,
            labels,
            out,
            as_json,
            test=test,
            test_labels=test_labels,
            classes=classes,
            standardize=standardize,
            hidden=widths(hidden),
            activation=activation,
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            lr=lr,
            optimizer=optimizer,
            momentum=momentum,
            batch_size=batch_size,
            burn_in=burn_in,
            min_rise=min_rise,
            device=device,
            threads=threads,
            resume=not overwrite,
            **options,
        )
        return
    from fastent.data.training_set import load_data
    from fastent.io.files import alone_in, output_folder
    from fastent.io.npy import read_npy
    from fastent.training.run import RECORDS_FILE, load_run, run_to_resume
    from fastent.training.train import train

    with alone_in(None if out is None else output_folder(out)):
        _check_free(out, overwrite)
        stored = None
        if out is not None and not overwrite and (out / RECORDS_FILE).exists():
            stored = run_to_resume(out, "start anew with --overwrite, or name another folder")
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
            preset=preset,  # type: ignore[arg-type]
        )
        try:
            result = train(
                points,
                hidden=widths(hidden),
                activation=activation,  # type: ignore[arg-type]
                init_scale=init_scale,
                model=model,
                layers=None if layers is None else layers.split(","),
                seeds=seeds,
                seed=seed,
                epochs=epochs,
                lr=lr,
                optimizer=optimizer,  # type: ignore[arg-type]
                momentum=momentum,
                batch_size=batch_size,
                test_every=test_every,
                burn_in=burn_in,
                min_rise=min_rise,
                dtype=dtype,  # type: ignore[arg-type]
                device=device,
                threads=threads,
                checkpoint=out,
                resume=stored,
                progress=True,
            )
        except KeyboardInterrupt:
            if out is not None and (out / RECORDS_FILE).exists():
                _finish(load_run(out), out, points.raw, as_json)
            raise
        _say_if_longer(result, data, epochs, out)
        _finish(result, out, points.raw, as_json)


# In the order of the help.
app.command(epilog=examples("measure"), rich_help_panel=MEASURING)(measure)
app.add_typer(experiments, name="experiment", epilog=examples("experiment"), rich_help_panel=MEASURING)
app.command(epilog=examples("capture"), rich_help_panel=KEEPING)(capture)
app.command(epilog=examples("report"), rich_help_panel=KEEPING)(report)
app.command(epilog=examples("info"), rich_help_panel=INSTALLED)(info)
app.command(epilog=examples("bench"), rich_help_panel=INSTALLED)(bench)


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
    if reader is not NPY:
        return "sources other than .npy and .npz are always streamed", False
    from fastent.io.npy import read_npy
    from fastent.runtime.memory import available_bytes, readable_bytes

    # As float32, standardised, and sorted and transposed for training.
    needed, available = 12 * read_npy(data).size, available_bytes()
    if needed <= available:
        return "", False
    return f"it would need {readable_bytes(needed)} of memory, and {readable_bytes(available)} are available", True


def _refuse(options: dict[str, Any], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise FastentError(f"--{name} {value}: {why}")


def _run_on_disk(data: str, labels: str, out: Path | None, as_json: bool, **options: Any) -> None:
    from fastent.data.stored_rows import stored_pictures
    from fastent.training.run import RECORDS_FILE, load_run
    from fastent.training.train_streamed import train_streamed

    _check_free(out, not options["resume"])
    try:
        result = train_streamed(data, labels, checkpoint=out, progress=True, **options)
    except KeyboardInterrupt:
        if out is not None and (out / RECORDS_FILE).exists():
            stored = load_run(out)
            _finish(stored, out, stored_pictures(stored.config, stored.codes, checked=True), as_json)
        raise
    _say_if_longer(result, data, options["epochs"], out)
    _finish(result, out, stored_pictures(result.config, result.codes, checked=True), as_json)
    if not as_json:
        share = 100 * result.seconds_recording / result.seconds
        say(f"{result.seconds_recording:.1f} s of these ({share:.0f} %) recording")


def _check_free(out: Path | None, overwrite: bool) -> None:
    if out is not None and not overwrite:
        check_free_for_run(out, EXPERIMENTS)


def _say_if_longer(result: "Run", data: str, epochs: int | None, out: Path | None) -> None:
    """Say it where the run that was there has more epochs than are asked for, by default too."""
    from fastent.data.datasets import known_name
    from fastent.data.presets import default_epochs

    if out is not None:
        said = say_if_longer(result, default_epochs(known_name(data)) if epochs is None else epochs, out)
        if said:
            say(f"fastent: {said}", error=True)


def _finish(result: "Run", out: Path | None, points: Any, as_json: bool) -> None:
    """Write the files and the report; print the table, or the summary for scripts."""
    from fastent.training.tables import summary

    if out is not None:
        from fastent.report.html import write_report

        command = shlex.join(["fastent", *sys.argv[1:]])
        result.config["command"] = command
        result.save(out)
        write_report(result, out / "report.html", points=points, command=command)
    if as_json:
        print_json(summary(result))
        return
    _print_result(result)
    print_cost(result.seconds, "training", result.config["threads"])
    if out is not None:
        say(f"Report: {out / 'report.html'}")


def _print_result(result: "Run") -> None:
    from fastent.training.reasons import without_inversion
    from fastent.training.tables import epoch_of, readable_rows, rule_text, turning_text

    last = float(result.epoch[-1])
    seeds, epochs = "seed" + "s" * (result.n_seeds != 1), "epoch" + "s" * (last != 1)
    title = f"{result.config['data']}: {len(result.index)} points, {result.n_seeds} {seeds}, {epoch_of(result, last)} {epochs}"
    if result.parity:
        title += "\nclasses by parity: even against odd"  # a line of its own: narrow tables would break a longer title anywhere
    caption = "eps*: training error at the inversion. Each row covers the seeds with an inversion. Radii: last hidden layer."
    show(fitting_table(title, *readable_rows(result), caption, dispensable=_DISPENSABLE))
    for sentence in (turning_text(result), *without_inversion(result), rule_text(result)):
        if sentence:
            say(sentence)


if __name__ == "__main__":
    main()
