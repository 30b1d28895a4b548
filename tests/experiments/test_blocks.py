"""The experiment `blocks`: its null, its power, its verdicts, and the blocks themselves."""

import numpy as np
import pytest
from matplotlib import pyplot

import fastent as fe
import fastent.experiments as ex
from fastent.experiments._blocks import Blocks, _rows_of_blocks, spread_of
from tests.experiments.test_claims import ONE, assert_kept, assert_whole

SIZE, RATE = 2048, 0.08


def made_up(errors, size=SIZE):
    """From eps* of each block and seed, (B, S)."""
    layers = errors[None]
    return Blocks({"data": "made up", "seeds": errors.shape[1]}, size, layers, layers, [spread_of(errors, size)],
                  [spread_of(errors)], ["still falling (1)"], [""])  # fmt: skip


def sampled(rng, blocks, seeds, rate=RATE, shared=0.9, size=SIZE):
    """Shares of misclassified points: `rate` (blocks,) or a number; networks share this part of their errors."""
    rate = np.broadcast_to(rate, (blocks,))[:, None]
    points = np.floor(size * shared).astype(int)
    common = rng.binomial(points, rate, (blocks, 1))
    return (common + rng.binomial(size - points, rate, (blocks, seeds))) / size


def test_sampling_alone_is_seldom_more_than_sampling():
    rng = np.random.default_rng(0)
    few = [made_up(sampled(rng, 7, 5)).verdict.holds for _ in range(300)]
    assert few.count("no") <= 0.05 * 300
    many = [made_up(sampled(rng, 40, 5)).verdict.holds for _ in range(300)]
    assert many.count("no") <= 0.05 * 300
    assert many.count("yes") >= 0.8 * 300


def test_a_spread_at_the_limit_is_seldom_the_same():
    rng = np.random.default_rng(1)
    floor = np.sqrt(RATE * (1 - RATE) / SIZE)
    for blocks in (7, 40):
        found = [
            made_up(RATE + 1.5 * floor * rng.standard_normal((blocks, 1)) + np.zeros((1, 3))).verdict.holds for _ in range(300)
        ]
        assert found.count("yes") <= 0.05 * 300


def test_a_turn_moved_in_half_of_the_blocks_is_found():
    """By 20 %, with as many blocks of as many points as MNIST has."""
    rng = np.random.default_rng(2)
    moved = RATE * np.where(np.arange(7) < 3, 1.2, 1.0)
    found = [made_up(sampled(rng, 7, 5, moved, size=8192), 8192).verdict.holds for _ in range(200)]
    assert found.count("no") >= 0.95 * 200
    assert "yes" not in found


def test_exchanged_labels_of_blocks_leave_nothing_between_them():
    """Of each seed at random: what is left is the residual."""
    rng = np.random.default_rng(3)
    errors = sampled(rng, 8, 10, RATE * np.linspace(0.8, 1.2, 8))
    assert spread_of(errors, SIZE).between_blocks.low > 0
    found = [spread_of(rng.permuted(errors, axis=0), SIZE).between_blocks.low > 0 for _ in range(300)]
    assert np.mean(found) <= 0.05


def test_networks_without_an_inversion_keep_a_yes_open():
    rng = np.random.default_rng(4)
    errors = sampled(rng, 40, 5)
    assert made_up(errors).verdict.holds == "yes"
    errors[3, 2] = np.nan
    found = made_up(errors)
    assert found.verdict.holds == "undecided"
    assert "1 of 200 networks lack an inversion" in found.verdict.sentence
    assert found.spread[0].seeds == 4
    moved = sampled(rng, 8, 5, RATE * np.where(np.arange(8) < 4, 0.7, 1.3))
    moved[0, 0] = np.nan
    assert made_up(moved).verdict.holds == "no"
    errors[3] = np.nan
    assert "No seed has an inversion in every block" in made_up(errors).verdict.sentence
    zero = made_up(np.zeros((3, 4)))
    assert zero.verdict.holds == "undecided"
    assert "training error of 0" in zero.verdict.sentence
    for each in (made_up(errors), zero):
        pyplot.close(each.plot()[0])
        assert len(each.table().rows) == 2


def test_blocks_are_disjoint_and_not_in_the_order_of_the_file():
    data = fe.load_data("digits")
    ordered = data.take(np.argsort(data.labels, kind="stable"))
    found = _rows_of_blocks(ordered, 400, 0)
    assert [len(rows) for rows in found] == [400] * 3
    assert len(np.unique(np.concatenate(found))) == 1200
    assert all(len(np.unique(ordered.labels[rows])) == 10 for rows in found)
    again = _rows_of_blocks(ordered, 400, 0)
    np.testing.assert_array_equal(np.stack(found), np.stack(again))
    assert not np.array_equal(np.stack(found), np.stack(_rows_of_blocks(ordered, 400, 1)))


@pytest.mark.parametrize("options", [{}, {"standardize": "none"}, {"grayscale": True}, {"classes": "parity"}])
def test_points_taken_alone_are_those_loaded_alone(options):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (90, 4, 4, 3)).astype(np.uint8)
    pictures[:, 0, 0] = np.where(np.arange(90) < 30, 7, 9)[:, None]  # constant in the block alone
    labels = np.arange(90) % 4
    whole = fe.load_data((pictures[:60], labels[:60], pictures[60:], labels[60:]), **options)
    rows = np.arange(30)
    alone = fe.load_data((pictures[rows], labels[rows], pictures[60:], labels[60:]), **options)
    found = whole.take_alone(rows)
    np.testing.assert_array_equal(found.x_train, alone.x_train)
    np.testing.assert_array_equal(found.x_test, alone.x_test)
    np.testing.assert_array_equal(found.y_train, alone.y_train)
    assert found.fingerprint == alone.fingerprint


@pytest.mark.train
def test_blocks(tmp_path, monkeypatch):
    options = {"data": "digits", "seeds": 2, "epochs": 800, **ONE}
    found = ex.blocks(out=tmp_path, **options)
    assert found.size == 449
    assert found.critical_errors.shape == found.test_errors.shape == (1, 3, 2)
    data = fe.load_data("digits")
    rows = _rows_of_blocks(data, 449, 0)[1]
    run = fe.train(data.take_alone(rows), seeds=2, epochs=800, test_every=2, **ONE)
    np.testing.assert_array_equal(found.critical_errors[0, 1], [np.mean([i.train_error for i in r[0]]) for r in run.inversion])
    at = np.searchsorted(run.test_epoch, [i.epoch for i in run.inversion[0, 0]])
    assert (np.abs(run.test_error[0, at] - found.test_errors[0, 1, 0]) < 0.02).all()
    assert_whole(found, tmp_path)
    assert_kept(ex.blocks, tmp_path, found, monkeypatch, **options)


@pytest.mark.train
def test_a_preset_does_not_choose_the_points():
    x, y = np.random.default_rng(0).standard_normal((9000, 3)), np.arange(9000) % 3
    found = ex.blocks((x, y, x, y), seeds=1, preset="paper", epochs=2, size=4000, **ONE)
    assert found.config["blocks"] == 2
    assert found.config["classes"] == "parity"
    assert found.verdict.holds == "undecided"
