"""The experiment `subsampling`: its null, its verdicts, and what it computes."""

import numpy as np
import pytest
from matplotlib import pyplot

import fastent as fe
import fastent.experiments as ex
from fastent.experiments._subsampling import Subsampling, _mean, change_per_doubling, compared
from fastent.statistics.intervals import student_mean
from tests.experiments.test_claims import ONE, assert_kept, assert_whole

SIZES = np.array([1024, 1448, 2048, 2896, 4096, 5793, 8192])


def made_up(curve, rng, *, scatter=0.25, draws=6, seeds=3, reasons=()):
    """Subsets of the same points, with a curve (size to eps*), and networks that differ little."""
    deviations = scatter * rng.standard_normal(SIZES[-1])
    errors = []
    for size in SIZES:
        subsets = [rng.choice(deviations, size, replace=False).mean() for _ in range(draws if size < SIZES[-1] else 1)]
        errors.append(curve(size) + np.array(subsets)[:, None] + 0.001 * rng.standard_normal((len(subsets), seeds)))
    return of_errors(errors, reasons or [""] * len(SIZES))


def of_errors(errors, reasons):
    shares, estimates = np.array([np.isfinite(each).mean() for each in errors]), [_mean(each) for each in errors]
    return Subsampling(
        {"data": "made up", "seeds": 3}, SIZES, errors, errors, errors, shares, estimates, estimates, estimates,
        **compared(SIZES, shares, errors, errors, SIZES[-1]), reasons=list(reasons), compared="",
    )  # fmt: skip


def saturating(size):
    return 0.1 * (1 - 541 / size)


def test_what_settles_is_found_to():
    rng = np.random.default_rng(0)
    found = [made_up(saturating, rng, scatter=0.1).verdict.holds for _ in range(200)]
    assert found.count("yes") >= 0.8 * 200
    assert "no" not in found
    first = made_up(saturating, rng, scatter=0.1)
    assert first.change.low > 0.05  # on average over the sizes it grows all the same
    assert "settled means" in first.verdict.sentence
    pyplot.close(first.plot()[0])


@pytest.mark.parametrize("growth", [0.1, -0.1])
def test_what_changes_as_much_with_every_doubling_seldom_settles(growth):
    rng = np.random.default_rng(1)
    for scatter in (0.05, 0.25):
        results = [made_up(lambda size: 0.1 * (1 + growth * np.log2(size / 8192)), rng, scatter=scatter) for _ in range(200)]
        assert np.mean([each.verdict.holds == "yes" for each in results]) <= 0.05


def test_fast_growth_is_a_no_and_loud_subsets_leave_it_open():
    rng = np.random.default_rng(2)
    fast = [made_up(lambda size: 0.1 * 1.3 ** np.log2(size / 8192), rng, scatter=0.03).verdict.holds for _ in range(100)]
    assert fast.count("no") >= 80
    loud = [made_up(saturating, rng, scatter=1.5, draws=2).verdict.holds for _ in range(100)]
    assert loud.count("undecided") >= 80


def test_sizes_at_which_few_networks_turn_do_not_enter_the_curve():
    rng = np.random.default_rng(3)
    whole = made_up(saturating, rng)
    errors = [each.copy() for each in whole.critical_errors]
    errors[0][:2] = np.nan
    errors[0][2:] = 0.9
    fewer = of_errors(errors, ["still falling (6)"] + [""] * 6)
    assert fewer.curve.limit.value == pytest.approx(whole.curve.limit.value, rel=0.1)
    assert "From 1,448 to 8,192 points" in fewer.verdict.sentence
    two = of_errors([np.full_like(each, np.nan) for each in errors[:5]] + errors[5:], ["still falling (6)"] * 5 + ["", ""])
    assert two.verdict.holds == "undecided"
    assert two.verdict.sentence.endswith("Whether it settles takes three sizes.")
    none = of_errors([np.full_like(each, np.nan) for each in errors], ["still falling (6)"] * 7)
    assert none.verdict.holds == "undecided"
    assert "Too few sizes at which 90 % of the networks turn: 1024 points: still falling (6)" in none.verdict.sentence
    for each in (two, none):
        pyplot.close(each.plot()[0])


def test_change_for_each_doubling():
    errors = np.array([0.1, 0.1, 0.2, 0.32, np.nan])
    change = change_per_doubling(np.array([100, 100, 200, 400, 800]), errors)
    assert change.value == pytest.approx(np.polyfit([0, 0, 1, 2], errors[:4], 1)[0] / 0.18)
    assert change.low < change.value < change.high
    assert np.isnan(change_per_doubling(np.array([100, 200]), np.array([0.1, np.nan])).value)


def test_networks_of_one_subset_are_one_repetition():
    errors = np.array([[0.10, 0.11, np.nan], [0.05, 0.06, 0.055], [0.07, 0.07, 0.07]])
    assert _mean(errors) == pytest.approx(student_mean([0.105, 0.055, 0.07]))
    assert _mean(errors[1:2]) == student_mean(errors[1])
    apart = _mean(np.array([[0.9], [0.1]]))
    assert (apart.low, apart.high) == (0, 1)


def test_inversions_without_an_error_cannot_change():
    found = of_errors([np.zeros((2, 2))] * 6 + [np.zeros((1, 2))], [""] * 7)
    assert np.isnan(found.change.value)
    assert found.verdict.holds == "undecided"
    assert "training error of 0" in found.verdict.sentence


@pytest.mark.train
def test_subsampling(tmp_path, monkeypatch):
    digits = fe.load_data("digits")
    options = {"data": digits, "seeds": 2, "sizes": (150, 900, 1347), "draws": 2, **ONE}
    found = ex.subsampling(out=tmp_path, **options)
    assert [errors.shape for errors in found.critical_errors] == [(2, 2), (2, 2), (1, 2)]
    assert found.shares[-1] == 1
    assert found.shares[0] < 1
    assert "still falling" in found.reasons[0] or "prominence" in found.reasons[0]
    run = fe.train(digits, seeds=2, test_every=2, **ONE)
    np.testing.assert_allclose(
        found.critical_errors[2][0], [np.mean([i.train_error for i in row]) for row in run.inversion[:, -1]]
    )
    own = [[run.misclassified(row[c].epoch)[s, run.codes == c].mean() for c in range(2)]
           for s, row in enumerate(run.inversion[:, -1])]  # fmt: skip
    np.testing.assert_allclose(found.own_class_errors[2][0], np.mean(own, axis=1))
    assert_whole(found, tmp_path)
    assert_kept(ex.subsampling, tmp_path, found, monkeypatch, **options)
    none = ex.subsampling(digits, seeds=1, sizes=(200, 300), draws=1, epochs=40, **ONE)
    assert none.verdict.holds == "undecided"
    assert "still falling at the last record" in none.verdict.sentence
    assert_whole(none, tmp_path)
