"""`fastent bench`: the suite of the clone at a size that fits the time, each job compared with other libraries."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastent.cli.options import AsJson, option
from fastent.cli.output import print_json, readable_seconds, say, show
from fastent.errors import FastentError
from fastent.runtime.terminal import text_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["bench"]

# What the suite imports, as it is called in the registry.
_NEEDED = {
    "pytest": "pytest", "pytest_benchmark": "pytest-benchmark", "faiss": "faiss-cpu", "hnswlib": "hnswlib",
    "pynndescent": "pynndescent", "skdim": "scikit-dimension",
}  # fmt: skip
_NO_TESTS = 5  # pytest's exit status


def bench(
    minutes: Annotated[
        float, option("How long the suite may take; the number of points is chosen to fit.", "Jobs", min=0.1)
    ] = 2,
    only: Annotated[
        str | None, option("Only jobs with this in their name, like pytest's -k: neighbors, margins, ...", "Jobs")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the speed of fastent with that of the libraries commonly used for the same tasks, on this machine.

    Small inputs favour the other libraries, whose time grows with the square of the number of points. Jobs on MNIST need
    FASTENT_DATA.
    """
    result = _run(_suite(), minutes, only)
    if as_json:
        print_json(result)
        return
    show(_table(result))
    for because, names in _reasons(result["skipped"]).items():
        say(f"Left out, {because}: {', '.join(names)}.")


def _suite() -> Path:
    """The folder of the clone, if all that its suite needs is there."""
    clone = Path(__file__).resolve().parents[2]
    if not (clone / "bench" / "run.py").is_file():
        raise FastentError(
            f"no bench suite beside the package in {str(clone)!r}: it is not installed with the package. Clone the repository "
            "and run pip install -e '.[bench]' there"
        )
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise FastentError(f"the bench suite needs {', '.join(missing)}: pip install '.[bench]' in the clone")
    return clone


def _run(clone: Path, minutes: float, only: str | None) -> dict[str, Any]:
    """What bench.run found; the output of pytest goes to stderr, if that is a terminal."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        found, log = Path(scratch) / "result.json", Path(scratch) / "log"
        command = [sys.executable, "-m", "bench.run", "--minutes", str(minutes), "--to", str(found)]
        command += ["--benchmark-quiet", *(["-k", only] if only is not None else [])]
        with log.open("w") as quiet:
            output = sys.stderr if sys.stderr.isatty() else quiet
            status = subprocess.run(command, cwd=clone, stdout=output, stderr=output, check=False).returncode
        if status == _NO_TESTS:
            raise FastentError(f"--only {only!r}: no job has this in its name; try neighbors, margins, training or statistics")
        if status != 0:
            sys.stderr.write(log.read_text()[-4000:])
            raise FastentError("the bench suite failed, see above: a check that precedes the timings does not hold here")
        result: dict[str, Any] = json.loads(found.read_text())
    return result


def _table(result: dict[str, Any]) -> "Table":
    rows = []
    for job in result["jobs"]:
        name, ours = job["job"], readable_seconds(job["median_s"])
        for peer, figures in job["peers"].items():
            rows.append((name, ours, peer, readable_seconds(figures["median_s"]), f"{figures['ratio']:.2f}"))
            name = ours = ""
    table = text_table(
        f"{result['machine']['processor']}, {result['machine']['threads']} threads",
        ("job", "fastent", "compared with", "its time", "ratio"),
        rows,
        f"{100 * result['share']:.0f} % of the points of the whole suite; medians. Ratio: its time divided by fastent's.",
    )
    table.columns[2].justify = "left"
    for column in table.columns:
        column.overflow = "fold"
    return table


def _reasons(skipped: list[dict[str, str]]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for each in skipped:
        reasons.setdefault(each["because"], []).append(each["job"])
    return reasons
