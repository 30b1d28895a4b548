"""Candidates for near neighbours from faiss and torch, which rank in single precision: what they propose is ranked again.

Those that scan all pairs also say beyond which distance everything lies that they have not proposed.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.options import whole_number
from fastent.printable import first_line
from fastent.runtime.optional import needed
from fastent.runtime.threads import heed_fork

__all__ = ["PROPOSERS", "chosen_options"]

Array = NDArray[Any]
Proposed = tuple[Array, Array | None]

_BLOCK = 4096
# Points are where exact arithmetic puts them, but for this share of their norm.
_ROUNDING = 2.0**-23
# Of a product whose factors torch may cut to 8 bits, where it was told that this precision will do.
_CUT = 2.0**-6

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


def _beyond(points: Array, farthest: Array, share: float) -> Array:
    """What a squared distance in single precision says of the distance: it may be off by `share` of both squared norms.

    |b|^2 <= 2 |a|^2 + 2 |a - b|^2, so that only |a| need be known.
    """
    norms = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    least = np.maximum(farthest.astype(np.float64) - 3 * share * norms, 0) / (1 + 2 * share)
    beyond: Array = np.sqrt(least) * (1 - 4 * _ROUNDING) - 4 * _ROUNDING * np.sqrt(norms)
    return beyond


def _share(d: int) -> float:
    """What rounding may do to a squared distance, as a share of both squared norms."""
    return (d + 8) * _ROUNDING


def _flat(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Proposed:
    squared, found = _faiss().knn(points, rows, wanted)
    return found, _beyond(points, squared[:, -1], _share(rows.shape[1]))


def _ivf(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Proposed:
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
    return index.search(points, wanted)[1], None


def _hnsw(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Proposed:
    index = _faiss().IndexHNSWFlat(rows.shape[1], whole_number("hnsw_m", options["hnsw_m"], minimum=2))
    index.hnsw.efConstruction = whole_number("ef_construction", options["ef_construction"], minimum=1)
    index.hnsw.efSearch = max(wanted, whole_number("ef_search", options["ef_search"], minimum=1))
    index.add(rows)
    return index.search(points, wanted)[1], None


def _torch(rows: Array, points: Array, wanted: int, seed: int, options: dict[str, Any]) -> Proposed:
    import torch

    heed_fork()
    try:
        device = torch.device(options["device"] or "cpu")
        data = torch.from_numpy(rows).to(device)
    except (RuntimeError, AssertionError) as error:
        raise FastentError(f"device={options['device']!r}: {first_line(error)}; use 'cpu'") from error
    norms = (data**2).sum(1)
    found, farthest = np.empty((len(points), wanted), np.int64), np.empty(len(points), np.float32)
    plain = torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()
    with plain, torch.no_grad():
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
            farthest[begin : begin + _BLOCK] = (best[0].amax(1) + (block**2).sum(1)).cpu().numpy()
    share = _share(rows.shape[1]) if _full_precision(torch) else _CUT
    return found, _beyond(points, farthest, share)


def _full_precision(torch: Any) -> bool:
    """Whether products of float32 matrices are such, and not of factors that were cut to fewer bits."""
    backends = torch.backends
    owners = backends, backends.cuda.matmul, backends.mkldnn, getattr(backends.mkldnn, "matmul", None)
    cut = any(getattr(owner, "fp32_precision", "none") not in ("none", "ieee") for owner in owners)
    return not cut and torch.get_float32_matmul_precision() == "highest"


# Rows (n, d) and points (q, d) are float32 from `Frame.whole`: centred, where less is lost to cancellation, and of a size whose
# squares do not overflow. Found are row numbers (q, wanted), -1 where the method found no more, and the distances (q,) below
# which no row lies that was not proposed, None where these are not known.
PROPOSERS: dict[str, Callable[[Array, Array, int, int, dict[str, Any]], Proposed]] = {
    "flat": _flat,
    "ivf": _ivf,
    "hnsw": _hnsw,
    "torch": _torch,
}


def _faiss() -> Any:
    faiss = needed("faiss", instead=", or use method='exact'")
    heed_fork()
    return faiss
