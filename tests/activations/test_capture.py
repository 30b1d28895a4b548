import collections
import contextlib
import json
import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from typer.testing import CliRunner

import fastent as fe
from fastent.activations.batching import batches
from fastent.activations.hooks import hooked
from fastent.cli.main import app
from fastent.io.checksums import with_checksum
from fastent.io.store import open_store

N = 103


def small_model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Dropout(), nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    )


def small_data(n=N):
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(n, 6, generator=generator), torch.arange(n) % 3)


def loader(n=N, batch_size=8, **options):
    return DataLoader(small_data(n), batch_size=batch_size, **options)


def files(folder):
    """Every file's bytes, and the manifest less what the clock has a say in."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["throughput"]
    return found, manifest


def outputs(model, X, upto, batch_size=8):
    """A plain reference: the first layers of a sequential model, batch by batch."""
    with torch.no_grad():
        return torch.cat([nn.Sequential(*list(model.eval())[:upto])(batch.clone()) for batch in X.split(batch_size)])


# What is written


@pytest.mark.parametrize("shard_rows", [1, 20, 1000])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_store_holds_what_the_layers_put_out(tmp_path, dtype, shard_rows):
    model, X = small_model(), small_data().tensors[0]
    store = fe.capture(model, loader(), ["0", "4.0", ""], tmp_path / "s", dtype=dtype, shard_rows=shard_rows)
    assert store.layers == ("0", "4.0", "")
    assert store.complete
    assert len(store) == N
    assert store.labels.tolist() == [i % 3 for i in range(N)]
    assert store.row_ids.tolist() == list(range(N))
    for name, rows in (("0", outputs(model, X, 1)), ("", outputs(model, X, 5))):
        stored = fe.open(f"{tmp_path / 's'}:{name}")
        assert stored.dtype == (np.float16 if dtype == "float16" else np.float32)
        np.testing.assert_array_equal(stored[:], rows.to(getattr(torch, dtype)).float().numpy())
        np.testing.assert_array_equal(stored[[100, 3, 3, 50]], stored[:][[100, 3, 3, 50]])
    store.verify()


def test_layers_of_any_name_and_a_layer_called_labels(tmp_path):
    model = nn.Sequential(collections.OrderedDict([("labels", nn.Linear(6, 2)), ("a/b", nn.Tanh()), ("a_b", nn.Tanh())]))
    store = fe.capture(model, loader(), ["labels", "a/b", "a_b"], tmp_path)
    rows = {name: fe.open(tmp_path, name)[:] for name in store.layers}
    assert rows["labels"].shape == (N, 2)
    assert np.abs(rows["a/b"] - rows["a_b"]).max() > 0
    assert len(list(tmp_path.iterdir())) == 5


def test_one_layer_needs_no_name_and_several_do(tmp_path):
    fe.capture(small_model(), loader(), ["0"], tmp_path / "one")
    assert fe.open(tmp_path / "one").shape == (N, 5)
    fe.capture(small_model(), loader(), ["0", "4"], tmp_path / "two")
    with pytest.raises(fe.FastentError, match=r"'0', '4', and no name was given: name one, as .*two:0"):
        fe.open(tmp_path / "two")
    with pytest.raises(fe.FastentError, match="'5' is not among them"):
        fe.open(f"{tmp_path / 'two'}:5")


def test_the_last_batch_that_is_dropped_and_rows_without_labels(tmp_path):
    store = fe.capture(small_model(), DataLoader(small_data().tensors[0], batch_size=8, drop_last=True), ["0"], tmp_path)
    assert len(store) == 96
    assert store.labels is None


@pytest.mark.spawn
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_workers_change_nothing(tmp_path):
    one = fe.capture(small_model(), loader(), ["0"], tmp_path / "one", shard_rows=30)
    two = fe.capture(small_model(), loader(num_workers=2), ["0"], tmp_path / "two", shard_rows=30)
    assert files(one.path) == files(two.path)


def test_throughput_is_reported(tmp_path):
    messages = []
    store = fe.capture(
        small_model(), loader(), ["0"], tmp_path, progress=lambda done, total, message: messages.append((done, total, message))
    )
    assert messages[-1][:2] == (N, N)
    assert messages[-1][2].endswith("MB/s")
    speed = store.manifest["throughput"]
    assert speed["rows_per_second"] > 0
    assert speed["megabytes_per_second"] == pytest.approx(speed["rows_per_second"] * (5 * 2 + 8) / 1e6, rel=0.05, abs=2e-3)


def test_a_store_is_measured_like_the_array(tmp_path):
    store = fe.capture(small_model(), loader(300), ["4"], tmp_path, shard_rows=64)
    source = fe.open(f"{tmp_path}:4")
    options = {"queries": 50, "metrics": ["geometry", "mixing", "margins"]}
    stored = fe.measure(source, store.labels, **options).summary()
    array = fe.measure(source[:], store.labels, **options).summary()
    assert stored == pytest.approx(array, rel=1e-12, nan_ok=True)


# Pooling


def test_pooling_of_positions(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True))
    X = torch.randn(10, 1, 6, 5)
    with torch.no_grad():
        maps = nn.functional.conv2d(X, model[0].weight, model[0].bias).double()
    for pooling, expected in (("mean", maps.mean((2, 3))), ("flatten", maps.flatten(1))):
        fe.capture(model, DataLoader(X, batch_size=4), ["0"], tmp_path / pooling, pooling=pooling, dtype="float32")
        np.testing.assert_allclose(fe.open(tmp_path / pooling)[:], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(fe.FastentError, match=r"has no tokens: use pooling='mean' or 'flatten'"):
        fe.capture(model, DataLoader(X), ["0"], tmp_path / "cls", pooling="cls")


def test_conv1d_has_positions_last():
    model, X = nn.Sequential(nn.Conv1d(2, 3, 2)), torch.randn(4, 2, 7)
    with hooked(model, ["0"]) as run_model:
        output, found = run_model(X)
    assert torch.equal(found["0"], output.mean(2))


def test_pooling_of_tokens():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    X = torch.randn(3, 5, 8)
    with torch.no_grad():
        expected = encoder.eval()(X)
    pooled = {"mean": expected.mean(1), "cls": expected[:, 0], "flatten": expected.flatten(1)}
    for pooling, rows in pooled.items():
        with hooked(encoder, ["layers.1"], pooling) as run_model:
            torch.testing.assert_close(run_model(X)[1]["layers.1"], rows)


class Words(nn.Module):
    """Takes and returns what models of transformers do."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.block = Block()
        self.head = nn.Linear(6, 2)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.block(self.embedding(input_ids))[0]
        return collections.OrderedDict(loss=None, logits=self.head(hidden[:, 0]), hidden_states=(hidden,))


class Block(nn.Module):
    def forward(self, x):
        return (x * 2, None)


def words(padding):
    """Sequences of 4 tokens, padded to more."""
    ids = torch.randint(1, 20, (12, 4), generator=torch.Generator().manual_seed(0))
    pad = torch.zeros(12, padding, dtype=torch.int64)
    mask = torch.cat([torch.ones_like(ids), pad], 1)
    rows = [
        {"input_ids": i, "attention_mask": m, "labels": torch.tensor(r % 2)}
        for r, (i, m) in enumerate(zip(torch.cat([ids, pad], 1), mask))
    ]
    return DataLoader(rows, batch_size=5)


def test_mappings_of_inputs_and_outputs_and_padding_that_does_not_count(tmp_path):
    torch.manual_seed(0)
    model = Words()
    bare = fe.capture(model, words(0), ["block", "", "embedding"], tmp_path / "bare", dtype="float32")
    padded = fe.capture(model, words(3), ["block", "", "embedding"], tmp_path / "padded", dtype="float32")
    assert bare.labels.tolist() == [r % 2 for r in range(12)]
    assert bare.layer("").shape == (12, 2)
    for name in bare.layers:
        np.testing.assert_allclose(bare.layer(name)[:], padded.layer(name)[:], rtol=1e-6)


@pytest.mark.large
def test_a_model_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**shape))
    store = fe.capture(model, words(2), ["bert.encoder.layer.1", "classifier"], tmp_path, pooling="cls", dtype="float32")
    batch = next(iter(words(2)))
    with torch.no_grad():
        found = model.eval()(batch["input_ids"], batch["attention_mask"], output_hidden_states=True)
    np.testing.assert_allclose(store.layer("classifier")[:5], found.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(store.layer("bert.encoder.layer.1")[:5], found.hidden_states[2][:, 0], rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_changed_in_place_afterwards():
    model, X = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True)), torch.randn(4, 6)
    with hooked(model, ["0"]) as run_model:
        assert torch.equal(run_model(X)[1]["0"], model[0].forward(X))


def test_wrapped_models_are_looked_through(tmp_path):
    plain = fe.capture(small_model(), loader(), ["0"], tmp_path / "plain")
    wrapped = fe.capture(nn.DataParallel(small_model()), loader(), ["0"], tmp_path / "wrapped")
    assert files(plain.path) == files(wrapped.path)


# The model is left as it was


def trained(look_in_between):
    """Parameters and buffers after some steps with dropout, with or without a look in between."""
    model = small_model()
    model[1].eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    shuffled = torch.Generator().manual_seed(5)
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    for X, y in DataLoader(small_data(), batch_size=16, shuffle=True, generator=shuffled):
        nn.functional.cross_entropy(model(X), y).backward()
        look_in_between(model)
        optimizer.step()
        optimizer.zero_grad()
        model(X + random.random() + np.random.random())  # noqa: NPY002
    return [
        *(tensor.clone() for tensor in model.state_dict().values()),
        torch.rand(3),
        shuffled.get_state(),
        *(torch.tensor(module.training) for module in model.modules()),
        *(torch.tensor(len(module._forward_hooks)) for module in model.modules()),
    ]


def test_a_training_that_is_captured_is_what_it_would_have_been(tmp_path):
    own = torch.Generator().manual_seed(9)

    def look(model):
        state = own.get_state()
        fe.capture(model, loader(generator=own), ["0", "3"], tmp_path, overwrite=True)
        assert torch.equal(state, own.get_state())
        with contextlib.suppress(ZeroDivisionError), hooked(model, ["0"]):
            torch.rand(5)
            raise ZeroDivisionError

    assert all(map(torch.equal, trained(look), trained(lambda model: None)))


def test_the_models_own_output_is_what_it_would_have_been():
    model, X = small_model(), small_data().tensors[0]
    with hooked(model, ["0", "4.0"], "flatten") as run_model:
        output, _ = run_model(X)
    with torch.no_grad():
        assert torch.equal(output, model.eval()(X))


# Going on after an interruption


class Stops(nn.Module):
    """Counts the rows that pass, and stops at one of them as a kill would."""

    def __init__(self, stop=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 5)
        self.rows, self.stop = 0, stop

    def forward(self, x):
        self.rows += len(x)
        if self.stop is not None and self.rows > self.stop:
            raise ZeroDivisionError
        return self.layer(x)


class Stream(IterableDataset):
    def __iter__(self):
        return zip(*small_data().tensors)


LOADERS = {
    "map": loader,
    "iterable": lambda: DataLoader(Stream(), batch_size=8),
    "list": lambda: list(loader()),
    "subset": lambda: DataLoader(Subset(small_data(200), range(N)), batch_size=8),
    "a subclass": lambda: type("Own", (DataLoader,), {})(small_data(), batch_size=8),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("stop", [0, 5, 16, 17, 40, 95, 100])
def test_a_capture_goes_on_where_it_stopped(tmp_path, kind, stop):
    whole = fe.capture(Stops(), LOADERS[kind](), ["layer"], tmp_path / "whole", shard_rows=16)
    for _ in range(2):
        with contextlib.suppress(ZeroDivisionError):
            fe.capture(Stops(stop), LOADERS[kind](), ["layer"], tmp_path / "parts", shard_rows=16)
    model = Stops()
    resumed = fe.capture(model, LOADERS[kind](), ["layer"], tmp_path / "parts", shard_rows=16)
    assert files(resumed.path) == files(whole.path)
    assert model.rows <= max(N - stop + 24, 0) or stop < 24  # what is on disk does not pass through the model again
    again = Stops()
    fe.capture(again, LOADERS[kind](), ["layer"], tmp_path / "parts", shard_rows=16)
    assert again.rows == 8  # the first batch, to see whether it gives the same


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("kind", LOADERS)
def test_a_capture_goes_on_with_the_same_computation_alone(tmp_path, kind, dtype, complete):
    """Of the same weights, another activation, or another slope of it, is another model."""

    def model(activation, stop=None):
        return nn.Sequential(Stops(stop), activation)

    call = {"layers": ["1"], "out": tmp_path, "shard_rows": 16, "dtype": dtype}
    with contextlib.suppress(ZeroDivisionError):
        fe.capture(model(nn.LeakyReLU(0.1), None if complete else 60), LOADERS[kind](), **call)
    before = files(tmp_path)
    for other in (nn.LeakyReLU(0.13), nn.Tanh()):
        with pytest.raises(fe.FastentError, match=r"other outputs of layer '1'.*another folder, or use overwrite=True"):
            fe.capture(model(other), LOADERS[kind](), **call)
        assert files(tmp_path) == before
    assert fe.capture(model(nn.LeakyReLU(0.1)), LOADERS[kind](), **call).complete


def test_going_on_draws_nothing(tmp_path):
    class Drawing(TensorDataset):
        def __getitem__(self, i):
            random.random()
            np.random.rand()  # noqa: NPY002
            torch.rand(1)
            return super().__getitem__(i)

    drawing = DataLoader(Drawing(*small_data().tensors), batch_size=8)
    with contextlib.suppress(ZeroDivisionError):
        fe.capture(Stops(60), drawing, ["layer"], tmp_path, shard_rows=16)
    for _ in range(2):  # unfinished, and complete
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        fe.capture(Stops(), drawing, ["layer"], tmp_path, shard_rows=16)
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("kind", ["map", "list"])
def test_a_capture_goes_on_with_the_same_rows_and_labels_alone(tmp_path, kind, complete):
    X, y = small_data().tensors

    def again(X, y):
        batches = DataLoader(TensorDataset(X, y), batch_size=8)
        return fe.capture(Stops(), batches if kind == "map" else list(batches), ["layer"], tmp_path, shard_rows=16)

    with contextlib.suppress(ZeroDivisionError):
        fe.capture(Stops(None if complete else 90), LOADERS[kind](), ["layer"], tmp_path, shard_rows=16)
    before = files(tmp_path)
    other_rows, other_labels = X.clone(), y.clone()
    other_rows[40, 2] += 1
    other_labels[60] += 1
    for changed, where in (((other_rows, y), "32 to 47"), ((X, other_labels), "48 to 63")):
        with pytest.raises(fe.FastentError, match=f"other inputs or labels in the rows {where}: name another folder"):
            again(*changed)
        assert files(tmp_path) == before
    if complete and kind == "list":
        for rows, reason in ((N - 3, "103 rows, and the loader has|the batch size"), (N, None)):
            with pytest.raises(fe.FastentError, match=reason) if reason else contextlib.nullcontext():
                again(X[:rows], y[:rows])
        with pytest.raises(fe.FastentError, match="103 rows, and the loader has more"):
            fe.capture(Stops(), [*LOADERS[kind](), *LOADERS[kind]()], ["layer"], tmp_path, shard_rows=16)
    assert again(X, y).complete


def test_an_unfinished_store_says_so(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fe.capture(Stops(40), loader(), ["layer"], tmp_path, shard_rows=16)
    with pytest.raises(fe.FastentError, match="unfinished capture with 32 of 103 rows: run the same capture again"):
        fe.open(tmp_path)
    assert len(open_store(tmp_path, unfinished=True).layer()) == 32


CRASHES = """
import os, random, signal, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import fastent as fe
import fastent.io.files

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 5)
        with torch.no_grad():
            self.layer.weight.copy_(torch.arange(30.0).reshape(5, 6) / 30)
            self.layer.bias.zero_()
    def forward(self, x):
        time.sleep(PAUSE)
        return self.layer(x)

def capture(out):
    torch.set_num_threads(1)
    X = torch.sin(torch.arange(6.0 * ROWS)).reshape(ROWS, 6)
    loader = DataLoader(TensorDataset(X, torch.arange(ROWS) % 3), batch_size=4)
    fe.capture(Slow(), loader, ["layer", ""], out, shard_rows=16)

def child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid
"""

AT_RANDOM = """
PAUSE, ROWS = 0.001, 2000
generator = random.Random(int(sys.argv[2]))
kills = 0
while kills < 20:
    pid = child(lambda: capture(sys.argv[1]))
    time.sleep(generator.uniform(0.02, 0.12))
    os.kill(pid, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        kills += 1
    else:
        break
capture(sys.argv[1])
PAUSE = 0
capture(sys.argv[1] + "-whole")
print(kills)
"""

AT_EVERY_RENAME = """
PAUSE, ROWS = 0, 44
replace, renames = os.replace, 0
def dying(before, last):
    def rename(*names):
        global renames
        renames += 1
        if before and renames == last:
            os._exit(9)
        replace(*names)
        if renames == last:
            os._exit(9)
    return rename
def dies(before, last, out):
    def work():
        os.replace = dying(before, last)
        capture(out)
    return os.waitpid(child(work), 0)[1] != 0
last = 0
while all([dies(before, last + 1, f"{sys.argv[1]}-{int(before)}-{last}") for before in (True, False)]):
    last += 1
for before in (0, 1):
    for i in range(last):
        capture(f"{sys.argv[1]}-{before}-{i}")
capture(sys.argv[1] + "-whole")
print(last)
"""


def crash(script, *arguments):
    code = textwrap.dedent(CRASHES) + script
    ended = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


@pytest.mark.spawn
def test_a_capture_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    assert crash(AT_RANDOM, tmp_path / "killed", 0) >= 5
    assert files(tmp_path / "killed") == files(tmp_path / "killed-whole")


@pytest.mark.spawn
def test_a_capture_that_dies_at_any_rename_ends_as_if_it_had_not(tmp_path):
    renames = crash(AT_EVERY_RENAME, tmp_path / "dies")
    assert (
        renames == 1 + 3 * (3 + 1) + 1
    )  # the manifest; three shards of two layers and labels, each into the manifest; the end
    whole = files(tmp_path / "dies-whole")
    for before in (0, 1):
        for last in range(renames):
            assert files(tmp_path / f"dies-{before}-{last}") == whole


@pytest.mark.spawn
def test_ctrl_c_is_one(tmp_path):
    code = textwrap.dedent(CRASHES) + textwrap.dedent("""
        PAUSE, ROWS = 0.01, 4000
        try:
            pid = child(lambda: (time.sleep(0.5), os.kill(os.getppid(), signal.SIGINT)))
            capture(sys.argv[1])
        except KeyboardInterrupt:
            print("interrupted")
    """)
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.stdout == "interrupted\n", ended.stderr
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    open_store(tmp_path, unfinished=True).verify()


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": small_model(1)}, "model "),
        ({"layers": ["0"]}, r"layers \['0', '4'\], not \['0'\]"),
        ({"pooling": "cls"}, "pooling mean, not cls"),
        ({"dtype": "float32"}, "dtype float16, not float32"),
        ({"loader": loader(batch_size=9)}, "batch_size 8, not 9"),
        ({"loader": loader(104)}, "total_rows 103, not 104"),
        ({"loader": DataLoader(TensorDataset(torch.zeros(N, 6), torch.zeros(N)), batch_size=8)}, "other inputs"),
    ],
)
def test_another_capture_is_neither_continued_nor_replaced_unless_asked(tmp_path, change, message):
    call = {"model": small_model(), "loader": loader(), "layers": ["0", "4"], "out": tmp_path}
    fe.capture(**call)
    before = files(tmp_path)
    with pytest.raises(fe.FastentError, match=f"holds a capture with {message}.*name another folder, or use overwrite=True"):
        fe.capture(**call | change)
    assert files(tmp_path) == before
    fe.capture(**call | change, overwrite=True)
    fresh = fe.capture(**call | change | {"out": tmp_path / "fresh"}).path
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".npy"}
    assert there == files(fresh)[0]


def test_a_capture_that_cannot_begin_replaces_nothing(tmp_path):
    fe.capture(small_model(), loader(), ["0"], tmp_path)
    before = files(tmp_path)
    with pytest.raises(ZeroDivisionError):
        fe.capture(Stops(0), loader(), ["layer"], tmp_path, overwrite=True)
    assert files(tmp_path) == before


def damaged(tmp_path, how):
    """A store of three shards with something wrong in it; its path, and the file's name."""
    store = fe.capture(small_model(), loader(), ["0", "4"], tmp_path / "s", shard_rows=40)
    file = store.path / "01-4.00001.npy"
    how(file, store.path / "manifest.json")
    return store.path


def truncate(file, manifest):
    os.truncate(file, file.stat().st_size - 1)


def lengthen(file, manifest):
    file.write_bytes(file.read_bytes() + b"x")


def empty(file, manifest):
    file.write_bytes(b"")


def remove(file, manifest):
    file.unlink()


def reshape(file, manifest):
    np.save(file, np.zeros((40, 5), np.float16))


def retype(file, manifest):
    np.save(file, np.zeros((40, 4), np.float32))


@pytest.mark.parametrize("how", [truncate, lengthen, empty, remove, reshape, retype])
def test_a_file_that_disagrees_with_the_manifest(tmp_path, how):
    path = damaged(tmp_path, how)
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    for look in (
        lambda: fe.open(path, "0"),
        lambda: open_store(path),
        lambda: fe.capture(small_model(), loader(), ["0", "4"], path, shard_rows=40),
    ):
        with pytest.raises(fe.FastentError, match=r"01-4\.00001\.npy") as error:
            look()
        assert "restore it, or capture again with overwrite=True" in str(error.value) or how is remove
    assert {each.name: each.read_bytes() for each in path.iterdir()} == before


@pytest.mark.parametrize("at", [70, 140, -1])
def test_a_flipped_byte(tmp_path, at):
    def flip(file, manifest):
        content = bytearray(file.read_bytes())
        content[at] ^= 1
        file.write_bytes(content)

    path = damaged(tmp_path, flip)
    for look in (
        lambda: open_store(path).verify(),
        lambda: fe.open(path, "4")[:],
        lambda: fe.open(path, "4")[[45]],
        lambda: fe.capture(small_model(), loader(), ["0", "4"], path, shard_rows=40),
    ):
        with pytest.raises(fe.FastentError, match=r"01-4\.00001\.npy"):
            look()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(rows=104),
        lambda m: m.update(total_rows=104),
        lambda m: m.update(complete="yes"),
        lambda m: m["shards"].pop(1),
        lambda m: m["shards"][1].update(rows=39),
        lambda m: m["shards"][1]["files"].pop(),
        lambda m: m["shards"][1]["files"][0].update(file="../elsewhere.npy"),
        lambda m: m["layers"][0].update(d=6),
        lambda m: m["layers"].append(m["layers"][0]),
        lambda m: m.update(dtype="float32"),
        lambda m: m.update(dtype="int8"),
        lambda m: m.update(labels=None),
        lambda m: m.update(labels="nonsense"),
        lambda m: m.update(format="other"),
        lambda m: m.update(version=1),
        lambda m: m.update(version=3),
        lambda m: m.update(pooling="cls"),
        lambda m: m["throughput"].update(seconds=1.0),
        lambda m: m.pop("checksum"),
        lambda m: m.pop("shards"),
        lambda m: m.pop("model"),
        lambda m: m.update(shards=3),
    ],
)
def test_a_manifest_that_disagrees(tmp_path, change):
    def edit(file, place):
        manifest = json.loads(place.read_text())
        change(manifest)
        place.write_text(json.dumps(manifest))

    path = damaged(tmp_path, edit)
    with pytest.raises(fe.FastentError, match=r"manifest|\.npy"):
        fe.open(path, "0")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 3}'])
def test_a_manifest_that_is_none(tmp_path, content):
    path = damaged(tmp_path, lambda file, manifest: manifest.write_bytes(content))
    with pytest.raises(fe.FastentError, match=r"is damaged or none of fe\.capture"):
        fe.open(path, "0")


def test_shards_without_a_manifest_are_not_written_over(tmp_path):
    path = damaged(tmp_path, lambda file, manifest: manifest.unlink())
    with pytest.raises(fe.FastentError, match=r"but no manifest\.json: restore it, or capture into another folder"):
        fe.capture(small_model(), loader(), ["0", "4"], path)
    assert len(list(path.iterdir())) == 9


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".hidden.npy").write_text("mine")
    fe.capture(small_model(), loader(), ["0"], tmp_path)
    fe.capture(small_model(), loader(), ["4"], tmp_path, overwrite=True)
    assert {"notes.txt", ".hidden.npy"} < {path.name for path in tmp_path.iterdir()}


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.spawn
def test_a_full_disk_loses_nothing(small_disk, tmp_path):
    torch.manual_seed(0)
    model, data = nn.Linear(6, 500), DataLoader(small_data(3000).tensors[0], batch_size=50)
    whole = fe.capture(model, data, [""], tmp_path / "whole", shard_rows=400)
    for _ in range(2):
        with pytest.raises(fe.FastentError, match=r"no space left.*the first 2,000 rows are safe: make room"):
            fe.capture(model, data, [""], small_disk, shard_rows=400)
        assert not [path for path in small_disk.iterdir() if path.name.startswith(".")]
        kept = open_store(small_disk, unfinished=True)
        kept.verify()
        np.testing.assert_array_equal(kept.layer()[:], whole.layer()[:2000])
    subprocess.run(["mount", "-o", "remount,size=20M", small_disk], check=True)
    resumed = fe.capture(model, data, [""], small_disk, shard_rows=400)
    assert files(resumed.path) == files(whole.path)


def test_two_captures_into_one_folder(tmp_path):
    class Inner(nn.Module):
        def forward(self, x):
            with pytest.raises(fe.FastentError, match="another process writes to"):
                fe.capture(small_model(), loader(), ["0"], tmp_path)
            return x

    fe.capture(Inner(), loader(16), [""], tmp_path)


def test_large_values_whose_sum_overflows_are_stored(tmp_path):
    X = torch.full((20, 3), 3e38)
    assert (
        fe.capture(nn.Identity(), DataLoader(X, batch_size=8), [""], tmp_path, dtype="float32").layer()[:] == np.float32(3e38)
    ).all()


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (
            1e5,
            "float16",
            r"layer '0' puts out 100000 at row 11, beyond the range of float16: use dtype='bfloat16' or 'float32'",
        ),
        (-1e5, "float16", "puts out -100000 at row 11"),
        (3.4e38, "bfloat16", "beyond the range of bfloat16: use dtype='float32'"),
        (float("nan"), "float16", "puts out nan at row 11: repair the model or that row's data"),
        (float("inf"), "float32", "puts out inf at row 11"),
        (float("-inf"), "bfloat16", "puts out -inf at row 11"),
    ],
)
def test_values_that_cannot_be_stored(tmp_path, value, dtype, message):
    X = torch.zeros(20, 3)
    X[11, 1] = value
    with pytest.raises(fe.FastentError, match=message):
        fe.capture(nn.Sequential(nn.Identity()), DataLoader(X, batch_size=8), ["0"], tmp_path, dtype=dtype)
    X[11, 1] = 65504.0
    assert fe.capture(nn.Identity(), DataLoader(X, batch_size=8), [""], tmp_path, overwrite=True).layer()[11][1] == 65504


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused, self.whole = nn.Linear(6, 6), nn.Linear(6, 6), nn.Identity()

    def forward(self, x):
        self.whole(torch.ones(3, len(x)))
        return self.layer(self.layer(x)).argmax(1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layer"], "called more than once in a pass"),
        (["unused"], "is not called by the model"),
        (["whole"], r"puts out torch.float32 of shape \(3, 8\) for 8 inputs"),
        ([""], "puts out torch.int64"),
        (["leyer"], "model has no layer 'leyer': choose from 'layer'"),
        ([], "layers is empty"),
        ("layer", "a sequence of names is needed"),
        ([3], "model has no layer 3"),
    ],
)
def test_layers_that_cannot_be_captured(tmp_path, layers, message):
    model = Twice()
    with pytest.raises(fe.FastentError, match=message):
        fe.capture(model, loader(), layers, tmp_path)
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def varied():
    yield torch.zeros(2, 1, 4)
    yield torch.zeros(2, 1, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loader": loader(shuffle=True)}, "RandomSampler.*use shuffle=False"),
        ({"loader": loader(sampler=torch.utils.data.SubsetRandomSampler(range(5)))}, "SubsetRandomSampler"),
        ({"loader": DataLoader(small_data(), batch_sampler=[[3, 1], [2]])}, "by a list.*torch.utils.data.Subset"),
        ({"loader": 3}, "loader is int"),
        ({"loader": []}, "loader has no rows"),
        ({"loader": loader(0)}, "loader has no rows"),
        ({"loader": ["text"]}, "loader yields a str"),
        ({"loader": [(1, 2)]}, "loader yields a tuple of int, int"),
        ({"loader": [{"x": 3}]}, "loader yields a mapping of x"),
        ({"loader": [(torch.zeros(2, 6), torch.zeros(2)), torch.zeros(2, 6)]}, "labels of dtype <f4 and then of None at row 2"),
        ({"loader": varied(), "model": nn.Identity(), "layers": [""], "pooling": "flatten"}, "4 and then 5 values a row"),
        ({"model": "net"}, "model is str"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"dtype": "float64"}, "dtype='float64'"),
        ({"shard_rows": 0}, "shard_rows=0"),
        ({"device": "nowhere"}, "device='nowhere': choose 'cpu' or 'cuda'"),
        ({"out": "/proc/no"}, "cannot write to the folder"),
    ],
)
def test_bad_input(tmp_path, given, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.capture(**{"model": small_model(), "loader": loader(), "layers": ["0"], "out": tmp_path} | given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_no_cuda(tmp_path):
    with pytest.raises(fe.FastentError, match="torch sees 0 CUDA devices"):
        fe.capture(small_model(), loader(), ["0"], tmp_path, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda(tmp_path):
    model = small_model()
    here = fe.capture(model, loader(), ["0", "4"], tmp_path / "cpu", dtype="float32")
    state = torch.cuda.get_rng_state()
    there = fe.capture(model, loader(), ["0", "4"], tmp_path / "cuda", dtype="float32", device="cuda")
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert torch.equal(state, torch.cuda.get_rng_state())
    for name in here.layers:
        np.testing.assert_allclose(here.layer(name)[:], there.layer(name)[:], rtol=1e-4, atol=1e-5)


# A model as a source


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_a_model_is_a_source(batch_size):
    model, X = small_model(), small_data().tensors[0]
    rows = outputs(model, X, 1, batch_size).numpy()
    model.train()
    model[3].eval()
    source = fe.ModelSource(model, loader(batch_size=batch_size), "0")
    assert source.shape == (N, 5)
    assert source.dtype == np.float32
    for start, stop in ((0, N), (5, 9), (6, 7), (7, 28), (N - 1, N), (4, 4), (N, N)):
        np.testing.assert_array_equal(source.read(start, stop), rows[start:stop])
    some = np.array([50, 3, 3, 102, 0, 51])
    np.testing.assert_array_equal(source[some], rows[some])
    np.testing.assert_array_equal(source[-1], rows[-1])
    np.testing.assert_array_equal(source[::10], rows[::10])
    assert [module.training for module in model] == [True, True, True, False, True]


def test_a_model_that_is_trained_between_reads():
    model = small_model()
    source = fe.ModelSource(model, loader(), "0")
    before = source.read(0, 8)
    with torch.no_grad():
        model[0].bias.data += 1
    assert np.abs(source.read(0, 8) - before - 1).max() < 1e-6


def test_a_model_as_a_source_is_measured():
    model, data = small_model(), small_data(200)
    source = fe.ModelSource(model, DataLoader(data, batch_size=32), "4")
    live = fe.geometry(source, data.tensors[1])
    stored = fe.geometry(source[:], data.tensors[1])
    np.testing.assert_allclose(live.radius, stored.radius, rtol=1e-12)
    options = {"queries": 30, "metrics": ["mixing"]}
    live, stored = (fe.measure(X, data.tensors[1], **options).summary() for X in (source, source[:]))
    assert live == pytest.approx(stored, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: loader(shuffle=True), "shuffle=False"),
        (lambda: DataLoader(Stream(), batch_size=8), "cannot be asked for a row by its number.*fe.capture"),
        (lambda: list(loader()), "a list, cannot be asked"),
        (lambda: loader(batch_size=None), "cannot be asked"),
        (lambda: loader(5, drop_last=True), "no rows"),
    ],
)
def test_loaders_that_are_no_source(given, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.ModelSource(small_model(), given(), "0")


def test_bfloat16_of_a_model_is_handed_out_as_float32():
    source = fe.ModelSource(nn.Linear(6, 2).bfloat16(), DataLoader(torch.ones(5, 6).bfloat16(), batch_size=2), "")
    assert source.dtype == source.read(0, 5).dtype == np.float32


# Loaders


def test_what_batches_yields():
    X, y = small_data(5).tensors
    for given, labels in ((X, None), ((X,), None), ((X, y), y), ([X, y], y), ((X, X), None), ({"x": X, "label": y}, y)):
        ((inputs, found),) = list(batches([given]))
        assert torch.equal(inputs["x"] if isinstance(inputs, dict) else inputs, X)
        assert (found is None and labels is None) or torch.equal(found, labels)
    assert list(batches([X[:0], (X[:0], y[:0])])) == []


# The command line


@pytest.fixture
def fastent(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(
        "import torch\n"
        "def net(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 5), torch.nn.Tanh())\n"
        "def other(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["capture", *map(str, arguments)])


def test_the_command(tmp_path, fastent):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh())
    torch.save(model.state_dict(), tmp_path / "W.pt")
    X, y = small_data()[:]
    np.save(tmp_path / "X.npy", X.reshape(N, 2, 3))
    np.savez(tmp_path / "all.npz", X=X, y=y)
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "shards" / "0.npy", X[:50])
    np.save(tmp_path / "shards" / "1.npy", X[50:])
    direct = fe.capture(model, loader(), ["1", "2"], tmp_path / "direct", shard_rows=40)
    asked = ("--model", "nets:net", "--weights", tmp_path / "W.pt", "--layers", "1,2", "--batch-size", 8, "--shard-rows", 40)
    for i, place in enumerate((tmp_path / "X.npy", tmp_path / "all.npz", tmp_path / "shards")):
        ended = fastent(*asked, "--data", place, "--labels", f"{tmp_path}/all.npz:y", "--out", tmp_path / str(i))
        assert ended.exit_code == 0, ended.output
        assert "103 rows in" in ended.stdout
        assert "rows/s" in ended.stdout
        assert files(tmp_path / str(i))[0] == files(direct.path)[0]
    assert fastent(*asked, "--data", tmp_path / "X.npy", "--out", tmp_path / "bare").exit_code == 0
    assert open_store(tmp_path / "bare").labels is None


def test_the_command_verifies(tmp_path, fastent):
    store = fe.capture(small_model(), loader(), ["0"], tmp_path / "s")
    ended = fastent("--verify", store.path)
    assert ended.exit_code == 0
    assert "103 rows verified" in ended.stdout
    file = store.path / "00-0.00000.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    ended = fastent("--verify", store.path)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("fastent: error: ")
    assert "00-0.00000.npy' is not what was written" in ended.stderr


def test_tokens_arrive_as_whole_numbers(tmp_path, fastent):
    (tmp_path / "words.py").write_text("import torch\ndef net(): return torch.nn.Embedding(20, 4)\n")
    np.save(tmp_path / "X.npy", np.arange(12).reshape(4, 3))
    ended = fastent("--model", "words:net", "--data", tmp_path / "X.npy", "--layers", "", "--out", tmp_path / "s")
    assert ended.exit_code == 0, ended.output
    assert fe.open(tmp_path / "s").shape == (4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "nets:missing"}, "cannot be imported"),
        ({"--model": "nets:other"}, "returned int"),
        ({"--model": None}, "--model is missing"),
        ({"--out": None}, "--out is missing"),
        ({"--weights": "none.pt"}, "nothing at"),
        ({"--weights": "W.pt"}, "does not hold the weights of nets:net"),
        ({"--weights": "X.npy"}, "does not hold the weights of nets:net"),
        ({"--data": "none.npy"}, "nothing at"),
        ({"--data": "narrow.npy"}, "does not run on the rows of"),
        ({"--labels": "X.npy"}, "one whole number for each row"),
        ({"--labels": "y.npy"}, "y.npy has 8"),
        ({"--batch-size": 0}, "batch-size=0"),
        ({"--layers": "5"}, "no layer '5'"),
    ],
)
def test_what_the_command_refuses(tmp_path, fastent, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.zeros((9, 6)))
    np.save("narrow.npy", np.zeros((9, 4)))
    np.save("y.npy", np.zeros(8, int))
    torch.save({"other": torch.zeros(3)}, "W.pt")
    asked = {"--model": "nets:net", "--data": "X.npy", "--layers": "1", "--out": "s", "--batch-size": 4} | change
    ended = fastent(*(part for name, value in asked.items() if value is not None for part in (name, value)))
    assert ended.exit_code == 2, ended.output
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("at", [140, -1])
def test_a_flipped_byte_is_never_measured(tmp_path, at):
    def flip(file, manifest):
        content = bytearray(file.read_bytes())
        content[at] ^= 1
        file.write_bytes(content)

    path = damaged(tmp_path, flip)
    source, y = fe.open(path, "4"), np.arange(len(fe.open(path, "4"))) % 2
    assert len(source[:40]) == 40
    for look in (lambda: source[:], lambda: source[[50]], lambda: fe.geometry(source, y)):
        with pytest.raises(fe.FastentError, match=r"01-4\.00001\.npy' is not what was written \(SHA-256\): restore it"):
            look()


def test_flipped_labels_are_never_measured(tmp_path):
    store = fe.capture(small_model(), loader(), ["0"], tmp_path / "acts", shard_rows=40)
    file = sorted(store.path.glob("labels.*"))[1]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(fe.FastentError, match=r"labels\.00001\.npy' is not what was written"):
        print(open_store(store.path).labels)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["layers"][0].update(name=["0"]),
        lambda m: m["layers"][0].update(d=True),
        lambda m: m["layers"][0].update(d=-5),
        lambda m: m.update(labels="O"),
        lambda m: m.update(labels={"names": ["a"], "formats": ["O"]}),
        lambda m: m.update(dtype=["float16"]),
        lambda m: m.update(rows=True),
        lambda m: m.update(total_rows="many", complete=False),
        lambda m: m.update(throughput={"seconds": "long"}),
        lambda m: m.update(loader=[], pooling=3),
        lambda m: m.update(layers={}),
        lambda m: m["shards"][1].update(digest=3),
        lambda m: m["shards"][1].update(inputs={"file": "inputs.00001.npy", "sha256": ""}),
        lambda m: m["shards"][1].pop("digest"),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_odd_values_in_a_manifest(tmp_path, change, sealed):
    def edit(file, place):
        manifest = json.loads(place.read_text())
        change(manifest)
        if sealed:
            del manifest["checksum"]
            throughput = {name: value for name, value in manifest.pop("throughput").items() if name != "checksum"}
            manifest = {**with_checksum(manifest), "throughput": with_checksum(throughput)}
        place.write_text(json.dumps(manifest))

    path = damaged(tmp_path, edit)
    with pytest.raises(fe.FastentError, match=r"manifest\.json' is damaged or none of fe\.capture"):
        open_store(path, unfinished=True)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, '{"rows": ' + "9" * 6000 + "}", "{'a': 1}", "NaN"])
def test_a_manifest_that_nests_or_counts_without_end(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    for look in (lambda: fe.open(tmp_path), lambda: fe.capture(small_model(), loader(), ["0"], tmp_path)):
        with pytest.raises(fe.FastentError, match=r"manifest\.json' is damaged or none of fe\.capture") as error:
            look()
        assert len(str(error.value)) < 600


def test_a_transform_makes_inputs_of_what_is_stored(tmp_path):
    pictures = torch.randint(0, 256, (10, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10) % 2
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 4))

    def scaled(x):
        return x.float() / 255

    def loader(x):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, labels), batch_size=4)

    found = fe.capture(model, loader(pictures), ["1"], tmp_path / "a", transform=scaled)
    expected = fe.capture(model, loader(scaled(pictures)), ["1"], tmp_path / "b")
    np.testing.assert_array_equal(found.layer("1")[:], expected.layer("1")[:])
    np.testing.assert_array_equal(found.labels, labels)
    assert len(fe.capture(model, loader(pictures), ["1"], tmp_path / "a", transform=scaled)) == 10
    with pytest.raises(fe.FastentError, match="overwrite=True"):
        fe.capture(model, loader(pictures), ["1"], tmp_path / "a", transform=lambda x: x.float())
    for transform, message in (
        (lambda x: x[:2].float(), r"transform returns a batch of shape \(2, 2, 3\) for one of shape \(4, 2, 3\)"),
        (lambda x: None, "transform returns a batch that is a NoneType"),
        (lambda x: x.nope, r"transform fails on a batch of shape \(4, 2, 3\) and dtype torch.uint8 \(AttributeError"),
    ):
        with pytest.raises(fe.FastentError, match=message):
            fe.capture(model, loader(pictures), ["1"], tmp_path / "c", transform=transform)
