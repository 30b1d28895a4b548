"""Training on a million augmented images on disk: peak memory, the share of time that recording takes, and the inversions.

    FASTENT_DATA=DIR python -m bench.big_run --folder /tmp/big --n 1000000 --epochs 5

This writes images-N.npy (uint8, n x 28 x 28) and labels-N.npy to the folder, block by block, and then trains the MLP and the
CNN, each in its own process. The geometry of every hidden layer is recorded four times per epoch, mixing on 5,000 queries.
Results: bench/results/big-run.json.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

from bench.revision import revision

RESULTS = Path(__file__).parent / "results" / "big-run.json"
MODELS = {
    "mlp": {"model": "mlp", "hidden": (512, 128), "activation": "relu", "lr": 0.1},
    "cnn": {"model": "cnn", "activation": "tanh", "lr": 0.1},
}
BLOCK = 10_000


def make(folder: Path, n: int) -> tuple[Path, Path]:
    """Each image is one of MNIST's training set, shifted by up to 2 pixels and rotated by up to 15 degrees, with a seed."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from fastent.data.datasets import read_dataset
    from fastent.io.files import atomic_path

    images_path, labels_path = folder / f"images-{n}.npy", folder / f"labels-{n}.npy"
    if images_path.exists() and labels_path.exists():
        return images_path, labels_path
    folder.mkdir(parents=True, exist_ok=True)
    raw = read_dataset("mnist")
    originals = torch.from_numpy(raw.x_train.reshape(-1, 1, 28, 28))
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(originals), (n,), generator=generator)
    with atomic_path(images_path) as temporary:
        stored = np.lib.format.open_memmap(temporary, "w+", np.uint8, (n, 28, 28))
        for begin in range(0, n, BLOCK):
            rows = chosen[begin : begin + BLOCK]
            angle = (torch.rand(len(rows), generator=generator) - 0.5) * torch.pi / 6
            shift = (torch.rand(len(rows), 2, generator=generator) - 0.5) * 8 / 28
            turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
            grid = F.affine_grid(torch.cat([turn, shift[:, :, None]], 2), [len(rows), 1, 28, 28], align_corners=False)
            moved = F.grid_sample(originals[rows].float(), grid, align_corners=False)
            stored[begin : begin + len(rows)] = moved[:, 0].round().to(torch.uint8)
        stored.flush()
        del stored
    with atomic_path(labels_path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, raw.y_train[chosen.numpy()].astype(np.uint8))
    return images_path, labels_path


def anonymous() -> int:
    """Bytes of this process's memory that are not mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def train(arguments: argparse.Namespace) -> None:
    """One model, in this process."""
    import llvmlite.binding as llvm
    import numba  # noqa: F401
    import numpy as np
    import pyarrow.parquet  # noqa: F401
    import scipy.signal  # noqa: F401
    from fastent.kernels import mixing, moments, search  # noqa: F401
    from torch import _dynamo  # noqa: F401 (the first optimiser imports it)

    import fastent as fe
    from fastent.training import train_streamed as driver  # noqa: F401

    after_import = anonymous()
    peak, done = after_import, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begun = time.perf_counter()
    images, labels = make(arguments.folder, arguments.n)
    run = fe.train_streamed(
        images,
        labels,
        seeds=1,
        epochs=arguments.epochs,
        batch_size=256,
        record_every=0.25,
        record_points=arguments.record_points,
        queries=5_000,
        threads=arguments.threads,
        checkpoint=arguments.folder / f"{arguments.train}-{arguments.n}",
        resume=arguments.resume,
        progress=arguments.verbose,
        **MODELS[arguments.train],
    )
    seconds = time.perf_counter() - begun
    run.save(arguments.folder / f"{arguments.train}-{arguments.n}")
    done.set()
    watcher.join()
    found = {
        f"{run.config['layers'][layer]}, class {run.classes[c]}": (
            f"epoch {inversion.epoch}, error {inversion.train_error:.4f}" if inversion else f"none: {inversion.reason}"
        )
        for (_, layer, c), inversion in np.ndenumerate(run.inversion)
    }
    updates = arguments.epochs * run.config["updates_per_epoch"]
    a_record = run.seconds_recording / len(run.epoch)
    an_update = (run.seconds - run.seconds_recording) / updates
    figures = {
        "processor": llvm.get_host_cpu_name(),
        "date": datetime.now().isoformat(timespec="minutes"),
        "model": arguments.train,
        "points": arguments.n,
        "recorded points": arguments.record_points,
        "epochs": arguments.epochs,
        "threads": run.config["threads"],
        "seconds": round(seconds, 1),
        "seconds training and recording": round(run.seconds, 1),
        "seconds recording": round(run.seconds_recording, 1),
        "share recording": round(run.seconds_recording / run.seconds, 3),
        "seconds a record": round(a_record, 2),
        "milliseconds an update, all else included": round(1000 * an_update, 2),
        "share recording at that rate on a million points": round(a_record / (a_record + an_update * 1e6 / 256 / 4), 3),
        "anonymous MiB after import": round(after_import / 2**20),
        "anonymous MiB at peak": round(peak / 2**20),
        "training error": run.train_error[0, -1],
        "mixing": run.mixing[0, -1].round(4).tolist(),
        "stragglers": int(run.stragglers.sum()),
        "inversions": found,
    }
    print(json.dumps(figures, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--record-points", type=int, default=25_000)
    parser.add_argument("--resume", action="store_true", help="Resume from the checkpoints in the folder.")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--train", choices=MODELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments)
        return
    commit = revision()
    make(arguments.folder, arguments.n)
    from fastent.io.files import write_text

    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for model in arguments.models:
        child = subprocess.run(
            [sys.executable, "-m", "bench.big_run", *sys.argv[1:], "--train", model],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        print(child.stdout)
        found[model] = {"commit": commit, **json.loads(child.stdout)}
        write_text(RESULTS, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
