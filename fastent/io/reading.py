"""Whatever goes wrong while a file is read is one FastentError, with the path, what is wrong with it, and the remedy."""

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastent.errors import FastentError
from fastent.printable import first_line, printable, shortened

__all__ = [
    "as_path", "chosen_name", "is_there", "name_list", "nothing_at", "parse_json", "read_json", "reading", "refuse_name",
    "require_file",
]  # fmt: skip

# What the system reports about a file that is not the file's fault, and what helps.
_OF_THE_SYSTEM = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EACCES: "ask for the permission to read it",
    errno.EPERM: "ask for the permission to read it",
    errno.EISDIR: "name a file in it",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ELOOP: "remove the links that lead back to themselves",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the system's limit of open files",
    errno.EIO: "check the disk, or restore the file from a copy",
    errno.ENXIO: "check the disk, or restore the file from a copy",
    errno.ESTALE: "mount the network file system again",
    errno.ETIMEDOUT: "check the network file system",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
}
_LONGEST, _NAMES = 200, 12


def as_path(value: Any, what: str = "a file or a folder") -> Path:
    """A path that the system takes, whether or not anything is there."""
    if isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    if not isinstance(value, str) or not value:
        given = repr(value) if value is None or isinstance(value, (str, bytes, int, float)) else f"a {type(value).__name__}"
        raise FastentError(f"{given[:_LONGEST]} is no path: name {what}")
    if "\0" in value:
        raise FastentError(f"{value[:_LONGEST]!r} is no path, it holds a zero byte: name {what}")
    return Path(value)


def is_there(path: Path) -> bool:
    """Whether anything is at a path; a path that the system refuses to look up is an error."""
    with reading(path, "check the path"):
        return path.exists()


def require_file(path: Path, remedy: str = "write it again") -> int:
    """Return the size of a file that can be read; a folder, a pipe, an empty file and the like are refused as what they are."""
    with reading(path, remedy):
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise FastentError(f"{_named(path)} is a folder: name a file")
        if not stat.S_ISREG(found.st_mode):
            raise FastentError(f"{_named(path)} is a pipe, a socket or a device: copy what it gives into a file")
        with open(path, "rb"):  # root aside, this is where a missing permission shows
            pass
    if found.st_size == 0:
        raise FastentError(f"{_named(path)} is empty (0 bytes): {remedy}")
    return found.st_size


@contextmanager
def reading(path: str | os.PathLike[str], remedy: str, kind: str = "not what its name says") -> Iterator[None]:
    """Turn whatever a library raises over a file into one error. "Damaged" is said only where nothing else explains it."""
    try:
        yield
    except FastentError:
        raise
    except (Exception, BaseExceptionGroup) as error:
        raise _of_the_file(path, error, remedy, kind) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how libraries in Rust end over what they did not expect
            raise
        raise _of_the_file(path, error, remedy, kind) from error


def _of_the_file(path: str | os.PathLike[str], error: BaseException, remedy: str, kind: str) -> FastentError:
    name = _named(path)
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOENT, errno.ENOTDIR):
        return nothing_at(path)
    if number in _OF_THE_SYSTEM:
        return FastentError(f"{name} cannot be read ({os.strerror(number)}): {_OF_THE_SYSTEM[number]}")
    if isinstance(error, MemoryError):
        return FastentError(
            f"{name} asks for more memory than there is ({first_line(error)}): use a machine with more, "
            f"or if it should be small, it is damaged and you should {remedy}"
        )
    if isinstance(error, ImportError):
        return FastentError(f"{name} cannot be read without a package that is missing ({first_line(error)}): install it")
    if isinstance(error, NotImplementedError):
        return FastentError(f"{name} uses what is not supported here ({first_line(error)}): write it again without that")
    if isinstance(error, RecursionError):
        return FastentError(f"{name} is damaged or {kind} (it is nested too deeply): {remedy}")
    return FastentError(f"{name} is damaged or {kind} ({first_line(error)}): {remedy}")


def nothing_at(path: str | os.PathLike[str], remedy: str = "check the path") -> FastentError:
    """The error for a path at which there is no file and no folder."""
    place = os.fspath(path)
    hint = ""
    if place.startswith("~"):
        hint = "; ~ is not expanded here, use os.path.expanduser"
    elif os.path.islink(place):
        hint = f"; it is a link to {os.readlink(place)!r}, where nothing is"
    return FastentError(f"nothing at {_named(path)}: {remedy}{hint}")


def _named(path: str | os.PathLike[str]) -> str:
    place = os.fspath(path)
    return repr(place if len(place) <= 2 * _LONGEST else f"{place[:_LONGEST]}...")


def name_list(names: Iterable[Any], nothing: str = "nothing") -> str:
    """The names that a file holds, for a message: the first few if there are many."""
    names = list(names)
    first = ", ".join(shortened(printable(name), _LONGEST) for name in names[:_NAMES])
    return (first + f", ... ({len(names)} in all)" * (len(names) > _NAMES)) or nothing


def chosen_name(path: Path, names: Sequence[str], name: str | None, kind: str) -> str:
    """Which of the arrays in a file or folder is meant: the one of that name, or without a name the only one."""
    if name is not None and name in names:
        return name
    if name is None and len(names) == 1:
        return names[0]
    wanted = "no name was given" if name is None else f"{name!r} is not among them"
    remedy = f"name one, as {path}:{names[0]}" if names else "name another file"
    raise FastentError(f"{_named(path)} holds {name_list(map(repr, names), f'no {kind}')}, and {wanted}: {remedy}")


def refuse_name(path: Path, name: str | None) -> None:
    """Refuse a name for a file or folder that is a single array."""
    if name is not None:
        raise FastentError(f"{_named(path)} is one array: it has no part {name!r}")


def read_json(path: Path, remedy: str, kind: str = "no JSON of fastent's") -> dict[str, Any]:
    """The object that a JSON file holds."""
    require_file(path, remedy)
    with reading(path, remedy, kind):
        return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> dict[str, Any]:
    """The object that a JSON text holds; whatever is wrong with it is for `reading` to report."""
    if not text.strip():
        raise ValueError("it is empty")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} where an object is needed")
    return found
