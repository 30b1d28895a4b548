"""Results as JSON: plain types throughout."""

import math
from typing import Any

__all__ = ["as_plain"]


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
