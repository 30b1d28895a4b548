"""Epochs of ten seeds at once, everything recorded, beside ten plain torch loops that measure the same."""

import os

import pytest

import fastent as fe
from tests.plain_loop import train_plain

EPOCHS, SEEDS = 10, 10


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_training(side_by_side, name):
    if name == "mnist" and "FASTENT_DATA" not in os.environ:
        pytest.skip("set FASTENT_DATA to a folder with mnist.npz")
    data = fe.load_data(name, subset=8192 if name == "mnist" else None)

    def plain():
        for seed in range(SEEDS):
            train_plain(data, seed=seed, epochs=EPOCHS)

    side_by_side(
        lambda: fe.train(data, seeds=SEEDS, epochs=EPOCHS, test_every=1),
        {"plain torch loop": plain},
        job=f"{EPOCHS} epochs x {SEEDS} seeds, {name} {len(data.y_train):,} x {data.x_train.shape[1]}, 20 tanh units, all recorded",
    )
