import gc
import json
import random

import numba
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

import fastent as fe
from fastent.activations import probe_pass
from fastent.errors import FastentError
from fastent.io.checksums import read_checked_npz, write_checked_npz
from fastent.runtime.threads import limit_threads
from fastent.search.kept_view import KeptView
from tests.live_models import CNN, Encoder, digits, loader, named, train

EVERYTHING = ("geometry", "distances", "nc1", "mixing", "margins", "dimension", "map")
CURVES = ("error", "loss", "radius", "distance", "fisher", "nc1", "mixing", "mixing_error", "margin", "n2", "n3", "dimension")


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small only wait for their second thread."""
    with limit_threads(1):
        yield


def made(kind, seed=0):
    torch.manual_seed(seed)
    return kind()


def assert_same_records(one, other, **tolerance):
    np.testing.assert_array_equal(one.step, other.step)
    np.testing.assert_array_equal(one.codes, other.codes)
    assert one.layers == other.layers
    assert one.scalars.keys() == other.scalars.keys()
    np.testing.assert_array_equal(one.wrong, other.wrong)
    for name in (*CURVES, "queries", "points"):
        a, b = getattr(one, name), getattr(other, name)
        if a is None or b is None:
            assert a is b, name
            continue
        if tolerance:
            np.testing.assert_allclose(a, b, err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


def activations(model, batches, layers):
    """Of all rows, pooled by hand."""
    found = {layer: [] for layer in layers}
    modules = dict(model.named_modules())

    def keep(layer):
        def hook(module, given, output):
            dims = (2, 3) if output.ndim == 4 else (1,) if output.ndim == 3 else ()
            found[layer].append(output.mean(dims) if dims else output.clone())

        return hook

    hooks = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(x)["logits"] for x, _ in batches])
    for hook in hooks:
        hook.remove()
    return {layer: torch.cat(rows).numpy() for layer, rows in found.items()}, logits


@pytest.mark.parametrize("kind", [CNN, Encoder])
@pytest.mark.parametrize("kept", [1 << 30, 20_000, 0])
def test_a_look_is_what_the_functions_say_of_all_activations(kind, kept, monkeypatch):
    """Bit for bit for neighbours, however many of the rows are kept and however many pass twice."""
    monkeypatch.setattr(probe_pass, "_KEPT_BYTES", kept)
    model, batches = made(kind), loader()
    probe = fe.Probe(model, batches, kind.layers, metrics=EVERYTHING, queries=70, k=5, seed=3)
    found = probe(0, lr=0.5)
    labels = digits(200)[1]
    rows, logits = activations(model, batches, kind.layers)
    records = probe.records
    assert records.error[0] == (logits.argmax(1) != labels).double().mean()
    assert records.loss[0] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-6)
    assert found["lr"] == 0.5 == records.scalars["lr"][0]
    for i, layer in enumerate(kind.layers):
        whole = fe.geometry(rows[layer], labels)
        np.testing.assert_allclose(records.radius[0, i], whole.radius, rtol=1e-9)
        np.testing.assert_allclose(records.distance[0, i], whole.distance, rtol=1e-9, atol=1e-12)
        assert records.fisher[0, i] == pytest.approx(whole.fisher, rel=1e-9)
        assert records.nc1[0, i] == pytest.approx(whole.nc1, rel=1e-7)
        near = fe.neighbors(rows[layer], 5, queries=70, seed=3)
        mixed = fe.mixing(near, labels)
        assert records.dimension[0, i] == fe.intrinsic_dimension(near).value
        between = fe.margins(rows[layer], labels, queries=70, seed=3)
        assert (records.mixing[0, i], records.mixing_error[0, i]) == (mixed.overlap, mixed.error)
        assert records.margin[0, i] == between.intervals["relative"].value
        assert (records.n2[0, i], records.n3[0, i]) == (between.n2, between.n3)
        assert found[f"{layer}/radius/3"] == records.radius[0, i, 3]
    np.testing.assert_array_equal(records.queries, near.queries)
    np.testing.assert_array_equal(records.points, rows[layer][near.queries])
    np.testing.assert_array_equal(records.misclassified(0), (logits.argmax(1) != labels).numpy())


@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 100), st.integers(0, 6000), st.booleans())
def test_batches_and_what_is_kept_change_nothing(extra, batch_size, queries, kept, double):
    n = 12 + extra
    rng = np.random.default_rng(n)
    X, y = rng.standard_normal((n, 3)), np.concatenate([[0, 1, 2, 0, 1, 2], rng.integers(0, 3, n - 6)])
    X = X if double else X.astype(np.float32)
    before = probe_pass._KEPT_BYTES
    probe_pass._KEPT_BYTES = kept
    try:
        batches = [
            (torch.from_numpy(X[i : i + batch_size]), torch.from_numpy(y[i : i + batch_size])) for i in range(0, n, batch_size)
        ]
        probe = fe.Probe(nn.Identity(), batches, [""], metrics=EVERYTHING, queries=queries, k=4, normalize=False)
        probe.record(7)
    finally:
        probe_pass._KEPT_BYTES = before
    records, asked = probe.records, min(queries, n)
    np.testing.assert_allclose(records.radius[0, 0], fe.geometry(X, y, normalize=False).radius, rtol=1e-9)
    assert records.mixing[0, 0] == fe.mixing(fe.neighbors(X, 4, queries=asked), y).overlap
    assert records.n2[0, 0] == pytest.approx(fe.margins(X, y, queries=asked).n2, rel=1e-12)


def test_layers_whose_rows_repeat_have_no_dimension():
    X, y = torch.ones(40, 3), torch.arange(40) % 2
    X[:, 2] = torch.arange(40)
    probe = fe.Probe(nn.Sequential(nn.Linear(3, 2), nn.Threshold(1e9, 0.0)), [(X, y)], ["0", "1"], metrics=["dimension", "map"])
    probe(0)
    assert not np.isnan(probe.records.dimension[0, 0])
    assert np.isnan(probe.records.dimension[0, 1])
    assert np.isnan(probe.records.mixing).all()
    assert (probe.records.points == 0).all()


def test_a_map_alone_takes_one_pass():
    X, y = torch.randn(40, 3), torch.arange(40) % 2
    calls = []
    model = nn.Linear(3, 2)
    model.register_forward_hook(lambda *_: calls.append(1))
    probe = fe.Probe(model, [(X, y)], [""], metrics=["map"], queries=7, k=1)
    probe(0)
    assert calls == [1]
    np.testing.assert_array_equal(probe.records.points, model(X)[probe.records.queries].detach().numpy())
    with pytest.raises(FastentError, match="k=1"):
        fe.Probe(model, [(X, y)], [""], metrics=["dimension"], k=1)


def test_directions_kept_between_records_change_nothing(monkeypatch):
    """5,000 rows of 24 features, so that they are searched in directions taken from a sample, of a layer that trains."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(5000, 24, generator=generator)
    y = (X[:, :3].sum(1) > 0).long()

    def records():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 2))
        probe = fe.Probe(model, [(X, y)], ["1"], metrics=("mixing", "margins"), queries=600)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        used = []
        for step in range(6):
            used.append(probe._views[0].view)
            probe(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), y).backward()
            optimizer.step()
        return probe.records, used

    found, used = records()
    assert sum(view is not None for view in used) >= 2
    assert all(view.frame.axes.shape == (24, 15) for view in used if view is not None)
    monkeypatch.setattr(KeptView, "judge", lambda self, look: None)
    assert_same_records(found, records()[0])


@pytest.mark.parametrize("kind", [CNN, Encoder])
def test_training_is_the_same_to_the_bit_with_a_probe(kind):
    """Parameters, buffers, modes, gradients, random numbers: dropout and batch normalisation tell on any of these."""

    def outcome(look):
        model, batches = made(kind), loader(200, 32, shuffle=True)
        model.head.eval()
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        probe = fe.Probe(model, loader(100, 30, start=200), kind.layers, metrics=EVERYTHING, queries=20)
        seen = []

        def after(epoch):
            modes = [module.training for module in model.modules()]
            gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
            if look:
                probe(epoch)
            assert modes == [module.training for module in model.modules()]
            for p, before in zip(model.parameters(), gradients):
                assert (p.grad is None) == (before is None)
                assert before is None or torch.equal(p.grad, before)
            assert all(p.requires_grad for p in model.parameters())
            assert not any(module._forward_hooks for module in model.modules())
            assert torch.is_grad_enabled()
            seen.append((torch.rand(1).item(), random.random(), np.random.rand()))  # noqa: NPY002

        train(model, batches, 3, after=after)
        return model.state_dict(), seen

    (bare, drawn), (probed, also_drawn) = outcome(False), outcome(True)
    assert drawn == also_drawn
    for name, value in bare.items():
        assert torch.equal(value, probed[name]), name


def test_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    def new():
        model = made(CNN)
        probe = fe.Probe(
            model, loader(90, 32, start=200), CNN.layers, metrics=EVERYTHING, every=2, queries=30, classes=list("abcdefghij")
        )
        return model, probe

    def go(model, probe, epochs, first):
        torch.manual_seed(first)
        for epoch in epochs:
            train(model, loader(), 1)
            probe(epoch, train_loss=1 / epoch, **({"late": 1.0} if epoch > 4 else {}))

    model, whole = new()
    go(model, whole, range(1, 5), 1)
    go(model, whole, range(5, 9), 2)

    model, probe = new()
    go(model, probe, range(1, 5), 1)
    torch.save({"model": model.state_dict(), "probe": probe.state_dict()}, tmp_path / "checkpoint.pt")
    del model, probe
    model, probe = new()
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model.load_state_dict(kept["model"])
    probe.load_state_dict(kept["probe"])
    assert probe.steps == (2, 4)
    assert probe.last["norm/radius/c"] == whole.records.radius[1, 0, 2]
    go(model, probe, range(5, 9), 2)
    assert_same_records(probe.records, whole.records)
    for name in ("train_loss", "late"):
        np.testing.assert_array_equal(probe.records.scalars[name], whole.records.scalars[name])
    assert np.isnan(whole.records.scalars["late"][:2]).all()


def test_what_the_version_before_kept_is_read_and_continued(tmp_path):
    """That had no nc1, dimension and map, in its folders and states."""
    model = made(CNN)
    probe = fe.Probe(model, loader(), CNN.layers, metrics=["mixing"], queries=40, k=3)
    probe(0)
    probe.save(tmp_path)
    arrays = read_checked_npz(tmp_path / "probe.npz", "")
    write_checked_npz(
        tmp_path / "probe.npz", {name: arrays[name] for name in arrays if name not in ("nc1", "dimension", "queries")}
    )
    old = fe.load_probe(tmp_path)
    assert np.isnan([old.nc1, old.dimension]).all()
    assert (old.queries, old.points) == (None, None)
    assert old.flat() == probe.records.flat()
    fe.write_report(old, tmp_path / "report.html")

    state = probe.state_dict() | {"format": 1}
    del state["map"], state["records"]["nc1"], state["records"]["dimension"]
    resumed = fe.Probe(model, loader(), CNN.layers, metrics=["mixing"], queries=40, k=3)
    resumed.load_state_dict(state)
    assert_same_records(resumed.records, probe.records)
    for each in (probe, resumed):
        each(1)
    assert_same_records(resumed.records, probe.records)


def test_a_state_is_a_copy_and_of_one_kind_of_probe():
    probe = fe.Probe(made(CNN), loader(), CNN.layers)
    empty = probe.state_dict()
    probe(0)
    state = probe.state_dict()
    state["records"]["radius"].zero_()
    assert probe.records.radius.min() > 0
    probe.load_state_dict(empty)
    assert len(probe.records) == 0
    assert probe.last == {}
    with pytest.raises(fe.FastentError, match="k=10, this one has 3"):
        fe.Probe(made(CNN), loader(), CNN.layers, k=3).load_state_dict(state)
    with pytest.raises(fe.FastentError, match="no state_dict of a probe"):
        probe.load_state_dict({"step": 3})
    other = fe.Probe(made(CNN), loader(start=1), CNN.layers)
    other.load_state_dict(state)
    with pytest.raises(fe.FastentError, match="other labels"):
        other(1)


class Turning(nn.Module):
    """Two classes on circles whose radius falls and rises again, as told by `time`; class 1 turns later."""

    def __init__(self):
        super().__init__()
        self.time = 0
        self.inner = nn.Identity()

    def forward(self, x):
        turn = torch.where(x[:, :1] > 0, 6.0, 9.0)
        rows = self.inner(torch.cat([x[:, :1], x[:, 1:] * (0.1 + 0.01 * (self.time - turn) ** 2)], 1))
        # Wrong are the rows with a number (fourth column) below 12 - time.
        wrong = x[:, 3] < 12 - self.time
        right = (x[:, :1] < 0).long()[:, 0]
        return rows, nn.functional.one_hot(torch.where(wrong, 1 - right, right), 2).float()


class Logits(Turning):
    def forward(self, x):
        return super().forward(x)[1]


def turning_points():
    n = 40
    angle = torch.arange(n) * 2.4
    side = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)
    X = torch.stack([5 * side, angle.cos(), angle.sin(), torch.arange(n).float()], 1)
    return [(X[:25], (side[:25] < 0).long()), (X[25:], (side[25:] < 0).long())]


def test_inversions_and_stragglers_as_training_goes():
    model = Logits()
    probe = fe.Probe(model, turning_points(), ["inner"], normalize=False)
    for step in range(60):
        model.time = step / 4
        found = probe(step)
        if step == 1:
            assert probe.inversions[0, 0].reason == "too few records (2 of at least 10)"
        if step == 20:
            assert probe.inversions[0, 0].reason == "still falling at the last record"
    first, second = probe.inversions[0]
    assert (first.epoch, second.epoch) == (24, 36)
    assert (first.train_error, second.train_error) == pytest.approx((6 / 40, 3 / 40), abs=0.02)
    # Class 0 has the even rows: of rows 0..5, wrong at step 24, rows 0, 2, 4; class 1 of rows 0..2, wrong at step 36, row 1.
    assert np.flatnonzero(probe.stragglers).tolist() == [0, 1, 2, 4]
    assert np.flatnonzero(probe.records.misclassified(40)).tolist() == [0, 1]
    assert probe.records.inversions(burn_in=32)[0, 0].reason == "rose before it fell"
    assert not any(inversion for inversion in probe.records.inversions("distance").ravel())
    assert found["error"] == 0
    with pytest.raises(fe.FastentError, match="step 99 was not recorded"):
        probe.records.misclassified(99)
    with pytest.raises(fe.FastentError, match="layer='outer'"):
        probe.records.stragglers("outer")


def test_a_model_without_logits_of_these_classes_has_geometry_alone():
    X, y = digits(60)
    probe = fe.Probe(nn.Flatten(), [(X, y + 100)], [""])
    for step in range(10):
        found = probe(step)
    assert {"error", "loss"}.isdisjoint(found)
    assert np.isnan(probe.records.error).all()
    assert probe.inversions[0, 0].reason == "did not move"
    with pytest.raises(fe.FastentError, match="which rows are misclassified is not known"):
        _ = probe.stragglers
    assert probe.records.summary()["stragglers"] is None


def test_what_is_written(tmp_path):
    model = Logits()
    names = ["left", "right"]
    probe = fe.Probe(model, turning_points(), ["inner", ""], normalize=False, classes=names, metrics=["margins"], queries=9)
    for step in range(12):
        model.time = step
        probe(step, train_loss=2.0**-step)
    probe.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "curves.parquet", "probe.npz", "summary.json"]
    back = fe.load_probe(tmp_path)
    assert_same_records(back, probe.records)
    assert back.config == json.loads((tmp_path / "config.json").read_text())
    assert back.classes.tolist() == names
    table = pq.read_table(tmp_path / "curves.parquet").to_pydict()
    assert len(table["step"]) == 12 * 2 * 2
    at = next(i for i in range(48) if (table["step"][i], table["layer"][i], table["class"][i]) == (5, "", "right"))
    assert table["radius"][at] == probe.records.radius[5, 1, 1]
    assert table["margin"][at] == probe.records.margin[5, 1]
    assert table["mixing"][at] is None
    assert table["train_loss"][at] == 2.0**-5
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["inversions"][0]["class"] == "left"
    assert summary["inversions"][0]["epoch"] == 6
    with pytest.raises(fe.FastentError, match="no records in"):
        fe.load_probe(tmp_path / "elsewhere")
    (tmp_path / "probe.npz").write_bytes(b"PK" + bytes(100))
    with pytest.raises(fe.FastentError, match="damaged"):
        fe.load_probe(tmp_path)


def test_classes_by_the_hundred_keep_no_distances_unless_asked():
    X, y = torch.randn(404, 5), torch.arange(404) % 101
    for metrics, kept in ((["geometry"], False), (["distances"], True)):
        probe = fe.Probe(nn.Identity(), [(X, y)], [""], metrics=metrics)
        found = probe(0)
        probe(1)
        assert (probe.records.distance is not None) == kept
        assert ("/distance" in found) == kept
        other = fe.Probe(nn.Identity(), [(X, y)], [""], metrics=metrics)
        other.load_state_dict(probe.state_dict())
        other(2)
        assert (other.records.distance is not None) == kept
    probe = fe.Probe(nn.Identity(), [(X, y)], [""])
    probe(0)
    with pytest.raises(fe.FastentError, match="make the probe with 'distances'"):
        probe.records.inversions("distance")


class Noisy(Dataset):
    """Augmented as it is read."""

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.randn(4) + random.random() + np.random.rand(), i % 2  # noqa: NPY002


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.full((3,), float(i % 5)), i % 2) for i in range(30)])


@pytest.mark.spawn
@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_random_in_the_probe_set_is_alike_at_every_look(workers):
    probe = fe.Probe(nn.Identity(), DataLoader(Noisy(), 16, num_workers=workers), [""], metrics=EVERYTHING, queries=10)
    for step in range(2):
        probe(step)
        torch.rand(7)
    assert (probe.records.radius[0] == probe.records.radius[1]).all()
    assert (probe.records.n2[0] == probe.records.n2[1]).all()
    gc.collect()


class Drops(nn.Module):
    """Draws in eval mode too."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.3, training=True)


class Own(DataLoader):
    """Which is gone through from its start."""


@pytest.mark.spawn
@pytest.mark.parametrize("model", [nn.Identity, Drops])
@pytest.mark.parametrize("kind", [DataLoader, Own])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_random_is_alike_in_both_passes(monkeypatch, workers, kind, model):
    """The second pass skips batches that were kept, and so goes through fewer of them."""

    def look(kept, batch_size=9):
        monkeypatch.setattr("fastent.activations.probe_pass._KEPT_BYTES", kept)
        probe = fe.Probe(model(), kind(Noisy(), batch_size, num_workers=workers), [""], metrics=EVERYTHING, queries=10)
        probe(0)
        return probe.records

    whole = look(1 << 20)
    for kept in (0, 2 * 9 * 4 * 4, 4 * 9 * 4 * 4):
        assert_same_records(look(kept), whole)
    gc.collect()


def test_any_loader_that_keeps_its_order():
    X, y = digits(100)
    expected = None
    sets = [
        DataLoader(TensorDataset(X, y), 30),
        DataLoader(TensorDataset(X, y), 30, generator=torch.Generator().manual_seed(1)),
        DataLoader(TensorDataset(X, y), 30, collate_fn=named),
        [(X[i : i + 30], y[i : i + 30]) for i in range(0, 100, 30)],
        [{"x": X[i : i + 30], "label": y[i : i + 30]} for i in range(0, 100, 30)],
    ]
    model = made(CNN)
    for batches in sets:
        probe = fe.Probe(model, batches, CNN.layers, metrics=EVERYTHING, queries=20)
        probe(0)
        expected = expected or probe.records
        assert_same_records(probe.records, expected)
    assert torch.equal(sets[1].generator.get_state(), torch.Generator().manual_seed(1).get_state())
    assert fe.Probe(nn.Identity(), DataLoader(Stream(), 8), [""])(0)["/fisher"] >= 0


@pytest.mark.spawn
def test_a_loader_under_way_goes_on():
    batches = DataLoader(TensorDataset(*digits(64)), 16, num_workers=1, persistent_workers=True)
    probe = fe.Probe(made(CNN), batches, CNN.layers)
    rows = 0
    for x, _ in batches:
        rows += len(x)
        if rows == 32:
            probe(0)
    assert rows == 64
    del batches, probe
    gc.collect()


class Shuffled:
    """Changes its order and does not say so."""

    def __init__(self):
        self.X, self.y = digits(90)

    def __iter__(self):
        order = torch.randperm(90)
        return ((self.X[i], self.y[i]) for i in order.split(30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": DataLoader(TensorDataset(*digits(20)), 5, shuffle=True)}, "RandomSampler.*shuffle=False"),
        (
            {"loader": DataLoader(TensorDataset(*digits(20)), 5, sampler=DistributedSampler(range(20), 2, 0))},
            "to every process",
        ),
        ({"loader": DataLoader(TensorDataset(*digits(20)), batch_sampler=[[3, 1], [2, 0]])}, "shuffle=False"),
        ({"loader": iter([])}, "only once"),
        ({"loader": 3}, "loader is int"),
        ({"layers": ["nrm"]}, "no layer 'nrm': choose from 'norm'"),
        ({"layers": "norm"}, r"\['norm'\]"),
        ({"metrics": "mixing"}, r"\['mixing'\]"),
        ({"metrics": ["entropy"]}, "metrics='entropy'"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"every": 0}, "every=0"),
        ({"queries": 0}, "queries=0"),
        ({"model": print}, "torch.nn.Module is needed"),
    ],
)
def test_probes_that_cannot_be_made(options, message):
    options = {"model": CNN(), "loader": loader(20), "layers": ["norm"], **options}
    with pytest.raises(fe.FastentError, match=message):
        fe.Probe(**options)


def test_looks_that_cannot_be_taken():
    model = made(CNN)
    X, y = digits(90)

    def refused(message, batches, **options):
        probe = fe.Probe(model, batches, ["norm"], **options)
        with pytest.raises(fe.FastentError, match=message):
            probe(0)
        assert len(probe.records) == 0

    refused("does not label each of its rows", [X])
    refused("does not label each of its rows", [(X, y[:, None])])
    refused("has no rows", [])
    refused("one class only", [(X, y * 0)])
    refused("k=90", [(X, y)], metrics=["mixing"], k=90)
    refused("classes has shape", [(X, y)], classes=["a", "b"])
    refused("same order", Shuffled())
    refused(
        "layer 'norm', rows 0 to 89 of the probe set: X has NaN or infinity in 1 of 90 rows, first at row 7",
        [(nan_at(X, 7), y)],
    )
    probe = fe.Probe(model, [(X, y)], ["norm"])
    probe(5)
    for step, message in ((5, "step=5 comes after step 5"), (-1, "step=-1"), (1.5, "step=1.5")):
        with pytest.raises(fe.FastentError, match=message):
            probe.record(step)
    with pytest.raises(fe.FastentError, match="train_loss"):
        probe.record(6, loss=0.1)
    with pytest.raises(fe.FastentError, match="a number is needed"):
        probe.record(6, note="good")
    assert probe.steps == (5,)
    assert "the last at step 5" in repr(probe)
    assert model.training


def nan_at(X, row):
    X = X.clone()
    X[row] = torch.nan
    return X


def test_only_every_so_many_steps():
    probe = fe.Probe(made(CNN), loader(), ["norm"], every=3)
    assert [step for step in range(8) if probe(step)] == [0, 3, 6]
    probe.record(7)
    assert probe.steps == (0, 3, 6, 7)


def looks_of_rank(rank, size, folder):
    """Two processes train one network under DDP; every kind of loader, also with fewer batches than processes."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    try:
        model = nn.parallel.DistributedDataParallel(made(CNN).double())
        model.module.drop.p = 0.0
        probes = probes_of(model)
        X, y = (part.double() if part.is_floating_point() else part for part in digits(128))
        mine = [(X[i + rank : i + 32 : size], y[i + rank : i + 32 : size]) for i in range(0, 128, 32)]
        model.module.norm.eval()  # statistics of half a batch are not those of a whole one
        train_frozen(model, mine, lambda step: [probe(step) for probe in probes])
        failing = fe.Probe(model, [(X[:40], y[:40]), (nan_at(X[40:80], 3), y[40:80])], ["conv2"])
        with pytest.raises(fe.FastentError, match="NaN" if rank else "rank 1 could not do its part"):
            failing(0)
        for i, probe in enumerate(probes):
            probe.save(f"{folder}/saved{i}")
            torch.save(probe.state_dict(), f"{folder}/rank{rank}-{i}.pt")
    finally:
        torch.distributed.destroy_process_group()


def train_frozen(model, batches, after):
    """As `train`, with batch normalisation as it is."""
    rule = torch.optim.SGD(model.parameters(), lr=0.1)
    after(0)
    for step in range(3):
        for x, labels in batches:
            rule.zero_grad()
            model(x, labels)["loss"].backward()
            rule.step()
        after(step + 1)


def probes_of(model):
    X, y = digits(205, start=500)
    X = X.double()
    # Five batches, the last uneven, for two processes; by number, in passing, and one batch alone.
    sets = [DataLoader(TensorDataset(X, y), 48), [(X[i : i + 48], y[i : i + 48]) for i in range(0, 205, 48)], [(X, y)]]
    return [fe.Probe(model, batches, CNN.layers, metrics=EVERYTHING, queries=50) for batches in sets]


@pytest.mark.spawn
def test_two_processes_give_what_one_does(tmp_path, monkeypatch):
    torch.multiprocessing.spawn(looks_of_rank, (2, str(tmp_path)), nprocs=2)
    model = made(CNN).double()
    model.drop.p = 0.0
    model.norm.eval()
    probes = probes_of(model)
    X, y = digits(128)
    train_frozen(model, list(zip(X.double().split(32), y.split(32))), lambda step: [probe(step) for probe in probes])
    for i, probe in enumerate(probes):
        states = [torch.load(tmp_path / f"rank{rank}-{i}.pt", weights_only=True) for rank in range(2)]
        for name, value in states[0]["records"].items():
            assert value.numpy().tobytes() == states[1]["records"][name].numpy().tobytes(), name
        assert_same_records(fe.load_probe(tmp_path / f"saved{i}"), probe.records, rtol=1e-6, atol=1e-9)
    assert probes[0].records.error[-1] < probes[0].records.error[0]


def test_labels_beyond_the_models_outputs_are_said_to_be(tmp_path):
    X, y = torch.randn(40, 4), torch.arange(40) % 3 + 1
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    with pytest.warns(UserWarning, match=r"labels go up to 3 and the model has outputs for 0..2"):
        found = fe.Probe(model, [(X, y)], ["1"])(0)
    assert "error" not in found
