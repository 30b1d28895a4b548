"""What all commands have in common: help, examples that run, JSON for scripts, --config, completion, and output that fits."""

import contextlib
import inspect
import io
import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import llvmlite.binding
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from typer.testing import CliRunner

import fastent as fe
import fastent.experiments as ex
from fastent.cli import bench as cli_bench
from fastent.cli import experiments as cli_experiments
from fastent.cli import warmup as cli_warmup
from fastent.cli.main import EXAMPLES, app
from fastent.cli.output import fitting_table
from fastent.cli.run import DISPENSABLE, print_run
from fastent.experiments._pruning import Pruning
from fastent.io.files import alone_in, write_text
from fastent.io.store import open_store
from fastent.report import experiments as report
from fastent.report import measurement
from fastent.training.tables import readable_rows
from tests.plots.test_plots import generalized, pruned
from tests.report.test_report import made_up_run

RUNNER = CliRunner()
NET = """
from collections import OrderedDict
from torch import nn

def make():
    return nn.Sequential(OrderedDict(layer3=nn.Linear(64, 6), act=nn.ReLU(), fc=nn.Linear(6, 10)))
"""
# What makes each command of the examples quick; an option that is there twice counts the second time.
QUICK = {
    "run": "--epochs 2 --seeds 1 --threads 1",
    "measure": "--threads 1",
    "duplicates": "--threads 1",
    "capture": "",
    "trajectory": "--threads 1",
    "report": "",
    "experiment": "--epochs 6 --pairs 3 --times 2,4 --seeds 1",
    "info": "",
    "warmup": "",
    "bench": "",
}
BENCHED = {
    "machine": {"processor": "a processor", "threads": 2},
    "share": 0.1,
    "jobs": [{"job": "neighbors", "median_s": 0.02, "peers": {"faiss": {"median_s": 1.5, "ratio": 75.0}}}],
    "skipped": [{"job": "test_late", "because": "2 minutes were over"}],
}


def fastent(command, **environment):
    return RUNNER.invoke(app, shlex.split(command), env={"COLUMNS": "120", **environment}, prog_name="fastent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that the examples name."""
    place = tmp_path_factory.mktemp("examples")
    X, y = load_digits(return_X_y=True)
    X, y = X[:300].astype(np.float32), y[:300]
    np.save(place / "X.npy", X)
    np.save(place / "y.npy", y)
    np.save(place / "test.npy", X[:50])
    np.savez(place / "own.npz", X=X, y=y)
    for name, rows in (("shards", X), ("data", None)):
        (place / name).mkdir()
        if rows is not None:
            np.save(place / name / "0.npy", rows)
    np.savez(place / "data" / "mnist.npz", x_train=X[:200], y_train=y[:200], x_test=X[200:], y_test=y[200:])
    (place / "net.py").write_text(NET)
    net = torch.nn.Sequential(OrderedDict(layer3=torch.nn.Linear(64, 6), act=torch.nn.ReLU(), fc=torch.nn.Linear(6, 10)))
    torch.save(net.state_dict(), place / "W.pt")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), 100)
    fe.capture(net, loader, ["layer3", "fc"], place / "acts")
    (place / "ckpt").mkdir()
    for step in (1, 2):
        torch.save(net.state_dict(), place / "ckpt" / f"step{step}.pt")
        fe.capture(net, loader, ["layer3", "fc"], place / "checkpoints" / f"step{step}")
    for rule in ("sgd", "adam"):
        fe.train("digits", seeds=2, epochs=3, optimizer=rule).save(place / rule)
    for i in range(1, 4):
        fe.measure(X * i, y, metrics="margins").save(place / f"layer{i}")
    return place


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A folder of one's own with links to what is there."""
    for found in folder.iterdir():
        (tmp_path / found.name).symlink_to(found)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.train
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_in_the_help_and_run(name, here, monkeypatch):
    monkeypatch.setattr(cli_bench, "_run", lambda *asked: BENCHED)
    monkeypatch.setattr(cli_bench, "_suite", lambda: Path())
    monkeypatch.setattr(cli_warmup, "CALLS", ())
    shown = " ".join(fastent(f"{name} --help", COLUMNS="200").stdout.split())
    for what, example in EXAMPLES[name]:
        assert f"{what}: fastent {example}" in shown
        command = example.split()[0]
        everything = example.startswith(("experiment all", "experiment pruning"))
        with monkeypatch.context() as patch:
            if everything:
                patch.setattr(cli_experiments, "_carry_out", lambda *asked: pruned())
                patch.setattr(Pruning, "draw", lambda *asked: None)
                patch.setattr(report, "_picture", lambda *asked: "")
            if "--out acts" in example:
                (here / "acts").unlink()
            if "--out checkpoints" in example:
                (here / "checkpoints").unlink()
            if "--out layer3" in example:
                (here / "layer3").unlink()
            if example == "report digits":
                (here / "digits").symlink_to(here / "sgd")
            quick = "" if everything else QUICK[command]
            result = fastent(f"{example.replace('20000', '100').replace('8192', '100').replace('256', '50')} {quick}")
        assert result.exit_code == 0, (example, result.output, result.exception)
        if "--json" in example:
            json.loads(result.stdout)


def test_the_help_has_groups_in_an_order_and_says_what_statuses_mean():
    shown = fastent("--help").stdout
    groups = [shown.index(name) for name in ("Measure", "Store and report", "This installation", "Examples")]
    assert groups == sorted(groups)
    assert shown.count("  fastent ") == 3
    assert "0 done, 2 bad usage or bad input, 130 interrupted" in shown


def test_every_command_ends_its_help_with_examples():
    for name in (
        "run",
        "measure",
        "duplicates",
        "capture",
        "report",
        "info",
        "bench",
        "experiment",
        "experiment dynamics",
        "experiment all",
    ):
        assert f"fastent {name.split()[0]}" in fastent(f"{name} --help").stdout.split("Example")[1], name


def test_near_duplicates_are_counted_kept_and_not_replaced_by_others(here):
    command = "duplicates X.npy --labels y.npy --radius 12 --out near"
    shown = fastent(command)
    assert shown.exit_code == 0, shown.output
    found = fe.near_duplicates(np.load("X.npy"), 12, labels=np.load("y.npy"))
    stored = json.loads((here / "near" / "summary.json").read_text())
    assert {name: stored[name] for name in found.summary()} == found.summary()
    assert pq.read_table(here / "near" / "pairs.parquet").equals(found.pair_table())
    assert pq.read_table(here / "near" / "groups.parquet").equals(found.table())
    assert fastent(command).exit_code == 0
    for other in (command.replace("12", "13"), "measure X.npy y.npy --metrics geometry --out near"):
        refused = fastent(other)
        assert refused.exit_code == 2
        assert "'near' holds" in refused.stderr
    assert fastent("duplicates X.npy --radius 13 --out near --overwrite").exit_code == 0
    leaked = json.loads(fastent("duplicates X.npy --queries test.npy --radius 0 --json").stdout)
    assert (leaked["queries"], leaked["rows_to_drop"]) == (50, 50)
    refused = fastent("duplicates X.npy --query-labels y.npy --radius 0 --out none")
    assert refused.exit_code == 2
    assert not (here / "none").exists()


def test_labels_that_lie_with_the_inputs_of_a_capture_are_kept(here):
    command = "capture --model net:make --weights W.pt --data own.npz --layers fc --out kept"
    shown = fastent(command)
    assert shown.exit_code == 0, shown.output
    np.testing.assert_array_equal(open_store("kept").labels, np.load("y.npy"))
    assert fastent(command.replace("own.npz", "own.npz:X").replace("kept", "bare")).exit_code == 0
    assert open_store("bare").labels is None


def test_labels_of_duplicates_are_a_column_as_for_measure(here):
    X, y = np.load("X.npy"), np.load("y.npy")
    pq.write_table(pa.table({"points": list(X), "kind": y}), "t.parquet")
    expected = strict(fastent("duplicates X.npy --labels y.npy --radius 12 --json").stdout)
    for labels in ("kind", "t.parquet:kind"):
        shown = fastent(f"duplicates t.parquet --labels {labels} --radius 12 --json")
        assert shown.exit_code == 0, shown.output
        assert strict(shown.stdout) | {"asked": 0} == expected | {"asked": 0}
    crossed = fastent("duplicates X.npy --labels y.npy --queries t.parquet --query-labels kind --radius 0 --json")
    assert strict(crossed.stdout)["queries"] == len(X), crossed.output


def test_why_a_run_is_streamed_is_true(here):
    pq.write_table(pa.table({"points": list(np.load("X.npy"))}), "p.parquet")
    shown = fastent("run --data p.parquet --labels y.npy --epochs 1 --seeds 1")
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.stderr.split())
    assert "p.parquet is streamed from disk: all sources are but .npy, .npz, .csv, .tsv and folders of pictures" in said


def test_folders_of_other_results_are_left_alone(here):
    assert fastent("measure X.npy y.npy --metrics geometry --out out").exit_code == 0
    before = (here / "out" / "summary.json").read_bytes()
    refused = fastent("run --epochs 2 --seeds 1 --out out")
    assert refused.exit_code == 2
    assert "'out' holds a measurement: choose another folder, or --overwrite" in refused.stderr
    np.save(here / "own.npy", np.load("X.npy"))
    assert fastent("measure own.npy y.npy --metrics geometry --out own").exit_code == 0
    np.save(here / "own.npy", np.load("X.npy")[::-1])
    refused = fastent("measure own.npy y.npy --metrics geometry --out own")
    assert refused.exit_code == 2
    assert "holds a measurement of other data" in refused.stderr
    assert fastent("measure own.npy y.npy --metrics geometry --out own --overwrite").exit_code == 0
    assert (here / "out" / "summary.json").read_bytes() == before


def strict(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_json_is_all_that_scripts_read(here):
    numbers = strict(fastent("run --epochs 2 --seeds 1 --json --out out").stdout)
    assert numbers == strict((here / "out" / "summary.json").read_text())
    assert (here / "out" / "report.html").exists()
    found = strict(fastent("measure X.npy y.npy --metrics mixing,margins --queries 50 --json --out layer").stdout)
    assert found == strict((here / "layer" / "summary.json").read_text())
    assert found["asked"]["queries"] == 50
    kept = strict(fastent("capture --verify acts --json").stdout)
    assert kept["complete"]
    assert [layer["name"] for layer in kept["layers"]] == ["layer3", "fc"]
    assert set(strict(fastent("info --json").stdout)) >= {"versions", "threads", "devices", "kernel_cache", "prebuilt_kernels"}


def test_json_of_one_experiment_and_of_all(monkeypatch):
    monkeypatch.setattr(cli_experiments, "_carry_out", lambda name, given: generalized())
    one = strict(fastent("experiment pruning --json").stdout)
    assert one["experiment"] == "generalization"
    assert one["numbers"]["critical_error"]["value"] == 0.1
    assert len(strict(fastent("experiment all --json").stdout)) == len(cli_experiments.EXPERIMENTS)


def test_an_error_leaves_stdout_empty():
    result = fastent("run --data nonsense --json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("fastent: error: unknown data 'nonsense'")


@pytest.mark.parametrize("given", ["--stream", "--record-every 0.5"])
def test_named_data_cannot_stay_on_disk(given, here):
    (here / "digits").mkdir()  # whatever else is called so
    result = fastent(f"run --data digits {given} --epochs 2")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"fastent: error: {given.split()[0]} is for streamed data, not 'digits': name an .npy, a folder of shards, .zarr, ...\n"
    )


def test_the_usual_network_has_a_name_in_every_command(here):
    quick = "--model mlp --hidden 5 --seeds 1 --threads 1"
    assert fastent(f"run {quick} --epochs 2 --out out").exit_code == 0
    assert fe.load_run(here / "out").config["hidden"] == [5]
    found = strict(fastent(f"experiment stability {quick} --epochs 4 --pairs 3 --times 2,4 --json").stdout)
    assert found["config"]["hidden"] == [5]
    assert "model" not in found["config"]


def test_own_labels_are_classes_and_parity_is_said(here):
    X, y = load_iris(return_X_y=True)
    np.savez(here / "iris.npz", X=X, y=y)
    quick = "run --data iris.npz --seeds 2 --epochs 20 --threads 1"
    shown = fastent(f"{quick} --out iris").stdout
    assert "iris: 112 points, 2 seeds, 20 epochs" in shown
    assert "parity" not in shown
    run = fe.load_run(here / "iris")
    assert run.class_names == ["0", "1", "2"]
    np.testing.assert_array_equal(run.radius, fe.train((X, y), seeds=2, epochs=20, threads=1).radius)
    assert len(fe.train((X, y), seeds=1, epochs=1).classes) == 3
    np.savez(here / "iris.npz", X=X, y=y == 2)
    for asked in ("--classes parity", "--preset paper"):
        assert "classes by parity: even against odd" in fastent(f"{quick} {asked}").stdout
    assert "even" not in fastent(quick).stdout


@pytest.mark.train
@pytest.mark.parametrize("asked", ["", "--batch-size 50 --activation relu --hidden 7,4 --lr 0.05"])
def test_the_same_file_in_memory_and_streamed(here, monkeypatch, asked):
    """What is trained does not depend on where rows lie, and so not on the machine."""
    X, y = load_iris(return_X_y=True)
    np.save(here / "iris.npy", X)
    np.save(here / "labels.npy", y)
    whole = fe.train((X, y, X, y), epochs=20, threads=1)
    command = f"run --data iris.npy --labels labels.npy --threads 1 {asked}"
    assert fastent(f"{command} --epochs 20 --out held").exit_code == 0
    streamed = fastent(f"{command} --epochs 20 --queries 0 --stream --out streamed")
    assert "fastent: iris.npy is streamed from disk: --stream was given\n" in streamed.stderr
    monkeypatch.setattr("fastent.runtime.memory.available_bytes", lambda: 12 * X.size - 1)
    monkeypatch.setattr("fastent.training.streamed_session.check_fits", lambda *_: None)
    for needs in ("--queries 0", "--test iris.npy"):
        refused = fastent(f"{command} --epochs 20 {needs} --out refused")
        assert "that is for streamed data: add --stream" in refused.stderr
    too_large = fastent(f"{command} --epochs 20 --out large")
    assert "iris.npy is streamed from disk: it would need 7 KiB of memory" in too_large.stderr
    assert "same network and training as in memory" in too_large.stderr
    held, *others = (fe.load_run(here / name) for name in ("held", "streamed", "large"))
    for run in others:
        assert len(run.index) == 150
        for name in ("hidden", "activation", "classes", "standardize", "seeds", "seed", "epochs", "batch_size", "optimizer", "lr",
                     "momentum"):  # fmt: skip
            assert run.config[name] == held.config[name], name
        np.testing.assert_array_equal(run.radius, others[0].radius)
    if not asked:  # batches come in an order that is kind to the disk
        np.testing.assert_allclose(others[0].radius, whole.radius, rtol=0, atol=1e-4)


def test_the_defaults_of_the_command_line_are_those_of_the_library(here):
    assert fastent("run --data own.npz --epochs 2 --out out").exit_code == 0
    run, expected = fe.load_run(here / "out"), fe.train(here / "own.npz", epochs=2)
    np.testing.assert_array_equal(run.radius, expected.radius)
    shown = " ".join(fastent("run --help", COLUMNS="200").stdout.split())
    for said in ("[default: 20]", "[default: tanh]", "[default: 10]", "[default: 500; 1500 for digits]", "[default: all points]",
                 "[default: all; parity for data sets known by name]"):  # fmt: skip
        assert said in shown


@pytest.mark.parametrize("name", cli_experiments.EXPERIMENTS)
def test_the_defaults_in_the_help_of_an_experiment_are_those_of_its_function(name):
    parameters = inspect.signature(getattr(ex, name)).parameters
    for option, (_, _, default) in cli_experiments.EXPERIMENTS[name].own.items():
        assert parameters[option].default is None or str(parameters[option].default) == default


def test_the_title_of_a_run_counts_as_people_do():
    assert "digits: 1347 points, 1 seed, 1 epoch " in fastent("run --seeds 1 --epochs 1 --threads 1").stdout
    on_disk = replace(made_up_run(seeds=2, epochs=2), epoch=np.arange(3.0))
    assert "made up: 200 points, 2 seeds, 2 epochs " in printed(on_disk)
    assert "2 seeds, 0.50 epochs " in printed(replace(on_disk, epoch=np.array([0, 0.25, 0.5])))


def printed(run):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print_run(run)
    return out.getvalue()


def test_a_measurement_is_written_before_another_process_may(here, monkeypatch):
    written = measurement.write_measurement_report

    def write(*given, **options):
        with pytest.raises(fe.FastentError, match="another process writes to"), alone_in(here / "out"):
            pass
        written(*given, **options)

    monkeypatch.setattr(measurement, "write_measurement_report", write)
    result = fastent("measure X.npy y.npy --metrics margins --out out")
    assert result.exit_code == 0, result.output
    assert (here / "out" / "report.html").exists()


def test_names_that_look_like_markup_are_shown(here, monkeypatch):
    captured = fastent("capture --model net:make --data X.npy --layers fc --out 'acts[/v2]'")
    assert captured.exit_code == 0, captured.output
    assert "300 rows in acts[/v2]" in captured.stdout
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_name", lambda: "[/cpu]")
    assert "[/cpu]" in fastent("info").stdout
    monkeypatch.setattr(cli_bench, "_suite", lambda: Path())
    monkeypatch.setattr(cli_bench, "_run", lambda *asked: BENCHED | {"machine": {"processor": "[/cpu]", "threads": 2}})
    assert "[/cpu], 2 threads" in fastent("bench").stdout


@pytest.fixture
def config(here):
    def write(text):
        (here / "options.toml").write_text(text)
        return "--config options.toml"

    return write


def test_options_of_a_file_are_those_of_the_command_line(config, here):
    given = config('data = "own.npz"\nclasses = "all"\nhidden = [6, 5]\nlr = 0.05\nseeds = 3\nepochs = 2\ntest_every = 1\n')
    result = fastent(f"run {given} --seeds 1 --out out")
    assert result.exit_code == 0, result.output
    run = fe.load_run(here / "out")
    assert run.config["hidden"] == [6, 5]
    assert run.config["lr"] == 0.05
    assert run.n_seeds == 1  # the command line wins
    assert len(run.classes) == 10


def test_a_flag_and_an_experiments_own_option_in_a_file(config, here):
    assert fastent(f"measure X.npy y.npy --out m {config('normalize = true')}").exit_code == 0
    assert json.loads((here / "m" / "summary.json").read_text())["normalize"]
    found = fastent(f"experiment stability --json {config('pairs = 3' + chr(10) + 'times = [2, 4]')} --epochs 4 --seeds 1")
    assert json.loads(found.stdout)["config"]["times"] == [2, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sedes = 1", "options.toml: fastent run has no option 'sedes': did you mean seeds or seed?"),
        ("zzz = 1", "options.toml: fastent run has no option 'zzz': see fastent run --help"),
        ("[run]\nseeds = 1", "options.toml: fastent run has no option 'run': see fastent run --help"),
        ("[seeds]\nrun = 1", "options.toml: seeds = {'run': 1}: a table has no meaning here, write the options one below the other"),
        ('seeds = "many"', "options.toml: seeds = 'many': "),
        ("grayscale = 3", "options.toml: grayscale = 3: true or false is needed"),
        ("seeds = true", "options.toml: seeds = True: a value is needed"),
        ("seeds = ", "options.toml is no TOML ("),
    ],
)  # fmt: skip
def test_what_a_file_gets_wrong_is_one_line(config, text, said):
    result = fastent(f"run {config(text)}")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"fastent: error: {said}")
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_there():
    assert "nothing at 'nowhere.toml': check the path" in fastent("run --config nowhere.toml").stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("exp", ["experiment"]),
        ("experiment st", ["stability", "stopping"]),
        ("run --data mn", ["mnist"]),
        ("run --data X", ["X.npy"]),
        ("run --model c", ["cnn"]),
        ("run --classes ", ["parity", "all"]),
        ("measure X.npy y.npy --metrics mi", ["mixing"]),
        ("measure X.npy y.npy --metrics mixing,mar", ["mixing,margins"]),
        ("experiment dynamics --optimizer ", ["sgd", "adam"]),
        ("capture --pooling m", ["mean"]),
    ],
)
def test_the_shell_completes_values(here, typed, offered):
    words = f"fastent {typed}"
    asked = {"_FASTENT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(typed.split(" ")))}
    assert RUNNER.invoke(app, [], env=asked, prog_name="fastent").stdout.split() == offered


@pytest.mark.parametrize(("columns", "classes"), [(120, 2), (60, 2), (60, 10), (40, 10)])
def test_the_table_of_a_run_fits(columns, classes, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    run = made_up_run(seeds=3, classes=tuple(range(classes)))
    headings, rows = readable_rows(run)
    dispensable = DISPENSABLE
    table = fitting_table("<title> [of] it", headings, rows, "Below.", dispensable=dispensable)
    shown = drawn(table, columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert "\u2026" not in shown
    for row in rows:
        assert row[2] in shown  # eps*
    if columns == 60 and classes == 2:
        assert all(word in shown for heading in headings for word in heading.split())
    left_out = [heading for heading in dispensable if heading.split(" ")[0] not in shown.split("Below.")[0]]
    assert ("Columns hidden to fit the terminal" in " ".join(shown.split())) == bool(left_out)


def drawn(renderable, columns):
    from rich.console import Console

    console = Console(width=columns, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def test_other_results_fit_in_60_columns():
    rng = np.random.default_rng(0)
    measured = fe.measure(rng.standard_normal((90, 3)), np.arange(90) % 3, metrics=["geometry", "mixing"])
    for result in (pruned(), generalized(), measured, fe.compare([measured, measured])):
        shown = drawn(result, 60)
        assert max(map(len, shown.splitlines())) <= 60
        assert "\u2026" not in shown
    assert "neighbours with the same label" in drawn(measured, 80)


def terminal(arguments, **environment):
    """What a terminal shows that stdout and stderr of a command lead to."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | environment
    process = subprocess.Popen([sys.executable, *arguments], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux's way to say that it is over
        pass
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


BAR = """
from fastent.runtime.progress import reporting
from fastent.cli.output import show
from rich.table import Table
with reporting(True, "working", 2) as report:
    report(1, "half")
show(Table("a heading", title="[bold red]a title[/]"))
"""


@pytest.mark.spawn
def test_terminals_without_colours_and_without_control_characters():
    coloured = terminal(["-c", BAR], TERM="xterm-256color", COLUMNS="60")
    assert "31m" in coloured
    assert "working" in coloured
    bold = terminal(["-c", BAR], TERM="xterm-256color", NO_COLOR="1", COLUMNS="60")
    assert "31m" not in bold
    assert "a title" in bold
    dumb = terminal(["-c", BAR], TERM="dumb")
    assert "\x1b" not in dumb
    assert "a heading" in dumb


@pytest.mark.spawn
def test_a_pipe_gets_text_and_no_progress():
    result = subprocess.run([sys.executable, "-c", BAR], capture_output=True, text=True, check=True)
    assert "\x1b" not in result.stdout
    assert "a heading" in result.stdout
    assert result.stderr == ""


@pytest.mark.spawn
def test_the_package_is_the_command(tmp_path):
    command = [sys.executable, "-m", "fastent", "experiment", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "60"})
    assert "Usage: fastent experiment" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 60


@pytest.mark.spawn
def test_an_encoding_without_a_sign_prints_the_rest():
    code = "import sys; from fastent.cli.main import main; sys.argv = ['fastent', '--help']\ntry: main()\nexcept SystemExit: print('6.6 \u00b1 0.3')"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert result.stdout.isascii()
    assert result.stdout.endswith("6.6 ? 0.3\n")


def test_bench_shows_ratios_and_what_was_left_out(monkeypatch):
    monkeypatch.setattr(cli_bench, "_suite", lambda: Path())
    monkeypatch.setattr(cli_bench, "_run", lambda *asked: BENCHED)
    shown = fastent("bench").stdout
    assert "75.00" in shown
    assert "10 % of the points" in shown
    assert "Left out, 2 minutes were over: test_late." in shown
    assert strict(fastent("bench --json").stdout) == BENCHED


def test_bench_without_its_suite_or_its_peers(tmp_path, monkeypatch):
    def absent(module):
        return None if module in ("hnswlib", "skdim") else object()

    monkeypatch.setattr(cli_bench, "find_spec", absent)
    result = fastent("bench")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "fastent: error: the bench suite needs hnswlib, scikit-dimension: pip install '.[bench]' in the clone\n"
    )
    monkeypatch.setattr(cli_bench, "__file__", str(tmp_path / "fastent" / "cli" / "bench.py"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # where pytest-benchmark times nothing
    result = fastent("bench")
    assert result.exit_code == 2
    assert "no bench suite beside the package" in result.stderr
    assert "Clone the repository" in result.stderr


JOB = """
import time
from bench.scale import scaled

def test_tiny(side_by_side):
    seconds = scaled(100_000, 100) / 1e7
    side_by_side(lambda: time.sleep(seconds), {"twice": lambda: time.sleep(2 * seconds)}, job=f"sleeping {seconds} s")

def test_without_data():
    import pytest
    pytest.skip("no data")
"""


@pytest.mark.spawn
@pytest.mark.skipif(any(find_spec(module) is None for module in cli_bench._NEEDED), reason="without the bench extra")
def test_bench_runs_the_jobs_of_a_clone(tmp_path, monkeypatch):
    suite = Path(cli_bench.__file__).parents[2] / "bench"
    (tmp_path / "bench").mkdir()
    for name in ("__init__.py", "blas.py", "conftest.py", "machine.py", "revision.py", "run.py", "scale.py", "timing.py"):
        shutil.copy(suite / name, tmp_path / "bench" / name)
    (tmp_path / "bench" / "test_tiny.py").write_text(JOB)
    monkeypatch.setattr(cli_bench, "__file__", str(tmp_path / "fastent" / "cli" / "bench.py"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # where pytest-benchmark times nothing
    done = fastent("bench --minutes 1 --json")
    assert done.exit_code == 0, done.output
    result = strict(done.stdout)
    (job,) = result["jobs"]
    assert 0.02 < result["share"] < 0.5
    assert job["job"] == f"sleeping {round(1000 * result['share']) * 100 / 1e7} s"
    assert job["peers"]["twice"]["ratio"] > 0
    assert [each["because"] for each in result["skipped"]] == ["no data"]
    assert not (tmp_path / "bench" / "results").exists()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (5, "fastent: error: --only 'nonsense': no job has this in its name; try neighbors"),
        (1, "fastent: error: the bench suite failed"),
    ],
)
def test_bench_that_finds_or_finishes_nothing(status, said, monkeypatch):
    monkeypatch.setattr(cli_bench, "_suite", lambda: Path())
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: subprocess.CompletedProcess(arguments, status))
    result = fastent("bench --only nonsense")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(said)


def test_names_of_files_may_be_any_bytes(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/gr\xf6\xdfe")
    X = np.random.default_rng(0).standard_normal((30, 3))
    found = fe.measure(X, np.arange(30) % 2, k=3, metrics="mixing")
    found.save(folder, asked={"X": folder})
    assert json.loads(Path(folder, "summary.json").read_text())["asked"]["X"] == folder
    assert Path(folder, "per_point.parquet").stat().st_size > 0
    fe.compare([found, found]).to_parquet(f"{folder}/both.parquet")
    write_text(f"{folder}/page.html", f"{folder} größe \udcc3\udcb6 \ud800")
    written = Path(folder, "page.html").read_bytes().decode()
    assert written.endswith("größe \\udcc3\\udcb6 \\ud800")
    write_text(
        f"{folder}/page.html", "größe gr\udcc3\udcb6\udcc3\udc9fe gr\udcf6\udcdfe"
    )  # as a C locale decodes it, and latin-1
    assert Path(folder, "page.html").read_bytes().decode() == "größe größe gr\\xf6\\xdfe"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbfepochs = 2\r\nseeds = 1\r\n", None),
        ("epochs = 2".encode("utf-16"), "options.toml is no TOML, it is not in UTF-8"),
        (b"epochs = " + b"[" * 60_000, "options.toml is no TOML of options, it is nested too deeply"),
        (b"epochs = " + b"9" * 6000, "options.toml is no TOML (Exceeds the limit"),
        (b"epochs = 0x" + b"f" * 6000, "options.toml: epochs = a number of thousands of digits"),
        (b"epochs = 2020-01-01", "dates and times have no meaning here"),
        (b"hidden = [[3]]", "a list of plain values is needed"),
        (b"hidden = [{a = 1}]", "a list of plain values is needed"),
    ],
)
def test_odd_options_in_a_file(here, content, message):
    (here / "options.toml").write_bytes(content)
    done = fastent("run --data digits --json --config options.toml")
    if message is None:
        assert (done.exit_code, json.loads(done.stdout)["epochs"]) == (0, 2)
        return
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_options_in_a_folder(here):
    done = fastent("run --config .")
    assert (done.exit_code, done.stderr) == (2, "fastent: error: '.' is a folder: name a TOML file\n")


def test_rows_that_are_damaged_further_on(here):
    """Not only what is opened: what is met in the middle of a measurement ends in one line and status 2, too."""
    np.save(here / "y.npy", np.arange(60) % 2)
    zarr = pytest.importorskip("zarr")
    zarr.create_array("lost.zarr", shape=(60, 3), chunks=(20, 3), dtype="f4")[:40] = 1.0
    for command in ("measure lost.zarr y.npy", "run --data lost.zarr --labels y.npy --epochs 1 --seeds 1"):
        done = fastent(command)
        assert done.exit_code == 2
        assert "fastent: error: 'lost.zarr' lacks chunks, from row 40 on" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_measure_shows_pictures_of_the_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("X.npy", rng.standard_normal((40, 6)))
    np.save("y.npy", np.arange(40) % 2)
    np.save("pictures.npy", rng.integers(0, 256, (40, 5, 5), dtype=np.uint8))
    for arguments in (["X.npy", "y.npy", "--images", "pictures.npy"], ["pictures.npy", "y.npy"]):
        result = CliRunner().invoke(
            app, ["measure", *arguments, "--metrics", "margins", "--k", "3", "--out", "out", "--overwrite"]
        )
        assert result.exit_code == 0, result.output
        assert "Points deepest in another class" in Path("out/report.html").read_text()
    for wrong, why in (("X.npy", "holds no pictures"), ("few.npy", "has 3 pictures, X has 40 rows")):
        np.save("few.npy", np.zeros((3, 5, 5)))
        result = RUNNER.invoke(app, ["measure", "X.npy", "y.npy", "--images", wrong, "--out", "new"])
        assert result.exit_code == 2
        assert why in result.stderr
        assert not Path("new").exists()
