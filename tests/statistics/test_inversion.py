import numpy as np
import pytest
from fastent.kernels.monotone import best_turn, prefix_errors, second_differences
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter
from scipy.stats import ttest_1samp
from sklearn.isotonic import IsotonicRegression

import fastent as fe
from bench.inversion_power import NOISES
from fastent.statistics.inversion import Inversion, find_inversion, fitted_curve, summarize_inversions
from fastent.statistics.turning import LEAST_RECORDS, _running_median, find_turns
from tests import naive

EPOCH = np.arange(501)
ERROR = 0.5 * np.exp(-EPOCH / 100)
SMALL = st.lists(st.integers(0, 6), min_size=1, max_size=9)


def valley(bottom=150, depth=0.15, rise=0.07):
    """Falls by `depth` until `bottom`, then rises by `rise`."""
    fall = depth * (1 - EPOCH[: bottom + 1] / bottom) ** 2
    climb = rise * (np.arange(len(EPOCH) - bottom) / (len(EPOCH) - bottom)) ** 2
    return 0.8 + np.concatenate([fall, climb[1:]])


def test_the_bottom_of_a_valley():
    found = find_inversion(EPOCH, valley(), ERROR)
    assert found
    assert (found.epoch, found.index) == (150, 150)
    assert found.value == pytest.approx(0.8, abs=1e-5)
    assert found.train_error == pytest.approx(ERROR[150], rel=1e-3)
    assert found.prominence == pytest.approx(0.07, rel=0.1)
    assert found.rebound == pytest.approx(0.07 / 0.15, rel=0.1)
    assert found.turns == (150,)
    assert found.reason == ""
    for name in ("epoch", "value", "train_error"):
        low, high = getattr(found, f"{name}_interval")
        assert low <= getattr(found, name) <= high


def test_epochs_need_not_be_consecutive():
    found = find_inversion(EPOCH[::5], valley()[::5], ERROR[::5])
    assert (found.epoch, found.index) == (150, 30)


@pytest.mark.parametrize("scale", [0.01, 3, 512])
def test_passes_and_updates_have_one_inversion(scale):
    whole, parts = (find_inversion(EPOCH * unit, valley(), ERROR) for unit in (1, scale))
    assert whole.index == parts.index
    assert parts.epoch == pytest.approx(150 * scale)


@pytest.mark.parametrize(("factor", "shift"), [(1e-6, 0), (1e6, 5), (1, -3)])
def test_the_unit_of_the_curve_does_not_matter(factor, shift):
    noisy = valley() + 0.003 * np.random.default_rng(0).standard_normal(len(EPOCH))
    one, other = find_inversion(EPOCH, noisy, ERROR), find_inversion(EPOCH, noisy * factor + shift, ERROR)
    assert (other.index, other.epoch_interval) == (one.index, one.epoch_interval)
    assert other.rebound == pytest.approx(one.rebound)


def test_a_maximum_is_a_minimum_upside_down():
    assert find_inversion(EPOCH, -valley(), ERROR, kind="max").epoch == 150
    assert find_inversion(EPOCH, EPOCH * 1.0, ERROR, kind="max").reason == "still rising at the last record"
    assert find_inversion(EPOCH, -EPOCH * 1.0, ERROR, kind="max").reason == "fell before it rose"
    assert find_inversion(EPOCH, -valley(rise=0.003), ERROR, kind="max").reason == "the fall is below min_rise"


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (-np.log1p(EPOCH), "still falling at the last record"),
        (EPOCH * 1.0, "rose before it fell"),
        (valley(rise=0.003), "the rise is below min_rise"),
        (np.exp(-EPOCH / 20), "no rise after the fall"),
        (np.full(501, 0.7), "did not move"),
        (0.7 + 1e-7 * np.sin(EPOCH), "did not move"),
    ],
)
def test_no_inversion_and_why(curve, reason):
    found = find_inversion(EPOCH, curve, ERROR)
    assert not found
    assert found == Inversion(False, reason)


def test_the_interior_rule_and_its_reasons():
    assert find_inversion(EPOCH, valley(), ERROR, rule="interior").index == 150
    for curve, reason in (
        (1 / (1 + EPOCH), "still falling at the last record"),
        (EPOCH * 1.0, "rose before it fell"),
        (valley(rise=0.003), "the rise is below min_rise"),
    ):
        assert find_inversion(EPOCH, curve, ERROR, rule="interior") == Inversion(False, reason)


@pytest.mark.parametrize("noise", [0, 1e-4, 3e-3])
def test_a_plateau_is_not_called_falling(noise):
    curve = 0.8 + 0.15 * np.exp(-EPOCH / 15) + noise * np.random.default_rng(0).standard_normal(501)
    assert find_inversion(EPOCH, curve, ERROR).reason in ("no rise after the fall", "the rise is below min_rise")


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ((["a"] * 501, ERROR), "curve has dtype <U1: numbers are needed"),
        ((valley(), 100 * ERROR), "train_error has 50: shares of misclassified points, from 0 to 1, are needed"),
        ((np.ma.masked_less(valley(), 0.81), ERROR), "curve is a masked array"),
        ((valley() * 1e150, ERROR), "curve has values of up to .*: divide them by a power of ten"),
        ((valley() * 1j, ERROR), "curve has dtype complex128: numbers are needed"),
    ],
)
def test_what_is_no_curve_is_refused(curves, message):
    with pytest.raises(fe.FastentError, match=message):
        find_inversion(EPOCH, *curves)


def test_tensors_are_curves():
    torch = pytest.importorskip("torch")
    for made in (torch.tensor(valley()).requires_grad_(), torch.tensor(valley()).bfloat16()):
        assert find_inversion(torch.arange(501), made, torch.tensor(ERROR)).epoch == pytest.approx(150, abs=30)


def test_a_radius_that_rises_and_then_falls_to_the_end_may_still_turn():
    rises_first = np.where(EPOCH < 60, 1.0 + EPOCH / 60, 2.0 - (EPOCH - 60) / 2000)
    assert find_inversion(EPOCH, rises_first, ERROR).reason == "still falling at the last record"
    assert find_inversion(EPOCH, rises_first, ERROR, rule="interior").reason == "rose before it fell"


@pytest.mark.parametrize("n", [0, 1, 3, LEAST_RECORDS - 1])
def test_few_records_are_no_error(n):
    found = find_inversion(EPOCH[:n], valley()[:n], ERROR[:n])
    assert found == Inversion(False, f"too few records ({n} of at least {LEAST_RECORDS})")


def test_a_turn_within_twenty_updates_counts_and_a_burn_in_leaves_it_out():
    epoch = np.arange(60)
    curve = 0.7 + 0.3 * np.abs(np.log((epoch + 0.5) / 8)) / np.log(16)
    found = find_inversion(epoch, curve, np.linspace(0.5, 0.01, 60))
    assert found.epoch in (7, 8)
    assert find_inversion(epoch, curve, np.linspace(0.5, 0.01, 60), burn_in=20).reason == "rose before it fell"
    assert find_inversion(epoch, curve, ERROR[:60], burn_in=55).reason == "too few records (5 of at least 10 past burn_in=55)"


def test_of_several_turns_the_first_is_the_inversion():
    epoch = np.arange(2001)
    x = np.log1p(epoch)
    curve = 0.8 + 0.1 * np.cos(2 * np.pi * x / x[-1] * 2.5)  # falls, rises, falls, rises, falls
    found = find_inversion(epoch, curve, np.linspace(0.5, 0, 2001))
    assert len(found.turns) == 2
    assert found.epoch == found.turns[0]
    np.testing.assert_allclose(np.log1p(found.turns), x[-1] * np.array([0.2, 0.6]), atol=0.1)


def test_a_later_collapse_does_not_hide_the_inversion():
    curve = np.concatenate([valley(), valley()[-1] - 0.001 * np.arange(1, 400)])
    epoch = np.arange(len(curve))
    assert curve[-1] < curve[150]
    assert find_inversion(epoch, curve, np.linspace(0.5, 0, len(curve))).epoch == 150


@pytest.mark.parametrize("noise", NOISES)
def test_noise_on_a_falling_curve_is_no_inversion(noise):
    random = np.random.default_rng(1)
    false = dict.fromkeys(("shape", "interior"), 0)
    for _ in range(100):
        curve = np.exp(-EPOCH / random.uniform(10, 200)) + 0.01 * NOISES[noise](len(EPOCH), random)
        for rule in false:
            false[rule] += bool(find_inversion(EPOCH, curve, ERROR, rule=rule))
    assert false["shape"] <= 5
    assert false["interior"] >= 50 or noise in ("AR(1) 0.9", "period 2")  # what the shape is needed for


def test_random_walks_are_no_inversions():
    random = np.random.default_rng(2)
    assert sum(bool(find_inversion(EPOCH, np.cumsum(random.standard_normal(501)), ERROR)) for _ in range(200)) <= 15


@pytest.mark.parametrize("noise", NOISES)
def test_turns_are_found_through_noise_and_their_intervals_hold_them(noise):
    random = np.random.default_rng(3)
    found, covered = 0, 0
    for _ in range(50):
        bottom = int(random.integers(60, 300))
        curve = valley(bottom, 1, 0.15) + 0.01 * NOISES[noise](len(EPOCH), random)
        inversion = find_inversion(EPOCH, curve, ERROR)
        found += bool(inversion)
        covered += bool(inversion) and inversion.epoch_interval[0] <= bottom <= inversion.epoch_interval[1]
    assert found >= 47
    assert covered >= 0.9 * found


def test_the_error_at_an_oscillating_inversion_is_that_of_neighbouring_records():
    noisy = (ERROR + 0.05 * (-1.0) ** EPOCH).clip(0)
    found = find_inversion(EPOCH, valley() + 0.01 * (-1.0) ** EPOCH, noisy)
    assert found.train_error == pytest.approx(ERROR[found.index], abs=0.02)
    assert found.train_error_interval[0] <= ERROR[150] <= found.train_error_interval[1]


def test_the_fitted_curve_is_piecewise_monotone_and_near_the_records():
    noisy = valley() + 0.002 * np.random.default_rng(0).standard_normal(len(EPOCH))
    epoch, fit = fitted_curve(EPOCH, noisy)
    turns = np.sign(np.diff(fit))
    turns = turns[turns != 0]
    assert (np.diff(turns) != 0).sum() <= 3
    np.testing.assert_allclose(fit, np.interp(epoch, EPOCH, valley()), atol=0.02)


@given(SMALL, st.sampled_from([1.0, -1.0]), st.data())
def test_errors_of_monotone_fits(values, sign, data):
    y = np.array(values, float)
    w = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(y), max_size=len(y))), float)
    errors = np.empty(len(y))
    prefix_errors(y, w, sign, errors)
    np.testing.assert_allclose(errors, [naive.monotone_error(y[: j + 1], w[: j + 1], sign) for j in range(len(y))], atol=1e-9)
    referee = IsotonicRegression(increasing=sign > 0).fit(np.arange(len(y)), y, sample_weight=w).predict(np.arange(len(y)))
    np.testing.assert_allclose(naive.monotone_fit(y, w, sign), referee, atol=1e-9)


@given(SMALL, st.data())
def test_the_best_turn_against_all_there_are(values, data):
    y = np.array(values, float)
    w = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(y), max_size=len(y))), float)
    cuts, fit = np.empty(3, np.int64), np.empty(len(y))
    errors = best_turn(y, w, cuts, fit)
    np.testing.assert_allclose(errors, naive.best_turn_error(y, w), atol=1e-9)
    assert np.sum(w * (y - fit) ** 2) == pytest.approx(errors[1], abs=1e-9)
    assert 0 <= cuts[0] <= cuts[1] <= cuts[2] <= len(y)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=40), st.integers(1, 6))
def test_second_differences_of_means(values, h):
    if len(values) >= 3 * h:
        y = np.array(values)
        assert second_differences(y, h) == pytest.approx(naive.second_differences(y, h), abs=1e-12)


@given(
    n=st.integers(LEAST_RECORDS, 300),
    bottom=st.floats(0.03, 0.8),
    steepness=st.sampled_from([0.3, 0.5, 1, 2, 3]),
    rebound=st.floats(0.06, 2),
    level=st.sampled_from([0, 0.001, 0.01, 0.05]),
    seed=st.integers(0, 2**31),
)
def test_what_is_said_of_a_turn_agrees_with_itself(n, bottom, steepness, rebound, level, seed):
    at = max(1, int(bottom * n))
    away = (np.arange(n) - at) / n
    curve = np.where(away < 0, np.abs(away / away[0]) ** steepness, rebound * np.abs(away / away[-1]) ** steepness)
    curve += level * np.random.default_rng(seed).standard_normal(n)
    error = np.linspace(0.5, 0.01, n)
    for turn in find_turns(np.arange(n, dtype=float), curve, 0.05).turns:
        assert 0 <= turn.start <= turn.low <= turn.lowest <= turn.high < turn.stop <= n
        assert min(turn.fall, turn.rise, turn.to_noise) > 0
    found = find_inversion(np.arange(n), curve, error)
    if found:
        assert min(found.rebound, found.prominence, found.rise_to_noise) > 0
        assert found.epoch == found.turns[0] == found.index
        assert sorted(found.turns) == list(found.turns)
        for name in ("epoch", "value", "train_error"):
            low, high = getattr(found, f"{name}_interval")
            assert low <= getattr(found, name) <= high


def test_valleys_without_noise_are_found():
    for n in (60, 200, 1000):
        for bottom in (n // 10, n // 3, n // 2):
            away = (np.arange(n) - bottom) / n
            curve = np.where(away < 0, (away / away[0]) ** 2, 0.3 * (away / away[-1]) ** 2)
            assert find_inversion(np.arange(n), curve, np.zeros(n)).epoch == pytest.approx(bottom, abs=1)


def test_later_noise_does_not_hide_an_earlier_turn():
    random = np.random.default_rng(0)
    epoch, found = np.arange(3000), 0
    for _ in range(50):
        curve = np.interp(np.log1p(epoch), np.log1p([0, 20, 200, 2999]), [1, 0, 0.3, 0.3])
        curve += 0.005 * random.standard_normal(3000)
        curve[700:] += np.cumsum(0.02 * random.standard_normal(2300))
        inversion = find_inversion(epoch, curve, np.zeros(3000))
        found += bool(inversion) and inversion.epoch_interval[0] <= 20 <= inversion.epoch_interval[1]
    assert found >= 40


@pytest.mark.parametrize("where", [0, 1, 100, 199])
def test_one_spike_is_no_turn_and_hides_none(where):
    flat = np.ones(200)
    flat[where] = 2
    assert not find_inversion(np.arange(200), flat, np.zeros(200))
    turning = np.interp(np.arange(200), [0, 80, 199], [1, 0, 0.3]) + 0.002 * np.random.default_rng(0).standard_normal(200)
    turning[where] += 10 * (where > 0)
    found = find_inversion(np.arange(200), turning, np.zeros(200))
    assert found.rebound == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("size", [1, 5, 21])
def test_running_medians_are_scipys(size, monkeypatch):
    monkeypatch.setattr("fastent.statistics.turning._ROWS", 40)  # windows of more than one block
    values = np.round(np.random.default_rng(0).normal(size=101), 1)
    whole = slice(size // 2, len(values) - size // 2)
    np.testing.assert_array_equal(_running_median(values, size), median_filter(values, size)[whole])


def test_the_middle_of_a_floor_is_its_turn():
    curve = (1 - EPOCH / 100).clip(0) + 0.3 * ((EPOCH - 400) / 100).clip(0)
    found = find_inversion(EPOCH, curve, ERROR)
    assert 240 <= found.epoch <= 260
    assert found.epoch_interval == (99, 401)


@pytest.mark.parametrize("bottom", [300, 450, 470, 480])
def test_late_turns_are_found_where_records_are_equally_spaced(bottom):
    assert find_inversion(EPOCH, np.interp(EPOCH, [0, bottom, 500], [1, 0, 0.3]), ERROR).epoch == bottom


def test_several_threads_find_what_one_does():
    from concurrent.futures import ThreadPoolExecutor

    random = np.random.default_rng(5)
    curves = [valley(int(random.integers(60, 300))) + 0.002 * random.standard_normal(501) for _ in range(16)]
    alone = [find_inversion(EPOCH, curve, ERROR) for curve in curves]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda curve: find_inversion(EPOCH, curve, ERROR), curves)) == alone


def test_epochs_before_the_first_are_refused():
    with pytest.raises(fe.FastentError, match="epoch begins at -1: updates or passes made so far are needed, from 0"):
        find_inversion(EPOCH - 1, valley(), ERROR)


@given(
    values=st.lists(st.floats(0, 1), min_size=5, max_size=60),
    burn_in=st.integers(0, 2),
)
def test_first_increase_against_the_definition(values, burn_in):
    found = find_inversion(np.arange(len(values)), values, np.zeros(len(values)), rule="first-increase", burn_in=burn_in)
    assert found.index == naive.first_increase(values, burn_in)
    assert found or found.reason == "never stopped falling"


def inversion_at(error):
    return Inversion(True, index=1, epoch=1, value=0.5, train_error=error, prominence=0.1)


def test_summary_over_seeds():
    errors = [0.06, 0.07, 0.08, 0.07]
    summary = summarize_inversions([*map(inversion_at, errors), Inversion(False, "did not move")])
    assert (summary.seeds, summary.found) == (5, 4)
    assert summary.train_error == pytest.approx(0.07)
    assert summary.std == pytest.approx(np.std(errors, ddof=1))
    expected = ttest_1samp(errors, 0).confidence_interval(0.95)
    assert summary.interval == pytest.approx((expected.low, expected.high))
    assert summary.reasons == {"did not move": 1}


def test_summary_of_few_seeds():
    none = summarize_inversions([Inversion(False, "did not move")])
    assert none.train_error is none.interval is none.epoch is none.std is None
    one = summarize_inversions([inversion_at(0.06)])
    assert one.train_error == 0.06
    assert one.interval is one.std is None
    assert summarize_inversions([inversion_at(0.06)] * 3).interval == (0.06, 0.06)


def test_the_interval_covers_the_mean():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        summary = summarize_inversions([inversion_at(error) for error in rng.normal(0.065, 0.002, 4)])
        covered += summary.interval[0] <= 0.065 <= summary.interval[1]
    assert 87 <= covered <= 100
