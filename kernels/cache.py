"""Where compiled kernels are kept: in the wheel, for common processors, and in the user's cache folder.

They are kept under the digest of all that machine code depends on: what was made from other sources, or for another processor,
is never found. An entry is one file, written aside and then moved into its place, so that many processes may write and read at
once. It begins with a checksum: a damaged one is not found either, and is written again. Entries are run as code: whoever can
write to the folder can do what its user can.
"""

import hashlib
import os
import pickle
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from numba.core import sigutils
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fastent.errors import warn

from .prebuilt import best_set
from .target import Target, digest, target

__all__ = ["KernelCache", "cache_folder", "own_folder"]

_CHECKSUM_BYTES = 32
# Folders that nobody has used for so long are removed.
_DAYS = 90


class KernelCache(NullCache):  # type: ignore[misc]
    """What numba asks for a kernel's machine code before it compiles, and hands the code to that it has compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    @property
    def cache_path(self) -> str | None:
        folder = own_folder()
        return None if folder is None else str(folder.path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()  # what unpickled code refers to must be declared
        own = own_folder()
        for folder in (best_set(), own and own.path):
            entry = None if folder is None else _read(folder / self._entry_name(sig))
            if entry is not None:
                with suppress(Exception):  # whatever it is: the kernel is compiled, and written again
                    compiled = CompileResult._rebuild(target_context, *pickle.loads(entry))
                    if compiled.signature.args == _arguments(sig):
                        return compiled
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        folder, entry = own_folder(), dumps(data._reduce())
        if folder is None:
            _say_once("no home folder is known")
            return
        try:
            folder.write(self._entry_name(sig), entry)
        except OSError as error:
            _say_once(f"{folder.path} cannot be written to ({error.strerror})")

    def _entry_name(self, sig: Any) -> str:
        return f"{self._name}-{hashlib.sha256(repr(_arguments(sig)).encode()).hexdigest()[:16]}"


def _arguments(sig: Any) -> tuple[Any, ...]:
    return tuple(sigutils.normalize_signature(sig)[0])


def _read(file: Path) -> bytes | None:
    """An entry, unless it is missing or damaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    checksum, entry = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    return entry if hashlib.sha256(entry).digest() == checksum else None


class CacheFolder:
    """The entries of one digest, in a folder beside those of others.

    Its name begins with what stands for the installation and the target. Of folders that begin alike one is up to date.
    """

    def __init__(self, top: Path, made_for: Target) -> None:
        installation = (str(files(__package__)), sys.prefix, sys.implementation.cache_tag)
        self._own = hashlib.sha256(repr((installation, *made_for)).encode()).hexdigest()[:12]
        self.path = top / f"{self._own}-{digest(made_for)}"
        self._is_tidy = False
        with suppress(OSError):
            os.utime(self.path)

    def write(self, name: str, entry: bytes) -> None:
        """Raise OSError if that is not possible."""
        self.path.mkdir(parents=True, exist_ok=True)
        place, aside = self.path / name, self.path / f"{name}.{uuid.uuid4().hex}"
        if place.is_dir():
            shutil.rmtree(place)
        try:
            aside.write_bytes(hashlib.sha256(entry).digest() + entry)
            os.replace(aside, place)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        if not self._is_tidy:
            self._is_tidy = True
            self._tidy()

    def _tidy(self) -> None:
        """Remove what this installation will not read again, and what nobody has used for long."""
        for other in self.path.parent.iterdir():
            with suppress(OSError):
                unused = time.time() - other.stat().st_mtime > _DAYS * 24 * 3600
                if other != self.path and (unused or other.name.startswith(f"{self._own}-")):
                    shutil.rmtree(other)


def cache_folder() -> Path | None:
    """FASTENT_CACHE_DIR, or fastent's part of the user's cache folder; None if there is neither, as without a home."""
    if os.environ.get("FASTENT_CACHE_DIR"):
        return Path(os.environ["FASTENT_CACHE_DIR"]).absolute()
    # A relative XDG_CACHE_HOME does not count. Without a home expanduser leaves "~" as it is, which would be a folder here.
    home = "" if os.environ.get("HOME") == "" else os.path.expanduser("~/.cache")
    user_wide = next((place for place in (os.environ.get("XDG_CACHE_HOME", ""), home) if os.path.isabs(place)), None)
    return None if user_wide is None else Path(user_wide, "fastent")


def own_folder() -> CacheFolder | None:
    """Where this process keeps kernels."""
    top = cache_folder()
    return None if top is None else _folder_in(top / "kernels", target())


_folder_in = cache(CacheFolder)


@cache
def _say_once(why: str) -> None:
    warn(f"kernels are compiled anew in every process, because {why}: set FASTENT_CACHE_DIR to a writable folder")
