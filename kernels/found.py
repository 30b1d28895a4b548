"""What queries have found, what they still want, and how far they search for it."""

from typing import Any, NamedTuple

import numpy as np

from .jit import step
from .lists import WIDENED, enter

__all__ = ["ALL", "OTHER_CLASSES", "OWN_CLASS", "Found", "closed_to", "may_take", "take", "threshold"]

# Which points a query wants.
ALL, OWN_CLASS, OTHER_CLASSES = np.int64(0), np.int64(1), np.int64(2)


class Found(NamedTuple):
    """What the search writes, in the queries' tile order.

    squared : (q, k) float64
        Squared distances, as `lists.enter` keeps them; infinity to begin with. For angles those of rows of unit length,
        2 (1 - cos). With k = 0 the search counts instead.
    index : (q, k) int64
        Ids of the data; ties by the lower.
    nearer_than : (q,) float64
        For counting: squared distances.
    count : (q,) int64
        How many points are in a list, if that is not full; for counting, how many are nearer than that.
    excluded : (q,) int64
        The id that is left out, -1 for none.
    radii : (query tiles * TILE,) float32
        How far each query searches, in sketches; negative where there is none.
    """

    squared: Any
    index: Any
    nearer_than: Any
    count: Any
    excluded: Any
    radii: Any


@step(counted=False)
def closed_to(found: Any, query: int, lowest: int) -> bool:
    """Whether a list is full of points at distance 0 with ids below this: then it has no room for any of a tile."""
    last = found.squared.shape[1] - 1
    return last >= 0 and found.squared[query, last] == 0 and found.index[query, last] < lowest


@step(counted=False)
def may_take(queries: Any, query: int, data: Any, point: int, among: int, found: Any) -> bool:
    """Whether a query takes a point if that is near enough."""
    if among and (queries.classes[query] == data.classes[point]) != (among == OWN_CLASS):
        return False
    return data.ids[point] != found.excluded[query] and not closed_to(found, query, data.ids[point])


@step(counted=False)
def threshold(found: Any, query: int) -> float:
    """The squared distance beyond which a query wants nothing more."""
    k = found.squared.shape[1]
    return found.squared[query, k - 1] if k > 0 else found.nearer_than[query]


@step(counted=False)
def take(queries: Any, query: int, place: int, squared: float, neighbour: int, found: Any) -> bool:
    """Enter a point in a query's list, if it is near enough, or count it; whether the radius may be shorter then."""
    k = found.squared.shape[1]
    if k == 0:
        found.count[query] += squared < found.nearer_than[query]
        return False
    its_squared = found.squared[query]
    if squared > its_squared[k - 1]:
        return False
    found.count[query] = enter(its_squared, found.index[query], squared, neighbour, found.count[query])
    if found.count[query] < k:
        return False
    found.radii[place] = np.sqrt(its_squared[k - 1]) * queries.scale * np.float64(WIDENED) + queries.slack
    return True
