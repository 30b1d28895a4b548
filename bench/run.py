"""Run the suite, or a part of it with -k, and store the result in bench/results/<date>-<commit>.json.

Parts that were run at the same commit share a file. The page (README.md and growth.svg) shows the newest result of each task.
With --minutes M the tasks are scaled to fit the time, and the result is written to the file given by --to instead; `fastent
bench` shows it. All other arguments are passed to pytest.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench.blas import environment, fastest_core_types
from bench.machine import machine, versions
from bench.revision import revision
from fastent.cli.output import readable_seconds
from fastent.io.files import write_text

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "fastent", "numpy", "numba", "torch", "scikit-learn", "scikit-learn-intelex", "faiss-cpu", "hnswlib", "pynndescent",
    "scikit-dimension",
)  # fmt: skip
# Features of the rows for which the BLAS kernels of the whole suite are the fastest.
_WIDTH = 512

# Minutes of the whole suite on 2 threads. Peers whose time is quadratic in the number of points take most of that, fastent and
# fixed costs the rest; the exponent that relates points to time lies between the two.
_WHOLE_MINUTES, _EXPONENT = 45, 0.8
_LEAST_SHARE = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, help="scale the tasks to fit this time")
    parser.add_argument("--to", type=Path, help="file for the result with --minutes")
    asked, arguments = parser.parse_known_args()
    if (asked.minutes is None) != (asked.to is None):
        parser.error("--minutes and --to go together: scaled results are not added to the history")
    size: dict[str, str] = {}
    if asked.minutes is not None:
        share = min(1.0, max(_LEAST_SHARE, (asked.minutes / _WHOLE_MINUTES) ** _EXPONENT))
        size = {"FASTENT_BENCH_SHARE": f"{share:.4f}", "FASTENT_BENCH_MINUTES": str(asked.minutes)}
    result, status = _measured(arguments, size)
    if status != 0:
        return status
    if asked.to is not None:
        write_text(asked.to, json.dumps(result, indent=2) + "\n")
        return 0
    _keep(result)
    return 0


def _measured(arguments: list[str], size: dict[str, str]) -> tuple[dict[str, Any], int]:
    """The results of all tasks with their peers, and pytest's exit status."""
    commit = revision()
    surroundings = environment(fastest_core_types([_WIDTH])[_WIDTH]) | size
    with tempfile.TemporaryDirectory() as scratch:
        raw, log = Path(scratch) / "raw.json", Path(scratch) / "log.xml"
        pytest = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", str(Path(__file__).parent)]
        # The warning says that no task ran, which is not an error if the time was over or data are missing.
        quiet = "ignore::pytest_benchmark.logger.PytestBenchmarkWarning"
        outputs = [f"--benchmark-json={raw}", f"--junitxml={log}", "-W", quiet]
        status = subprocess.run([*pytest, *outputs, *arguments], check=False, env=surroundings).returncode
        if status != 0:
            return {}, status
        # If no task ran, pytest-benchmark writes nothing.
        benchmarks = json.loads(raw.read_text())["benchmarks"] if raw.exists() and raw.stat().st_size else []
        skipped = [
            {"job": case.attrib["name"], "because": reason.attrib["message"]}
            for case in ElementTree.parse(log).iter("testcase")
            for reason in case.iter("skipped")
        ]
    return {
        "date": datetime.now().isoformat(timespec="minutes"),
        "commit": commit,
        "machine": machine(),
        "versions": versions(PACKAGES),
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
        "share": float(size.get("FASTENT_BENCH_SHARE", 1)),
        "skipped": skipped,
    }, 0


def _keep(result: dict[str, Any]) -> None:
    """Store the result with those of other runs, and rewrite the page with the newest result of each task."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['date'][:10]}-{result['commit']}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    if all(before.get(name) == result[name] for name in ("commit", "machine", "versions")):  # another part of the suite
        again = {_name(job) for job in result["jobs"]}
        jobs = [job for job in before["jobs"] if _name(job) not in again] + result["jobs"]
        result = result | {"jobs": jobs, "skipped": before["skipped"] + result["skipped"]}
    write_text(path, json.dumps(result, indent=2) + "\n")
    newest: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
    runs = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("2*-*.json")}
    for stem, run in sorted(runs.items(), key=lambda item: item[1]["date"]):
        newest |= {_name(job): (stem, run["machine"], job) for job in run["jobs"]}
    write_text(RESULTS / "README.md", _page(list(newest.values())))
    _plot_growth([job for *_, job in newest.values()], RESULTS / "growth.svg")
    print((RESULTS / "README.md").read_text())


def _name(job: dict[str, Any]) -> str:
    """Tasks with different peers are different."""
    return "".join([job["job"], *job["peers"]])


def _page(jobs: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Results of `make bench`. All times are medians over the rounds; in each round fastent and its peers run in turn. "
        "The ratio is the median over the rounds of the peer's time divided by fastent's: above 1, fastent is faster. Wall time, "
        "and processor time in the column that says so. BLAS kernels are those of faiss, the fastest ones on the machine since "
        "they are named.",
        "",
        "| task | rounds | fastent | peer | peer's time | ratio | ratio of processor time | peer's recall | processor, threads, BLAS kernels | run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for source, where, job in jobs:
        for peer, figures in job["peers"].items():
            rate = f" ({job['gigabytes'] / job['median_s']:.1f} GB/s)" if "gigabytes" in job else ""
            of_processor = f"{figures['processor_ratio']:.2f}" if "processor_ratio" in figures else ""
            kernels = "".join(f", {kernel}" for package, kernel in job.get("blas", {}).items() if package.startswith("faiss"))
            recall = f"{job['recall'][peer]:.4f}" if peer in job.get("recall", {}) else ""
            lines.append(
                f"| {job['job']} | {job['rounds']} | {readable_seconds(job['median_s'])}{rate} | {peer} "
                f"| {readable_seconds(figures['median_s'])} | {figures['ratio']:.2f} | {of_processor} | {recall} "
                f"| {where['processor']}, {where['threads']}{kernels} | [{source}]({source}.json) |"
            )
    for remarks in (_remarks(job) for *_, job in jobs):
        lines += ["", *remarks] if remarks else []
    return "\n".join(lines).rstrip() + "\n"


def _remarks(job: dict[str, Any]) -> list[str]:
    """What some tasks report in addition to their times."""
    if "apart" in job:
        apart = job["apart"]
        return [
            f"{job['job']}, in a separate process: neighbours {apart['neighbors_s']:.1f} s, mixing {apart['mixing_s']:.1f} s, "
            f"margins {apart['margins_s']:.1f} s; {apart['pairs_scanned']:.2%} of the pairs scanned; the neighbours took "
            f"{apart['neighbors_bytes'] / 2**20:,.0f} MiB in addition to the points' {apart['X_bytes'] / 2**20:,.0f} MiB, by the formula "
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
            f"The first call of neighbors, mixing and margins takes {job['compiling_s']:.1f} s if everything has to be compiled; in a "
            f"later process it takes {job['overhead_s']:.2f} s more than the second call."
        ]
    if "product_rate" in job:
        return [
            f"{job['job']}: {job['product_share']:.0%} of the speed of the best matrix product, which did "
            f"{job['product_rate'] / 1e9:.0f} billion multiply-adds per second of processor time in the same rounds."
        ]
    if "products_share" in job:
        return [
            f"{job['job']}: {job['products_share']:.0%} of fastent's time is spent on the matrix products of the first layers."
        ]
    if "pairs_scanned" in job:
        return [
            f"{job['job']}: {job['pairs_scanned']:.1%} of the pairs scanned, {job['distances_computed']:.0f} distances computed per point."
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


if __name__ == "__main__":
    raise SystemExit(main())
