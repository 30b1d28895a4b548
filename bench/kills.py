"""Processes killed at random moments, and flipped bits in their files: each resumed result is correct, or is refused.

    python -m bench.kills --kills 200 --flips 200 --keep

Correct means bit-identical to the result without kills and flips. The jobs are `fastent run`, `fastent measure`,
`train_streamed`, `capture` and two of `fastent experiment`, on small data, without reports and pictures, and with much more
frequent checkpoints than usual. Kills: a job is killed again and again until it ends. Flips: one bit of one file is flipped in
a folder that a killed or a finished job left, and the job is run again or its result is read. Results:
bench/results/kills.json.
"""

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.revision import revision

RESULTS = Path(__file__).parent / "results" / "kills.json"
# Seconds after which a job counts as hanging, and how many folders left by kills are kept for flips.
HANGING, SNAPSHOTS = 300, 10
N = 1000


class Job(NamedTuple):
    """Work that fills a folder; the digest of what it writes and, if it can be read without the job, of what is read."""

    work: Callable[[Path], None]
    digest: Callable[[Path], str]
    read: Callable[[Path], str] | None = None


class Ended(NamedTuple):
    """The exit status of a child process (-9 if it was killed), and its output."""

    status: int
    said: str
    seconds: float


def child(work: Callable[[], Any], log: Path, seconds: float = HANGING) -> Ended:
    """Run the job in a child process, which is killed after that many seconds. This process itself never starts a thread."""
    began = time.perf_counter()
    pid = os.fork()
    if not pid:
        with open(log, "w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        os._exit(_done(work))
    while time.perf_counter() - began < seconds:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return Ended(os.waitstatus_to_exitcode(status), log.read_text(), time.perf_counter() - began)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(status, log.read_text(), time.perf_counter() - began)


def _done(work: Callable[[], Any]) -> int:
    import traceback

    from fastent.errors import FastentError

    status = 0
    try:
        found = work()
        print("" if found is None else found)
    except SystemExit as error:
        status = int(error.code or 0)
    except FastentError as error:
        print(f"fastent: error: {error}")
        status = 2
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    return status


def command(*arguments: Any) -> None:
    from fastent.cli.main import app

    sys.argv = ["fastent", *map(str, arguments)]
    try:
        app(sys.argv[1:], prog_name="fastent")
    except SystemExit as error:
        if error.code:
            raise


# What is compared


def _of(*values: Any) -> str:
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            digest.update(value if isinstance(value, bytes) else repr(value).encode())
    return digest.hexdigest()


def run_digest(out: Path) -> str:
    import fastent as fe

    run = fe.load_run(out)
    values = [value for name, value in sorted(vars(run).items()) if isinstance(value, np.ndarray) and name != "wrong"]
    return _of(*values, run.wrong, *(part for name in sorted(run.state) for part in (name, run.state[name])))


def whole_run_digest(out: Path) -> str:
    """The digest of a run's records and tables, without the times."""
    import pyarrow.parquet as pq

    summary = json.loads((out / "summary.json").read_text())
    for name in ("seconds", "seconds_recording"):
        summary.pop(name, None)
    tables = [pq.read_table(out / f"{name}.parquet").to_pydict() for name in ("curves", "stragglers")]
    return _of(run_digest(out), summary, *tables, sorted(json.loads((out / "config.json").read_text())))


def measurement_digest(out: Path) -> str:
    import pyarrow.parquet as pq

    summary = json.loads((out / "summary.json").read_text())
    return _of(summary["statistics"], summary["notes"], pq.read_table(out / "per_point.parquet").to_pydict())


def store_digest(out: Path) -> str:
    files = {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.name != "manifest.json"}
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["throughput"]
    return _of(*files.items(), manifest)


def rows_digest(out: Path) -> str:
    from fastent.io.store import open_store

    store = open_store(out)
    return _of(*(store.layer(name)[:] for name in store.layers), store.labels)


def experiments_digest(out: Path) -> str:
    results = [(out / name).read_bytes() for name in ("dynamics.json", "stability.json")]
    places = sorted(path for path in (out / "parts").iterdir() if path.is_dir())
    return _of(*results, *(part for path in places for part in (path.name, whole_run_digest(path))))


# The jobs


def jobs(folder: Path, rng: np.random.Generator) -> dict[str, Job]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import fastent as fe
    from fastent.experiments.result import Result
    from fastent.io import result_cache as parts
    from fastent.report import experiments as asked
    from fastent.report import measurement as measured
    from fastent.report import run as run_report
    from fastent.training import in_memory_session, streamed_session

    parts._SECONDS, streamed_session._CHECKPOINT_SECONDS, in_memory_session._CHECKPOINT_SECONDS = 0.0, 0.3, 0.4
    for module, name in (
        (run_report, "write_run_report"),
        (measured, "write_measurement_report"),
        (asked, "write_experiments_report"),
    ):
        setattr(module, name, lambda *arguments, **options: None)
    Result.save_picture = lambda self, path: None  # type: ignore[method-assign]
    y = rng.integers(0, 5, N)
    X = np.clip(100 + 20 * rng.standard_normal((N, 30)) + 60 * np.eye(30)[y], 0, 255).astype(np.uint8)
    y[rng.random(N) < 0.1] = 0
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)

    def streamed(out: Path) -> None:
        run = fe.train_streamed(
            folder / "X.npy", folder / "y.npy", test=X[:100], test_labels=y[:100], hidden=(16, 8), activation="relu", epochs=6,
            batch_size=64, record_every=0.5, lr=0.2, momentum=0.5, record_points=500, queries=100, seeds=1, threads=1,
            checkpoint=out,
        )  # fmt: skip
        run.save(out)

    class Slow(torch.nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            time.sleep(0.002)
            return super().forward(rows)

    def capture(out: Path) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        rows = TensorDataset(torch.from_numpy(X).float(), torch.from_numpy(y))
        fe.capture(Slow(30, 8), DataLoader(rows, batch_size=4), [""], out, shard_rows=100)

    def experiments(out: Path) -> None:
        common = ("--seeds", 2, "--epochs", 30, "--threads", 1, "--out", out, "--json")
        command("experiment", "dynamics", *common)
        command("experiment", "stability", "--pairs", 12, "--times", "5,10", *common)

    data = ("--seeds", 1, "--epochs", 150, "--threads", 1)
    files = (folder / "X.npy", folder / "y.npy")
    return {
        "capture": Job(capture, store_digest, rows_digest),
        "measure": Job(lambda out: command("measure", *files, "--threads", 1, "--out", out), measurement_digest),
        "run": Job(lambda out: command("run", *data, "--out", out), whole_run_digest, run_digest),
        "train_streamed": Job(streamed, whole_run_digest, run_digest),
        "experiments": Job(experiments, experiments_digest),
    }


class Whole(NamedTuple):
    """A job without kills: its folder, its digests and its duration."""

    folder: Path
    digest: str
    read: str
    seconds: float


def import_what_is_imported(work: Callable[[], Any], log: Path) -> None:
    """Import once for all children, which would otherwise spend most of their time on imports."""

    def names() -> str:
        work()
        return f"imported: {json.dumps(sorted(sys.modules))}"

    found = [line for line in child(names, log).said.splitlines() if line.startswith("imported: ")]
    for name in json.loads(found[-1].removeprefix("imported: ")) if found else []:
        with suppress(Exception):
            importlib.import_module(name)


def undisturbed(name: str, job: Job, folder: Path) -> Whole:
    place = folder / f"{name}-whole"
    first = folder / f"{name}-first"
    for work in (job.work, job.digest):
        import_what_is_imported(lambda work=work: work(first), folder / "log")
    ended = child(lambda: job.work(place), folder / "log")
    if ended.status:
        raise SystemExit(f"{name} does not work:\n{ended.said}")
    read = "" if job.read is None else digest_of(job.read, place, folder)
    return Whole(place, digest_of(job.digest, place, folder), read, ended.seconds)


def digest_of(digest: Callable[[Path], str], place: Path, folder: Path) -> str:
    ended = child(lambda: digest(place), folder / "log")
    return ended.said.strip() if ended.status == 0 else f"none: {ended.said}"


def kill(
    name: str, job: Job, whole: Whole, kills: int, folder: Path, rng: np.random.Generator
) -> tuple[dict[str, Any], list[Path]]:
    """Kill jobs, each in its own folder, until the number of kills is reached; folders left by kills are kept for flips."""
    done, found, snapshots = 0, Counter[str](), list[Path]()
    while done < kills:
        place = folder / f"{name}-killed"
        shutil.rmtree(place, ignore_errors=True)
        for _ in range(8):
            ended = child(lambda place=place: job.work(place), folder / "log", rng.uniform(0, 1.1 * whole.seconds))
            if ended.status != -signal.SIGKILL:
                break
            done += 1
            if len(snapshots) < SNAPSHOTS and _holds_something(place) and rng.random() < 0.5:
                snapshots.append(Path(shutil.copytree(place, folder / f"{name}-snapshot-{len(snapshots)}")))
            if done == kills:
                break
        found[outcome(child(lambda place=place: job.work(place), folder / "log"), job.digest, place, whole.digest, folder)] += 1
    return {"kills": done, "chains": sum(found.values()), **found}, snapshots


def _holds_something(place: Path) -> bool:
    """Whether a folder contains a bit to flip: a kill may come before the first byte."""
    return any(path.is_file() and path.stat().st_size for path in place.rglob("*"))


def outcome(ended: Ended, digest: Callable[[Path], str], place: Path, expected: str, folder: Path) -> str:
    errors = [line for line in ended.said.splitlines() if "error:" in line]
    if ended.status == 2 and "Traceback" not in ended.said and len(errors) == 1:
        return "refused"
    if ended.status:
        print(f"status {ended.status}:\n{ended.said[-3000:]}", file=sys.stderr)
        return "crashed"
    found = digest_of(digest, place, folder)
    if found != expected:
        print(f"{place}: {found[-2000:]}", file=sys.stderr)
    return "equal" if found == expected else "wrong"


def flip(
    name: str, job: Job, whole: Whole, snapshots: list[Path], flips: int, folder: Path, rng: np.random.Generator
) -> dict[str, Any]:
    """Flip one bit of a file; all kinds of files are equally likely."""
    found: dict[str, Counter[str]] = {}
    place = folder / f"{name}-flipped"
    for i in range(flips):
        # Half of the flips are in a finished folder, whose job is run again or whose result is read.
        source = whole.folder if i % 2 or not snapshots else snapshots[int(rng.integers(len(snapshots)))]
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
        kinds: dict[str, list[Path]] = {}
        for path in sorted(place.rglob("*")):
            if path.is_file() and path.stat().st_size:
                kinds.setdefault(kind_of(path.relative_to(place)), []).append(path)
        if not kinds:
            continue
        kind = sorted(kinds)[int(rng.integers(len(kinds)))]
        path = kinds[kind][int(rng.integers(len(kinds[kind])))]
        content = bytearray(path.read_bytes())
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        if job.read is not None and source == whole.folder and i % 4 == 1:
            read = job.read
            ended = child(lambda read=read: read(place), folder / "log")
            result = "equal" if ended.status == 0 and ended.said.strip() == whole.read else ""
            result = result or ("refused" if ended.status == 2 and "Traceback" not in ended.said else "wrong")
            kind += ", read"
        else:
            result = outcome(child(lambda: job.work(place), folder / "log"), job.digest, place, whole.digest, folder)
        if result in ("wrong", "crashed"):
            print(f"{name}: {result} after a flip in {path}", file=sys.stderr)
        found.setdefault(kind, Counter())[result] += 1
    total = sum(found.values(), Counter())
    return {"flips": sum(total.values()), **total, "files": {kind: dict(counts) for kind, counts in sorted(found.items())}}


def kind_of(path: Path) -> str:
    """A file's name without the parts that differ between files of one kind."""
    name = "half-written" if path.name.startswith(".") else re.sub(r"-[0-9a-f]{12}|\d+", "*", str(path))
    return re.sub(r"\*+", "*", name)


def _keep(figures: dict[str, Any], name: str) -> None:
    """Add a job's figures to those of the other jobs."""
    from fastent.io.files import write_text

    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found[name] = {what: figures[what] for what in ("commit", "seed")} | {
        what: figures[what][name] for what in ("kills", "flips")
    }
    write_text(RESULTS, json.dumps(found, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", help="Only these jobs, among which the kills and flips are divided.")
    parser.add_argument("--keep", action="store_true", help=f"Write the figures to {RESULTS.name}.")
    arguments = parser.parse_args()
    commit, rng = revision(), np.random.default_rng(arguments.seed)
    figures: dict[str, Any] = {"commit": commit, "seed": arguments.seed, "kills": {}, "flips": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = jobs(folder, rng)
        chosen = {name: every[name] for name in arguments.jobs or every}
        for name, job in chosen.items():
            kills, flips = (total // len(chosen) for total in (arguments.kills, arguments.flips))
            whole = undisturbed(name, job, folder)
            figures["kills"][name], snapshots = kill(name, job, whole, kills, folder, rng)
            figures["flips"][name] = flip(name, job, whole, snapshots, flips, folder, rng)
            print(json.dumps({name: {"kills": figures["kills"][name], "flips": figures["flips"][name]}}), flush=True)
            if arguments.keep:
                _keep(figures, name)
    bad = {"wrong", "crashed"}
    sys.exit(int(any(bad & set(part) for what in ("kills", "flips") for part in figures[what].values())))


if __name__ == "__main__":
    main()
