"""How points become codes: chosen by what a pilot on the data expects each choice to cost on this machine."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.kernels.lists import LONG
from fastent.kernels.quantized import BITS, coded_coordinates
from fastent.search.prices import Prices

__all__ = [
    "Coding",
    "Expected",
    "Pilot",
    "cheapest",
    "coding_bytes",
    "coding_in_order",
    "codings",
    "of_few",
    "pair_distances",
    "pair_price",
    "survivor_price",
]

Array = NDArray[Any]

# Codes are of all coordinates, or of so many numbers of a sketch.
_WIDTHS = (64, 128)
# Codes of 16 bits of whole points take as much memory as the points; that pays only for many features or long lists.
_FINE_FROM = 512
# Codes of points in their order have 16 bits where there are so few points for each neighbour of a long list (2,000 to 100,000
# rows of 64 to 784 features, k of 50 and 200), or so few values in all pairs: with 8, Gaussian 2,000 x 128 and 3,000 x 384 take
# the same time, heavy tails 3,000 x 64 twice as long.
_FEW_FOR_EACH, _FEW_VALUES = 128, 1 << 32
# Of points of so few features 8 bits let hardly more pass than 16 (24: nothing gained, 64: 6 % of the time).
_NARROW = 32
# A sketch that holds more than that share of the coordinates saves too little: products take at most a quarter less, while its
# bound is looser.
_SHARE = 0.75
# The largest of a tile's rotated coordinates, in standard deviations: 4.1 is expected of 128 points with 128 normal
# coordinates, 4.8 with 4,096. On ten kinds of data 3.5 to 4.5 give the same choice; 6 gives 16 bits to Gaussian 10,000 x 768,
# which takes 1.1 times as long.
_PEAK = 4.5
# What products of codes about centres of their own take, with those of the distances between centres: 1.22 and 1.24 where all
# pairs meet (Gaussian 30,000 x 128 and 10,000 x 768). From 1.1 to 2 the choice is the same on eight of ten kinds of data; 1
# chooses centres where they bring nothing.
_CENTRED = 1.25
# What a pair that codes let pass takes beside the features of its rows, in distances. From 2 to 8 the choice is the same on
# eight of ten kinds of data, and on the others the times differ by a sixth to a fifth.
_SURVIVOR = 4
# And more than that where lists are long (Gaussian 2,000 to 30,000 x 128, k = 90: 75 to 110 ns in all, with 10 for a distance).
_LISTED = 4
# While lists fill, more pairs are near enough than in the end: 1.6 to 7 times as many on nine of ten kinds of data, 15 on
# clusters. The larger it is, the more often 16 bits are chosen: from 3 on where 8 take 0.9 of the time (Gaussian 10,000 x 768).
_WHILE_FILLING = 2.0
# How many times its length a long list takes in, if it begins with a radius: 0.8 to 2.4 (five kinds of data, 5,000 and 30,000
# rows, k = 90); if not: 2.4 and 2.6 (trained layers).
_WITH_RADIUS, _WITHOUT = 1.4, 2.5


class Coding(NamedTuple):
    """A way to code points.

    width : int
        Numbers of a sketch that are coded; 0 for all coordinates of the point.
    bits : int
    centred : bool
        Whether tiles have centres of their own.
    """

    width: int
    bits: int
    centred: bool


class Pilot(NamedTuple):
    """Some queries and some points, and what the search expects of them.

    queries, points : (q, d), (p, d) float32
        In the frame, all their coordinates.
    axes : (d, p) float32
        Of the frame.
    norms : (any,)
        Of points about the means of their tiles.
    radii : (q,)
        How far the queries have to search, in the frame.
    scanned : float
        Share of all pairs of points whose tiles cannot be told apart.
    n, k : int
        Points in all, and how long lists will be.
    """

    queries: Array
    points: Array
    axes: Array
    norms: Array
    radii: Array
    scanned: float
    n: int
    k: int


class Expected(NamedTuple):
    """What a coding is expected to cost a query where all rows are queries.

    products, distances, radii : float
        Nanoseconds of processor time: for pairs of codes, for the pairs that these let pass, and for the radii of long lists.
    """

    products: float
    distances: float
    radii: float = 0.0

    @property
    def cost(self) -> float:
        return self.products + self.distances + self.radii


def codings(d: int, n_axes: int, k: int) -> list[Coding]:
    """What there is to choose from, where lists are of k."""
    widths = [width for width in _WIDTHS if width <= _SHARE * d and width - 1 <= n_axes]
    whole = BITS if d > _FINE_FROM or (k > LONG and d > _NARROW) else BITS[:1]
    kinds = [(0, bits) for bits in whole] + [(width, bits) for width in widths for bits in BITS]
    return [Coding(width, bits, centred) for centred in (False, True) for width, bits in kinds]


def of_few(d: int) -> Coding:
    """For so few points that products of the finest codes take less time than the distances that coarser ones let pass."""
    return Coding(0, BITS[-1 if d > _NARROW else 0], False)


def coding_in_order(n: int, d: int, k: int) -> Coding:
    """For n points that are not in tiles of near ones, whatever they are."""
    few = n * n * d < _FEW_VALUES or (k > LONG and n < _FEW_FOR_EACH * k)
    return of_few(d) if few else codings(d, 0, k)[0]


def coding_bytes(choices: list[Coding], d: int) -> int:
    """Memory that codes of a point of d features take at most, point by point and tile by tile."""
    most: int = max(2 * coded_coordinates(width or d) * bits // 8 for width, bits, _ in choices)
    return most


def cheapest(pilot: Pilot, choices: list[Coding], prices: Prices) -> tuple[Coding, Expected]:
    """The choice that is expected to cost least."""
    squared = pair_distances(pilot.queries, pilot.points)
    widest = max(choice.width for choice in choices)
    queries, points = (some @ pilot.axes[:, : max(widest - 1, 0)] for some in (pilot.queries, pilot.points))
    whole = [np.einsum("ij,ij->i", some, some) for some in (pilot.queries, pilot.points)]
    norms = np.sqrt(whole[1])
    priced = []
    for width in sorted({choice.width for choice in choices}):
        if width:
            squared = _between_sketches(queries[:, : width - 1], points[:, : width - 1], *whole)
        priced += [_expected(pilot, choice, squared, norms, prices) for choice in choices if choice.width == width]
    return min(priced, key=lambda each: each[1].cost)


def pair_distances(queries: Array, points: Array) -> Array:
    """Squared distances (q, p) of all pairs, as a matrix product gives them."""
    norms, other_norms = (np.einsum("ij,ij->i", some, some) for some in (queries, points))
    squared: Array = np.maximum(norms[:, None] + other_norms - 2 * queries @ points.T, 0)
    return squared


def _between_sketches(queries: Array, points: Array, norms: Array, other_norms: Array) -> Array:
    """Squared distances between sketches: some coordinates, and the norm of the rest; norms : squared, of whole points."""
    rest, other_rest = (
        np.sqrt(np.maximum(whole - np.einsum("ij,ij->i", some, some), 0))
        for some, whole in ((queries, norms), (points, other_norms))
    )
    squared: Array = pair_distances(queries, points) + (rest[:, None] - other_rest) ** 2
    return squared


def _expected(pilot: Pilot, coding: Coding, squared: Array, norms: Array, prices: Prices) -> tuple[Coding, Expected]:
    """What a coding costs, where sketches have these squared distances."""
    d = pilot.points.shape[1]
    m = coded_coordinates(coding.width or d)
    reach = pilot.radii + 2 * _typical_error(pilot.norms if coding.centred else norms, m, coding.bits)
    filling = _WHILE_FILLING if pilot.k <= LONG else _WITHOUT if coding.width else _WITH_RADIUS
    survivors = filling * pilot.n * float((squared <= reach[:, None] ** 2).mean())
    pair = pair_price(prices, coding, d)
    products = pilot.n * pilot.scanned / 2 * pair * (_CENTRED if coding.centred else 1.0)
    survivor, with_radius = survivor_price(prices, d, pilot.k), pilot.k > LONG and not coding.width
    radii = min(pilot.n * pair, pilot.k * survivor) if with_radius else 0.0  # products, as far as these save distances
    return coding, Expected(products, survivors * survivor, radii)


def pair_price(prices: Prices, coding: Coding, d: int) -> float:
    """What the product of the codes of two points of d features costs."""
    m: int = coded_coordinates(coding.width or d)
    return prices.pair[coding.bits] + prices.coordinate[coding.bits] * m


def survivor_price(prices: Prices, d: int, k: int) -> float:
    """What a pair that codes let pass costs, where lists are of k."""
    distances = _SURVIVOR + _LISTED if k > LONG else _SURVIVOR
    return distances * prices.distance + prices.feature * d


def _typical_error(norms: Array, m: int, bits: int) -> float:
    """How far the codes of a point are from it, where its m coordinates are spread evenly."""
    step = max(_PEAK * np.median(norms) / m**0.5 / (2 ** (bits - 1) - 1), np.quantile(norms, 0.99) / 2**14)
    return float(step * (m / 12) ** 0.5)
