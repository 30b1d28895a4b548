import numpy as np
import pytest

import fastent as fe
from fastent.statistics.point_effects import (
    Effects,
    NearestRows,
    effects_of_margins,
    effects_of_mixing,
    effects_on_radius,
    standard_error,
    standard_error_of_all,
)

N, K = 40, 7


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    codes = np.arange(N) % 2
    return rng.standard_normal((N, 3)) + codes[:, None], codes


@pytest.fixture(scope="module")
def lists(points):
    near = fe.neighbors(points[0], k=K)
    return NearestRows(near.indices, near.distances)


def without(X, codes, j, k):
    kept = np.arange(N) != j
    near = fe.neighbors(X[kept], k=k)
    return near, fe.mixing(near, codes[kept]), fe.margins(X[kept], codes[kept])


def test_pseudo_values_are_those_of_leaving_points_out(points, lists):
    X, codes = points
    margins = fe.margins(X, codes)
    effects = effects_of_mixing(lists, codes, 2) | effects_of_margins(
        margins.hit, margins.miss, (margins.hit_index, margins.miss_index), lists, codes
    )
    purity = fe.mixing(fe.neighbors(X, k=K - 1), codes)
    for name, whole, of in (
        ("overlap", purity.overlap, lambda left: left[1].overlap),
        ("entropy", purity.entropy.mean(), lambda left: left[1].entropy.mean()),
        ("n3", margins.n3, lambda left: left[2].n3),
    ):
        naive = [N * whole - (N - 1) * of(without(X, codes, j, K - 1)) for j in range(N)]
        # The sum of the others is divided by N here, and by N - 1 there.
        pseudo = effects[name].pseudo_values()
        total = pseudo - effects[name].values.mean()
        assert np.allclose(total - total.mean(), np.subtract(naive, np.mean(naive)), atol=1e-6)


def test_radius_is_that_of_leaving_points_out(points):
    X, codes = points
    found = fe.geometry(X, codes, normalize=False)
    apart = np.linalg.norm(X - found.means[codes], axis=1)
    pseudo = effects_on_radius(apart, codes, np.bincount(codes)).values
    for j in (0, 7, 31):
        kept = np.arange(N) != j
        left = fe.geometry(X[kept], codes[kept], normalize=False).radius.mean()
        assert pseudo[j] == pytest.approx(N * found.radius.mean() - (N - 1) * left, rel=1e-6)


def test_of_independent_values_the_error_is_the_usual_one():
    values = np.random.default_rng(1).standard_normal(500)
    assert standard_error(Effects(values)) == pytest.approx(values.std(ddof=1) / np.sqrt(500))
    assert standard_error(Effects(values), Effects(values)) == 0


def test_pairs_are_counted_once():
    """A mean over reciprocal nearest neighbours, of labels that are dealt at random, is one over half as many pairs."""
    errors = []
    for seed in range(200):
        wrong = np.repeat(np.random.default_rng(seed).integers(0, 2, 200), 2).astype(float)
        partner = np.arange(400) ^ 1
        errors.append(standard_error(Effects(wrong, ((partner, 0.5 - wrong),))))
    assert np.mean(errors) == pytest.approx(0.5 / np.sqrt(200), rel=0.03)


def test_without_second_hits_there_is_nothing(points, lists):
    margins = fe.margins(*points)
    short = NearestRows(lists.indices[:, :2], lists.distances[:, :2])
    hit = np.where(np.arange(N) == 3, np.nan, margins.hit)
    assert effects_of_margins(hit, margins.miss, (margins.hit_index, margins.miss_index), short, points[1]) == {}


def test_of_a_sample_that_is_all_the_error_is_the_same(points, lists):
    X, codes = points
    margins, rows = fe.margins(X, codes), np.arange(N)
    index = margins.hit_index, margins.miss_index
    effects = effects_of_mixing(lists, codes, 2) | effects_of_margins(margins.hit, margins.miss, index, lists, codes)
    for each in effects.values():
        assert standard_error_of_all(each, rows, np.ones(N), N) == pytest.approx(standard_error(each))


def test_of_samples_the_error_is_that_of_all_on_average():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 400)
    X = rng.standard_normal((400, 3)) + 1.5 * codes[:, None]
    whole, found = {}, []
    for seed in range(100):
        rows = np.arange(400) if seed == 0 else np.random.default_rng(seed).permutation(400)[:200]
        near, margins = fe.neighbors(X, k=K, queries=rows), fe.margins(X, codes, queries=rows)
        lists, index = NearestRows(near.indices, near.distances), (margins.hit_index, margins.miss_index)
        effects = effects_of_mixing(lists, codes, 2, rows)
        effects |= effects_of_margins(margins.hit, margins.miss, index, lists, codes, rows, np.full(len(rows), 400 / len(rows)))
        if seed == 0:
            whole = {name: standard_error(each) for name, each in effects.items()}
            alone = {name: each.values.std(ddof=1) / 20 for name, each in effects.items()}
        else:
            weights = np.full(len(rows), 2.0)
            found.append({name: standard_error_of_all(each, rows, weights, 400) for name, each in effects.items()})
    assert whole["overlap"] > 1.2 * alone["overlap"]  # points as neighbours matter
    for name, error in whole.items():
        assert np.mean([each[name] for each in found]) == pytest.approx(error, rel=0.05)
