"""The experiments at reduced size: what they claim on digits, and what they compute, by hand."""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib import pyplot
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestCentroid

import fastent as fe
import fastent.experiments as ex
from fastent.experiments._difficulty import Difficulty, _average_precision, _spearman, _wrong_at_last
from fastent.experiments._entanglement import _VIEWS, Entanglement
from fastent.experiments._generalization import _QUESTIONS, Generalization, _peaks
from fastent.experiments._pruning import Arm, Pruning, same_mix
from fastent.experiments.critical import compared_classes, compared_text
from fastent.experiments.result import below, exceeds
from fastent.experiments.score_stability import score_stability
from fastent.experiments.scores import SCORES, combined, forgetting, snapshot_epochs
from fastent.statistics.intervals import Estimate, student_mean
from fastent.training.run import Run

ONE = {"threads": 1}


@pytest.fixture(scope="module")
def digits():
    return fe.load_data("digits")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


def assert_kept(function, kept, first, monkeypatch, **options):
    """Again from what is kept: nothing trained, the same bits. With one part gone: the same bits."""

    def never(*arguments, **more):
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr("fastent.experiments.setting.train", never)
        assert function(out=kept, **options).as_json() == first.as_json()
    parts = sorted(path for path in (kept / "parts").iterdir() if path.is_file())
    if parts:
        parts[-1].unlink()
        assert function(out=kept, **options).as_json() == first.as_json()


def assert_whole(result, folder):
    """It can be shown, drawn and saved."""
    result.save(folder)
    stored = json.loads((folder / f"{result.name}.json").read_text())
    assert stored["verdict"] == result.verdict.sentence
    assert (folder / f"{result.name}.svg").stat().st_size > 2000
    content = result.table()
    assert all(len(row) == len(content.headings) for row in content.rows)
    assert result.verdict.sentence in repr(result)


@pytest.mark.train
def test_without_stragglers_there_is_no_inversion(digits, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 3, "draws": 1, "longer": 5, **ONE}
    found = ex.pruning(out=tmp_path, **options)
    everything, without, random, _, half = found.arms
    # Without the stragglers radii still fall where the epochs end, before 20 times the usual epoch: that is no proof.
    assert found.verdict.holds == "undecided"
    assert without.unfinished > 0.5
    assert "before 20 times the usual epoch: train longer to see whether they turn." in found.verdict.sentence
    assert half.points == everything.points - sum((np.bincount(digits.y_train[found_rows(found, digits)]) + 1) // 2)
    assert half.share == 1
    assert half.critical_error.high < everything.critical_error.low
    assert everything.share == random.share == 1
    assert without.share == 0
    assert without.depth.high < 0.05 < random.depth.low
    assert len({arm.points for arm in found.arms[1:4]}) == 1
    assert len(found.stragglers) == len(digits.index) - without.points
    assert_whole(found, tmp_path)
    assert_kept(ex.pruning, tmp_path, found, monkeypatch, **options)


def found_rows(found, data):
    return np.flatnonzero(np.isin(data.index, found.stragglers))


@pytest.mark.train
def test_what_still_falls_is_trained_on(digits):
    """To `longer` times the usual epoch, as if trained so long at once; what turns in time is not."""
    few = digits.take(np.arange(600))
    options = {"seeds": 2, "epochs": 300, "lr": 0.5, "draws": 1, **ONE}
    found = ex.pruning(few, longer=20, **options)
    everything, without, random, *_ = found.arms
    assert without.epoch[-1] == np.ceil(20 * everything.turn_epoch) > 300
    assert random.epoch[-1] == 300
    assert without.unfinished == 0
    assert ex.pruning(few, longer=1, **options).arms[1].unfinished > 0
    mask = np.zeros((2, 600), bool)
    mask[:, found_rows(found, few)] = True
    at_once = fe.train(few, seeds=2, epochs=int(without.epoch[-1]), lr=0.5, exclude_per_seed=mask, **ONE)
    np.testing.assert_array_equal(without.radius, at_once.radius[:, :, -1, BOTH].mean((0, 2)))


def arms(**depths):
    """Arms of networks with dips so deep; each has an inversion where its dip counts."""
    return [
        Arm(name, 100, np.mean(np.array(depth) > 0.05), (0.6, 1.0), ZERO, student_mean(depth), "", np.arange(3), np.ones(3))
        for name, depth in (depths | {"half": DEEP}).items()
    ]


BOTH = np.ones(2, bool)
ZERO = Estimate(0.0, 0.0, 0.0, 0.0)
DEEP, FLAT, EITHER = [0.4, 0.5, 0.45], [0.01, 0.0, 0.02], [0.02, 0.03, 0.6]


@pytest.mark.parametrize(
    ("without", "random", "holds"),
    [
        (FLAT, DEEP, "yes"),
        (DEEP, DEEP, "no"),
        (FLAT, FLAT, "no"),
        (EITHER, DEEP, "undecided"),
        (FLAT, EITHER, "undecided"),
        ([0.01], [0.4], "undecided"),  # one network
    ],
)
def test_pruning_says_no_more_than_its_intervals(without, random, holds):
    found = Pruning({"data": "made up", "seeds": 3}, arms(a=DEEP, w=without, r=random, l=FLAT), np.arange(4))
    assert found.verdict.holds == holds


@pytest.mark.parametrize(("unfinished", "holds"), [(0.0, "yes"), (0.04, "yes"), (0.3, "undecided")])
def test_pruning_waits_for_radii_that_still_fall(unfinished, holds):
    all_of_them, without, *others = arms(a=DEEP, w=FLAT, r=DEEP, l=FLAT)
    made_up = [all_of_them, without._replace(unfinished=unfinished), *others]
    assert Pruning({"data": "made up", "seeds": 3}, made_up, np.arange(4)).verdict.holds == holds


def test_pruning_by_chance_alone():
    """All arms turn, or not, with the same chance: of 300 simulations 1 in 20 at most says that stragglers make the turn."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        chance = rng.uniform(0, 1)
        depths = [np.where(rng.random(10) < chance, rng.uniform(0.1, 0.5, 10), 0.0) for _ in range(4)]
        made_up = arms(**dict(zip("awrl", depths)))
        found.append(Pruning({"data": "made up", "seeds": 10}, made_up, np.arange(4)).verdict.holds)
    assert found.count("yes") <= 0.05 * 300


def test_where_few_radii_turn_nothing_is_there_to_be_gone():
    found = Pruning({"data": "made up", "seeds": 3}, arms(a=EITHER, w=DEEP, r=DEEP, l=FLAT), np.arange(4))
    assert found.verdict.holds == "undecided"


@pytest.mark.train
def test_draws_of_one_network_are_one_repetition(digits):
    from fastent.experiments._pruning import _arm

    run = fe.train(digits.take(np.arange(500)), seeds=3, epochs=200, lr=0.5, **ONE)
    assert run.stragglers.any()
    once, thrice = _arm("a", 1, [run], 30.0, BOTH), _arm("a", 1, [run] * 3, 30.0, BOTH)
    assert thrice.share_interval == once.share_interval
    assert tuple(thrice.critical_error) == pytest.approx(tuple(once.critical_error), nan_ok=True)
    assert tuple(thrice.depth) == pytest.approx(tuple(once.depth))


def test_pruning_needs_an_inversion_that_is_established():
    """Half of the radii turn with all points: none without the stragglers says little."""
    found = arms(a=DEEP, w=FLAT, r=DEEP, l=FLAT)
    found[0] = found[0]._replace(share=0.5, share_interval=(0.19, 0.81))
    verdict = Pruning({"data": "made up", "seeds": 3}, found, np.arange(4)).verdict
    assert verdict.holds == "undecided"
    assert "it is open whether more than half of the radii turn" in verdict.sentence


@pytest.mark.train
def test_without_an_inversion_there_is_nothing_to_prune(digits, tmp_path):
    found = ex.pruning(digits, seeds=2, epochs=50, **ONE)
    assert len(found.arms) == 1
    assert found.verdict.holds == "undecided"
    assert "still falling at the last record" in found.verdict.sentence
    assert_whole(found, tmp_path)


def test_random_points_of_the_same_classes():
    codes = np.random.default_rng(0).integers(0, 3, 200)
    mask = same_mix(codes, np.array([5, 0, 17]), np.random.default_rng(1))
    assert np.bincount(codes[mask], minlength=3).tolist() == [5, 0, 17]


@pytest.mark.train
def test_points_misclassified_at_the_inversion_matter_most(digits, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 3, "points": 3, "epochs": 700, **ONE}
    found = ex.generalization(out=tmp_path, **options)
    assert found.train_error.shape == found.without["clean"].shape == found.control["noisy"].shape == (3, 3)
    assert found.train_error.max() > 2.5 * found.critical_error.value > 5 * found.train_error.min()
    assert (np.diff(found.train_error.mean(1)) < 0).all()
    assert found.effects("clean")[1].low > 0
    assert found.answers[_QUESTIONS[0]].holds == "yes"
    assert (found.unpruned["noisy"] > found.unpruned["clean"]).all()
    assert found.at_inversion is not None
    assert "near the inversion's" in found.verdict.sentence
    assert_whole(found, tmp_path)
    assert_kept(ex.generalization, tmp_path, found, monkeypatch, **options)


FALLING = 0.06 * np.geomspace(3, 1 / 3, 9)


def made_up_generalization(clean, noisy=0.0, errors=FALLING, unpruned=0.05):
    """From how much larger test errors are without S(t) than without random points, (T, S), which alone change nothing."""
    seeds = np.shape(clean)[1]
    shape = (len(errors), seeds)
    control = {"clean": np.full(shape, unpruned), "noisy": np.full(shape, 0.2)}
    without = {"clean": control["clean"] + clean, "noisy": control["noisy"] + noisy}
    train_error = np.repeat(np.asarray(errors)[:, None], seeds, axis=1)
    return Generalization(
        config={"data": "made up", "seeds": seeds, "noise": 1.0, "training_points": 100},
        times=np.arange(len(errors)) + 5,
        train_error=train_error,
        without=without,
        control=control,
        unpruned={"clean": np.full(seeds, unpruned), "noisy": np.full(seeds, 0.2)},
        peaks=_peaks(without, control, train_error, 0),
        critical_error=Estimate(0.06, 0.001, 0.058, 0.062),
        reasons="",
    )


def answers_of(found):
    return [found.answers[question].holds for question in _QUESTIONS]


def test_nothing_is_found_where_stragglers_are_as_any_points():
    """Whatever differs by chance alone: each question is answered by yes in 1 of 20 at most, in 300 simulations."""
    rng = np.random.default_rng(0)
    found = np.array([answers_of(made_up_generalization(rng.normal(0, 0.01, (9, 10)))) for _ in range(300)])
    assert ((found == "yes").mean(0) <= 0.05).all()


def test_with_times_exchanged_no_time_is_special():
    """The effects per point of each network, which peak at the inversion, at times exchanged at random: yes in 1 of 20."""
    rng = np.random.default_rng(1)
    peaked = (1 - 0.4 * np.log(FALLING / 0.06) ** 2)[:, None] + rng.normal(0, 0.1, (9, 10))
    special = 0
    for _ in range(200):
        order = np.argsort(rng.random((9, 10)), axis=0)
        exchanged = np.take_along_axis(peaked, order, axis=0) * FALLING[:, None]
        special += answers_of(made_up_generalization(exchanged))[1] == "yes"
    assert special <= 0.05 * 200


@pytest.mark.parametrize(
    ("per_point", "holds"),
    [
        (lambda error: 1 - 0.6 * np.log(error / 0.06) ** 2, ["yes", "yes"]),  # the inversion is special
        (lambda error: (0.06 / error) ** 0.5, ["yes", "no"]),  # the later, the more each point counts
        (lambda error: np.ones_like(error), ["yes", "undecided"]),
        (lambda error: -np.ones_like(error), ["no", "undecided"]),  # better left out is not missed more
        (lambda error: np.zeros_like(error), ["no", "undecided"]),
    ],
)
def test_mattering_and_being_special_are_two_questions(per_point, holds):
    rng = np.random.default_rng(3)
    effect = (per_point(FALLING)[:, None] + rng.normal(0, 0.03, (9, 10))) * FALLING[:, None]
    found = made_up_generalization(effect)
    assert answers_of(found) == holds
    assert found.verdict.holds == ("no" if "no" in holds else "undecided" if "undecided" in holds else "yes")
    assert all(-1 <= one.low <= one.high <= 1 for one in found.effects("clean"))


def test_a_difference_that_is_uncertain_is_undecided():
    wide = np.random.default_rng(0).normal(0.004, 0.02, (9, 4))
    assert answers_of(made_up_generalization(wide))[0] == "undecided"


def test_far_from_the_inversion_nothing_is_said_of_it():
    clear = 0.02 + 0.001 * np.arange(5)[None]
    assert answers_of(made_up_generalization(clear, errors=[0.06]))[0] == "yes"
    far = made_up_generalization(clear, errors=[0.09]).verdict
    assert far.holds == "undecided"
    assert "far from the inversion's 6.00 %" in far.sentence
    assert made_up_generalization(clear[:, :1], errors=[0.06]).verdict.holds == "undecided"


def test_without_a_time_or_an_error_there_is_nothing_to_compare():
    found = made_up_generalization(np.zeros((9, 3)))
    empty = {kind: values[:0] for kind, values in found.without.items()}
    nowhere = _peaks(empty, empty, found.train_error[:0], 0)
    none = replace(found, times=found.times[:0], train_error=found.train_error[:0], without=empty, control=empty, peaks=nowhere)
    assert none.verdict.holds == "undecided"
    assert "At no epoch" in none.verdict.sentence
    pyplot.close(none.plot()[0])
    zero = replace(found, critical_error=ZERO).verdict
    assert zero.holds == "undecided"
    assert "training error of 0" in zero.sentence


@pytest.mark.train
def test_generalization_is_that_of_networks_trained_without(digits):
    found = ex.generalization(digits, seeds=2, points=1, epochs=60, noise=0.0, **ONE)
    base = fe.train(digits, seeds=2, epochs=60, lr=0.2, **ONE)
    without = fe.train(digits, seeds=2, epochs=60, lr=0.2, exclude_per_seed=base.misclassified(5), **ONE)
    assert found.times.tolist() == [5]
    np.testing.assert_array_equal(found.train_error[0], base.train_error[:, 5])
    np.testing.assert_array_equal(found.unpruned["clean"], base.test_error[:, -1])
    np.testing.assert_allclose(found.without["clean"][0], without.test_error[:, -1])
    np.testing.assert_allclose(found.without["noisy"], found.without["clean"])
    assert found.verdict.holds == "undecided"
    assert "no inversion to compare with" in found.verdict.sentence


@pytest.mark.train
def test_difficulty(digits, kept, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 3, "epochs": 500, **ONE}
    found = ex.difficulty(out=kept, **options)
    assert set(found.scores) == set(SCORES)
    assert found.flipped.sum() == round(0.05 * len(digits.index))
    assert all(values.shape == (len(digits.index),) for values in (*found.scores.values(), *found.noisy_scores.values()))
    assert min(found.precision[name].low for name in ("AUM", "confidence", "incorrectness")) > 0.4
    assert found.precision["straggler share"].low > found.flipped.mean()
    # Points that are hard are so for all networks: their ranks differ less than those of easy points.
    assert all(estimate.low > 0 for name, estimate in found.correlation.items() if name != "rank disagreement")
    assert ((found.class_recall > 0.8) & (found.class_recall <= 1)).all()
    assert np.isnan(found.class_correlation.value)  # of two classes
    assert found.stability.networks.tolist() == [1]
    assert set(found.stability.correlation) == set(SCORES) - {"rank disagreement"}
    assert ((found.gradient_share >= 0) & (found.gradient_share <= 1)).all()
    assert_whole(found, tmp_path)
    assert_kept(ex.difficulty, kept, found, monkeypatch, **options)


@pytest.mark.train
def test_scores_by_hand(digits):
    few = digits.take(np.arange(60))
    seen = []
    run = fe.train(few, seeds=2, epochs=30, observe=lambda s: seen.append((s.logits, s.probability)), **ONE)
    found = ex.difficulty(few, seeds=2, epochs=30, el2n_epoch=7, noise=0.1, **ONE)
    own = np.stack([p[:, np.arange(60), few.y_train] for _, p in seen])
    other = np.stack([z[:, np.arange(60), 1 - few.y_train] for z, _ in seen]).astype(float)
    logit = np.stack([z[:, np.arange(60), few.y_train] for z, _ in seen]).astype(float)
    np.testing.assert_allclose(found.scores["confidence"], 1 - own.mean((0, 1)))
    np.testing.assert_allclose(found.scores["variability"], own.std(0).mean(0), atol=1e-7)
    np.testing.assert_allclose(found.scores["AUM"], (other - logit).mean((0, 1)))
    np.testing.assert_allclose(found.scores["EL2N"], np.sqrt(2) * (1 - own[7]).mean(0))
    np.testing.assert_allclose(found.scores["final loss"], -np.log(own[-1]).mean(0))
    wrong = np.stack([run.misclassified(e) for e in range(31)], axis=1)
    np.testing.assert_allclose(found.scores["incorrectness"], wrong.mean((0, 1)))
    assert "straggler share" not in found.scores
    assert "loss at the inversion" not in found.scores
    np.testing.assert_allclose(found.scores["maximum probability"], 1 - np.maximum(own[-1], 1 - own[-1]).mean(0))
    energy = -np.log(np.exp(logit[-1]) + np.exp(other[-1])).mean(0)
    np.testing.assert_allclose(found.scores["energy"], energy, rtol=1e-6)
    windows = [own[first : first + 10] for first in (1,)]  # the first 15 % of 30 epochs are fewer than a window
    dual = np.mean([(1 - window.mean(0)) * window.std(0, ddof=1) for window in windows], axis=0).mean(0)
    np.testing.assert_allclose(found.scores["DUAL"], dual)
    ranks = np.argsort(np.argsort(1 - own.mean(0), axis=1), axis=1) / 60
    np.testing.assert_allclose(found.scores["rank disagreement"], ranks.std(0, ddof=1))
    assert found.verdict.holds == "undecided"
    assert "no stragglers" in found.verdict.sentence


@pytest.mark.train
def test_the_loss_at_the_inversion_is_that_of_its_weights(digits):
    few = digits.take(np.arange(600))
    losses = {}

    def observe(snapshot):
        losses[snapshot.epoch] = -np.log(snapshot.probability[:, np.arange(600), few.y_train])

    run = fe.train(few, seeds=2, epochs=200, lr=0.5, observe=observe, **ONE)
    assert run.turned.all()
    found = ex.difficulty(few, seeds=2, epochs=200, lr=0.5, **ONE)
    at = run.straggler_epoch
    expected = [np.mean([losses[int(at[s, c])][s, i] for s in range(2)]) for i, c in enumerate(few.y_train)]
    np.testing.assert_allclose(found.scores["loss at the inversion"], expected)


@pytest.mark.train
def test_stragglers_of_each_class_beside_its_recall(digits):
    data = fe.load_data("digits", classes="all")
    found = ex.difficulty(data, seeds=3, epochs=300, lr=0.5, **ONE)
    run = fe.train(data, seeds=3, epochs=300, lr=0.5, **ONE)
    turned = run.turned[:, -1].any(0)
    expected = [run.straggler_share[data.y_train == c].mean() if turned[c] else np.nan for c in range(10)]
    np.testing.assert_allclose(found.class_stragglers, expected)
    rows = np.bincount(data.y_test, minlength=10)
    assert (found.class_recall * rows).sum() / rows.sum() == pytest.approx(1 - run.test_error[:, -1].mean())
    low, high = found.class_correlation.low, found.class_correlation.high
    assert np.isnan(low) if turned.sum() < 4 else -1 <= low <= high <= 1
    # Few classes turn: all classes at the last inversion of each network that has one.
    assert run.turned[:, -1].any(1).tolist() == [True, False, True]
    last = {s: max(i.epoch for i in run.inversion[s, -1] if i) for s in (0, 2)}
    wrong = np.mean([run.misclassified(epoch)[s] for s, epoch in last.items()], axis=0)
    expected = [wrong[data.y_train == c].mean() for c in range(10)]
    np.testing.assert_allclose(found.last_stragglers, expected)
    correlation = found.last_correlation
    assert correlation.value == pytest.approx(np.corrcoef(expected, 1 - found.class_recall)[0, 1])
    assert correlation.low < correlation.value < correlation.high
    assert "With the weights of each network's last inversion for all classes" in found.verdict.sentence


@pytest.mark.train
def test_stragglers_are_compared_over_the_classes_that_turn_in_half_of_the_networks(tmp_path):
    """A class that turns in no network has no stragglers: its points are left out, not counted as easy."""
    data = fe.load_data("digits", classes="all")
    options = {"seeds": 2, "epochs": 300, "lr": 0.5, **ONE}
    found = ex.difficulty(data, **options)
    run = fe.train(data, **options)
    points = compared_classes([run])[data.y_train]
    assert 0 < points.sum() < len(points)
    for name in ("straggler share", "loss at the inversion"):
        np.testing.assert_array_equal(np.isfinite(found.scores[name]), points)
    np.testing.assert_array_equal(found.scores["straggler share"][points], run.straggler_share[points])
    expected = spearmanr(run.straggler_share[points], found.scores["confidence"][points]).statistic
    assert found.correlation["confidence"].value == pytest.approx(expected)
    assert np.isfinite(found.scores["confidence"]).all()
    assert compared_text(run.class_names, compared_classes([run])) in found.verdict.sentence
    assert_whole(found, tmp_path)


def test_without_stragglers_nothing_is_said_about_settling():
    none = made_up_difficulty(np.zeros(40), [], np.arange(40) < 4, np.arange(40.0))
    stability = score_stability({"confidence": np.random.default_rng(0).random((4, 40)), "straggler share": np.zeros((4, 40))})
    none = replace(none, stability=stability, correlation={}, inversions="0 of 8 radii, in 0 of 4 networks, have an inversion")
    assert none.verdict.sentence.startswith("There are no stragglers to compare: 0 of 8 radii")
    assert "settle" not in none.verdict.sentence


def made_up_run(epochs):
    """Networks and classes whose inversions are at these epochs, (S, C), NaN without; wrong points at an epoch: those below."""
    epochs = np.asarray(epochs, float)
    codes = np.arange(12) % epochs.shape[1]
    return SimpleNamespace(
        turned=np.isfinite(epochs)[:, None], straggler_epoch=epochs, classes=np.arange(epochs.shape[1]), codes=codes,
        n_seeds=len(epochs), misclassified=lambda epoch: np.tile(np.arange(12) < epoch, (len(epochs), 1)),
    )  # fmt: skip


def test_the_last_inversion_stands_in_for_classes_that_do_not_turn():
    none = np.nan
    np.testing.assert_allclose(_wrong_at_last(made_up_run([[3, 6, none], [none, 9, none], [none] * 3])), [5 / 8] * 3)
    assert np.isnan(_wrong_at_last(made_up_run([[3, 6, none], [none] * 3]))).all()  # half of the networks
    assert np.isnan(_wrong_at_last(made_up_run([[3, 6, 5], [4, 5, 6]]))).all()  # all turn


def made_up_scores(networks, noise, rng, n=400):
    """Of networks that see the same difficulty, each with noise of its own; a tenth of the points are stragglers."""
    difficulty = rng.standard_normal(n)
    seen = difficulty + noise * rng.standard_normal((networks, n))
    return {"confidence": seen, "straggler share": (seen > np.quantile(seen, 0.9, axis=1)[:, None]).astype(float)}


def test_scores_of_halves_of_the_networks():
    rng = np.random.default_rng(0)
    found = score_stability(made_up_scores(20, 1.0, rng))
    assert found.networks.tolist() == list(range(1, 11))
    mean = found.correlation["confidence"][:, 0]
    assert (np.diff(mean) > -0.01).all()
    reliability = found.networks / (found.networks + 1)  # Spearman-Brown, variances 1 and 1 / m; of ranks a little less
    np.testing.assert_allclose(mean, reliability, atol=0.06)
    assert (np.diff(found.overlap[[0, 4, 9]]) > 0).all()
    assert found.settled is None
    assert score_stability(made_up_scores(20, 0.02, rng)).settled in (1, 2, 3)
    unrelated = {"confidence": rng.standard_normal((20, 400)), "straggler share": (rng.random((20, 400)) < 0.1) * 1.0}
    by_chance = score_stability(unrelated)
    assert np.abs(by_chance.correlation["confidence"][:, 0]).max() < 0.15
    assert by_chance.settled is None
    assert len(score_stability(made_up_scores(1, 1.0, rng)).networks) == 0


def test_an_inversion_within_a_pass_is_taken_at_the_nearest_whole_one():
    found = snapshot_epochs(SimpleNamespace(straggler_epoch=np.array([[0.25, 3.0], [2.6, np.nan]])))
    np.testing.assert_array_equal(found, [[1, 3], [3, np.nan]])


def test_equal_values_of_a_few_networks_are_no_yes():
    """Of differences of one test point, drawn at random, two or three networks often have the same."""
    equal = student_mean([0.01] * 3)
    assert (equal.low, equal.high) == (0.01, 0.01)
    assert exceeds(equal, 0.001) == below(equal, 0.02) == "undecided"
    assert exceeds(equal, 0.02) == below(equal, 0.01) == "no"
    rng = np.random.default_rng(0)
    for networks in (2, 3, 5, 10):
        found = [exceeds(student_mean(0.01 * rng.integers(-1, 2, networks)), 0.001) for _ in range(400)]
        assert found.count("yes") <= 0.05 * 400


def test_scores_of_some_networks():
    values = np.array([[0.1, 0.4, np.nan], [0.3, 0.2, np.nan], [0.2, 0.9, np.nan]])
    found = combined({"straggler share": values, "loss at the inversion": values, "confidence": values[:, :2]}, [0, 2])
    np.testing.assert_allclose(found["straggler share"], [0.15, 0.65, 0])
    assert "loss at the inversion" not in found
    assert "rank disagreement" not in combined({"confidence": values[:, :2]}, [1])


def made_up_difficulty(stragglers, others, flipped, noisy):
    """From straggler shares, other scores and which labels are flipped, over points."""
    correlation = {f"score {i}": _spearman(stragglers, other, i) for i, other in enumerate(others)}
    return Difficulty(
        config={"data": "made up", "seeds": 1},
        scores={},
        never_learned=np.zeros(len(flipped)),
        correlation=correlation,
        gradient_share=np.ones((1, 1)),
        flipped=flipped,
        noisy_scores={"straggler share": noisy},
        precision={"straggler share": _average_precision(flipped, noisy, 0)},
        noisy_points=np.ones(len(flipped), bool),
        stability=score_stability({"confidence": np.ones((1, len(flipped)))}),
        class_stragglers=np.zeros(2),
        class_recall=np.ones(2),
        class_correlation=Estimate(*[np.nan] * 4),
        inversions="2 of 2",
        last_stragglers=np.zeros(2),
        last_correlation=Estimate(*[np.nan] * 4),
        compared="",
    )


@pytest.mark.parametrize(("sign", "holds"), [(1, "yes"), (-1, "no")])
def test_planted_difficulty_is_found(sign, holds, monkeypatch):
    monkeypatch.setattr(sys.modules["fastent.experiments._difficulty"], "_RESAMPLES", 100)
    rng = np.random.default_rng(0)
    hard = rng.random(300)
    others = [sign * hard + 0.3 * rng.random(300) for _ in range(3)]
    assert made_up_difficulty(hard, others, hard > 0.9, hard + 0.1 * rng.random(300)).verdict.holds == holds


def test_scores_exchanged_between_points_say_nothing(monkeypatch):
    """Straggler shares of random points: yes in 1 of 20 of 200 simulations at most."""
    monkeypatch.setattr(sys.modules["fastent.experiments._difficulty"], "_RESAMPLES", 60)
    rng = np.random.default_rng(0)
    hard = rng.random(120)
    others = [hard + 0.3 * rng.random(120) for _ in range(3)]
    found = [
        made_up_difficulty(rng.permutation(hard), others, rng.permutation(hard) > 0.9, hard).verdict.holds for _ in range(200)
    ]
    assert found.count("yes") <= 0.05 * 200
    assert found.count("undecided") > 0.5 * 200


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40), st.integers(0, 100))
def test_average_precision_of_resamples(points, seed):
    """Of scores with ties: scikit-learn's, of the whole and of every resample."""
    flipped, score = (np.array(values) for values in zip(*points))
    assume(flipped.any())
    drawn = []

    def keep(value, n, seed, statistic):
        drawn.append(value)
        rng = np.random.default_rng(seed)
        for rows in (np.arange(n), *(rng.integers(0, n, n) for _ in range(4))):
            found = statistic(rows)
            if flipped[rows].any():
                assert found == pytest.approx(average_precision_score(flipped[rows], score[rows]), rel=1e-12)
            else:
                assert found is None

    with mock.patch.object(sys.modules["fastent.experiments._difficulty"], "_bootstrapped", keep):
        _average_precision(flipped, score.astype(float), seed)
    assert drawn[0] == pytest.approx(average_precision_score(flipped, score), rel=1e-12)


def test_forgetting():
    wrong = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
    events, never = forgetting(wrong)
    assert events.tolist() == [1, 1, 1, 0]
    assert never.tolist() == [False, False, False, True]


def test_flipped_labels(digits):
    data = fe.load_data("digits", classes="all")
    noisy, flipped = ex.flip_labels(data, 0.1, 3)
    assert ((noisy.y_train != data.y_train) == flipped).all()
    assert flipped.sum() == round(0.1 * len(data.y_train))
    assert len(np.unique(noisy.y_train[flipped])) == 10
    assert noisy.fingerprint != data.fingerprint
    assert (ex.flip_labels(data, 0.1, 3)[1] == flipped).all()


def test_the_correlation_with_a_single_straggler():
    """Every third resample has none of it, and no correlation."""
    one = np.zeros(40)
    one[7] = 1
    found = _spearman(one, np.arange(40.0), 0)
    assert np.isfinite(found).all()
    assert found.low <= found.value <= found.high


ONCE, NEVER = Estimate(1.0, 0.01, 0.98, 1.02), Estimate(*[np.nan] * 4)


def made_up_entanglement(found, ratio, last_error=0.01, **views):
    """Measures of spread turn with the radii and those of separation never, but for `overlap` and the `views` named."""
    sure, seeds = Estimate(0.07, 0.001, 0.068, 0.072), 10
    turns = {name: (1.0, ONCE) if view.spread else (0.0, NEVER) for name, view in _VIEWS.items()}
    turns |= {"overlap": (found, ratio)} | views
    return Entanglement(
        config={"data": "made up", "seeds": seeds, "sampled": None, "training_points": 100},
        epoch=np.arange(4),
        train_error=np.tile([0.5, 0.2, 0.1, last_error], (seeds, 1)),
        curves={name: np.ones((seeds, 4)) for name in _VIEWS},
        turn=dict.fromkeys(_VIEWS, sure),
        ratio={name: ratio for name, (_, ratio) in turns.items()},
        found={name: share for name, (share, _) in turns.items()},
        reasons=dict.fromkeys(_VIEWS, "still rising at the last record"),
        critical_error=sure,
    )


@pytest.mark.parametrize(
    ("found", "ratio", "near"),
    [
        (1.0, Estimate(1.1, 0.05, 1.0, 1.2), "yes"),
        (1.0, Estimate(1.1, 0.2, 0.7, 1.5), "undecided"),
        (1.0, Estimate(2.0, 0.2, 1.5, 2.6), "no"),
        (0.6, Estimate(1.1, 0.05, 1.0, 1.2), "undecided"),
        (0.0, NEVER, "no"),
        (0.2, Estimate(1.0, *[np.nan] * 3), "undecided"),
    ],
)
def test_entanglement_says_no_more_than_its_intervals(found, ratio, near):
    made_up = made_up_entanglement(found, ratio)
    assert made_up.near("overlap") == near
    # The finding says that overlap does not turn with the radii.
    assert made_up.verdict.holds == {"yes": "no", "no": "yes", "undecided": "undecided"}[near]
    assert made_up_entanglement(0.0, NEVER, CDNV=(found, ratio)).verdict.holds == near


def test_what_has_not_turned_while_the_radius_might_is_open():
    assert made_up_entanglement(0.0, NEVER, last_error=0.06).verdict.holds == "undecided"
    assert made_up_entanglement(0.0, NEVER, last_error=0.05).verdict.holds == "yes"


def test_measures_exchanged_at_random_are_no_finding():
    rng = np.random.default_rng(0)
    names = [name for name in _VIEWS if name != "radius"]
    turns = [(1.0, ONCE) if _VIEWS[name].spread else (0.0, NEVER) for name in names]
    found = []
    for _ in range(200):
        exchanged = {name: turns[i] for name, i in zip(names, rng.permutation(len(names)))}
        found.append(made_up_entanglement(0.0, NEVER, **exchanged).verdict.holds)
    assert found.count("yes") <= 0.05 * 200


@pytest.mark.train
def test_the_networks_measured_are_those_whose_radii_are(digits, tmp_path, monkeypatch):
    """Of mini-batches, whose order belongs to all networks of a training; and what is interrupted goes on."""
    few = digits.take(np.arange(200))
    options = {"seeds": 3, "seed": 4, "points": 10, "epochs": 12, "batch_size": 50, **ONE}
    seen = {}
    run = fe.train(few, **{name: value for name, value in options.items() if name != "points"},
                   observe=lambda s: seen.update({s.epoch: s.hidden()}))  # fmt: skip
    found = ex.entanglement(few, **options)
    np.testing.assert_array_equal(found.train_error, run.train_error[:, run.positions(found.epoch)])
    for i, s in np.ndindex(len(found.epoch), 3):
        X = seen[found.epoch[i]][s]
        X = X / np.linalg.norm(X, axis=1, keepdims=True)
        overlap = fe.mixing(fe.neighbors(X, 10), few.y_train).balanced_overlap
        assert found.curves["overlap"][s, i] == pytest.approx(overlap, abs=1e-9)

    measured = []

    def interrupted(*arguments, **more):
        measured.append(1)
        if len(measured) == 10:
            raise KeyboardInterrupt
        return fe.mixing(*arguments, **more)

    monkeypatch.setattr(sys.modules["fastent.experiments._entanglement"], "mixing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ex.entanglement(few, out=tmp_path, **options)
    again = ex.entanglement(few, out=tmp_path, **options)
    assert again.as_json() == found.as_json()
    assert len(measured) == 10 + 3 * (len(found.epoch) - 3)  # three epochs were whole


@pytest.mark.train
def test_entanglement(digits, kept, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 8, "points": 40, "epochs": 700, **ONE}
    found = ex.entanglement(out=kept, **options)
    assert found.found["radius"] == 1
    assert min(found.found["distance"], found.found["CDNV"]) >= 0.5
    assert found.ratio["distance"].value == pytest.approx(1, abs=0.3)
    assert found.near("soft nearest neighbour loss") == "yes"
    assert "still rising at the last record" in found.reasons["overlap"]
    assert found.near("overlap") == found.near("relative margin") == "no"
    assert_whole(found, tmp_path)
    assert_kept(ex.entanglement, kept, found, monkeypatch, **options)
    few = digits.take(np.arange(300))
    seen = {}
    fe.train(few, seeds=1, seed=1, epochs=6, observe=lambda s: seen.update({s.epoch: s.hidden()[0]}), **ONE)
    short = ex.entanglement(few, seeds=2, points=10, epochs=6, **ONE)
    i = int(np.searchsorted(short.epoch, 6))
    X = seen[6] / np.linalg.norm(seen[6], axis=1, keepdims=True)
    near = fe.neighbors(X, 10)
    assert short.curves["overlap"][1, i] == pytest.approx(fe.mixing(near, few.y_train).balanced_overlap)
    assert short.curves["relative margin"][1, i] == pytest.approx(fe.margins(X, few.y_train).relative.mean(), rel=1e-5)
    loss = fe.soft_nearest_neighbor_loss(X, few.y_train).loss
    assert short.curves["soft nearest neighbour loss"][1, i] == pytest.approx(loss, rel=1e-5)
    means = np.array([X[few.y_train == c].mean(0) for c in range(2)])
    spread = [((X[few.y_train == c] - means[c]) ** 2).sum(1).mean() for c in range(2)]
    cdnv = sum(spread) / 2 / ((means[0] - means[1]) ** 2).sum()
    assert short.curves["CDNV"][1, i] == pytest.approx(cdnv, rel=1e-4)
    nearest = NearestCentroid().fit(X, few.y_train).predict(X)
    assert short.curves["nearest-mean error"][1, i] == pytest.approx((nearest != few.y_train).mean(), abs=1 / 300)
    assert short.verdict.holds == "undecided"


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("pruning", {"share": 0}, "share=0"),
        ("pruning", {"draws": 0}, "draws=0"),
        ("generalization", {"points": 0}, "points=0"),
        ("generalization", {"noise": -1}, "noise=-1"),
        ("blocks", {"size": 674}, "size=674"),
        ("blocks", {"size": 2}, "size=2: a block lacks a class"),
        ("subsampling", {"sizes": (900, 500)}, "ascending numbers of points"),
        ("subsampling", {"sizes": (500, 5000)}, "sizes=5000"),
        ("sweep", {"cells": 217}, "cells=217"),
        ("sweep", {"lr": 0.1}, "lr=0.1: that varies in a sweep"),
        ("difficulty", {"noise": 0.9}, "noise=0.9"),
        ("difficulty", {"el2n_epoch": 99, "epochs": 9}, "el2n_epoch=99"),
        ("removal", {"shares": (0.3, 0.2)}, "ascending shares are needed"),
        ("removal", {"shares": "0.2"}, "a sequence of shares is needed"),
        ("removal", {"shares": (0.0005,)}, "shares=0.0005 of 1347 points is none"),
        ("stopping", {"noise": (0.1, 0.2)}, "ascending shares from 0 on"),
        ("stopping", {"noise": (0,)}, "at least 2 ascending shares from 0 on"),
        ("subsampling", {"sizes": ()}, r"sizes=\(\): ascending numbers of points"),
        ("stability", {"times": 5}, "times=5: a sequence of epochs is needed"),
        ("stopping", {"noise": 0.2}, "a sequence of shares is needed"),
        ("entanglement", {"points": 2}, "points=2"),
    ],
)
def test_bad_options(digits, function, options, message):
    with pytest.raises(fe.FastentError, match=message):
        getattr(ex, function)(digits, **options)


def three_classes(points=60):
    """So few points in three classes that the usual defaults do not fit them; three quarters are for training."""
    y = np.arange(points) % 3
    return np.random.default_rng(0).standard_normal((points, 4)) + 2 * (y[:, None] == np.arange(4)), y


@pytest.mark.train
def test_defaults_fit_few_points():
    options = {"seeds": 2, "epochs": 15, **ONE}
    blocks = ex.blocks(three_classes(15), **options)
    assert (blocks.size, blocks.config["blocks"]) == (5, 2)  # a third of 11 lacks a class
    sizes = ex.subsampling(three_classes(), **options).sizes
    assert sizes[-1] == 45
    assert 5 not in sizes
    assert len(sizes) >= 3
    assert ex.difficulty(three_classes(), noise=0.1, **options).config["el2n_epoch"] == 15
    removal = ex.removal(three_classes(), score="EL2N", draws=1, **options)
    np.testing.assert_array_equal(removal.shares, [0.1, 0.2, 0.4])
    np.testing.assert_array_equal(removal.removed, [3, 9, 18])
    for name, own in (("blocks", {"size": 3}), ("subsampling", {"sizes": (5, 20)}), ("removal", {"shares": (0.05, 0.4)})):
        points = three_classes(15 if name == "blocks" else 60)
        with pytest.raises(fe.FastentError, match=r"lacks a class|shares=0\.05 of 45 points is none"):
            getattr(ex, name)(points, **own, **options)


@pytest.mark.train
def test_a_class_of_stragglers_only_leaves_nothing_to_compare(digits, monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "straggler_share", property(lambda run: 0.6 * (run.codes == 1)))
    options = {"seeds": 1, "epochs": 12, **ONE}
    found = ex.pruning(digits.take(np.arange(60)), **options)
    assert found.verdict == ("undecided", "All points of a class are stragglers: without them there is nothing to compare.")
    assert_whole(found, tmp_path)
    with pytest.raises(fe.FastentError, match=r"share=0\.4: all points of a class are stragglers; raise it"):
        ex.pruning(digits.take(np.arange(60)), share=0.4, **options)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("pruning", {"share": 0}),
        ("pruning", {"draws": 0}),
        ("generalization", {"points": 0}),
        ("generalization", {"noise": -1}),
        ("stability", {"pairs": 2}),
        ("stability", {"times": [5, 5]}),
        ("removal", {"shares": [0.2, 0.1]}),
        ("stopping", {"noise": [0.1]}),
        ("blocks", {"size": 1}),
        ("subsampling", {"draws": 0}),
        ("sweep", {"cells": 217}),
        ("difficulty", {"noise": 0.9}),
        ("removal", {"score": "loss"}),
        ("removal", {"draws": 0}),
        ("entanglement", {"queries": 0}),
        ("dynamics", {"seeds": 0}),
        ("dynamics", {"epochs": -1}),
    ],
)
def test_options_are_refused_before_data_are_read(function, options, tmp_path):
    name, value = next(iter(options.items()))
    with pytest.raises(fe.FastentError, match=f"^{re.escape(f'{name}={value!r}')}"):
        getattr(ex, function)(tmp_path / "none.npz", out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


SMALL = {
    "dynamics": {},
    "pruning": {"draws": 1},
    "generalization": {"points": 3},
    "stability": {"pairs": 3},
    "blocks": {},
    "subsampling": {"draws": 2},
    "sweep": {"cells": 8},
    "layers": {},
    "difficulty": {"el2n_epoch": 5},
    "removal": {"shares": (0.1, 0.3), "draws": 1},
    "stopping": {"noise": (0, 0.2)},
    "entanglement": {"points": 12},
}


@pytest.mark.train
@pytest.mark.parametrize("name", [name for name in SMALL if name != "sweep"])
def test_experiments_with_batches(digits, name, tmp_path, monkeypatch):
    """Records lie within passes: what an experiment takes at an epoch is what is recorded there."""
    monkeypatch.setattr(sys.modules["fastent.experiments._difficulty"], "_RESAMPLES", 20)
    few = digits.take(np.arange(200))
    found = getattr(ex, name)(few, seeds=2, epochs=12, batch_size=20, out=tmp_path, **SMALL[name], **ONE)
    assert found.verdict.holds in ("yes", "no", "undecided")
    assert found.table().rows
    figure, _ = found.plot()
    pyplot.close(figure)
    if name == "stability":
        alone = fe.train(few, seeds=6, epochs=int(np.ceil(found.times[-1])), batch_size=20, lr=0.2, **ONE)
        np.testing.assert_array_equal(found.train_error, alone.train_error[:, alone.positions(found.times)].mean(0))
    if name == "generalization":
        run = fe.train(few, seeds=2, epochs=12, batch_size=20, lr=0.2, **ONE)
        for t, errors in zip(found.times, found.train_error, strict=True):
            np.testing.assert_array_equal(errors, run.misclassified(t).mean(1))
    if name == "difficulty":
        run = fe.train(few, seeds=2, epochs=12, batch_size=20, **ONE)
        wrong = np.mean([run.misclassified(epoch) for epoch in range(13)], axis=(0, 1))
        np.testing.assert_allclose(found.scores["incorrectness"], wrong)


@pytest.mark.train
@pytest.mark.parametrize("kind", ["two blobs", "noise labels", "no errors"])
@pytest.mark.parametrize("name", list(SMALL))
def test_easy_and_hopeless_data_have_a_verdict(name, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["fastent.experiments._difficulty"], "_RESAMPLES", 20)
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2 if kind != "noise labels" else rng.integers(0, 2, 160)
    x = rng.standard_normal((160, 2)) + (0 if kind == "noise labels" else 10 * labels[:, None])
    # Here some radii turn where every point is right.
    options = {"activation": "relu", "optimizer": "adam", "lr": 0.03} if kind == "no errors" and name != "sweep" else {}
    found = getattr(ex, name)((x, labels), seeds=2, epochs=90, **SMALL[name], **options, **ONE)
    # Radii turn with random labels too, and networks agree on which of these they get wrong: stability claims no more.
    assert found.verdict.holds in ("no", "undecided") or (name, kind) == ("stability", "noise labels")
    assert found.verdict.sentence
    assert found.table().rows
    assert found.numbers()
    found.save(tmp_path)
    figure, _ = found.plot()
    pyplot.close(figure)
