import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.datasets import load_digits

import fastent as fe
from fastent.statistics.cone_projection import nearest_in_cone
from tests import naive


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.booleans())
def test_the_nearest_point_of_a_cone_is_that_of_the_quadratic_programme(seed, m, r, lattice):
    """By Moreau's theorem the rest of the target is the nearest vector with no product > 0."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (m, r)) + 0.0 if lattice else rng.standard_normal((m, r))
    rows[~rows.any(1)] = 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    target = rng.standard_normal(r)
    target /= np.linalg.norm(target)
    weights = nearest_in_cone(rows, target)
    near = weights @ rows
    assert (weights >= 0).all()
    assert (rows @ (target - near)).max() < 1e-9  # in the polar cone
    assert abs(near @ (target - near)) < 1e-9
    if not lattice:
        assert near @ near == pytest.approx(naive.readout_distance(rows, -target), abs=1e-6)


@pytest.mark.parametrize("wrong", [False, True])
def test_where_the_usual_solver_gives_up(monkeypatch, wrong):
    """As SciPy's did before 1.15 for dependent rows, or was wrong."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((20, 6)), 2, 0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    targets = rng.standard_normal((20, 6))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    expected = [nearest_in_cone(rows, target) @ rows for target in targets]

    def singular(columns, target, **options):
        if wrong:
            return np.ones(columns.shape[1]), 0.0
        raise np.linalg.LinAlgError("Matrix is singular.")

    monkeypatch.setattr("scipy.optimize.nnls", singular)
    for target, near in zip(targets, expected):
        np.testing.assert_allclose(nearest_in_cone(rows, target) @ rows, near, atol=1e-9)


def test_a_cone_of_many_rows():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 30)) + 1.5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for _ in range(20):
        target = rng.standard_normal(30)
        target /= np.linalg.norm(target)
        near = nearest_in_cone(rows, target) @ rows
        assert (rows @ (target - near)).max() < 1e-9
        assert abs(near @ (target - near)) < 1e-9


def inside(estimate, value):
    """Whether an interval half as wide again holds the value (95 % of them do as they are), but for 0.05 %, by which a polytope
    differs from the ball around it."""
    middle, half = (estimate.low + estimate.high) / 2, (estimate.high - estimate.low) / 2
    return abs(value - middle) <= 1.5 * half + 5e-4 * value


def test_single_points_have_capacity_two():
    for labels, X in ((np.arange(30), np.eye(30)), (np.repeat(np.arange(30), 3), np.repeat(np.eye(30), 3, 0) * 1 / 3)):
        found = fe.manifold_capacity(X, labels, center=False)
        np.testing.assert_array_equal(found.class_capacity, 2)
        np.testing.assert_array_equal(found.radius, 0)
        np.testing.assert_array_equal(found.dimension, 0)
        assert found.mean_field == 2
        assert found.capacity == pytest.approx(2)


@pytest.mark.parametrize(("P", "d"), [(20, 5), (20, 10), (20, 40), (40, 24)])
def test_points_at_random_have_the_capacity_that_covers_counts_give(P, d):
    """Intrinsic volumes of random orthants' projections: the cone of P signed points has the mean dimension E min(B, d) where B
    is binomial (P, 1/2). With d well above P / 2 that is the classical 2."""
    counts = np.arange(P + 1)
    expected = P / (binom(P, 0.5).pmf(counts) @ np.minimum(counts, d))
    draws = [
        fe.manifold_capacity(np.random.default_rng(i).standard_normal((P, d)), np.arange(P), center=False) for i in range(5)
    ]
    assert np.mean([1 / each.capacity for each in draws]) == pytest.approx(1 / expected, rel=0.02)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_balls_have_the_capacity_of_their_closed_form(dimension, radius):
    """Chung, Lee, Sompolinsky: two classes of points on spheres, at right angles to their centres, in separate directions."""
    rng = np.random.default_rng(0)
    sphere = np.array([[-1.0], [1.0]]) if dimension == 1 else rng.standard_normal((1500 * (dimension - 1), dimension))
    sphere = np.concatenate([sphere, -sphere])
    sphere = radius * sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    size = 2 * (dimension + 1)
    X = np.zeros((2 * len(sphere), size))
    for c in range(2):
        here = slice(c * len(sphere), (c + 1) * len(sphere))
        X[here, c * (dimension + 1)] = 1
        X[here, c * (dimension + 1) + 1 : (c + 1) * (dimension + 1)] = sphere
    found = fe.manifold_capacity(7 * X, np.repeat([0, 1], len(sphere)), points=None, draws=400, center=False)
    expected = naive.ball_capacity(radius, dimension)
    assert inside(found.intervals["mean_field"], expected)
    # Nothing of one class is in a direction of the other: what counts all correlations is then the mean field.
    assert inside(found.intervals["capacity"], expected)
    assert found.radius == pytest.approx(radius, rel=0.25)  # inside a ball lie the anchors that hold the readout on two sides
    assert (found.radius <= radius * (1 + 1e-9)).all()
    assert found.dimension == pytest.approx(dimension, rel=0.25)


def test_gaussian_clouds_are_balls_of_their_radius_and_dimension():
    """Chung et al. (2018), figure 6: capacity is that of a ball of radius R and dimension D, once these are the anchors'."""
    rng = np.random.default_rng(0)
    for size, spread in ((8, 0.3), (12, 0.6)):
        X = np.concatenate(
            [np.eye(20, 60)[c] + spread * rng.standard_normal((30, 60)) * (np.arange(60) < size) for c in range(20)]
        )
        found = fe.manifold_capacity(X, np.repeat(np.arange(20), 30), points=25, draws=100)
        balls = [naive.ball_capacity(r, d) for r, d in zip(found.radius[:3], found.dimension[:3])]
        np.testing.assert_allclose(found.class_capacity[:3], balls, rtol=0.15)


def test_classes_in_separate_directions_have_the_mean_field_capacity():
    rng = np.random.default_rng(0)
    C, m, D = 12, 10, 5
    X = np.zeros((C * m, C * (D + 1)))
    for c in range(C):
        cloud = rng.standard_normal((m, D))
        X[c * m : (c + 1) * m, c * (D + 1) + 1 : (c + 1) * (D + 1)] = cloud - cloud.mean(0)
        X[c * m : (c + 1) * m, c * (D + 1)] = rng.uniform(0.5, 3)
    found = fe.manifold_capacity(X, np.repeat(np.arange(C), m), draws=1000, center=False)
    assert found.capacity == pytest.approx(found.mean_field, rel=0.05)


def test_half_of_the_dichotomies_are_separable_in_as_many_random_projections():
    """What capacity is for: classes of four points with correlated centres, against linear programmes."""
    rng = np.random.default_rng(0)
    C, m, d = 24, 4, 60
    centres = rng.standard_normal((C, d)) + rng.standard_normal(d)
    X = (centres[:, None] + 0.8 * rng.standard_normal((C, m, d))).reshape(-1, d)
    labels = np.repeat(np.arange(C), m)
    found = fe.manifold_capacity(X, labels, center=False, draws=400)

    def share(features):
        return np.mean(
            [naive.separable(X @ rng.standard_normal((d, features)), rng.choice([-1, 1], C)[labels]) for _ in range(150)]
        )

    features = C / found.capacity
    assert share(round(features * 0.8)) < 0.3
    assert 0.3 < share(round(features)) < 0.7
    assert share(round(features * 1.2)) > 0.7


def test_capacity_knows_correlations_that_the_mean_field_does_not():
    rng = np.random.default_rng(0)
    C, m, d = 30, 10, 100
    labels = np.repeat(np.arange(C), m)
    noise = 0.3 * rng.standard_normal((C, m, d))
    centres = rng.standard_normal((C, 1, d))

    def of(centres, **options):
        centres = 10 * centres / np.linalg.norm(centres, axis=2, keepdims=True)
        return fe.manifold_capacity((centres + noise).reshape(-1, d), labels, draws=60, **options)

    free = of(centres)
    crowded = of(np.concatenate([centres[..., :4], 0 * centres[..., 4:]], 2))  # in four directions
    assert free.capacity == pytest.approx(free.mean_field, rel=0.2)
    assert crowded.mean_field == pytest.approx(free.mean_field, rel=0.2)
    assert crowded.capacity < 0.6 * free.capacity


def test_a_direction_that_all_classes_share_tells_none_apart():
    """It only makes each of them look small from the origin."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 10)
    X = rng.standard_normal((30, 100))[labels] + 0.3 * rng.standard_normal((300, 100))
    plain, shifted = (fe.manifold_capacity(each, labels, draws=60, center=False) for each in (X, X + 3))
    assert shifted.mean_field > 1.3 * plain.mean_field
    assert shifted.capacity == pytest.approx(plain.capacity, rel=0.1)
    centred = [fe.manifold_capacity(each, labels, draws=60).capacity for each in (X, X + 3)]
    assert centred[0] == pytest.approx(centred[1], rel=1e-6)


def test_invariances_and_samples():
    X, y = load_digits(return_X_y=True)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]
    found = fe.manifold_capacity(X, y, points=20, draws=100)
    again = fe.manifold_capacity(X, y, points=20, draws=100)
    assert (found.counts == 20).all()
    np.testing.assert_array_equal(found.class_capacity, again.class_capacity)
    assert found.capacity == again.capacity
    for moved in (X * 1e-150, X * 1e150, X @ rotation + 3, X.astype(np.float16)):
        other = fe.manifold_capacity(moved, y, points=20, draws=100)
        assert other.capacity == pytest.approx(found.capacity, rel=0.06)
        assert other.mean_field == pytest.approx(found.mean_field, rel=0.06)
        np.testing.assert_allclose(other.radius, found.radius, rtol=0.15)
    more = fe.manifold_capacity(X, y, points=60, draws=60)
    assert more.capacity < found.capacity
    assert more.mean_field < found.mean_field


def test_intervals_cover_what_many_draws_give():
    X, y = load_digits(return_X_y=True)
    X, y = X[:200], y[:200]
    covered = np.zeros(4)
    pick = np.concatenate([np.flatnonzero(y == c)[:8] for c in range(10)])
    limit = fe.manifold_capacity(X[pick], y[pick], draws=2000)
    for seed in range(40):
        some = fe.manifold_capacity(X[pick], y[pick], draws=40, seed=seed)
        for i, name in enumerate(("capacity", "mean_field")):
            covered[i] += some.intervals[name].low <= getattr(limit, name) <= some.intervals[name].high
        low, high = some.class_intervals["class_capacity"].T
        covered[2] += ((low <= limit.class_capacity) & (limit.class_capacity <= high)).mean()
        low, high = some.class_intervals["dimension"].T
        covered[3] += ((low <= limit.dimension) & (limit.dimension <= high)).mean()
    assert (covered >= 33).all()


def test_intervals_count_that_other_points_could_have_been_drawn():
    """Centres of these classes are noise, and so is the radius in units of their length."""
    X, y = np.random.default_rng(0).standard_normal((200, 4)), np.repeat([0, 1], 100)
    found = [fe.manifold_capacity(X, y, seed=seed) for seed in range(8)]
    middle = np.mean([each.radius for each in found], 0)
    low, high = np.moveaxis([each.class_intervals["radius"] for each in found], 2, 0)
    assert ((low <= middle) & (middle <= high)).mean() >= 0.8
    # All points are the same whatever is drawn.
    whole = [fe.manifold_capacity(X, y, points=each, draws=20) for each in (100, None)]
    assert whole[0].capacity == whole[1].capacity


def test_a_class_around_the_origin_and_classes_of_one_point():
    square = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    found = fe.manifold_capacity(np.concatenate([square, [[0.0, 5]], [[3.0, 3]]]), [0, 0, 0, 0, 1, 2], center=False)
    assert found.radius.tolist() == [np.inf, 0, 0]
    assert found.class_capacity == pytest.approx([0.5, 2, 2])
    assert found.capacity == pytest.approx(1.5)
    assert [str(note) for note in found.notes] == [
        "class 0 has its centre at the origin: the radius is infinite there, in units of the centre's distance",
        "classes 1 and 2 have one point: the radius is 0 and the class_capacity 2 there",
        "hardly any dichotomy can be told apart in the 2 directions that the points span: capacity is then 3 classes over 2 "
        "directions, whatever the shapes: see class_capacity",
    ]
    lost = fe.manifold_capacity([[0.0, 0], [1, 0], [0, 1]], list("abc"), center=False)
    assert lost.class_capacity.tolist() == [np.inf, 2, 2]


def test_a_source_and_progress(tmp_path):
    X, y = load_digits(return_X_y=True)
    np.save(tmp_path / "X.npy", X)
    said = []
    found = fe.manifold_capacity(fe.open(tmp_path / "X.npy"), y, points=5, draws=10, progress=lambda *step: said.append(step))
    assert found.capacity == fe.manifold_capacity(X, y, points=5, draws=10).capacity
    assert [step[0] for step in said] == list(range(1, 16))
    assert said[-1][1] == 15
    assert len(found.plot()[1].lines) == 2
    assert repr(found).startswith("ManifoldCapacity(10 classes, capacity ")


X, Y = np.arange(12.0).reshape(6, 2), [0, 1, 0, 1, 0, 1]
REFUSED = [
    (lambda: fe.manifold_capacity(X, [0] * 6), "labels holds one class only (0)"),
    (lambda: fe.manifold_capacity(X, Y[:5]), "X has 6 rows but labels has 5"),
    (lambda: fe.manifold_capacity(X * np.nan, Y), "X has NaN or infinity in 6 of 6 rows"),
    (lambda: fe.manifold_capacity(np.ones((6, 2)) / 3, Y), "all rows of X are equal: there are no classes to tell apart"),
    (lambda: fe.manifold_capacity(np.zeros((6, 2)), Y, center=False), "all rows of X are equal"),
    (
        lambda: fe.manifold_capacity(np.eye(6) + 1e9, Y, center=False),
        "the rows of X are in one direction from the origin to 4e-10 of their length: pass center=True",
    ),
    (lambda: fe.manifold_capacity(X, Y, points=0), "points=0: a whole number of at least 1 is needed"),
    (lambda: fe.manifold_capacity(X, Y, draws=2), "draws=2: a whole number of at least 4 is needed"),
    (lambda: fe.manifold_capacity(X, Y, center=None), "center=None: True or False is needed"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(fe.FastentError) as refused:
        call()
    assert message in str(refused.value)
