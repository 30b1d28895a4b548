"""A view that is kept from one look to the next never changes what is found, and does not outlive its use."""

import numpy as np
import pytest

from fastent.search import index_costs
from fastent.search.exact_index import ExactIndex
from fastent.search.index import ExternalQueries
from fastent.search.kept_view import KeptView
from fastent.search.out_of_core import NearestSoFar
from tests import naive

WANTED = {"all": 5, "own class": 1, "other classes": 1}


def rows_of_rank(generator, n, d, rank=6):
    """Rows near few directions, in classes."""
    codes = generator.integers(0, 3, n)
    spread = generator.standard_normal((n, rank)) + 3 * generator.standard_normal((3, rank))[codes]
    return (spread @ generator.standard_normal((rank, d)) + 0.01 * generator.standard_normal((n, d))).astype(np.float32), codes


def look(X, codes, view=None, *, wanted=None, unit=False, pieces=2, n_queries=700):
    queries = np.arange(0, len(X), max(1, len(X) // n_queries))
    own = ExternalQueries(X[queries], queries, codes[queries])
    near = NearestSoFar(own, WANTED if wanted is None else wanted, unit=unit, view=view)
    for rows in np.array_split(np.arange(len(X)), pieces):
        near.update(X[rows], int(rows[0]), codes[rows])
    return near


def assert_same(found, expected):
    for among, lists in expected.found().items():
        np.testing.assert_array_equal(found.found()[among].squared, lists.squared)
        np.testing.assert_array_equal(found.found()[among].indices, lists.indices)


@pytest.mark.parametrize("n", [300, 10_000])
@pytest.mark.parametrize("change", ["noise", "rotated", "far", "tiny", "huge", "wider", "double"])
def test_what_is_found_does_not_depend_on_the_view(n, change):
    """Not even where the rows have nothing in common with those that the view was taken of."""
    generator = np.random.default_rng(0)
    X, codes = rows_of_rank(generator, n, 40)
    view = look(X, codes).view
    rotation = np.linalg.qr(generator.standard_normal((40, 40)))[0]
    Y = {
        "noise": X + 0.1 * generator.standard_normal(X.shape).astype(np.float32),
        "rotated": (X @ rotation).astype(np.float32),
        "far": X + np.float32(1e4),
        "tiny": X * np.float32(2.0**-70),
        "huge": X * np.float32(2.0**70),
        "wider": np.concatenate([X, X], axis=1),
        "double": X.astype(np.float64) + 1e-9 * generator.standard_normal(X.shape),
    }[change]
    for unit in (False, True):
        assert_same(look(Y, codes, view, unit=unit), look(Y, codes, unit=unit))
    squared = naive.squared_distances(Y[:1], Y)
    assert look(Y, codes, view).found()["all"].indices[0, 0] == np.argsort(squared[0], kind="stable")[1]


def test_a_view_of_other_features_or_another_metric_is_not_used():
    X, codes = rows_of_rank(np.random.default_rng(1), 5000, 40)
    view = ExactIndex(X, classes=codes).view
    assert ExactIndex(X, classes=codes, view=view).view.frame is view.frame
    for other in (ExactIndex(X, classes=codes, unit=True, view=view), ExactIndex(X[:, :30].copy(), classes=codes, view=view)):
        assert other.view.frame is not view.frame


def looks(kept, rows, codes):
    """Frames that several looks used."""
    frames = []
    for X in rows:
        near = look(X, codes, kept.view, pieces=1)
        kept.judge(near)
        frames.append(near.view.frame)
    return frames


def test_kept_for_twice_as_many_looks_each_time():
    X, codes = rows_of_rank(np.random.default_rng(2), 5000, 512)
    frames = looks(KeptView(), [X] * 9, codes)
    new = [i for i in range(9) if i == 0 or frames[i] is not frames[i - 1]]
    assert new == [0, 1, 3, 7]


def test_renewed_when_the_rows_turn_away(monkeypatch):
    monkeypatch.setattr(index_costs, "_SKETCHED", 0)  # codes of sketches feel it most
    generator = np.random.default_rng(3)
    X, codes = rows_of_rank(generator, 5000, 512)
    kept = KeptView()
    looks(kept, [X] * 8, codes)
    before = kept.view.frame
    rotation = np.linalg.qr(generator.standard_normal((512, 512)))[0].astype(np.float32)
    turned, renewed, again = looks(kept, [X @ rotation] * 3, codes)
    assert turned is before
    assert renewed is not before
    assert again is renewed


def test_renewed_when_searches_take_longer_than_a_new_frame():
    X, codes = rows_of_rank(np.random.default_rng(4), 9000, 40, rank=40)
    kept = KeptView()
    for _ in range(3):
        near = look(X, codes, kept.view, n_queries=9000)
        kept.judge(near)
        assert kept.view is None


def test_a_view_of_double_precision_for_rows_of_single():
    """Its origin is not one that single precision holds, and a row far out is seen from it in double precision."""
    generator = np.random.default_rng(5)
    X = (1e6 + generator.standard_normal((5000, 20))).astype(np.float32)
    view = ExactIndex(X.astype(np.float64) + 0.03).view
    queries = np.concatenate([X[:200], np.full((1, 20), 2.0**41, np.float32)])
    assert_equal_lists(ExactIndex(X, view=view).nearest(5, queries), ExactIndex(X).nearest(5, queries))


def test_a_kept_frame_holds_its_axes_alone():
    axes = ExactIndex(rows_of_rank(np.random.default_rng(6), 5000, 300)[0]).view.frame.axes
    assert axes.base is None or axes.base.size == axes.size


def assert_equal_lists(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
