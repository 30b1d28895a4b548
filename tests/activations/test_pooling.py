import contextlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from typer.testing import CliRunner

import fastent as fe
from fastent.activations import probe_pass
from fastent.cli.main import app
from fastent.io.store import open_store
from tests.padded import LENGTHS, POOLINGS, WIDTH, Words, by_hand, captured, kept, same, sentences


def batched(parts, size):
    """Mappings of `size` inputs, the last of fewer."""
    n = len(next(iter(parts.values())))
    return [{name: part[i : i + size] for name, part in parts.items()} for i in range(0, n, size)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_on_either_side_and_the_size_of_batches_change_nothing(tmp_path, pooling, side):
    model, (ids, mask) = Words(), sentences(side)
    expected = by_hand(model.layer(model.embed(ids)), mask, pooling)
    for size in (1, 4, 6):
        for kind in (torch.int64, torch.bool, torch.float32):
            batches = batched({"input_ids": ids, "attention_mask": mask.to(kind)}, size)
            same(captured(tmp_path, model, batches, "layer", pooling), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_without_padding(tmp_path, pooling):
    model, X = nn.Sequential(nn.Linear(3, 4)), torch.randn(5, WIDTH, 3)
    same(captured(tmp_path, model, [X[:2], X[2:]], "0", pooling), by_hand(model(X), torch.ones(5, WIDTH), pooling))


def test_flattened_padding_is_zero(tmp_path):
    model, (ids, mask) = Words(), sentences()
    rows = model.layer(model.embed(ids))
    found = captured(tmp_path, model, [{"input_ids": ids, "attention_mask": mask.long()}], "layer", "flatten")
    same(found, (rows * mask[:, :, None]).flatten(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mean_of_halves_is_not_rounded_to_a_half(tmp_path, dtype):
    X = torch.full((2, 3, 4), 1000.0) + torch.tensor([0.0, 1.0, 3.0])[:, None]
    model = nn.Identity().to(dtype)
    same(captured(tmp_path, model, [X.to(dtype)], ""), X.to(dtype).float().mean(1))
    many = torch.full((1, 100, 2), 60000.0, dtype=torch.float16)
    same(captured(tmp_path, nn.Identity(), [many], ""), torch.full((1, 2), 60000.0))


def test_rows_of_tokens_have_the_label_of_their_input_and_its_number(tmp_path):
    model, (ids, mask) = Words(), sentences()
    parts = {"input_ids": ids, "attention_mask": mask.long(), "labels": torch.arange(6) % 2}
    store = fe.capture(model, batched(parts, 4), ["layer", "embed"], tmp_path, pooling="tokens", shard_rows=8)
    numbers = np.repeat(np.arange(6), LENGTHS)
    assert len(store) == int(LENGTHS.sum())
    assert store.row_ids.tolist() == numbers.tolist()
    assert store.labels.tolist() == (numbers % 2).tolist()
    assert len(store.manifest["shards"]) > 1
    store.verify()
    assert open_store(tmp_path).row_ids.tolist() == numbers.tolist()
    assert fe.measure(store.layer("layer"), store.labels, k=3, metrics=["mixing"]).mixing.overlap > 0


def test_rows_of_tokens_have_labels_of_their_own(tmp_path):
    model, (ids, mask) = Words(), sentences()
    own = torch.arange(ids.numel()).reshape(ids.shape)
    own[~mask] = -100
    parts = {"input_ids": ids, "attention_mask": mask.long(), "labels": own}
    store = fe.capture(model, batched(parts, 4), ["layer"], tmp_path, pooling="tokens")
    assert store.labels.tolist() == own[mask].tolist()
    with pytest.raises(fe.FastentError, match=r"labels of shape \(6, 3\) for tokens of shape \(6, 6\)"):
        fe.capture(model, [parts | {"labels": own[:, :3]}], ["layer"], tmp_path / "other", pooling="tokens")


def test_a_damaged_list_of_inputs_is_seen(tmp_path):
    ids, mask = sentences()
    fe.capture(Words(), [{"input_ids": ids, "attention_mask": mask.long()}], ["layer"], tmp_path, pooling="tokens")
    file = tmp_path / "inputs.00000.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    for look in (lambda: open_store(tmp_path).verify(), lambda: open_store(tmp_path).row_ids):
        with pytest.raises(fe.FastentError, match=r"inputs\.00000\.npy' is not what was written"):
            look()
    file.unlink()
    with pytest.raises(fe.FastentError, match=r"inputs\.00000\.npy"):
        open_store(tmp_path)


class Stops(Words):
    def __init__(self, stop=None):
        super().__init__()
        self.inputs, self.stop = 0, stop

    def forward(self, input_ids, attention_mask=None):
        self.inputs += len(input_ids)
        if self.stop is not None and self.inputs > self.stop:
            raise ZeroDivisionError
        return super().forward(input_ids, attention_mask)


@pytest.mark.parametrize("kind", [DataLoader, lambda rows, size: list(DataLoader(rows, size))])
def test_a_capture_of_tokens_goes_on_where_it_stopped(tmp_path, kind):
    ids, mask = sentences(lengths=LENGTHS.repeat(5))
    rows = [{"input_ids": i, "attention_mask": m.long(), "labels": len(i)} for i, m in zip(ids, mask)]
    options = {"layers": ["layer"], "pooling": "tokens", "shard_rows": 20}
    whole = fe.capture(Stops(), kind(rows, 4), out=tmp_path / "whole", **options)
    for stop in (9, 14, 22):
        with contextlib.suppress(ZeroDivisionError):
            fe.capture(Stops(stop), kind(rows, 4), out=tmp_path / "parts", **options)
    with pytest.raises(fe.FastentError, match=r"unfinished capture with \d+.* rows"):
        open_store(tmp_path / "parts")
    model = Stops()
    again = fe.capture(model, kind(rows, 4), out=tmp_path / "parts", **options)
    assert model.inputs < 30
    assert again.manifest["shards"] == whole.manifest["shards"]
    assert again.row_ids.tolist() == np.repeat(np.arange(30), LENGTHS.repeat(5)).tolist()
    assert again.complete


@pytest.mark.parametrize("complete", [True, False])
def test_a_capture_of_tokens_goes_on_with_the_same_inputs_alone(tmp_path, complete):
    ids, mask = sentences(lengths=LENGTHS.repeat(5))
    own = torch.arange(ids.numel()).reshape(ids.shape)
    parts = {"input_ids": ids, "attention_mask": mask.long(), "labels": own}
    options = {"layers": ["layer"], "out": tmp_path, "pooling": "tokens", "shard_rows": 20}
    with contextlib.suppress(ZeroDivisionError):
        fe.capture(Stops(None if complete else 22), batched(parts, 4), **options)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in parts:
        changed = parts[name].clone()
        changed[13, 0] = 1 - changed[13, 0]
        with pytest.raises(fe.FastentError, match="a capture with other inputs or labels in the rows 12 to 15: name another"):
            fe.capture(Stops(), batched({**parts, name: changed}, 4), **options)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    if complete:
        fewer = {name: part[:24] for name, part in parts.items()}
        with pytest.raises(fe.FastentError, match="a capture with 30 rows, and the loader has 24"):
            fe.capture(Stops(), batched(fewer, 4), **options)
    assert len(fe.capture(Stops(), batched(parts, 4), **options)) == int(mask.sum())


def test_what_has_no_tokens_is_refused(tmp_path):
    ids, mask = sentences()
    batch = [{"input_ids": ids, "attention_mask": mask.long()}]
    with pytest.raises(fe.FastentError, match=r"layer 'head' puts out shape \(6, 2\), which has no tokens"):
        captured(tmp_path, Words(), batch, "head", "tokens")
    maps = nn.Sequential(nn.Conv2d(1, 2, 3))
    for pooling in ("cls", "last"):
        with pytest.raises(fe.FastentError, match=r"which has no tokens: use pooling='mean' or 'flatten'"):
            captured(tmp_path, maps, [torch.randn(3, 1, 5, 5)], "0", pooling)
    with pytest.raises(fe.FastentError, match=r"pooling='tokens': how many rows .* use fe\.capture"):
        fe.ModelSource(Words(), DataLoader(ids, 2), "layer", pooling="tokens")


def test_every_position_of_a_map_is_a_row(tmp_path):
    model, X = nn.Sequential(nn.Conv2d(1, 2, 3)), torch.randn(3, 1, 5, 6)
    same(captured(tmp_path, model, [X], "0", "tokens"), model(X).permute(0, 2, 3, 1).reshape(-1, 2))


def test_layers_of_other_tokens_are_kept_apart(tmp_path):
    model, X = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Conv1d(3, 4, 3)), torch.randn(2, 2, 9)
    with pytest.raises(fe.FastentError, match=r"layers '0' and '1' differ in their tokens \(14 of .* 10 of .*separately"):
        fe.capture(model, [X], ["0", "1"], tmp_path, pooling="tokens")


def test_a_model_is_a_source_of_its_last_tokens():
    model, (ids, mask) = Words(), sentences("left")
    rows = [{"input_ids": i, "attention_mask": m.long()} for i, m in zip(ids, mask)]
    source = fe.ModelSource(model, DataLoader(rows, 4), "layer", pooling="last")
    same(source[[4, 1]], by_hand(model.layer(model.embed(ids)), mask, "last")[[4, 1]])


# Probes


class Tagger(nn.Module):
    """Logits for each token, of features (n, tokens, d)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.head = nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, x):
        return {"logits": self.head(self.layer(x))}


class Classifier(Tagger):
    def forward(self, x):
        return {"logits": super().forward(x)["logits"].mean(1)}


def features(side="right"):
    mask = kept(LENGTHS.repeat(5), side)
    return torch.randn(30, WIDTH, 3, generator=torch.Generator().manual_seed(3)), mask


@pytest.mark.parametrize("keeping", [1 << 30, 0])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_probe_pools_alike(monkeypatch, pooling, side, keeping):
    monkeypatch.setattr(probe_pass, "_KEPT_BYTES", keeping)
    model, (X, mask) = Classifier(), features(side)
    labels = torch.arange(30) % 3
    batches = batched({"x": X, "attention_mask": mask, "labels": labels}, 7)
    probe = fe.Probe(model, batches, ["layer"], pooling=pooling, metrics=["mixing"], queries=20, k=3)
    found = probe(0)
    rows = by_hand(model.layer(X), mask, pooling)
    y = labels.repeat_interleave(mask.sum(1)).numpy() if pooling == "tokens" else labels.numpy()
    np.testing.assert_array_equal(probe.records.codes, y)
    np.testing.assert_allclose(probe.records.radius[0, 0], fe.geometry(rows, y).radius, rtol=1e-5)
    assert found["layer/mixing"] == pytest.approx(fe.mixing(fe.neighbors(rows, 3, queries=20, seed=0), y).overlap)
    wrong = (model(X)["logits"].argmax(1) != labels).numpy()
    wrong = np.repeat(wrong, mask.sum(1)) if pooling == "tokens" else wrong
    assert found["error"] == pytest.approx(wrong.mean())
    np.testing.assert_array_equal(probe.records.misclassified(0), wrong)


def test_a_probe_of_tokens_with_labels_of_their_own_leaves_out_those_without():
    model, (X, mask) = Tagger(), features()
    own = torch.arange(X[..., 0].numel()).reshape(30, WIDTH) % 3
    own[~mask], own[:, 0] = -100, -100
    own[7:14] = -100  # a whole batch
    batches = batched({"x": X, "attention_mask": mask, "labels": own}, 7)
    probe = fe.Probe(model, batches, ["layer"], pooling="tokens", metrics=["margins"], queries=15)
    found = probe(0)
    probe(1)
    labelled = own != -100
    y = own[labelled]
    rows, logits = model.layer(X)[labelled].detach().numpy(), model(X)["logits"][labelled].detach()
    np.testing.assert_allclose(probe.records.radius[1, 0], fe.geometry(rows, y).radius, rtol=1e-5)
    assert found["error"] == pytest.approx(float((logits.argmax(1) != y).float().mean()))
    assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-5)
    again = fe.Probe(model, batches, ["layer"], pooling="tokens", metrics=["margins"], queries=15)
    again.load_state_dict(probe.state_dict())
    again(2)
    assert again.steps == (0, 1, 2)


def test_a_probe_sees_other_tokens_than_before():
    model, (X, mask) = Classifier(), features()
    batch = {"x": X, "attention_mask": mask, "labels": torch.arange(30) % 2}
    probe = fe.Probe(model, [batch], ["layer"], pooling="tokens")
    probe(0)
    batch["attention_mask"] = kept(LENGTHS.flip(0).repeat(5)[:30].clamp(max=3))
    with pytest.raises(fe.FastentError, match=r"layer 'layer' has \d+ tokens for a batch that had 105 when"):
        probe(1)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:The .* does not have many workers")
def test_a_callback_takes_every_pooling():
    lightning = pytest.importorskip("lightning.pytorch")
    from fastent.integrations.lightning import ProbeCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Classifier()

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self(batch["x"])["logits"], batch["labels"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    X, mask = features()
    batches = batched({"x": X, "attention_mask": mask, "labels": torch.arange(30) % 3}, 10)
    callbacks = [ProbeCallback(batches, ["net.layer"], pooling=pooling, name=pooling) for pooling in ("last", "tokens")]
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=1, callbacks=callbacks, accelerator="cpu", log_every_n_steps=1, **quiet)
    training = DataLoader([{"x": x, "labels": i % 3} for i, x in enumerate(X)], 10)
    trainer.fit(Module(), training)
    assert [len(callback.probe.records.codes) for callback in callbacks] == [30, int(mask.sum())]


# The command


NETS = """
import torch
from tests.padded import Words
class Named(Words):
    def forward(self, tokens, src_key_padding_mask):
        assert src_key_padding_mask.dtype == torch.bool and src_key_padding_mask.sum() == (tokens == 0).sum()
        return super().forward(tokens)
class Bare(Words):
    def forward(self, words): return super().forward(words)
def plain(): return torch.nn.Sequential(Words().embed, Words().layer)
"""


@pytest.fixture
def fastent(tmp_path, monkeypatch):
    (tmp_path / "padded_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    ids, mask = sentences()
    np.save("X.npy", ids)
    np.savez("all.npz", X=ids, attention_mask=mask.long())
    np.save("y.npy", np.arange(6) % 2)
    np.save("own.npy", np.arange(36).reshape(6, 6))

    def run(*arguments):
        return CliRunner().invoke(app, ["capture", "--data", "X.npy", "--dtype", "float32", *arguments])

    return run


@pytest.mark.parametrize(("net", "layer"), [("Named", "layer"), ("Bare", "layer"), ("Words", "layer"), ("plain", "1")])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_command_pools_with_a_mask(fastent, net, layer, pooling):
    model, (ids, mask) = Words(), sentences()
    asked = ("--model", f"padded_nets:{net}", "--layers", layer, "--pooling", pooling, "--mask", "all.npz", "--out", "s")
    ended = fastent(*asked, "--labels", "y.npy", "--batch-size", "4")
    assert ended.exit_code == 0, ended.output
    same(fe.open("s")[:], by_hand(model.layer(model.embed(ids)), mask, pooling))
    inputs = np.repeat(np.arange(6), LENGTHS) if pooling == "tokens" else np.arange(6)
    assert open_store("s").labels.tolist() == (inputs % 2).tolist()


def test_the_command_takes_a_label_for_each_token(fastent):
    asked = ("--model", "padded_nets:Words", "--layers", "layer", "--mask", "all.npz", "--labels", "own.npy")
    assert fastent(*asked, "--pooling", "tokens", "--out", "s").exit_code == 0
    assert open_store("s").labels.tolist() == np.arange(36).reshape(6, 6)[sentences()[1].numpy()].tolist()
    ended = fastent(*asked, "--out", "other")
    assert ended.exit_code == 2
    assert "own.npy has shape (6, 6)" in ended.stderr


@pytest.mark.parametrize(("mask", "message"), [("y.npy", "a mask (n, tokens)"), ("own.npy", "1 for tokens and 0 for padding")])
def test_masks_that_the_command_refuses(fastent, mask, message):
    ended = fastent("--model", "padded_nets:Words", "--layers", "layer", "--mask", mask, "--out", "s")
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
