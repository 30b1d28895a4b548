"""Files of activations that fastent does not read, and for each kind the line of Python that converts it."""

from pathlib import Path

from fastent.io.csv_files import is_number
from fastent.io.reading import reading, require_file

__all__ = ["how_to_convert"]

_TEXT, _TORCH = (".txt", ".dat"), (".pt", ".pth")
# How much of a text file is read to find its columns.
_BEGINNING = 1 << 16


def how_to_convert(path: Path) -> str | None:
    """The line of Python that makes an .npy of a file; None for an unknown kind."""
    suffix = path.suffix.lower()
    if suffix not in (*_TEXT, *_TORCH):
        return None
    require_file(path)
    with reading(path, "write it again"):
        return _of_text(path) if suffix in _TEXT else _of_torch(path)


def _of_text(path: Path) -> str | None:
    """Reads delimiter, header and columns of numbers off the first two lines; None without such columns."""
    with open(path, "rb") as stream:
        lines = [line for line in stream.read(_BEGINNING).decode("utf-8-sig", "replace").splitlines() if line.strip()][:2]
    if not lines:
        return None
    first, last = lines[0], lines[-1]
    delimiter = next((sign for sign in ",;\t" if sign in last), None)
    cells = last.split(delimiter)
    columns = [i for i, cell in enumerate(cells) if is_number(cell)]
    if not columns:
        return None
    options = [f"delimiter={delimiter!r}"] if delimiter else []
    options += ["skiprows=1"] if not any(map(is_number, first.split(delimiter))) and len(lines) > 1 else []
    options += [f"usecols={columns}"] if len(columns) < len(cells) else []
    read = ", ".join([repr(str(path)), *options, "dtype='float32'", "ndmin=2", "encoding='utf-8-sig'"])
    return f"numpy.save({_npy(path)!r}, numpy.loadtxt({read}))"


def _of_torch(path: Path) -> str:
    return f"numpy.save({_npy(path)!r}, torch.load({str(path)!r}, weights_only=True).float().numpy())"


def _npy(path: Path) -> str:
    return str(path.with_suffix(".npy"))
