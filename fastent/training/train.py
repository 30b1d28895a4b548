"""Training on rows in memory: this file checks the options; `fastent.training.in_memory_session` does the work."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.activations.evaluation import torch_device
from fastent.arrays.class_names import class_names_of
from fastent.data.datasets import known_name
from fastent.data.fingerprint import mask_fingerprint
from fastent.data.presets import default_epochs, known_class_names
from fastent.data.training_set import Data, load_data
from fastent.errors import FastentError
from fastent.io.files import output_folder
from fastent.runtime.progress import Progress, say_resumed
from fastent.runtime.threads import limit_threads
from fastent.training.in_memory_networks import network_factory
from fastent.training.in_memory_session import InMemorySession
from fastent.training.networks import model_name
from fastent.training.options import DEFAULTS, InMemoryOptions, environment, sensible_threads
from fastent.training.run import Run, run_to_resume
from fastent.training.snapshot import Snapshot

__all__ = ["train"]

# The options that the configuration of every run keeps.
_KEPT = (
    "seeds", "seed", "epochs", "lr", "optimizer", "momentum", "batch_size", "test_every", "burn_in", "min_rise", "dtype",
)  # fmt: skip


def train(
    data: Any,
    labels: Any = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    subset: int | None = None,
    subset_seed: int | None = None,
    exclude: Any = None,
    classes: Literal["parity", "all"] | None = None,
    standardize: Literal["safe", "paper", "none"] = "safe",
    grayscale: bool = False,
    preset: Literal["paper"] | None = None,
    class_names: Any = None,
    hidden: Sequence[int] = DEFAULTS.hidden,
    activation: Literal["tanh", "relu"] = DEFAULTS.activation,
    init_scale: float = DEFAULTS.init_scale,
    seeds: int = DEFAULTS.seeds,
    seed: int = DEFAULTS.seed,
    exclude_per_seed: Any = None,
    epochs: int | None = None,
    lr: float = DEFAULTS.lr,
    optimizer: Literal["sgd", "adam"] = DEFAULTS.optimizer,
    momentum: float = DEFAULTS.momentum,
    batch_size: int | None = DEFAULTS.batch_size,
    model: "str | Callable[[], torch.nn.Module] | None" = None,
    layers: Sequence[str] | None = None,
    test_every: int = DEFAULTS.test_every,
    burn_in: float = DEFAULTS.burn_in,
    min_rise: float = DEFAULTS.min_rise,
    dtype: Literal["float32", "float64"] = DEFAULTS.dtype,
    device: str | None = None,
    threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: "Run | str | os.PathLike[str] | None" = None,
    observe: Callable[[Snapshot], None] | None = None,
    progress: Progress = None,
) -> Run:
    """Train independent networks on the same data and record how the classes segregate and entangle.

    The networks are fully connected, or made by your own `model`, and trained with cross-entropy loss, full-batch gradient
    descent and PyTorch's default initialisation. Seed s gives the network that a plain torch loop trains after
    ``torch.manual_seed(seed + s)``. The same call on the same machine with the same number of threads gives the same bits.

    Parameters
    ----------
    data : str, path, arrays, or Data
        "digits", "mnist", "fashion-mnist", "kmnist", "cifar10"; a path to an .npz, or to an .npy with `labels`; an array X with
        `labels`, or (X, y), or (x_train, y_train, x_test, y_test), or a Dataset or DataLoader of torch; or the result of
        `fe.load_data`, to which the options up to `preset` have already been applied.
    labels, data_dir, subset, subset_seed, exclude, classes, standardize, grayscale, preset
        As for `fe.load_data`. `classes` is "parity" (even against odd) for the data sets known by name and "all" for your own
        data. `exclude` leaves out rows by their number, for instance `run.consensus_stragglers()`. `preset="paper"` is the
        source paper's set-up: 8,192 points, parity, and the network that is the default here.
    class_names : sequence of str, mapping or path, optional
        What people call the classes, as for `fe.measure`; data sets known by name have theirs.
    hidden : sequence of int, optional, default (20,)
        Units of each hidden layer; at least one layer is needed.
    activation : "tanh" or "relu", optional, default "tanh"
    init_scale : float, optional, default 1.0
        Factor by which the initial weights and biases are multiplied.
    seeds : int, optional, default 10
        Number of networks.
    seed : int, optional, default 0
        The first network's seed.
    exclude_per_seed : (S, n) bool, optional
        Training points that each network is trained and recorded without. Test points are standardised as if no points were
        left out.
    epochs : int, optional
        Passes over the data: by default 500, or 1500 for digits.
    lr : float, optional, default 0.1
        Learning rate.
    optimizer : "sgd" or "adam", optional, default "sgd"
        PyTorch's optimiser, with its default settings.
    momentum : float, optional, default 0.0
        SGD momentum, in [0, 1).
    batch_size : int, optional
        Points in each update, drawn anew in every epoch and the same for all networks. By default an update takes all points.
        With a batch size, there are also records within the first passes: after updates 1, 2, 3, ... round(2 ** (k / 8)), as
        long as these are less than a pass apart.
    model : "cnn", "package.module:name" or callable, optional
        Replaces the fully connected network: a function without arguments that returns a torch module, which takes rows (m, d)
        of `x_train` to logits (m, C). "cnn" is a small convolutional network for pictures (two 3 x 3 convolutions, 8 and 16
        channels). The networks are trained together through torch.func, and recorded in evaluation mode.
    layers : sequence of str, optional
        Names from the model's `named_modules()`; the outputs of these modules are the hidden layers that are recorded. By
        default this is the input of the last nn.Linear.
    test_every : int, optional, default 10
        Epochs between measurements of the test error; the last epoch is always measured.
    burn_in : float, optional, default 0
        Parameter updates at the start in which no turn counts as an inversion; see `fe.find_inversion`.
    min_rise : float, optional, default 0.05
        Least fall before and rise after an inversion, as a share of the radius's range, in (0, 1].
    dtype : "float32" or "float64", optional, default "float32"
        Precision of the networks. Class sums are float64 in either case.
    device : str, optional, default "cpu"
        "cpu", "cuda", "cuda:1", ...
    threads : int, optional
        Number of threads for this call. By default those that torch and numba are set to, or one if the problem is so small
        that threads would cost more time than they save. In a forked child, where OpenMP's threads are missing, torch has one.
    checkpoint : path, optional
        A folder in which the run so far is saved once a minute, and on Ctrl-C or SIGTERM, which then raise KeyboardInterrupt.
    resume : Run or path, optional
        A run of the same configuration (or its folder) to be continued to `epochs`. The result is bit-identical to that of an
        uninterrupted run. A run that already has as many epochs, or more, is returned unchanged. A run with other points,
        labels or options is refused, and so is a folder whose `run.npz` is damaged or has no checksum.
    observe : callable, optional
        Called with a snapshot of the networks after each whole epoch: its `epoch`, `logits`, `probability` and `hidden()`.
    progress : bool or callable, optional
        True for a bar on stderr; or a function of (done, total, message).

    Returns
    -------
    Run

    Raises
    ------
    FastentError
        Invalid data or options; a loss that is no longer finite; records that do not fit in memory.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.

    Examples
    --------
    >>> import fastent as fe
    >>> run = fe.train("digits", seeds=2, epochs=300)
    >>> [bool(inversion) for inversion in run.inversion[:, -1, 0]]
    [True, True]
    """
    if not isinstance(data, Data):
        data = load_data(
            data,
            labels=labels,
            data_dir=data_dir,
            subset=subset,
            subset_seed=subset_seed,
            exclude=exclude,
            classes=classes,
            standardize=standardize,
            grayscale=grayscale,
            preset=preset,
        )
    options = InMemoryOptions(
        hidden=hidden,  # type: ignore[arg-type]
        activation=activation,
        model=model,
        layers=layers,
        seeds=seeds,
        seed=seed,
        epochs=default_epochs(known_name(data.options["source"])) if epochs is None else epochs,
        lr=lr,
        optimizer=optimizer,
        momentum=momentum,
        batch_size=batch_size,
        burn_in=burn_in,
        min_rise=min_rise,
        device=device,
        threads=threads,
        init_scale=init_scale,
        test_every=test_every,
        dtype=dtype,
    )
    config: dict[str, Any] = {
        "data": data.name,
        "fingerprint": data.fingerprint,
        "digests": data.digests,
        **data.options,
        **_network_config(options),
        **options.config(*_KEPT),
        "updates_per_epoch": 1 if options.batch_size is None else -(-len(data.y_train) // options.batch_size),
        "device": str(torch_device(options.device)),
    }
    if class_names is not None or config["classes"] == "all":
        known = known_class_names(known_name(config["source"]))
        names = class_names if class_names is not None or known is None else dict(enumerate(known))
        config["class_names"] = class_names_of(names, data.classes)
    without = _left_out(exclude_per_seed, (config["seeds"], len(data.y_train)))
    if without is not None:
        config["exclude_per_seed"] = mask_fingerprint(without)
    factory = network_factory(options.model, options.activation, data)
    if factory is None:
        threads = sensible_threads(threads, data.x_train.shape, config, len(data.classes))
    with limit_threads(threads):
        config |= environment()
        checkpoint = None if checkpoint is None else output_folder(checkpoint)
        if resume is not None and not isinstance(resume, Run):
            resume = run_to_resume(resume, "train without resume=, or name another folder")
        session = InMemorySession(data, config, factory, without)
        if resume is not None:
            session.resume(resume)
            if session.complete:
                return resume.judged_by(config["burn_in"], config["min_rise"])
            say_resumed(progress, f"training resumes from epoch {resume.epoch[-1]:g} of {config['epochs']}")
        return session.train(checkpoint, observe, progress)


def _network_config(options: InMemoryOptions) -> dict[str, Any]:
    model, layers = options.model, options.layers
    if model is None:
        if layers is not None:
            raise FastentError(f"layers={layers!r}: only a model= has layers to choose from; every hidden layer is recorded")
        return options.config("hidden", "activation", "init_scale")
    if options.activation != DEFAULTS.activation and model != "cnn":
        raise FastentError(
            f"activation={options.activation!r} is for fully connected networks and 'cnn': your model has its own"
        )
    if options.hidden != DEFAULTS.hidden or options.init_scale != DEFAULTS.init_scale:
        raise FastentError("hidden= and init_scale= are of fully connected networks: leave them out with model=")
    return {"model": model_name(model), **options.config("layers", "activation")}


def _left_out(rows: Any, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    if rows is None:
        return None
    mask: NDArray[np.bool_] = np.asarray(rows)
    if mask.shape != shape or mask.dtype != bool:
        raise FastentError(
            f"exclude_per_seed is {mask.shape} of {mask.dtype}: a bool for each seed and point, {shape}, is needed"
        )
    if mask.all(1).any():
        raise FastentError(
            f"exclude_per_seed leaves no point to the network at position {int(mask.all(1).argmax())}: leave some"
        )
    return mask
