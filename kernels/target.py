"""What machine code is made for, and the digest of all that it depends on."""

import hashlib
import sys
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numba
from numba import config
from numba.core.codegen import get_host_cpu_features

__all__ = ["Target", "digest", "has_feature", "target"]

# Settings of numba's that change the code that it makes, beside those of the target.
_OPTIONS = (
    "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE",
    "USING_SVML",
)  # fmt: skip


class Target(NamedTuple):
    """As LLVM names it; features as "+avx2,-avx512f"."""

    system: str
    processor: str
    features: str


def target() -> Target:
    """What kernels that this process compiles are made for: its own processor, unless NUMBA_CPU_NAME names another."""
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return Target(llvm.get_process_triple(), config.CPU_NAME or llvm.get_host_cpu_name(), features)


def has_feature(name: str) -> bool:
    """Whether the target's processor has a feature."""
    return f"+{name}" in target().features.split(",")


@cache
def digest(target: Target) -> str:
    """Stands for the sources of all kernels, the compiler's versions and options, and the target."""
    made_by = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag)
    options = [(name, str(getattr(config, name, None))) for name in _OPTIONS]
    found = hashlib.sha256(repr((made_by, options, *target)).encode())
    for source in sorted(files(__package__).iterdir(), key=lambda source: source.name):
        if source.name.endswith(".py"):
            found.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return found.hexdigest()[:16]
