"""The first network of a finished run in memory, made again from the configuration, the data and its last weights."""

import torch

from fastent.activations.evaluation import torch_device
from fastent.data.fingerprint import check_same_data
from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.training.in_memory_networks import network_factory, networks_and_points, restore_networks
from fastent.training.run_records import RunRecords
from fastent.training.snapshot import Snapshot

__all__ = ["check_data_of", "first_network_at_end"]

# Another machine rounds otherwise, which changes what fewer of the points are taken for; other code of a model changes more.
_MOST_CHANGED = 0.01


def check_data_of(run: RunRecords, data: Data) -> None:
    """Refuse other data than a run was trained on."""
    now = {"fingerprint": data.fingerprint, "digests": data.digests}
    check_same_data(run.config, now, run="the run", remedy="pass the same data")


def first_network_at_end(run: RunRecords, data: Data) -> Snapshot:
    """The first network alone, with its last weights.

    Raises
    ------
    FastentError
        Other data; a network that cannot be made again, or that is another now.
    """
    check_data_of(run, data)
    config = {**run.config, "seeds": 1, "device": _device_here(run)}
    factory = network_factory(config.get("model"), config["activation"], data)
    networks, points, _ = networks_and_points(data, config, factory, None)
    with torch.no_grad():
        restore_networks(networks, {name: array[:1] if array.ndim else array for name, array in run.state.items()})
        logits = networks.observe(points, learn=False).logits
    found = Snapshot(run.epoch[-1].item(), networks, points, data.x_train, logits)
    wrong = found.logits[0].argmax(1) != run.codes
    known = config.get("exclude_per_seed") is None  # else points that it was trained without do not count as misclassified
    if known and (wrong != run.misclassified(run.epoch[-1])[0]).mean() > _MOST_CHANGED:
        raise FastentError(
            "the first network misclassifies other points than at the end of the training, so that its code must be another "
            "now: train the run again"
        )
    return found


def _device_here(run: RunRecords) -> str:
    """Where the run was trained, if this machine has that; one network can be run on the CPU too."""
    try:
        return str(torch_device(run.config["device"]))
    except FastentError:
        return "cpu"
