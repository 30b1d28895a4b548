import numpy as np
import pytest
import torch
from fastent.kernels.moments import class_moments, first_rows
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

import fastent as fe
from fastent.runtime.threads import limit_threads
from tests import naive

FIELDS = ("counts", "means", "radius", "distance", "nc1", "nc2", "cdnv", "fisher", "calinski_harabasz")


def labelled_points(seed=0, n=300, d=7, n_classes=4, dtype=np.float32):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    X = rng.standard_normal((n, d)) + 2 * rng.standard_normal((n_classes, d))[y]
    return X.astype(dtype), y


def assert_same(result, expected, rtol=1e-9, atol=1e-12):
    for name in FIELDS:
        value = expected[name] if isinstance(expected, dict) else getattr(expected, name)
        np.testing.assert_allclose(getattr(result, name), value, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_against_the_oracle(normalize, dtype, order):
    X, y = labelled_points(dtype=np.float64)
    X = np.asarray(X * 3, dtype=dtype, order=order)
    assert_same(fe.geometry(X, y, normalize=normalize), naive.geometry(X, y, normalize))


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(8, 80),
    d=st.integers(1, 9),
    n_classes=st.integers(2, 5),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    normalize=st.booleans(),
    duplicates=st.booleans(),
    zeros=st.booleans(),
)
def test_awkward_data_against_the_oracle(seed, n, d, n_classes, offset, normalize, duplicates, zeros):
    X, y = labelled_points(seed, n, d, n_classes, np.float64)
    X += offset
    if duplicates:
        X[n // 2 :] = X[: n - n // 2]
    if zeros:
        X[::3] = 0
    expected = naive.geometry(X, y, normalize)
    result = fe.geometry(X, y, normalize=normalize)
    for name in ("counts", "means", "radius", "distance"):
        np.testing.assert_allclose(getattr(result, name), expected[name], rtol=1e-7, atol=1e-7, err_msg=name)


def test_strided_and_read_only_rows():
    X, y = labelled_points(n=400)
    expected = naive.geometry(X[::2, 1:], y[::2])
    X.flags.writeable = False
    assert_same(fe.geometry(X[::2, 1:], y[::2]), expected)
    assert_same(fe.geometry(np.ascontiguousarray(X[::2, 1:]), y[::2]), expected)
    assert_same(fe.geometry(torch.tensor(X[::2, 1:].copy()), torch.tensor(y[::2])), expected)


@given(cuts=st.lists(st.integers(0, 500), max_size=6), normalize=st.booleans(), offset=st.sampled_from([0.0, 100.0]))
def test_merged_in_any_chunking_equals_one_shot(cuts, normalize, offset):
    X, y = labelled_points(n=500, d=5)
    X = X + np.float32(offset)
    bounds = [0, *sorted(cuts), 500]
    one = fe.ClassMoments(4, 5, normalize=normalize, scatter=True)
    one.update(X, y)
    streamed = fe.ClassMoments(4, 5, normalize=normalize, scatter=True)
    merged = fe.ClassMoments(4, 5, normalize=normalize, scatter=True)
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        if start == stop:
            continue
        streamed.update(X[start:stop], y[start:stop])
        part = fe.ClassMoments(4, 5, normalize=normalize, scatter=True)
        part.update(X[start:stop], y[start:stop])
        merged.merge(part)
    for result in (streamed.compute(), merged.compute()):
        for name in ("counts", "means", "radius", "distance", "cdnv", "fisher", "calinski_harabasz"):
            np.testing.assert_allclose(getattr(result, name), getattr(one.compute(), name), rtol=1e-12, err_msg=name)
        assert result.nc1 == pytest.approx(one.compute().nc1, rel=1e-10)


def test_many_chunks_equal_one_shot_to_twelve_digits():
    X, y = labelled_points(n=100_000, d=32)
    one, many = fe.ClassMoments(4, 32), fe.ClassMoments(4, 32)
    one.update(X, y)
    for start in range(0, len(X), 999):
        part = fe.ClassMoments(4, 32)
        part.update(X[start : start + 999], y[start : start + 999])
        many.merge(part)
    for name in ("means", "radius", "distance"):
        np.testing.assert_allclose(getattr(many.compute(), name), getattr(one.compute(), name), rtol=1e-12)


def test_nc1_from_scatter_equals_nc1_from_a_second_pass():
    X, y = labelled_points(n=500)
    moments = fe.ClassMoments(4, 7, scatter=True)
    moments.update(X, y)
    assert moments.compute().nc1 == pytest.approx(fe.geometry(X, y).nc1, rel=1e-10)
    without = fe.ClassMoments(4, 7)
    without.update(X, y)
    assert without.compute().nc1 is None
    assert without.compute().normalize
    raw = fe.ClassMoments(4, 7, normalize=False)
    raw.update(X, y)
    assert not raw.compute().normalize
    assert "500 x 7, 4 classes, rows as given" in repr(raw.compute())


def test_same_bits_twice_and_the_same_statistics_for_every_thread_count():
    X, y = labelled_points(n=5000, d=64)
    first, second = fe.geometry(X, y), fe.geometry(X, y)
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(first.radius, second.radius)
    with limit_threads(1):
        assert_same(fe.geometry(X, y), first, rtol=1e-12)


def test_collapsed_classes():
    X = np.repeat(np.random.default_rng(0).standard_normal((3, 11)).astype(np.float32) + 1000, 50, axis=0)
    y = np.repeat(["a", "b", "c"], 50)
    for normalize in (True, False):
        result = fe.geometry(X, y, normalize=normalize)
        assert (result.radius == 0).all()
        assert result.nc1 == 0
        assert result.fisher == result.calinski_harabasz == np.inf
        assert (result.cdnv == 0).all()


def test_simplex_means_have_no_nc2_deviation():
    n_classes = 5
    simplex = np.eye(n_classes) - 1 / n_classes
    noise = np.random.default_rng(0).standard_normal((40, n_classes)) * 0.01
    noise -= noise.mean(0)
    X = np.concatenate([corner + noise for corner in simplex])
    result = fe.geometry(X, np.repeat(np.arange(n_classes), 40), normalize=False)
    assert result.nc2.norm_spread == pytest.approx(0, abs=1e-12)
    assert result.nc2.angle_deviation == pytest.approx(0, abs=1e-12)


def test_coincident_means():
    X = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    result = fe.geometry(X, [0, 0, 1, 1])
    assert result.nc1 == np.inf
    assert result.cdnv[0, 1] == np.inf
    assert result.fisher == 0


@given(seed=st.integers(0, 1000))
def test_invariances(seed):
    rng = np.random.default_rng(seed)
    X, y = labelled_points(seed, d=5, dtype=np.float64)
    reference = fe.geometry(X, y, normalize=False)
    order = rng.permutation(len(X))
    assert_same(fe.geometry(X[order], y[order], normalize=False), reference)
    rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    moved = fe.geometry(X @ rotation + rng.standard_normal(5), y, normalize=False)
    for name in ("radius", "distance", "nc1", "nc2", "cdnv", "fisher", "calinski_harabasz"):
        np.testing.assert_allclose(getattr(moved, name), getattr(reference, name), rtol=1e-8, atol=1e-10)


def test_far_from_the_origin_loses_nothing():
    X, y = labelled_points(dtype=np.float64)
    near, far = fe.geometry(X, y, normalize=False), fe.geometry(X + 1e6, y, normalize=False)
    np.testing.assert_allclose(far.radius, near.radius, rtol=1e-9)
    np.testing.assert_allclose(far.distance, near.distance, rtol=1e-8)


def test_unit_rows_identity():
    X, y = labelled_points()
    result = fe.geometry(X, y)
    np.testing.assert_allclose(result.radius**2, 1 - (result.means**2).sum(1), rtol=1e-12)


def test_scikit_learn_agrees_on_digits():
    digits = load_digits()
    result = fe.geometry(digits.data, digits.target, normalize=False)
    assert result.calinski_harabasz == pytest.approx(calinski_harabasz_score(digits.data, digits.target), rel=1e-10)


def test_string_labels_are_kept():
    assert fe.geometry(np.eye(4), list("baab")).classes.tolist() == ["a", "b"]


def test_state_survives_a_checkpoint():
    X, y = labelled_points()
    moments = fe.ClassMoments(4, 7, scatter=True)
    moments.update(X[:100], y[:100])
    state = moments.state_dict()
    moments.update(X[100:], y[100:])
    restored = fe.ClassMoments(4, 7, scatter=True)
    restored.load_state_dict(state)
    restored.update(X[100:], y[100:])
    np.testing.assert_array_equal(restored.compute().means, moments.compute().means)
    np.testing.assert_array_equal(restored.compute().radius, moments.compute().radius)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_rows_leave_the_moments_unchanged(bad):
    X, y = labelled_points(n=50)
    moments = fe.ClassMoments(4, 7)
    moments.update(X, y)
    before = moments.state_dict()
    broken = X.copy()
    broken[17, 3] = bad
    with pytest.raises(fe.FastentError, match="in 1 of 50 rows, first at row 17, column 3"):
        moments.update(broken, y)
    with pytest.raises(fe.FastentError, match="label 9 is no class number"):
        moments.update(X, np.where(np.arange(50) == 49, 9, y))
    after = moments.state_dict()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


@given(
    X=hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 20)), elements=st.floats(-100, 100, width=32)),
    parts=st.integers(1, 5),
    data=st.data(),
)
def test_kernel_against_the_definition(X, parts, data):
    codes = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(X), max_size=len(X))), np.int64)
    shift = np.random.default_rng(0).standard_normal((4, X.shape[1]))
    counts, sums, squares = class_moments(X, codes, shift, True, parts)
    deviations = naive.unit_rows(X) - shift[codes]
    for c in range(4):
        assert counts.sum(0)[c] == (codes == c).sum()
        np.testing.assert_allclose(sums.sum(0)[c], deviations[codes == c].sum(0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(squares.sum(0)[c], (deviations[codes == c] ** 2).sum(), rtol=1e-9, atol=1e-9)


def test_first_rows():
    first, stray = first_rows(np.array([2, 0, 2, 0]), 4)
    assert (first.tolist(), stray) == ([1, -1, 0, -1], -1)
    assert first_rows(np.array([0, 4]), 4)[1] == 1
    assert first_rows(np.array([0, -1]), 4)[1] == 1


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(8, 80),
    d=st.integers(1, 9),
    n_classes=st.integers(2, 5),
    offset=st.sampled_from([0.0, 1e3]),
    duplicates=st.booleans(),
)
def test_what_takes_a_second_pass(seed, n, d, n_classes, offset, duplicates):
    X, y = labelled_points(seed, n, d, n_classes, np.float64)
    X += offset
    if duplicates:
        X[n // 2 :] = X[: n - n // 2]
    # Where means of two classes are the same numbers, what divides by their distance is decided by rounding.
    means = np.array([X[y == c].mean(0) for c in range(n_classes)])
    assume(pdist(means).min() > 1e-9)
    rng = np.random.default_rng(seed)
    weights, bias = rng.standard_normal((n_classes, d)), rng.standard_normal(n_classes)
    found = fe.geometry(X, y, normalize=False, weights=weights, bias=bias)
    expected = naive.about_means(X, y, weights, bias)
    assert found.davies_bouldin == pytest.approx(expected["davies_bouldin"], rel=1e-6)
    assert found.nc3 == pytest.approx(expected["nc3"], rel=1e-6)
    assert found.nc4 == pytest.approx(expected["nc4"])


def test_davies_bouldin_of_digits_and_iris():
    X, y = load_digits(return_X_y=True)
    assert fe.geometry(X, y, normalize=False).davies_bouldin == pytest.approx(davies_bouldin_score(X, y), rel=1e-12)
    unit = naive.unit_rows(X)
    assert fe.geometry(X, y).davies_bouldin == pytest.approx(davies_bouldin_score(unit, y), rel=1e-9)
    iris = fe.geometry(*load_iris(return_X_y=True), normalize=False)
    assert iris.davies_bouldin == pytest.approx(0.7517, abs=2e-3)


def test_a_layer_that_has_collapsed_to_its_means():
    means = np.eye(4) - 0.25  # a simplex
    y = np.repeat(np.arange(4), 5)
    found = fe.geometry(means[y], y, normalize=False, weights=3 * means)
    assert found.nc1 == 0
    assert found.nc2.norm_spread == pytest.approx(0, abs=1e-12)
    assert found.nc2.angle_deviation == pytest.approx(0, abs=1e-12)
    assert found.nc3 == pytest.approx(0, abs=1e-12)
    assert found.nc4 == 0
    assert found.davies_bouldin == 0
    opposite = fe.geometry(means[y], y, normalize=False, weights=-means)
    assert opposite.nc3 == pytest.approx(4)
    assert opposite.nc4 == 1


def test_where_geometry_degenerates_is_said():
    X, y = labelled_points(1, 60, 5, 3, np.float64)
    assert fe.geometry(X, y).notes == ()
    for c, centre in enumerate((0.1, 0.1, 5.0)):
        X[y == c] += centre - X[y == c].mean(0)
    found = fe.geometry(X, y, normalize=False)  # two means coincide, but for rounding
    assert found.notes[0].startswith("the means of classes 0 and 1 coincide: ")
    X[:30], X[30:] = np.eye(5)[0], -np.eye(5)[0]
    same = fe.geometry(X, np.tile([0, 1], 30), normalize=False)
    assert np.isinf([same.davies_bouldin, same.cdnv[0, 1], same.nc1]).all()
    assert np.isnan(same.nc2).all()
    infinite = "davies_bouldin, cdnv and nc1 are infinite, nc2_norm_spread and nc2_angle_deviation are unknown"
    assert same.notes == (f"the means of classes 0 and 1 coincide: {infinite}",)
    collapsed = fe.geometry(np.eye(5)[y], y)
    assert collapsed.notes == ("every class is a single point: fisher and calinski_harabasz are infinite",)


def test_a_mean_at_the_centre_is_named():
    X = np.array([-1.1, -0.9, -0.1, 0.1, 0.9, 1.1])[:, None]
    found = fe.geometry(X, [0, 0, 1, 1, 2, 2], normalize=False)
    assert found.notes == (
        "class 1 has its mean at the centre of all class means: nc2_angle_deviation counts angles there as 90 degrees",
    )


def test_one_point_and_rows_of_zeros_are_named(tmp_path):
    X, y = labelled_points(2, 400, 300, 3)
    y[9] = 7
    alone = "class 7 has one point: the radius is 0, and averages over classes give the class full weight"
    assert fe.geometry(X, y).notes == (alone,)
    X[[3, 200]] = 0
    X[:, :280] = 0  # most columns tell nothing of most rows
    zeros = "2 rows are all zeros (3 and 200): they have no direction and cannot be scaled to unit length"
    assert fe.geometry(X, y).notes == (alone, zeros)
    assert fe.geometry(X, y, normalize=False).notes == (alone,)
    np.save(tmp_path / "X.npy", X)
    assert fe.geometry(np.load(tmp_path / "X.npy", mmap_mode="r"), y).notes == (alone, zeros)
    X[3] = 1
    assert fe.geometry(X, y).notes[1].startswith("row 200 is all zeros: it has no direction")


@pytest.mark.parametrize("first", [False, True])
def test_one_row_far_out_hides_nothing_of_the_other_classes(first):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, 6)), np.arange(90) % 3
    expected = fe.geometry(X, y, normalize=False)
    X[0 if first else 87] = 1e30
    found = fe.geometry(X, y, normalize=False)
    assert found.distance[1, 2] == pytest.approx(expected.distance[1, 2], rel=1e-12)
    assert found.cdnv[1, 2] == pytest.approx(expected.cdnv[1, 2], rel=1e-12)
    assert not any("coincide" in note for note in found.notes)
