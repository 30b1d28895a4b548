"""The experiment `stopping`: its nulls, its power, its verdicts, and what it computes."""

import numpy as np
import pytest
from matplotlib import pyplot

import fastent as fe
import fastent.experiments as ex
from fastent.experiments._stopping import _QUESTIONS, Level, Stopping, stopped
from fastent.experiments.critical import compared_classes, critical_test_errors, reasons_text
from tests.experiments.test_claims import ONE, assert_kept, assert_whole

EPOCHS = np.arange(101)
SEEDS = 10
NOISE = (0.0, 0.1, 0.2)


def bowl(best, rise, rng, *, noise=0.002):
    """Test errors of both halves (2, S, E): 0.1 at the epoch `best` (S,), 0.4 more until 15 epochs before it, `rise` from 15 after."""
    apart = np.clip((EPOCHS - np.asarray(best, float)[:, None]) / 15, -1, 1)
    return 0.1 + np.where(apart < 0, 0.4, rise) * apart**2 + noise * rng.standard_normal((2, SEEDS, 101))


def level(noise, errors, turns):
    return Level(noise, EPOCHS, errors.mean((0, 1)), stopped(errors, EPOCHS, turns), "still falling (1)")


def made_up(errors, turns, noise=NOISE):
    """Of test errors (2, S, E) and inversions (S, C) at each share of wrong labels."""
    return Stopping({"data": "made up", "seeds": SEEDS}, [level(*each) for each in zip(noise, errors, turns, strict=True)])


def both(turns):
    return np.stack([turns, turns + 1], axis=1)


def answers_of(found):
    return [found.answers[question].holds for question in _QUESTIONS]


def test_the_stops_of_each_rule():
    errors = np.array([[[0.5, 0.3, 0.2, 0.4], [0.5, 0.1, 0.2, 0.3]], [[0.4, 0.2, 0.3, 0.6], [0.6, 0.3, 0.1, 0.2]]])
    turns = np.array([[1.0, 2.5], [2.0, 3.0]])
    stops = stopped(errors, np.arange(4), turns, first=0.25)
    whole = 0.25 * errors[0] + 0.75 * errors[1]
    np.testing.assert_allclose(stops["last epoch"].error, whole[:, 3])
    np.testing.assert_allclose(
        stops["inversion"].error, [(whole[0, 1] + (whole[0, 2] + whole[0, 3]) / 2) / 2, (whole[1, 2] + whole[1, 3]) / 2]
    )
    np.testing.assert_allclose(stops["inversion"].epoch, [1.75, 2.5])
    np.testing.assert_allclose(stops["usual epoch"].epoch, [2.5, 1.75])  # that of the other network
    np.testing.assert_allclose(stops["random epoch"].error, whole[:, 1:].mean(1))
    # The halves choose for each other: of the first network epochs 1 and 2, of the second 2 and 1.
    np.testing.assert_allclose(stops["held-out error"].error, [0.25 * 0.3 + 0.75 * 0.3, 0.25 * 0.2 + 0.75 * 0.3])
    np.testing.assert_allclose(stops["held-out error"].epoch, [1.5, 1.5])
    np.testing.assert_allclose(stops["best epoch"].error, whole.min(1))
    # A class that turns in fewer than half of the networks does not count; where none does, no network stops.
    three = np.concatenate([errors, errors[:, :1]], axis=1), np.arange(4)
    few = stopped(*three, np.array([[1.0, np.nan], [2.0, 3.0], [2.5, np.nan]]))
    for rule, stop in stopped(*three, np.array([[1.0], [2.0], [2.5]])).items():
        np.testing.assert_array_equal(few[rule], stop)
    nowhere = stopped(*three, np.array([[1.0, np.nan], [np.nan, 3.0], [np.nan] * 2]))
    assert np.isnan(nowhere["inversion"]).all()
    missing = stopped(errors, np.arange(4), np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert np.isnan(missing["inversion"].error).tolist() == [True, False]
    assert np.isnan(missing["usual epoch"].error).tolist() == [False, True]


def exchanged(errors, networks):
    """The same where, in these networks, the test error at the inversion, epoch 40 or 41, is exchanged with the last."""
    changed = errors.copy()
    changed[:, networks, 40:42], changed[:, networks, -1] = errors[:, networks, -1:], errors[:, networks, 40]
    return changed


@pytest.mark.parametrize("noise", [(0.0, 0.2), NOISE])
def test_inversions_exchanged_with_the_last_epoch_are_seldom_better(noise):
    """In networks drawn at random, the same for all wrong labels: yes to the first question in at most 1 of 20 of 300.

    With one share of wrong labels, and with two at which the same networks are exchanged, nothing but their one draw stands
    between the null and a yes; where labels are right the inversion is as good, so that the verdict is a yes as often.
    """
    rng = np.random.default_rng(0)
    turns, rise = both(np.full(SEEDS, 40.0)), np.linspace(0.1, 0.3, SEEDS)[:, None]
    found = []
    for _ in range(300):
        swapped = rng.random(SEEDS) < 0.5
        errors = [bowl(turns[:, 0], 0.0, rng), *(exchanged(bowl(turns[:, 0], rise, rng), swapped) for _ in noise[1:])]
        each = made_up(errors, [turns] * len(noise), noise)
        found.append([answers_of(each)[0], each.verdict.holds])
    assert ((np.array(found) == "yes").mean(0) <= 0.05).all()
    assert (np.array(found) == "yes").any()  # the null can be rejected


def test_an_inversion_that_may_cost_as_much_as_the_last_epoch_is_seldom_a_yes():
    """Where it helps with wrong labels, but is exchanged with the last epoch where they are right: no cost in 1 of 20 of 300."""
    rng = np.random.default_rng(5)
    turns = both(np.full(SEEDS, 40.0))
    found = []
    for _ in range(300):
        clean = exchanged(bowl(turns[:, 0], 0.2, rng), rng.random(SEEDS) < 0.5)
        each = made_up([clean, bowl(turns[:, 0], 0.2, rng)], [turns] * 2, (0.0, 0.2))
        found.append([answers_of(each)[1], each.verdict.holds])
    assert ((np.array(found) == "yes").mean(0) <= 0.05).all()


@pytest.mark.parametrize("times", ["of other networks", "any"])
@pytest.mark.parametrize("noise", [(0.0, 0.2), NOISE])
def test_inversions_exchanged_among_networks_or_times_are_no_better_than_the_usual(times, noise):
    """Each network is best at its own inversion; with another's, or at any time, yes to the third question in 1 of 20 of 300.

    The same exchange at every share of wrong labels.
    """
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        best = rng.uniform(20, 70, SEEDS)
        turns = both(rng.permutation(best) if times != "any" else rng.uniform(1, 99, SEEDS))
        errors = [bowl(best, 0.2, rng) for _ in noise]
        found.append(made_up(errors, [turns] * len(noise), noise).answers[_QUESTIONS[2]].holds)
    assert found.count("yes") <= 0.05 * 300


def test_planted_inversions_are_good_epochs():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(100):
        best = rng.permutation(np.repeat([30.0, 60.0], SEEDS // 2)) + rng.uniform(-3, 3, SEEDS)
        errors = [bowl(best, rise, rng) for rise in (0.0, 0.05, 0.2)]
        found.append(made_up(errors, [both(best)] * 3))
    answers = np.array([answers_of(each) for each in found])
    assert ((answers == ["yes", "no", "yes"]).mean(0) >= 0.95).all()
    assert np.mean([each.verdict.holds == "yes" for each in found]) >= 0.95
    first = found[0]
    differences = first.differences(first.levels[2])
    assert abs(differences["held-out error"].value) < 0.01
    assert differences["random epoch"].high < 0
    pyplot.close(first.plot()[0])


FLAT, WORSE, BETTER = 0.0, -0.05, 0.1


@pytest.mark.parametrize(
    ("rises", "scatter", "answers", "holds"),
    [
        ((FLAT, BETTER, BETTER), 0.0, ["yes", "no"], "yes"),
        ((WORSE, BETTER, BETTER), 0.0, ["yes", "yes"], "no"),
        ((FLAT, FLAT, FLAT), 0.0, ["no", "no"], "no"),  # no better is no
        ((FLAT, WORSE, WORSE), 0.0, ["no", "no"], "no"),
        ((FLAT, WORSE, BETTER), 0.0, ["no", "no"], "no"),
        ((FLAT, BETTER, BETTER), 0.4, ["undecided", "undecided"], "undecided"),
    ],
)
def test_stopping_says_what_its_intervals_say(rises, scatter, answers, holds):
    rng = np.random.default_rng(3)
    errors = [bowl(np.full(SEEDS, 40.0), rise, rng) for rise in rises]
    for each in errors:
        each[:, :, -1] += scatter * np.linspace(-0.5, 0.5, SEEDS)
    found = made_up(errors, [both(np.full(SEEDS, 40.0))] * 3)
    assert answers_of(found)[:2] == answers
    assert found.verdict.holds == holds
    mixed = "It is lower with 20 % wrong labels, but not with 10 %." in found.verdict.sentence
    assert mixed == (rises == (FLAT, WORSE, BETTER))
    assert len(found.table().rows) == 21


@pytest.mark.parametrize(("missing", "usable"), [(1, True), (2, False)])
def test_where_few_networks_turn_nothing_is_said(missing, usable):
    rng = np.random.default_rng(4)
    errors = [bowl(np.full(SEEDS, 40.0), rise, rng) for rise in (FLAT, BETTER, BETTER)]
    turns = [both(np.full(SEEDS, 40.0)) for _ in NOISE]
    turns[2][:missing, 0] = np.nan
    found = made_up(errors, turns)
    assert found.levels[2].turned.sum() == SEEDS - missing
    assert found.numbers()["0.2"]["turned"] == SEEDS - missing
    assert answers_of(found)[:2] == ["yes", "no"]  # from 10 % alone, where 20 % is not used
    assert ("with 20 % too few networks turn to compare them, 8 of 10" in found.verdict.sentence) != usable
    for each in turns:
        each[:missing] = np.nan
    nowhere = made_up(errors, turns)
    assert nowhere.verdict.holds == ("yes" if usable else "undecided")
    turns[0][:] = turns[1][:] = turns[2][:] = np.nan
    none = made_up(errors, turns)
    assert answers_of(none) == ["undecided"] * 3
    assert none.table().rows
    assert none.numbers()
    pyplot.close(none.plot()[0])


def test_the_compared_classes_are_named():
    rng = np.random.default_rng(6)
    errors = [bowl(np.full(SEEDS, 40.0), rise, rng) for rise in (FLAT, BETTER, BETTER)]
    found = made_up(errors, [both(np.full(SEEDS, 40.0))] * 3)
    clean, ten, twenty = found.levels
    some = Stopping(found.config, [clean._replace(compared=["a"]), ten, twenty._replace(compared=["a", "c"])])
    assert answers_of(some) == answers_of(found)
    first, second, third = (some.answers[question].sentence for question in _QUESTIONS)
    for sentence in (first, third):
        assert "by wrong labels: with 10 % " in sentence
        assert "with 10 % (" not in sentence
        assert "; with 20 % (classes a, c) " in sentence
    assert second.startswith("The difference with 0 % (class a) wrong labels is ")


@pytest.mark.train
def test_where_few_of_ten_classes_turn_these_are_compared():
    data = fe.load_data("digits", classes="all")
    options = {"seeds": 2, "epochs": 300, "lr": 0.5, **ONE}
    found = ex.stopping(data, noise=(0, 0.2), **options)
    run = fe.train(data, test_every=1, **options)
    classes = compared_classes([run])
    assert 0 < classes.sum() < 10
    level = found.levels[0]
    assert level.compared == [str(c) for c in np.flatnonzero(classes)]
    np.testing.assert_allclose(level.stops["inversion"].error, critical_test_errors(run, -1, classes=classes))
    assert level.reasons == reasons_text([run], classes=classes)


@pytest.mark.train
def test_stopping(tmp_path, monkeypatch):
    digits = fe.load_data("digits")
    options = {"data": digits, "noise": (0, 0.2), "seeds": 2, "epochs": 500, **ONE}
    found = ex.stopping(out=tmp_path, **options)
    for level, data in zip(found.levels, (digits, ex.flip_labels(digits, 0.2, 0)[0]), strict=True):
        run = fe.train(data, seeds=2, epochs=500, test_every=1, **ONE)
        assert level.turned.all()
        np.testing.assert_allclose(level.stops["inversion"].error, critical_test_errors(run, -1, classes=np.ones(2, bool)))
        np.testing.assert_allclose(level.stops["last epoch"].error, run.test_error[:, -1])
        np.testing.assert_allclose(level.stops["best epoch"].error, run.test_error.min(1))
        np.testing.assert_allclose(level.curve, run.test_error.mean(0))
        assert (level.stops["held-out error"].error >= level.stops["best epoch"].error).all()
    assert_whole(found, tmp_path)
    assert_kept(ex.stopping, tmp_path, found, monkeypatch, **options)
    x = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(fe.FastentError, match="1 test points have no two halves"):
        ex.stopping((x, np.arange(20) % 2, x[:1], np.zeros(1, int)), seeds=1, epochs=2, **ONE)
