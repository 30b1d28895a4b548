"""The smallest or the largest of some numbers, in front or told by a value."""

from typing import Any

import numpy as np

from .jit import step

__all__ = ["in_front", "least", "reached_by", "select"]


@step()
def _sort_by_key(keys: Any, numbers: Any) -> None:
    """Both by key, by insertion, for few."""
    for i in range(1, keys.shape[0]):
        key, number, place = keys[i], numbers[i], i
        while place > 0 and keys[place - 1] > key:
            keys[place], numbers[place] = keys[place - 1], numbers[place - 1]
            place -= 1
        keys[place], numbers[place] = key, number


@step()
def _middle_of_three(a: float, b: float, c: float) -> float:
    low, high = (a, b) if a < b else (b, a)
    return low if c < low else high if c > high else c


@step()
def select(keys: Any, rows: Any, middle: int) -> None:
    """Order both by key as far as it takes to have the `middle` smallest in front (Hoare's selection)."""
    first, last = 0, keys.shape[0] - 1
    while first < last:
        pivot = _middle_of_three(keys[first], keys[(first + last) // 2], keys[last])
        i, j = first, last
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                rows[i], rows[j] = rows[j], rows[i]
                i, j = i + 1, j - 1
        if middle <= j:
            last = j
        elif middle >= i:
            first = i
        else:
            return


@step()
def in_front(keys: Any, numbers: Any, count: int) -> int:
    """Order both by key as far as it takes to have the so many smallest in front, ascending; how many these are."""
    if count < keys.shape[0]:
        select(keys, numbers, count)
    else:
        count = keys.shape[0]
    _sort_by_key(keys[:count], numbers[:count])
    return count


@step(counted=False)
def least(keys: Any, number: int, most: int) -> int:
    """A value that at least so many of some int32 keys do not exceed; at most `most` of them, unless they are equal."""
    lowest, highest = keys[0], keys[0]
    for s in range(keys.shape[0]):
        lowest = keys[s] if keys[s] < lowest else lowest
        highest = keys[s] if keys[s] > highest else highest
    below, beyond = np.int64(lowest) - 1, np.int64(highest)
    while beyond - below > 1:
        middle, within = np.int32((below + beyond) >> 1), np.int32(0)
        for s in range(keys.shape[0]):
            within = np.int32(within + (keys[s] <= middle))
        if within < number:
            below = np.int64(middle)
        else:
            beyond = np.int64(middle)
            if within <= most:
                break
    return np.int32(beyond)


@step(counted=False)
def reached_by(keys: Any, number: int, most: int) -> int:
    """A value that at least so many of some int32 keys reach, or all do; at most `most` of them, unless they are equal."""
    lowest, highest = keys[0], keys[0]
    for s in range(keys.shape[0]):
        lowest = keys[s] if keys[s] < lowest else lowest
        highest = keys[s] if keys[s] > highest else highest
    below, beyond = np.int64(lowest), np.int64(highest) + 1
    while beyond - below > 1:
        middle, reach = np.int32((below + beyond) >> 1), np.int32(0)
        for s in range(keys.shape[0]):
            reach = np.int32(reach + (keys[s] >= middle))
        if reach < number:
            beyond = np.int64(middle)
        else:
            below = np.int64(middle)
            if reach <= most:
                break
    return np.int32(below)
