"""Test errors during training are those of passing all points, whatever the networks do between two looks."""

import numpy as np
import pytest
import torch
from fastent.kernels.head import TANH
from hypothesis import assume, given
from hypothesis import strategies as st

import fastent as fe
from fastent.runtime.threads import limit_threads
from fastent.training.ensemble import Ensemble
from fastent.training.held_out import HeldOut, _Followed
from fastent.training.points import Points
from tests import naive
from tests.training.test_inputs import random_inputs


def networks_and_points(rng, *, n=300, d=12, hidden=9, n_classes=3, activation="tanh", n_networks=3, density=0.2):
    inputs = torch.from_numpy(random_inputs(rng, d, n, density, np.float32))
    points = Points.sort(inputs, rng.integers(0, n_classes, n), n_classes, np.ones((n_networks, n), bool)).compressed()
    networks = Ensemble(
        (d, hidden, n_classes), range(n_networks), activation=activation, dtype=torch.float32, device=torch.device("cpu")
    )
    return networks, points


def move(networks, rng, size):
    for parameter in networks.parameters:
        parameter += size * torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32))


def margins(networks, points):
    """In double precision, (S, n), sorted by class."""
    weight, bias, head, head_bias = (parameter.numpy().astype(np.float64) for parameter in networks.parameters)
    hidden = weight @ points.inputs.numpy().astype(np.float64) + bias[:, :, None]
    hidden = np.tanh(hidden) if networks.activation == TANH else np.maximum(hidden, 0)
    logits = head @ hidden + head_bias[:, :, None]
    return np.array([naive.logit_margin(of_network.T, points.codes.numpy()) for of_network in logits])


def of_passing_all(networks, points):
    """As `_Followed.wrong`: sorted by class."""
    return networks.observe(points, learn=False).wrong[:, points.original]


shapes = {
    "n": st.integers(1, 400),
    "d": st.integers(1, 40),
    "hidden": st.sampled_from([1, 7, 8, 20, 24, 33]),
    "n_classes": st.integers(2, 5),
    "activation": st.sampled_from(["tanh", "relu"]),
    "density": st.sampled_from([0.0, 0.1, 0.3]),
}


@given(**shapes, size=st.sampled_from([0.0, 1e-4, 1e-3, 0.03, 1.0, 100.0]), seed=st.integers(0, 1000))
def test_wrong_points_are_those_of_passing_all(size, seed, **shape):
    rng = np.random.default_rng(seed)
    networks, points = networks_and_points(rng, **shape)
    followed = _Followed.where_possible(networks, points)
    assume(followed is not None)  # else too many of these points' values differ from the common ones
    for _ in range(8):
        np.testing.assert_array_equal(followed.wrong(), of_passing_all(networks, points))
        exact = margins(networks, points)
        clear = np.abs(exact) > 1e-4 * (1 + np.abs(exact))
        np.testing.assert_array_equal(followed.wrong()[clear], (exact <= 0)[clear])
        move(networks, rng, size)


@given(**shapes, seed=st.integers(0, 1000))
def test_a_point_has_the_same_margin_whichever_others_are_passed(seed, **shape):
    rng = np.random.default_rng(seed)
    networks, points = networks_and_points(rng, **shape)
    followed = _Followed.where_possible(networks, points)
    assume(followed is not None)
    followed.wrong()
    levels = followed._levels.copy()
    for _ in range(5):
        some = rng.random(levels.shape) < rng.choice([0.02, 0.3, 0.9])
        followed._levels[some] = -np.inf
        followed.wrong()
        np.testing.assert_array_equal(followed._levels, levels)


@given(**shapes, size=st.sampled_from([1e-4, 0.03, 1.0]), seed=st.integers(0, 1000))
def test_no_margin_moves_further_than_its_bound(size, seed, **shape):
    rng = np.random.default_rng(seed)
    networks, points = networks_and_points(rng, **shape)
    followed = _Followed.where_possible(networks, points)
    assume(followed is not None)
    followed.wrong()
    first = margins(networks, points)
    for _ in range(4):
        move(networks, rng, size)
        followed.wrong()
        bound = followed._moved[:, :1] + followed._moved[:, 1:] * followed._spans
        assert (np.abs(margins(networks, points) - first) <= bound * (1 + 1e-6) + 1e-6 * (1 + np.abs(first))).all()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_logits_that_were_not_finite(activation):
    """What single precision cannot hold tells nothing of a margin, and is no reason to leave a point alone later."""
    inputs = np.zeros((2, 600), np.float32)
    inputs[:, ::10] = 3e38
    codes = np.random.default_rng(0).integers(0, 3, 600)
    points = Points.sort(torch.from_numpy(inputs), codes, 3, np.ones((3, 600), bool)).compressed()
    networks = Ensemble((2, 9, 3), range(3), activation=activation, dtype=torch.float32, device=torch.device("cpu"))
    followed = _Followed.where_possible(networks, points)
    for factor in (8, -0.05, 1e25, 1e-25, -1e-3):
        for parameter in networks.parameters:
            parameter *= factor
        np.testing.assert_array_equal(followed.wrong(), of_passing_all(networks, points))


def test_equal_logits_go_to_the_first_class():
    networks, points = networks_and_points(np.random.default_rng(0))
    for parameter in networks.parameters:
        parameter.zero_()
    wrong = _Followed.where_possible(networks, points).wrong()
    np.testing.assert_array_equal(wrong, np.broadcast_to(points.codes.numpy() > 0, wrong.shape))


def test_points_far_from_the_boundary_are_left_alone():
    """The wrong answer that is planted for points which need no second look is still there after one."""
    rng = np.random.default_rng(0)
    networks, points = networks_and_points(rng)
    followed = _Followed.where_possible(networks, points)
    followed.wrong()
    followed._wrong[:] = True
    move(networks, rng, 1e-5)
    assert followed.wrong().mean() > 0.95
    move(networks, rng, 10.0)
    clear = np.abs(margins(networks, points)) > 1e-3
    np.testing.assert_array_equal(followed.wrong()[clear], (margins(networks, points) <= 0)[clear])


def test_threads_do_not_change_the_answer():
    both = []
    for threads in (1, 2):
        rng = np.random.default_rng(1)
        networks, points = networks_and_points(rng, n=2000)
        followed, looks = _Followed.where_possible(networks, points), []
        with limit_threads(threads):
            for _ in range(4):
                looks.append((followed.wrong().copy(), followed._levels.copy()))
                move(networks, rng, 0.05)
        both.append(looks)
    for one, other in zip(*both, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    "options", [{}, {"activation": "relu", "optimizer": "adam", "lr": 0.02}, {"test_every": 7}, {"momentum": 0.9}]
)
def test_training_records_the_errors_of_all_points(monkeypatch, options):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 900)
    X = np.where(rng.random((900, 50)) < 0.2, rng.random((900, 50)) + 0.3 * y[:, None], 0).astype(np.float32)
    data = fe.load_data((X, y), classes="all")
    options = {"seeds": 3, "hidden": (12,), "epochs": 80, "test_every": 1} | options
    followed = fe.train(data, **options)
    resumed = fe.train(data, **options, resume=fe.train(data, **options | {"epochs": 49}))
    np.testing.assert_array_equal(followed.test_error, resumed.test_error)
    monkeypatch.setattr(_Followed, "where_possible", lambda *_: None)
    np.testing.assert_array_equal(followed.test_error, fe.train(data, **options).test_error)


def test_deeper_networks_and_double_precision_pass_all_points():
    networks, points = networks_and_points(np.random.default_rng(0))
    assert HeldOut(networks, points)._followed is not None
    deep = Ensemble((12, 5, 5, 3), range(2), activation="tanh", dtype=torch.float32, device=torch.device("cpu"))
    double = Ensemble((12, 5, 3), range(2), activation="tanh", dtype=torch.float64, device=torch.device("cpu"))
    assert HeldOut(deep, points)._followed is None
    assert HeldOut(double, points)._followed is None
    np.testing.assert_array_equal(HeldOut(deep, points).errors(), deep.observe(points, learn=False).wrong.mean(1))
