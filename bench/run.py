"""Run the suite, or with -k a part, and keep the result: bench/results/<date>-<commit>.json.

The page, README.md and growth.svg, shows each job as the newest run has it that included it.
"""

import json
import subprocess
import sys
import tempfile
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("fastent", "numpy", "numba", "torch", "scikit-learn", "faiss-cpu", "hnswlib", "pynndescent", "scikit-dimension")


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw.json"
        pytest = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", str(Path(__file__).parent)]
        status = subprocess.run([*pytest, f"--benchmark-json={raw}", *sys.argv[1:]], check=False).returncode
        if status != 0:
            return status
        benchmarks = json.loads(raw.read_text())["benchmarks"]
    result = {
        "date": datetime.now().isoformat(timespec="minutes"),
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
    name = f"{result['date'][:10]}-{result['commit'].rstrip('+')}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")
    newest: dict[str, tuple[str, dict[str, Any]]] = {}
    runs = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("2*-*.json")}
    for stem, run in sorted(runs.items(), key=lambda item: item[1]["date"]):
        newest |= {job["job"] + "".join(job["peers"]): (stem, job) for job in run["jobs"]}
    (RESULTS / "README.md").write_text(_page(result["machine"], list(newest.values())))
    _plot_growth([job for _, job in newest.values()], RESULTS / "growth.svg")
    print((RESULTS / "README.md").read_text())
    return 0


def _page(machine: dict[str, Any], jobs: list[tuple[str, dict[str, Any]]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"{machine['processor']}, {machine['threads']} threads; medians over the rounds of a job, in each of which ours and its "
        "peers take turns, by `make bench`. A ratio above 1 means that ours takes less time than the peer; it is the median of "
        "the rounds' ratios.",
        "",
        "| job | rounds | ours | peer | peer's time | ratio | peer's recall | from |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for source, job in jobs:
        for peer, figures in job["peers"].items():
            rate = f" ({job['gigabytes'] / job['median_s']:.1f} GB/s)" if "gigabytes" in job else ""
            recall = f"{job['recall'][peer]:.4f}" if peer in job.get("recall", {}) else ""
            lines.append(
                f"| {job['job']} | {job['rounds']} | {_seconds(job['median_s'])}{rate} | {peer} "
                f"| {_seconds(figures['median_s'])} | {figures['ratio']:.2f} | {recall} | [{source}]({source}.json) |"
            )
    for remarks in (_remarks(job) for _, job in jobs):
        lines += ["", *remarks] if remarks else []
    return "\n".join(lines).rstrip() + "\n"


def _remarks(job: dict[str, Any]) -> list[str]:
    """What some jobs say beside their times."""
    if "apart" in job:
        apart = job["apart"]
        return [
            f"{job['job']}, in a process of its own: neighbours {apart['neighbors_s']:.1f} s, mixing {apart['mixing_s']:.1f} s, "
            f"margins {apart['margins_s']:.1f} s; {apart['pairs_scanned']:.2%} of the pairs scanned; the neighbours took "
            f"{apart['neighbors_bytes'] / 2**20:,.0f} MiB beside the points' {apart['X_bytes'] / 2**20:,.0f} MiB, by the formula "
            f"at most {apart['formula_bytes'] / 2**20:,.0f} MiB.",
        ]
    if "growth" in job:
        lines = [
            "![Time against the number of points](growth.svg)",
            "",
            "| " + job["job"] + " | time ~ n to the | n: seconds |",
        ]
        return [
            *lines,
            "|---|---|---|",
            *(
                f"| {name} | {job['exponents'][name]:.2f} | {', '.join(f'{int(n):,}: {t:.2f}' for n, t in line.items())} |"
                for name, line in job["growth"].items()
            ),
        ]
    if "compiling_s" in job:
        return [
            f"First call of neighbors, mixing and margins: {job['compiling_s']:.1f} s where everything is compiled, in a later "
            f"process {job['overhead_s']:.2f} s more than the second call."
        ]
    if "products_share" in job:
        return [f"{job['job']}: {job['products_share']:.0%} of our time in the products of the first layers."]
    if "pairs_scanned" in job:
        return [
            f"{job['job']}: {job['pairs_scanned']:.1%} of the pairs scanned, {job['distances_computed']:.0f} distances a point."
        ]
    return []


def _plot_growth(every: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    jobs = [job for job in every if "growth" in job]
    if not jobs:
        return
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    for name, line in jobs[0]["growth"].items():
        points = [int(n) for n in line]
        axes.loglog(points, list(line.values()), "o-", label=f"{name}: n^{jobs[0]['exponents'][name]:.2f}")
    axes.set(xlabel="points of 128 features", ylabel="seconds", title="All 10 nearest neighbours, exactly")
    axes.grid(which="both", alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path)


def _seconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
