"""The cells of the grid: kinds of data, each with sizes, queries, dtypes and metrics.

A few queries are points like the rows but none of them; otherwise all rows are queries.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import activations, embeddings
from bench.scale import scaled

__all__ = ["APPROXIMATE", "CELLS", "LEAST_ROWS", "Cell", "points_of"]

Array = NDArray[Any]
LEAST_ROWS = 300


class Cell(NamedTuple):
    """What is searched: `queries` is None where all rows are queries."""

    kind: str
    n: int
    d: int
    queries: int | None = None
    dtype: str = "float32"
    metric: str = "euclidean"

    @property
    def name(self) -> str:
        queries = "" if self.queries is None else f", {self.queries:,} quer{'y' if self.queries == 1 else 'ies'}"
        return f"{self.kind}, {self.n:,} x {self.d:,} {self.dtype}, {self.metric}{queries}"

    @property
    def decays(self) -> bool:
        """Whether the variance is unequal among the axes, without which Panorama excludes nothing."""
        return self.kind not in (GAUSSIAN, CLUSTERED)


GAUSSIAN, CLUSTERED, SENTENCES = "isotropic Gaussian", "clusters", "sentence embeddings"
RANDOM, PIXELS, CIFAR = "random ReLU network on text", "MNIST pixels", "CIFAR-10 pixels"
POOLED = {layer: f"MiniLM layer {layer}, mean of a text" for layer in embeddings.LAYERS}
TOKENS = {layer: f"MiniLM layer {layer}, tokens" for layer in embeddings.LAYERS}
TRAINED = {1: "MLP on MNIST, first layer", 2: "MLP on MNIST, second layer", 3: "MLP on MNIST, last layer"}
UNTRAINED = {layer: f"untrained {name}" for layer, name in TRAINED.items()}

# (n, d) of a kind of data.
_MAKERS: dict[str, Callable[[int, int], Array]] = {
    GAUSSIAN: lambda n, d: activations.gaussian(n, d)[0],
    CLUSTERED: activations.clustered,
    SENTENCES: lambda n, d: embeddings.sentences()[:n],
    RANDOM: embeddings.random_relu,
    PIXELS: lambda n, d: activations.activations("untrained", 0)[0][:n],
    CIFAR: lambda n, d: activations.cifar10(n),
}
for _layer in embeddings.LAYERS:
    _MAKERS[POOLED[_layer]] = lambda n, d, layer=_layer: embeddings.hidden_states(layer, n, pooled=True)
    _MAKERS[TOKENS[_layer]] = lambda n, d, layer=_layer: embeddings.hidden_states(layer, n, pooled=False)
for _state, _layers in (("trained", TRAINED), ("untrained", UNTRAINED)):
    for _layer, _kind in _layers.items():
        _MAKERS[_kind] = lambda n, d, state=_state, layer=_layer: activations.activations(state, layer)[0][:n]


def points_of(cell: Cell) -> tuple[Array, Array | None]:
    """The rows and, if not all of these are queries, the queries; scaled by FASTENT_BENCH_SHARE."""
    n = scaled(cell.n, LEAST_ROWS) + (cell.queries or 0)
    points = np.ascontiguousarray(_MAKERS[cell.kind](n, cell.d), cell.dtype)
    if cell.metric == "cosine":  # a few rows of a layer of ReLU may be zeros, which have no direction
        points = np.ascontiguousarray(points[points.any(1)])
    return (points, None) if cell.queries is None else (points[: -cell.queries], points[-cell.queries :])


_half = partial(Cell, dtype="float16")
_double = partial(Cell, dtype="float64")

CELLS = (
    # Embeddings and hidden states.
    _half(SENTENCES, 63_144, 384),
    _half(SENTENCES, 63_144, 384, metric="cosine"),
    Cell(SENTENCES, 20_000, 384),
    Cell(SENTENCES, 5_000, 384),
    _double(SENTENCES, 20_000, 384, metric="cosine"),
    *(_half(kinds[layer], 20_000, 384) for kinds, layer in product((POOLED, TOKENS), embeddings.LAYERS)),
    _half(POOLED[6], 20_000, 384, metric="cosine"),
    _half(TOKENS[6], 20_000, 384, metric="cosine"),
    Cell(POOLED[3], 5_000, 384),
    Cell(RANDOM, 20_000, 768),
    Cell(RANDOM, 50_000, 768),
    Cell(RANDOM, 20_000, 1536),
    Cell(RANDOM, 10_000, 4096),
    Cell(RANDOM, 10_000, 768, metric="cosine"),
    # Layers of a network on pictures, and the pictures.
    Cell(TRAINED[3], 70_000, 128),
    Cell(TRAINED[2], 70_000, 512),
    Cell(TRAINED[1], 70_000, 512),
    Cell(UNTRAINED[3], 70_000, 128),
    Cell(UNTRAINED[1], 70_000, 512),
    Cell(PIXELS, 70_000, 784),
    Cell(TRAINED[3], 10_000, 128),
    _double(TRAINED[3], 20_000, 128),
    _half(TRAINED[2], 20_000, 512),
    Cell(TRAINED[2], 20_000, 512, metric="cosine"),
    Cell(UNTRAINED[1], 10_000, 512, metric="cosine"),
    Cell(PIXELS, 10_000, 784, metric="cosine"),
    Cell(CIFAR, 12_000, 3072),
    Cell(CIFAR, 12_000, 3072, metric="cosine"),
    # Isotropic: no direction tells more than another.
    Cell(GAUSSIAN, 20_000, 64),
    Cell(GAUSSIAN, 40_000, 64),
    Cell(GAUSSIAN, 2_000, 128),
    Cell(GAUSSIAN, 20_000, 128),
    Cell(GAUSSIAN, 40_000, 128),
    Cell(GAUSSIAN, 5_000, 384),
    Cell(GAUSSIAN, 15_000, 384),
    Cell(GAUSSIAN, 10_000, 768),
    Cell(GAUSSIAN, 20_000, 768),
    Cell(GAUSSIAN, 8_000, 1536),
    Cell(GAUSSIAN, 5_000, 4096),
    _half(GAUSSIAN, 20_000, 128),
    _double(GAUSSIAN, 20_000, 128),
    _double(GAUSSIAN, 5_000, 768),
    Cell(GAUSSIAN, 20_000, 128, metric="cosine"),
    Cell(GAUSSIAN, 15_000, 384, metric="cosine"),
    Cell(GAUSSIAN, 5_000, 1536, metric="cosine"),
    # 100 clusters.
    Cell(CLUSTERED, 50_000, 128),
    Cell(CLUSTERED, 15_000, 768),
    _double(CLUSTERED, 20_000, 64),
    _half(CLUSTERED, 20_000, 384, metric="cosine"),
    # A few queries.
    *(Cell(GAUSSIAN, 200_000, 384, queries) for queries in (1, 10, 100, 500, 1000)),
    _half(GAUSSIAN, 200_000, 384, 100),
    Cell(GAUSSIAN, 200_000, 384, 100, metric="cosine"),
    Cell(GAUSSIAN, 20_000, 4096, 10),
    Cell(GAUSSIAN, 20_000, 4096, 100),
    *(_half(SENTENCES, 60_000, 384, queries) for queries in (1, 10, 100, 1000)),
    _half(SENTENCES, 60_000, 384, 100, metric="cosine"),
    *(Cell(TRAINED[3], 69_000, 128, queries) for queries in (1, 100, 1000)),
)  # fmt: skip

# Where approximate searches are timed too.
APPROXIMATE = (
    Cell(SENTENCES, 63_144, 384),
    *(Cell(kind, 70_000, d) for kind, d in ((TRAINED[3], 128), (TRAINED[2], 512), (TRAINED[1], 512))),
)
