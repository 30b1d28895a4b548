"""A test set taken from the rows: the one that scikit-learn's `train_test_split` takes, whose import would take a second."""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["split_rows"]

Rows = NDArray[np.int64]


def split_rows(n: int, test_share: float, seed: int, codes: Rows | None = None) -> tuple[Rows, Rows]:
    """The rows of a training and a test set in ascending order.

    Parameters
    ----------
    n : int
        How many rows there are.
    test_share : float
        Rounded up to whole rows.
    seed : int
        From 0 to 2**32 - 1.
    codes : (n,) int64, optional
        Class codes 0..C-1, all of which occur: both sets then have the same share of each class.

    Returns
    -------
    train : (n - m,) int64
    test : (m,) int64, m = ceil(test_share * n)
    """
    generator = np.random.RandomState(seed)  # whose numbers are the same in every version of numpy
    n_test = math.ceil(test_share * n)
    if codes is None:
        drawn = generator.permutation(n)
        return np.sort(drawn[n_test:]), np.sort(drawn[:n_test])
    counts = np.bincount(codes)
    n_train_of = _shares(counts, n - n_test, generator)
    n_test_of = _shares(counts - n_train_of, n_test, generator)
    rows_of = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    train, test = [], []
    for rows, n_train, n_tested in zip(rows_of, n_train_of, n_test_of, strict=True):
        drawn = rows[generator.permutation(len(rows))]
        train.append(drawn[:n_train])
        test.append(drawn[n_train : n_train + n_tested])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _shares(counts: Rows, n_drawn: int, generator: np.random.RandomState) -> Rows:
    """How many of `n_drawn` rows come from each class: its share rounded down, and one more where most was cut off.

    Among classes of which the same was cut off, those with one more are drawn.
    """
    exact = counts / counts.sum() * n_drawn
    found = np.floor(exact)
    cut_off, missing = exact - found, int(n_drawn - found.sum())
    for value in np.unique(cut_off)[::-1]:
        if missing == 0:
            break
        alike = np.flatnonzero(cut_off == value)
        found[generator.choice(alike, min(len(alike), missing), replace=False)] += 1
        missing -= min(len(alike), missing)
    return np.asarray(found, np.int64)
