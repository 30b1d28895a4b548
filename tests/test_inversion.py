import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from fastent.training.inversion import Inversion, find_inversion, summarize_inversions
from tests import naive

EPOCH = np.arange(501)
ERROR = 0.5 * np.exp(-EPOCH / 100)


def valley(bottom=150, depth=0.15, rise=0.07):
    """Falls by `depth` until `bottom`, then rises by `rise`."""
    fall = depth * (1 - EPOCH[: bottom + 1] / bottom) ** 2
    climb = rise * (np.arange(len(EPOCH) - bottom) / (len(EPOCH) - bottom)) ** 2
    return 0.8 + np.concatenate([fall, climb[1:]])


def test_the_bottom_of_a_valley():
    found = find_inversion(EPOCH, valley(), ERROR)
    assert found
    assert (found.epoch, found.index) == (150, 150)
    assert found.value == 0.8
    assert found.train_error == ERROR[150]
    assert found.prominence == pytest.approx(0.07, rel=0.02)
    assert found.reason == ""


def test_epochs_need_not_be_consecutive():
    found = find_inversion(EPOCH[::5], valley()[::5], ERROR[::5])
    assert (found.epoch, found.index) == (150, 30)


def test_a_maximum_is_a_minimum_upside_down():
    assert find_inversion(EPOCH, -valley(), ERROR, kind="max").epoch == 150
    assert find_inversion(EPOCH, EPOCH * 1.0, ERROR, kind="max").reason == "still rising at the last epoch"
    assert find_inversion(EPOCH, -EPOCH * 1.0, ERROR, kind="max").reason == "fell before it rose"


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (1 / (1 + EPOCH), "still falling at the last epoch"),
        (EPOCH * 1.0, "rose before it fell"),
        (np.where(EPOCH < 60, 1.0 + EPOCH / 60, 2.0 - (EPOCH - 60) / 2000), "rose before it fell"),
        (valley(rise=0.003), "below the prominence asked for"),
        (np.full(501, 0.7), "did not move"),
        (0.7 + 1e-7 * np.sin(EPOCH), "did not move"),
    ],
)
def test_no_inversion_and_why(curve, reason):
    found = find_inversion(EPOCH, curve, ERROR)
    assert not found
    assert found == Inversion(False, reason)


def test_what_happens_during_the_burn_in_does_not_count():
    curve = valley()
    curve[5] = 0.1
    assert find_inversion(EPOCH, curve, ERROR).epoch == 150
    assert find_inversion(EPOCH, curve, ERROR, burn_in=0).epoch == 5


def test_a_later_collapse_does_not_hide_the_inversion():
    curve = np.concatenate([valley(), valley()[-1] - 0.001 * np.arange(1, 400)])
    epoch = np.arange(len(curve))
    assert curve[-1] < curve[150]
    assert find_inversion(epoch, curve, np.linspace(0.5, 0, len(curve))).epoch == 150


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), bottom=st.integers(60, 400))
def test_noise_does_not_fool_the_interior_rule(seed, bottom):
    noise = 0.001 * np.random.default_rng(seed).standard_normal(len(EPOCH))
    found = find_inversion(EPOCH, valley(bottom) + noise, ERROR)
    # Near the bottom the curve is flat: noise moves the minimum, by how much the curve must differ to be told apart.
    assert valley(bottom)[found.index] - 0.8 < 0.01
    first = find_inversion(EPOCH, valley(bottom) + noise, ERROR, rule="first-increase")
    assert first.epoch < found.epoch


@settings(deadline=None)
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
