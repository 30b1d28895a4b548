"""Ten seeds trained at once with everything recorded, compared with plain torch loops over the seeds that record the same."""

import cProfile
import os
import pstats
from unittest.mock import patch

import numpy as np
import pytest

import fastent as fe
from bench.conftest import Part
from bench.notebook_loop import train_and_measure
from bench.scale import scaled
from fastent.experiments import stability
from fastent.training.held_out import _Followed
from tests.plain_loop import train_plain

EPOCHS, SEEDS = 60, 10
PAIRS, PLAIN_PAIRS, LAST = 50, 5, 65


def load(name):
    if name == "mnist" and "FASTENT_DATA" not in os.environ:
        pytest.skip("set FASTENT_DATA to a folder with mnist.npz")
    return fe.load_data(name, subset=scaled(8192, 1000) if name == "mnist" else None)


def share_of_products(work):
    """The share of the time spent on the matrix products of the first layers, which any training needs."""
    profile = cProfile.Profile()
    profile.runcall(work)
    stats = pstats.Stats(profile)
    inside = ("times", "gradient", "_propagate", "<built-in method torch.addmm>")
    calls = {name: values for (_, _, name), values in stats.stats.items() if name in inside}
    sparse = "times" in calls
    products = ("times", "gradient") if sparse else ("_propagate", "<built-in method torch.addmm>")
    return sum(calls[name][3] for name in products if name in calls) / stats.total_tt


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_training(side_by_side, name):
    data = load(name)

    def ours():
        fe.train(data, seeds=SEEDS, epochs=EPOCHS, test_every=1)

    def notebook():
        for seed in range(2):
            train_and_measure(data, seed=seed, epochs=EPOCHS)

    def plain():
        for seed in range(2):
            train_plain(data, seed=seed, epochs=EPOCHS - 1)

    ours()
    side_by_side(
        ours,
        {
            "plain torch loop, an update and then a look": Part(notebook, SEEDS / 2),
            "plain torch loop that looks while it trains": Part(plain, SEEDS / 2),
        },
        products_share=share_of_products(ours),
        job=f"{EPOCHS} epochs x {SEEDS} seeds, {name} {len(data.y_train):,} x {data.x_train.shape[1]}, 20 tanh units, all recorded",
    )


def test_held_out(side_by_side):
    """The time saved by evaluating only test points whose prediction may have changed."""
    data = load("mnist")

    def passing_all():
        with patch.object(_Followed, "where_possible", lambda *_: None):
            return fe.train(data, seeds=SEEDS, epochs=EPOCHS, test_every=1)

    np.testing.assert_array_equal(passing_all().test_error, fe.train(data, seeds=SEEDS, epochs=EPOCHS, test_every=1).test_error)
    side_by_side(
        lambda: fe.train(data, seeds=SEEDS, epochs=EPOCHS, test_every=1),
        {"the same, passing every test point at every epoch": passing_all},
        job=f"{EPOCHS} epochs x {SEEDS} seeds, mnist {len(data.y_train):,} points, {len(data.y_test):,} for the test error",
    )


def test_stability(side_by_side):
    """Agreement between pairs of networks over 65 epochs; the time of a plain loop is extrapolated from five pairs."""
    data = load("mnist")

    def plain():
        for seed in range(2 * PLAIN_PAIRS):
            train_and_measure(data, seed=seed, epochs=LAST, lr=0.2)

    side_by_side(
        lambda: stability(data, pairs=PAIRS, seeds=1, epochs=LAST, times=range(5, LAST + 1, 5)),
        {"plain torch loop, from five pairs": Part(plain, PAIRS / PLAIN_PAIRS)},
        rounds=1,
        warmup=False,
        job=f"stability, {PAIRS} pairs, mnist {len(data.y_train):,} x {data.x_train.shape[1]}, {LAST} epochs",
    )
