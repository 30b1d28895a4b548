"""Points in tiles, as a search meets them.

Numba unpacks a whole tuple wherever one of its fields is used, so small tuples compile faster: what kernels use comes in
several, and most steps are passed those that they need.
"""

from typing import Any, NamedTuple

from .quantized import Codes

__all__ = ["Boxes", "Points", "Rows"]


class Boxes(NamedTuple):
    """Where points lie, by their sketches.

    start : (tiles + 1,) int64
        Where each tile begins.
    tiled : (tiles, m * TILE) float32
        Coordinate j of point t at j * TILE + t.
    lower, upper : (tiles, m) float32
        Widened by what a sketch may be off.
    sketch_error : (tiles,) float32
        Largest error of a sketch in the tile.
    classes : (tiles,) int64
        The class of all of a tile's points; -1 where they have several.
    twin : (tiles,) int64
        Where all points of a run of tiles have one and the same sketch: the first tile of that run, else the tile itself.
    """

    start: Any
    tiled: Any
    lower: Any
    upper: Any
    sketch_error: Any
    classes: Any
    twin: Any


class Rows(NamedTuple):
    """What a pair of points needs, in tile order.

    ids : (n,) int64
        Numbers by which results are reported; ascending within a tile.
    rows : (n, d) float32 or float64
        As they were given; for angles each may be scaled.
    lengths : (n,) float64
        For angles, from `squared_lengths`; else of length 0.
    classes : (n,) int64
    scale, slack : float
        Two rows within a distance r lie within scale * r + slack in sketches and codes.
    """

    ids: Any
    rows: Any
    lengths: Any
    classes: Any
    scale: float
    slack: float


class Points(NamedTuple):
    """A set of points in tiles."""

    boxes: Boxes
    codes: Codes
    rows: Rows
