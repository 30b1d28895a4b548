"""Training on data that stay on disk, with records on the way, resumed bit for bit.

    pass 1        constants of the standardisation
    training      batches from a pool read ahead -> networks, and every so many updates a record of a sample of the points
    last pass     which points are misclassified with the weights at each class's inversion: the stragglers among all points

This file checks the options; `fastent.training.streamed_session` does the work.
"""

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import torch

from fastent.activations.evaluation import torch_device
from fastent.arrays.class_names import class_names_of
from fastent.data.presets import default_classes, default_epochs
from fastent.data.stored_rows import open_training
from fastent.errors import FastentError
from fastent.options import choice, whole_number
from fastent.runtime.progress import Progress, interruptible
from fastent.runtime.threads import limit_threads
from fastent.training.checkpoint import Checkpoint
from fastent.training.networks import Factory, find_model, mlp, model_name
from fastent.training.options import STREAMED_DEFAULTS as DEFAULTS
from fastent.training.options import StreamedOptions, environment, sensible_threads
from fastent.training.run import Run
from fastent.training.streamed_session import StreamedSession

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
    class_names: Any = None,
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

    The defaults are those of `fe.train`, so that the same rows give the same networks from disk and from memory. By default
    each update takes all rows, which are read in order while their gradients are summed, and the results agree with those of
    `fe.train` up to rounding. Large data sets are usually trained with a `batch_size` and for fewer `epochs`. The rows of a
    batch then come from a pool of 16 blocks of neighbouring rows, which are drawn at random and shuffled together; the next
    pool is read while the networks train. The networks are plain torch networks that share each batch: seed s gives the network
    that a plain torch loop over the same batches trains after ``torch.manual_seed(seed + s)``.

    Parameters
    ----------
    data : path, Source or array (n, d)
        Anything that `fe.open` opens, including 8-bit data and an .npy of pictures (n, h, w) or (n, h, w, colours).
    labels : path or array-like (n,)
    test, test_labels : like `data` and `labels`, optional
        A test set, on which the error is measured at every record.
    model : "mlp", "cnn", "package.module:factory" or callable, optional, default "mlp"
        "mlp" has `hidden` layers with the `activation`. "cnn" is a small convolutional network for pictures (two 3 x 3
        convolutions, 8 and 16 channels); rows with a square number of features are taken as square pictures. A factory without
        arguments returns a torch module that takes rows (m, d) to logits (m, C).
    hidden, activation
        As for `fe.train`.
    layers : sequence of str, optional
        Names from the model's `named_modules()`; the flattened outputs of these modules are recorded. By default every hidden
        layer is: the input of each linear or convolutional layer after the first.
    classes : "all" or "parity", optional, default "all"
        Every label is its own class, or label % 2.
    class_names : sequence of str, mapping or path, optional
        What people call the classes, as for `fe.measure`.
    seeds, seed : int, optional, default 10 and 0
        Number of networks, and the seed of the first one, which also determines the order of the data.
    epochs : int, optional, default 500
        Passes over the data.
    batch_size : int, optional
        Rows in each update. By default an update takes all rows, 1,024 at a time; layers such as BatchNorm that normalise over
        a batch then take their statistics from those 1,024.
    optimizer : "sgd", "adam" or "package.module:Class", optional, default "sgd"
        Any torch optimiser that takes parameters and lr (and momentum, if that is not 0). An optimiser that evaluates the loss
        several times per update, such as LBFGS, needs a `batch_size`.
    lr, momentum
        As for `fe.train`.
    record_every : float, optional
        Epochs between records; with a `batch_size` this can be a fraction (0.25), which is rounded to the nearest update. By
        default there is a record after each epoch and, as radii may turn within the first one, also after its updates 1, 2, 3,
        4, 6, ... round(2 ** (k / 2)).
    record_points : int or None, optional, default 50,000
        Number of points that are recorded, drawn at random with `seed`; None for all. Inversions are those of their radii.
    queries : int, optional, default 5,000
        How many of the recorded points to use as queries for neighbour mixing, k = 10.
    metrics : sequence of "geometry" and "mixing", optional, default both
        Statistics to record; geometry is required.
    burn_in, min_rise
        As for `fe.train`.
    standardize : "safe" or "none", optional, default "safe"
        As for `fe.load_data`, from one pass over all rows.
    checkpoint : path, optional
        A folder in which the state of the training is saved once a minute, at the end, and on Ctrl-C or SIGTERM, which then
        raise KeyboardInterrupt and also save the run so far, for `fe.load_run`.
    resume : bool, optional, default True
        Continue from the checkpoint in the folder; the result is bit-identical to that of an uninterrupted run. With False,
        training starts anew. A checkpoint of other rows, labels, test data or options is refused; the data are read once to
        check that. If fewer epochs are asked for than were already trained, only the last pass is made.
    device, threads, progress
        As for `fe.train`.

    Returns
    -------
    Run
        `epoch` counts passes over the data; `recorded` are the positions of the points that were recorded. Stragglers are found
        among all points, in one pass over the data with the weights at the inversions, or at the nearest of up to 64 epochs
        whose weights are kept (`run.straggler_epoch`).

    Raises
    ------
    FastentError
        Invalid data or options; NaN in the data; a loss that is no longer finite; a checkpoint that is damaged or belongs to
        another run; a full disk.

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
        "class_names": class_names_of(class_names, rows.classes),
        "standardize": standardize,
        "model": model_name(options.model or "mlp"),
        **options.config("layers", *(() if options.model else ("hidden",)), *_KEPT),
        "updates_per_epoch": 1 if options.batch_size is None else -(-n // options.batch_size),
        "record_points": None if m == n else m,
        "queries": min(m, options.queries) if "mixing" in options.metrics else None,
        "device": str(torch_device(options.device)),
    }
    _check_record_every(record_every, options.batch_size, config["updates_per_epoch"])
    factory = _factory(options, rows.train.picture, rows.train.X.shape[1], len(rows.classes))
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
        return StreamedSession(rows, config, factory, kept, progress, interrupted).result()


def _factory(options: StreamedOptions, picture: Sequence[int] | None, n_features: int, n_classes: int) -> Factory:
    """A function that makes one network; rows of a square number of features are square pictures."""
    if options.model is None:
        return partial(mlp, n_features, n_classes, hidden=options.hidden, activation=options.activation)
    side = math.isqrt(n_features)
    no_pictures = (
        f"these are rows of {n_features} numbers: store them as (n, h, w) or (n, h, w, colours) in an .npy, or use model='mlp' "
        "or a factory of your own"
    )
    shape = picture or ((side, side) if side * side == n_features else None)
    return find_model(options.model, shape, n_classes, options.activation, no_pictures=no_pictures)


def _check_record_every(every: float | None, batch_size: int | None, updates_per_epoch: int) -> None:
    if every is not None and every < 1 and batch_size is None:
        raise FastentError(
            f"record_every={every!r}: without a batch_size an epoch is one update; name one, or record every epoch"
        )
    if every is not None and every * updates_per_epoch < 1:
        raise FastentError(
            f"record_every={every!r} is less than one of the {updates_per_epoch} updates in an epoch: "
            f"record every {1 / updates_per_epoch:.4g} epochs or less often"
        )
