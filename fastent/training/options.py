"""What is trained unless an option says otherwise: one set of defaults for rows in memory and on disk, Python and command line.

They are the source paper's. Data known by name have two of their own, because their labels and sizes are known.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

__all__ = ["DEFAULTS", "MOST_EPOCHS", "PRESETS", "Defaults", "Preset", "default_classes", "default_epochs"]

# More have no room for their records.
MOST_EPOCHS = 10_000_000
# Few points, a slow turn: on digits the inversion comes around epoch 150, its far side late.
_EPOCHS_OF = {"digits": 1500}


class Defaults(NamedTuple):
    """Network, training, and what counts as an inversion; a `batch_size` of None is gradient descent on all points."""

    hidden: tuple[int, ...] = (20,)
    activation: Literal["tanh", "relu"] = "tanh"
    seeds: int = 10
    epochs: int = 500
    lr: float = 0.1
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    batch_size: int | None = None
    burn_in: float = 0
    min_rise: float = 0.05


DEFAULTS = Defaults()


class Preset(NamedTuple):
    """Data and network of a published set-up; `subset` is the first so many training points, or all if there are fewer."""

    subset: int
    classes: Literal["parity", "all"]
    hidden: tuple[int, ...]
    activation: Literal["tanh", "relu"]


PRESETS: Mapping[str, Preset] = MappingProxyType({"paper": Preset(8192, "parity", (20,), "tanh")})


def default_epochs(known: str | None) -> int:
    """How long to train a data set known by this name, or data of the user's own (None)."""
    return _EPOCHS_OF.get(known or "", DEFAULTS.epochs)


def default_classes(known: str | None) -> Literal["parity", "all"]:
    """Parity of the digit, as in the source paper, for a data set known by name; every label its own class for other data."""
    return "all" if known is None else "parity"
