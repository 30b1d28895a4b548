"""Runs and probes from disk: arrays that do not fit each other or the configuration are refused, not looked at."""

import json

import numpy as np
import pytest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastent as fe
from fastent.data.training_set import reload_data
from fastent.io.checksums import read_checked_npz, write_checked_npz


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    fe.train("digits", seeds=2, epochs=3, hidden=(4, 3)).save(folder / "run")
    import torch

    rows = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    probe = fe.Probe(
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), DataLoader(TensorDataset(rows, torch.arange(20) % 2)), ["0"]
    )
    for step in range(3):
        probe(step)
    probe.save(folder / "probe")
    return {name: read_checked_npz(folder / name / f"{name}.npz", "") for name in ("run", "probe")}


def write(folder, name, arrays):
    write_checked_npz(folder / f"{name}.npz", arrays)
    return folder


def with_config(arrays, **changes):
    config = json.loads(str(arrays["config"])) | changes
    return arrays | {"config": np.array(json.dumps({name: value for name, value in config.items() if value != "left out"}))}


WRONG = {
    "a seed less": lambda a: a | {"radius": a["radius"][:1]},
    "a record less": lambda a: a | {"epoch": a["epoch"][:-1]},
    "a layer less": lambda a: a | {"radius": a["radius"][:, :, :1]},
    "a class more": lambda a: a | {"classes": np.arange(3)},
    "a point less": lambda a: a | {"labels": a["labels"][1:]},
    "bits for fewer points": lambda a: a | {"wrong": a["wrong"][..., 1:]},
    "bits that are none": lambda a: a | {"wrong": a["wrong"].astype(np.uint16)},
    "text for numbers": lambda a: a | {"radius": a["radius"].astype(str)},
    "one number": lambda a: a | {"radius": np.float64(1)},
    "codes beyond the classes": lambda a: a | {"codes": a["codes"] + 1},
    "negative codes": lambda a: a | {"codes": a["codes"] - 1},
    "epochs that descend": lambda a: a | {"epoch": a["epoch"][::-1]},
    "epochs that are none": lambda a: a | {"epoch": np.full(len(a["epoch"]), np.nan)},
    "points beyond the last": lambda a: a | {"recorded": np.arange(len(a["index"])) + 5},
    "a matrix of time": lambda a: a | {"seconds": np.zeros((2, 2))},
    "no networks": lambda a: a | {"radius": a["radius"][:0], "train_error": a["train_error"][:0]},
    "a configuration that is none": lambda a: a | {"config": np.arange(3)},
    "a configuration of bytes": lambda a: a | {"config": np.array(b"{}")},
    "a list": lambda a: a | {"config": np.array("[]")},
    "a configuration that nests": lambda a: a | {"config": np.array("[" * 60_000)},
    "no JSON": lambda a: a | {"config": np.array("{")},
    "no epochs": lambda a: with_config(a, epochs="left out"),
    "epochs in words": lambda a: with_config(a, epochs="three"),
    "more epochs than there are numbers": lambda a: with_config(a, epochs=10**400),
    "epochs without end": lambda a: with_config(a, epochs=float("inf")),
    "other seeds": lambda a: with_config(a, seeds=3),
    "other layers": lambda a: with_config(a, hidden=[4]),
    "batches of nothing": lambda a: with_config(a, batch_size=0),
    "classes in a list": lambda a: with_config(a, classes=["parity"]),
    "one digest": lambda a: with_config(a, digests="0123456789abcdef"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_run_that_does_not_fit(tmp_path, stored, wrong):
    write(tmp_path, "run", WRONG[wrong](stored["run"]))
    with pytest.raises(fe.FastentError, match=r"run\.npz' is (damaged or )?no run of fastent's .*: train it again") as error:
        fe.load_run(tmp_path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


def test_a_run_that_fits(tmp_path, stored):
    run = fe.load_run(write(tmp_path, "run", stored["run"]))
    assert run.radius.shape == (2, 4, 2, 2)
    # As versions before wrote it, without what came later, and without a checksum.
    before = {
        name: array for name, array in stored["run"].items() if name not in ("mixing", "neighbor_error", "seconds_recording")
    }
    np.savez(tmp_path / "run.npz", **before)
    np.testing.assert_array_equal(fe.load_run(tmp_path).radius, run.radius)


def test_a_configuration_without_its_data(stored):
    with pytest.raises(fe.FastentError, match="the configuration of the run lacks source"):
        reload_data({"data": "digits"})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a | {"radius": a["radius"][:1]},
        lambda a: a | {"layers": np.array(["0", "1"])},
        lambda a: a | {"layers": np.arange(1)},
        lambda a: a | {"codes": a["codes"] + 5},
        lambda a: a | {"step": a["step"][::-1]},
        lambda a: a | {"wrong": a["wrong"][:, 1:]},
        lambda a: a | {"fisher": a["fisher"].astype(int)},
        lambda a: a | {"scalar.loss": np.zeros(99)},
        lambda a: a | {"config": np.array("{")},
    ],
)
def test_a_probe_that_does_not_fit(tmp_path, stored, wrong):
    assert len(fe.load_probe(write(tmp_path, "probe", stored["probe"]))) == 3
    write(tmp_path, "probe", wrong(stored["probe"]))
    with pytest.raises(fe.FastentError, match=r"probe\.npz' is damaged or no records of a probe .*: save the probe again"):
        fe.load_probe(tmp_path)


@pytest.mark.parametrize("kind", ["series", "objects", "strings"])
def test_runs_on_text_labels_of_any_kind_come_back(tmp_path, kind):
    rng = np.random.default_rng(0)
    X, text = rng.standard_normal((60, 4)), np.array(["vir", "setosa"])[np.arange(60) % 2]
    labels = {"objects": text.astype(object), "strings": text.astype("T")}.get(kind)
    if kind == "series":
        labels = pytest.importorskip("pandas").Series(text)
    run = fe.train((X, labels), epochs=5, seeds=1)
    run.save(tmp_path)
    again = fe.load_run(tmp_path)
    assert again.labels.tolist() == run.labels.tolist()
    assert again.labels.dtype.kind == "U"
    # One fingerprint, whatever lies where in memory.
    assert run.config["digests"] == fe.train((X, text.copy()), epochs=5, seeds=1).config["digests"]
    assert len(fe.stragglers(run, (X, labels))) == len(fe.stragglers(run, (X, text)))
    longer = fe.train((X, labels), epochs=8, seeds=1, resume=tmp_path)
    assert longer.epoch[-1] == 8
