"""The training loop: many seeds at once; with full batches every epoch is recorded from the forward pass it makes anyway."""

import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.activations.evaluation import torch_device
from fastent.data.datasets import known_name
from fastent.data.digests import check_same_data
from fastent.data.presets import default_epochs
from fastent.data.training_set import Data, load_data
from fastent.errors import DivergedError, FastentError
from fastent.io.files import output_folder
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, interruptible, reporting
from fastent.runtime.threads import limit_threads
from fastent.training.ensemble import Ensemble
from fastent.training.factories import NEVER_FINITE
from fastent.training.held_out import HeldOut
from fastent.training.modules import ModuleEnsemble, cnn, find_factory, model_digest, model_name
from fastent.training.options import DEFAULTS, InMemoryOptions
from fastent.training.points import Points
from fastent.training.recorder import Recorder
from fastent.training.resuming import check_same
from fastent.training.run import Run, run_to_resume
from fastent.training.schedule import updates_to_record
from fastent.training.snapshot import Snapshot

__all__ = ["environment", "sensible_threads", "train"]

_CHECKPOINT_SECONDS = 60.0
# Floating-point operations of an epoch (some 10 ms on one core) below which threads cost more than they bring, and very much
# more where something else runs on the machine: they wait for each other many times an epoch.
_WORTH_SHARING = 1e9
# The options that the configuration of every run keeps.
_KEPT = (
    "seeds", "seed", "epochs", "lr", "optimizer", "momentum", "batch_size", "test_every", "burn_in", "min_rise", "dtype",
)  # fmt: skip
# What must be the same for a run to be continued; the rest (epochs, versions, threads) may differ.
_IDENTITY = (
    "classes", "standardize", "model", "model_digest", "layers", "hidden", "activation", "init_scale", "seeds",
    "seed", "exclude_per_seed", "lr", "optimizer", "momentum", "batch_size", "dtype", "test_every",
)  # fmt: skip


def train(
    data: Any,
    *,
    labels: Any = None,
    data_dir: str | os.PathLike[str] | None = None,
    subset: int | None = None,
    subset_seed: int | None = None,
    exclude: Any = None,
    classes: Literal["parity", "all"] | None = None,
    standardize: Literal["safe", "paper", "none"] = "safe",
    grayscale: bool = False,
    preset: Literal["paper"] | None = None,
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

    Fully connected networks, or a `model` of your own, with cross-entropy loss, full-batch gradient descent and PyTorch's
    default initialisation: seed s is the network that a plain torch loop trains after ``torch.manual_seed(seed + s)``. The same
    call on the same machine with the same number of threads gives the same bits.

    Parameters
    ----------
    data : str, path, arrays, or Data
        "digits", "mnist", "fashion-mnist", "kmnist", "cifar10"; a path to an .npz, or to an .npy with `labels`; arrays
        (X, y) or (x_train, y_train, x_test, y_test); or what `fe.load_data` returned, to which the options up to `preset` have
        already been applied.
    labels, data_dir, subset, subset_seed, exclude, classes, standardize, grayscale, preset
        As for `fe.load_data`. `classes` is "parity" (even against odd) for the data sets known by name and "all" for data of
        your own. `exclude` leaves out rows by their number, for instance `run.consensus_stragglers()`. `preset="paper"` is the
        source paper's set-up: 8,192 points, parity, and the network that is the default here.
    hidden : sequence of int
        Units of each hidden layer, at least one layer.
    activation : "tanh" or "relu"
    init_scale : float
        What the initial weights and biases are multiplied with.
    seeds : int
        How many networks.
    seed : int
        The first network's seed.
    exclude_per_seed : (S, n) bool, optional
        Training points that one network or the other is to be trained and recorded without; test points are standardised as
        if none were left out.
    epochs : int, optional
        Parameter updates; 500 by default, 1500 for digits.
    lr : float
        Learning rate.
    optimizer : "sgd" or "adam"
        PyTorch's, with its defaults.
    momentum : float
        SGD momentum, in [0, 1).
    batch_size : int, optional
        Points for an update, drawn anew in every epoch, the same for all networks; by default all points. With a batch size
        epochs are passes over the data, not updates, and there are records within the first passes too: after updates 1, 2, 3,
        ... round(2 ** (k / 8)), until these are a pass apart.
    model : "cnn", "package.module:name" or callable, optional
        Instead of `hidden` layers: a function without arguments that returns a torch module, which takes rows (m, d) of
        `x_train` to logits (m, C). "cnn" is a small convolutional network for pictures (two 3 x 3 convolutions, 8 and 16
        channels). Networks are trained together through torch.func, and recorded in evaluation mode.
    layers : sequence of str, optional
        Of the model's `named_modules()`: those whose outputs are the hidden layers recorded. Unless said, what arrives at its
        last nn.Linear.
    test_every : int
        Epochs between measurements of the test error; the last epoch is always measured.
    burn_in : float
        Parameter updates at the start in which no turn counts as an inversion; see `fe.find_inversion`.
    min_rise : float
        The least fall before and rise after an inversion, as a share of the radius's range, in (0, 1].
    dtype : "float32" or "float64"
        In which the networks compute. Class sums are float64 in either case.
    device : str, optional
        "cpu", "cuda", "cuda:1", ...; CPU unless said.
    threads : int, optional
        Threads for this call. Unless said, as torch and numba are set; one where an epoch is over before threads have met.
        torch has one thread in a forked child, where OpenMP's are missing.
    checkpoint : path, optional
        A folder in which the run so far is kept once a minute and on Ctrl-C or SIGTERM, which then raise KeyboardInterrupt.
    resume : Run or path, optional
        A run of the same configuration (or the folder of one), to be continued to `epochs`. The result is, bit for bit, that
        of a run that was not interrupted; a run that has as many epochs, or more, is returned as it is. One of other points,
        labels or options is refused, and so is a folder whose `run.npz` is damaged, or carries no checksum.
    observe : callable, optional
        Called with a snapshot of the networks after each pass: its `epoch`, `logits`, `probability` and `hidden()`.
    progress : bool or callable
        True for a bar on stderr; or a function of (done, total, message).

    Returns
    -------
    Run

    Raises
    ------
    FastentError
        Bad data or options; a loss that is no longer finite; records that do not fit in memory.

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
    without = _left_out(exclude_per_seed, (config["seeds"], len(data.y_train)))
    if without is not None:
        config["exclude_per_seed"] = hashlib.sha256(np.packbits(without).tobytes()).hexdigest()[:16]
    factory = _factory(options.model, data, activation)
    if factory is None:
        threads = sensible_threads(threads, data.x_train.shape, config, len(data.classes))
    with limit_threads(threads):
        config |= environment()
        checkpoint = None if checkpoint is None else output_folder(checkpoint)
        if resume is not None and not isinstance(resume, Run):
            resume = run_to_resume(resume, "train without resume=, or name another folder")
        return _train(data, config, factory, without, resume, checkpoint, observe, progress)


def _train(
    data: Data,
    config: dict[str, Any],
    factory: Callable[[], torch.nn.Module] | None,
    without: NDArray[np.bool_] | None,
    resume: Run | None,
    checkpoint: Any,
    observe: Callable[[Snapshot], None] | None,
    progress: Progress,
) -> Run:
    device, dtype = torch.device(config["device"]), getattr(torch, config["dtype"])
    n_epochs, n_classes, n_networks = config["epochs"], len(data.classes), config["seeds"]
    seeds = range(config["seed"], config["seed"] + n_networks)
    per_epoch, full_batch = config["updates_per_epoch"], config["batch_size"] is None
    due = updates_to_record(n_epochs, per_epoch)
    _check_memory(config, data, len(due))

    used = torch.from_numpy(data.x_train.any(0) | data.x_test.any(0))
    networks: Ensemble | ModuleEnsemble
    if factory is not None:
        networks = ModuleEnsemble(
            factory, seeds,
            n_inputs=data.x_train.shape[1], n_classes=n_classes, layers=config["layers"], dtype=dtype, device=device,
        )  # fmt: skip
        if networks.mixes_points and without is not None:
            raise FastentError(
                "exclude_per_seed with a model that normalises over batches: points left out would count there; "
                "use exclude=, or a model with LayerNorm or GroupNorm"
            )
        config |= {"layers": networks.layers, "model_digest": model_digest(factory, seeds[0], data.x_train)}
        used[:] = True
    else:
        networks = Ensemble(
            (data.x_train.shape[1], *config["hidden"], n_classes),
            seeds,
            activation=config["activation"],
            dtype=dtype,
            device=device,
            init_scale=config["init_scale"],
            used_inputs=used,
        )
    kept = np.ones((n_networks, len(data.x_train)), bool) if without is None else ~without
    points = Points.sort(_columns(data.x_train, used, dtype, device), data.y_train, n_classes, kept)
    every = np.ones((n_networks, len(data.x_test)), bool)
    test_points = Points.sort(_columns(data.x_test, used, dtype, device), data.y_test, n_classes, every)
    if factory is None:
        points, test_points = points.compressed(), test_points.compressed()
    held_out = HeldOut(networks, test_points)
    optimizer = _optimizer(networks, config)
    epochs = due if per_epoch == 1 else due / per_epoch
    recorder = Recorder(epochs, len(config["layers"] if factory is not None else config["hidden"]), points)
    seconds_before = 0.0
    if resume is not None:
        check_same(resume.config, config, _IDENTITY)
        check_same_data(resume.config, config)
        if resume.epoch[-1] >= n_epochs:
            return resume.judged_by(config["burn_in"], config["min_rise"])
        if not np.array_equal(resume.update, due[: len(resume.update)]):
            raise FastentError(
                "the run to resume is of an earlier version of fastent, which recorded training in batches after whole passes "
                "only: start anew (another folder, without resume, or --overwrite)"
            )
        _restore_state(networks, optimizer, resume.state)
        recorder.restore(_records_of(resume), config["test_every"])
        seconds_before = resume.seconds
    started = time.perf_counter()

    def run_so_far() -> Run:
        return Run(
            config=config,
            classes=data.classes,
            index=data.index,
            labels=data.labels,
            codes=data.y_train,
            seconds=seconds_before + time.perf_counter() - started,
            state=_state(networks, optimizer),
            **recorder.records(),
        )

    saved = started
    with torch.no_grad(), interruptible() as interrupted, reporting(progress, "training", n_epochs) as report:
        # Parameters belong to the record at `first`, already made: its forward pass is made once more for the gradient.
        first = max(recorder.n_recorded - 1, 0)
        for position, update in enumerate(due[first:].tolist(), first):
            epoch, within = divmod(update, per_epoch)
            at_end = update == due[-1]
            observed = networks.observe(points, learn=full_batch and not at_end)
            if not torch.isfinite(observed.logits.sum()):
                if update == 0:
                    raise DivergedError(NEVER_FINITE)
                raise DivergedError(
                    f"training diverged at epoch {update / per_epoch:.6g}: the networks' outputs are no longer finite; "
                    f"lower lr={config['lr']}"
                )
            if position == recorder.n_recorded:
                recorder.record(observed)
                if not within and (epoch % config["test_every"] == 0 or at_end):
                    recorder.record_test(epoch, held_out.errors())
            if observe is not None and not within:
                observe(Snapshot(epoch, networks, points, data.x_train, observed.logits))
            report(epoch, f"training error {recorder.train_error[position].mean():.4f}")
            if checkpoint is not None and (interrupted() or time.perf_counter() - saved > _CHECKPOINT_SECONDS):
                run_so_far().save(checkpoint)
                saved = time.perf_counter()
            if interrupted():
                raise KeyboardInterrupt
            if at_end:
                break
            if full_batch:
                if not networks.learns_when_observed:
                    networks.learn(points)
                optimizer.step()
            else:
                for rows in _batches(len(data.x_train), config, range(update, int(due[position + 1]))):
                    networks.learn(points.batch(rows))
                    optimizer.step()
    return run_so_far()


def _batches(n: int, config: dict[str, Any], updates: range) -> Iterator[NDArray[np.int64]]:
    """The points of each of these updates, all of one epoch.

    An epoch takes every point once, in an order of its own; its last batch may be smaller.
    """
    epoch, first = divmod(updates[0], config["updates_per_epoch"])
    order, size = np.random.default_rng((config["seed"], epoch)).permutation(n), config["batch_size"]
    for batch in range(first, first + len(updates)):
        yield order[batch * size : (batch + 1) * size]


def _factory(model: Any, data: Data, activation: str) -> Callable[[], torch.nn.Module] | None:
    if model is None or callable(model):
        return model  # type: ignore[no-any-return]
    if model != "cnn":
        return find_factory(str(model))
    if data.pictures is None:
        raise FastentError(
            f"model='cnn' needs pictures, these points have shape {data.raw.shape[1:]}: give them as (n, h, w) or (n, h, w, "
            "colours), colours last, or use hidden layers"
        )
    shape = data.raw.shape[1:3] if data.options["grayscale"] else data.raw.shape[1:]
    return partial(cnn, shape, len(data.classes), activation=activation)


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


def _columns(rows: NDArray[np.float32], used: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Rows (n, d) as a contiguous (used inputs, n) tensor."""
    return torch.from_numpy(rows).T[used].to(device, dtype).contiguous()


def _optimizer(networks: Ensemble | ModuleEnsemble, config: dict[str, Any]) -> torch.optim.Optimizer:
    if config["optimizer"] == "adam":
        return torch.optim.Adam(networks.parameters, lr=config["lr"])
    return torch.optim.SGD(networks.parameters, lr=config["lr"], momentum=config["momentum"])


def _state(networks: Ensemble | ModuleEnsemble, optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """Parameters and optimiser state as plain arrays (copies): "0" and "0.exp_avg" for the first parameter."""
    state = {}
    for i, parameter in enumerate(networks.parameters):
        state[str(i)] = parameter.cpu().numpy().copy()
        for name, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                state[f"{i}.{name}"] = value.cpu().numpy().copy()
    return state | {f"buffer.{name}": buffer.cpu().numpy().copy() for name, buffer in networks.buffers.items()}


def _restore_state(
    networks: Ensemble | ModuleEnsemble, optimizer: torch.optim.Optimizer, state: dict[str, NDArray[Any]]
) -> None:
    for key, value in state.items():
        i, _, name = key.partition(".")
        if i == "buffer":
            networks.buffers[name].copy_(torch.from_numpy(np.array(value)))
            continue
        parameter = networks.parameters[int(i)]
        tensor = torch.from_numpy(np.array(value))
        if name:
            # PyTorch keeps Adam's step count on the CPU, everything else beside its parameter.
            optimizer.state[parameter][name] = tensor if tensor.ndim == 0 else tensor.to(parameter.device)
        else:
            parameter.copy_(tensor)


def _records_of(run: Run) -> dict[str, NDArray[Any]]:
    names = ("epoch", "train_error", "test_epoch", "test_error", "radius", "distance", "wrong")
    return {name: getattr(run, name) for name in names}


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


def _check_memory(config: dict[str, Any], data: Data, n_records: int) -> None:
    n, n_networks = len(data.x_train), config["seeds"]
    widths = config.get("hidden", [0])
    n_classes, n_layers = len(data.classes), len(widths)
    item = 4 if config["dtype"] == "float32" else 8
    records = n_records * n_networks * (n / 8 + 8 * (1 + n_layers * n_classes * (n_classes + 1)))
    # Activations, one gradient of the widest layer twice, logits and their softmax; the inputs, sorted and transposed.
    units = sum(widths) + 2 * max(widths) + 3 * n_classes
    rows = max(n, len(data.x_test))
    working = item * (rows * n_networks * units + 2 * (n + len(data.x_test)) * data.x_train.shape[1])
    # Saving copies the records once.
    check_fits(
        2 * records + working,
        f"training {n_networks} seeds on {n} points for {config['epochs']} epochs",
        "use fewer seeds, fewer epochs, narrower layers or a smaller subset",
    )


def sensible_threads(threads: int | None, shape: tuple[int, ...], config: dict[str, Any], n_classes: int) -> int | None:
    """One where nothing is asked for and an epoch of the fully connected networks is over before threads have met."""
    widths: tuple[int, ...] = (shape[1], *config["hidden"], n_classes)
    weights = sum(before * after for before, after in pairwise(widths))
    # Forward, and twice that backward, two operations for each weight and point.
    operations = 6.0 * shape[0] * int(config["seeds"]) * weights
    return 1 if threads is None and operations < _WORTH_SHARING else threads


def environment() -> dict[str, Any]:
    return {
        "fastent": version("fastent"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
