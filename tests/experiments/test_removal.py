"""The experiment `removal`: its null, its power, its verdicts, and what it computes."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot

import fastent as fe
import fastent.experiments as ex
from fastent.experiments._removal import _ARMS, _KINDS, _QUESTIONS, Removal, _kinds, easiest_first, first_of_each_class
from tests.experiments.test_claims import ONE, assert_kept, assert_whole

SHARES = np.array([0.05, 0.1, 0.2, 0.4])
NONE = np.zeros((4, 10))


def made_up(hardest=NONE, easiest=NONE, turned=1.0, hard=39, score="straggler share"):
    """From how much larger the error on hard (all) test points is without the hardest (easiest) than without random points."""
    level = {"easy": 0.01, "hard": 0.3, "all": 0.03}
    errors = {arm: {kind: np.full(NONE.shape, level[kind]) for kind in _KINDS} for arm in _ARMS}
    errors["hardest"]["hard"] = errors["hardest"]["hard"] + hardest
    errors["easiest"]["all"] = errors["easiest"]["all"] + easiest
    everything = {kind: np.full(10, level[kind]) for kind in _KINDS}
    points = {"easy": 411, "hard": hard, "all": 450}
    return Removal({"data": "made up", "seeds": 10, "score": score}, SHARES, np.array([67, 134, 269, 538]), errors, everything, points, 90,
                   turned, "")  # fmt: skip


def answers_of(found):
    return [found.answers[question].holds for question in _QUESTIONS]


@pytest.mark.parametrize("correlation", [0.0, 0.9, 1.0])
def test_points_exchanged_with_random_ones_are_seldom_a_finding(correlation):
    """Large effects whose sign is drawn for each network, alike or not at all shares.

    A yes to either question, and so the verdict's own, in at most 1 of 20 of 300 simulations: intervals hold for both together.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        shared = rng.choice([-1, 1], (1, 10)) * (rng.random((4, 10)) < correlation)
        signs = np.where(shared != 0, shared, rng.choice([-1, 1], (4, 10)))
        found.append(answers_of(made_up(signs * rng.uniform(0.1, 0.3, (4, 10)), signs * rng.uniform(0.005, 0.01, (4, 10)))))
    assert (np.array(found) == "yes").any(1).mean() <= 0.05


def test_a_verdict_needs_both_effects():
    """One effect is planted, the other's signs are drawn: yes to both in at most 1 of 20 of 200 simulations."""
    rng = np.random.default_rng(2)
    for planted in ("hardest", "easiest"):
        found = []
        for _ in range(200):
            sizes = {"hardest": rng.uniform(0.05, 0.1, (4, 10)), "easiest": -rng.uniform(0.003, 0.006, (4, 10))}
            signs = {arm: 1 if arm == planted else rng.choice([-1, 1], (1, 10)) for arm in sizes}
            found.append(made_up(**{arm: signs[arm] * sizes[arm] for arm in sizes}).verdict.holds)
        assert found.count("yes") <= 0.05 * 200


def test_planted_effects_are_found():
    rng = np.random.default_rng(1)
    found = [
        answers_of(
            made_up(
                np.linspace(0, 0.05, 4)[:, None] + rng.normal(0, 0.02, (4, 10)),
                -np.linspace(0, 0.005, 4)[:, None] + rng.normal(0, 0.002, (4, 10)),
            )
        )
        for _ in range(100)
    ]
    assert ((np.array(found) == "yes").mean(0) >= 0.95).all()


STEPS = 0.001 * np.arange(-4.5, 5)[None]


@pytest.mark.parametrize(
    ("hardest", "easiest", "holds"),
    [
        (0.1, -0.01, ["yes", "yes"]),
        (-0.1, 0.01, ["no", "no"]),
        (0.0, 0.0, ["no", "no"]),  # negligible
        (np.array([[0.1], [0], [0], [-0.1]]), np.array([[0.01], [0], [0], [-0.01]]), ["undecided"] * 2),
        (np.array([[0.0], [0], [0], [0.1]]), np.array([[0.0], [0], [0], [-0.01]]), ["yes", "yes"]),
    ],
)
def test_removal_says_what_its_intervals_say(hardest, easiest, holds):
    found = made_up(hardest + 10 * STEPS * [[1], [-1], [1], [-1]], easiest + 0.1 * STEPS * [[1], [-1], [1], [-1]])
    assert answers_of(found) == holds
    assert found.verdict.holds == ("no" if "no" in holds else holds[0])
    assert all(-1 <= each.low <= each.high <= 1 for each in found.differences("hardest", "hard"))


def test_what_is_uncertain_or_a_selection_is_undecided():
    wide = made_up(30 * STEPS + NONE, 3 * STEPS + NONE)
    assert answers_of(wide) == ["undecided"] * 2
    clear = made_up(0.1 + STEPS + NONE, -0.01 + 0.1 * STEPS + NONE)
    assert clear.verdict.holds == "yes"
    few = replace(clear, turned=0.85, reasons="still falling (3)")
    assert few.verdict.holds == "undecided"
    assert "Only 85 % of the radii turn (still falling (3))" in few.verdict.sentence
    no_hard = made_up(np.full((4, 10), np.nan), -0.01 + 0.1 * STEPS + NONE, hard=0)
    assert answers_of(no_hard) == ["undecided", "yes"]
    assert "no hard test points" in no_hard.verdict.sentence
    one = {arm: {kind: values[:, :1] for kind, values in of.items()} for arm, of in clear.errors.items()}
    assert answers_of(replace(clear, errors=one)) == ["undecided"] * 2
    for each in (few, no_hard):
        pyplot.close(each.plot()[0])


def test_the_easiest_points_of_each_class():
    scores = {"straggler share": np.array([0, 0.5, 0, 1, 0.5, 0]), "confidence": np.array([6, 1, 4, 0, 2, 5]) / 10}
    order = easiest_first(scores, "straggler share")
    assert order.tolist() == [2, 5, 0, 1, 4, 3]
    assert easiest_first(scores | {"loss at the inversion": -scores["confidence"]}, "straggler share").tolist() == [
        0,
        5,
        2,
        4,
        1,
        3,
    ]
    codes = np.array([0, 0, 1, 1, 1, 0])
    assert np.flatnonzero(first_of_each_class(codes, order, np.array([1, 2]))).tolist() == [2, 4, 5]
    assert np.flatnonzero(first_of_each_class(codes, order[::-1], np.array([1, 2]))).tolist() == [1, 3, 4]


def test_hard_test_points_are_those_half_of_the_judges_get_wrong():
    none = np.nan
    found = _kinds(np.array([[1, 0, 1, none, none], [1, 0, 0, none, 0], [1, 1, 1, none, none], [0, 0, 0, none, none]]))
    assert {kind: np.flatnonzero(mask).tolist() for kind, mask in found.items()} == {
        "easy": [1, 4], "hard": [0, 2], "all": [0, 1, 2, 3, 4],
    }  # fmt: skip


@pytest.mark.train
def test_removal(tmp_path, monkeypatch):
    data = fe.load_data("digits").take(np.arange(600))
    options = {"data": data, "seeds": 2, "epochs": 200, "lr": 0.5, "shares": (0.1, 0.3), "draws": 2, **ONE}
    found = ex.removal(out=tmp_path, **options)
    judges = fe.train(data, seeds=2, seed=2, epochs=200, lr=0.5, **ONE)
    assert found.turned == judges.turned.mean() == 1
    # Hard test points: at the inversion of their own class, in at least half of the judges.
    at = judges.straggler_epoch
    wrong = {}

    def observe(snapshot):
        wrong[snapshot.epoch] = snapshot.predict(data.x_test).argmax(2) != data.y_test

    fe.train(data, seeds=2, seed=2, epochs=200, lr=0.5, observe=observe, **ONE)
    hard = np.mean([[wrong[int(at[s, c])][s, i] for i, c in enumerate(data.y_test)] for s in range(2)], axis=0) >= 0.5
    assert found.test_points == {"easy": (~hard).sum(), "hard": hard.sum(), "all": len(hard)}
    # The tested networks have other seeds; those without the hardest do not see the judges' stragglers.
    counts = (0.1 * np.bincount(data.y_train)).astype(int)
    assert found.removed[0] == counts.sum()
    scores = ex.difficulty(data, seeds=2, seed=2, epochs=200, lr=0.5, noise=0.1, **ONE).scores
    order = np.lexsort((scores["loss at the inversion"], scores["straggler share"]))
    mask = first_of_each_class(data.y_train, order[::-1], counts)
    last = {}
    fe.train(data, seeds=2, epochs=200, lr=0.5, exclude_per_seed=np.tile(mask, (2, 1)), observe=lambda s: last.update(
        wrong=s.predict(data.x_test).argmax(2) != data.y_test), **ONE)  # fmt: skip
    for kind, of in (("hard", hard), ("easy", ~hard), ("all", hard | ~hard)):
        np.testing.assert_allclose(found.errors["hardest"][kind][0], last["wrong"][:, of].mean(1))
    whole = fe.train(data, seeds=2, epochs=200, lr=0.5, **ONE)
    np.testing.assert_allclose(found.everything["all"], whole.test_error[:, -1])
    assert found.stragglers == len(judges.consensus_stragglers())
    assert_whole(found, tmp_path)
    assert_kept(ex.removal, tmp_path, found, monkeypatch, **options)
    by_loss = ex.removal(out=tmp_path, **options | {"score": "final loss"})
    assert by_loss.test_points == found.test_points
    assert not np.array_equal(by_loss.errors["hardest"]["all"], found.errors["hardest"]["all"])
    np.testing.assert_array_equal(by_loss.errors["random"]["all"], found.errors["random"]["all"])


@pytest.mark.train
def test_without_an_inversion_no_point_is_easy_or_hard(tmp_path):
    digits = fe.load_data("digits")
    found = ex.removal(digits, seeds=2, epochs=40, **ONE)
    assert not len(found.shares)
    assert found.verdict.holds == "undecided"
    assert "no scores by which to leave training points out: still falling at the last record (4)" in found.verdict.sentence
    assert_whole(found, tmp_path)
    other = ex.removal(digits, seeds=2, epochs=40, score="EL2N", shares=(0.2,), draws=1, **ONE)
    assert other.errors["hardest"]["all"].shape == (1, 2)
    assert other.test_points["hard"] == 0
    assert answers_of(other) == ["undecided"] * 2
    assert_whole(other, tmp_path)
