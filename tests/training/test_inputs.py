import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from fastent.runtime.threads import limit_threads
from fastent.training.points import Points, SparseInputs


def random_inputs(rng, d, n, density, dtype):
    inputs = np.broadcast_to(rng.standard_normal(d)[:, None], (d, n)).copy()
    mask = rng.random((d, n)) < density
    inputs[mask] = rng.standard_normal(mask.sum())
    return inputs.astype(dtype)


@given(
    d=st.integers(1, 40),
    n=st.integers(1, 200),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    shape=st.sampled_from([(1, 1), (3, 5), (2, 16), (10, 20), (5, 33)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 100),
)
def test_both_products(d, n, density, shape, dtype, seed):
    rng = np.random.default_rng(seed)
    inputs = random_inputs(rng, d, n, density, dtype)
    sparse = SparseInputs(inputs, inputs[:, 0].copy())
    weight, bias, gradient = (rng.standard_normal((*shape, *more)).astype(dtype) for more in ((d,), (), (n,)))
    tolerance = 1e-4 if dtype == np.float32 else 1e-11
    for _ in range(2):  # the second time in the space of the first
        found = sparse.times(torch.from_numpy(weight), torch.from_numpy(bias))
        expected = weight.astype(float) @ inputs.astype(float) + bias.astype(float)[:, :, None]
        assert found.numpy().dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * (1 + np.abs(expected).max()))
        found = sparse.gradient(torch.from_numpy(gradient), torch.from_numpy(gradient.sum(2)))
        expected = gradient.astype(float) @ inputs.astype(float).T
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * (1 + np.abs(expected).max()))


def test_in_pieces_that_stay_in_the_cache():
    """More weights than the cache holds: several passes, and the last with fewer units."""
    rng = np.random.default_rng(0)
    inputs = random_inputs(rng, 3000, 150, 0.1, np.float32)
    sparse = SparseInputs(inputs, inputs[:, 0].copy())
    weight, bias = rng.standard_normal((10, 31, 3000)).astype(np.float32), rng.standard_normal((10, 31)).astype(np.float32)
    assert len(sparse._pieces(310, 4)) > 3
    found = sparse.times(torch.from_numpy(weight), torch.from_numpy(bias))
    np.testing.assert_allclose(found, weight.astype(float) @ inputs + bias[:, :, None], atol=2e-3)
    gradient = rng.standard_normal((10, 31, 150)).astype(np.float32)
    found = sparse.gradient(torch.from_numpy(gradient), torch.from_numpy(gradient.sum(2)))
    np.testing.assert_allclose(found, gradient.astype(float) @ inputs.T, atol=2e-3)


def test_threads_do_not_change_the_bits():
    rng = np.random.default_rng(1)
    inputs = random_inputs(rng, 100, 1000, 0.2, np.float32)
    sparse = SparseInputs(inputs, inputs[:, 0].copy())
    weight, bias, gradient = (torch.randn(3, 20, *more) for more in ((100,), (), (1000,)))
    both = []
    for threads in (1, 2):
        with limit_threads(threads):
            both.append((sparse.times(weight, bias), sparse.gradient(gradient, gradient.sum(2))))
    assert all(torch.equal(a, b) for a, b in zip(*both))


@pytest.mark.parametrize(("density", "pays"), [(0.1, True), (0.3, True), (0.5, False), (1.0, False)])
def test_where_it_pays(density, pays):
    inputs = torch.from_numpy(random_inputs(np.random.default_rng(2), 30, 2000, density, np.float32))
    assert (SparseInputs.where_it_pays(inputs) is not None) == pays


@pytest.mark.parametrize(("background", "zeros", "pays"), [(1.0, False, True), (1.0, True, False), (0.0, True, True)])
def test_points_that_would_be_differences_of_large_numbers(background, zeros, pays):
    inputs = np.full((30, 1000), background, np.float32)
    inputs[::7, 1::3] = 3.0
    if zeros:
        inputs[:, 5] = 0
    assert (SparseInputs.where_it_pays(torch.from_numpy(inputs)) is not None) == pays


def test_no_features():
    assert SparseInputs.where_it_pays(torch.zeros(0, 5)) is None


def test_training_with_sparse_inputs(monkeypatch):
    """Pictures with a background: the networks that dense products train, and bit for bit whenever trained again."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 600)
    X = np.where(rng.random((600, 50)) < 0.2, rng.random((600, 50)) + 0.3 * y[:, None], 0)
    data = fe.load_data((X, y), classes="all")
    options = {"seeds": 3, "hidden": (12, 7), "epochs": 60, "optimizer": "adam", "lr": 0.01, "dtype": "float64"}
    sparse, again = fe.train(data, **options), fe.train(data, **options)
    used = []
    compressed = Points.compressed
    monkeypatch.setattr(Points, "compressed", lambda self: used.append(compressed(self).sparse) or self)
    dense = fe.train(data, **options)
    assert all(inputs is not None for inputs in used)
    np.testing.assert_array_equal(sparse.radius, again.radius)
    for name in ("radius", "distance", "train_error", "test_error"):
        np.testing.assert_allclose(getattr(sparse, name), getattr(dense, name), atol=1e-10, err_msg=name)
