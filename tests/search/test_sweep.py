"""Squared distances within and between blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastent.search.sketch import typical_scale
from fastent.search.sweep import DistanceWorkspace, distances_in_double
from tests.awkward import KINDS, data_set


def in_single(rows, others, scale):
    return DistanceWorkspace(rows.shape[1], scale).measure(rows, others)


def in_double(rows, others, scale):
    return distances_in_double(rows, others, (rows.mean(0, dtype=np.float64) + others.mean(0, dtype=np.float64)) / 2, scale)


@pytest.mark.parametrize("measure", [in_single, in_double])
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(sorted(KINDS)))
def test_a_block_among_itself_is_as_among_a_copy(measure, seed, kind):
    X = data_set(kind, seed, largest=300)[0]
    scale = typical_scale(X)
    own, apart = measure(X, X, scale), measure(X, X.copy(), scale)
    slack = max(own.relative_error, apart.relative_error) * (own.norms[:, None] + own.norms)
    np.testing.assert_array_equal(own.squared, own.squared.T)
    np.testing.assert_array_equal(own.squared.diagonal(), 0)
    np.testing.assert_array_equal(own.norms, apart.other_norms)
    assert (np.abs(own.squared - apart.squared) <= slack).all()
