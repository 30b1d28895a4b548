"""Good files of every kind that fastent reads, and how to read each of them completely."""

import gzip
import json
import pickle
import struct
from pathlib import Path

import numpy as np

__all__ = ["CHECKED", "KINDS", "make", "read"]

# If a checksum covers every value, reading other values than the original's is a fault.
CHECKED = frozenset({
    "npz", "npz packed", "run", "probe", "part", "checkpoint", "store manifest", "store shard", "store labels", "idx packed",
})  # fmt: skip


def _rows(n=40, d=6, dtype=np.float32):
    return (np.random.default_rng(0).normal(size=(n, d)) * 40).astype(dtype)


def _network():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))


def make(folder: Path) -> None:
    """Write the files, one folder for each kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import safetensors.numpy
    import torch
    import zarr

    import fastent as fe
    from fastent.io.result_cache import ResultCache

    X, y = _rows(), np.arange(40) % 3

    def place(kind):
        (folder / kind).mkdir(parents=True)
        return folder / kind

    np.savez(place("npz") / "data.npz", x_train=X, y_train=y)
    np.savez_compressed(place("npz packed") / "data.npz", x_train=X.astype(">f8"), y_train=y.astype("U1"))
    np.save(place("npy") / "X.npy", X)
    np.save(place("npy fortran") / "X.npy", np.asfortranarray(X.astype(np.float16)))
    shards = place("npy shards")
    np.save(shards / "0.npy", X[:25])
    np.save(shards / "1.npy", X[25:])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
    table = pa.table({"emb": lists, "label": pa.array(y), "name": pa.array([f"c{v}" for v in y]).dictionary_encode()})
    pq.write_table(table, place("parquet") / "X.parquet", row_group_size=15)
    tensors = pa.table({"emb": pa.FixedShapeTensorArray.from_numpy_ndarray(X), "label": pa.array(y)})
    pq.write_table(tensors, place("parquet tensors") / "X.parquet", compression="zstd")
    safetensors.numpy.save_file({"X": X, "other": X[:3]}, place("safetensors") / "X.safetensors")
    for kind, options in {
        "zarr 2": {"chunks": (15, 6), "zarr_format": 2},
        "zarr 3": {"chunks": (15, 4)},
        "zarr sharded": {"chunks": (5, 6), "shards": (20, 6)},
    }.items():
        zarr.create_array(str(place(kind) / "X.zarr"), shape=X.shape, dtype=X.dtype, **options)[:] = X
    pictures = np.random.default_rng(1).integers(0, 256, (6, 5, 5), np.uint8)
    idx = struct.pack(">BBBB3I", 0, 0, 8, 3, *pictures.shape) + pictures.tobytes()
    (place("idx") / "train-images-idx3-ubyte").write_bytes(idx)
    (place("idx packed") / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    planes = np.random.default_rng(2).integers(0, 256, (4, 3072), np.uint8)
    for protocol in (2, 4):
        batch = {b"data": planes, b"labels": [3, 1, 4, 1], b"batch_label": b"x", b"filenames": [b"a.png", b"b.png"]}
        (place(f"cifar pickle {protocol}") / "data_batch_1").write_bytes(pickle.dumps(batch, protocol))
    np.column_stack([[3, 1, 4, 1], planes]).astype(np.uint8).tofile(place("cifar binary") / "data_batch_1.bin")
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=10
    )
    for kind in ("store manifest", "store shard", "store labels"):
        fe.capture(_network(), loader, ["0", "2"], place(kind), shard_rows=20)
    fe.train("digits", seeds=2, epochs=4, hidden=(5,)).save(place("run"))
    fe.train_streamed(X, y, epochs=1, hidden=(4,), queries=10, batch_size=10, seeds=1, checkpoint=place("checkpoint"))
    probe = fe.Probe(_network(), loader, ["0"])
    for step in range(3):
        probe(step)
    probe.save(place("probe"))
    ResultCache(place("part"), name="parts").keep("rows", {"a": 1}, lambda: {"X": X, "y": y})
    m = fe.measure(X, y, k=3, metrics=["mixing", "geometry"])
    m.save(place("summary"), asked={"k": 3})
    options = 'k = 5\nmetrics = ["mixing", "geometry"]\nseed = 3\nnormalize = true\ntemperature = "median"\n'
    (place("toml") / "options.toml").write_text(options)


def _source(pattern, name=None):
    def look(folder):
        import fastent as fe

        found = fe.open(_one(folder, pattern), name)
        return {"X": found[:], "some": found[[3, 0, len(found) - 1]]}

    return look


def _one(folder, pattern):
    return folder if pattern == "." else next(iter(sorted(folder.glob(pattern))))


def _npz(folder):
    from fastent.io.npy import read_array, read_npz

    found = read_npz(folder / "data.npz", "save it with numpy.savez")
    return found | {"alone": read_array(f"{folder}/data.npz:x_train", "X")}


def _parquet(folder):
    import fastent as fe
    from fastent.io.opening import read_labels

    place = folder / "X.parquet"
    found = fe.open(f"{place}:emb")
    return {"X": found[:], "some": found[[3, 0]], "y": read_labels(f"{place}:label")}


def _idx(folder):
    from fastent.data.formats import read_idx

    return {"X": read_idx(_one(folder, "train*"))}


def _cifar(folder):
    from fastent.data.formats import read_cifar10

    pictures, labels = read_cifar10(_one(folder, "data*"))
    return {"X": pictures, "y": labels}


def _store(folder):
    from fastent.io.store import open_store

    store = open_store(folder)
    return {"X": store.layer("0")[:], "other": store.layer("2")[[1, 0, 39]], "y": store.labels}


def _run(folder):
    import fastent as fe
    from fastent.training.tables import summary

    run = fe.load_run(folder)
    json.dumps(summary(run))
    return {
        "radius": run.radius,
        "wrong": run.stragglers,
        "config": np.array(json.dumps(run.config)),
        "repr": np.array(repr(run)),
    }


def _probe(folder):
    import fastent as fe

    records = fe.load_probe(folder)
    return {"radius": records.radius, "step": records.step, "summary": np.array(json.dumps(records.summary()))}


def _checkpoint(folder):
    from fastent.training.checkpoint import Checkpoint

    return {"state": np.array(repr(Checkpoint(folder).state()))}


def _part(folder):
    from fastent.io.result_cache import ResultCache

    return ResultCache(folder, name="parts").keep("rows", {"a": 1}, lambda: {"X": np.zeros(1), "y": np.zeros(1)})


def _summary(folder):
    from fastent.report.compared_measurements import load_measurement

    stored = load_measurement(folder)
    return {"statistics": np.array(repr(stored.statistics)), "how": np.array(repr(stored.how))}


def _toml(folder):
    """As `--config` reads it: a bad file causes a message on stderr and exit status 2."""
    import contextlib
    import io

    import typer

    from fastent.cli.main import app
    from fastent.errors import FastentError

    command = typer.main.get_command(app).commands["measure"]  # type: ignore[attr-defined]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            context = command.make_context("measure", ["X.npy", "y.npy", "--config", str(folder / "options.toml")])
    except typer.Exit as end:
        if end.exit_code != 2:
            raise
        raise FastentError(said.getvalue().strip()) from end
    return {"options": np.array(repr(sorted(context.params.items(), key=str)))}


KINDS = {
    "npz": ("data.npz", _npz),
    "npz packed": ("data.npz", _npz),
    "npy": ("X.npy", _source("X.npy")),
    "npy fortran": ("X.npy", _source("X.npy")),
    "npy shards": ("*.npy", _source(".")),
    "parquet": ("X.parquet", _parquet),
    "parquet tensors": ("X.parquet", _parquet),
    "safetensors": ("X.safetensors", _source("X.safetensors", "X")),
    "zarr 2": ("X.zarr/**/*", _source("X.zarr")),
    "zarr 3": ("X.zarr/**/*", _source("X.zarr")),
    "zarr sharded": ("X.zarr/c/**/*", _source("X.zarr")),
    "idx": ("train*", _idx),
    "idx packed": ("train*", _idx),
    "cifar pickle 2": ("data*", _cifar),
    "cifar pickle 4": ("data*", _cifar),
    "cifar binary": ("data*", _cifar),
    "store manifest": ("manifest.json", _store),
    "store shard": ("0*.npy", _store),
    "store labels": ("labels*.npy", _store),
    "run": ("run.npz", _run),
    "probe": ("probe.npz", _probe),
    "checkpoint": ("checkpoint.pt", _checkpoint),
    "part": ("parts/*.npz", _part),
    "summary": ("summary.json", _summary),
    "toml": ("options.toml", _toml),
}


def read(kind: str, folder: Path) -> dict[str, np.ndarray]:
    """Read the files completely and return their content."""
    return KINDS[kind][1](folder)


def files(kind: str, folder: Path) -> list[Path]:
    """The files that are damaged, in a fixed order."""
    return sorted(path for path in folder.glob(KINDS[kind][0]) if path.is_file())
