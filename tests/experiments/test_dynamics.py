"""Do the classes turn? The null is a falling radius whose noise looks like a turn."""

from dataclasses import replace

import numpy as np
import pytest

import fastent as fe
import fastent.experiments as ex
from fastent.experiments._dynamics import QUESTIONS
from fastent.experiments.critical import TURNING, critical_errors, most_turn, share_turning, usual_epoch
from fastent.statistics.inversion import Inversion, find_inversion
from tests.statistics.test_inversion import EPOCH, ERROR, NOISES

NEVER = np.zeros((6, 1), bool)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_on_falling_radii_is_seldom_a_turn(noise):
    """200 experiments of 6 networks and one class, the least number of networks of which a yes is possible."""
    rng = np.random.default_rng(0)
    curves = [np.exp(-EPOCH / rng.uniform(10, 200)) + 0.01 * NOISES[noise](len(EPOCH), rng) for _ in range(200)]
    turned = np.array([[bool(find_inversion(EPOCH, curve, ERROR))] for curve in curves])
    found = [most_turn(share_turning(turned[rng.integers(0, 200, 6)], NEVER)) for _ in range(200)]
    assert found.count("yes") <= 0.05 * 200


@pytest.mark.parametrize("networks", [6, 8, 12, 30])
def test_what_turns_in_half_of_the_networks_seldom_turns_in_most(networks):
    rng = np.random.default_rng(1)
    never = np.zeros((networks, 1), bool)
    found = [most_turn(share_turning(rng.random((networks, 1)) < 0.5, never)) for _ in range(400)]
    assert found.count("yes") <= 0.05 * 400
    assert found.count("no") <= 0.05 * 400


def test_one_network_in_ten_without_an_inversion_is_no_selection():
    run = ex.dynamics("digits", seeds=10, epochs=400, threads=1).run
    inversion = run.inversion.copy()
    inversion[0, 0, 0] = Inversion(False, "no rise after the fall")
    altered = replace(run)
    object.__setattr__(altered, "inversion", inversion)
    assert np.isfinite(critical_errors(altered, 0)).mean() >= TURNING


@pytest.mark.parametrize(
    ("turn", "later", "holds"),
    [
        (20, 0, "yes"),
        (18, 0, "yes"),
        (10, 0, "undecided"),
        (2, 0, "no"),
        (0, 0, "no"),
        (0, 20, "undecided"),
        (2, 10, "undecided"),
    ],
)
def test_each_answer_can_be_reached(turn, later, holds):
    place = np.arange(20).reshape(10, 2)
    share = share_turning(place < turn, (place >= turn) & (place < turn + later))
    assert most_turn(share) == holds
    assert share.value == turn / 20


@pytest.mark.train
def test_radii_that_are_still_falling_leave_it_open_until_trained_long_enough():
    found = ex.dynamics("digits", seeds=6, epochs=400, threads=1)
    assert found.answers[QUESTIONS[0]].holds == "yes"
    inversions = found.run.inversion[:, 0, 1]
    own = [found.run.misclassified(found.run.epoch[i.index])[s][found.run.codes == 1].mean() for s, i in enumerate(inversions)]
    assert found.own_class_error[0, 1].value == pytest.approx(np.mean(own))
    assert found.own_class_error[0, 1].value == pytest.approx(found.run.stragglers[:, found.run.codes == 1].mean())
    assert set(found.answers) == set(QUESTIONS)
    assert list(found.further) == [QUESTIONS[2]]
    short = ex.dynamics("digits", seeds=10, epochs=40, threads=1)
    assert short.answers[QUESTIONS[0]].holds == "undecided"
    assert "0 % of the radii in the first hidden layer have an inversion (0 to 100, over 10 networks)" in short.verdict.sentence


@pytest.mark.train
def test_curves_that_cannot_turn_any_more_are_a_no():
    found = ex.dynamics("digits", seeds=6, epochs=40, threads=1)
    assert np.isnan(usual_epoch(found.run, 0))
    for reason, holds in (("rose before it fell", "no"), (found.run.inversion[0, 0, 0].reason, "undecided")):
        altered, inversion = replace(found.run), np.full(found.run.inversion.shape, Inversion(False, reason), object)
        object.__setattr__(altered, "inversion", inversion)
        assert replace(found, run=altered).verdict.holds == holds


@pytest.mark.train
def test_a_deeper_network_is_judged_by_its_first_layer():
    found = ex.dynamics("digits", seeds=6, hidden=(20, 10), epochs=400, threads=1)
    run = found.run
    share = run.turned[:, 0].mean()
    assert f"{100 * share:.0f} % of the radii in the first hidden layer" in found.verdict.sentence
    errors = np.array([[i.train_error if i else np.nan for i in row] for row in run.inversion[:, 0]]).mean(1)
    errors = errors[np.isfinite(errors)]
    assert found.variation_of_mean[0].value == pytest.approx(errors.std(ddof=1) / errors.mean())


@pytest.mark.train
def test_of_many_classes_those_that_turn_are_compared():
    """Ten classes, of which few turn: eps* is of these, and they are named."""
    found = ex.dynamics(fe.load_data("digits", classes="all"), seeds=6, epochs=600, threads=1)
    usual = found.run.turned[:, 0].mean(0) >= 0.5
    assert not usual.all()
    said = found.answers[QUESTIONS[1]].sentence
    if usual.any():
        assert ("Only one class of 10" if usual.sum() == 1 else f"Only {usual.sum()} of 10 classes") in said
    else:
        assert said == "No class has an inversion in half of the networks."
