"""Damaged files of every kind that fastent reads: each reads as if undamaged, reads as another valid file, or is refused.

    python -m bench.fuzz_files --cases 20000 --to bench/results/fuzz_files.json

To be refused means one FastentError. Files are read in a separate process with limits on memory and time. If it dies, this is
counted, and a new process continues with the next file. Case i of a seed is always the same damage; --only i shows one case.
"""

import argparse
import hashlib
import json
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from bench.damage import damaged
from bench.fuzz_originals import CHECKED, KINDS, files, make, read

__all__ = ["fuzz"]

# Memory that a process may use in addition to its libraries, and seconds that one file may take.
_MORE_BYTES, _SECONDS = 4 << 30, 30
_ROOT = Path(__file__).parents[1]
FAULTS = ("foreign", "silently wrong", "unclear", "crash", "hang")


def fuzz(cases: int, seed: int = 0, *, report=lambda done: None) -> dict:
    """Damage and read that many files; return counts by kind and outcome, and every fault."""
    counts: dict[str, Counter] = {kind: Counter() for kind in KINDS}
    faults = []
    with tempfile.TemporaryDirectory(prefix="fastent-fuzz-") as scratch:
        subprocess.run([sys.executable, "-m", "bench.fuzz_files", "--make", scratch], check=True, cwd=_ROOT)
        at = 0
        while at < cases:
            for case, kind, outcome, said in _outcomes(scratch, seed, at, cases):
                counts[kind][outcome] += 1
                if outcome in FAULTS:
                    faults.append({"case": case, "kind": kind, "outcome": outcome, "said": said})
                at = case + 1
                report(at)
    total = sum(counts.values(), Counter())
    return {
        "cases": cases,
        "seed": seed,
        "outcomes": dict(total),
        "faults": len(faults),
        "by_kind": {kind: dict(found) for kind, found in counts.items()},
        "examples": faults[:50],
    }


def _outcomes(scratch, seed, first, last):
    """The outcomes that one process reports until it has read all files or dies."""
    command = [sys.executable, "-X", "faulthandler", "-m", "bench.fuzz_files", "--work", scratch, "--seed", str(seed)]
    command += ["--first", str(first), "--cases", str(last)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=_ROOT, text=True, bufsize=1) as worker,
    ):
        assert worker.stdout is not None
        case, limit = first, 300  # seconds for the libraries, once
        while True:
            ready = select.select([worker.stdout], [], [], limit)[0]
            line = worker.stdout.readline() if ready else ""
            if not line:
                worker.kill()
                status = worker.wait()
                if ready and status == 0:
                    return
                log.seek(0)
                said = f"exit status {status}: {log.read()[-600:].decode(errors='replace')}"
                yield case, _kind(case), "crash" if ready else "hang", said
                return
            limit = _SECONDS
            found = json.loads(line)
            if isinstance(found, int):
                case = found
            else:
                yield case, *found


def _kind(case):
    return list(KINDS)[case % len(KINDS)]


def _work(scratch, seed, first, last):
    warnings.simplefilter("ignore")
    originals = {kind: _digest(read(kind, scratch / kind)) for kind in KINDS}
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MORE_BYTES, resource.RLIM_INFINITY))
    # From here on only these lines go to stdout.
    for case in range(first, last):
        print(json.dumps(case), flush=True)
        print(json.dumps([_kind(case), *_outcome(scratch, seed, case, originals)]), flush=True)


def _outcome(scratch, seed, case, originals):
    kind = _kind(case)
    folder = scratch / kind
    generator = np.random.default_rng((seed, case))
    there = files(kind, folder)
    path = there[int(generator.integers(0, len(there)))]
    content = path.read_bytes()
    # Of zarr and of shards, a file may be lost.
    if len(there) > 1 and generator.random() < 0.1:
        path.unlink()
    else:
        path.write_bytes(damaged(content, generator))
    try:
        return _outcome_of(kind, folder, path, originals[kind])
    finally:
        path.write_bytes(content)


def _outcome_of(kind, folder, path, original):
    from fastent.errors import FastentError

    try:
        found = _digest(read(kind, folder))
    except FastentError as error:
        said = str(error)
        named = path.name in said or folder.name in said
        clear = named and said.isprintable() and len(said) < 2500
        return ("refused", "") if clear else ("unclear", said[:600])
    except BaseException as error:
        return "foreign", f"{type(error).__name__}: {str(error)[:600]}"
    if found == original:
        return "as it was", ""
    return ("silently wrong" if kind in CHECKED else "another valid file"), ""


def _digest(found):
    digest = hashlib.sha256()
    for name in sorted(found, key=str):
        array = np.asarray(found[name])
        digest.update(f"{name} {array.shape} {array.dtype.str}".encode("utf-8", "surrogatepass") + array.tobytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--only", type=int, help="show the outcome of one case")
    for internal in ("--make", "--work"):
        parser.add_argument(internal, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make is not None:
        make(given.make)
        return
    if given.work is not None:
        _work(given.work, given.seed, given.first, given.cases)
        return
    if given.only is not None:
        with tempfile.TemporaryDirectory() as scratch:
            make(Path(scratch))
            kind = _kind(given.only)
            original = {kind: _digest(read(kind, Path(scratch) / kind))}
            print(kind, *_outcome(Path(scratch), given.seed, given.only, original))
        return
    from bench.revision import revision

    started, commit = time.time(), revision()

    def report(done):
        if done % 500 == 0:
            print(f"{done:,} files, {time.time() - started:.0f} s", file=sys.stderr)

    result = {"commit": commit, **fuzz(given.cases, given.seed, report=report)}
    result["seconds"] = round(time.time() - started)
    text = json.dumps(result, indent=1) + "\n"
    if given.to is not None:
        given.to.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
