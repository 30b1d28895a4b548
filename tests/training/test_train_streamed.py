import copy
import functools
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fastent as fe
from fastent.arrays.validation import row_blocks
from fastent.data.standardization import Standardizer, find_constants
from fastent.data.stored_rows import Feed
from fastent.runtime.progress import interruptible
from fastent.training.learning import Learner
from fastent.training.schedule import thinned
from tests.command import fastent
from tests.plain_loop import class_geometry

pytestmark = pytest.mark.train

N, D, C = 600, 20, 3
OPTIONS = {"hidden": (16, 8), "activation": "relu", "seeds": 1, "epochs": 3, "batch_size": 64, "record_every": 0.25, "lr": 0.05,
           "record_points": None, "queries": 50, "threads": 1}  # fmt: skip


def noisy_classes(n=N, d=D, seed=0):
    """Classes that overlap, some labels wrong: a network first segregates them, then learns the exceptions."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, n)
    X = rng.standard_normal((n, d)) + 1.5 * np.eye(d)[y] * np.sqrt(d)
    flipped = rng.random(n) < 0.1
    return np.round(20 * X + 100).clip(0, 255).astype(np.uint8), np.where(flipped, rng.integers(0, C, n), y)


@pytest.fixture(scope="module")
def data():
    return noisy_classes()


@pytest.fixture
def stored(tmp_path, data):
    np.save(tmp_path / "X.npy", data[0])
    np.save(tmp_path / "y.npy", data[1])
    return tmp_path / "X.npy", tmp_path / "y.npy"


def mlp():
    return nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, C))


def with_dropout():
    return nn.Sequential(nn.Linear(D, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, C))


def pictures_net():
    return nn.Sequential(nn.Unflatten(1, (1, 4, 5)), nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, C))


def assert_same_bits(a, b, *, but=()):
    for name in ("epoch", "train_error", "test_epoch", "test_error", "radius", "distance", "wrong", "mixing", "neighbor_error",
                 "stragglers"):  # fmt: skip
        if name not in but:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.state.keys() == b.state.keys()
    for name, value in a.state.items():
        np.testing.assert_array_equal(b.state[name], value, err_msg=name)


def standard_of(X, how="safe"):
    return Standardizer(*find_constants(X, how, (block for _, block in row_blocks(X))), X.dtype, "cpu")


@pytest.mark.parametrize(
    ("options", "optimizer"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=0.05)),
        ({"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, lr=0.05)),
        ({"optimizer": "torch.optim:RMSprop"}, lambda p: torch.optim.RMSprop(p, lr=0.05)),
    ],
)
def test_each_seed_is_the_network_that_a_plain_torch_loop_trains_on_the_same_batches(data, options, optimizer):
    X, y = data
    run = fe.train_streamed(X, y, test=X[:100], test_labels=y[:100], seed=3, **(OPTIONS | {"seeds": 2} | options))
    rows = standard_of(X)(X)
    targets = torch.from_numpy(y)
    feed = Feed(X, y, OPTIONS["batch_size"], 3)
    for s in range(2):
        torch.manual_seed(3 + s)
        network = mlp()
        rule = optimizer(network.parameters())
        expected = {"train_error": [], "test_error": [], "radius": [], "distance": []}

        def look(network=network, expected=expected):
            values, radii, distances = rows, [], []
            for layer in network:
                values = layer(values)
                if isinstance(layer, nn.ReLU):
                    radius, distance = class_geometry(values.detach(), targets, C)
                    radii.append(radius)
                    distances.append(distance)
            wrong = (values.argmax(1) != targets).double()
            for name, value in zip(expected, (wrong.mean().item(), wrong[:100].mean().item(), radii, distances)):
                expected[name].append(value)

        due = {round(0.25 * k * feed.updates_per_epoch) for k in range(13)}
        update = 0
        look()
        for epoch in range(3):
            for batch in feed.batches(epoch):
                rule.zero_grad()
                nn.functional.cross_entropy(network(rows[batch.rows]), targets[batch.rows]).backward()
                rule.step()
                update += 1
                if update in due:
                    look()
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(run, name)[s], values, rtol=0, atol=1e-6, err_msg=name)
        for name, value in network.state_dict().items():
            np.testing.assert_allclose(run.state[f"{s}.{name}"], value, rtol=0, atol=1e-6)


def defaults(function):
    return {name: each.default for name, each in inspect.signature(function).parameters.items() if name != "data"}


def test_training_has_the_same_defaults_in_memory_and_on_disk():
    in_memory, streamed = defaults(fe.train), defaults(fe.train_streamed)
    other = {name for name in in_memory.keys() & streamed.keys() if in_memory[name] != streamed[name]}
    # labels are needed on disk, "mlp" is what no model stands for, and to go on from a checkpoint is the default there.
    assert other == {"labels", "model", "resume"}


@pytest.mark.parametrize(
    "options",
    [{"epochs": 30}, {"optimizer": "adam", "lr": 0.01, "epochs": 15}, {"momentum": 0.9, "hidden": (9, 5), "epochs": 15}],
)
@pytest.mark.parametrize("piece", [100, 1024])
def test_all_rows_in_an_update_train_what_is_trained_in_memory(data, monkeypatch, options, piece):
    monkeypatch.setattr("fastent.data.stored_rows._PIECE_ROWS", piece)
    X, y = data
    streamed = fe.train_streamed(X, y, test=X[:100], test_labels=y[:100], metrics=["geometry"], threads=1, **options)
    in_memory = fe.train((X, y, X[:100], y[:100]), test_every=1, threads=1, **options)
    assert streamed.n_seeds == 10
    for name in ("hidden", "activation", "classes", "standardize", "seeds", "seed", "epochs", "batch_size", "optimizer", "lr",
                 "momentum"):  # fmt: skip
        assert streamed.config[name] == in_memory.config[name], name
    np.testing.assert_array_equal(streamed.epoch, in_memory.epoch)
    for name in ("radius", "distance", "train_error", "test_error"):
        error = 1 / 100 if name.endswith("error") else 1e-4  # a point on the border may fall on either side
        np.testing.assert_allclose(getattr(streamed, name), getattr(in_memory, name), rtol=0, atol=error, err_msg=name)


def test_all_rows_in_an_update_are_one_batch_of_all(data, monkeypatch):
    """The gradient of pieces is that of the whole, also for a model that knows nothing of it; LBFGS needs it more than once."""
    X, y = data
    options = {"hidden": (6,), "seeds": 2, "epochs": 8, "metrics": ["geometry"], "threads": 1}
    whole = fe.train_streamed(X, y, batch_size=N, **options)
    assert_same_bits(fe.train_streamed(X, y, **options), fe.train_streamed(X, y, **options))
    monkeypatch.setattr("fastent.data.stored_rows._PIECE_ROWS", 64)
    np.testing.assert_allclose(fe.train_streamed(X, y, **options).radius, whole.radius, rtol=0, atol=1e-5)
    with pytest.raises(fe.FastentError, match="optimizer=LBFGS evaluates the loss several times in an update"):
        fe.train_streamed(X, y, optimizer="torch.optim:LBFGS", **options)


@given(
    n=st.integers(1, 400), batch=st.integers(1, 90), pool=st.integers(1, 4000), first=st.integers(0, 20), seed=st.integers(0, 9)
)
def test_an_epoch_is_every_row_once_and_goes_on_anywhere(n, batch, pool, first, seed):
    X = np.arange(n, dtype=np.float32)[:, None]
    feed = Feed(X, np.arange(n), min(batch, n), seed)
    feed._block = max(1, pool // 16)
    whole = list(feed.batches(1))
    assert len(whole) == feed.updates_per_epoch
    np.testing.assert_array_equal(np.sort(np.concatenate([b.rows for b in whole])), np.arange(n))
    assert all(len(b.rows) == min(batch, n) for b in whole[:-1])
    for b in whole:
        np.testing.assert_array_equal(b.data[:, 0], b.rows)
        np.testing.assert_array_equal(b.codes, b.rows)
    first = min(first, len(whole) - 1)
    for a, b in zip(feed.batches(1, first), whole[first:], strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)


@given(n=st.integers(1, 4000), pool=st.integers(1, 4000), first=st.integers(0, 5))
def test_without_a_batch_size_the_pieces_are_all_rows_in_order_and_go_on_anywhere(n, pool, first):
    X = np.arange(n, dtype=np.float32)[:, None]
    feed = Feed(X, np.arange(n), None, 3)
    feed._block = max(1, pool // 16)
    whole = list(feed.batches(2))
    assert (feed.updates_per_epoch, feed.pieces_per_update) == (1, len(whole))
    np.testing.assert_array_equal(np.concatenate([b.rows for b in whole]), np.arange(n))
    np.testing.assert_array_equal(np.concatenate([b.data for b in whole]), X)
    first = min(first, len(whole) - 1)
    for a, b in zip(feed.batches(2, first), whole[first:], strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)


def test_epochs_have_orders_of_their_own():
    feed = Feed(np.zeros((200, 1), np.uint8), np.zeros(200, np.int64), 50, 0)
    a, b = (np.concatenate([batch.rows for batch in feed.batches(epoch)]) for epoch in (0, 1))
    assert (a != b).any()
    assert (np.diff(a) == 1).mean() < 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64, np.uint16, bool])
def test_rows_are_standardised_as_data_that_are_loaded(dtype):
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 2, (300, 5)) if dtype is bool else rng.integers(0, 200, (300, 5))).astype(dtype)
    X[:, 2] = 1
    y = rng.integers(0, 2, 300)
    expected = fe.load_data((X, y, X, y)).x_train
    np.testing.assert_allclose(standard_of(X)(X), expected, atol=1e-5)
    X = np.asarray(X, float) + 1e6  # far from 0: single precision would lose it
    np.testing.assert_allclose(standard_of(X)(X), fe.load_data((X, y, X, y)).x_train, atol=1e-5)


def test_a_feature_that_never_varies_is_zero_wherever_it_is():
    X = np.random.default_rng(0).standard_normal((100, 3))
    X[:, 1] = 1 / 3
    assert (standard_of(X)(X + 1)[:, 1] == 0).all()


def test_the_same_from_every_kind_of_source(tmp_path, data, stored):
    X, y = data
    (tmp_path / "shards").mkdir()
    for i, start in enumerate(range(0, N, 170)):
        np.save(tmp_path / "shards" / f"{i}.npy", X[start : start + 170])
    np.save(tmp_path / "pictures.npy", X.reshape(N, 4, 5))
    whole = fe.train_streamed(X, y, **OPTIONS)
    for source in (stored[0], tmp_path / "shards", tmp_path / "pictures.npy", fe.open(stored[0])):
        assert_same_bits(fe.train_streamed(source, stored[1], **OPTIONS), whole)


def test_a_sample_is_recorded_and_stragglers_are_of_all_points(data):
    """The last pass finds with kept weights what the bits of every point say where all are recorded."""
    X, y = data
    options = OPTIONS | {"epochs": 40, "record_every": 0.5, "metrics": ("geometry",), "lr": 0.2, "seeds": 2}
    sampled = fe.train_streamed(X, y, **(options | {"record_points": 300}))
    assert sampled.recorded.shape == (300,)
    assert any(bool(inversion) for inversion in sampled.inversion[:, -1].flat)
    whole = fe.train_streamed(X, y, **options)
    expected = np.zeros((2, N), bool)
    for (s, c), inversion in np.ndenumerate(sampled.inversion[:, -1]):
        if inversion:
            expected[s] |= whole.misclassified(inversion.epoch)[s] & (whole.codes == c)
    np.testing.assert_array_equal(sampled.stragglers, expected)
    assert expected.any()
    np.testing.assert_array_equal(sampled.misclassified(3), whole.misclassified(3)[:, sampled.recorded])
    np.testing.assert_allclose(sampled.train_error, sampled.misclassified(40).mean(1)[:, None] * 0 + sampled.train_error)


@given(st.sets(st.integers(0, 2000), min_size=1, max_size=80), st.integers(2, 30), st.data())
def test_weights_are_thinned_evenly_on_a_log_scale_and_spare_the_inversions(moments, most, data):
    updates = sorted(moments)
    spared = data.draw(st.sets(st.sampled_from(updates), max_size=max(most - 2, 0)))
    kept = thinned(updates, spared, most)
    assert kept == sorted(kept)
    assert set(kept) <= moments
    assert len(kept) == min(len(updates), most)
    assert {updates[0], updates[-1]} | spared <= set(kept) or len(kept) < 2 + len(spared)


def test_thinned_weights_are_not_the_latest_alone():
    kept = thinned(range(501), set(), 30)
    ratios = np.array(kept[1:]) + 1.0
    ratios /= np.array(kept[:-1]) + 1.0
    assert ratios.max() < 2.1


def test_mixing_is_that_of_the_recorded_points(data):
    X, y = data
    run = fe.train_streamed(X, y, **(OPTIONS | {"record_points": 400, "queries": 400, "epochs": 1}))
    rows = standard_of(X)(X[run.recorded])
    network = mlp()
    network.load_state_dict({name[2:]: torch.from_numpy(value) for name, value in run.state.items()})
    for layer, depth in enumerate((2, 4)):
        mixed = fe.mixing(fe.neighbors(network[:depth](rows), k=10), y[run.recorded])
        assert run.mixing[0, -1, layer] == pytest.approx(mixed.overlap, abs=1e-3)
        assert run.neighbor_error[0, -1, layer] == pytest.approx(mixed.error, abs=5e-3)
    without = fe.train_streamed(X, y, **(OPTIONS | {"metrics": ["geometry"], "epochs": 1}))
    assert np.isnan(without.mixing).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam"},
        {"momentum": 0.9, "seeds": 2, "record_points": 200},
        {"model": with_dropout, "optimizer": "adam", "record_points": 200},
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, data, options, number):
    X, y = data
    options = {key: value for key, value in (OPTIONS | options).items() if "model" not in options or key != "hidden"}
    whole = fe.train_streamed(X, y, **options)

    def interrupt(at):
        def report(done, total, message):
            if done == at and total == 30:
                os.kill(os.getpid(), number)

        return report

    for at in (7, 23):
        with pytest.raises(KeyboardInterrupt):
            fe.train_streamed(X, y, **options, checkpoint=tmp_path, progress=interrupt(at))
        assert not fe.load_run(tmp_path).complete
    torch.manual_seed(77)
    torch.rand(5)
    resumed = fe.train_streamed(X, y, **options, checkpoint=tmp_path)
    assert_same_bits(resumed, whole)
    assert_same_bits(fe.train_streamed(X, y, **options, checkpoint=tmp_path), whole)
    resumed.save(tmp_path / "saved")
    assert_same_bits(fe.load_run(tmp_path / "saved"), whole)


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.9, "seeds": 2}, {"optimizer": "adam", "record_points": 200}, {"model": with_dropout, "record_points": 200}],
)
def test_interrupted_within_an_update_of_all_rows(tmp_path, data, monkeypatch, options):
    """Half of a gradient is kept as all else is; running statistics too, as of what was seen."""
    monkeypatch.setattr("fastent.data.stored_rows._PIECE_ROWS", 100)
    options = OPTIONS | {"batch_size": None, "record_every": 2, "epochs": 6, "lr": 0.2} | options
    options = {key: value for key, value in options.items() if "model" not in options or key != "hidden"}
    whole = fe.train_streamed(*data, **options)
    learned, calls = Learner.learn, 0

    def learn(self, *given):
        nonlocal calls
        calls += 1
        if calls in (4, 15, 23):
            os.kill(os.getpid(), signal.SIGTERM)
        return learned(self, *given)

    monkeypatch.setattr(Learner, "learn", learn)
    for update, piece in ((0, 4), (2, 3), (3, 5)):
        with pytest.raises(KeyboardInterrupt):
            fe.train_streamed(*data, **options, checkpoint=tmp_path)
        kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert (kept["update"], kept["under_way"]["piece"]) == (update, piece)
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert_same_bits(fe.train_streamed(*data, **options, checkpoint=tmp_path), whole)
    # Asked to end where the update began, it is as if that had not begun.
    shorter = options | {"epochs": 3}
    ended = fe.train_streamed(*data, **shorter, checkpoint=tmp_path / "copy")
    assert_same_bits(ended, fe.train_streamed(*data, **shorter))


@pytest.mark.parametrize("record", [0, 1, 5, 12])
@pytest.mark.parametrize("points", [None, 300])
def test_interrupted_while_it_searches_for_a_record(tmp_path, data, monkeypatch, record, points):
    """A search has signal handlers of its own: what was trained is kept all the same, and the record is made again."""
    from fastent.training.streamed_recorder import NearestSoFar

    options = OPTIONS | {"record_points": points}
    whole = fe.train_streamed(*data, **options)
    updated, searches = NearestSoFar.update, 0

    def update(self, *arguments):
        nonlocal searches
        if searches == 2 * record + 1:  # in the second of two layers
            with interruptible() as interrupted:
                os.kill(os.getpid(), signal.SIGTERM)
                searches += 1
                if interrupted():
                    raise KeyboardInterrupt
        searches += 1
        return updated(self, *arguments)

    monkeypatch.setattr(NearestSoFar, "update", update)
    with pytest.raises(KeyboardInterrupt):
        fe.train_streamed(*data, **options, checkpoint=tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["update"] == round(2.5 * record)
    if record:
        assert len(fe.load_run(tmp_path).epoch) == record
    assert_same_bits(fe.train_streamed(*data, **options, checkpoint=tmp_path), whole)


def test_memory_for_the_records_is_planned(data, monkeypatch):
    wide = lambda: nn.Sequential(nn.Linear(D, 20_000), nn.ReLU(), nn.Linear(20_000, C))  # noqa: E731
    monkeypatch.setattr("fastent.runtime.memory.available_bytes", lambda: 120 << 20)
    with pytest.raises(
        fe.FastentError, match=r"recording 600 points with 600 queries in 1 layers of 20,000 features .* fewer q"
    ):
        fe.train_streamed(*data, model=wide, seeds=2, epochs=1, batch_size=64, threads=1)
    fe.train_streamed(
        *data, model=wide, seeds=2, epochs=1, batch_size=300, queries=10, record_points=100, metrics=["geometry"], threads=1
    )


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", ">u2"])
def test_the_order_of_bytes_changes_nothing(tmp_path, data, dtype):
    X, y = data
    np.save(tmp_path / "X.npy", X.astype(dtype))
    np.save(tmp_path / "y.npy", y.astype(">i4"))
    native = X.astype(np.dtype(dtype).newbyteorder("="))
    for how in ("safe", "none"):
        options = OPTIONS | {"epochs": 1, "standardize": how, "lr": 1e-4}
        stored = fe.train_streamed(tmp_path / "X.npy", tmp_path / "y.npy", **options)
        assert_same_bits(stored, fe.train_streamed(native, y, **options))


def test_a_partial_is_known_by_what_it_makes(tmp_path, data):
    def made_anew(width):
        def network(width):
            return nn.Sequential(nn.Linear(D, width), nn.ReLU(), nn.Linear(width, C))

        return functools.partial(network, width)

    options = {"batch_size": 64, "queries": 20, "threads": 1, "checkpoint": tmp_path}
    first, again, other = made_anew(6), made_anew(6), made_anew(7)
    fe.train_streamed(*data, model=first, epochs=1, **options)
    assert fe.train_streamed(*data, model=again, epochs=2, **options).epoch.tolist()[-2:] == [1, 2]
    with pytest.raises(fe.FastentError, match="model_digest"):
        fe.train_streamed(*data, model=other, epochs=2, **options)


def test_a_longer_run_is_the_run_of_that_length(tmp_path, data):
    options = OPTIONS | {"record_every": 2.0, "record_points": 250, "epochs": 3}
    assert fe.train_streamed(*data, **options, checkpoint=tmp_path).epoch.tolist() == [0, 2, 3]
    longer = fe.train_streamed(*data, **(options | {"epochs": 6}), checkpoint=tmp_path)
    assert longer.epoch.tolist() == [0, 2, 4, 6]
    assert_same_bits(longer, fe.train_streamed(*data, **(options | {"epochs": 6})))


def test_the_first_epoch_is_recorded_on_a_log_scale_unless_an_interval_is_named(tmp_path, data):
    options = {name: value for name, value in OPTIONS.items() if name != "record_every"} | {"batch_size": 30, "epochs": 3}
    run = fe.train_streamed(*data, **options)
    assert run.update.tolist() == [0, 1, 2, 3, 4, 6, 8, 11, 16, 20, 40, 60]
    assert run.epoch.tolist() == [update / 20 for update in run.update.tolist()]
    assert run.evenly_spaced.tolist() == [0, 9, 10, 11]
    each = fe.train_streamed(*data, **options, record_every=1)
    assert each.epoch.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(run.radius[:, run.positions(each.epoch)], each.radius)

    def interrupt(done, total, message):
        if done == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fe.train_streamed(*data, **options, checkpoint=tmp_path, progress=interrupt)
    assert fe.load_run(tmp_path).update.tolist() == [0, 1, 2, 3, 4, 6]
    assert_same_bits(fe.train_streamed(*data, **options, checkpoint=tmp_path), run)


def test_torch_draws_what_it_would_have_drawn(data):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    fe.train_streamed(*data, model=with_dropout, epochs=1, batch_size=64, seeds=2, threads=1)
    assert torch.equal(torch.rand(3), expected)


def test_every_hidden_layer_is_recorded_unless_some_are_named(data):
    X, y = data
    assert fe.train_streamed(X, y, **(OPTIONS | {"epochs": 1})).config["layers"] == ["1", "3"]
    options = {"seeds": 1, "epochs": 1, "batch_size": 64, "queries": 20, "threads": 1}
    run = fe.train_streamed(X, y, model="tests.training.test_train_streamed:pictures_net", **options)
    assert run.config["layers"] == ["3"]
    run = fe.train_streamed(X.reshape(N, 4, 5), y, model="cnn", **options)
    assert run.config["layers"] == ["4", "8"]
    run = fe.train_streamed(X, y, model=pictures_net, layers=["2", "0"], **options)
    assert run.radius.shape[2:] == (2, C)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": N + 1}, "batch_size=601"),
        ({"record_every": 0}, "record_every=0"),
        ({"record_every": 0.001}, "less than one of the 10 updates"),
        ({"batch_size": None}, "record_every=0.25: without a batch_size an epoch is one update"),
        ({"classes": "even"}, "classes='even'"),
        ({"layers": ["9"]}, "no layer '9'"),
        ({"layers": "1"}, "a sequence of names"),
        ({"metrics": ["mixing"]}, "'geometry' is always recorded"),
        ({"metrics": "all"}, "metrics='all'"),
        ({"optimizer": "nowhere:Class"}, "cannot be made"),
        ({"optimizer": "torch.nn:Linear"}, "cannot be made|no torch optimiser"),
        ({"optimizer": "adam", "momentum": 0.5}, "only optimizer='sgd'"),
        ({"model": "cnn"}, "needs pictures"),
        ({"model": lambda: nn.Linear(D, C + 1)}, "name layers="),
        ({"model": lambda: nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, C + 1))}, "logits"),
        ({"model": lambda: nn.Sequential(nn.Linear(D + 1, 4), nn.ReLU(), nn.Linear(4, C)), "layers": ["1"]}, "does not take rows"),
        ({"model": "nowhere:at_all"}, "cannot be imported"),
        ({"lr": 1e30}, "diverged by epoch"),
        ({"record_points": 2, "queries": 2}, "no point of class"),
        ({"standardize": "paper"}, "standardize='paper'"),
        ({"test": np.zeros((4, D))}, "test and test_labels go together"),
        ({"test": np.zeros((4, 3)), "test_labels": [0, 1, 2, 0]}, "test has 3 features"),
        ({"seeds": 0}, "seeds=0"),
        ({"device": "tpu"}, "device='tpu'"),
    ],
)  # fmt: skip
def test_bad_options(data, options, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.train_streamed(*data, **(OPTIONS | options))


def test_bad_data(data, tmp_path):
    X, y = data
    with pytest.raises(fe.FastentError, match="data has 600 rows but labels has 599"):
        fe.train_streamed(X, y[1:], **OPTIONS)
    with pytest.raises(fe.FastentError, match="one class only"):
        fe.train_streamed(X, np.zeros(N, int), **OPTIONS)
    for bad in (np.nan, np.inf):
        broken = X.astype(np.float32)
        broken[433, 7] = bad
        np.save(tmp_path / "broken.npy", broken)
        for how in ("safe", "none"):
            with pytest.raises(fe.FastentError, match="first at row 433, column 7"):
                fe.train_streamed(tmp_path / "broken.npy", y, standardize=how, **OPTIONS)
    with pytest.raises(fe.FastentError, match="nothing at"):
        fe.train_streamed(tmp_path / "missing", y, **OPTIONS)


def test_another_run_is_not_gone_on_with(tmp_path, data):
    X, y = data
    fe.train_streamed(X, y, **OPTIONS, checkpoint=tmp_path)
    with pytest.raises(fe.FastentError, match=r"has lr=0\.05, not 0\.1"):
        fe.train_streamed(X, y, **(OPTIONS | {"lr": 0.1}), checkpoint=tmp_path)
    other = X.copy()
    other[0] += 1
    with pytest.raises(fe.FastentError, match="fingerprint"):
        fe.train_streamed(other, y, **OPTIONS, checkpoint=tmp_path)
    anew = fe.train_streamed(X, y, **(OPTIONS | {"lr": 0.1}), checkpoint=tmp_path, resume=False)
    assert_same_bits(anew, fe.train_streamed(X, y, **(OPTIONS | {"lr": 0.1})))
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(fe.FastentError, match="damaged"):
        fe.train_streamed(X, y, **OPTIONS, checkpoint=tmp_path)


KILLED = """
import sys, fastent as fe
from fastent.training import streamed_session
streamed_session._CHECKPOINT_SECONDS = 0.02
X, y, out = sys.argv[1:]
options = {options!r}
run = fe.train_streamed(X, y, **options, checkpoint=out, progress=lambda d, t, m: print(d, t, flush=True))
run.save(out)
"""


@pytest.mark.spawn
def test_killed_at_any_moment_and_resumed_is_uninterrupted(tmp_path, stored):
    options = OPTIONS | {"epochs": 30, "record_every": 0.5, "record_points": 300, "momentum": 0.5, "queries": 40}
    whole = fe.train_streamed(*stored, **options)
    command = [sys.executable, "-c", KILLED.format(options=options), *map(str, stored), str(tmp_path / "out")]
    rng = np.random.default_rng(0)
    for _ in range(2):
        wanted = int(rng.integers(5, 90))  # lines that it prints before it dies, a little later
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for count, _ in enumerate(process.stdout):
            if count == wanted:
                break
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    out = tmp_path / "out"
    assert_same_bits(fe.load_run(out), whole)
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint-weights", "checkpoint.pt", "config.json", "curves.parquet", "run.npz", "stragglers.parquet", "summary.json",
    ]  # fmt: skip
    kept = out / "checkpoint-weights"
    assert not [path for path in kept.iterdir() if path.suffix != ".pt" or path.name.startswith(".")]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("resume", [True, False])
def test_other_files_in_the_folder_are_left_alone(tmp_path, data, resume):
    for folder in ("weights", "checkpoint-weights"):
        (tmp_path / folder).mkdir()
        for name in ("mine.pt", ".mine.pt", ".network.pt.swp", "network-best.pt"):
            (tmp_path / folder / name).write_text(folder + name)
    for name in (".config.json.swp", ".checkpoint.pt.old", "config.json", "report.html", "model.pt"):
        (tmp_path / name).write_text(name)
    before = contents(tmp_path)
    fe.train_streamed(*data, **(OPTIONS | {"record_points": 300}), checkpoint=tmp_path, resume=resume)
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before


def test_weights_that_none_needs_leave_no_folder(tmp_path, data):
    from fastent.training.checkpoint import Checkpoint

    checkpoint = Checkpoint(tmp_path)
    checkpoint.keep_weights((0, 3), {"w": torch.ones(2)})
    (tmp_path / "checkpoint-weights" / ".network0-update2.pt.elsewhere-12-abc.pt").write_text("half")
    checkpoint.keep({}, {(0, 3)})
    assert [path.name for path in (tmp_path / "checkpoint-weights").iterdir()] == ["network0-update3.pt"]
    checkpoint.keep({}, set())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    "bad", [{"layers": ["typo"]}, {"lr": 1e30}, {"optimizer": "nowhere:Class"}, {"record_points": 2, "queries": 2}]
)
def test_a_run_is_replaced_only_by_one_that_began(tmp_path, data, bad):
    options = OPTIONS | {"record_points": 300}
    run = fe.train_streamed(*data, **options, checkpoint=tmp_path)
    run.save(tmp_path)
    (tmp_path / "report.html").write_text("of the run")
    before = contents(tmp_path)
    with pytest.raises(fe.FastentError):
        fe.train_streamed(*data, **(options | bad), checkpoint=tmp_path, resume=False)
    assert contents(tmp_path) == before
    fe.train_streamed(*data, **(options | {"lr": 0.1}), checkpoint=tmp_path, resume=False)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "run.npz").exists()
    resumed = fe.train_streamed(*data, **(options | {"lr": 0.1}), checkpoint=tmp_path)
    assert_same_bits(resumed, fe.train_streamed(*data, **(options | {"lr": 0.1})))


def test_two_runs_in_one_folder(tmp_path, data):
    def meanwhile(done, total, message):
        if done == 5:
            with pytest.raises(fe.FastentError, match="another process writes to"):
                fe.train_streamed(*data, **OPTIONS, checkpoint=tmp_path)
            met.append(done)

    met = []
    run = fe.train_streamed(*data, **OPTIONS, checkpoint=tmp_path, progress=meanwhile)
    assert met
    assert_same_bits(fe.train_streamed(*data, **OPTIONS, checkpoint=tmp_path), run)


def test_a_full_disk_is_one_error_and_nothing_is_lost(tmp_path, data, monkeypatch):
    import fastent.training.streamed_session as session

    whole = fe.train_streamed(*data, **OPTIONS)
    saved, calls = torch.save, 0
    monkeypatch.setattr(session, "_CHECKPOINT_SECONDS", 0.0)

    def save(value, stream):
        nonlocal calls
        calls += 1
        if calls > 5:
            stream.write(b"half of it")
            raise OSError(28, "No space left on device")
        saved(value, stream)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(fe.FastentError, match="No space left on device"):
        fe.train_streamed(*data, **OPTIONS, checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    monkeypatch.setattr(torch, "save", saved)
    assert_same_bits(fe.train_streamed(*data, **OPTIONS, checkpoint=tmp_path), whole)


def test_saved_files_are_those_of_a_small_run(tmp_path, data):
    run = fe.train_streamed(*data, **(OPTIONS | {"record_points": 300, "epochs": 20}))
    run.save(tmp_path)
    curves = pq.read_table(tmp_path / "curves.parquet")
    assert curves.column_names[:7] == ["seed", "epoch", "layer", "class", "train_error", "test_error", "radius"]
    assert curves.column_names[7:] == ["mixing", "neighbor_error"]
    assert curves["epoch"].to_numpy()[:7].tolist() == [0, 0, 0, 0, 0, 0, 0.25]
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert numbers["epochs"] == 20
    assert numbers["recorded_points"] == 300
    assert 0 < numbers["seconds_recording"] < numbers["seconds"]
    loaded = fe.load_run(tmp_path)
    assert_same_bits(loaded, run)
    np.testing.assert_array_equal(loaded.recorded, run.recorded)
    assert loaded.burn_in == run.burn_in == 0


def test_the_command_line(tmp_path, data, stored):
    X, y = data
    np.save(tmp_path / "pictures.npy", X.reshape(N, 4, 5))
    arguments = [
        "run", "--data", str(tmp_path / "pictures.npy"), "--labels", str(stored[1]), "--model", "mlp", "--hidden", "16,8",
        "--activation", "relu", "--seeds", "1", "--batch-size", "64", "--epochs", "20", "--record-every", "0.5",
        "--record-points", "300", "--queries", "40", "--lr", "0.2", "--threads", "1", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    result = fastent(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "pictures.npy is streamed from disk: --record-every was given\n" in result.stderr
    assert "recording" in result.stdout
    expected = fe.train_streamed(
        X.reshape(N, 4, 5), y, hidden=(16, 8), activation="relu", seeds=1, epochs=20, batch_size=64, record_every=0.5,
        record_points=300, queries=40, lr=0.2, threads=1,
    )  # fmt: skip
    run = fe.load_run(tmp_path / "out")
    assert_same_bits(run, expected)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "19.5" in page
    (tmp_path / "out" / "report.html").unlink()
    assert fastent("report", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / "report.html").exists()
    np.save(tmp_path / "pictures.npy", X.reshape(N, 4, 5)[::-1])
    again = fastent("report", str(tmp_path / "out"))
    assert again.exit_code == 0
    assert "without pictures, neighbours and map" in again.stderr
    assert "the run was trained on" in again.stderr
    bad = fastent("run", "--data", str(stored[0]), "--labels", str(stored[1]), "--record-every", "1", "--subset", "5")
    assert bad.exit_code == 2
    assert "--subset" in bad.stderr


def test_models_are_left_alone_by_the_driver():
    """The factory's networks are its own: nothing is shared between two calls."""
    X, y = noisy_classes(200)
    made = []

    def factory():
        made.append(mlp())
        return made[-1]

    first = fe.train_streamed(X, y, model=factory, epochs=1, batch_size=50, queries=20, threads=1)
    weights = copy.deepcopy(made[0].state_dict())
    second = fe.train_streamed(X, y, model=factory, epochs=1, batch_size=50, queries=20, threads=1)
    assert_same_bits(first, second)
    for name, value in made[0].state_dict().items():
        assert torch.equal(value, weights[name])
