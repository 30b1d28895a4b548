"""`fastent bench`: the suite of the clone at a size that fits the time, each job beside its peers."""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastent.cli.options import AsJson, option, plain_errors
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


@plain_errors
def bench(
    minutes: Annotated[float, option("How long it may take; the jobs have as many points as fit.", "Jobs", min=0.1)] = 2,
    only: Annotated[str | None, option("Jobs with this in their name, as pytest's -k: neighbors, margins, ...", "Jobs")] = None,
    as_json: AsJson = False,
) -> None:
    """Time fastent beside what people use instead, on this machine.

    Small jobs flatter the peers, whose time grows with the square of the points. Jobs on MNIST need FASTENT_DATA.
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
            f"no bench suite beside the package in {str(clone)!r}, it is not installed with it: clone the repository and there "
            "pip install -e '.[bench]'"
        )
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise FastentError(f"the bench suite needs {', '.join(missing)}: pip install '.[bench]' in the clone")
    return clone


def _run(clone: Path, minutes: float, only: str | None) -> dict[str, Any]:
    """What bench.run found; what pytest says goes to stderr, if anybody looks."""
    with tempfile.TemporaryDirectory() as scratch:
        found, log = Path(scratch) / "result.json", Path(scratch) / "log"
        command = [sys.executable, "-m", "bench.run", "--minutes", str(minutes), "--to", str(found)]
        command += ["--benchmark-quiet", *(["-k", only] if only is not None else [])]
        with log.open("w") as quiet:
            output = sys.stderr if sys.stderr.isatty() else quiet
            status = subprocess.run(command, cwd=clone, stdout=output, stderr=output, check=False).returncode
        if status == _NO_TESTS:
            raise FastentError(f"--only {only!r} is in the name of no job: try neighbors, margins, training or statistics")
        if status != 0:
            sys.stderr.write(log.read_text()[-4000:])
            raise FastentError("the bench suite failed, see above: what it checks before it times does not hold here")
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
        ("job", "ours", "peer", "its time", "ratio"),
        rows,
        f"{100 * result['share']:.0f} % of the points of the whole suite; medians. Ratio: the peer's time over ours.",
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
