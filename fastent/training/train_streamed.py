"""Training on data that stay on disk, recorded as it goes, resumed bit for bit.

    pass 1        constants of the standardisation
    training      batches from a pool read ahead -> networks, and every so many updates a record of a sample of the points
    last pass     which points are misclassified with the weights at each class's inversion: the stragglers among all points

Here is what is asked for; `fastent.training.session` does it.
"""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch

from fastent.activations.evaluation import torch_device
from fastent.data.presets import default_classes, default_epochs
from fastent.data.stored_rows import open_training
from fastent.errors import FastentError
from fastent.options import choice, whole_number
from fastent.runtime.progress import Progress, interruptible
from fastent.runtime.threads import limit_threads
from fastent.training.checkpoint import Checkpoint
from fastent.training.modules import model_name
from fastent.training.options import STREAMED_DEFAULTS as DEFAULTS
from fastent.training.options import StreamedOptions
from fastent.training.run import Run
from fastent.training.session import Session
from fastent.training.streamed_networks import Factory, find_network
from fastent.training.train import environment, sensible_threads

__all__ = ["train_streamed"]

# The options that the configuration of every run keeps.
_KEPT = (
    "activation", "seeds", "seed", "epochs", "batch_size", "optimizer", "lr", "momentum", "record_every", "metrics",
    "burn_in", "min_rise",
)  # fmt: skip


def train_streamed(
    data: Any,
    labels: Any,
    *,
    test: Any = None,
    test_labels: Any = None,
    model: "str | Factory" = "mlp",
    hidden: Sequence[int] = DEFAULTS.hidden,
    activation: Literal["tanh", "relu"] = DEFAULTS.activation,
    layers: Sequence[str] | None = None,
    classes: Literal["parity", "all"] | None = None,
    seeds: int = DEFAULTS.seeds,
    seed: int = DEFAULTS.seed,
    epochs: int | None = None,
    batch_size: int | None = DEFAULTS.batch_size,
    optimizer: str = DEFAULTS.optimizer,
    lr: float = DEFAULTS.lr,
    momentum: float = DEFAULTS.momentum,
    record_every: float | None = DEFAULTS.record_every,
    record_points: int | None = DEFAULTS.record_points,
    queries: int = DEFAULTS.queries,
    metrics: Sequence[str] = DEFAULTS.metrics,
    burn_in: float = DEFAULTS.burn_in,
    min_rise: float = DEFAULTS.min_rise,
    standardize: Literal["safe", "none"] = "safe",
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = True,
    device: str | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> Run:
    """Train networks on data that need not fit in memory, and record how the classes segregate and entangle.

    The defaults are those of `fe.train`, so that the same rows give the same networks from disk and from memory: by default an
    update takes all rows, which are read in order while their gradients are added up, and the results agree with those of
    `fe.train` to rounding. Large data are usually trained with a `batch_size` and for fewer `epochs`. Rows of a batch are then
    read in blocks of neighbours drawn at random, 16 of them shuffled together in a pool, the next pool read while the networks
    train. Networks are plain torch networks that share each batch: seed s is the network that a plain torch loop over the same
    batches trains after ``torch.manual_seed(seed + s)``.

    Parameters
    ----------
    data : path, Source or array (n, d)
        Whatever `fe.open` opens, also 8-bit, and an .npy of pictures (n, h, w) or (n, h, w, colours).
    labels : path or array-like (n,)
    test, test_labels : likewise, optional
        For the test error at every record.
    model : "mlp", "cnn", "package.module:factory" or callable
        "mlp" has `hidden` layers with the `activation`; "cnn" is a small one for pictures (two 3 x 3 convolutions, 8 and 16
        channels), which takes rows of a square number of features for square ones; a factory without arguments returns a torch
        module that takes rows (m, d) to logits (m, C).
    hidden, activation
        As for `fe.train`, where the model is "mlp".
    layers : sequence of str, optional
        Of the model's `named_modules()`: those whose outputs are recorded, flattened. Unless said every hidden layer: what
        arrives at each linear or convolutional layer after the first.
    classes : "all" or "parity", optional
        Every label its own class, or label % 2. Data on disk are your own: "all" by default, as for `fe.train`.
    seeds, seed : int
        How many networks, and the first one's seed, which also orders the data.
    epochs : int, optional
        Passes over the data; 500 by default.
    batch_size : int, optional
        Rows for an update; by default all rows, 1,024 at a time. Layers such as BatchNorm that normalise over a batch take
        their statistics from those 1,024.
    optimizer : "sgd", "adam" or "package.module:Class"
        Any torch optimiser that takes parameters and lr (and momentum, if that is not 0). One that evaluates the loss several
        times in an update, such as LBFGS, needs a `batch_size`.
    lr, momentum
        As for `fe.train`.
    record_every : float, optional
        Epochs between records; with a `batch_size` also in parts (0.25), to the nearest update. By default there is a record
        after each epoch and, as radii may turn within the first one, there after updates 1, 2, 3, 4, 6, ...
        round(2 ** (k / 2)) too.
    record_points : int or None
        Points that are recorded, drawn at random with `seed`; None for all. Inversions are those of their radii.
    queries : int
        How many of the recorded points to use as queries for neighbour mixing, k = 10.
    metrics : sequence of "geometry" and "mixing"
        Geometry always is.
    burn_in, min_rise
        As for `fe.train`.
    standardize : "safe" or "none"
        As for `fe.load_data`, from one pass over all rows.
    checkpoint : path, optional
        A folder in which everything is kept that it takes to go on: once a minute at most, at the end, and on Ctrl-C or
        SIGTERM, which then raise KeyboardInterrupt and leave the run so far there too, for `fe.load_run`.
    resume : bool
        Go on from what the folder holds, to the bits of a run that was not interrupted; or else start anew. A checkpoint of
        other rows, labels, test data or options is refused; the data are read once to see that. Asked for fewer epochs than
        were trained already, it makes the last pass and returns what there is.
    device, threads, progress
        As for `fe.train`.

    Returns
    -------
    Run
        `epoch` in passes over the data; `recorded` says which points were. Stragglers are those of all points, from one pass
        over the data with the weights at the inversions, or at the nearest of up to 64 epochs whose weights are kept
        (`run.straggler_epoch`).

    Raises
    ------
    FastentError
        Bad data or options; NaN in the data; a loss that is no longer finite; a checkpoint of another run, or a
        damaged one; a full disk.

    Examples
    --------
    >>> import numpy as np, fastent as fe
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 500)
    >>> X = rng.standard_normal((500, 8)) + y[:, None]
    >>> run = fe.train_streamed(X, y, seeds=1, epochs=2, batch_size=50, record_every=0.5, queries=100)
    >>> run.epoch.tolist(), run.radius.shape
    ([0.0, 0.5, 1.0, 1.5, 2.0], (1, 5, 1, 2))
    """
    options = StreamedOptions(
        hidden=hidden,  # type: ignore[arg-type]
        activation=activation,
        model=model,
        layers=layers,
        seeds=seeds,
        seed=seed,
        epochs=default_epochs(None) if epochs is None else epochs,
        lr=lr,
        optimizer=optimizer,
        momentum=momentum,
        batch_size=batch_size,
        burn_in=burn_in,
        min_rise=min_rise,
        device=device,
        threads=threads,
        record_every=record_every,
        record_points=record_points,
        queries=queries,
        metrics=metrics,
    )
    of_labels = default_classes(None) if classes is None else choice("classes", classes, ("all", "parity"))
    choice("standardize", standardize, ("safe", "none"))
    rows = open_training(data, labels, test, test_labels, of_labels)
    n = len(rows.codes)
    if batch_size is not None:
        whole_number("batch_size", batch_size, minimum=1, maximum=n)
    m = n if options.record_points is None else min(n, options.record_points)
    config: dict[str, Any] = {
        "data": rows.name,
        "source": str(data) if isinstance(data, (str, os.PathLike)) else None,
        "labels": str(labels) if isinstance(labels, (str, os.PathLike)) else None,
        "streamed": True,
        "fingerprint": None,  # known when all rows were read
        "digests": {},
        "picture": None if rows.train.picture is None else list(rows.train.picture),
        "classes": of_labels,
        "standardize": standardize,
        "model": model_name(options.model or "mlp"),
        **options.config("layers", *(() if options.model else ("hidden",)), *_KEPT),
        "updates_per_epoch": 1 if options.batch_size is None else -(-n // options.batch_size),
        "record_points": None if m == n else m,
        "queries": min(m, options.queries) if "mixing" in options.metrics else None,
        "device": str(torch_device(options.device)),
    }
    if record_every is not None and record_every < 1 and batch_size is None:
        raise FastentError(
            f"record_every={record_every!r}: without a batch_size an epoch is one update; name one, or record every epoch"
        )
    if record_every is not None and config["record_every"] * config["updates_per_epoch"] < 1:
        raise FastentError(
            f"record_every={record_every!r} is less than one of the {config['updates_per_epoch']} updates in an epoch: "
            f"record every {1 / config['updates_per_epoch']:.4g} epochs or less often"
        )
    factory = find_network(options, rows.train.picture, rows.train.X.shape[1], len(rows.classes))
    if options.model is None:
        threads = sensible_threads(threads, (n, rows.train.X.shape[1]), config, len(rows.classes))
    places = [torch.device(config["device"])] if config["device"] != "cpu" else []
    with (
        Checkpoint(checkpoint, resume=resume) as kept,
        limit_threads(threads),
        torch.random.fork_rng(devices=places) if places else nullcontext(),
        interruptible() as interrupted,
    ):
        config |= environment()
        return Session(rows, config, factory, kept, progress, interrupted).result()
