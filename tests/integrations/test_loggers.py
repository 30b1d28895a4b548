"""What `log_to` sends is what was recorded, each number at its step, whatever the logger and the loop's own logging."""

import json
import re
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fastent as fe
from tests.activations.test_probe import made
from tests.live_models import CNN, loader

PAGE = Path(__file__).parent.parent.parent / "docs" / "loggers.md"


def scalars(folder):
    """{name: [(step, value)]} of a folder of TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def probe():
    probe = fe.Probe(made(CNN), loader(60), ["norm", ""], every=2)
    for step in range(4):
        probe(step, rate=0.1)
    return probe


def expected(probe, prefix="fastent/"):
    return [
        (int(step), {prefix + name.lstrip("/"): value for name, value in probe.records.flat(at).items()})
        for at, step in enumerate(probe.steps)
    ]


def test_a_function_gets_a_flat_dict_with_its_step(probe):
    heard = []

    def log(numbers, step):
        heard.append((step, numbers))

    fe.log_to(log, None, 3)
    assert heard == []
    fe.log_to(log, probe)
    assert heard == expected(probe)
    assert "fastent/radius/3" in heard[0][1]  # of the whole model, whose name is empty
    fe.log_to(log, probe.records, prefix="layers/")
    assert heard[2:] == expected(probe, "layers/")
    fe.log_to(log, {"a": float("nan"), "b": np.float32(1.5), "c": torch.tensor(2), "d": np.inf, "/e": True}, 0, prefix="")
    assert heard[-1] == (0, {"b": 1.5, "c": 2.0, "d": np.inf, "e": 1.0})
    X = np.random.default_rng(0).standard_normal((40, 3))
    measured = fe.measure(X, np.arange(40) % 2, metrics=["geometry"])
    fe.log_to(log, measured, 7, prefix="test/")
    known = {f"test/{name}": value for name, value in measured.summary().items() if not np.isnan(value)}
    assert heard[-1] == (7, known)


@pytest.mark.parametrize(
    ("found", "step", "message"),
    [
        ("records", 3, "leave it out"),
        ({"a": 1.0}, None, "step is missing"),
        ({"a": 1.0}, -1, "step=-1"),
        ({"a": {"b": 1.0}}, 1, r"found\['a'\] is \{'b': 1.0\}"),
        ({"a": "3"}, 1, r"found\['a'\] is '3'"),
        ({"a": torch.zeros(2)}, 1, r"found\['a'\] is tensor"),
        (3, 3, "found is int"),
    ],
)
def test_what_cannot_be_logged_is_refused(probe, found, step, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.log_to(print, probe.records if found == "records" else found, step)


def test_what_is_no_logger_is_refused():
    with pytest.raises(fe.FastentError, match="logger is int"):
        fe.log_to(3, {"a": 1.0}, 1)


def test_tensorboard_has_every_record(probe, tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "live")) as writer:
        for at, step in enumerate(probe.steps):
            fe.log_to(writer, probe.records.flat(at), step)
    fe.log_to(tmp_path / "after", probe)
    live = scalars(tmp_path / "live")
    assert live == scalars(tmp_path / "after")
    assert live.keys() == expected(probe)[0][1].keys()
    assert [step for step, _ in live["fastent/norm/radius/0"]] == [0, 2]
    assert live["fastent/error"][1][1] == pytest.approx(probe.records.error[1])


def test_loggers_and_fabric_of_lightning(probe, tmp_path):
    pl = pytest.importorskip("lightning.pytorch")
    lightning = pytest.importorskip("lightning")
    logger = pl.loggers.CSVLogger(tmp_path, name="own", version="")
    fe.log_to(logger, probe)
    logger.save()
    lines = (tmp_path / "own" / "metrics.csv").read_text().splitlines()
    assert "fastent/norm/radius/0" in lines[0].split(",")
    assert len(lines) == 3
    files = lightning.fabric.loggers.CSVLogger(tmp_path, name="fabric", version="")
    fabric = lightning.Fabric(accelerator="cpu", devices=1, loggers=files)
    fe.log_to(fabric, probe.last, 2)
    files.save()
    assert len((tmp_path / "fabric" / "metrics.csv").read_text().splitlines()) == 2


def test_an_accelerator(probe):
    heard = []
    fe.log_to(SimpleNamespace(log=lambda values, step: heard.append((step, values))), probe)
    assert heard == expected(probe)


class MLflow:
    """What the module `mlflow` has."""

    __name__ = "mlflow"

    def __init__(self):
        self.logged = []

    def log_metrics(self, numbers, step):
        self.logged.append((step, numbers))


def test_names_for_mlflow():
    names = ["a(b)/c:d", "naïve", "x//y", "../z", "e\nf", "w" * 400]
    mlflow = MLflow()
    fe.log_to(mlflow, dict.fromkeys(names, 1.0), 1)
    accepted = list(mlflow.logged[0][1])
    assert accepted[:5] == ["fastent/a_b_/c_d", "fastent/naïve", "fastent/x/y", "fastent/__/z", "fastent/e_f"]
    assert len(accepted[5]) == 250
    with pytest.raises(fe.FastentError, match="MLflow would call two numbers 'fastent/a_'"):
        fe.log_to(mlflow, {"a(": 1, "a)": 2}, 1)


@pytest.mark.spawn
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_every_record(probe, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow.start_run() as run:
        fe.log_to(mlflow, probe)
        fe.log_to(mlflow, {"a(b)/../c": 1.0, "d": np.inf}, 5)
    found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "fastent/norm/radius/0")
    assert [(each.step, each.value) for each in found] == list(zip(probe.steps, probe.records.radius[:, 0, 0], strict=True))


class Run:
    """The rows of a run of Weights & Biases, by its rules; its class is of the module wandb."""

    __module__ = "wandb.sdk"

    def __init__(self):
        self.step, self.rows, self.axes = 0, {}, {}

    def define_metric(self, name, step_metric):
        self.axes[name] = step_metric

    def log(self, numbers, step=None, commit=None):
        if step is not None and step < self.step:
            return  # with a warning
        self.step = self.step if step is None else step
        self.rows.setdefault(self.step, {}).update(numbers)
        if commit or (commit is None and step is None):
            self.step += 1


LOOPS = pytest.mark.parametrize("loop", ["alone", "before", "after", "before with steps", "after with steps"])


def log_in_a_loop(run, loop):
    """Two numbers a round, in either order and with steps of the loop's own or without; or ours alone."""
    for step in range(5):
        own = {"step": step} if "steps" in loop else {}
        if loop.startswith("before"):
            run.log({"loss": float(step)}, **own)
        fe.log_to(run, {"a": 10.0 * step}, step)
        if loop.startswith("after"):
            run.log({"loss": float(step)}, **own)


def check_rows(rows, loop):
    assert [(row["fastent/step"], row["fastent/a"]) for row in rows if "fastent/a" in row] == [
        (step, 10.0 * step) for step in range(5)
    ]
    if loop != "alone":
        losses = [row["loss"] for row in rows if "loss" in row]
        assert sorted(set(losses)) == [0, 1, 2, 3, 4]


@LOOPS
def test_no_row_of_wandb_is_lost(loop):
    run = Run()
    log_in_a_loop(run, loop)
    check_rows([run.rows[step] for step in sorted(run.rows)], loop)
    assert run.axes == {"fastent/*": "fastent/step"}


def test_wandb_without_a_run():
    module = type(json)("wandb")
    module.run = None
    with pytest.raises(fe.FastentError, match=r"call wandb\.init first"):
        fe.log_to(module, {"a": 1.0}, 1)


def records_of_wandb(folder):
    """The records of an offline run's file: a log in blocks of 32 KiB, each record in one or several pieces."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("*.wandb")
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, piece = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if piece in (1, 4):
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def rows_of_wandb(folder):
    for _ in range(100):  # its writer may be late
        records = {}
        for record in records_of_wandb(folder):
            records.setdefault(record.WhichOneof("record_type"), []).append(record)
        if "exit" in records:
            break
        time.sleep(0.1)
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records["history"]
    ]


@LOOPS
@pytest.mark.spawn
@pytest.mark.filterwarnings("ignore")
def test_no_row_of_an_offline_run_is_lost(loop, tmp_path):
    wandb = pytest.importorskip("wandb")
    with wandb.init(mode="offline", dir=tmp_path, project="fastent", settings={"console": "off"}) as run:
        log_in_a_loop(run, loop)
    check_rows(rows_of_wandb(tmp_path), loop)


@pytest.mark.spawn
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_the_page_s_code_for_packages_that_few_have(package, tmp_path, monkeypatch):
    """`tests/test_docs.py` runs the other blocks, in their order."""
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    blocks = re.findall(r"(?:<!-- (.*) -->\n)?```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    namespace = {}
    exec(blocks[0][1], namespace)
    (own,) = [code for mark, code in blocks if package in mark]
    exec(own, namespace)
    assert namespace["probe"].steps == (0, 1, 2)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_run_is_logged_as_means_over_its_seeds(tmp_path, batch_size):
    run = fe.train("digits", subset=64, hidden=(4, 3), seeds=2, epochs=3, batch_size=batch_size, test_every=2)
    heard = {}
    fe.log_to(lambda numbers, step: heard.setdefault(step, numbers), run)
    assert list(heard) == run.update.tolist()
    last = heard[int(run.update[-1])]
    assert last["fastent/train_error"] == run.train_error[:, -1].mean()
    assert last["fastent/epoch"] == run.epoch[-1] == 3
    for layer in (0, 1):
        for c, name in enumerate(("even", "odd")):
            assert last[f"fastent/{layer}/radius/{name}"] == run.radius[:, -1, layer, c].mean()
    tested = {int(run.update[at]) for at in run.positions(run.test_epoch)}
    assert {step for step, numbers in heard.items() if "fastent/test_error" in numbers} == tested
    assert not any("mixing" in name for name in last)
    fe.log_to(tmp_path / "logs", run, prefix="")
    assert [step for step, _ in scalars(tmp_path / "logs")["1/radius/odd"]] == run.update.tolist()
    with pytest.raises(fe.FastentError, match="step=3: records have steps of their own"):
        fe.log_to(print, run, 3)
