"""The matrix-product kernels of OpenBLAS, which decide how fast faiss is, and which of them are fastest on this machine.

python -m bench.blas [WIDTH ...]

OpenBLAS reads OPENBLAS_CORETYPE when it is loaded, so that each kernel needs a process of its own. Without it the library
recognises the processor, if that is not newer than the library: faiss-cpu 1.15 brings OpenBLAS 0.3.15 of 2021, which takes kernels
of 2007 on a Zen 5, and AVX2 kernels on a Zen 4, which has AVX-512.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from bench.timing import timed

__all__ = ["OWN_CHOICE", "environment", "fastest_core_types", "loaded_kernels"]

OWN_CHOICE = "own choice"
_CORE_TYPES = (OWN_CHOICE, "SkylakeX", "Haswell", "Zen", "Cooperlake", "SapphireRapids")
_QUERIES, _MULTIPLY_ADDS, _ROUNDS = 2048, 4e9, 3
_CHECKED = 20
_SECONDS = 120


def environment(core_type: str = OWN_CHOICE) -> dict[str, str]:
    """The environment of this process, but with the OpenBLAS kernels of `core_type` and OpenMP threads that sleep while they wait."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    chosen = {} if core_type == OWN_CHOICE else {"OPENBLAS_CORETYPE": core_type}
    return kept | {"OMP_WAIT_POLICY": "passive"} | chosen


def loaded_kernels() -> dict[str, str]:
    """The kernels in use, by the package that brought the library: {"numpy": "SkylakeX", "faiss_cpu": "Haswell", ...}."""
    return {
        Path(library["filepath"]).parent.name.removesuffix(".libs"): library["architecture"]
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    }


def fastest_core_types(widths: Sequence[int]) -> dict[int, str]:
    """The core type with which faiss.knn takes the least processor time, for each number of features."""
    seconds = _trials(widths)
    return {width: min(seconds, key=lambda core_type: seconds[core_type][width]) for width in widths}


def _trials(widths: Sequence[int]) -> dict[str, dict[int, float]]:
    """Seconds by core type and width; core types that this processor cannot run, or that compute wrongly, are left out."""
    found = {}
    for core_type in _CORE_TYPES:
        command = [sys.executable, "-c", "from bench.blas import trial; trial()", *map(str, widths)]
        done = subprocess.run(
            command, env=environment(core_type), cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            found[core_type] = {int(width): seconds for width, seconds in json.loads(done.stdout).items()}
        elif core_type == OWN_CHOICE:
            raise RuntimeError(f"faiss.knn fails with the kernels that OpenBLAS chooses:\n{done.stderr}")
    return found


def trial() -> None:
    """Print the seconds of each width in sys.argv with the kernels of this process."""
    print(json.dumps({width: _seconds(int(width)) for width in sys.argv[1:]}))


def _seconds(width: int) -> float:
    import faiss

    generator = np.random.default_rng(0)
    rows = generator.standard_normal((int(_MULTIPLY_ADDS / _QUERIES / width), width), dtype=np.float32)
    queries = generator.standard_normal((_QUERIES, width), dtype=np.float32)
    squared = faiss.knn(queries, rows, 1)[0][:_CHECKED, 0]
    differences = queries[:_CHECKED, None].astype(np.float64) - rows
    np.testing.assert_allclose(squared, np.einsum("qnd,qnd->qn", differences, differences).min(1), rtol=1e-4)
    return min(timed(lambda: faiss.knn(queries, rows, 11)).processor for _ in range(_ROUNDS))


def main() -> None:
    widths = [int(width) for width in sys.argv[1:]] or [128, 384, 768, 4096]
    print("processor seconds of faiss.knn; features:", *widths)
    for core_type, seconds in _trials(widths).items():
        print(f"{core_type:>14}", *(f"{each:.3f}" for each in seconds.values()))


if __name__ == "__main__":
    main()
