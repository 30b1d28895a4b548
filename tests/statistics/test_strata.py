"""Samples drawn class by class: that no class is lost, and that means and intervals are those of all rows."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fastent as fe
import fastent.measurement.plan  # its sizes are patched below
from fastent.report.measurement import write_measurement_report
from fastent.statistics.intervals import SKEWED, Estimate, heaviest, ratio_of_means, sample_mean
from fastent.statistics.intrinsic_dimension import dimension_of
from fastent.statistics.strata import Strata, allocated, fewest_rows, stratified_rows
from tests import naive
from tests.statistics.test_silhouette import clusters

PLAN = sys.modules["fastent.measurement.plan"]
MNIST = Path(os.environ.get("FASTENT_DATA", Path(__file__).parents[2] / "../shared/data")) / "mnist.npz"


def covers(found, truth):
    return found.low <= truth <= found.high


def skewed_classes(n_classes, n, seed=0, power=1.0):
    """Codes (n,) of classes whose sizes fall as a power of their number, with a row each at least."""
    rng = np.random.default_rng(seed)
    share = np.arange(1.0, n_classes + 1) ** -power
    return np.concatenate([np.arange(n_classes), rng.choice(n_classes, n - n_classes, p=share / share.sum())])


def plain_error(strata, values):
    """Standard error as the textbook has it, without what intervals allow for besides."""
    known = ~np.isnan(values)
    apart = np.where(known, values - strata.mean(values), 0.0)
    return math.sqrt(strata.variance_of_total(apart)) / strata.weights[known].sum()


@given(
    sizes=st.lists(st.integers(1, 3) | st.integers(1, 5000), min_size=1, max_size=300),
    share=st.floats(0.01, 0.99),
)
def test_classes_have_their_shares_of_a_sample_and_a_few_rows_at_least(sizes, share):
    sizes = np.array(sizes)
    assume(sizes.sum() > 2 * len(sizes))
    total = 2 * len(sizes) + int(share * (sizes.sum() - 2 * len(sizes)))
    counts, few = allocated(sizes, total), fewest_rows(len(sizes), total)
    assert counts.sum() == total
    assert (counts <= sizes).all()
    assert (counts >= np.minimum(sizes, few)).all()
    ample = counts > few + 1
    if ample.any():  # one fraction for all of them, up to rounding
        assert ((counts[ample] - 1) / sizes[ample]).max() < ((counts[ample] + 1) / sizes[ample]).min()


def test_equal_shares_are_exactly_in_proportion():
    np.testing.assert_array_equal(allocated(np.full(10, 15_000), 20_000), 2000)
    np.testing.assert_array_equal(allocated(np.array([90_000, 30_000, 4]), 20_000), [14_997, 4999, 4])
    assert [fewest_rows(n_classes, 20_000) for n_classes in (2, 1000, 2500, 10_000)] == [10, 10, 4, 1]


def test_none_of_a_thousand_classes_is_lost():
    codes = skewed_classes(1000, 150_000, power=1.5)
    sizes = np.bincount(codes)
    assert sizes.min() < 10
    assert sizes.max() > 10_000
    rows, strata = stratified_rows(codes, 1000, 20_000, 0)
    assert len(rows) == 20_000
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(strata.codes, codes[rows])
    np.testing.assert_array_equal(strata.sizes, sizes)
    assert (strata.counts >= np.minimum(sizes, 10)).all()
    np.testing.assert_array_equal(stratified_rows(codes, 1000, 20_000, 0)[0], rows)
    assert not np.array_equal(stratified_rows(codes, 1000, 20_000, 1)[0], rows)
    # As many rows drawn from all alike lack some classes.
    assert len(np.unique(codes[np.random.default_rng(0).choice(150_000, 20_000, replace=False)])) < 1000


def test_too_many_classes_are_sampled_alike():
    codes = np.arange(600) % 150
    rows, strata = stratified_rows(codes, 150, 299, 0)
    assert strata is None
    assert len(np.unique(rows)) == 299
    np.testing.assert_array_equal(stratified_rows(codes, 150, 300, 0)[1].counts, 2)


@pytest.mark.parametrize(("n_classes", "power"), [(10, 3), (300, 1), (999, 0.5), (999, 2)])
def test_means_are_at_least_as_certain_as_those_of_half_as_many_rows(n_classes, power):
    _, strata = stratified_rows(skewed_classes(n_classes, 100_000, power=power), n_classes, 2000, 0)
    assert strata.draws(np.ones(2000, bool)) > 1000


def test_every_row_of_a_class_is_drawn_as_often():
    codes = np.repeat([0, 1, 0, 2], [40, 15, 60, 4])
    drawn = sum(np.bincount(stratified_rows(codes, 3, 50, seed)[0], minlength=len(codes)) for seed in range(2000))
    expected = 2000 * (allocated(np.bincount(codes), 50) / np.bincount(codes))[codes]
    assert (np.abs(drawn - expected) < 5 * np.sqrt(2000 * 0.25)).all()
    np.testing.assert_array_equal(drawn[codes == 2], 2000)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_classes=st.integers(1, 30),
    total=st.integers(60, 120),
    unknown=st.sampled_from([0.0, 0.2]),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_means_and_errors_are_those_of_the_textbook(seed, n_classes, total, unknown, offset):
    rng = np.random.default_rng(seed)
    codes = skewed_classes(n_classes, 200, seed)
    rows, strata = stratified_rows(codes, n_classes, total, seed)
    values = rng.normal(size=len(rows)) + 3 * rng.normal(size=n_classes)[strata.codes] + offset
    values[rng.random(len(values)) < unknown] = np.nan
    values[0] = offset
    mean, error = naive.stratified_mean(values, strata.codes, strata.sizes)
    assert strata.mean(values) == pytest.approx(mean, rel=1e-12, abs=1e-12)
    assert plain_error(strata, values) == pytest.approx(error, rel=1e-9, abs=1e-12 * (1 + offset))
    found = sample_mean(values, strata)
    assert found.value == pytest.approx(mean, rel=1e-12, abs=1e-12)
    if np.isfinite(found.low):
        assert found.low <= found.value - 1.959 * error + 1e-9 * (1 + offset)
        assert found.high >= found.value + 1.959 * error - 1e-9 * (1 + offset)


def test_one_class_is_an_ordinary_sample():
    values = np.random.default_rng(0).beta(2, 5, 400)
    found = sample_mean(values, Strata(np.zeros(400, np.int64), np.array([3000])), least=0, most=1)
    assert tuple(found) == pytest.approx(tuple(sample_mean(values, 3000, least=0, most=1)), rel=2e-3)
    shares = np.repeat([0, 1], [300, 100]), np.array([2250, 750])
    alike = sample_mean(values, Strata(*shares), least=0, most=1)  # classes that tell nothing apart, in proportion
    assert tuple(alike) == pytest.approx(tuple(found), rel=2e-2)


def test_classes_that_are_sampled_whole_add_no_error():
    rng = np.random.default_rng(1)
    strata = Strata(np.repeat([0, 1], [50, 20]), np.array([1000, 20]))
    values = np.concatenate([rng.random(50), 100 * rng.random(20)])
    tame = values.copy()
    tame[50:] = values[50:].mean()
    assert plain_error(strata, values) == pytest.approx(plain_error(strata, tame), rel=1e-12)
    whole = Strata(np.repeat([0, 1], [5, 2]), np.array([5, 2]))
    each = np.arange(7.0)
    assert sample_mean(each, whole) == Estimate(3, 0, 3, 3)
    assert ratio_of_means(each, each, whole) == Estimate(0.5, 0, 0.5, 0.5)


def test_a_class_with_one_sampled_row_has_the_pooled_variance():
    strata = Strata(np.array([0, 0, 0, 1, 1, 2]), np.array([30, 20, 10]))
    values = np.array([1.0, 2.0, 6.0, 3.0, 5.0, 4.0])
    variances = [7.0, 2.0, (14 + 2) / 3]
    weighed = sum(n * (n - m) * s / m for n, m, s in zip([30, 20, 10], [3, 2, 1], variances, strict=True))
    assert plain_error(strata, values) == pytest.approx(math.sqrt(weighed) / 60)
    # Several such classes that differ from each other more than rows of others do.
    alone = Strata(np.arange(4), np.full(4, 5))
    far = np.array([0.1, 0.5, 0.7, 0.9])
    assert plain_error(alone, far) == pytest.approx(math.sqrt(4 * 5 * 4 * far.var(ddof=1)) / 20)


def test_only_what_is_certain_has_no_width():
    strata = Strata(np.repeat([0, 1], 30), np.array([5000, 200]))
    ones = sample_mean(np.ones(60), strata, least=0, most=1)
    assert ones.value == 1
    assert 0.8 < ones.low < ones.high == 1
    third = sample_mean(np.full(60, 1 / 3), strata, least=1 / 3, most=1 / 3)
    assert third == Estimate(1 / 3, 0, 1 / 3, 1 / 3)


def test_rows_that_a_sample_may_have_missed():
    assert Strata(np.zeros(400, np.int64), np.array([3000])).unseen(0.025) == pytest.approx(
        math.log(0.025) / math.log1p(-400 / 3000) / 3000
    )
    # The ten rows that are left of one class are missed more easily than any of the other.
    mixed = Strata(np.repeat([0, 1], [1, 500]), np.array([11, 1000]))
    others = (-math.log(0.025) + 10 * math.log(10 / 11)) / math.log(2)
    assert mixed.unseen(0.025) == pytest.approx((10 + others) / 1011)
    assert Strata(np.zeros(9, np.int64), np.array([10])).unseen(0.025) == 1 / 10  # there is but one


@pytest.mark.parametrize("kind", ["margins", "heavy"])
def test_ratios_weigh_classes_by_their_shares(kind):
    rng = np.random.default_rng(2)
    codes = skewed_classes(40, 20_000)
    hit = rng.random(20_000) + codes
    miss = rng.lognormal(0, 1, 20_000) + 2 * codes if kind == "heavy" else 1 + codes + rng.random(20_000)
    rows, strata = stratified_rows(codes, 40, 800, 0)
    truth, found = hit.sum() / (hit.sum() + miss.sum()), ratio_of_means(hit[rows], miss[rows], strata)
    assert covers(found, truth)
    assert abs(found.value - truth) < 0.02
    # Small classes have more than their shares of the rows, and more distant neighbours.
    assert not covers(found, hit[rows].sum() / (hit[rows].sum() + miss[rows].sum())) or kind == "heavy"


def test_the_row_that_outweighs_the_others_is_found_by_its_weight():
    strata = Strata(np.repeat([0, 1], [200, 50]), np.array([200_000, 100]))
    values = np.random.default_rng(0).normal(size=250)
    assert heaviest(values, strata)[1] < SKEWED
    values[[17, 240]] = 50, 500  # the second stands for two rows
    assert heaviest(values, strata)[0] == 17
    assert heaviest(values, strata)[1] > SKEWED
    values[3] = np.nan
    assert heaviest(values, strata)[0] == 17


def test_a_representative_part_has_the_shares_of_all_rows():
    codes = skewed_classes(400, 100_000)
    _, strata = stratified_rows(codes, 400, 10_000, 0)
    part = strata.proportional(0)
    assert 0.5 < part.mean() < 1
    np.testing.assert_array_equal(part, strata.proportional(0))
    rare = strata.sizes < 100
    in_part, in_all = np.isin(strata.codes[part], np.flatnonzero(rare)).mean(), strata.sizes[rare].sum() / 100_000
    assert in_part == pytest.approx(in_all, abs=4 * math.sqrt(in_all / part.sum()))
    assert np.isin(strata.codes, np.flatnonzero(rare)).mean() > 1.5 * in_all


POPULATIONS = {
    "even": lambda rng, codes: np.clip(rng.normal(0.5, 0.1, len(codes)) + rng.normal(0, 0.1, 100)[codes], 0, 1),
    "rare errors": lambda rng, codes: (rng.random(len(codes)) < 0.005).astype(float),
    "errors of small classes": lambda rng, codes: (rng.random(len(codes)) < np.where(codes > 50, 0.3, 0.002)).astype(float),
    "errors of one large class": lambda rng, codes: ((rng.random(len(codes)) < 0.03) & (codes == 0)).astype(float),
    "purity": lambda rng, codes: np.clip(rng.beta(8, 1, len(codes)) - rng.random(100)[codes] * (codes > 20), 0, 1),
}


@pytest.mark.large
@pytest.mark.parametrize("total", [200, 1000])
@pytest.mark.parametrize("kind", POPULATIONS)
def test_intervals_of_stratified_samples_cover(kind, total):
    """100 classes of 1 to 5,000 of 20,000 rows, 500 samples each."""
    rng = np.random.default_rng(5)
    codes = skewed_classes(100, 20_000)
    values = POPULATIONS[kind](rng, codes)
    found = []
    for seed in range(500):
        rows, strata = stratified_rows(codes, 100, total, seed)
        found.append((sample_mean(values[rows], strata, least=0, most=1), plain_error(strata, values[rows])))
    assert all(each.low < each.high for each, _ in found)
    assert np.mean([covers(each, values.mean()) for each, _ in found]) >= 0.93
    # No bias, and errors as large as the estimates are apart.
    estimates = np.array([each.value for each, _ in found])
    assert estimates.mean() == pytest.approx(values.mean(), abs=4 * estimates.std() / math.sqrt(500))
    ratio = np.sqrt(np.mean([error**2 for _, error in found])) / estimates.std()
    assert ratio > 0.88
    assert ratio < 1.12 or total == 200  # where most classes have one row, whose errors are taken on the safe side


@pytest.mark.large
@pytest.mark.parametrize("kind", ["log-normal", "class scales"])
def test_intervals_of_values_without_bounds_cover(kind):
    rng = np.random.default_rng(6)
    codes = skewed_classes(100, 20_000)
    values = rng.lognormal(0, 1, 20_000) * (1 if kind == "log-normal" else rng.lognormal(0, 1, 100)[codes])
    found = []
    for seed in range(500):
        rows, strata = stratified_rows(codes, 100, 400, seed)
        found.append(sample_mean(values[rows], strata, least=0))
    assert np.mean([covers(each, values.mean()) for each in found]) >= 0.93


@pytest.mark.large
def test_intervals_cover_where_most_classes_have_one_sampled_row():
    rng = np.random.default_rng(0)
    codes = skewed_classes(1000, 50_000)
    wrong = (rng.random(50_000) < rng.beta(0.5, 4, 1000)[codes]).astype(float)
    hit, miss = 1 + 0.1 * rng.random(50_000) + (codes > 300), 5 + rng.random(50_000) + 3 * rng.random(1000)[codes]
    exchanged = rng.random(50_000) < 0.005
    hit[exchanged], miss[exchanged] = miss[exchanged], hit[exchanged]
    truth = hit.sum() / (hit.sum() + miss.sum())
    means, ratios = [], []
    for seed in range(300):
        rows, strata = stratified_rows(codes, 1000, 2000, seed)
        means.append(covers(sample_mean(wrong[rows], strata, least=0, most=1), wrong.mean()))
        ratios.append(covers(ratio_of_means(hit[rows], miss[rows], strata), truth))
    assert (strata.counts == 1).sum() > 800
    assert np.mean(means) >= 0.93
    assert np.mean(ratios) >= 0.93


@pytest.fixture
def few_rows(monkeypatch):
    """Sizes from which rows are sampled, made small."""
    monkeypatch.setattr(PLAN, "_ALL_PAIRS", 3000)
    monkeypatch.setattr(PLAN, "_SAMPLE", 500)
    return monkeypatch


def without_an_index(monkeypatch):
    """Let no index fit: what meets all pairs is streamed."""
    plan_index = PLAN.plan_index
    monkeypatch.setattr(PLAN, "plan_index", lambda *sizes, **options: plan_index(*sizes, **options | {"read_once": True}))


def test_a_rare_class_is_measured_although_a_plain_sample_would_miss_it(few_rows):
    X, y = clusters(0, 6000, 12, 4)
    rare = np.arange(100, 6000, 1000)[:6]
    y[rare] = 9
    X[rare] += 30
    assert not np.isin(rare, np.random.default_rng(0).choice(6000, 500, replace=False)).any()
    found = fe.measure(X, y)
    assert np.isin(rare, found.sampled).all()
    assert len(found.sampled) == 500
    sentence = "500 of 6,000 rows are sampled, each class in proportion and no fewer than 10, for LISI, silhouettes, "
    assert any(note.startswith(sentence) for note in found.notes)
    # Streamed, everything is of the sample.
    without_an_index(few_rows)
    streamed = fe.measure(X, y)
    assert streamed.notes[0].startswith(
        "500 of 6,000 rows are sampled, each class in proportion and no fewer than 10: an index"
    )
    np.testing.assert_array_equal(streamed.queries, found.sampled)
    assert math.isfinite(streamed.mixing.balanced_overlap)
    assert not np.isnan(streamed.mixing.matrix).any()
    few_rows.undo()
    plain = fe.measure(X, y, queries=500, metrics="mixing")
    assert math.isnan(plain.mixing.balanced_overlap)
    assert "no query" in " ".join(plain.notes)


@pytest.mark.parametrize("streamed", [False, True])
def test_means_of_a_stratified_sample_are_those_of_all_digits(few_rows, streamed):
    """Digits with noise, several copies of each, in classes of 20 to 1,780 rows."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.repeat(np.flatnonzero(y == c), max(1, 10 - c)) for c in range(10)])
    rows = np.concatenate([rows[y[rows] != 9], np.flatnonzero(y == 9)[:20]])
    X, y = X[rows] + rng.normal(0, 2, (len(rows), 64)), y[rows]
    if streamed:
        without_an_index(few_rows)
    found = fe.measure(X, y)
    assert len(found.sampled) == 500
    assert len(found.queries) == (500 if streamed else len(X))
    few_rows.undo()
    whole = fe.measure(X, y).summary()
    sampled = ["lisi/mean", "silhouette/exact", "complexity/lsc", "soft_nearest_neighbor/loss"]
    if streamed:
        sampled += [f"mixing/{name}" for name in ("overlap", "balanced_overlap", "entropy", "error")]
        sampled += [f"margins/{name}" for name in ("margin", "relative", "n2", "n3")]
    for name in sampled:
        estimate = found.intervals()[name]
        assert estimate.low < estimate.high, name
        assert estimate.low <= whole[name] <= estimate.high, name
    weights = Strata(np.searchsorted(found.classes, y[found.sampled]), np.bincount(np.searchsorted(found.classes, y))).weights
    for value, each in (
        (found.lisi.mean, found.lisi.per_point),
        (found.summary()["silhouette/exact"], found.silhouette.exact),
        (found.summary()["soft_nearest_neighbor/loss"], found.soft_nearest_neighbor.per_point),
        (found.summary()["complexity/lsc"], 1 - found.complexity.local_set / len(X)),
    ):
        assert value == pytest.approx((weights * each).sum() / len(X), rel=1e-12)
    if streamed:
        assert found.mixing.overlap == pytest.approx((weights * found.mixing.purity).sum() / len(X), rel=1e-12)
        assert found.margins.n2 == pytest.approx(
            (weights * found.margins.hit).sum() / (weights * (found.margins.hit + found.margins.miss)).sum(), rel=1e-12
        )
        assert found.summary()["dimension/mle"] == pytest.approx(whole["dimension/mle"], rel=0.15)


def test_a_report_counts_no_points_of_a_stratified_sample(few_rows, tmp_path):
    X, y = clusters(5, 4000, 8, 3)
    y[:300] = np.arange(3, 33).repeat(10)
    without_an_index(few_rows)
    found = fe.measure(X, y, metrics=["margins", "silhouette"])
    write_measurement_report(found, tmp_path / "stratified.html")
    page = (tmp_path / "stratified.html").read_text().replace("\u00a0", " ")
    assert f"{100 * found.margins.n3:.1f} % of the points lie nearest to a point of another class, estimated from 500" in page
    asked = fe.measure(X, y, metrics=["margins"], queries=500)
    write_measurement_report(asked, tmp_path / "asked.html")
    wrong = round(500 * asked.margins.n3)
    assert f"{wrong} of 500 points lie nearest" in (tmp_path / "asked.html").read_text().replace("\u00a0", " ")


def test_the_dimension_is_that_of_a_representative_part():
    X, y = clusters(3, 2000, 6, 3)
    y[:100] = np.arange(3, 23).repeat(5)
    rows, strata = stratified_rows(y, 23, 300, 0)
    near, part = fe.neighbors(X, 10, queries=rows), strata.proportional(0)
    found = dimension_of(near, "mle", y, representative=part)
    alone = fe.Neighbors(near.indices[part], near.distances[part], rows[part], n=2000)
    assert found.value == pytest.approx(fe.intrinsic_dimension(alone, "mle").value, rel=1e-12)
    every = fe.intrinsic_dimension(near, "mle", y)
    assert found.value != every.value
    np.testing.assert_array_equal(found.per_class, every.per_class)


def test_the_best_temperature_is_that_of_all_rows(few_rows):
    few_rows.setattr(PLAN, "_ALL_PAIRS", 1000)
    X, y = clusters(4, 1200, 6, 2)
    X, y = np.concatenate([X, X[:20] / 50 + 9]), np.concatenate([y, np.repeat(np.arange(2, 12), 2)])
    found = fe.measure(X, y, metrics="soft_nearest_neighbor", temperature="optimal").soft_nearest_neighbor
    few_rows.undo()
    whole = fe.measure(X, y, metrics="soft_nearest_neighbor", temperature="optimal").soft_nearest_neighbor
    assert len(found.per_point) == 500
    assert found.temperature == pytest.approx(whole.temperature, rel=0.25)
    assert covers(found.interval, whole.loss)


def test_samples_that_were_asked_for_are_drawn_from_all_rows_alike(few_rows):
    X, y = clusters(1, 5000, 8, 3)
    found = fe.measure(X, y, queries=400, metrics=["mixing", "silhouette"])
    np.testing.assert_array_equal(found.sampled, np.sort(np.random.default_rng(0).choice(5000, 400, replace=False)))
    assert found.mixing.overlap == found.mixing.purity.mean()
    assert found.intervals()["silhouette/exact"].value == found.silhouette.exact.mean()
    assert "sampled" not in " ".join(found.notes)


@pytest.mark.large
@pytest.mark.skipif(not MNIST.exists(), reason="no MNIST")
def test_means_of_a_stratified_sample_are_those_of_all_of_mnist(few_rows):
    with np.load(MNIST) as data:
        X, y = data["x_train"][:12_000].reshape(12_000, -1), data["y_train"][:12_000]
    kept = (y != 8) | (np.cumsum(y == 8) <= 15)
    X, y = X[kept], y[kept]
    found = fe.measure(X, y, metrics=["lisi", "silhouette", "soft_nearest_neighbor", "complexity"])
    assert len(found.sampled) == 500
    assert (y[found.sampled] == 8).sum() == 10
    few_rows.undo()
    whole = fe.measure(X, y, metrics=["lisi", "silhouette", "soft_nearest_neighbor", "complexity"])
    for name in ("lisi/mean", "silhouette/exact", "soft_nearest_neighbor/loss", "complexity/lsc"):
        assert covers(found.intervals()[name], whole.summary()[name]), name
