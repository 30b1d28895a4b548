"""Classes of labels: every label its own, or their parities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_labels
from fastent.errors import FastentError

__all__ = ["class_codes"]

Array = NDArray[Any]


def class_codes(y_train: Array, y_test: Array, classes: str) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Class codes of training and test labels, and the classes: "parity" of the labels, or "all"."""
    if len(y_train) == 0:
        raise FastentError("no training points are left: exclude fewer")
    if classes == "parity":
        y_train, y_test = _parity(y_train), _parity(y_test)
    codes, names = as_labels(y_train, name="y_train", minimum_classes=2)
    test_codes, test_names = as_labels(y_test, name="y_test")
    strange = test_names[~np.isin(test_names, names)]
    if len(strange):
        raise FastentError(f"the test set has labels that no training point has: {', '.join(map(str, strange[:5]))}")
    return codes, np.searchsorted(names, test_names)[test_codes], names


def _parity(labels: Array) -> NDArray[np.int64]:
    codes, names = as_labels(labels, name="labels")
    if names.dtype.kind not in "iub":
        raise FastentError(f"classes='parity' needs integer labels, these are like {names[0]!s}: use classes='all'")
    return (names.astype(np.int64) % 2)[codes]
