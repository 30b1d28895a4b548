import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import fastent as fe
from fastent.runtime.threads import limit_threads
from tests.activations.test_probe import assert_same_records, made
from tests.integrations.test_loggers import scalars
from tests.live_models import CNN, Encoder, digits, loader, named, train

pytestmark = pytest.mark.train

EPOCHS = 3
KINDS = pytest.mark.parametrize("kind", [CNN, Encoder])
OPTIONS = {"metrics": ("mixing", "margins"), "queries": 30}


@pytest.fixture(autouse=True)
def one_thread():
    with limit_threads(1), warnings.catch_warnings():
        for module in ("lightning", "pytorch_lightning", "transformers", "accelerate", "torchmetrics"):
            warnings.filterwarnings("ignore", module=rf"{module}\..*")
        # Theirs, whoever is in the line: few workers, loggers that are off, a loader that pins memory for no GPU.
        warnings.filterwarnings("ignore", message=".*(does not have many workers|isinstance.treespec, LeafSpec|pin_memory).*")
        yield


def plain_records(kind, epochs=EPOCHS, **options):
    """What a probe sees in a plain loop."""
    model = made(kind)
    probe = fe.Probe(model, loader(100, 30, start=200), kind.layers, **OPTIONS, **options)
    torch.manual_seed(1)
    train(model, loader(), epochs, after=probe)
    return probe.records


# Lightning


def lightning_of(name):
    return pytest.importorskip(name)


def lightning_module(pl, kind):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = made(kind)

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            return self.net(*batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    return Module()


def lightning_trainer(pl, folder, callback, epochs, **options):
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, default_root_dir=folder, callbacks=[callback],
        enable_progress_bar=False, enable_model_summary=False, **{"logger": False, "enable_checkpointing": False, **options},
    )  # fmt: skip


def lightning_callback(kind, **options):
    from fastent.integrations.lightning import ProbeCallback

    layers = [f"net.{layer}" for layer in kind.layers]
    return ProbeCallback(loader(100, 30, start=200), layers, **OPTIONS, **options)


@KINDS
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_gives_the_records_of_a_plain_loop_bit_for_bit(kind, package, tmp_path):
    pl = lightning_of(package)
    callback = lightning_callback(kind)
    with pytest.raises(fe.FastentError, match="no probe yet"):
        _ = callback.probe
    module = lightning_module(pl, kind)
    torch.manual_seed(1)
    lightning_trainer(pl, tmp_path, callback, EPOCHS).fit(module, loader())
    records, plain = callback.probe.records, plain_records(kind)
    assert records.layers == tuple(f"net.{layer}" for layer in kind.layers)
    object.__setattr__(records, "layers", plain.layers)
    assert_same_records(records, plain)


def test_lightning_resumes_with_its_records(tmp_path):
    pl = lightning_of("lightning.pytorch")
    whole = lightning_callback(CNN)
    lightning_trainer(pl, tmp_path, whole, 4).fit(without_dropout(lightning_module(pl, CNN)), loader())

    first = lightning_callback(CNN)
    trainer = lightning_trainer(pl, tmp_path, first, 2)
    trainer.fit(without_dropout(lightning_module(pl, CNN)), loader())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    assert set(torch.load(tmp_path / "half.ckpt", weights_only=True)["callbacks"]) == {"ProbeCallback(fastent)"}

    second = lightning_callback(CNN)
    lightning_trainer(pl, tmp_path, second, 4).fit(
        without_dropout(lightning_module(pl, CNN)), loader(), ckpt_path=tmp_path / "half.ckpt"
    )
    assert second.probe.steps == (0, 1, 2, 3, 4)
    assert_same_records(second.probe.records, whole.probe.records)


def without_dropout(module):
    """Random numbers are not a checkpoint's matter in Lightning."""
    module.net.drop.p = 0.0
    return module


def test_lightning_by_updates_on_a_module_inside_and_to_its_loggers(tmp_path):
    pytest.importorskip("tensorboard")
    pl = lightning_of("lightning.pytorch")
    from fastent.integrations.lightning import ProbeCallback

    def make(module):
        return fe.Probe(module.net, loader(60, 30, start=200), ["norm"], every=4)

    callback = ProbeCallback(make=make, per="step")
    logger = pl.loggers.TensorBoardLogger(tmp_path, name="", version="")
    trainer = lightning_trainer(pl, tmp_path, callback, 2, logger=logger, accumulate_grad_batches=2, log_every_n_steps=1)
    trainer.fit(lightning_module(pl, CNN), loader(256))
    assert callback.probe.steps == (0, 4, 8)
    logger.experiment.close()
    logged = scalars(tmp_path)
    assert [step for step, _ in logged["fastent/norm/radius/7"]] == [0, 4, 8]
    np.testing.assert_allclose(
        [value for _, value in logged["fastent/norm/radius/7"]], callback.probe.records.radius[:, 0, 7], rtol=1e-6
    )


# transformers


def trainer_of(transformers, kind, folder, callback, epochs, **options):
    class InOrder(transformers.Trainer):
        def get_train_dataloader(self):
            return loader(collate_fn=named)

    model = made(kind)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=epochs, per_device_train_batch_size=32, max_grad_norm=0, report_to=[],
        disable_tqdm=True, use_cpu=True, **{"save_strategy": "no", "logging_strategy": "no", **options},
    )  # fmt: skip
    rule = torch.optim.SGD(model.parameters(), lr=0.05)
    still = torch.optim.lr_scheduler.LambdaLR(rule, lambda step: 1.0)
    return InOrder(model, arguments, train_dataset=TensorDataset(*digits(200)), optimizers=(rule, still), callbacks=[callback])


def transformers_callback(kind, **options):
    from fastent.integrations.transformers import ProbeCallback

    return ProbeCallback(loader(100, 30, start=200, collate_fn=named), kind.layers, **OPTIONS, **options)


@pytest.fixture
def transformers(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers")


@KINDS
def test_transformers_gives_the_records_of_a_plain_loop_bit_for_bit(kind, transformers, tmp_path):
    callback = transformers_callback(kind)
    trainer = trainer_of(transformers, kind, tmp_path, callback, EPOCHS)
    torch.manual_seed(1)
    trainer.train()
    assert_same_records(callback.probe.records, plain_records(kind))


def test_transformers_resumes_with_its_records(transformers, tmp_path):
    heard = []
    whole = transformers_callback(CNN, per="step", every=7, log=lambda found, step: heard.append((step, found)))
    trainer_of(transformers, CNN, tmp_path / "whole", whole, 4).train()
    assert whole.probe.steps == (0, 7, 14, 21, 28)
    assert [step for step, _ in heard] == [0, 7, 14, 21, 28]
    assert heard[-1][1] == {f"fastent/{name}": value for name, value in whole.probe.last.items()}

    first = transformers_callback(CNN, per="step", every=7)
    trainer_of(transformers, CNN, tmp_path / "parts", first, 2, save_strategy="epoch").train()
    half = tmp_path / "parts" / "checkpoint-14"
    assert "fastent-probe.pt" in [path.name for path in half.iterdir()]

    second = transformers_callback(CNN, per="step", every=7)
    trainer_of(transformers, CNN, tmp_path / "parts", second, 4).train(resume_from_checkpoint=str(half))
    assert_same_records(second.probe.records, whole.probe.records)

    elsewhere = transformers_callback(CNN, per="step", every=7, resume=half)
    trainer_of(transformers, CNN, tmp_path / "else", elsewhere, 3).train(resume_from_checkpoint=str(half))
    assert elsewhere.probe.steps == (0, 7, 14, 21)

    other = transformers_callback(CNN)
    with pytest.raises(fe.FastentError, match="are per step, these are to be per epoch"):
        trainer_of(transformers, CNN, tmp_path / "parts", other, 3).train(resume_from_checkpoint=str(half))

    anew = transformers_callback(CNN)
    (half / "fastent-probe.pt").unlink()
    with pytest.warns(UserWarning, match="begin anew at step 14"):
        trainer_of(transformers, CNN, tmp_path / "parts", anew, 3).train(resume_from_checkpoint=str(half))
    assert anew.probe.steps == (3,)


def test_a_checkpoint_that_lies_elsewhere_does_not_end_training(transformers, tmp_path):
    callback = transformers_callback(CNN)
    trainer = trainer_of(transformers, CNN, tmp_path, callback, 2, save_strategy="epoch")
    kept = []
    trainer._save_checkpoint = lambda *arguments, **_: kept.append(arguments)
    with pytest.warns(UserWarning, match=r"checkpoint-\d+.*records are not kept"):
        trainer.train()
    assert kept
    assert callback.probe.steps == (0, 1, 2)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_an_epoch_that_is_cut_short_is_none_and_trainings_do_not_mix(transformers, tmp_path):
    callback = transformers_callback(CNN)
    trainer_of(transformers, CNN, tmp_path, callback, 9, max_steps=10).train()
    assert callback.probe.steps == (0, 1)
    with pytest.raises(fe.FastentError, match="records up to step 1 of another training"):
        trainer_of(transformers, CNN, tmp_path, callback, 1).train()


# Without them


@pytest.mark.spawn
@pytest.mark.parametrize(
    ("module", "extra", "missing"),
    [
        ("lightning", "lightning", ("lightning", "pytorch_lightning")),
        ("transformers", "transformers", ("transformers",)),
        ("torchmetrics", "torchmetrics", ("torchmetrics",)),
    ],
)
def test_a_missing_library_is_named(module, extra, missing):
    code = f"import sys; sys.modules.update(dict.fromkeys({missing}))\nimport fastent.integrations.{module}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.splitlines()[-1].endswith(f"{extra} is not installed: pip install '.[{extra}]' in the clone")


def test_a_probe_comes_from_its_arguments_or_from_a_function():
    pytest.importorskip("lightning")
    from fastent.integrations.lightning import ProbeCallback

    for options in ({}, {"loader": [], "make": len}, {"loader": []}, {"make": len, "k": 3}):
        with pytest.raises(fe.FastentError, match="one of both"):
            ProbeCallback(**options)
    with pytest.raises(fe.FastentError, match="per='year'"):
        ProbeCallback(make=len, per="year")
