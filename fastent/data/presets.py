"""Defaults that depend on the data: how long to train, which classes to tell apart, and published set-ups by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

__all__ = ["PRESETS", "Preset", "default_classes", "default_epochs", "known_class_names"]

_EPOCHS = 500
# Few points, a slow turn: on digits the inversion comes around epoch 150, its far side late.
_EPOCHS_OF = {"digits": 1500}


class Preset(NamedTuple):
    """Data and network of a published set-up; `subset` is the first so many training points, or all if there are fewer."""

    subset: int
    classes: Literal["parity", "all"]
    hidden: tuple[int, ...]
    activation: Literal["tanh", "relu"]


# What their authors call the classes 0 to 9.
_CLASS_NAMES = {
    "fashion-mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}

PRESETS: Mapping[str, Preset] = MappingProxyType({"paper": Preset(8192, "parity", (20,), "tanh")})


def default_epochs(known: str | None) -> int:
    """Epochs for a data set known by this name, or for the user's own data (None)."""
    return _EPOCHS_OF.get(known or "", _EPOCHS)


def known_class_names(known: str | None) -> tuple[str, ...] | None:
    """Names of the labels 0 to 9 of a data set known by name; None for digits, and for other data."""
    return _CLASS_NAMES.get(known or "")


def default_classes(known: str | None) -> Literal["parity", "all"]:
    """Parity of the digit, as in the source paper, for a data set known by name; every label its own class for other data."""
    return "all" if known is None else "parity"
