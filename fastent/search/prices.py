"""What the steps of a search cost on this machine: measured once, in a tenth of a second, and kept beside the kernels."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastent.io.files import write_text
from fastent.kernels.cache import own_folder
from fastent.kernels.distance import squared_lengths
from fastent.kernels.found import ALL, Found
from fastent.kernels.lists import rank_candidates
from fastent.kernels.points import Points, Rows
from fastent.kernels.quantized import BITS, Codes, encode, no_codes
from fastent.kernels.scan import Asked, Met, Tolerance, scan
from fastent.kernels.search import search
from fastent.kernels.sharing import working
from fastent.kernels.tree import TILE
from fastent.search.tiles import boxes_around, starts

__all__ = ["TYPICAL", "Prices", "entries", "prices_for"]

# Without a suffix, which kernels have.
_FILE = "prices"
# Points, and the fewer and the more features, from which prices are taken; each is the least of so many times.
_POINTS, _FEW, _MANY, _TIMES = 1024, 64, 512, 3
# Candidates that each point ranks; queries of a scan, and how many times as many points it reads.
_RANKED, _QUERIES, _READ = 16, 32, 8


class Prices(NamedTuple):
    """Nanoseconds on one core.

    coordinate, pair : for a coordinate of the codes of a pair, and for a pair beside these, by bits
    distance, feature : for a distance in double precision, and for each feature of it
    encoded : for a value on its way to a code
    scanned, scanned_pair : for a feature of a pair that is scanned as it lies in memory, and for a pair beside these
    read : for a value that is read for that
    """

    coordinate: dict[int, float]
    pair: dict[int, float]
    distance: float
    feature: float
    encoded: float
    scanned: float
    scanned_pair: float
    read: float


# On Zen 4, for searches that take less than measuring would.
TYPICAL = Prices({8: 0.0047, 16: 0.009}, {8: 0.2, 16: 0.2}, 10.0, 0.14, 4.0, 0.026, 1.2, 0.16)
_SMALL = 2.0**33


def entries(n: int, k: int) -> float:
    """How many of n rows, in any order, enter a list of the k nearest."""
    return float(k * (1 + np.log(max(n / max(k, 1), 1))))


def prices_for(pairs: float, d: int) -> Prices:
    """Of a search in which so many pairs of d features could meet."""
    return TYPICAL if pairs * d < _SMALL else _machine_prices()


@cache
def _machine_prices() -> Prices:
    """As measured on this machine, by this process or another."""
    folder = own_folder()
    if folder is not None:
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads((folder.path / _FILE).read_text())
            by_bits = {name: {bits: float(kept[name][str(bits)]) for bits in BITS} for name in ("coordinate", "pair")}
            return Prices(**(kept | by_bits))
    prices = _measured()
    if folder is not None:
        with suppress(OSError):
            folder.make()
            write_text(folder.path / _FILE, json.dumps(prices._asdict()))
    return prices


def _measured() -> Prices:
    X = np.random.default_rng(0).standard_normal((_POINTS, _MANY), dtype=np.float32)
    with working(1):
        coordinate, pair = {}, {}
        for bits in BITS:
            few, many = (_seconds(_products(X[:, :m], bits)) / _POINTS**2 for m in (_FEW, _MANY))
            coordinate[bits] = max(many - few, 0.1 * many) / (_MANY - _FEW) * 1e9
            pair[bits] = max(1e9 * few - coordinate[bits] * _FEW, 0.05)
        few, many = (_seconds(_distances(X[:, :m])) / (_POINTS * _RANKED) for m in (_FEW, _MANY))
        feature = max(many - few, 0.1 * many) / (_MANY - _FEW) * 1e9
        distance = max(1e9 * few - feature * _FEW, 1.0)
        encoded = _seconds(lambda: _codes(X, BITS[0])) / X.size * 1e9
        X = np.tile(X, (_READ, 1))
        read = _seconds(_scan(X, 1)) / X.size * 1e9
        few, many = (
            max(_seconds(_scan(some, _QUERIES)) - _seconds(_scan(some, 1)), 0.0) / (len(X) * (_QUERIES - 1)) * 1e9
            for some in (X[:, :_FEW], X)
        )
        scanned = max(many - few, 0.1 * many) / (_MANY - _FEW)
        scanned_pair = max(few - scanned * _FEW, 0.05)
    return Prices(coordinate, pair, distance, feature, encoded, scanned, scanned_pair, read)


def _seconds(work: Callable[[], Any]) -> float:
    """Of this thread's processor time, at the least; compilation does not count."""
    work()
    taken = []
    for _ in range(_TIMES):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return min(taken)


def _codes(points: Any, bits: int) -> Codes:
    start, d = starts(len(points)), points.shape[1]
    codes: Codes = no_codes(len(start) - 1, d, bits)
    points, origin = np.ascontiguousarray(points), np.zeros(d, np.float32)
    encode(points, start, origin, codes, first_tile=0, bits=bits, share=0.0, centred=False)
    return codes


def _products(points: Any, bits: int) -> Callable[[], Any]:
    """All pairs of codes, none of which is near enough: tiles overlap, but distances are nearly three times what is wanted."""
    n, d = points.shape
    start, none = starts(n), np.zeros(n, np.int64)
    boxes = boxes_around(np.zeros((n, 1), np.float32), start, none, 0.0)
    rows = Rows(np.arange(n), np.ascontiguousarray(points), np.empty(0), none, 1.0, 0.0)
    tiles = Points(boxes, _codes(points, bits), rows)
    radius = 0.5 * d**0.5
    found = Found(
        squared=np.full((n, 1), radius**2),
        index=np.zeros((n, 1), np.int64),
        nearer_than=np.empty(0),
        count=np.zeros(n, np.int64),
        excluded=np.arange(n),
        radii=np.full(-(-n // TILE) * TILE, radius, np.float32),
    )
    return lambda: search((0, len(start) - 1), tiles, tiles, bits, ALL, found)


def _distances(points: Any) -> Callable[[], Any]:
    points, n = np.ascontiguousarray(points), len(points)
    lengths, candidates = squared_lengths(points), np.arange(n)[:, None] - np.arange(_RANKED)
    return lambda: rank_candidates(points, lengths, points, lengths, np.arange(n), candidates % n, 1, False)


def _scan(points: Any, q: int) -> Callable[[], Any]:
    """Queries that want nothing, and rows."""
    points = np.ascontiguousarray(points)
    queries, most = np.ascontiguousarray(points[:q]), float(np.finfo(np.float32).max)
    asked = Asked(queries, np.empty(0), np.arange(q), np.zeros((q, 1)), np.zeros((q, 1), np.int64))
    met, tolerance = Met(points, queries, np.zeros(q)), Tolerance(1.0, 1.0, 0.0, most, most, False, 0)
    return lambda: scan(points, 0, asked, met, tolerance)
