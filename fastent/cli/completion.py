"""What the shell offers for an option's value when Tab is pressed."""

import glob
from collections.abc import Callable

__all__ = ["data_sets", "metrics", "one_of"]


def one_of(*values: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def data_sets(incomplete: str) -> list[str]:
    """Names that fastent knows, and files."""
    from fastent.data.datasets import NAMES

    return [name for name in NAMES if name.startswith(incomplete)] + sorted(glob.glob(glob.escape(incomplete) + "*"))


def metrics(incomplete: str) -> list[str]:
    """One more, after those that are there already with a comma behind each."""
    from fastent.measurement.metrics import METRICS

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    choices = METRICS if comma else ("all", *METRICS)
    return [f"{before}{comma}{name}" for name in choices if name.startswith(last) and name not in taken]
