"""Checks of a stored run: its arrays fit each other and the configuration, and it is continued with the same one."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.record_files import check_codes, check_shapes
from fastent.errors import FastentError
from fastent.io.reading import parse_json

__all__ = ["check_arrays", "check_same", "checked_config"]

Array = NDArray[Any]
_KINDS = {"i": "whole numbers", "f": "floats", "u": "bytes"}
# What a configuration must say, and what it may say, each of these kinds.
_REQUIRED: dict[str, tuple[type, ...]] = {"data": (str,), "epochs": (int, float), "seed": (int,)}
_OPTIONAL: dict[str, tuple[type, ...]] = {
    "seeds": (int,), "batch_size": (int, type(None)), "updates_per_epoch": (int, type(None)), "burn_in": (int, float),
    "min_rise": (int, float), "hidden": (list, type(None)), "layers": (list, str, type(None)), "classes": (str, type(None)),
    "fingerprint": (str,), "digests": (dict,), "source": (str, type(None)), "class_names": (list, type(None)),
}  # fmt: skip


def checked_config(stored: Array) -> dict[str, Any]:
    """The configuration of a stored run.

    Raises
    ------
    ValueError
        It is none.
    """
    if stored.shape != () or stored.dtype.kind != "U":
        raise ValueError(f"its configuration is {stored.dtype} of shape {stored.shape}")
    config = parse_json(str(stored))
    for name, kinds in _REQUIRED.items():
        if name not in config:
            raise ValueError(f"its configuration lacks {name}")
        _check_kind(config, name, kinds)
    for name in _OPTIONAL.keys() & config.keys():
        _check_kind(config, name, _OPTIONAL[name])
    for name in ("seeds", "batch_size", "updates_per_epoch"):
        if config.get(name) is not None and config[name] < 1:
            raise ValueError(f"its configuration has {name}={config[name]}")
    return config


def _check_kind(config: dict[str, Any], name: str, kinds: tuple[type, ...]) -> None:
    value = config[name]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"its configuration has {name}={str(value)[:80]!r}, a {type(value).__name__}")
    if isinstance(value, float | int) and not abs(value) < 2**63:
        raise ValueError(f"its configuration has {name}={str(value)[:80]}")


def check_arrays(config: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Compare shapes, kinds and ranges.

    Raises
    ------
    ValueError
        The first thing that does not fit.
    """
    radius = arrays["radius"]
    if radius.ndim != 4:
        raise ValueError(f"radius has shape {radius.shape}")
    (n_seeds, n_records, n_layers, n_classes), n = radius.shape, arrays["index"].size
    recorded = arrays.get("recorded")
    n_recorded = n if recorded is None else recorded.size
    tests = arrays["test_epoch"].size
    per_record = (n_seeds, n_records)
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "classes": ((n_classes,), "iubUS"),
        "index": ((n,), "iu"),
        "labels": ((n,), "iubUSf"),
        "codes": ((n,), "iu"),
        "epoch": ((n_records,), "iuf"),
        "train_error": (per_record, "f"),
        "test_epoch": ((tests,), "iuf"),
        "test_error": ((n_seeds, tests), "f"),
        "radius": (radius.shape, "f"),
        "distance": ((*per_record, n_layers, n_classes, n_classes), "f"),
        "wrong": ((*per_record, -(-n_recorded // 8)), "u"),
        "seconds": ((), "fiu"),
        "seconds_recording": ((), "fiu"),
        "recorded": ((n_recorded,), "iu"),
        "mixing": ((*per_record, n_layers), "f"),
        "neighbor_error": ((*per_record, n_layers), "f"),
        "straggler_bits": ((n_seeds, -(-n // 8)), "u"),
        "straggler_epochs": ((n_seeds, n_classes), "f"),
    }
    check_shapes(arrays, expected)
    if 0 in radius.shape or n == 0:
        raise ValueError(f"it has {n_seeds} networks, {n_records} records, {n_layers} layers, {n_classes} classes, {n} points")
    _check_values(arrays, n, n_classes)
    _check_agreement(config, arrays)


def _check_values(arrays: Mapping[str, Array], n: int, n_classes: int) -> None:
    epoch, codes, recorded = arrays["epoch"], arrays["codes"], arrays.get("recorded")
    if not np.isfinite(epoch).all() or epoch[0] < 0 or (np.diff(epoch.astype(np.float64)) <= 0).any():
        raise ValueError("its epochs do not ascend")
    check_codes(codes, n_classes)
    if recorded is not None and len(recorded) and (recorded.min() < 0 or recorded.max() >= n):
        raise ValueError(f"recorded are the points {recorded.min()} to {recorded.max()} of {n}")
    for name in ("train_error", "test_error"):
        if np.isinf(arrays[name]).any():
            raise ValueError(f"{name} has infinite values")


def _check_agreement(config: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    n_seeds, _, n_layers, _ = arrays["radius"].shape
    if config.get("seeds", n_seeds) != n_seeds:
        raise ValueError(f"its configuration has {config['seeds']} seeds, its records {n_seeds}")
    named = config.get("layers")
    layers = named if isinstance(named, list) else None if config.get("model") not in (None, "mlp") else config.get("hidden")
    if layers is not None and len(layers) != n_layers:
        raise ValueError(f"its configuration has {len(layers)} layers, its records {n_layers}")


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse to continue a run whose configuration differs in one of these keys."""
    for key in keys:
        if before.get(key) != now.get(key):
            # Classes differ most often where none were named, then or now.
            default = " (by default 'parity' for the data sets known by name and 'all' for any other data)" * (key == "classes")
            raise FastentError(
                f"the run to resume has {key}={before.get(key)!r}, not {now.get(key)!r}{default}: use the same "
                "configuration, or start anew (another folder, without resume, or --overwrite)"
            )
