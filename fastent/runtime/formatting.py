"""Numbers as people read them, in terminals, notebooks, reports and sentences, and numbers rounded for files."""

import math
from collections.abc import Iterable

__all__ = ["NOTHING", "count", "estimate_text", "percent", "rounded"]

# Where there is no number.
NOTHING = "\u2013"


def count(number: float) -> str:
    return f"{number:,.0f}"


def percent(share: float | None, digits: int = 2, space: str = " ") -> str:
    """A share in per cent."""
    return NOTHING if share is None or math.isnan(share) else f"{100 * share:.{digits}f}{space}%"


def estimate_text(
    estimate: tuple[float, float, float, float], *, percent: bool = False, digits: int = 2, signed: bool = False
) -> str:
    """value (low to high) of a value, its standard error, low and high; the value alone where there is no interval."""
    value, _, low, high = estimate
    if math.isnan(value):
        return NOTHING
    scale, unit = (100, " %") if percent else (1, "")
    form = f"{'+' if signed else ''}.{digits}f"
    if math.isnan(low) or math.isnan(high):
        return f"{scale * value:{form}}{unit}"
    return f"{scale * value:{form}}{unit} ({scale * low:{form}} to {scale * high:{form}})"


def rounded(values: Iterable[float | None], form: str = ".5g") -> list[float | None]:
    """Numbers for JSON, which has no place for what is not finite, in the digits of a format."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:{form}}") for value in values]
