"""The experiment `sweep`: its design, its analysis of variance, nulls, power and verdicts."""

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
from matplotlib import pyplot
from scipy.stats import f_oneway, ttest_ind

import fastent as fe
import fastent.experiments as ex
from fastent.errors import DivergedError
from fastent.experiments._sweep import (
    _OF_SCALE,
    FACTORS,
    Sweep,
    _design,
    _factors,
    _layers,
    analysis_of_variance,
    largest_differences,
)
from fastent.experiments.critical import mean_of_found
from fastent.experiments.steadiness import QUESTION, steadiness
from fastent.statistics.spread_ratio import log_share, relative_spread
from tests.experiments.test_claims import ONE, assert_kept, assert_whole

POINTS = 8192


@pytest.fixture(scope="module")
def digits():
    return fe.load_data("digits")


@pytest.mark.parametrize("cells", [8, 48, 100, 200, 216])
def test_a_sweep_is_balanced(cells):
    design = _design(cells, 0)
    assert len({tuple(cell.values()) for cell in design}) == cells
    for name, levels in FACTORS.items():
        counts = [sum(cell[name] == level for cell in design) for level in levels]
        assert max(counts) - min(counts) <= 1
    assert _design(cells, 0) == design


@pytest.mark.train
def test_sweep(digits, tmp_path_factory, tmp_path, monkeypatch):
    kept = tmp_path_factory.mktemp("kept")
    options = {"data": digits, "seeds": 1, "cells": 8, "epochs": 300, **ONE}
    found = ex.sweep(out=kept, **options)
    assert found.critical_errors.shape == (8, 1)
    assert all(reason or not np.isnan(errors).any() for reason, errors in zip(found.reasons, found.critical_errors))
    for factor in found.factors.values():
        assert len(factor.levels) == len(factor.critical_error) == len(factor.found)
        assert np.isnan(factor.eta_squared) or 0 <= factor.eta_squared <= 1
    assert_whole(found, tmp_path)
    assert_kept(ex.sweep, kept, found, monkeypatch, **options)
    none = ex.sweep(digits, seeds=1, cells=8, epochs=30, **ONE)
    assert none.verdict.holds == "undecided"
    said = "Too few cells have an inversion of every class to compare: 0 % of the radii turn; of the others: still falling at the last "
    assert none.verdict.sentence.startswith(said)
    assert sum(sum(none.reasons, Counter()).values()) == 16  # every radius once
    assert none.verdict.sentence.count("still falling") == 1
    assert_whole(none, tmp_path)


@cache
def design_of(cells):
    return _design(cells, 0)


def made_up_sweep(errors, cells=48, *, fixed=None, seeds=1, turning=1.0):
    """From eps* (and the error at a fixed epoch) of each cell's networks; of so many in all, the first of the cells."""
    design = design_of(cells)
    values = np.array([[errors(cell) for _ in range(seeds)] for cell in design])
    at_epoch = values if fixed is None else np.array([[fixed(cell) for _ in range(seeds)] for cell in design])
    values.ravel()[round(turning * values.size) :] = np.nan
    return Sweep(
        {"data": "made up", "seeds": seeds}, design, values, [Counter()] * cells,
        _factors(design, values, at_epoch, np.isfinite(values)[..., None], POINTS), [],
        relative_spread([log_share(row, POINTS) for row in values]),
        steadiness(mean_of_found(values), mean_of_found(at_epoch), [50.0], POINTS), 0, turning,
    )  # fmt: skip


def test_a_sweep_says_no_more_than_its_intervals():
    rng = np.random.default_rng(0)
    weak = made_up_sweep(lambda cell: 0.06 + rng.normal(0, 0.001))
    assert weak.verdict.holds == weak.further[_OF_SCALE].holds == "yes"
    doubled = made_up_sweep(lambda cell: 0.06 * (1 + (cell["depth"] == 2)) + rng.normal(0, 0.001))
    assert doubled.verdict.holds == "no"
    assert "Depth moves it most: by a factor of 2.0" in doubled.verdict.sentence
    assert doubled.factors["depth"].ratio.low > 1.8
    loud = made_up_sweep(lambda cell: 0.06 + rng.normal(0, 0.015))
    assert loud.verdict.holds == "undecided"
    assert "inconclusive for" in loud.verdict.sentence
    missing = made_up_sweep(lambda cell: np.nan if cell["optimizer"] == "adam" else 0.06 + rng.normal(0, 0.001))
    assert missing.verdict.holds == "undecided"
    assert missing.verdict.sentence.endswith("inconclusive for optimizer.")
    assert missing.factors["optimizer"].ratio.high == np.inf
    zero = made_up_sweep(lambda cell: 0.0)
    assert zero.verdict.holds == "undecided"
    for result in (loud, missing, zero):
        pyplot.close(result.plot()[0])
        assert len(result.table().rows) == 15


def test_the_scale_of_the_initial_weights_has_a_verdict_of_its_own():
    rng = np.random.default_rng(1)
    found = made_up_sweep(lambda cell: 0.06 * cell["initial scale"] ** 0.4 * np.exp(rng.normal(0, 0.01)))
    assert found.verdict.holds == "yes"
    assert found.further[_OF_SCALE].holds == "no"
    assert found.factors["initial scale"].ratio.value == pytest.approx(4**0.4, rel=0.05)
    loud = made_up_sweep(lambda cell: 0.06 * np.exp(rng.normal(0, 0.25)))
    assert loud.further[_OF_SCALE].holds == "undecided"


def test_the_draw_of_the_initial_weights_is_the_spread_within_cells():
    rng = np.random.default_rng(2)
    found = made_up_sweep(lambda cell: 0.06 * (1 + (cell["width"] == 40)) * np.exp(rng.normal(0, 0.05)), seeds=5)
    assert found.draw_spread.low < 0.05 < found.draw_spread.high
    assert found.draw_spread.high < 0.07


def test_a_selection_of_the_networks_is_no_yes():
    rng = np.random.default_rng(3)
    assert made_up_sweep(lambda cell: 0.06 + rng.normal(0, 0.001), turning=0.95).verdict.holds == "yes"
    few = made_up_sweep(lambda cell: 0.06 + rng.normal(0, 0.001), turning=0.8)
    assert few.verdict.holds == "undecided"
    assert few.verdict.sentence.endswith("Networks with an inversion are a selection.")
    assert few.further[_OF_SCALE].holds == "undecided"


@pytest.mark.parametrize("spread", [0.03, 0.06, 0.1])
def test_a_factor_at_the_limit_is_seldom_weak(spread):
    """Of cells whose levels are exchanged at random too, but for one factor that moves eps* by as much as is not weak."""
    rng = np.random.default_rng(4)
    found = [
        made_up_sweep(lambda cell: 0.06 * 1.2 ** (cell["depth"] == 2) * np.exp(rng.normal(0, spread))).verdict.holds
        for _ in range(200)
    ]
    assert found.count("yes") <= 0.05 * 200


def test_exchanged_levels_move_nothing():
    """Intervals hold at once: of cells whose factors do nothing, seldom does any of the six ratios exclude 1."""
    rng = np.random.default_rng(5)
    found = [made_up_sweep(lambda cell: 0.06 * np.exp(rng.normal(0, 0.1))) for _ in range(200)]
    assert np.mean([any(factor.ratio.low > 1 for factor in each.factors.values()) for each in found]) <= 0.05
    assert all(factor.ratio.low >= 1 for each in found for factor in each.factors.values())
    assert "no" not in [each.verdict.holds for each in found]


def test_intervals_stay_in_their_range():
    rng = np.random.default_rng(6)
    found = made_up_sweep(lambda cell: rng.choice([0.001, 0.95]), cells=8)
    for factor in found.factors.values():
        assert all(each.low >= 0 and each.high <= 1 for each in factor.critical_error if not np.isnan(each.low))
        assert not factor.ratio.value < 1


def test_steadier_than_at_a_fixed_epoch():
    rng = np.random.default_rng(7)
    rates = {"sgd": 0.05, "momentum": 0.08, "adam": 0.02}
    steady = made_up_sweep(
        lambda cell: 0.06 * np.exp(rng.normal(0, 0.05)),
        fixed=lambda cell: rates[cell["optimizer"]] * np.exp(rng.normal(0, 0.05)),
    )
    assert steady.further[QUESTION].holds == "yes"
    assert steady.factors["optimizer"].at_fixed_epoch.value == pytest.approx(4, rel=0.1)
    same = made_up_sweep(lambda cell: 0.06 * np.exp(rng.normal(0, 0.05)), fixed=lambda cell: 0.06 * np.exp(rng.normal(0, 0.05)))
    assert same.further[QUESTION].holds == "no"


def test_where_no_class_turns_in_half_of_the_networks_the_share_of_radii_is_told():
    """Each of two classes turns in a quarter of the networks."""
    by_class = np.full((8, 2, 2), np.nan)
    by_class[::2, 0, 0] = by_class[::2, 1, 1] = 0.06
    reasons = {"rose before it fell": 1, "the rise is below min_rise": 2}
    design = design_of(8)
    profiles = _layers(design, [{"errors": np.stack([each] * 2), "reasons": [json.dumps(reasons)] * 2} for each in by_class])
    assert [(each.depth, each.layer) for each in profiles] == [(1, 1), (2, 1), (2, 2)]
    cells = [sum(cell["depth"] == depth for cell in design) for depth in (1, 2, 2)]
    assert [each.reasons["rose before it fell"] for each in profiles] == cells
    found = [np.isfinite(by_class[[cell["depth"] == depth for cell in design]]).mean() for depth in (1, 2, 2)]
    assert [each.found for each in profiles] == found
    errors = np.full((8, 2), np.nan)
    factors = _factors(design, errors, errors, np.isfinite(by_class), POINTS)
    assert factors["depth"].found == found[:2]
    sweep = Sweep({"data": "made up", "seeds": 2}, design, errors, [Counter(reasons)] * 8, factors, profiles,
                  relative_spread([log_share(row, POINTS) for row in errors]),
                  steadiness(errors[:, 0], errors[:, 0], [50.0], POINTS), 0, 0.25)  # fmt: skip
    assert sweep.verdict.sentence == (
        "Too few cells have an inversion of every class to compare: 25 % of the radii turn; of the others: "
        "the rise is too small to count (16), rose before it fell (8)."
    )
    assert [row[1:3] for row in sweep.table().rows[-3:]] == [("\u2013", f"{100 * share:.0f} %") for share in found]


@pytest.mark.train
def test_networks_that_turn_within_the_burn_in_are_told(digits):
    options = {"seeds": 1, "cells": 8, "epochs": 120, **ONE}
    assert ex.sweep(digits, **options).burnt == 0
    found = ex.sweep(digits, burn_in=60, **options)
    assert found.burnt > 0
    assert f"{found.burnt} turn within the burn-in and are not compared" in found.verdict.sentence


def test_differences_between_levels():
    rng = np.random.default_rng(0)
    level = np.repeat([0, 1], 9)
    values = rng.normal(1, 0.2, 18) + level
    found = largest_differences(values, {"a": level}, {"a": 2})["a"]
    interval = ttest_ind(values[level == 1], values[level == 0]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    covered = 0
    a, b = np.arange(36) % 3, np.arange(36) // 3 % 2
    for _ in range(300):
        values = np.array([0.0, 0.3, 1.0])[a] + rng.standard_normal(36)
        found = largest_differences(values, {"a": a, "b": b}, {"a": 3, "b": 2})
        covered += found["a"].low <= 1 <= found["a"].high and found["b"].low <= 0 <= found["b"].high
    assert covered >= 0.92 * 300
    without_freedom = largest_differences(values[:3], {"a": a[:3]}, {"a": 3})["a"]
    assert np.isnan([without_freedom.low, without_freedom.high]).all()


def test_what_diverges_is_told_by_its_class(digits, monkeypatch):
    def raises(error):
        def train(*arguments, **options):
            raise error

        return train

    options = {"seeds": 1, "cells": 8, "epochs": 30, **ONE}
    monkeypatch.setattr("fastent.experiments.setting.train", raises(DivergedError("no longer finite")))
    assert ex.sweep(digits, **options).reasons == [{"training diverged": 2}] * 8
    monkeypatch.setattr("fastent.experiments.setting.train", raises(fe.FastentError("opinions diverged")))
    with pytest.raises(fe.FastentError, match="opinions"):
        ex.sweep(digits, **options)


def test_analysis_of_variance():
    rng = np.random.default_rng(0)
    levels = np.repeat([0, 1, 2], [9, 14, 11])
    values = rng.standard_normal(34) + levels
    eta, f, p = analysis_of_variance(values, {"a": levels})["a"]
    expected = f_oneway(*(values[levels == i] for i in range(3)))
    assert (f, p) == pytest.approx((expected.statistic, expected.pvalue))
    total = ((values - values.mean()) ** 2).sum()
    within = sum(((values[levels == i] - values[levels == i].mean()) ** 2).sum() for i in range(3))
    assert eta == pytest.approx(1 - within / total)
    # A balanced second factor changes what is left, not what the first explains.
    a, b = np.repeat([0, 1], 12), np.tile([0, 1, 2], 8)
    values = 0.5 * a + 2.0 * b + rng.standard_normal(24)
    effects = analysis_of_variance(values, {"a": a, "b": b, "constant": np.zeros(24, int)})
    between = 24 * ((values[a == 1].mean() - values[a == 0].mean()) / 2) ** 2
    fitted = values[a == 0].mean() + (values[a == 1].mean() - values[a == 0].mean()) * a
    fitted = fitted + np.array([values[b == i].mean() for i in b]) - values.mean()
    left = ((values - fitted) ** 2).sum()
    assert effects["a"][0] == pytest.approx(between / (between + left))
    assert effects["a"][1] == pytest.approx(between / (left / 20))
    assert np.isnan(effects["constant"][0])
