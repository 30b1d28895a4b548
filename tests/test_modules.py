import numpy as np
import pytest
import torch
from torch import nn

import fastent as fe
from tests.plain_loop import class_geometry
from tests.test_training import assert_same_bits


def mlp():
    return nn.Sequential(nn.Linear(64, 20, dtype=torch.float64), nn.Tanh(), nn.Linear(20, 2, dtype=torch.float64))


def with_dropout_and_batch_norm():
    return nn.Sequential(nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 10))


class TwoHeads(nn.Module):
    def forward(self, rows):
        return rows, rows


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
    run = fe.train("digits", model="tests.test_modules:with_dropout_and_batch_norm", classes="all", seeds=1, epochs=1)
    assert run.config["model"] == "tests.test_modules:with_dropout_and_batch_norm"


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
        ({"model": "tests.test_modules:np"}, "is no callable"),
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
