"""What random directions say of classes of points: the readouts nearest to them, one class alone or all on random sides."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.statistics.cone_projection import nearest_in_cone

__all__ = ["Shape", "clouds_of", "drawn_rows", "filled_by_dichotomies", "shape_of_class"]

Array = NDArray[np.float64]

# Lengths below this share of the largest are rounding.
_ROUNDING = 1e-12
# Directions this near to each other are told apart to two digits at best.
_NARROW = 1e-6


class Shape(NamedTuple):
    """What pairs of opposite directions (pairs,) say of a class; their means are what is measured."""

    distance: Array
    squared_radius: Array
    dimension: Array


def drawn_rows(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def clouds_of(X: NDArray[Any], rows: list[NDArray[np.int64]], center: bool) -> list[Array]:
    """Points of each class, in a unit in which no square overflows or vanishes."""
    clouds = [np.asarray(X[each], np.float64) for each in rows]
    largest = max(float(np.abs(cloud).max()) for cloud in clouds)
    clouds = [cloud / (largest or 1) for cloud in clouds]
    if center:
        origin = np.mean([cloud.mean(0) for cloud in clouds], axis=0)
        clouds = [cloud - origin for cloud in clouds]
    left = max(float(np.abs(cloud).max()) for cloud in clouds)
    if left <= _ROUNDING:
        raise FastentError("all rows of X are equal: there are no classes to tell apart")
    clouds = [cloud / left for cloud in clouds]
    _check_directions(np.concatenate(clouds))
    return clouds


def _check_directions(points: Array) -> None:
    """Refuse points all of which lie on one line through the origin but for little."""
    norms = np.linalg.norm(points, axis=1)
    units = points[norms > 0] / norms[norms > 0, None]
    axis = units[np.argmax(norms[norms > 0])]
    apart = float(np.abs(units - np.outer(np.where(units @ axis < 0, -1.0, 1.0), axis)).max())
    if _ROUNDING < apart < _NARROW:
        raise FastentError(
            f"the rows of X are in one direction from the origin to {apart:.1g} of their length: pass center=True, or drop "
            "rows that outweigh all others"
        )


def shape_of_class(cloud: Array, pairs: int, rng: np.random.Generator) -> Shape:
    """A class in coordinates along its axes, and one along its centre as if that were at a right angle to them all."""
    centre = cloud.mean(0)
    length, size = float(np.linalg.norm(centre)), float(np.linalg.norm(cloud, axis=1).max())
    along = _coordinates(cloud - centre, least=_ROUNDING * size)
    D = along.shape[1]
    if length <= _ROUNDING * size:  # around the origin in every direction: there is no margin on any side
        return Shape(np.full(pairs, float(D)), np.full(pairs, np.inf), np.full(pairs, float(D)))
    along = along / length
    rows = np.column_stack([along, np.ones(len(along))])
    norms = np.linalg.norm(rows, axis=1)
    directions = _directions(pairs, D + 1, rng)
    squares, anchors = np.empty(directions.shape[:2]), np.empty((*directions.shape[:2], D))
    for place in np.ndindex(squares.shape):
        weights = nearest_in_cone(rows / norms[:, None], directions[place])
        squares[place] = ((weights / norms @ rows) ** 2).sum()
        shares = weights / norms
        # The point of the class that holds the readout, or would be the first to.
        anchors[place] = shares @ along / shares.sum() if shares.any() else along[np.argmax(along @ directions[place][:D])]
    anchors -= anchors.mean((0, 1))
    lengths = np.linalg.norm(anchors, axis=2)
    products = (directions[..., :D] * anchors).sum(2)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    # Directions have unit length: squared lengths of normal ones have the mean D + 1.
    return Shape((D + 1) * squares.mean(1), (lengths**2).mean(1), (D + 1) * (cosines**2).mean(1))


def filled_by_dichotomies(
    clouds: list[Array], pairs: int, rng: np.random.Generator, report: Callable[[int], None]
) -> tuple[Array, int]:
    """Which share of random directions lies in the cone of the classes, each on a random side: squared cosines with what is
    nearest there, (pairs,); and the rank of the points."""
    points = np.concatenate(clouds)
    rows = _coordinates(points, least=_ROUNDING * float(np.linalg.norm(points, axis=1).max()))
    of = np.repeat(np.arange(len(clouds)), list(map(len, clouds)))
    norms = np.linalg.norm(rows, axis=1)
    rows, of = rows[norms > 0] / norms[norms > 0, None], of[norms > 0]
    filled = np.empty(pairs)
    for i, pair in enumerate(_directions(pairs, rows.shape[1], rng)):
        signed = rows * rng.choice([-1.0, 1.0], len(clouds))[of, None]
        filled[i] = np.mean([((nearest_in_cone(signed, direction) @ signed) ** 2).sum() for direction in pair])
        report(i + 1)
    return filled, rows.shape[1]


def _coordinates(points: Array, *, least: float) -> Array:
    """Points (m, d) in as many coordinates as they need; singular values up to `least` are rounding."""
    left, values, _ = np.linalg.svd(points, full_matrices=False)
    coordinates: Array = (left * values)[:, values > least]
    return coordinates


def _directions(pairs: int, dimension: int, rng: np.random.Generator) -> Array:
    """Random directions and their opposites, (pairs, 2, dimension): what two opposite ones say varies less."""
    drawn = rng.standard_normal((pairs, dimension))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.stack([drawn, -drawn], 1)
