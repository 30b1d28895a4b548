import itertools
import signal
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import fastent as fe
from fastent.experiments._dynamics import dynamics
from tests.plain_loop import class_geometry
from tests.training.test_train import assert_same_bits


def mlp():
    return nn.Sequential(nn.Linear(64, 20, dtype=torch.float64), nn.Tanh(), nn.Linear(20, 2, dtype=torch.float64))


def with_dropout_and_batch_norm():
    return nn.Sequential(nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 10))


class TwoHeads(nn.Module):
    def forward(self, rows):
        return rows, rows


@pytest.mark.train
@pytest.mark.parametrize("batch_size", [None, 100])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_model_is_the_fully_connected_network_of_the_same_layers(batch_size, optimizer):
    options = {"seeds": 3, "epochs": 40, "dtype": "float64", "batch_size": batch_size, "optimizer": optimizer, "lr": 0.01}
    own, built_in = fe.train("digits", model=mlp, **options), fe.train("digits", **options)
    for name in ("radius", "distance", "train_error", "test_error"):
        np.testing.assert_allclose(getattr(own, name), getattr(built_in, name), atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(own.wrong, built_in.wrong)


def test_cnn_against_a_plain_torch_loop():
    data = fe.load_data("digits", subset=400)
    run = fe.train(data, model="cnn", seeds=2, seed=3, epochs=20, dtype="float32")
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 2),
    )  # fmt: skip
    rule = torch.optim.SGD(network.parameters(), lr=0.1)
    pictures, targets = torch.from_numpy(data.x_train).reshape(-1, 1, 8, 8), torch.from_numpy(data.y_train)
    for epoch in range(21):
        hidden = network[:-1](pictures)
        logits = network[-1](hidden)
        radius, distance = class_geometry(hidden.detach(), targets, 2)
        np.testing.assert_allclose(run.radius[1, epoch, 0], radius, atol=1e-4)
        np.testing.assert_allclose(run.distance[1, epoch, 0], distance, atol=1e-4)
        assert abs(run.train_error[1, epoch] - (logits.argmax(1) != targets).double().mean()) <= 1 / 400
        rule.zero_grad()
        nn.functional.cross_entropy(logits, targets).backward()
        rule.step()


def test_layers_by_name():
    run = fe.train("digits", model=with_dropout_and_batch_norm, layers=["0", "2"], classes="all", seeds=2, epochs=2)
    assert run.config["layers"] == ["0", "2"]
    assert run.radius.shape == (2, 3, 2, 10)
    assert fe.train("digits", model=mlp, dtype="float64", seeds=1, epochs=1).config["layers"] == ["before 2"]


@pytest.mark.train
@pytest.mark.parametrize("batch_size", [None, 64])
def test_resumed_with_random_units_is_uninterrupted_bit_for_bit(batch_size, tmp_path):
    options = {
        "model": with_dropout_and_batch_norm,
        "classes": "all",
        "seeds": 2,
        "batch_size": batch_size,
        "optimizer": "adam",
    }
    whole = fe.train("digits", epochs=6, **options)
    torch.randn(7)  # what else is drawn does not matter
    fe.train("digits", epochs=3, **options).save(tmp_path)
    assert_same_bits(fe.train("digits", epochs=6, resume=tmp_path, **options), whole)
    assert whole.train_error[:, -1].max() < whole.train_error[:, 0].min()


def test_torch_draws_what_it_would_have_drawn():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    fe.train("digits", model=with_dropout_and_batch_norm, classes="all", seeds=2, epochs=2)
    assert torch.equal(torch.rand(3), expected)


def test_model_by_its_place():
    run = fe.train("digits", model="tests.training.test_modules:with_dropout_and_batch_norm", classes="all", seeds=1, epochs=1)
    assert run.config["model"] == "tests.training.test_modules:with_dropout_and_batch_norm"


def test_an_onlooker_sees_the_networks_at_every_epoch():
    data, seen = fe.load_data("digits"), []

    def observe(snapshot):
        seen.append((snapshot.epoch, snapshot.logits, snapshot.predict(data.x_test), snapshot.hidden(0)))
        np.testing.assert_allclose(snapshot.probability.sum(2), 1)

    for options in ({"hidden": (12, 8)}, {"model": mlp, "dtype": "float64"}):
        seen.clear()
        run = fe.train(data, seeds=2, epochs=5, test_every=1, observe=observe, **options)
        assert [epoch for epoch, *_ in seen] == list(range(6))
        for epoch, logits, of_test, hidden in seen:
            np.testing.assert_array_equal(logits.argmax(2) != data.y_train, run.misclassified(epoch))
            np.testing.assert_allclose((of_test.argmax(2) != data.y_test).mean(1), run.test_error[:, epoch])
            radius, _ = class_geometry(torch.from_numpy(hidden[1].copy()), torch.from_numpy(data.y_train), 2)
            np.testing.assert_allclose(run.radius[1, epoch, 0], radius, atol=1e-6)


def test_inputs_that_never_vary_count_where_they_do():
    """A network keeps its initial weights there; a plain torch network would."""
    data = fe.load_data("digits")
    rows = data.x_test + 1
    snapshots = []
    fe.train(data, seeds=1, epochs=1, dtype="float64", observe=lambda s: snapshots.append((s.logits, s.predict(rows))))
    fe.train(
        data, seeds=1, epochs=1, dtype="float64", model=mlp, observe=lambda s: snapshots.append((s.logits, s.predict(rows)))
    )
    for built_in, own in zip(snapshots[:2], snapshots[2:], strict=True):
        np.testing.assert_allclose(built_in[0], own[0], atol=1e-12)
        np.testing.assert_allclose(built_in[1], own[1], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nowhere:at_all"}, "cannot be imported"),
        ({"model": "tests.training.test_modules:np"}, "is no callable"),
        ({"model": lambda: 3}, "returned int"),
        ({"model": nn.Tanh}, r"has no nn\.Linear"),
        ({"model": mlp, "dtype": "float64", "layers": ["7"]}, "has no layer '7': it has 0, 1, 2"),
        ({"model": mlp, "hidden": (3,)}, "leave them out with model="),
        ({"layers": ["0"]}, "only a model= has layers"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"model": lambda: nn.Sequential(nn.Linear(64, 20), nn.Flatten(0))}, "logits"),
    ],
)
def test_bad_models(options, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.train("digits", seeds=2, epochs=1, **options)


def normalised():
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 2))


def blobs(n, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return (rng.standard_normal((n, 6)) + y[:, None]).astype(np.float32), y


@pytest.mark.parametrize("batch_size", [None, 1500])
def test_models_that_normalise_over_a_batch_see_all_of_it_at_once(batch_size):
    """More points than pass together otherwise; classes mixed, as a plain loop has them."""
    X, y = blobs(3000)
    data = fe.load_data((X, y, X[:10], y[:10]), classes="all", standardize="none")
    run = fe.train(data, model=normalised, seeds=1, epochs=12, lr=0.5, batch_size=batch_size)
    torch.manual_seed(0)
    network = normalised()
    rule = torch.optim.SGD(network.parameters(), lr=0.5)
    points, targets = torch.from_numpy(X), torch.from_numpy(y)
    for epoch, position in enumerate(run.positions(range(13))):
        network.eval()
        with torch.no_grad():
            radius, _ = class_geometry(network[:-1](points), targets, 2)
            assert run.train_error[0, position] == pytest.approx(
                float((network(points).argmax(1) != targets).double().mean()), abs=2e-3
            )
        np.testing.assert_allclose(run.radius[0, position, 0], radius, atol=1e-4)
        network.train()
        by_class = np.argsort(y, kind="stable")  # as the networks hold them
        order = by_class[np.random.default_rng((0, epoch)).permutation(3000)] if batch_size else by_class
        for rows in np.array_split(order, range(batch_size or 3000, 3000, batch_size or 3000)):
            rule.zero_grad()
            nn.functional.cross_entropy(network(points[rows]), targets[rows]).backward()
            rule.step()


def test_points_left_out_would_count_where_batches_are_normalised():
    X, y = blobs(60)
    with pytest.raises(fe.FastentError, match="use exclude=, or a model with LayerNorm or GroupNorm"):
        fe.train((X, y), model=normalised, seeds=1, epochs=1, exclude_per_seed=np.eye(1, 45, dtype=bool))


def test_layers_are_named_as_they_are_recorded_and_what_follows_changes_nothing():
    def in_place():
        return nn.Sequential(nn.Linear(64, 9), nn.ReLU(inplace=True), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 2))

    def apart():
        return nn.Sequential(nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 2))

    one = fe.train("digits", model=in_place, layers=["3", "0"], seeds=1, epochs=3)
    other = fe.train("digits", model=apart, layers=["0", "3"], seeds=1, epochs=3)
    np.testing.assert_array_equal(one.radius[:, :, ::-1], other.radius)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 2)

    def forward(self, rows):
        return self.last(self.first(self.first(rows)))


class Functional(nn.Module):
    """Drops units by a function, which no list of modules shows."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 2)

    def forward(self, rows):
        return self.last(nn.functional.dropout(torch.tanh(self.first(rows)), 0.5, self.training))


class Modular(Functional):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, rows):
        return self.last(self.drop(torch.tanh(self.first(rows))))


def test_units_are_dropped_when_networks_learn_not_when_they_are_recorded():
    one, other = (fe.train("digits", model=model, layers=["first"], seeds=2, epochs=4) for model in (Functional, Modular))
    np.testing.assert_array_equal(one.radius, other.radius)
    np.testing.assert_array_equal(one.train_error, other.train_error)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Twice, {"layers": ["first"]}, "passes through its layer 'first' more than once"),
        (lambda: nn.Linear(64, 3), {}, "takes a point to 3 logits: 2, one for each class, are needed"),
        (lambda: nn.Linear(64, 2), {"activation": "relu"}, "your model has its own"),
        (lambda: nn.Sequential(nn.Tanh(), nn.Linear(64, 2)), {"layers": ["0", "0"]}, "name each once"),
    ],
)
def test_models_that_cannot_be_recorded(model, options, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.train("digits", model=model, seeds=1, epochs=1, **options)


@pytest.mark.parametrize("model", [with_dropout_and_batch_norm, Functional])
def test_interrupted_in_the_middle_it_goes_on_to_the_same_bits(model, tmp_path):
    options = {"classes": "all", "seeds": 2, "lr": 0.05} if model is with_dropout_and_batch_norm else {"seeds": 2}
    whole = fe.train("digits", model=model, epochs=8, **options)

    def interrupt(snapshot):
        if snapshot.epoch == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fe.train("digits", model=model, epochs=8, checkpoint=tmp_path, observe=interrupt, **options)
    resumed = fe.train("digits", model=model, epochs=8, resume=tmp_path, **options)
    assert_same_bits(resumed, whole)
    for name, value in whole.state.items():
        np.testing.assert_array_equal(resumed.state[name], value, err_msg=name)


def test_models_of_one_name_are_told_apart(tmp_path):
    def of(units):
        return lambda: nn.Sequential(nn.Linear(64, units), nn.Tanh(), nn.Linear(units, 2))

    fe.train("digits", model=of(5), seeds=1, epochs=2).save(tmp_path)
    with pytest.raises(fe.FastentError, match="model_digest"):
        fe.train("digits", model=of(7), seeds=1, epochs=4, resume=tmp_path)


def test_a_class_of_which_a_network_is_left_nothing_has_no_radius():
    data = fe.load_data("digits", subset=200)
    run = fe.train(data, seeds=2, epochs=30, exclude_per_seed=np.stack([data.y_train == 0, np.zeros(200, bool)]))
    assert np.isnan(run.radius[0, :, 0, 0]).all()
    assert np.isnan(run.distance[0, :, 0, 0, 1]).all()
    assert run.inversion[0, 0, 0].reason == "the network is trained on no point of the class"
    assert np.isfinite(run.radius[1]).all()


def test_runs_with_another_test_set_are_other_runs():
    X, y = blobs(100)
    run = fe.train((X, y, X[:20], y[:20]), seeds=1, epochs=2)
    with pytest.raises(fe.FastentError, match="fingerprint"):
        fe.train((X, y, X[20:40], y[20:40]), seeds=1, epochs=3, resume=run)


class Broken(nn.Module):
    """A network of two layers, and what becomes of its logits."""

    def __init__(self, change):
        super().__init__()
        self.first, self.last, self.never_used = nn.Linear(64, 5), nn.Linear(5, 2), nn.Linear(3, 3)
        self.change = change

    def forward(self, rows):
        return self.change(self.last(torch.tanh(self.first(rows))), self)


def broken(change):
    return lambda: Broken(change)


def only_when_it_learns(logits, network):
    if network.training:
        raise ValueError("no training today")
    return logits


def keyless(logits, network):
    return {}["logits\x1b"]


SHARED, WIDTHS = nn.Linear(64, 5), itertools.count(1)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), r"does not take rows .*64.*RuntimeError"),
        (broken(keyless), r"does not take rows .*KeyError: 'logits\\x1b'"),
        (broken(only_when_it_learns), "ValueError: no training today"),
        (broken(lambda logits, _: logits + torch.zeros(2, device="meta")), "on its rows' device"),
        (broken(lambda logits, _: logits.detach()), "logits do not depend on its parameters"),
        (broken(lambda logits, _: logits * torch.nan), "not finite before any training"),
        (broken(lambda logits, _: (logits, 1)), "tuple"),
        (broken(lambda logits, _: None), "NoneType"),
        (broken(lambda logits, _: logits[:, 0]), r"returned shape \(2,\)"),
        (broken(lambda logits, _: logits.mean(0, keepdim=True)), r"returned shape \(1, 2\)"),
        (broken(lambda logits, _: logits.long()), "numbers of torch.int64"),
        (lambda: 1 / 0, r"model\(\) cannot make a network \(ZeroDivisionError: division by zero\)"),
        (lambda n: nn.Linear(64, n), "cannot make a network .*missing 1 required positional argument"),
        (lambda: 3, "returned int"),
        (nn.Linear(64, 2), "model is a Linear: pass a function"),
        (lambda: nn.Sequential(SHARED, nn.Linear(5, 2)), "same parameters for seeds 0 and 1"),
        (lambda: nn.Flatten(), "Flatten without parameters"),
        (lambda: nn.Sequential(nn.LazyLinear(5), nn.Linear(5, 2)), "lazy layers"),
        (lambda: nn.Linear(64, 2, device="meta"), "not on 'meta'"),
        (lambda: nn.Sequential(nn.Linear(64, width := next(WIDTHS)), nn.Linear(width, 2)), "other parameters for seed 1"),
    ],
)
def test_what_is_wrong_with_a_model_is_one_error(model, message, on_disk):
    layers = ["first"] if isinstance(model, type(broken)) and model.__qualname__.startswith("broken") else None
    rows = load_digits()
    X, y = rows.data.astype(np.float32)[:200] / 16, rows.target[:200] % 2
    options = {"model": model, "layers": layers, "seeds": 2, "epochs": 1, "classes": "all"}
    train = partial(fe.train_streamed, X, y, batch_size=50) if on_disk else partial(fe.train, (X, y))
    with pytest.raises(fe.FastentError, match=message) as caught:
        train(**options)
    assert "\n" not in str(caught.value)


def test_parameters_that_a_model_does_not_use_stay_as_they_are():
    run = fe.train("digits", model=broken(lambda logits, _: logits), layers=["first"], seeds=1, epochs=3)
    torch.manual_seed(0)
    network = Broken(None)
    names = [name for name, _ in network.named_parameters()]
    for name, value in network.named_parameters():
        kept = np.array_equal(run.state[str(names.index(name))][0], value.detach().numpy())
        assert kept == name.startswith("never_used")


def test_an_experiment_says_what_is_wrong_with_its_model():
    with pytest.raises(fe.FastentError, match="ZeroDivisionError"):
        dynamics("digits", model=lambda: 1 / 0, seeds=1, epochs=1)
