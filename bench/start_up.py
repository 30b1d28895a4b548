"""What a fresh process takes until it works: commands, `fastent run` up to its first epoch, and first calls of functions.

python -m bench.start_up [--rounds 5] [--only TEXT] [--keep]

Every round is a process of its own, after one that is not counted and leaves bytecode and kernels in their caches; where nothing
is to be compiled yet, each round has a kernel cache of its own. Processor time is user and system time of all threads; figures are
medians over the rounds. With --keep they go to bench/results/start-up.json.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from sklearn.datasets import load_digits

from bench.revision import revision
from fastent.io.files import write_text
from fastent.processors import processors

PACKAGES = ("fastent", "numpy", "scipy", "numba", "torch", "typer")
RESULTS = Path(__file__).parent / "results" / "start-up.json"

COMMANDS = {
    "fastent --help": ["--help"], "fastent run --help": ["run", "--help"], "fastent --nonsense": ["--nonsense"],
    "fastent run --nonsense": ["run", "--nonsense"], "fastent info --json": ["info", "--json"],
}  # fmt: skip
BEFORE_TRAINING = {"fastent run, digits": [], "fastent run, 1,000 x 20 in an .npz": ["--data", "small.npz"]}
CALLS = {
    "import torch": "import torch",  # which training cannot do without
    "neighbors(X), 5,000 x 128 float32": "fe.neighbors(X)",
    "neighbors(X), 5,000 x 128 float64": "fe.neighbors(X.astype(float))",
    "measure(digits)": "fe.measure(*digits)",
    "train('digits', seeds=3, epochs=50)": "fe.train('digits', seeds=3, epochs=50)",
}
# With an empty kernel cache: what is called before, and what is timed.
COMPILING = {
    "neighbors(X), 5,000 x 128 float32": ("", "fe.neighbors(X)"),
    "neighbors(X), 5,000 x 128 float64": ("", "fe.neighbors(X.astype(float))"),
    "neighbors(X), 5,000 x 128 float64 after float32": ("fe.neighbors(X)", "fe.neighbors(X.astype(float))"),
    "measure(digits)": ("", "fe.measure(*digits)"),
    "train('digits', seeds=3, epochs=50)": ("", "fe.train('digits', seeds=3, epochs=50)"),
}

# Ends where the first epoch would begin.
_BEFORE_TRAINING = """
import os, sys
from fastent.cli.main import main
from fastent.training.in_memory_session import InMemorySession
InMemorySession.train = lambda *_: os._exit(0)
sys.argv = ["fastent", "run", *{arguments!r}]
main()
"""

# Prints the times of the first and the second call.
_CALL = """
import json, time
import numpy as np
import fastent as fe
X = np.random.default_rng(0).standard_normal((5000, 128), dtype=np.float32)
digits = np.load("digits.npz")
digits = digits["X"], digits["y"]
{before}
times = []
for _ in range(2):
    used, began = time.process_time(), time.perf_counter()
    {call}
    times.append((time.process_time() - used, time.perf_counter() - began))
(first_cpu, first), (second_cpu, second) = times
print(json.dumps({{
    "processor_s": first_cpu, "wall_s": first, "second_processor_s": second_cpu, "second_wall_s": second,
    "more_than_the_second_s": first - second,
}}))
"""


def of_process(*arguments: str, folder: Path) -> dict[str, float]:
    """Processor and wall time of a Python process from its start to its end."""
    before, began = _used_by_children(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, env=_environment(), capture_output=True, check=False)
    return {"processor_s": _used_by_children() - before, "wall_s": time.perf_counter() - began}


def _used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_calls(call: str, folder: Path, *, before: str = "", **environment: str) -> dict[str, float]:
    """Times of the first and second call in a process, without the imports of fastent and numpy."""
    command = [sys.executable, "-c", _CALL.format(call=call, before=before)]
    ended = subprocess.run(command, cwd=folder, env=_environment() | environment, stdout=subprocess.PIPE, check=True)
    times: dict[str, float] = json.loads(ended.stdout)
    return times


def of_compiling_calls(before: str, call: str, folder: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        return of_calls(call, folder, before=before, FASTENT_CACHE_DIR=cache)


def _environment() -> dict[str, str]:
    """Ours, but with bytecode kept, as where a package is installed; processes find the fastent of this clone."""
    clone = str(Path(__file__).parents[1])
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": os.pathsep.join([clone, *filter(None, [os.environ.get("PYTHONPATH")])])}


def tasks(folder: Path) -> dict[str, Callable[[], dict[str, float]]]:
    """Each runs one process and returns its times in seconds."""
    found: dict[str, Callable[[], dict[str, float]]] = {
        name: partial(of_process, "-m", "fastent", *arguments, folder=folder) for name, arguments in COMMANDS.items()
    }
    for name, arguments in BEFORE_TRAINING.items():
        found[f"{name}, before training"] = partial(
            of_process, "-c", _BEFORE_TRAINING.format(arguments=arguments), folder=folder
        )
    found |= {f"first {name}": partial(of_calls, call, folder) for name, call in CALLS.items()}
    for name, (before, call) in COMPILING.items():
        found[f"first {name}, nothing compiled"] = partial(of_compiling_calls, before, call, folder)
    return found


def medians(task: Callable[[], dict[str, float]], rounds: int) -> dict[str, float]:
    task()
    times = [task() for _ in range(rounds)]
    return {name: round(statistics.median(each[name] for each in times), 3) for name in times[0]}


def write_data(folder: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez(folder / "small.npz", x_train=generator.normal(size=(1000, 20)), y_train=generator.integers(0, 3, 1000))
    X, y = load_digits(return_X_y=True)
    np.savez(folder / "digits.npz", X=X, y=y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="Only tasks with this text in their name.")
    parser.add_argument("--keep", action="store_true", help=f"Write the figures to {RESULTS.name}.")
    given = parser.parse_args()
    figures: dict[str, Any] = {
        "commit": revision(), "processor": llvm.get_host_cpu_name(), "processors": processors(), "rounds": given.rounds,
        "versions": {name: version(name) for name in PACKAGES}, "tasks": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        write_data(Path(scratch))
        for name, task in tasks(Path(scratch)).items():
            if given.only in name:
                figures["tasks"][name] = medians(task, given.rounds)
                print(json.dumps({name: figures["tasks"][name]}), flush=True)
    if given.keep:
        write_text(RESULTS, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
