"""Run the suite and keep its result: bench/results/<date>-<commit>.json, and the table of the newest in bench/results/README.md."""

import json
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("fastent", "numpy", "numba", "torch", "scikit-learn")


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw.json"
        pytest = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", str(Path(__file__).parent)]
        status = subprocess.run([*pytest, f"--benchmark-json={raw}", *sys.argv[1:]], check=False).returncode
        if status != 0:
            return status
        benchmarks = json.loads(raw.read_text())["benchmarks"]
    result = {
        "date": date.today().isoformat(),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
        "machine": {
            "processor": llvm.get_host_cpu_name(),
            "threads": numba.get_num_threads(),
            "python": sys.version.split()[0],
        },
        "versions": {name: version(name) for name in PACKAGES},
        "jobs": [
            {
                **b["extra_info"],
                "median_s": b["stats"]["median"],
                "min_s": b["stats"]["min"],
                "max_s": b["stats"]["max"],
                "rounds": b["stats"]["rounds"],
            }
            for b in benchmarks
        ],
    }
    RESULTS.mkdir(exist_ok=True)
    name = f"{result['date']}-{result['commit'].rstrip('+')}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "README.md").write_text(_table(result, name))
    print((RESULTS / "README.md").read_text())
    return 0


def _table(result: dict[str, Any], source: str) -> str:
    machine = result["machine"]
    lines = [
        "# Benchmarks",
        "",
        f"{result['date']}, commit {result['commit']}, {machine['processor']}, {machine['threads']} threads; medians of "
        f"{result['jobs'][0]['rounds']} rounds, ours and its peers in turn within each round. From `{source}` by `make bench`.",
        "",
        "| job | ours | peer | peer's time | ratio (median over rounds) |",
        "|---|---|---|---|---|",
    ]
    for job in result["jobs"]:
        for peer, figures in job["peers"].items():
            rate = f" ({job['gigabytes'] / job['median_s']:.1f} GB/s)" if "gigabytes" in job else ""
            lines.append(
                f"| {job['job']} | {_seconds(job['median_s'])}{rate} | {peer} | {_seconds(figures['median_s'])} "
                f"| {figures['ratio']:.2f} |"
            )
    return "\n".join([*lines, "", "A ratio above 1 means that ours takes less time than the peer.", ""])


def _seconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
