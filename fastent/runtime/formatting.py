"""Numbers as people read them, in terminals, notebooks, reports and sentences, and numbers rounded for files."""

import math
from collections.abc import Iterable

__all__ = ["NOTHING", "count", "estimate_text", "percent", "readable", "readable_interval", "rounded"]

# A value, its standard error, and its interval from low to high.
Estimate = tuple[float, float, float, float]

# Where there is no number.
NOTHING = "\u2013"


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


def rounded(values: Iterable[float | None], form: str = ".5g") -> list[float | None]:
    """Numbers for JSON, which has no place for what is not finite, in the digits of a format."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:{form}}") for value in values]
