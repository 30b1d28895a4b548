"""Files appear under their final name only when they are whole, and what is read is not trusted."""

import fcntl
import glob
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError

__all__ = [
    "alone_in",
    "atomic_path",
    "first_line",
    "output_folder",
    "read_array",
    "read_npy",
    "read_npz",
    "write_parquet",
    "write_text",
]

# In the names of temporary files: whose they are.
_HOST = re.sub(r"\W", "", socket.gethostname())[:16] or "here"


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` if the block succeeds, remove it if not.

    What a writer of the same file has left that was killed is removed first.
    """
    path = Path(path)
    _remove_abandoned(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.{_HOST}-{os.getpid()}-", suffix=path.suffix, dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files private; the result gets what open() would have given it.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:  # of the file that was to be, not of the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Temporary files of `path` whose writer, a process of this machine, is no more."""
    start = f".{path.name}.{_HOST}-"
    for found in path.parent.glob(f"{glob.escape(start)}*"):
        process = found.name.removeprefix(start).partition("-")[0]
        with suppress(OSError):
            if process.isdigit() and int(process) != os.getpid() and not _alive(int(process)):
                found.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(_as_utf8(text))


def write_parquet(path: str | os.PathLike[str], table: Any, **options: Any) -> None:
    """Write a pyarrow Table; whatever bytes the path has, which pyarrow itself takes for text."""
    import pyarrow.parquet

    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        pyarrow.parquet.write_table(table, stream, **options)


def _as_utf8(text: str) -> bytes:
    """Names of files may hold bytes that are no UTF-8, or text that the locale did not decode: both are shown."""
    with suppress(UnicodeEncodeError):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.encode("utf-8", "backslashreplace")


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder `path` (and its parents) and check that it can be written to."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FastentError(
            f"cannot write to the folder {str(folder)!r} ({error.strerror}): choose another output folder"
        ) from error
    return folder


@contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Refuse a folder into which another process of fastent writes; one that is killed lets go of it. None: nothing to do."""
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


def read_npz(path: str | os.PathLike[str], remedy: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz; a file that is damaged, or holds pickled objects, is refused with the `remedy`."""
    try:
        # Opened here because numpy leaves a file open that turns out to be no archive.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # a damaged archive can raise anything
        raise FastentError(f"{str(path)!r} is damaged or no .npz of plain arrays ({first_line(error)}): {remedy}") from error


def read_npy(path: str | os.PathLike[str], remedy: str = "save it with numpy.save") -> NDArray[Any]:
    """Map an .npy into memory; a file that is missing, damaged or holds pickled objects is refused with the `remedy`."""
    try:
        if Path(path).is_file():
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except Exception as error:  # a damaged header can raise anything
        raise FastentError(_why_no_npy(Path(path), error, remedy)) from error
    raise FastentError(f"no file {str(path)!r}: check the path")


def _why_no_npy(path: Path, error: Exception, remedy: str) -> str:
    """What numpy itself says would in two cases suggest to load the file in a way that runs whatever code it holds."""
    with open(path, "rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            return f"{str(path)!r} is no .npy: {remedy}"
        stream.seek(0)
        with suppress(Exception):  # a damaged header again
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            if read(stream)[2].hasobject:
                wanted = "save numbers with numpy.save, or where every row has a label, y.astype(str)"
                return f"{str(path)!r} holds Python objects: {wanted}"
    return f"{str(path)!r} is damaged or no .npy of numbers ({first_line(error)}): {remedy}"


def read_array(place: str, usual: str) -> NDArray[Any]:
    """An .npy, mapped; or one member of an .npz, named as FILE.npz:NAME, or else called `usual`, or else the only one."""
    path, _, name = place.partition(".npz:")
    if not name and not path.endswith(".npz"):
        return read_npy(place)
    path = f"{path}.npz" if name else path
    if not Path(path).is_file():
        raise FastentError(f"no file {path!r}: check the path")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            members = stored.files
            wanted = name or (usual if usual in members or len(members) != 1 else members[0])
            if wanted in members:
                return stored[wanted]  # type: ignore[no-any-return]
    except Exception as error:  # a damaged archive can raise anything
        raise FastentError(
            f"{path!r} is damaged or no .npz of plain arrays ({first_line(error)}): save it with numpy.savez"
        ) from error
    raise FastentError(
        f"{path!r} holds {', '.join(members)}, not {wanted!r}: name one, as {path}:{members[0]}"
        if members
        else f"{path!r} holds nothing: save arrays with numpy.savez"
    )


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
