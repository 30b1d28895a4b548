"""Candidates for near neighbours from faiss and torch, which rank in single precision: what they propose is ranked again."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.options import whole_number
from fastent.threads import heed_fork

__all__ = ["PROPOSERS", "chosen_options", "propose"]

Array = NDArray[Any]

_BLOCK = 4096

# What each method can be told, and what it takes unless told.
_OPTIONS: dict[str, dict[str, Any]] = {
    "ivf": {"nlist": None, "nprobe": 16},
    "hnsw": {"hnsw_m": 16, "ef_construction": 100, "ef_search": 50},
    "torch": {"device": None},
}


def chosen_options(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a method; one that is another's is refused."""
    known = _OPTIONS.get(method, {})
    for name, value in given.items():
        if value is not None and name not in known:
            owner = next(other for other, names in _OPTIONS.items() if name in names)
            raise FastentError(f"{name}={value!r} is for method={owner!r}, not {method!r}: leave it out or choose that method")
    return known | {name: value for name, value in given.items() if value is not None}


def propose(method: str, rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Array:
    """(q, wanted) row numbers near each point, -1 where the method found no more.

    Parameters
    ----------
    method : str
        Of `PROPOSERS`.
    rows : (n, d), points : (q, d)
    options : dict
        From `chosen_options`.
    """
    return PROPOSERS[method](*_centred(rows, points), wanted, seed, options)


def _centred(rows: Array, points: Array) -> tuple[Array, Array]:
    """In single precision about the mean, where less is lost to cancellation, and of a size whose squares do not overflow."""
    origin = rows[:: max(1, len(rows) // _BLOCK)].astype(np.float64).mean(0)
    rows, points = rows - origin, points - origin
    largest = max(np.abs(rows).max(), np.abs(points).max())
    scale = 2.0 ** -np.frexp(largest)[1]
    return (rows * scale).astype(np.float32), (points * scale).astype(np.float32)


def _flat(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Array:
    return _faiss().knn(points, rows, wanted)[1]  # type: ignore[no-any-return]


def _ivf(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Array:
    faiss = _faiss()
    n, d = rows.shape
    lists = (
        min(n, int(4 * n**0.5)) if options["nlist"] is None else whole_number("nlist", options["nlist"], minimum=1, maximum=n)
    )
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, lists)
    index.cp.seed, index.cp.min_points_per_centroid = seed + 1, 1
    index.train(rows)
    index.add(rows)
    index.nprobe = min(lists, whole_number("nprobe", options["nprobe"], minimum=1))
    return index.search(points, wanted)[1]  # type: ignore[no-any-return]


def _hnsw(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Array:
    index = _faiss().IndexHNSWFlat(rows.shape[1], whole_number("hnsw_m", options["hnsw_m"], minimum=2))
    index.hnsw.efConstruction = whole_number("ef_construction", options["ef_construction"], minimum=1)
    index.hnsw.efSearch = max(wanted, whole_number("ef_search", options["ef_search"], minimum=1))
    index.add(rows)
    return index.search(points, wanted)[1]  # type: ignore[no-any-return]


def _torch(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Array:
    import torch

    heed_fork()
    try:
        device = torch.device(options["device"] or "cpu")
        data = torch.from_numpy(rows).to(device)
    except (RuntimeError, AssertionError) as error:
        raise FastentError(f"device={options['device']!r}: {str(error).splitlines()[0]}; use 'cpu'") from error
    norms = (data**2).sum(1)
    found = np.empty((len(points), wanted), np.int64)
    for begin in range(0, len(points), _BLOCK):
        block = torch.from_numpy(points[begin : begin + _BLOCK]).to(device)
        best: tuple[Any, Any] | None = None
        for at in range(0, len(data), 8 * _BLOCK):
            part = slice(at, at + 8 * _BLOCK)
            scores = torch.addmm(norms[part], block, data[part].T, alpha=-2)
            values, columns = scores.topk(min(wanted, scores.shape[1]), largest=False)
            columns = columns + at
            if best is not None:
                values, columns = torch.cat([best[0], values], 1), torch.cat([best[1], columns], 1)
                values, kept = values.topk(min(wanted, values.shape[1]), largest=False)
                columns = columns.gather(1, kept)
            best = values, columns
        assert best is not None
        found[begin : begin + _BLOCK] = best[1].cpu().numpy()
    return found


PROPOSERS: dict[str, Callable[[Array, Array, int, int, dict[str, Any]], Array]] = {
    "flat": _flat,
    "ivf": _ivf,
    "hnsw": _hnsw,
    "torch": _torch,
}


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise FastentError("faiss is not installed: pip install '.[faiss]' in the clone, or use method='exact'") from None
    heed_fork()
    return faiss
