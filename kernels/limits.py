"""From which product of their codes on one point of a tile wants one of another.

Codes stand for points, or for longer sketches than boxes are of, in whole numbers (`quantized`). Seen from the centres of two
tiles, c apart,

    |a^ + c - b^|^2  =  (|a^|^2 + 2 a^c + |c|^2)  +  (|b^|^2 - 2 b^c)  -  2 a^b^

of which only the last depends on both. In units of twice the product of the tiles' steps it is a whole number, and so are,
rounded to the safe side, the others: a pair is wanted where its product reaches a limit. The second bracket is taken off the
products beforehand: so the limit of a query is one number for all points of the other tile. Where these want queries too, each
of them has one limit for all queries, to which a query adds its first bracket, its shift.
"""

from typing import Any, NamedTuple

import numpy as np

from .jit import FUSED, step
from .lists import WIDENED
from .quantized import LARGEST
from .tree import TILE

__all__ = [
    "LOWEST",
    "NEVER",
    "NO_POINT",
    "Limits",
    "limit_at",
    "no_limits",
    "set_limits",
    "set_products",
    "set_upper",
    "tighten_of_point",
    "tighten_of_query",
]

# Products of codes lie within 2^28, and so does what is taken off them; limits lie within 2^30, beyond any sum of these: that
# which all sums reach, and that which none does. A pad's sum is below every limit.
LOWEST, NEVER = np.int32(-(2**30)), np.int32(2**30)
NO_POINT = np.int32(-(2**30) - 2**29)
# What rounding may do to a product of a point with the distance between centres, for each feature, and to that distance.
_ROUNDING = 2.0**-22


class Limits(NamedTuple):
    """Of a tile of queries and another that meet, in units of twice the product of their steps.

    between : (m,) float32
        From one centre to the other.
    along, other_along : (TILE,) float32
        Products of the points with that, in steps.
    apart, other_apart : (TILE,) float64
        What of the squared distance depends on one end only, not above its value.
    of_queries, shifts : (TILE,) int32
        In the order in which queries are taken: products that reach the limit are wanted by the query; what a shift adds to
        the limits of the points.
    of_points : (TILE,) int32
        From which sum on each point wants a query, less the query's shift.
    taken, begin : (TILE,) int32
        What is taken off a point's products; where these begin.
    nothing : (TILE,) int32
        Zeros.
    """

    between: Any
    along: Any
    other_along: Any
    apart: Any
    other_apart: Any
    of_queries: Any
    shifts: Any
    of_points: Any
    taken: Any
    begin: Any
    nothing: Any


def no_limits(m: int) -> Limits:
    """Room for those of any two tiles whose points have m coded coordinates."""
    numbers = *np.empty((2, TILE), np.float32), *np.empty((2, TILE)), *np.zeros((6, TILE), np.int32)
    return Limits(np.empty(m, np.float32), *numbers)


@step(counted=False)
def _difference(a: Any, b: Any, between: Any) -> float:
    """From one centre to another; how far that is, squared."""
    squared = 0.0
    for j in range(between.shape[0]):
        between[j] = a[j] - b[j]
        squared += np.float64(between[j]) * np.float64(between[j])
    return squared


@step(fastmath=FUSED, counted=False)
def _multiply_by(bits: int, packed: Any, between: Any, along: Any) -> None:
    """Products of the codes of a tile with a vector, in steps."""
    each, zero, right = 32 // bits, np.float32(0), np.int32(32 - bits)
    for t in range(TILE):
        along[t] = zero
    for w in range(between.shape[0] // each):
        words = packed[w * TILE : (w + 1) * TILE]
        for i in range(each):
            value, left = between[w * each + i], np.int32(32 - bits * (i + 1))
            for t in range(TILE):
                along[t] += np.float32(np.int32(words[t] << left) >> right) * value


@step(fastmath=FUSED, counted=False)
def _set_apart(norms: Any, along: Any, factor: float, rounding: float, squared: float, apart: Any) -> None:
    """What of squared distances depends on the points of one tile only, not above its value."""
    if rounding == 0:
        for t in range(TILE):
            apart[t] = norms[t] + squared
    else:
        for t in range(TILE):
            apart[t] = norms[t] + factor * np.float64(along[t]) - rounding * np.sqrt(norms[t]) + squared


@step(fastmath=FUSED, counted=False)
def _set_taken(apart: Any, per_unit: float, taken: Any) -> bool:
    """What may be taken off products beforehand, in whole units; returns whether that holds for all."""
    beyond = np.int32(0)
    for t in range(TILE):
        value = np.floor(apart[t] * per_unit) - 1
        beyond = np.int32(beyond + (value < -LARGEST))
        value = -LARGEST if value < -LARGEST else value
        taken[t] = np.int32(LARGEST if value > LARGEST else value)
    return beyond == 0


@step(counted=False)
def _least_product(apart: float, radius: float, error: float, per_unit: float) -> float:
    """Of a point that may lie within a radius, where codes may be off by so much."""
    reach = np.float64(radius) + error
    return np.floor((apart - reach * reach * np.float64(WIDENED)) * per_unit) - 2


@step(counted=False)
def limit_at(value: float) -> int:
    """A product as a limit."""
    value = np.float64(LOWEST) if value < LOWEST else value
    return np.int32(np.float64(NEVER) if value > NEVER else value)


@step(fastmath=FUSED, counted=False)
def _set_one_side(apart: Any, radii: Any, errors: Any, error: float, per_unit: float, taken: Any, limits: Any) -> None:
    """From which product on each point of one tile wants another, less what is taken off."""
    for t in range(TILE):
        limits[t] = limit_at(_least_product(apart[t], radii[t], np.float64(errors[t]) + error, per_unit) - taken[t])


@step(counted=False)
def tighten_of_query(i: int, radius: float, error: float, per_unit: float, limits: Any) -> None:
    """For a query whose radius has become shorter; error : by how much codes of both ends may be off."""
    limits.of_queries[i] = limit_at(_least_product(limits.apart[i], radius, error, per_unit))


@step(counted=False)
def tighten_of_point(s: int, radius: float, error: float, per_unit: float, limits: Any) -> None:
    """The same for a point of the other tile."""
    limits.of_points[s] = limit_at(_least_product(limits.other_apart[s], radius, error, per_unit) - limits.taken[s])


@step(counted=False)
def _set_begin(raise_of: Any, safe: bool, width: int, taken: Any, begin: Any) -> None:
    """Where the products of points begin: less what is taken off, if that is safe; pads reach no limit."""
    for t in range(TILE):
        begin[t] = -taken[t] - raise_of[t] if safe else -raise_of[t]
    for t in range(width, TILE):
        begin[t] = NO_POINT


@step(counted=False)
def set_products(codes: Any, tile: int, others: Any, other: int, width: int, bits: int, limits: Any) -> Any:
    """What is known of two tiles before the products of their codes are: `apart`, `other_apart`, `taken` and `begin`.

    Parameters
    ----------
    codes, others : Codes
        Of the queries, and of the points that they meet.
    tile, other : int
        The tiles, which may be one.
    width : int
        Points of the other.
    bits : int

    Returns
    -------
    moved : float
        By how much rounding may move the codes of one tile, seen from the other.
    rounding : float
        How much less than its value `apart` may be, as a share of a point's norm; twice that is what it may lack in all.
    per_unit : float
        How many units a squared distance of 1 is.
    safe : bool
        Whether limits can tell: where centres are very far apart, in steps, they cannot.
    """
    unit, other_unit = codes.steps[tile], others.steps[other]
    here, there = tile * TILE, other * TILE
    per_unit = 0.5 / unit / other_unit
    moved = rounding = 0.0
    squared = _difference(codes.centre[tile], others.centre[other], limits.between)
    if squared > 0:
        moved = np.sqrt(squared) * _ROUNDING
        rounding = moved * (limits.between.shape[0] + 8)
        _multiply_by(bits, codes.packed[tile], limits.between, limits.along)
        _multiply_by(bits, others.packed[other], limits.between, limits.other_along)
    _set_apart(codes.norms[here : here + TILE], limits.along, 2 * unit, rounding, squared, limits.apart)
    _set_apart(others.norms[there : there + TILE], limits.other_along, -2 * other_unit, rounding, 0.0, limits.other_apart)
    safe = _set_taken(limits.other_apart, per_unit, limits.taken)
    _set_begin(others.raise_of[there : there + TILE], safe, width, limits.taken, limits.begin)
    return moved, rounding, per_unit, safe


@step(counted=False)
def set_limits(
    codes: Any, tile: int, others: Any, other: int, width: int, bits: int, mutual: int, radii: Any, limits: Any
) -> Any:
    """From which sum on queries of a tile want points of another, and these want them.

    Parameters
    ----------
    codes, tile, others, other, width, bits
        As for `set_products`.
    mutual : int
        Whether points of the other want queries too: then both are of the same points, whose radii these are.
    radii : (tiles * TILE,) float32
        From `Found`.

    Returns
    -------
    error, other_error : float
        By how much the codes of each tile may be off, seen from the other.
    per_unit : float
    safe : bool
        As of `set_products`; where that is false, all pairs are wanted.
    """
    moved, _, per_unit, safe = set_products(codes, tile, others, other, width, bits, limits)
    here, there = tile * TILE, other * TILE
    error, other_error = codes.largest_error[tile] + moved, others.largest_error[other] + moved
    its_radii, errors, of_points = radii[here : here + TILE], codes.errors[here : here + TILE], limits.of_points
    _set_one_side(limits.apart, its_radii, errors, other_error, per_unit, limits.nothing, limits.of_queries)
    if mutual:
        if not _set_taken(limits.apart, per_unit, limits.shifts) and safe:
            safe = False
            _set_begin(others.raise_of[there : there + TILE], safe, width, limits.taken, limits.begin)
        its_radii, errors = radii[there : there + TILE], others.errors[there : there + TILE]
        _set_one_side(limits.other_apart, its_radii, errors, error, per_unit, limits.taken, of_points)
        for t in range(width, TILE):
            of_points[t] = NEVER
    else:
        _want_nothing(limits)
    if not safe:
        for t in range(TILE):
            limits.of_queries[t] = LOWEST
    return error, other_error, per_unit, safe


@step(counted=False)
def _want_nothing(limits: Any) -> None:
    """Of points that want no query."""
    for t in range(TILE):
        limits.shifts[t], limits.of_points[t] = 0, NEVER


@step(counted=False)
def set_upper(
    codes: Any, tile: int, others: Any, other: int, rounding: float, per_unit: float, limits: Any, upper: Any
) -> None:
    """After `set_products`: upper bounds on squared distances between codes, upper[t] - sum / per_unit; no point wants a query.

    A point's part of a distance is taken off its products rounded down, by less than two units. What double precision loses
    here, 2^-25 of a norm, is less than `Codes.errors` allow for.

    Parameters
    ----------
    rounding, per_unit : float
        As `set_products` returned them.
    upper : (TILE,) float64
        Written, for each point of the first tile.
    """
    there, largest = other * TILE, 0.0
    for s in range(TILE):
        norm = others.norms[there + s]
        largest = norm if norm > largest else largest
    most = 2 * rounding * np.sqrt(largest) + 2 / per_unit
    for t in range(TILE):
        upper[t] = limits.apart[t] + 2 * rounding * np.sqrt(codes.norms[tile * TILE + t]) + most
    _want_nothing(limits)
