"""What tells data apart: a fingerprint of every row and class, training and test, taken while they are read."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import row_blocks
from fastent.errors import FastentError

__all__ = [
    "CLASSES",
    "POINTS",
    "TEST_CLASSES",
    "TEST_POINTS",
    "DataFingerprint",
    "check_same_data",
    "fingerprints",
    "mask_fingerprint",
]

Array = NDArray[Any]

POINTS, CLASSES, TEST_POINTS, TEST_CLASSES = "training points", "training classes", "test points", "test classes"
_LABELS = "labels"
_REMEDY = "use the same data, or start anew (another folder, without resume, or --overwrite)"
_IN_TURN = (POINTS, CLASSES, TEST_POINTS, TEST_CLASSES, _LABELS)


class DataFingerprint:
    """A SHA-256 of arrays added in turn, and its value after each of them, which tells the first array that differs.

    Attributes
    ----------
    after : dict of str
        16 hexadecimal digits by the name of the array.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.after: dict[str, str] = {}

    def add(self, name: str, array: Array) -> None:
        self.begin(array)
        self.update(array)
        self.end(name)

    def add_rows(self, name: str, X: Any) -> None:
        """Rows (n, d) that may lie on disk: read block by block."""
        self.begin(X)
        for _, block in row_blocks(X):
            self.update(block)
        self.end(name)

    def begin(self, array: Any) -> None:
        self._digest.update(f"{array.shape} {array.dtype}".encode())

    def update(self, block: Array) -> None:
        self._digest.update(np.ascontiguousarray(block).data)

    def end(self, name: str) -> None:
        self.after[name] = self.value

    def add_labels(self, labels: Array) -> None:
        """Add the labels as stored, from which parities or codes were made, with a fingerprint of their own."""
        values = labels.astype(np.int64) if labels.dtype.kind in "iub" else labels
        self.after[_LABELS] = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]

    @property
    def value(self) -> str:
        return self._digest.hexdigest()[:16]


def fingerprints(x_train: Array, y_train: Array, x_test: Array, y_test: Array, labels: Array) -> dict[str, Any]:
    """The fingerprint of data, and those of their parts, as `Data` has them."""
    found = DataFingerprint()
    parts = {POINTS: x_train, CLASSES: y_train, TEST_POINTS: x_test, TEST_CLASSES: y_test}
    for name, array in parts.items():
        found.add(name, array)
    found.add_labels(labels)
    return {"fingerprint": found.value, "digests": found.after}


def check_same_data(
    before: Mapping[str, Any], now: Mapping[str, Any], *, run: str = "the run to resume", remedy: str = _REMEDY
) -> None:
    """Refuse other data than those of a run, by the `fingerprint` and `digests` of both configurations."""
    was, are = before.get("digests") or {}, now["digests"]
    if before.get("fingerprint") == now["fingerprint"] and (not was or was == are):
        return
    name = next(_different(was, are), "training or test points")
    what = f"other {name}" if name in was or not was else f"no {name}"
    left_out = [len(config.get("exclude") or ()) for config in (before, now)]
    if left_out[0] != left_out[1]:
        remedy = f"it left out {left_out[0]} rows, and here {left_out[1]} are, see exclude= and --exclude; {remedy}"
    here = "" if name in are or not was else ", and now there are none"
    raise FastentError(f"{run} has {what}{here} (fingerprint {before.get('fingerprint')}, not {now['fingerprint']}): {remedy}")


def _different(was: Mapping[str, str], are: Mapping[str, str]) -> Iterator[str]:
    return (name for name in _IN_TURN if was and was.get(name) != are.get(name))


def mask_fingerprint(mask: NDArray[np.bool_]) -> str:
    """16 hexadecimal digits that stand for a mask in a configuration."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]
