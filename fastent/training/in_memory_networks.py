"""The networks of a training on rows in memory and the points that they are given, made from a configuration."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.training.ensemble import Ensemble
from fastent.training.module_ensemble import ModuleEnsemble
from fastent.training.networks import Factory, find_model, model_digest
from fastent.training.points import Points

__all__ = ["network_factory", "networks_and_points", "restore_networks"]


def network_factory(model: str | Factory | None, activation: str, data: Data) -> Factory | None:
    """A function that makes one network; None for fully connected ones, which are made together."""
    if model is None:
        return None
    shape = data.raw.shape[1:3] if data.options["grayscale"] else data.raw.shape[1:]
    no_pictures = (
        f"these points have shape {data.raw.shape[1:]}: give them as (n, h, w) or (n, h, w, colours), colours last, or use "
        "hidden layers"
    )
    picture = None if data.pictures is None else shape
    return find_model(model, picture, len(data.classes), activation, no_pictures=no_pictures)


def networks_and_points(
    data: Data, config: dict[str, Any], factory: Factory | None, left_out: NDArray[np.bool_] | None
) -> tuple[Ensemble | ModuleEnsemble, Points, Points]:
    """Networks before training, the points that they learn from, each without those `left_out` (S, n), and the test points.

    The configuration gets the layers and the digest of a user's model.
    """
    used = torch.from_numpy(data.x_train.any(0) | data.x_test.any(0))
    if factory is not None:
        used[:] = True
    networks = _networks(data, config, factory, used, left_out)
    n_classes, n_networks = len(data.classes), config["seeds"]
    kept = np.ones((n_networks, len(data.x_train)), bool) if left_out is None else ~left_out
    every = np.ones((n_networks, len(data.x_test)), bool)
    points = Points.sort(_columns(data.x_train, used, config), data.y_train, n_classes, kept)
    test_points = Points.sort(_columns(data.x_test, used, config), data.y_test, n_classes, every)
    if factory is None:
        points, test_points = points.compressed(), test_points.compressed()
    return networks, points, test_points


def _networks(
    data: Data, config: dict[str, Any], factory: Factory | None, used: torch.Tensor, left_out: NDArray[np.bool_] | None
) -> Ensemble | ModuleEnsemble:
    n_inputs, n_classes = data.x_train.shape[1], len(data.classes)
    device, dtype = torch.device(config["device"]), getattr(torch, config["dtype"])
    seeds = range(config["seed"], config["seed"] + config["seeds"])
    if factory is None:
        return Ensemble(
            (n_inputs, *config["hidden"], n_classes),
            seeds,
            activation=config["activation"],
            dtype=dtype,
            device=device,
            init_scale=config["init_scale"],
            used_inputs=used,
        )
    networks = ModuleEnsemble(
        factory, seeds, n_inputs=n_inputs, n_classes=n_classes, layers=config["layers"], dtype=dtype, device=device
    )
    if networks.mixes_points and left_out is not None:
        raise FastentError(
            "exclude_per_seed with a model that normalises over batches: points left out would count there; "
            "use exclude=, or a model with LayerNorm or GroupNorm"
        )
    config |= {"layers": networks.layers, "model_digest": model_digest(factory, seeds[0], data.x_train)}
    return networks


def _columns(rows: NDArray[np.float32], used: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """Rows (n, d) as a contiguous (used inputs, n) tensor."""
    return torch.from_numpy(rows).T[used].to(torch.device(config["device"]), getattr(torch, config["dtype"])).contiguous()


def restore_networks(networks: Ensemble | ModuleEnsemble, state: dict[str, NDArray[Any]]) -> None:
    """Give networks the parameters and buffers of a stored state, or none of them.

    Raises
    ------
    FastentError
        The networks have other parameters or buffers, or of other shapes.
    """
    places = {str(i): parameter for i, parameter in enumerate(networks.parameters)}
    places |= {f"buffer.{name}": buffer for name, buffer in networks.buffers.items()}
    kept = {key: value for key, value in state.items() if "." not in key or key.startswith("buffer.")}
    for key in [*places, *(key for key in kept if key not in places)]:
        now, then = (_shape(each.get(key)) for each in (places, kept))
        if now != then:
            what = f"buffer {key.removeprefix('buffer.')!r}" if key.startswith("buffer.") else f"parameter {key}"
            raise FastentError(
                f"{what} of each network has {now}, and {then} when the run was trained, so that its code must be another now: "
                "train the run again"
            )
    for key, value in kept.items():
        places[key].copy_(torch.from_numpy(np.array(value)))


def _shape(values: Any) -> str:
    """Of the parameter of one network, as messages say it: the first axis is that of the networks."""
    return "no values" if values is None else f"shape {tuple(values.shape[1:])}"
