"""Kernels that come with the wheel, compiled for levels of the x86-64 architecture that many processors have.

`python -m fastent.kernels.prebuilt FOLDER` makes them, for the levels that this machine can run: folders `<level>-<digest>`,
which setup.py puts into `compiled`, beside this file. A processor uses the best set that it can run; what is not in it is
compiled. Where numba has another version than the set was made with, there is no set of that digest.
"""

import os
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

import llvmlite.binding as llvm
from numba import config

from .target import digest, target_of

__all__ = ["LEVELS", "best_set", "processor_of", "runs_here"]

_V3 = [
    "cx16",
    "sahf",
    "popcnt",
    "sse3",
    "sse4.1",
    "sse4.2",
    "ssse3",
    "avx",
    "avx2",
    "bmi",
    "bmi2",
    "f16c",
    "fma",
    "lzcnt",
    "movbe",
]
_V4 = [*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]
# Processors as LLVM names them, with products of bytes where the name ends in that; the best first, each with what it asks for.
LEVELS = {"x86-64-v4-vnni": [*_V4, "avx512vnni"], "x86-64-v4": _V4, "x86-64-v3": _V3}


@cache
def best_set() -> Path | None:
    """The folder of the best set for this processor; None if there is none, or kernels are to be made for another processor."""
    if config.CPU_NAME or config.CPU_FEATURES is not None or not config.ENABLE_AVX:
        return None
    sets = Path(str(files(__package__))) / "compiled"
    usable = [sets / _name(level) for level in LEVELS if runs_here(level)] if sets.is_dir() else []
    return next((folder for folder in usable if folder.is_dir()), None)


def runs_here(level: str) -> bool:
    features = llvm.get_host_cpu_features()
    return all(features.get(name, False) for name in LEVELS[level])


def _name(level: str) -> str:
    return f"{level}-{digest(target_of(processor_of(level), _features(level)))}"


def processor_of(level: str) -> str:
    return level.removesuffix("-vnni")


def _features(level: str) -> str:
    return ",".join(f"+{name}" for name in LEVELS[level])


def _make_sets(top: Path) -> None:
    for level in filter(runs_here, LEVELS):
        target = {"NUMBA_CPU_NAME": processor_of(level), "NUMBA_CPU_FEATURES": _features(level)}
        made_for = target | {"NUMBA_DISABLE_INTEL_SVML": "1"}
        subprocess.run(
            [sys.executable, "-m", "fastent", "warmup"], check=True, env=os.environ | made_for | {"FASTENT_CACHE_DIR": str(top)}
        )
        (made,) = (top / "kernels").iterdir()
        (made / "complete").unlink()
        made.rename(top / _name(level))
    (top / "kernels").rmdir()


if __name__ == "__main__":
    _make_sets(Path(sys.argv[1]))
