import json
import os
import re
import signal
import threading
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fastent.kernels.recording import unit_class_sums
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from fastent.training.ensemble import Ensemble
from fastent.training.points import Points
from fastent.training.schedule import spaced_updates, updates_to_record
from fastent.training.tables import curves_table, epoch_of, readable_rows, summary
from tests import naive
from tests.plain_loop import class_geometry, train_plain

RECORDS = ("epoch", "train_error", "test_epoch", "test_error", "radius", "distance", "wrong")


@pytest.fixture(scope="module")
def digits():
    return fe.load_data("digits")


@pytest.fixture(scope="module")
def paper_run(digits):
    """The source paper's network on digits: parity, 20 tanh units, learning rate 0.1, 10 seeds."""
    return fe.train(digits, epochs=1500)


def assert_same_bits(a, b):
    for name in RECORDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name, value in a.state.items():
        np.testing.assert_array_equal(b.state[name], value, err_msg=name)


@pytest.mark.train
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "relu", "hidden": (16,)},
        {"hidden": (24, 12), "lr": 0.2},
        {"momentum": 0.9, "lr": 0.05},
        {"optimizer": "adam", "lr": 0.01, "hidden": (12, 8, 6)},
        {"hidden": (20, 16, 12, 8), "lr": 0.2},
        {"activation": "relu", "momentum": 0.9, "lr": 0.02, "hidden": (20, 16, 12, 8)},
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_seed_is_the_network_that_a_plain_torch_loop_trains(digits, options, dtype):
    data = digits.take(np.arange(500)) if options else digits  # all points once: the loop takes most of this file's time
    run = fe.train(data, seeds=3, seed=5, epochs=200, test_every=1, dtype=dtype, **options)
    for s in range(3):
        alone = train_plain(data, seed=5 + s, epochs=200, dtype=getattr(torch, dtype), **options)
        for name in ("train_error", "test_error", "radius", "distance"):
            np.testing.assert_allclose(getattr(run, name)[s], alone[name], rtol=0, atol=1e-4, err_msg=name)
        assert (run.misclassified(200)[s] == alone["wrong"][200]).all()


@pytest.mark.train
@pytest.mark.parametrize("options", [{"hidden": (16,)}, {"hidden": (24, 16, 12, 12), "optimizer": "adam", "lr": 0.003}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_classes_against_a_plain_torch_loop(options, dtype):
    data = fe.load_data("digits", classes="all")
    run = fe.train(data, seeds=2, epochs=200, dtype=dtype, **options)
    alone = train_plain(data, seed=1, epochs=200, dtype=getattr(torch, dtype), **options)
    tolerance = 1e-4 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(run.train_error[1], alone["train_error"], atol=tolerance)
    np.testing.assert_allclose(run.radius[1], alone["radius"], atol=tolerance)
    np.testing.assert_allclose(run.distance[1], alone["distance"], atol=tolerance)
    np.testing.assert_allclose(run.test_error[1], alone["test_error"][::10], atol=tolerance)


@given(
    sizes=st.lists(st.integers(1, 400), min_size=2, max_size=5),
    hidden=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    activation=st.sampled_from(["tanh", "relu"]),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    leave_out=st.booleans(),
    seed=st.integers(0, 100),
)
def test_fused_gradient_against_autograd(sizes, hidden, activation, scale, leave_out, seed):
    rng = np.random.default_rng(seed)
    n, n_classes, n_inputs = sum(sizes), len(sizes), 7
    codes = rng.permutation(np.repeat(np.arange(n_classes), sizes))
    inputs = torch.from_numpy(scale * rng.standard_normal((n_inputs, n)))
    kept = rng.random((2, n)) < 0.7 if leave_out else np.ones((2, n), bool)
    kept[:, 0] = True
    points = Points.sort(inputs, codes, n_classes, kept)
    widths = (n_inputs, *hidden, n_classes)
    networks = Ensemble(widths, (1, 2), activation=activation, dtype=torch.float64, device=torch.device("cpu"))
    observed = networks.observe(points, learn=True)
    for s in range(2):
        parameters = [p[s].clone().requires_grad_() for p in networks.parameters]
        values, rows, activations = inputs.T, torch.from_numpy(np.flatnonzero(kept[s])), []
        for layer in range(len(hidden)):
            values = values @ parameters[2 * layer].T + parameters[2 * layer + 1]
            values = torch.tanh(values) if activation == "tanh" else torch.relu(values)
            activations.append(values)
        logits = values @ parameters[-2].T + parameters[-1]
        torch.nn.functional.cross_entropy(logits[rows], torch.from_numpy(codes)[rows]).backward()
        for mine, theirs in zip(networks.parameters, parameters, strict=True):
            size = max(1e-3, theirs.grad.abs().max().item())
            np.testing.assert_allclose(mine.grad[s], theirs.grad, rtol=1e-10, atol=1e-10 * size)
        expected = (logits.argmax(1).numpy() != codes) & kept[s]
        np.testing.assert_array_equal(observed.wrong[s], expected)
        for layer, rows_of_layer in enumerate(activations):
            sorted_rows = np.ascontiguousarray((rows_of_layer.detach().numpy() * kept[s][:, None])[points.original].T)
            sums, directed = naive.unit_class_sums(sorted_rows[None], points.bounds)
            np.testing.assert_allclose(observed.sums[layer][s], sums[0], rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(observed.directed[layer][s], directed[0])


def test_a_network_trained_without_some_points(digits):
    """The same as leaving them out of the data, but that standardisation has seen them."""
    rng = np.random.default_rng(0)
    left_out = rng.random((2, len(digits.y_train))) < 0.3
    both = fe.train(digits, seeds=2, epochs=40, dtype="float64", exclude_per_seed=left_out)
    for s in range(2):
        fewer = fe.load_data("digits", exclude=digits.index[left_out[s]])
        alone = fe.train(fewer, seeds=1, seed=s, epochs=40, dtype="float64")
        np.testing.assert_allclose(both.train_error[s], alone.train_error[0], atol=1e-12)
        np.testing.assert_allclose(both.radius[s], alone.radius[0], atol=1e-8)
        np.testing.assert_allclose(both.distance[s], alone.distance[0], atol=1e-8)
        np.testing.assert_array_equal(both.misclassified(40)[s][~left_out[s]], alone.misclassified(40)[0])
        assert not both.misclassified(0)[s][left_out[s]].any()
    with pytest.raises(fe.FastentError, match="a bool for each seed and point"):
        fe.train(digits, seeds=3, exclude_per_seed=left_out)


def test_shapes_and_ranges(digits):
    run = fe.train(digits, seeds=3, hidden=(9, 5), epochs=25, test_every=10)
    assert run.radius.shape == (3, 26, 2, 2)
    assert run.distance.shape == (3, 26, 2, 2, 2)
    assert run.train_error.shape == (3, 26)
    assert run.test_epoch.tolist() == [0, 10, 20, 25]
    assert run.test_error.shape == (3, 4)
    assert run.epoch.tolist() == list(range(26))
    assert run.complete
    assert ((run.radius > 0) & (run.radius <= 1)).all()
    assert (run.distance == run.distance.swapaxes(-1, -2)).all()
    np.testing.assert_array_equal(run.train_error, np.stack([run.misclassified(e).mean(1) for e in range(26)], axis=1))


@pytest.mark.train
def test_an_interior_minimum_of_both_radii_in_every_seed(paper_run):
    for s, c in np.ndindex(10, 2):
        assert paper_run.inversion[s, 0, c], (s, c)
    for found in paper_run.inversion_summary():
        assert found.found == 10
        assert 0.055 < found.train_error < 0.072
        assert found.interval[0] < found.train_error < found.interval[1]
    assert paper_run.inversion_summary()[0].std < 0.004  # of label 0, by which the source paper defines eps*


@pytest.mark.train
def test_stragglers_are_those_of_exactly_the_inversion_epoch(digits, paper_run):
    s = 3
    alone = train_plain(digits, seed=s, epochs=max(i.epoch for i in paper_run.inversion[s, 0]))
    expected = np.zeros(len(digits.y_train), bool)
    for c in range(2):
        expected |= alone["wrong"][paper_run.inversion[s, 0, c].epoch] & (digits.y_train == c)
    np.testing.assert_array_equal(paper_run.stragglers[s], expected)
    assert (paper_run.stragglers[s] != paper_run.misclassified(1500)[s]).any()


@pytest.mark.train
def test_stragglers_carry_the_inversion(digits, paper_run):
    """Without them there is no inversion; without as many random points of the same classes it stays where it was."""
    stragglers = paper_run.consensus_stragglers()
    assert 50 < len(stragglers) < 150
    without = fe.train(fe.load_data("digits", exclude=stragglers), epochs=1500)
    assert not any(bool(inversion) for inversion in without.inversion.flat)

    rng = np.random.default_rng(0)
    is_straggler = np.isin(digits.index, stragglers)
    errors = []
    for _ in range(3):
        drawn = np.concatenate(
            [
                rng.choice(digits.index[digits.y_train == c], (is_straggler & (digits.y_train == c)).sum(), replace=False)
                for c in (0, 1)
            ]
        )
        control = fe.train(fe.load_data("digits", exclude=drawn), epochs=1500)
        errors.append([found.train_error for found in control.inversion_summary()])
    for c, found in enumerate(paper_run.inversion_summary()):
        assert abs(np.mean(errors, axis=0)[c] - found.train_error) < 0.005


@pytest.mark.train
def test_consensus_is_the_share_of_seeds(paper_run):
    np.testing.assert_allclose(paper_run.straggler_share, paper_run.stragglers.mean(0))
    assert set(paper_run.consensus_stragglers(0.9)) < set(paper_run.consensus_stragglers(0.1))


@pytest.mark.train
def test_distance_between_classes_has_its_inversion(paper_run):
    inversions = paper_run.inversions("distance")
    assert inversions.shape == (10, 1, 2, 2)
    assert all(inversions[s, 0, 0, 1] for s in range(10))
    assert not inversions[0, 0, 0, 0]
    # On a smooth curve the first rise comes right after the minimum.
    for s in range(10):
        first, interior = paper_run.inversions(rule="first-increase")[s, 0, 0], paper_run.inversion[s, 0, 0]
        assert first.epoch <= interior.epoch + 1


def test_same_seed_same_bits(digits):
    assert_same_bits(fe.train(digits, seeds=2, epochs=60), fe.train(digits, seeds=2, epochs=60))


def test_a_seed_does_not_depend_on_its_company(digits):
    both, alone = (
        fe.train(digits, seeds=2, epochs=60, dtype="float64"),
        fe.train(digits, seeds=1, seed=1, epochs=60, dtype="float64"),
    )
    np.testing.assert_allclose(both.radius[1], alone.radius[0], atol=1e-10)


def test_inputs_that_are_always_zero_change_nothing():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5)).astype(np.float32)
    X[:, 2] = 0
    y = (X[:, 0] > 0).astype(int)
    data = fe.load_data((X, y), standardize="none")
    run = fe.train(data, seeds=1, epochs=30, hidden=(6,), test_every=1, dtype="float64")
    alone = train_plain(data, seed=0, epochs=30, hidden=(6,), dtype=torch.float64)
    np.testing.assert_allclose(run.radius[0], alone["radius"], atol=1e-10)
    assert run.state["0"].shape == (1, 6, 4)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"optimizer": "adam", "lr": 0.01}])
def test_resumed_is_uninterrupted_bit_for_bit(digits, tmp_path, options):
    whole = fe.train(digits, seeds=2, epochs=50, **options)
    fe.train(digits, seeds=2, epochs=23, **options).save(tmp_path)
    assert_same_bits(fe.train(digits, seeds=2, epochs=50, resume=tmp_path, **options), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_done(digits, tmp_path, number):
    def interrupt(done, total, message):
        if done == 30:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fe.train(digits, seeds=2, epochs=50, checkpoint=tmp_path, progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    kept = fe.load_run(tmp_path)
    assert not kept.complete
    assert 30 <= kept.epoch[-1] <= 31
    assert_same_bits(fe.train(digits, seeds=2, epochs=50, resume=kept), fe.train(digits, seeds=2, epochs=50))


@given(epochs=st.integers(1, 60), longer=st.integers(0, 60), updates_per_epoch=st.integers(1, 5000))
def test_records_lie_on_a_log_scale_until_they_are_a_pass_apart(epochs, longer, updates_per_epoch):
    updates = updates_to_record(epochs, updates_per_epoch)
    passes = np.arange(epochs + 1) * updates_per_epoch
    assert set(passes) <= set(updates)
    assert updates[-1] == passes[-1]
    if updates_per_epoch == 1:
        np.testing.assert_array_equal(updates, passes)
    steps = np.diff(updates)
    assert (steps > 0).all()
    assert (steps <= np.minimum(updates_per_epoch, 2 + updates[:-1] * 0.1)).all()
    within = np.setdiff1d(updates, passes)
    exponents = 8 * np.log2(within[within > 12])
    np.testing.assert_allclose(exponents, exponents.round(), atol=0.5)
    assert (within < 12 * updates_per_epoch).all()
    # A run that is continued is recorded as one that was to be as long from the start.
    np.testing.assert_array_equal(updates_to_record(epochs + longer, updates_per_epoch)[: len(updates)], updates)


def test_updates_on_a_log_scale():
    assert spaced_updates(2, 20).tolist() == [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45]


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9, "hidden": (8, 6)}, {"optimizer": "adam", "lr": 0.01}, {"exclude_per_seed": True}]
)
def test_records_within_passes_change_nothing_else(digits, monkeypatch, options):
    """At whole passes every record has the bits that it has where only these are recorded."""
    few = digits.take(np.arange(300))
    if "exclude_per_seed" in options:
        options = {"exclude_per_seed": np.random.default_rng(0).random((2, 300)) < 0.2}
    arguments = {"seeds": 2, "epochs": 13, "batch_size": 40, **options}
    run = fe.train(few, **arguments)
    monkeypatch.setattr(
        "fastent.training.in_memory_session.updates_to_record", lambda epochs, updates: np.arange(epochs + 1) * updates
    )
    passes = fe.train(few, **arguments)
    at = run.positions(passes.epoch)
    assert len(at) == 14 < len(run.epoch)
    for name in ("train_error", "radius", "distance", "wrong"):
        np.testing.assert_array_equal(getattr(run, name)[:, at], getattr(passes, name), err_msg=name)
    for name in ("test_epoch", "test_error"):
        np.testing.assert_array_equal(getattr(run, name), getattr(passes, name), err_msg=name)
    assert run.test_epoch.dtype == np.int64
    for name, value in run.state.items():
        np.testing.assert_array_equal(value, passes.state[name])


def test_records_within_passes_are_those_of_a_plain_torch_loop(digits):
    few = digits.take(np.arange(100))
    run = fe.train(few, seeds=2, epochs=3, batch_size=30, dtype="float64")
    assert run.epoch.dtype == np.float64
    assert run.update.tolist() == list(range(13))
    assert run.epoch.tolist() == [update / 4 for update in range(13)]
    assert run.config["updates_per_epoch"] == run.updates_per_epoch == 4

    torch.manual_seed(1)
    layers = torch.nn.Linear(64, 20, dtype=torch.float64), torch.nn.Linear(20, 2, dtype=torch.float64)
    network = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])
    rule = torch.optim.SGD(network.parameters(), lr=0.1)
    points, targets = torch.from_numpy(few.x_train).double(), torch.from_numpy(few.y_train)
    by_class = np.argsort(few.y_train, kind="stable")  # as the networks hold them
    batches = [
        rows
        for epoch in range(4)
        for rows in np.array_split(by_class[np.random.default_rng((0, epoch)).permutation(100)], range(30, 100, 30))
    ]
    for position, rows in enumerate(batches[:13]):
        with torch.no_grad():
            wrong = (network(points).argmax(1) != targets).numpy()
            radius, distance = class_geometry(network[:2](points), targets, 2)
        np.testing.assert_array_equal(run.misclassified(position / 4)[1], wrong)
        assert run.train_error[1, position] == wrong.mean()
        np.testing.assert_allclose(run.radius[1, position, 0], radius, atol=1e-8)
        np.testing.assert_allclose(run.distance[1, position, 0], distance, atol=1e-8)
        rule.zero_grad()
        torch.nn.functional.cross_entropy(network(points[rows]), targets[rows]).backward()
        rule.step()


@pytest.mark.train
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"optimizer": "adam", "lr": 0.01}])
@pytest.mark.parametrize("records", [5, 30, 53])
def test_interrupted_within_a_pass_is_uninterrupted_bit_for_bit(digits, tmp_path, options, records):
    arguments = {"seeds": 2, "epochs": 4, "batch_size": 10, "test_every": 2, **options}
    told = []

    def interrupt(done, total, message):
        told.append((done, total))
        if len(told) == records:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fe.train(digits, checkpoint=tmp_path, progress=interrupt, **arguments)
    kept = fe.load_run(tmp_path)
    assert len(kept.epoch) >= records
    assert not kept.epoch[-1].is_integer()
    assert not kept.complete
    assert (kept.epoch[-1] < 1) == (records < 40)
    assert told[-1] == (int(kept.epoch[-1]), 4)
    whole = fe.train(digits, **arguments)
    assert_same_bits(fe.train(digits, resume=kept, **arguments), whole)
    assert whole.test_epoch.tolist() == [0, 2, 4]
    # As is a run that has come to its end, and is then to be longer.
    fe.train(digits, **arguments | {"epochs": 3}).save(tmp_path)
    assert_same_bits(fe.train(digits, resume=tmp_path, **arguments), whole)


def test_an_onlooker_of_batches_is_called_after_whole_passes(digits):
    few, seen = digits.take(np.arange(100)), {}
    run = fe.train(few, seeds=2, epochs=3, batch_size=30, observe=lambda now: seen.update({now.epoch: now.logits}))
    assert list(seen) == [0, 1, 2, 3]
    assert all(type(epoch) is int for epoch in seen)
    for epoch, logits in seen.items():
        np.testing.assert_array_equal(logits.argmax(2) != few.y_train, run.misclassified(epoch))


def test_positions_of_epochs(digits):
    run = fe.train(digits.take(np.arange(100)), seeds=1, epochs=3, batch_size=30)
    assert run.positions([0, 1, 2, 3]).tolist() == run.evenly_spaced.tolist() == [0, 4, 8, 12]
    assert run.positions(0.75) == 3
    for missing in (0.8, 4, -1, np.nan):
        with pytest.raises(fe.FastentError, match=r"was not recorded: 0\.0\.\.3\.0 were"):
            run.positions([1, missing])
    whole = fe.train(digits, seeds=1, epochs=3)
    assert whole.update.tolist() == whole.epoch.tolist() == whole.evenly_spaced.tolist() == [0, 1, 2, 3]
    assert whole.epoch.dtype == whole.update.dtype == np.int64
    one_batch = fe.train(digits, seeds=1, epochs=3, batch_size=5000)
    assert one_batch.config["updates_per_epoch"] == 1
    assert one_batch.epoch.dtype == np.int64
    assert one_batch.epoch.tolist() == [0, 1, 2, 3]


def test_runs_of_before_there_were_records_within_passes(digits, tmp_path, monkeypatch):
    def as_before(run):
        config = {name: value for name, value in run.config.items() if name != "updates_per_epoch"}
        return replace(run, config=config, epoch=np.rint(run.epoch).astype(np.int64))

    full = fe.train(digits, seeds=1, epochs=4)
    as_before(fe.train(digits, seeds=1, epochs=2)).save(tmp_path)
    old = fe.load_run(tmp_path)
    assert old.update.tolist() == [0, 1, 2]
    assert_same_bits(fe.train(digits, seeds=1, epochs=4, resume=old), full)

    with monkeypatch.context() as patch:
        patch.setattr(
            "fastent.training.in_memory_session.updates_to_record", lambda epochs, updates: np.arange(epochs + 1) * updates
        )
        as_before(fe.train(digits, seeds=1, epochs=2, batch_size=100)).save(tmp_path)
    old = fe.load_run(tmp_path)
    assert old.update.tolist() == [0, 14, 28]
    assert fe.train(digits, seeds=1, epochs=2, batch_size=100, resume=old) is old
    with pytest.raises(fe.FastentError, match=r"an earlier version of fastent.*start anew"):
        fe.train(digits, seeds=1, epochs=4, batch_size=100, resume=old)


def test_training_in_a_thread(digits):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(fe.train(digits, seeds=1, epochs=5)))
    thread.start()
    thread.join()
    assert runs[0].complete


def test_threads_are_restored(digits):
    before = torch.get_num_threads()
    run = fe.train(digits, seeds=1, epochs=3, threads=1)
    assert run.config["threads"] == 1
    assert torch.get_num_threads() == before


def test_divergence_is_an_error(digits):
    with pytest.raises(fe.FastentError, match="diverged at epoch"):
        fe.train(digits, seeds=1, epochs=50, lr=1e30, activation="relu")


def test_what_is_saved_is_what_is_loaded(digits, tmp_path):
    run = fe.train(digits, seeds=2, epochs=40)
    run.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "curves.parquet", "run.npz", "stragglers.parquet", "summary.json",
    ]  # fmt: skip
    loaded = fe.load_run(tmp_path)
    assert_same_bits(run, loaded)
    assert loaded.config == run.config == json.loads((tmp_path / "config.json").read_text())
    np.testing.assert_array_equal(loaded.stragglers, run.stragglers)


@pytest.mark.train
def test_tables(paper_run, tmp_path):
    paper_run.save(tmp_path)
    curves = pq.read_table(tmp_path / "curves.parquet")
    is_one = curves["class"].to_numpy(zero_copy_only=False) == "odd"
    assert curves.column_names == ["seed", "epoch", "layer", "class", "train_error", "test_error", "radius"]
    assert json.loads(curves.schema.metadata[b"fastent.config"]) == paper_run.config
    rows = curves.filter((curves["seed"].to_numpy() == 4) & is_one)
    np.testing.assert_array_equal(rows["radius"].to_numpy(), paper_run.radius[4, :, 0, 1])
    np.testing.assert_array_equal(rows["train_error"].to_numpy(), paper_run.train_error[4])
    assert rows["test_error"].null_count == 1501 - 151
    assert rows["test_error"].drop_null().to_pylist() == paper_run.test_error[4].tolist()

    stragglers = pq.read_table(tmp_path / "stragglers.parquet")
    assert stragglers.column_names == [
        "index", "label", "class", "share", "epochs_misclassified", "times_forgotten", "wrong_at_end",
    ]  # fmt: skip
    shares = stragglers["share"].to_numpy()
    assert (np.diff(shares) <= 0).all()
    assert set(stragglers["index"].to_numpy()[shares >= 0.5]) == set(paper_run.consensus_stragglers())
    assert [["even", "odd"][label % 2] for label in stragglers["label"].to_pylist()] == stragglers["class"].to_pylist()

    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert numbers == json.loads(json.dumps(summary(paper_run)))
    assert [row["found"] for row in numbers["classes"]] == [10, 10]
    assert curves_table(paper_run).num_rows == 10 * 1501 * 2


def test_tables_of_batches(digits):
    run = fe.train(digits, seeds=2, epochs=3, batch_size=100, test_every=1)
    curves = curves_table(run).to_pydict()
    rows = [i for i, (seed, name) in enumerate(zip(curves["seed"], curves["class"], strict=True)) if (seed, name) == (1, "odd")]
    assert [curves["epoch"][i] for i in rows] == run.epoch.tolist()
    assert [curves["radius"][i] for i in rows] == run.radius[1, :, 0, 1].tolist()
    tested = {curves["epoch"][i]: curves["test_error"][i] for i in rows if curves["test_error"][i] is not None}
    assert tested == dict(zip([0, 1, 2, 3], run.test_error[1].tolist(), strict=True))
    assert summary(run)["epochs"] == 3
    assert repr(run).endswith("3 of 3 epochs)")
    assert [epoch_of(run, epoch) for epoch in (0, 1 / 512, 1 / 11, 0.5, 2, 1234.5)] == [
        "0",
        "0.002",
        "0.091",
        "0.50",
        "2",
        "1,234.50",
    ]


@given(
    n_networks=st.integers(1, 3),
    n_units=st.integers(1, 6),
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=4),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 100),
)
def test_recording_kernel_against_the_oracle(n_networks, n_units, sizes, dtype, seed):
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    if bounds[-1] == 0:
        return
    activations = np.random.default_rng(seed).standard_normal((n_networks, n_units, bounds[-1])).astype(dtype)
    activations[:, :, ::5] = 0
    everything = np.ones((n_networks, bounds[-1]))
    sums, directed = unit_class_sums(activations, bounds, everything)
    for c, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        if start < stop:
            expected, count = naive.unit_class_sums(activations[:, :, start:stop], [0, stop - start])
            np.testing.assert_allclose(sums[:, c], expected[:, 0], rtol=1e-10, atol=1e-10)
            np.testing.assert_array_equal(directed[:, c], count[:, 0])
        else:
            assert not sums[:, c].any()


def test_a_finished_run_is_judged_anew_by_another_rule(tmp_path):
    options = {"seeds": 1, "epochs": 400, "threads": 1, "checkpoint": tmp_path}
    run = fe.train("digits", **options)
    run.save(tmp_path)
    assert run.inversion[0, -1].all()
    again = fe.train("digits", min_rise=0.9, **options, resume=tmp_path)
    assert {inversion.reason for inversion in again.inversion[0, -1]} == {"the rise is below min_rise"}
    late = fe.train("digits", burn_in=250, **options, resume=tmp_path)
    assert not late.inversion[0, -1].any()
    np.testing.assert_array_equal(late.radius, run.radius)
    for name, value in (("burn_in", -1), ("min_rise", 0)):
        with pytest.raises(fe.FastentError, match=f"{name}={value}"):
            fe.train("digits", **{name: value})


def test_text_classes_are_listed_in_the_order_in_which_people_read_them(tmp_path):
    X, y = np.random.default_rng(0).standard_normal((120, 3)), np.arange(120) % 12
    run = fe.train((X, np.array([f"class{i + 1}" for i in y])), seeds=1, epochs=3)
    names = [f"class{i + 1}" for i in range(12)]
    assert run.class_names != names  # codes are those of the sorted classes
    assert [run.class_names[c] for c in run.class_order] == names
    assert [row[0] for row in readable_rows(run)[1]] == names
    for kind in ("radius", "distance"):
        _, axes = run.plot(kind)
        said = [text.get_text().removesuffix(" to others") for text in axes.get_legend().get_texts()]
        assert [text for text in said if text != "inversion"] == [f"class {name}" for name in names]
        curve = axes.lines[-1 if kind == "distance" else 11].get_ydata()
        values = run.radius[0, 1:, -1] if kind == "radius" else np.nanmean(
            np.where(np.eye(12, dtype=bool), np.nan, run.distance[0, 1:, -1]), 2
        )  # fmt: skip
        np.testing.assert_allclose(curve, values[:, run.class_names.index("class12")])
    few = fe.train((X, np.array(["b10", "b9", "a"])[y % 3]), seeds=1, epochs=3)
    _, axes = few.plot("distance")
    assert [text.get_text() for text in axes.get_legend().get_texts()][:3] == ["a to b9", "a to b10", "b9 to b10"]
    np.testing.assert_allclose(axes.lines[2].get_ydata(), few.distance[0, 1:, -1, 2, 1])
    _, axes = few.plot("map", data=X[few.index])
    assert [text.get_text() for text in axes.get_legend().get_texts()][:3] == ["a", "b9", "b10"]
    fe.write_report(run, tmp_path / "page.html", points=X[run.index])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for listed in (r'<th scope="row">.*?(class\d+)</th>', r'value="\d+" checked><span>.*?(class\d+)</span>'):
        assert list(dict.fromkeys(re.findall(listed, page)))[:12] == names
    assert fe.train((X, y), seeds=1, epochs=1).class_order == list(range(12))
