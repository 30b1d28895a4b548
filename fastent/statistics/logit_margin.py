"""How clearly a network decides: margins of its outputs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_array, as_features, check_finite, check_lengths, row_blocks
from fastent.errors import FastentError

__all__ = ["logit_margin"]


def logit_margin(logits: Any, labels: Any) -> NDArray[np.float64]:
    """Logit of the true class less the largest other one: (n,), negative where the network is wrong.

    Parameters
    ----------
    logits : array-like (n, C)
        Any real dtype; a column for each of two classes or more.
    labels : array-like (n,)
        Class numbers 0..C-1: the columns.

    Returns
    -------
    (n,) float64

    Raises
    ------
    FastentError
        One column; labels that are no columns; NaN; lengths that differ.

    References
    ----------
    Jiang et al., "Predicting the generalization gap in deep networks with margin distributions", 2019.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.logit_margin([[2.0, 0.5, 1.0], [0.0, 3.0, 4.0]], [0, 1]).tolist()
    [1.0, -1.0]
    """
    outputs = as_features(logits, name="logits")
    n, n_classes = outputs.shape
    if n_classes < 2:
        raise FastentError("logits have one column: a column for each of two classes or more is needed, for one use [0, z]")
    codes = as_array(labels, "labels")
    if codes.ndim != 1 or codes.dtype.kind not in "iub":
        raise FastentError(
            f"labels have shape {codes.shape} and dtype {codes.dtype}: "
            f"class numbers 0..{n_classes - 1}, one for each row, are needed"
        )
    check_lengths(n, len(codes), features_name="logits")
    strange = np.flatnonzero((codes < 0) | (codes >= n_classes))
    if len(strange):
        raise FastentError(
            f"label {codes[strange[0]]} is no column of logits: 0..{n_classes - 1} are; {len(strange)} rows have such labels, "
            f"first row {strange[0]}"
        )
    check_finite(outputs, name="logits")
    margin = np.empty(n)
    for begin, block in row_blocks(outputs):
        rows, own = np.arange(len(block)), codes[begin : begin + len(block)].astype(np.int64)
        others = block.copy()
        others[rows, own] = -np.inf
        margin[begin : begin + len(block)] = block[rows, own].astype(np.float64) - others.max(1)
    return margin
