"""Where compiled kernels are kept: in the wheel, for common processors, and in the user's cache folder.

They are kept under the digest of all that machine code depends on: what was made from other sources, or for another processor,
is never found. An entry is one file, written aside and then moved into its place, so that many processes may write and read at
once. It begins with a checksum: a damaged one is not found either, and is written again. Entries are run as code: whoever can
write to the folder can do what its user can.
"""

import functools
import hashlib
import os
import pickle
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from numba.core import sigutils
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fastent.errors import warn

from .prebuilt import best_set
from .target import Target, digest, own_target, sources_changed

__all__ = ["CacheFolder", "KernelCache", "cache_folder", "own_folder"]

_CHECKSUM_BYTES = 32
_COMPLETE = "complete"
# Folders that nobody has used for so long are removed.
_DAYS = 90
# What folders of digests are called. Others beside them are not ours.
_NAMED = re.compile("[0-9a-f]{12}-[0-9a-f]{16}")
# Of an entry that is being written.
_ASIDE = re.compile(r"\.[0-9a-f]{32}$")


class KernelCache(NullCache):  # type: ignore[misc]
    """What numba asks for a kernel's machine code before it compiles, and gives to keep what it has compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    @property
    def cache_path(self) -> str | None:
        folder = own_folder()
        return None if folder is None else str(folder.path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()  # what unpickled code refers to must be declared
        folder = own_folder()
        for place in () if sources_changed() else (best_set(), folder and folder.path):
            entry = None if place is None else _read(place / self._entry_name(sig))
            if entry is not None:
                with suppress(Exception):  # whatever it is: the kernel is compiled, and written again
                    compiled = CompileResult._rebuild(target_context, *pickle.loads(entry))
                    if compiled.signature.args == _arguments(sig):
                        return compiled
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if sources_changed() or data.library.has_dynamic_globals:  # as addresses in this process
            return
        folder = own_folder()
        if folder is None:
            _say_once("no home folder is known")
            return
        try:
            folder.write(self._entry_name(sig), dumps(data._reduce()))
        except OSError as error:
            _say_once(f"{folder.path} cannot be written to ({error.strerror})")

    def _entry_name(self, sig: Any) -> str:
        return f"{self._name}-{hashlib.sha256(repr(_arguments(sig)).encode()).hexdigest()[:16]}"


def _arguments(sig: Any) -> tuple[Any, ...]:
    return tuple(sigutils.normalize_signature(sig)[0])


def _read(file: Path) -> bytes | None:
    """An entry, unless it is missing or damaged."""
    try:
        content = file.read_bytes() if file.is_file() else b""
    except OSError:
        return None
    checksum, entry = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    return entry if hashlib.sha256(entry).digest() == checksum else None


class CacheFolder:
    """The entries of one digest, in a folder beside those of others.

    Its name begins with what stands for the installation and the target. Of folders that begin alike one is up to date.
    """

    def __init__(self, top: Path, target: Target) -> None:
        installation = (str(files(__package__)), sys.prefix, sys.implementation.cache_tag)
        self._begins = hashlib.sha256(repr((installation, *target)).encode()).hexdigest()[:12]
        self.path = top / f"{self._begins}-{digest(target)}"
        self._is_tidy = False
        with suppress(OSError):
            os.utime(self.path)

    def make(self) -> None:
        """Raise OSError if nothing can be written to it."""
        self.path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=self.path).close()

    def writable(self) -> bool:
        """Whether it, or the nearest folder above it that there is, lets this process write."""
        there = next(folder for folder in (self.path, *self.path.parents) if folder.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)

    def entries(self) -> list[Path]:
        return [file for file in self.path.glob("*.*") if file.is_file()]

    @property
    def complete(self) -> bool:
        """Whether `fastent warmup` has been through."""
        return (self.path / _COMPLETE).exists()

    def set_complete(self) -> None:
        (self.path / _COMPLETE).touch()

    def write(self, name: str, entry: bytes) -> None:
        """Raise OSError if that is not possible."""
        self.path.mkdir(parents=True, exist_ok=True)
        place, aside = self.path / name, self.path / f"{name}.{uuid.uuid4().hex}"
        try:
            aside.write_bytes(hashlib.sha256(entry).digest() + entry)
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(aside, place)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        if not self._is_tidy:
            self._is_tidy = True
            with suppress(OSError):
                self._tidy()

    def _tidy(self) -> None:
        """Remove what this installation will not read again, what nobody has used for long, and what was never moved."""
        hour = 3600.0
        for file in self.path.iterdir():
            if _ASIDE.search(file.name) and time.time() - file.stat().st_mtime > hour:
                file.unlink()
        for other in self.path.parent.iterdir():
            if other != self.path and _NAMED.fullmatch(other.name):
                unused = time.time() - other.stat().st_mtime > _DAYS * 24 * hour
                if unused or other.name.startswith(f"{self._begins}-"):
                    shutil.rmtree(other, ignore_errors=True)


def cache_folder() -> Path | None:
    """FASTENT_CACHE_DIR, or fastent's part of the user's cache folder; None if there is neither, as without a home."""
    if os.environ.get("FASTENT_CACHE_DIR"):
        return _settled(os.environ["FASTENT_CACHE_DIR"])
    # A relative XDG_CACHE_HOME does not count. Without a home expanduser leaves "~" as it is, which would be a folder here.
    home = "" if os.environ.get("HOME") == "" else os.path.expanduser("~/.cache")
    user_wide = next((place for place in (os.environ.get("XDG_CACHE_HOME", ""), home) if os.path.isabs(place)), None)
    return None if user_wide is None else Path(user_wide, "fastent")


@functools.cache
def _settled(folder: str) -> Path:
    """Where a relative path leads when it is first used; it stays there when the process goes to another folder."""
    return Path(os.path.expanduser(folder)).absolute()


def own_folder() -> CacheFolder | None:
    """Where this process keeps kernels."""
    top = cache_folder()
    return None if top is None else _folder_in(top / "kernels", own_target())


_folder_in = functools.cache(CacheFolder)


@functools.cache
def _say_once(why: str) -> None:
    warn(f"kernels are compiled anew in every process, because {why}: set FASTENT_CACHE_DIR to a writable folder")
