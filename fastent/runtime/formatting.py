"""Results as they are written: numbers as people read them, tables in notebooks, plain types for JSON."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from fastent.printable import printable

__all__ = [
    "NOTHING", "Table", "as_plain", "count", "duration", "estimate_text", "html_table", "percent", "readable",
    "readable_interval", "rounded",
]  # fmt: skip

# A value, its standard error, and its interval from low to high.
Estimate = tuple[float, float, float, float]

# Where there is no number.
NOTHING = "\u2013"


class Table(NamedTuple):
    """Headings, rows of as many cells, whose first column is text and whose others are numbers, and a note below."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def count(number: float) -> str:
    return f"{number:,.0f}"


def percent(share: float | None, digits: int = 2, space: str = " ") -> str:
    """A share in per cent."""
    return NOTHING if share is None or math.isnan(share) else f"{100 * share:.{digits}f}{space}%"


def readable(value: float) -> str:
    """A statistic in about four digits."""
    if math.isnan(value):
        return NOTHING
    size = abs(value)
    if 1e7 <= size < math.inf or 0 < size < 5e-5:
        return f"{value:.3e}"
    return f"{value:,.0f}" if 10_000 <= size < math.inf else f"{value:.4g}" if size >= 100 else f"{value:.4f}"


def readable_interval(estimate: Estimate | None) -> str:
    """low to high; "" where there is no interval."""
    if estimate is None or not estimate[2] < estimate[3]:
        return ""
    return f"{readable(estimate[2])} to {readable(estimate[3])}"


def estimate_text(estimate: Estimate, *, percent: bool = False, digits: int = 2, signed: bool = False) -> str:
    """value (low to high), or the value alone where there is no interval."""
    value, _, low, high = estimate
    if math.isnan(value):
        return NOTHING
    scale, unit = (100, " %") if percent else (1, "")
    form = f"{'+' if signed else ''}.{digits}f"
    if math.isnan(low) or math.isnan(high):
        return f"{scale * value:{form}}{unit}"
    return f"{scale * value:{form}}{unit} ({scale * low:{form}} to {scale * high:{form}})"


def duration(seconds: float) -> str:
    """A time that is known roughly: "40 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} second{'s' * (round(seconds) != 1)}"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def rounded(values: Iterable[float | None], form: str = ".5g") -> list[float | None]:
    """Numbers for JSON, which has no place for what is not finite, in the digits of a format."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:{form}}") for value in values]


def as_plain(value: Any) -> Any:
    """Named tuples by the names of their fields, arrays as lists, null for what is NaN or infinite."""
    import numpy as np

    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return as_plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return as_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, np.generic):
        return as_plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def html_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A table whose first column is text and whose others are numbers; notes stand below, a paragraph each."""
    head = "".join(_cell("th", text, i) for i, text in enumerate(headings))
    body = "".join(f"<tr>{''.join(_cell('td', text, i) for i, text in enumerate(row))}</tr>" for row in rows)
    below = "".join(f"<p>{_escaped(note)}</p>" for note in notes if note)
    return (
        f"<div><table><caption><strong>{_escaped(title)}</strong></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def _cell(tag: str, text: str, column: int) -> str:
    return f'<{tag} style="text-align:{"right" if column else "left"}">{_escaped(text)}</{tag}>'


def _escaped(text: str) -> str:
    return escape(printable(text, keep="\n"))
