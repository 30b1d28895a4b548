"""The experiment `layers`: its nulls, its power, its verdicts, and the examples of deep networks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot

import fastent as fe
import fastent.experiments as ex
from examples import deep_networks
from fastent.experiments._layers import layers_of, order_of, turn_epochs
from fastent.experiments.critical import most_turn, share_turning
from tests.experiments.test_claims import ONE, assert_kept, assert_whole

BOTH = np.ones(2, bool)


@pytest.fixture(scope="module")
def recorded():
    return fe.train("digits", hidden=(8, 8), seeds=2, epochs=12, **ONE)


def turning(run, epochs, *, open_end=False):
    """The run, with curves of radii (S, L) or (S, L, 2) that turn at these epochs, NaN: one that does not, and may still fall."""
    epochs = np.broadcast_to(epochs if np.ndim(epochs) == 3 else np.asarray(epochs)[..., None], (*np.shape(epochs)[:2], 2))
    records = np.arange(401)
    shape = np.shape(epochs)
    radius = np.empty((shape[0], len(records), shape[1], 2))
    for s, layer, c in np.ndindex(*shape):
        at = epochs[s, layer, c]
        way = np.log1p(records)
        flat = way if open_end else np.minimum(way, np.log1p(30))
        curve = -flat if np.isnan(at) else np.abs(way - np.log1p(at))
        radius[s, :, layer, c] = 0.5 + 0.05 * curve
    error = np.tile(0.4 / (1 + records / 20), (shape[0], 1))
    config = {**run.config, "seeds": shape[0], "epochs": 400, "hidden": [8] * shape[1]}
    return replace(
        run, config=config, epoch=records, train_error=error, test_epoch=records[:1], test_error=error[:, :1], radius=radius,
        distance=np.ones((*radius.shape, 2)), wrong=np.zeros((*error.shape, run.wrong.shape[2]), np.uint8),
        mixing=np.empty(0), neighbor_error=np.empty(0),
    )  # fmt: skip


def of(run, epochs, **options):
    made = turning(run, np.array(epochs, float), **options)
    return layers_of(made, made.config)


def test_exchangeable_layers_are_seldom_in_order():
    rng = np.random.default_rng(0)
    for seeds, depth in ((3, 3), (5, 4), (10, 2), (10, 5)):
        for ties in (False, True):
            found = []
            for _ in range(400):
                epochs = rng.lognormal(3, 1, (seeds, depth))
                epochs = np.where(rng.random((seeds, depth)) < 0.1, np.nan, np.round(epochs / 10) if ties else epochs)
                found.append(order_of(epochs).holds)
            assert found.count("yes") <= 0.05 * 400


def test_a_planted_order_is_found_and_its_absence_shown():
    rng = np.random.default_rng(1)
    for sign in (1, -1):
        found = [order_of(np.exp(sign * 0.5 * np.arange(4) + 0.5 * rng.standard_normal((5, 4)))) for _ in range(200)]
        assert sum(order.holds == "yes" and np.sign(order.correlation.value) == sign for order in found) >= 0.9 * 200
    apart = [order_of(rng.random((40, 4))).holds for _ in range(200)]
    assert apart.count("no") >= 0.8 * 200
    # Two of two layers in three of four networks: the correlation is the one that counts as none.
    at_the_limit = [order_of(np.where(rng.random((40, 1)) < 0.75, [[1, 2]], [[2, 1]])).holds for _ in range(400)]
    assert at_the_limit.count("no") <= 0.05 * 400
    assert order_of([[1, 2, 3]]).holds == "undecided"
    assert order_of([[1, np.nan], [np.nan, np.nan]]).networks == 0


def test_the_test_of_order_is_exact():
    """Compared with all permutations, with ties and networks of different depth."""
    rows = [[1.0, 3.0, 2.0, 3.0], [2.0, np.nan, 1.0, 4.0], [5.0, 5.0, np.nan, np.nan]]

    def score(row):
        return sum(np.sign(b - a) for a, b in itertools.combinations(row, 2))

    known = [[value for value in row if not np.isnan(value)] for row in rows]
    observed = abs(sum(map(score, known)))
    every = [[score(order) for order in itertools.permutations(row)] for row in known]
    expected = np.mean([abs(sum(scores)) >= observed for scores in itertools.product(*every)])
    found = order_of(rows)
    assert found.p == pytest.approx(expected)
    assert found.networks == 3
    assert found.correlation.value == pytest.approx((3 / 6 + 1 / 3 + 0) / 3)


def test_each_verdict_can_be_reached(recorded):
    deeper_later = of(recorded, [[20, 40, 80]] * 10)
    assert [verdict.holds for verdict in deeper_later.answers.values()] == ["yes", "yes"]
    assert "deeper layers turn later" in deeper_later.verdict.sentence
    assert deeper_later.verdict.holds == "yes"
    assert "deeper layers turn earlier" in of(recorded, [[80, 40, 20]] * 5).verdict.sentence
    np.testing.assert_allclose(deeper_later.turn_epoch[0], [20, 40, 80], rtol=0.2)
    one_does_not = of(recorded, [[20, 40, np.nan]] * 10)
    assert [verdict.holds for verdict in one_does_not.answers.values()] == ["no", "yes"]
    assert one_does_not.layers[2].unfinished == 0
    unordered = of(recorded, [[20, 80], [80, 20]] * 12)
    assert [verdict.holds for verdict in unordered.answers.values()] == ["yes", "no"]
    few = of(recorded, [[20, 40]] * 3)
    assert [verdict.holds for verdict in few.answers.values()] == ["undecided", "undecided"]
    nothing = of(recorded, [[np.nan, np.nan]] * 8)
    assert nothing.verdict.holds == "no"
    assert "nothing to order" in nothing.verdict.sentence
    for each in (deeper_later, one_does_not, nothing):
        pyplot.close(each.plot()[0])
        assert len(each.table().rows) == len(each.layers)


def test_classes_that_seldom_turn_do_not_hide_the_order(recorded):
    """Of the second class no radius turns in the last layer, and in the first two one of ten."""
    none = np.nan
    epochs = np.array([[[20, none], [40, none], [80, none]]] * 10)
    epochs[0, :2, 1] = 5
    found = of(recorded, epochs)
    assert found.answers["Does the epoch of the turn go with the depth of the layer?"].holds == "yes"
    np.testing.assert_array_equal(found.turn_epoch, turn_epochs(turning(recorded, epochs), np.array([True, False])))
    for i, layer in enumerate(found.layers):
        assert layer.epoch.value == pytest.approx(found.turn_epoch[:, i].mean())
    assert found.layers[0].share.value == 11 / 20
    only = "Only one class of 2 turns in at least half of the networks and is compared: "
    assert only in found.verdict.sentence
    assert only in found.as_json()["numbers"]["compared"]


def test_the_same_classes_are_compared_in_all_layers(recorded):
    """The second class turns late, and not in the first layer: that alone puts no layer after another."""
    none = np.nan
    found = of(recorded, [[[20, none], [20, 80]], [[20, none], [20, 80]]] * 5)
    np.testing.assert_array_equal(found.turn_epoch[:, 0], found.turn_epoch[:, 1])
    apart = of(recorded, [[[20, none], [none, 80]]] * 10)
    assert np.isnan(apart.turn_epoch).all()
    assert "nothing to order" in apart.verdict.sentence


def test_a_radius_that_still_falls_leaves_it_open(recorded):
    """Unless it was trained for 20 times the epoch at which others turn."""
    falling = of(recorded, [[60, np.nan]] * 8, open_end=True)
    assert [layer.turns for layer in falling.layers] == ["yes", "undecided"]
    assert falling.layers[1].unfinished == 1
    assert falling.layers[1].share[2:] == (pytest.approx(0, abs=1e-9), 1)
    long_enough = of(recorded, [[10, np.nan]] * 8, open_end=True)
    assert [layer.turns for layer in long_enough.layers] == ["yes", "no"]


def test_layers_that_turn_in_half_of_the_networks_seldom_do_in_most():
    rng = np.random.default_rng(3)
    never = np.zeros((12, 1), bool)
    drawn = rng.random((300, 3, 12, 1)) < 0.5
    found = [[most_turn(share_turning(layer, never, confidence=1 - 0.05 / 3)) for layer in layers] for layers in drawn]
    assert np.mean([any(each == "no" for each in row) for row in found]) <= 0.05
    assert np.mean([any(each == "yes" for each in row) for row in found]) <= 0.05


@pytest.mark.train
def test_layers(tmp_path, monkeypatch):
    options = {"data": "digits", "seeds": 2, "epochs": 300, **ONE}
    found = ex.layers(out=tmp_path, **options)
    assert [layer.name for layer in found.layers] == ["1", "2", "3"]
    run = fe.train("digits", hidden=(20, 20, 20), seeds=2, epochs=300, **ONE)
    np.testing.assert_array_equal(found.turn_epoch, turn_epochs(run, BOTH))
    np.testing.assert_array_equal(found.layers[1].radius, run.radius[:, :, 1].mean((0, 2)))
    assert found.layers[0].share.value == run.turned[:, 0].mean() == 1
    # One epoch of a network and layer: the geometric mean over classes. That of a layer is its mean over networks.
    by_hand = np.exp(np.log([[i.epoch for i in row] for row in run.inversion[:, 0]]).mean(1))
    np.testing.assert_allclose(found.turn_epoch[:, 0], by_hand)
    assert found.layers[0].epoch.value == pytest.approx(by_hand.mean())
    assert found.layers[0].train_error.value == pytest.approx(np.mean([i.train_error for i in run.inversion[:, 0].flat]))
    assert_whole(found, tmp_path)
    assert_kept(ex.layers, tmp_path, found, monkeypatch, **options)


@pytest.mark.train
@pytest.mark.parametrize(
    ("model", "names"),
    [
        (deep_networks.resnet, ["stem", "block1", "block2", "block3"]),
        (deep_networks.vit, ["patches", "encoder1", "encoder2", "encoder3"]),
    ],
)
def test_deep_networks_train_in_batches(model, names):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 32, 32, 3)).astype(np.float32), np.arange(40) % 2
    found = ex.layers((x, y, x[:5], y[:5]), model=model, layers=names, seeds=2, epochs=2, batch_size=10, **ONE)
    assert [layer.name for layer in found.layers] == names
    assert found.epoch[1] == 0.25
    assert 0 <= found.final_error <= 1
    assert found.verdict.holds == "undecided"


@pytest.mark.train
def test_all_hidden_layers_of_the_convolutional_network_are_recorded_by_default():
    """Those whose outputs arrive at a convolution or linear layer."""
    pictures = fe.load_data("digits").take(np.arange(60))
    options = {"model": "cnn", "seeds": 2, "epochs": 3, **ONE}
    found = ex.layers(pictures, **options)
    assert len(found.layers) == 2
    assert found.config["layers"] == [layer.name for layer in found.layers]
    run = fe.train(pictures, layers=found.config["layers"], **options)
    np.testing.assert_array_equal(found.layers[0].radius, run.radius[:, :, 0].mean((0, 2)))
    named = ex.layers(pictures, layers=found.config["layers"][1:], **options)
    np.testing.assert_array_equal(named.layers[0].radius, found.layers[1].radius)


def test_a_resnet_for_ten_classes():
    import torch

    assert deep_networks.resnet10()(torch.zeros(3, 3072)).shape == (3, 10)
