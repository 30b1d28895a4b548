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

__all__ = ["Target", "digest", "has_feature", "own_target", "sources_changed"]

# Settings of numba's that change the code that it makes, beside those of the processor.
_OPTIONS = (
    "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE",
    "USING_SVML",
)  # fmt: skip


def _read_sources() -> dict[str, str]:
    """The digest of each file of kernels, by name."""
    # Editors leave links beside a file that is being edited, which lead nowhere and whose names begin with a dot.
    found = [source for source in files(__package__).iterdir() if source.name.endswith(".py") and source.is_file()]
    return {
        source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in sorted(found, key=lambda source: source.name)
    }


# As they are when the first of them is imported.
_SOURCES = _read_sources()


class Target(NamedTuple):
    """A processor as LLVM names it, with features as "+avx2,-avx512f", and numba's options."""

    system: str
    processor: str
    features: str
    options: tuple[str, ...]


def own_target() -> Target:
    """What kernels that this process compiles are made for: its own processor, unless NUMBA_CPU_NAME names another."""
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return target_of(config.CPU_NAME or llvm.get_host_cpu_name(), features)


def target_of(processor: str, features: str) -> Target:
    options = tuple(f"{name}={getattr(config, name, None)}" for name in _OPTIONS)
    return Target(llvm.get_process_triple(), processor, features, options)


def has_feature(name: str) -> bool:
    """Whether the processor that kernels are compiled for has a feature."""
    return f"+{name}" in own_target().features.split(",")


@cache
def digest(target: Target) -> str:
    """Stands for the sources of all kernels, the compiler's versions, and the target."""
    made_by = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag)
    return hashlib.sha256(repr((made_by, _SOURCES, *target)).encode()).hexdigest()[:16]


class _Change:
    """Whether any file of kernels has been seen to differ from what it was; then this process's code is that of no digest."""

    seen = False


def sources_changed() -> bool:
    """Modules are imported when they are needed: they may have been edited, or replaced, since the first was.

    Where there are no sources, as in some bundles, nothing tells whether they have.
    """
    _Change.seen = _Change.seen or not _SOURCES or _read_sources() != _SOURCES
    return _Change.seen
