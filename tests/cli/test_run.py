import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer

import fastent as fe
from fastent.cli.options import plain_errors
from fastent.io.files import alone_in
from tests.command import fastent

RUN = [sys.executable, "-m", "fastent.cli.main", "run"]
KEEPS_OFTEN = """
import importlib
from fastent.cli.main import main

importlib.import_module("fastent.training.in_memory_session")._CHECKPOINT_SECONDS = 0.1
main()
"""


@pytest.mark.train
@pytest.mark.spawn
def test_run_ends_in_a_table_and_the_files(tmp_path):
    out = tmp_path / "a folder"
    command = [*RUN, "--epochs", "400", "--seeds", "3", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "digits: 1347 points, 3 seeds, 400 epochs" in result.stdout
    assert "classes by parity: even against odd" in result.stdout
    assert "3/3" in result.stdout
    assert "peak memory" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "curves.parquet", "report.html", "run.npz", "stragglers.csv", "stragglers.parquet",
        "summary.json",
    ]  # fmt: skip
    numbers = json.loads((out / "summary.json").read_text())
    run = fe.load_run(out)
    assert numbers["classes"][0]["train_error"] == pytest.approx(np.mean([i.train_error for i in run.inversion[:, 0, 0]]))
    assert pq.read_table(out / "stragglers.parquet").num_rows == (run.stragglers.any(0)).sum()
    config = json.loads((out / "config.json").read_text())
    assert config["command"].startswith("fastent run --epochs 400")


def test_every_option_reaches_the_run(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.standard_normal((80, 4)))
    np.save(tmp_path / "y.npy", rng.integers(0, 3, 80))
    np.save(tmp_path / "out.npy", np.array([0]))
    options = {
        "data": "X.npy", "labels": "y.npy", "subset": 50, "subset-seed": 4, "classes": "all", "standardize": "paper",
        "hidden": "6,5", "activation": "relu", "seeds": 2, "seed": 3, "epochs": 30, "lr": 0.05, "optimizer": "sgd",
        "momentum": 0.5, "test-every": 7, "dtype": "float64", "device": "cpu", "threads": 1, "out": "out",
    }  # fmt: skip
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = fastent("run", *arguments, cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    run = fe.load_run(tmp_path / "out")
    data = fe.load_data(
        tmp_path / "X.npy", labels=tmp_path / "y.npy", subset=50, subset_seed=4, classes="all", standardize="paper"
    )
    expected = fe.train(
        data, hidden=(6, 5), activation="relu", seeds=2, seed=3, epochs=30, lr=0.05, momentum=0.5, test_every=7,
        dtype="float64", device="cpu", threads=1,
    )  # fmt: skip
    np.testing.assert_array_equal(run.radius, expected.radius)
    np.testing.assert_array_equal(run.index, expected.index)
    assert run.config["threads"] == 1


def test_excluded_rows_are_left_out(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(7))
    assert fastent("run", "--epochs", "2", "--exclude", "rows.npy", "--out", "out", cwd=tmp_path).exit_code == 0
    assert len(fe.load_run(tmp_path / "out").index) == 1347 - 7


def test_stragglers_of_a_run_are_left_out_by_the_files_that_it_wrote(tmp_path):
    options = ("run", "--seeds", "2", "--epochs", "250")
    assert fastent(*options, "--out", "first", "--no-predictions", cwd=tmp_path).exit_code == 0
    first = fe.load_run(tmp_path / "first")
    expected = np.setdiff1d(first.index, first.index[first.stragglers.any(0)])
    assert 0 < len(expected) < len(first.index)
    for name in ("first/stragglers.csv", "first/stragglers.parquet"):
        result = fastent("run", "--epochs", "2", "--exclude", name, "--out", "out", "--overwrite", cwd=tmp_path)
        assert result.exit_code == 0, result.stderr
        assert f"{len(first.index) - len(expected)} rows are left out, all that {name!r} lists" in result.stderr
        np.testing.assert_array_equal(fe.load_run(tmp_path / "out").index, expected)
    by_name = fe.load_data("digits", exclude=tmp_path / "first" / "stragglers.csv:index")
    np.testing.assert_array_equal(by_name.index, expected)
    for name, said in (
        ("curves.parquet", "'index' is not among them: name one of these"),
        ("none.csv", "nothing at"),
        ("config.json", "is no .npy"),
    ):
        result = fastent("run", "--exclude", f"first/{name}", cwd=tmp_path)
        assert result.exit_code == 2
        assert said in result.stderr


@pytest.mark.parametrize("name", ["stragglers.csv", "stragglers.parquet"])
def test_a_run_without_stragglers_leaves_no_row_out(tmp_path, name):
    first = fastent("run", "--seeds", "1", "--epochs", "1", "--out", "first", "--no-predictions", "--map", "none", cwd=tmp_path)
    assert first.exit_code == 0, first.stderr
    result = fastent("run", "--seeds", "1", "--epochs", "1", "--exclude", f"first/{name}", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert f"0 rows are left out, all that 'first/{name}' lists" in result.stderr
    assert len(fe.load_data("digits", exclude=tmp_path / "first" / name).index) == 1347


def test_rows_are_said_to_be_left_out_once_that_is_known(tmp_path):
    np.save(tmp_path / "rows.npy", [1, 5000])
    result = fastent("run", "--epochs", "1", "--exclude", "rows.npy", cwd=tmp_path)
    assert result.exit_code == 2
    assert "left out" not in result.stderr


@pytest.mark.train
@pytest.mark.spawn
def test_interrupted_and_continued_is_the_run_without_interruption(tmp_path):
    out = tmp_path / "out"
    arguments = ["run", "--seeds", "2", "--epochs", "20000", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPS_OFTEN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out / "run.npz").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    partial = fe.load_run(out)
    assert not partial.complete
    assert (out / "report.html").exists()
    assert "interrupted" in errors.lower()
    arguments[4] = str(partial.epoch[-1] + 50)
    assert fastent(*arguments).exit_code == 0
    whole = fe.train("digits", seeds=2, epochs=int(partial.epoch[-1]) + 50)
    np.testing.assert_array_equal(fe.load_run(out).radius, whole.radius)


def test_an_interruption_says_what_is_kept(tmp_path, capsys):
    @plain_errors
    def command(out):
        raise KeyboardInterrupt

    (tmp_path / "part").touch()
    for out, said in (
        (None, "interrupted\n"),
        (tmp_path / "none", "interrupted\n"),
        (tmp_path, f"resumes from what {tmp_path} keeps\n"),
    ):
        with pytest.raises(typer.Exit):
            command(out=out)
        assert said in capsys.readouterr().err


def test_a_run_that_is_there_already_is_not_trained_again(tmp_path):
    arguments = ["run", "--epochs", "40", "--seeds", "1", "--out", str(tmp_path)]
    assert fastent(*arguments).exit_code == 0
    before = fe.load_run(tmp_path)
    assert fastent(*arguments).exit_code == 0
    after = fe.load_run(tmp_path)
    assert after.seconds == before.seconds
    np.testing.assert_array_equal(before.radius, after.radius)


def test_report_is_written_anew(tmp_path):
    assert fastent("run", "--epochs", "60", "--seeds", "1", "--out", str(tmp_path)).exit_code == 0
    first = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    assert fastent("report", str(tmp_path)).exit_code == 0
    assert (tmp_path / "report.html").read_text() == first


def test_info():
    result = fastent("info")
    assert result.exit_code == 0, result.stderr
    for word in ("fastent", "numba", "torch", "threads", "SIMD", "devices", "kernel cache", "prebuilt kernels"):
        assert word in result.stdout


def test_help_teaches():
    result = fastent("run", "--help")
    assert result.exit_code == 0
    assert "fastent run --out digits" in result.stdout


def test_measure_ends_in_a_table_and_the_files(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    X = rng.standard_normal((400, 6)) + y[:, None]
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    np.savez(tmp_path / "labels.npz", y=np.array(["a", "<b>", "c"])[y], other=y)
    result = fastent("measure", "X.npy", "labels.npz", "--queries", "150", "--k", "7", "--out", "out", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "no N1 and no T1: they take all rows" in result.stderr
    assert "400 points x 6 features, 3 classes, rows as given" in result.stdout
    assert "95 % interval" in result.stdout
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "differences.npz", "per_point.parquet", "report.html", "summary.json",
    ]  # fmt: skip
    numbers = json.loads((out / "summary.json").read_text())
    found = fe.measure(X.astype(np.float16), np.array(["a", "<b>", "c"])[y], k=7, queries=150)
    for name, value in found.summary().items():
        stored = numbers["statistics"][name]["value"]
        assert stored == (pytest.approx(value, rel=1e-6) if np.isfinite(value) else None), name
    assert numbers["statistics"]["mixing/overlap"]["low"] < found.mixing.overlap
    assert pq.read_table(out / "per_point.parquet").num_rows == 150
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "fastent measure X.npy" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page.split("<main>")[1].split("</main>")[0]


def test_every_option_reaches_the_measurement(tmp_path):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "a.npz", layer=rng.standard_normal((300, 5)), y=rng.integers(0, 3, 300))
    result = fastent(
        "measure", "a.npz:layer", "a.npz", "--metrics", "mixing,soft_nearest_neighbor", "--normalize", "--temperature", "0.3",
        "--seed", "4", "--k", "6", "--queries", "100", "--memory", "2GiB", "--threads", "1", "--out", "out", cwd=tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "a.npz") as stored:
        found = fe.measure(
            stored["layer"], stored["y"], metrics=["mixing", "soft_nearest_neighbor"], normalize=True, temperature=0.3, seed=4,
            k=6, queries=100,
        )  # fmt: skip
    numbers = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert numbers["normalize"]
    expected = {name: None if np.isnan(value) else pytest.approx(value, rel=1e-6) for name, value in found.summary().items()}
    assert {name: each["value"] for name, each in numbers["statistics"].items()} == expected
    assert "1 thread," in result.stdout


@pytest.fixture
def stored(tmp_path):
    """Points in shards whose names have no leading zeros, as most people write them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 1200)
    X = rng.standard_normal((1200, 5)).astype(np.float32)
    X[:, 0] += 9 * y
    (tmp_path / "shards").mkdir()
    for i, part in enumerate(np.array_split(X, 12)):
        np.save(tmp_path / "shards" / f"{i}.npy", part)
    np.save(tmp_path / "y.npy", y)
    return tmp_path, X, y


def test_shards_come_in_the_order_of_their_numbers(stored):
    folder, X, y = stored
    np.testing.assert_array_equal(fe.open(folder / "shards")[:], X)
    result = fastent(
        "measure", str(folder / "shards"), str(folder / "y.npy"), "--metrics", "mixing", "--out", str(folder / "out")
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads((folder / "out" / "summary.json").read_text())["statistics"]["mixing/overlap"]["value"]
    assert found == fe.mixing(fe.neighbors(X), y).overlap


def test_a_measurement_replaces_only_itself(stored):
    folder, _, _ = stored
    command = ["measure", "shards", "y.npy", "--metrics", "geometry", "--out", "out"]
    assert fastent(*command, cwd=folder).exit_code == 0
    assert fastent(*command, cwd=folder).exit_code == 0
    other = [*command[:-1], "out", "--normalize"]
    refused = fastent(*other, cwd=folder)
    assert refused.exit_code == 2
    assert "holds a measurement with normalize=False, not True: choose another folder, or --overwrite" in refused.stderr
    assert fastent(*other, "--overwrite", cwd=folder).exit_code == 0
    (folder / "run").mkdir()
    (folder / "run" / "report.html").write_text("of a run")
    refused = fastent(*command[:-1], "run", cwd=folder)
    assert refused.exit_code == 2
    assert "holds other results" in refused.stderr


@pytest.mark.spawn
def test_results_are_there_when_the_reader_of_the_table_has_gone(stored):
    folder, _, _ = stored
    command = f"{sys.executable} -m fastent measure shards y.npy --out out | head -2"
    subprocess.run(
        command, shell=True, cwd=folder, check=False, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    assert {path.name for path in (folder / "out").iterdir()} == {
        "differences.npz", "per_point.parquet", "report.html", "summary.json",
    }  # fmt: skip


def test_a_folder_of_the_name_of_a_data_set_is_no_data_set(tmp_path):
    (tmp_path / "digits").mkdir()
    result = fastent("run", "--epochs", "2", "--seeds", "1", "--out", "digits", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr


def test_a_folder_that_another_process_writes_to_is_refused(stored):
    folder, _, _ = stored
    (folder / "out").mkdir()
    with alone_in(folder / "out"):
        result = fastent("run", "--epochs", "2", "--out", str(folder / "out"))
    assert result.exit_code == 2
    assert "another process writes to" in result.stderr
