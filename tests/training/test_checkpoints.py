"""What is kept to go on from: a flipped bit is refused, other data and options are refused, and kills lose nothing."""

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import fastent as fe
from fastent.cli.main import app
from fastent.experiments._dynamics import dynamics
from fastent.experiments.setting import Setting
from fastent.io.checksums import (
    append_checksum,
    read_checked_npz,
    verify_checksum,
    with_checksum,
    without_checksum,
    write_checked_npz,
)
from fastent.io.result_cache import ResultCache
from fastent.io.store import open_store
from fastent.training import streamed_session, streamed_stragglers
from fastent.training.run import run_to_resume

STREAMED = {"hidden": (8,), "batch_size": 50, "queries": 40, "record_points": 200, "seeds": 1, "threads": 1}
SMALL = {"seeds": 1, "threads": 1}


def flip(path, position, bit=3):
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)


def some_positions(path, count, seed=0):
    """Some of a file's bytes, among them its first and last ones."""
    size = path.stat().st_size
    drawn = np.random.default_rng(seed).integers(0, size, count).tolist()
    return [0, size - 1, size - 82, *drawn]


def rows(n=400, d=10, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return rng.standard_normal((n, d)) + y[:, None], y


@pytest.fixture(scope="module")
def data():
    return rows()


# Seals


@pytest.mark.parametrize("compress", [True, False])
def test_any_flipped_bit_of_an_archive_is_refused(tmp_path, compress):
    path = tmp_path / "part.npz"
    arrays = {"counts": np.array([3, 1]), "values": np.linspace(0, 1, 50), "none": np.empty((0, 4))}
    write_checked_npz(path, arrays, compress=compress)
    whole = path.read_bytes()
    for position in range(len(whole)):
        flip(path, position, position % 8)
        for earlier in (True, False):
            with pytest.raises(fe.FastentError, match=re.escape(f"{str(path)!r}") + ".*: remove it$|; remove it$"):
                read_checked_npz(path, "remove it", earlier=earlier)
        path.write_bytes(whole)
    found = read_checked_npz(path, "remove it")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_other_programs_read_what_is_sealed(tmp_path):
    write_checked_npz(tmp_path / "a.npz", {"a": np.arange(5)})
    with np.load(tmp_path / "a.npz") as stored:
        assert stored["a"].tolist() == [0, 1, 2, 3, 4]
    torch.save({"w": torch.ones(3)}, tmp_path / "w.pt")
    append_checksum(tmp_path / "w.pt")
    verify_checksum(tmp_path / "w.pt", "")
    assert torch.load(tmp_path / "w.pt", weights_only=True)["w"].tolist() == [1, 1, 1]
    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        assert archive.comment.startswith(b"fastent sha256 ")
    with pytest.raises(ValueError, match="no ZIP archive without a comment"):
        append_checksum(tmp_path / "w.pt")


def test_an_archive_of_before_there_were_seals(tmp_path):
    np.savez(tmp_path / "old.npz", a=np.arange(3))
    assert read_checked_npz(tmp_path / "old.npz", "remove it", earlier=True)["a"].tolist() == [0, 1, 2]
    with pytest.raises(fe.FastentError, match="has no checksum: it is damaged, or of an earlier version of fastent; remove it"):
        read_checked_npz(tmp_path / "old.npz", "remove it")
    with pytest.raises(fe.FastentError, match=r"nothing at .*none\.npz': restore it, or remove it"):
        read_checked_npz(tmp_path / "none.npz", "remove it")


def test_values_of_json_have_a_checksum():
    values = {"b": [1, 2.5, None], "a": {"x": "y"}}
    kept = json.loads(json.dumps(with_checksum(values)))
    assert without_checksum(kept) == values
    for wrong in ({**kept, "b": [1, 2.5]}, {**kept, "c": 1}, {"b": kept["b"], "checksum": kept["checksum"]}, values):
        with pytest.raises(ValueError, match="its checksum does not agree"):
            without_checksum(wrong)


# Flipped bits in what commands and functions keep


@pytest.mark.train
def test_flipped_bits_in_a_run(tmp_path):
    whole = fe.train("digits", epochs=6, **SMALL)
    fe.train("digits", epochs=4, **SMALL).save(tmp_path)
    path = tmp_path / "run.npz"
    kept = path.read_bytes()
    for position in some_positions(path, 20):
        flip(path, position)
        for use in (lambda: fe.load_run(tmp_path), lambda: fe.train("digits", epochs=6, **SMALL, resume=tmp_path)):
            with pytest.raises(fe.FastentError, match=r"run\.npz"):
                use()
        path.write_bytes(kept)
    np.testing.assert_array_equal(fe.train("digits", epochs=6, **SMALL, resume=tmp_path).radius, whole.radius)


def test_flipped_bits_in_a_streamed_checkpoint(tmp_path, data, monkeypatch):
    options = {**STREAMED, "record_every": 1}
    whole = fe.train_streamed(*data, epochs=3, **options)
    fe.train_streamed(*data, epochs=2, checkpoint=tmp_path, **options)
    # The last pass takes weights of an inversion, where there is one.
    weights = sorted((tmp_path / "checkpoint-weights").iterdir())
    assert len(weights) == 2
    monkeypatch.setattr(streamed_session.StreamedSession, "_targets", lambda self: {(0, 8): [0, 1, 2]})
    with_inversion = fe.train_streamed(*data, epochs=3, **options)
    for path in (tmp_path / "checkpoint.pt", tmp_path / "checkpoint-weights" / "network0-update8.pt"):
        before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
        for position in some_positions(path, 8):
            flip(path, position)
            with pytest.raises(fe.FastentError, match=re.escape(path.name) + r".*start anew \(resume=False, or --overwrite\)"):
                fe.train_streamed(*data, epochs=3, checkpoint=tmp_path, **options)
            for each, content in before.items():
                each.write_bytes(content)
    resumed = fe.train_streamed(*data, epochs=3, checkpoint=tmp_path, **options)
    np.testing.assert_array_equal(resumed.radius, whole.radius)
    np.testing.assert_array_equal(resumed.straggler_bits, with_inversion.straggler_bits)


def test_flipped_bits_in_the_parts_of_a_measurement(tmp_path, data):
    X, y = data
    whole = fe.measure(X, y, metrics=["mixing", "margins", "silhouette"]).summary()
    options = {"metrics": ["mixing", "margins", "silhouette"], "checkpoint": tmp_path}
    assert fe.measure(X, y, **options).summary() == whole
    kept = sorted((tmp_path / "measure-parts").iterdir())
    assert {path.name.split("-")[0] for path in kept} == {"own", "other", "pairs"}
    for path in kept:
        before = path.read_bytes()
        for position in some_positions(path, 5):
            flip(path, position)
            with pytest.raises(fe.FastentError, match=re.escape(path.name) + ".*remove"):
                fe.measure(X, y, **options)
        path.write_bytes(before)
    assert fe.measure(X, y, **options).summary() == whole
    kept[0].unlink()
    assert fe.measure(X, y, **options).summary() == whole


def test_flipped_bits_in_a_store(tmp_path):
    X, y = (torch.from_numpy(part) for part in rows(60, 6))
    model = torch.nn.Linear(6, 4)

    def capture():
        return fe.capture(model, DataLoader(TensorDataset(X.float(), y), batch_size=10), [""], tmp_path, shard_rows=20)

    def read():
        store = open_store(tmp_path)
        return store.layer("")[:], store.layer("")[[3, 50]], store.labels

    capture()
    whole = read()
    manifest = tmp_path / "manifest.json"
    for path in (tmp_path / "00-model.00001.npy", tmp_path / "labels.00002.npy", manifest):
        before = path.read_bytes()
        for position in some_positions(path, 60 if path == manifest else 10):
            flip(path, position, position % 7)
            for use in (read, capture):
                with pytest.raises(fe.FastentError, match=re.escape(path.name)):
                    use()
            path.write_bytes(before)
    for found, expected in zip(read(), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_flipped_bits_in_the_parts_of_an_experiment(tmp_path):
    dynamics("digits", epochs=5, out=tmp_path, **SMALL)
    (place,) = (tmp_path / "parts").iterdir()
    for position in some_positions(place / "run.npz", 3):
        before = (place / "run.npz").read_bytes()
        flip(place / "run.npz", position)
        with pytest.raises(fe.FastentError, match=f"remove {str(place)!r}, so that it is trained again"):
            dynamics("digits", epochs=5, out=tmp_path, **SMALL)
        (place / "run.npz").write_bytes(before)
    tables_of = {name: (place / name).read_bytes() for name in ("config.json", "summary.json", "curves.parquet")}
    for name in tables_of:
        flip(place / name, 40)
    dynamics("digits", epochs=5, out=tmp_path, **SMALL)
    assert {name: (place / name).read_bytes() for name in tables_of} == tables_of


def test_records_of_a_probe(tmp_path, data):
    X, y = data
    model = torch.nn.Sequential(torch.nn.Linear(10, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    probe = fe.Probe(model, DataLoader(TensorDataset(torch.from_numpy(X).float(), torch.from_numpy(y)), batch_size=50), ["1"])
    probe(0)
    probe.save(tmp_path)
    np.testing.assert_array_equal(fe.load_probe(tmp_path).radius, probe.records.radius)
    flip(tmp_path / "probe.npz", 300)
    with pytest.raises(fe.FastentError, match=r"probe\.npz' is damaged.*save the probe again"):
        fe.load_probe(tmp_path)


# What earlier versions kept


def unsealed(path):
    """The archive as it was before there were seals."""
    content = path.read_bytes()
    end = content.rindex(b"fastent sha256 ")
    path.write_bytes(content[: end - 2] + b"\0\0")


def test_what_earlier_versions_kept_is_refused_in_one_line(tmp_path, data):
    run = fe.train("digits", epochs=3, **SMALL)
    run.save(tmp_path / "run")
    with np.load(tmp_path / "run" / "run.npz") as stored:
        arrays = {name: stored[name] for name in stored.files if name != "fastent.sealed"}
    np.savez_compressed(tmp_path / "run" / "run.npz", **arrays)
    np.testing.assert_array_equal(fe.load_run(tmp_path / "run").radius, run.radius)  # to be looked at
    with pytest.raises(fe.FastentError, match=r"run\.npz' has no checksum.*earlier version"):
        run_to_resume(tmp_path / "run", "start anew")
    with pytest.raises(fe.FastentError, match=r"run\.npz' has no checksum.*earlier version"):
        fe.train("digits", epochs=5, **SMALL, resume=tmp_path / "run")
    fe.train_streamed(*data, epochs=1, checkpoint=tmp_path / "streamed", **STREAMED)
    unsealed(tmp_path / "streamed" / "checkpoint.pt")
    with pytest.raises(fe.FastentError, match=r"checkpoint\.pt' has no checksum.*start anew \(resume=False, or --overwrite\)"):
        fe.train_streamed(*data, epochs=2, checkpoint=tmp_path / "streamed", **STREAMED)
    fe.train_streamed(*data, epochs=2, checkpoint=tmp_path / "streamed", resume=False, **STREAMED)


def test_a_run_that_lost_its_seal_is_none_of_an_earlier_version(tmp_path):
    fe.train("digits", epochs=3, **SMALL).save(tmp_path)
    unsealed(tmp_path / "run.npz")
    with pytest.raises(fe.FastentError, match="is damaged, its checksum"):
        fe.load_run(tmp_path)


# Other data and other options


def test_streamed_training_goes_on_with_the_same_rows_alone(tmp_path, data):
    X, y = data
    test = {"test": X[:60], "test_labels": y[:60]}
    fe.train_streamed(X, y, epochs=1, checkpoint=tmp_path, **test, **STREAMED)
    for row in (1, 5, 398):  # none that a sample of 256 rows would have to hold
        other = X.copy()
        other[row, 3] += 1e-9
        with pytest.raises(
            fe.FastentError, match=r"has other training points \(fingerprint .*use the same data, or start anew"
        ):
            fe.train_streamed(other, y, epochs=2, checkpoint=tmp_path, **test, **STREAMED)
    labels = y.copy()
    labels[7] = (labels[7] + 1) % 3
    for changed, what in (
        ((X, labels, test), "other training classes"),
        ((X, y + 10, {"test": X[:60], "test_labels": y[:60] + 10}), "other labels"),
        ((X, y, {"test": X[1:61], "test_labels": y[:60]}), "other test points"),
        ((X, y, {"test": X[:60], "test_labels": labels[:60]}), "other test classes"),
        ((X, y, {}), "other test points, and now there are none"),
    ):
        with pytest.raises(fe.FastentError, match=f"the run to resume has {what}"):
            fe.train_streamed(*changed[:2], epochs=2, checkpoint=tmp_path, **changed[2], **STREAMED)
    resumed = fe.train_streamed(X, y, epochs=2, checkpoint=tmp_path, **test, **STREAMED)
    np.testing.assert_array_equal(resumed.radius, fe.train_streamed(X, y, epochs=2, **test, **STREAMED).radius)
    assert resumed.config["fingerprint"] == fe.train_streamed(X, y, epochs=1, **test, **STREAMED).config["fingerprint"]


@pytest.mark.parametrize("standardize", ["safe", "none"])
def test_the_fingerprint_is_of_every_row_wherever_they_lie(tmp_path, data, standardize):
    X, y = data
    np.save(tmp_path / "X.npy", X)
    kept, stored = (
        fe.train_streamed(source, y, epochs=1, standardize=standardize, **STREAMED).config for source in (X, tmp_path / "X.npy")
    )
    assert kept["fingerprint"] == stored["fingerprint"]
    assert kept["digests"] == stored["digests"]


def test_weights_that_were_thinned_belong_to_a_rule(tmp_path, data, monkeypatch):
    options = {**STREAMED, "record_every": 0.25, "checkpoint": tmp_path}
    fe.train_streamed(*data, epochs=1, **options)
    fe.train_streamed(*data, epochs=2, min_rise=0.2, **options)  # all weights are there
    monkeypatch.setattr(streamed_stragglers, "_MOST_KEPT", 8)
    fe.train_streamed(*data, epochs=4, min_rise=0.2, **options)
    with pytest.raises(fe.FastentError, match=r"has min_rise=0\.2, not 0\.1"):
        fe.train_streamed(*data, epochs=5, min_rise=0.1, **options)


def test_training_in_memory_says_what_differs(data):
    X, y = data
    parts = (X[:300], y[:300], X[300:], y[300:])
    run = fe.train(parts, epochs=2, **SMALL)
    for i, what in ((0, "training points"), (1, "training classes"), (2, "test points"), (3, "test classes")):
        changed = [part.copy() for part in parts]
        if i % 2:
            changed[i][0] = (changed[i][0] + 1) % 3
        else:
            changed[i][0, 0] += 1
        with pytest.raises(fe.FastentError, match=f"the run to resume has other {what} .fingerprint"):
            fe.train(tuple(changed), epochs=3, resume=run, **SMALL)
    old = replace(run, config={name: value for name, value in run.config.items() if name != "digests"})
    with pytest.raises(fe.FastentError, match="other training or test points"):
        fe.train((X[1:301], *parts[1:]), epochs=3, resume=old, **SMALL)
    assert fe.train(parts, epochs=3, resume=old, **SMALL).complete


def test_parts_of_another_format_are_other_parts(tmp_path, monkeypatch):
    made = []
    for number in (1, 2, 2):
        monkeypatch.setattr("fastent.io.result_cache._FORMAT", number)
        ResultCache(tmp_path).keep("a", {}, lambda: made.append(1) or {"x": np.ones(2)})
    assert len(made) == 2


# Kills between one file and the next


class Killed(BaseException):
    pass


def test_an_experiment_killed_before_its_tables_writes_them(tmp_path, monkeypatch):
    def kill(run, folder):
        raise Killed

    setting = Setting.make("digits", seeds=1, out=tmp_path, options={"epochs": 5, "threads": 1})
    with monkeypatch.context() as patch:
        patch.setattr("fastent.training.run.write_tables", kill)
        with pytest.raises(Killed):
            setting.train("base")
    (place,) = (tmp_path / "parts").iterdir()
    assert [path.name for path in place.iterdir()] == ["run.npz"]
    monkeypatch.setattr("fastent.experiments.setting.train", kill)  # the run itself is there
    setting.train("base")
    assert sorted(path.name for path in place.iterdir()) == [
        "config.json", "curves.parquet", "run.npz", "stragglers.parquet", "summary.json",
    ]  # fmt: skip


@pytest.mark.spawn
@pytest.mark.train
def test_kills_and_flips_of_the_benchmark():
    """`bench/kills.py` does 200 of each: here a kill and two flips of each of two jobs."""
    command = [sys.executable, "-m", "bench.kills", "--jobs", "run", "capture", "--kills", "2", "--flips", "4", "--seed", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
    for line in ended.stdout.splitlines():
        (figures,) = json.loads(line).values()
        assert figures["kills"]["kills"] == 1
        assert figures["flips"]["flips"] == 2


# The command line


def fastent(*arguments):
    """Exit status and all that is said, of a command in this process."""
    ended = CliRunner().invoke(app, [*map(str, arguments)])
    return ended.exit_code, " ".join(ended.output.split())


def test_a_run_that_is_longer_than_asked_for_is_refused_and_one_that_is_resumed_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ("run", "--seeds", 1, "--threads", 1, "--out", "out", "--epochs")
    assert "asked for" not in fastent(*run, 4)[1]
    kept = (tmp_path / "out" / "run.npz").read_bytes()
    status, said = fastent(*run, 3)
    assert status == 2
    assert "'out' holds a run of 4 epochs, more than --epochs 3: ask for 4, choose another folder, or --overwrite" in said
    assert (tmp_path / "out" / "run.npz").read_bytes() == kept
    status, said = fastent(*run, 6)
    assert status == 0
    assert "fastent: training resumes from epoch 4 of 6" in said
    assert "resumes" not in fastent(*run, 6)[1]
    status, said = fastent(*run, 5, "--classes", "all")
    assert status == 2
    assert "has classes='parity', not 'all' (by default 'parity' for the data sets known by name and 'all' for" in said


@pytest.mark.train
def test_experiments_replace_no_other_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask = ("experiment", "dynamics", "--seeds", 1, "--threads", 1, "--out", "out", "--epochs")
    assert fastent(*ask, 4)[0] == 0
    before = (tmp_path / "out" / "dynamics.json").read_bytes()
    for options, message in (
        ((5,), "'out' holds a result of dynamics with epochs=4, not 5: choose another folder, or --overwrite"),
        ((4, "--lr", 0.2), "'out' holds a result of dynamics with lr=None, not 0.2"),
        ((4, "--exclude", "first.npy"), "'out' holds a result of dynamics with exclude=[], not [0]"),
    ):
        np.save("first.npy", np.array([0]))
        status, said = fastent(*ask, *options)
        assert status == 2
        assert message in said
        assert (tmp_path / "out" / "dynamics.json").read_bytes() == before
    assert fastent("run", "--epochs", 2, "--out", "out")[0] == 2
    assert fastent(*ask, 4)[0] == 0
    assert fastent(*ask, 5, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "out" / "dynamics.json").read_text())["config"]["epochs"] == 5
    (tmp_path / "out" / "dynamics.json").write_bytes(b"{")
    assert "dynamics.json' is damaged" in fastent(*ask, 5)[1]
    fe.train("digits", epochs=2, **SMALL).save(tmp_path / "run")
    assert "'run' holds a run" in fastent("experiment", "dynamics", "--epochs", 2, "--out", "run")[1]


def test_experiments_of_other_data_are_told_by_their_fingerprint(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    X, y = data
    ask = ("experiment", "dynamics", "--data", "own.npz", "--seeds", 1, "--threads", 1, "--out", "out", "--epochs", 3)
    for shift, expected in ((0, 0), (1, 2)):
        np.savez("own.npz", X=X + shift * np.eye(len(X), 10), y=y)
        status, said = fastent(*ask)
        assert status == expected, said
    assert "'out' holds a result of dynamics with other data (fingerprint " in said
