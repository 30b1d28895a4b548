"""Files that appear under their final name only when they are whole, and folders that one process writes to."""

import errno
import fcntl
import glob
import hashlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastent.errors import FastentError
from fastent.io.reading import as_path

__all__ = [
    "alone_in",
    "atomic_path",
    "empty_folders_removed",
    "is_abandoned",
    "output_folder",
    "signature",
    "write_parquet",
    "write_text",
]

# What is wrong with a place for a file, and what helps.
_NOT_A_PLACE = {
    errno.ENOENT: "make its folder first, or name another",
    errno.ENOTDIR: "name a folder that is one",
    errno.EISDIR: "name a file in it",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "choose a path without links that lead back to themselves",
}


def _this_machine() -> list[str]:
    """What distinguishes machines and containers with the same name: the boot, and the namespace of process numbers."""
    known = []
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        known.append(os.readlink("/proc/self/ns/pid"))
    return known


_UMASK = threading.Lock()
# Which machine this is.
_HOST = hashlib.blake2b(repr((socket.gethostname(), _this_machine())).encode(), digest_size=6).hexdigest()


def signature() -> str:
    """Part of the names of temporary files: who writes them."""
    return f"{_HOST}-{os.getpid()}"


def is_abandoned(name: str) -> bool:
    """Whether a name begins with the signature of a process of this machine that has ended."""
    host, _, rest = name.partition("-")
    process = rest.partition("-")[0]
    return host == _HOST and process.isdigit() and int(process) != os.getpid() and not _alive(int(process))


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` if the block succeeds, remove it if not.

    Temporary files that a killed writer of the same file left are removed first.
    """
    path = as_path(path, "a file to write to")
    try:
        _remove_abandoned(path)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.{signature()}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        if error.errno not in _NOT_A_PLACE:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise FastentError(f"cannot write {str(path)[:200]!r} ({error.strerror}): {_NOT_A_PLACE[error.errno]}") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files private; the result gets what open() would have given it.
        with _UMASK:  # it can only be read by setting it, for all threads
            umask = os.umask(0)
            os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:  # of the file that was to be, not of the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of `path` whose writer, a process of this machine, has ended."""
    start = f".{path.name}."
    for found in path.parent.glob(f"{glob.escape(start)}{_HOST}-*"):
        with suppress(OSError):
            if is_abandoned(found.name.removeprefix(start)):
                found.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(_as_utf8(text))


def write_parquet(path: str | os.PathLike[str], table: Any, **options: Any) -> None:
    """Write a pyarrow Table; the path may hold any bytes, which pyarrow itself would not accept."""
    import pyarrow.parquet

    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        pyarrow.parquet.write_table(table, stream, **options)


def _as_utf8(text: str) -> bytes:
    """Encode text that may hold names of files whose bytes are not UTF-8: these are written as escapes."""
    with suppress(UnicodeEncodeError):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.encode("utf-8", "backslashreplace")


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder `path` (and its parents) and check that it can be written to."""
    folder = as_path(path, "a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FastentError(
            f"cannot write to the folder {str(folder)[:200]!r} ({error.strerror}): choose another output folder"
        ) from error
    return folder


@contextmanager
def empty_folders_removed(path: str | os.PathLike[str]) -> Iterator[None]:
    """If the block fails, remove the folders that it made at `path`, above and directly below, and has put nothing into."""
    folder = Path(path)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    before = set(_folders_in(folder))
    try:
        yield
    except BaseException:
        for place in (*(set(_folders_in(folder)) - before), *missing):
            with suppress(OSError):  # it holds something
                place.rmdir()
        raise


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [place for place in folder.iterdir() if place.is_dir() and not place.is_symlink()]
    except OSError:
        return []


@contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Refuse a folder that another process of fastent writes to; the lock ends with the process. None: nothing to do."""
    if folder is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FastentError(f"another process writes to {str(folder)!r}: wait for it, or name another folder") from None
        except OSError:  # file systems without locks
            pass
        yield
    finally:
        os.close(descriptor)
