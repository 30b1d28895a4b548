"""Computations on a GPU, compared with the CPU of the same machine: first the results, then the times.

FASTENT_DATA=DIR python -m bench.cuda RESULTS.json

Full-batch and mini-batch training, from memory and from disk; a probe; captured activations; neighbours with torch.
"""

import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastent as fe
from bench.revision import revision


def timed(function: Any) -> tuple[Any, float]:
    """The result of the second call and its seconds; the first call compiles and warms up."""
    function()
    started = time.perf_counter()
    result = function()
    torch.cuda.synchronize()
    return result, time.perf_counter() - started


def training(**options: Any) -> dict[str, Any]:
    """Trains the same networks on both devices; how far the radii differ, and whether and where the same classes turn."""
    runs, seconds = {}, {}
    for device in ("cpu", "cuda"):
        runs[device], seconds[device] = timed(
            lambda device=device: fe.train("mnist", subset=8192, seeds=10, device=device, **options)
        )
    return compared(runs, seconds)


def compared(runs: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    here, there = runs["cpu"], runs["cuda"]
    found = {name: [bool(i) for i in run.inversion.flat] for name, run in runs.items()}
    turns = [(a, b) for a, b in zip(here.inversion.flat, there.inversion.flat, strict=True) if a and b]
    return {
        "seconds": seconds,
        "records": len(here.epoch),
        "radius_difference": float(np.abs(here.radius - there.radius).max()),
        "same_radii_turn": found["cpu"] == found["cuda"],
        "turns": sum(found["cuda"]),
        "eps_difference": max((abs(a.train_error - b.train_error) for a, b in turns), default=None),
        "intervals_overlap": all(
            a.epoch_interval[0] <= b.epoch_interval[1] and b.epoch_interval[0] <= a.epoch_interval[1] for a, b in turns
        ),
    }


def streamed(**options: Any) -> dict[str, Any]:
    data = fe.load_data("mnist", subset=8192, classes="all")
    runs, seconds = {}, {}
    for device in ("cpu", "cuda"):
        runs[device], seconds[device] = timed(
            lambda device=device: fe.train_streamed(data.x_train, data.y_train, device=device, seeds=2, queries=500, **options)
        )
    return compared(runs, seconds)


def resumed() -> bool:
    """Whether a run on the GPU that is stopped in its first pass and resumed is bit-identical to an uninterrupted one."""
    options: dict[str, Any] = {"subset": 2048, "seeds": 2, "batch_size": 64, "device": "cuda"}
    whole = fe.train("mnist", epochs=3, **options)
    half = fe.train("mnist", epochs=1, **options)
    again = fe.train("mnist", epochs=3, resume=half, **options)
    return bool(np.array_equal(whole.radius, again.radius) and np.array_equal(whole.wrong, again.wrong))


def probe_and_capture() -> dict[str, Any]:
    data = fe.load_data("digits", classes="all")
    X, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    loader = [(X[i : i + 256], y[i : i + 256]) for i in range(0, len(X), 256)]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    seen, stored = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for device in ("cpu", "cuda"):
            model = model.to(device)
            probe = fe.Probe(model, loader, ["1"], metrics=("geometry", "mixing", "margins"))
            seen[device] = probe(0)
            stored[device] = fe.capture(model, loader, ["1"], Path(folder) / device, dtype="float32", device=device)
        rows = [np.asarray(stored[device].layer("1")[:]) for device in ("cpu", "cuda")]
    return {
        "probe_difference": max(abs(seen["cpu"][name] - seen["cuda"][name]) for name in seen["cpu"]),
        "capture_difference": float(np.abs(rows[0] - rows[1]).max()),
    }


def neighbours() -> dict[str, Any]:
    X = np.random.default_rng(0).standard_normal((20_000, 128)).astype(np.float32)
    exact, exact_seconds = timed(lambda: fe.neighbors(X, 10))
    there, seconds = timed(lambda: fe.neighbors(X, 10, method="torch", device="cuda"))
    return {
        "rows": len(X),
        "recall": float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact.indices, there.indices, strict=True)])),
        "distance_difference": float(np.abs(exact.distances - there.distances).max()),
        "seconds": {"exact, cpu": exact_seconds, "torch, cuda": seconds},
    }


def main() -> None:
    results: dict[str, Any] = {
        "commit": revision(), "gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip
    jobs = {
        "full batch, 300 epochs": lambda: training(epochs=300),
        "batches of 64, 3 passes": lambda: training(epochs=3, batch_size=64),
        "cnn, batches of 256, 2 passes": lambda: training(epochs=2, batch_size=256, model="cnn"),
        "from disk, full batch, 100 epochs": lambda: streamed(epochs=100),
        "from disk, batches of 256, 3 passes": lambda: streamed(epochs=3, batch_size=256),
        "resumed to the bit": resumed,
        "probe and capture": probe_and_capture,
        "neighbours": neighbours,
    }
    for name, job in jobs.items():
        started = time.perf_counter()
        try:
            results[name] = job()
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {results[name]} ({time.perf_counter() - started:.0f} s)", flush=True)
        Path(sys.argv[1]).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
