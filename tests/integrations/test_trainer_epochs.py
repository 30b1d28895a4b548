"""Lightning's trainer and that of transformers count epochs by one rule, and what a probe sees can be monitored."""

import os
import re
import warnings

import pytest
import torch
from torch.utils.data import TensorDataset

import fastent as fe
from fastent.runtime.threads import limit_threads
from tests.activations.test_probe import assert_same_records
from tests.integrations.test_loggers import scalars

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with limit_threads(1), warnings.catch_warnings():
        for module in ("lightning", "pytorch_lightning", "transformers", "accelerate", "torchmetrics"):
            warnings.filterwarnings("ignore", module=rf"{module}\..*")
        warnings.filterwarnings("ignore", message=".*(does not have many workers|isinstance.treespec, LeafSpec|pin_memory).*")
        yield


class Net(torch.nn.Module):
    """What both trainers take: logits, and a loss where there are labels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)

    def forward(self, x, labels=None):
        logits = self.out(torch.tanh(self.hidden(x)))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def points(n=80):
    X = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return X, (X[:, 0] > 0).long()


class Stream(torch.utils.data.IterableDataset):
    """Points whose number nobody knows before."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def lightning_fit(pl, folder, callback, data, extra=(), resume=None, save=None, validate=None, **options):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            self.log("loss", 7.0, on_step=False, on_epoch=True)
            return self.net(*batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    if validate is not None:  # Lightning warns of a step that has no data
        Module.validation_step = lambda module, batch, index: module.log("seen", 1.0)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, default_root_dir=folder, callbacks=[callback, *extra],
        enable_progress_bar=False, enable_model_summary=False, **{"enable_checkpointing": bool(extra), **options},
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=8), validate, ckpt_path=resume)
    if save:
        trainer.save_checkpoint(save)
    return trainer


def lightning_probe(**options):
    pytest.importorskip("lightning")
    from fastent.integrations.lightning import ProbeCallback

    X, Y = points(40)
    return ProbeCallback([(X, Y)], ["net.hidden"], **options)


def test_lightning_monitors_what_a_probe_sees(tmp_path):
    pl = pytest.importorskip("lightning.pytorch")
    callback = lightning_probe(log=False)
    keep = pl.callbacks.ModelCheckpoint(
        tmp_path, monitor="fastent/net.hidden/radius/1", mode="max", save_top_k=1, filename="{epoch}"
    )
    stop = pl.callbacks.EarlyStopping(monitor="fastent/error", mode="min", stopping_threshold=2.0, patience=99)
    trainer = lightning_fit(pl, tmp_path, callback, TensorDataset(*points()), [keep, stop], max_epochs=5)
    records = callback.probe.records
    assert callback.probe.steps == (0, 1)  # stopped after the first epoch
    metrics = trainer.callback_metrics
    assert float(metrics["fastent/net.hidden/radius/1"]) == records.radius[-1, 0, 1] == float(keep.best_model_score)
    assert float(metrics["fastent/net.hidden/fisher"]) == records.fisher[-1, 0]
    assert float(metrics["fastent/error"]) == records.error[-1]
    assert float(metrics["fastent/loss"]) == records.loss[-1]
    assert float(metrics["loss"]) == 7.0  # the module's own

    by_step = lightning_probe(per="step", every=4)
    metrics = lightning_fit(pl, tmp_path, by_step, TensorDataset(*points()), max_epochs=1).callback_metrics
    assert float(metrics["fastent/net.hidden/radius/0"]) == by_step.probe.records.radius[-1, 0, 0]


def test_what_lightning_monitors_after_validation_is_of_the_same_epoch(tmp_path):
    """Callbacks compare what they monitor when validation ends, which is before the end of the epoch."""
    pl = pytest.importorskip("lightning.pytorch")
    callback = lightning_probe()
    keep = pl.callbacks.ModelCheckpoint(tmp_path, monitor="fastent/loss", mode="min", save_top_k=-1, filename="{epoch}")
    rows = torch.utils.data.DataLoader(TensorDataset(*points()), batch_size=33)
    lightning_fit(pl, tmp_path, callback, TensorDataset(*points()), [keep], max_epochs=3, validate=rows)
    kept = {path.rpartition("=")[2]: float(score) for path, score in keep.best_k_models.items()}
    assert kept == {f"{epoch}.ckpt": callback.probe.records.loss[epoch + 1] for epoch in range(3)}
    # Such a checkpoint has the record of its epoch, and training that goes on from it makes no other.
    again = lightning_probe()
    resume = tmp_path / "epoch=1.ckpt"
    lightning_fit(pl, tmp_path, again, TensorDataset(*points()), resume=resume, max_epochs=3, validate=rows)
    assert_same_records(again.probe.records, callback.probe.records)


def test_two_probes_of_lightning_have_names_of_their_own(tmp_path):
    pl = pytest.importorskip("lightning.pytorch")
    first, second = lightning_probe(), lightning_probe(name="late", every=2)
    trainer = lightning_fit(pl, tmp_path, first, TensorDataset(*points()), [second], max_epochs=3)
    metrics = trainer.callback_metrics
    assert float(metrics["fastent/error"]) == first.probe.records.error[-1]
    assert float(metrics["late/error"]) == second.probe.records.error[-1]
    assert (first.probe.steps, second.probe.steps) == ((0, 1, 2, 3), (0, 2))


def test_lightning_logs_the_numbers_of_a_metric(tmp_path):
    pl = pytest.importorskip("lightning.pytorch")
    from fastent.integrations.torchmetrics import ClassGeometryMetric

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.geometry = Net(), ClassGeometryMetric(2, 2, normalize=False)
            self.radius = self.geometry["radius"]

        def training_step(self, batch, index):
            return self.net(*batch)["loss"]

        def validation_step(self, batch, index):
            self.geometry.update(self.net(batch[0])["logits"], batch[1])
            self.log("radius_of_all", self.radius, on_step=False, on_epoch=True)

        def on_validation_epoch_end(self):
            self.log_dict(self.geometry.compute())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    rows = torch.utils.data.DataLoader(TensorDataset(*points()), batch_size=33)
    module = Module()
    keep = pl.callbacks.ModelCheckpoint(tmp_path, monitor="radius/1", mode="min")
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path, callbacks=[keep], max_epochs=2,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, rows, rows)
    X, Y = points()
    expected = fe.geometry(module.net.cpu()(X)["logits"].detach(), Y, normalize=False)
    metrics = trainer.callback_metrics
    assert float(metrics["radius/1"]) == pytest.approx(expected.radius[1], rel=1e-5)
    assert float(metrics["radius_of_all"]) == pytest.approx(expected.radius.mean(), rel=1e-5)
    assert float(metrics["fisher"]) == pytest.approx(expected.fisher, rel=1e-5)
    assert keep.best_model_score is not None


# One rule for epochs: those that are whole, counted from the beginning of training


def run_lightning(folder, callback, data, resume=None, save=None, accumulate=1, epochs=-1, steps=-1):
    pl = pytest.importorskip("lightning.pytorch")
    options = {"max_epochs": epochs, "max_steps": steps, "accumulate_grad_batches": accumulate}
    lightning_fit(pl, folder, callback, data, resume=resume, save=save, **options)


def run_transformers(folder, callback, data, accumulate=1, epochs=3, steps=-1, resume=None, **options):
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=8, report_to=[], disable_tqdm=True, use_cpu=True, num_train_epochs=epochs,
        max_steps=steps, gradient_accumulation_steps=accumulate, **{"save_strategy": "no", "logging_strategy": "no", **options},
    )  # fmt: skip
    transformers.Trainer(Net(), arguments, train_dataset=data, callbacks=[callback]).train(resume_from_checkpoint=resume)


def transformers_probe(**options):
    pytest.importorskip("transformers")
    from fastent.integrations.transformers import ProbeCallback

    X, Y = points(40)
    return ProbeCallback([{"x": X, "labels": Y}], ["hidden"], **options)


TRAINERS = pytest.mark.parametrize(
    ("probe_of", "run", "rows"),
    [
        (lightning_probe, run_lightning, list(zip(*points(), strict=True))),
        (transformers_probe, run_transformers, [{"x": x, "labels": y} for x, y in zip(*points(), strict=True)]),
    ],
    ids=["lightning", "transformers"],
)


@TRAINERS
@pytest.mark.parametrize(
    ("stream", "options", "steps"),
    [
        (False, {"epochs": 2}, (0, 1, 2)),
        (False, {"epochs": 2, "accumulate": 4}, (0, 1, 2)),
        (False, {"epochs": 2, "accumulate": 16}, (0, 1, 2)),
        (False, {"steps": 25}, (0, 1, 2)),
        (True, {"steps": 30}, (0, 1, 2, 3)),
        (True, {"steps": 25}, (0, 1, 2)),
        (True, {"steps": 10}, (0, 1)),
    ],
)
def test_an_epoch_is_a_whole_pass(probe_of, run, rows, stream, options, steps, tmp_path):
    callback = probe_of()
    run(tmp_path, callback, Stream(rows) if stream else rows, **options)
    assert callback.probe.steps == steps


@TRAINERS
@pytest.mark.parametrize(
    ("every", "per", "steps", "message"),
    [
        (5, "epoch", 20, r"nothing after any epoch.*every=5, and training had 2 epochs"),
        (1, "epoch", 7, r"nothing after any epoch.*no pass .* ended within 7 updates: per='step'"),
        (50, "step", 7, r"nothing after any update.*every=50, and training made 7 updates"),
    ],
)
def test_a_condition_that_never_came_is_said_once(probe_of, run, rows, every, per, steps, message, tmp_path):
    callback = probe_of(every=every, per=per)
    with pytest.warns(UserWarning, match="the probe") as said:
        run(tmp_path, callback, Stream(rows), steps=steps)
    assert callback.probe.steps == (0,)
    said = [str(warning.message) for warning in said if "the probe" in str(warning.message)]
    assert len(said) == 1
    assert re.search(message, said[0])


def test_training_that_never_began_is_said(tmp_path):
    with pytest.warns(UserWarning, match="because training made no updates"):
        run_lightning(tmp_path, lightning_probe(), TensorDataset(*points()), epochs=0)


def test_batches_that_wait_for_an_update_at_the_end_of_a_pass_are_said(tmp_path):
    rows = [{"x": x, "labels": y} for x, y in zip(*points(), strict=True)]
    callback = transformers_probe()
    with pytest.warns(UserWarning, match="the last 2 of 10 batches wait") as said:
        run_transformers(tmp_path, callback, Stream(rows), accumulate=4, steps=7)
    assert callback.probe.steps == (0, 1, 2, 3)  # two updates to a pass
    assert sum("wait" in str(warning.message) for warning in said) == 1


def test_lightning_goes_on_within_an_epoch(tmp_path):
    pl = pytest.importorskip("lightning.pytorch")
    data = TensorDataset(*points())
    every = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=5, save_top_k=-1, filename="{step}")
    whole = lightning_probe()
    lightning_fit(pl, tmp_path, whole, data, [every], max_epochs=3)
    # In the middle of the second epoch (its first batches come again: the loader cannot be resumed); after its last batch, but
    # before it was counted.
    middle, last = lightning_probe(), lightning_probe()
    for part, step in ((middle, 15), (last, 20)):
        lightning_fit(pl, tmp_path, part, data, resume=tmp_path / f"step={step}.ckpt", max_epochs=3)
    assert middle.probe.steps == (0, 1, 2, 3)
    assert_same_records(last.probe.records, whole.probe.records)
    cut, after = lightning_probe(), lightning_probe()
    run_lightning(tmp_path, cut, data, steps=25, save=tmp_path / "cut.ckpt")
    run_lightning(tmp_path, after, data, steps=40, resume=tmp_path / "cut.ckpt")
    assert cut.probe.steps == (0, 1, 2)
    assert after.probe.steps == (0, 1, 2, 3, 4)


def test_transformers_logs_through_its_trainer(tmp_path):
    """To its own history and integrations, without losing what the Trainer itself logs at the same step."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("tensorboard")
    rows = [{"x": x, "labels": y} for x, y in zip(*points(), strict=True)]

    def trained(folder, probed):
        arguments = transformers.TrainingArguments(
            str(folder), per_device_train_batch_size=8, report_to=["tensorboard"] if probed else [], disable_tqdm=True,
            use_cpu=True, num_train_epochs=3, eval_strategy="epoch", save_strategy="epoch", logging_strategy="epoch",
            metric_for_best_model="eval_hidden/radius/1" if probed else None, greater_is_better=False,
        )  # fmt: skip
        callback = transformers_probe()

        def metrics(found):
            return dict(callback.probe.last) if probed else {}

        trainer = transformers.Trainer(Net(), arguments, train_dataset=rows, eval_dataset=rows[:20], compute_metrics=metrics)
        if probed:
            callback._log = trainer
            trainer.add_callback(callback)
        trainer.train()
        return trainer, callback

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(tmp_path / "logs")
    try:
        trainer, callback = trained(tmp_path / "probed", True)
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]
    records = callback.probe.records
    ours = [entry for entry in trainer.state.log_history if "fastent/error" in entry]
    assert [(entry["step"], entry["fastent/hidden/radius/1"]) for entry in ours] == list(
        zip((0, 10, 20, 30), records.radius[:, 0, 1].tolist(), strict=True)
    )
    plain, _ = trained(tmp_path / "plain", False)
    losses = [[entry["loss"] for entry in each.state.log_history if "loss" in entry] for each in (trainer, plain)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3
    assert trainer.state.best_metric == records.radius[1:, 0, 1].min()
    logged = scalars(tmp_path / "logs")
    assert [step for step, _ in logged["train/fastent/hidden/radius/1"]] == [0, 10, 20, 30]


def test_transformers_goes_on_within_an_epoch(tmp_path):
    rows = [{"x": x, "labels": y} for x, y in zip(*points(), strict=True)]
    whole = transformers_probe()
    run_transformers(tmp_path, whole, rows, save_strategy="steps", save_steps=5, lr_scheduler_type="constant")
    assert whole.probe.steps == (0, 1, 2, 3)
    for step in (15, 20):
        part = transformers_probe()
        run_transformers(
            tmp_path, part, rows, resume=str(tmp_path / f"checkpoint-{step}"), lr_scheduler_type="constant"
        )  # fmt: skip
        assert_same_records(part.probe.records, whole.probe.records)
    (tmp_path / "checkpoint-15" / "fastent-probe.pt").write_bytes(b"PK damaged")
    with pytest.raises(fe.FastentError, match=r"checkpoint-15.*delete this file"):
        run_transformers(tmp_path, transformers_probe(), rows, resume=str(tmp_path / "checkpoint-15"))
