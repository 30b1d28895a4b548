"""The page of the grid: a table of all cells, the least ratio first."""

from typing import Any

__all__ = ["page"]


def page(grid: dict[str, Any]) -> str:
    """Markdown of what bench/results/grid.json holds."""
    cells = grid["cells"]
    lines = ["# Exact neighbours over many kinds of data", "", *_about(grid), ""]
    if cells:
        least = cells[0]
        below = sum(cell["ratio"] < 1 for cell in cells)
        lines += [
            f"Least ratio: **{least['ratio']:.2f}** ({least['cell']}); {below} of {len(cells)} cells are below 1.",
            "",
            "| ratio | wall ratio | data | n x d | queries | dtype | metric | fastent: processor, wall | strongest peer | its processor time "
            "| other peers' ratios |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *map(_row, cells),
            "",
        ]
    if grid["approximate"]:
        lines += [
            "## Approximate searches",
            "",
            "Ratios as above, with the time to build the index; recall is that of the approximate search, fastent's is 1.",
            "",
            "| data | n x d | fastent: processor, wall | search | ratio | wall ratio | recall |",
            "|---|---|---|---|---|---|---|",
            *(row for cell in grid["approximate"] for row in _approximate_rows(cell)),
            "",
        ]
    lines += [f"**Not exact**: {each['failed']}" for each in grid["failed"]]
    return "\n".join(lines).rstrip() + "\n"


def _about(grid: dict[str, Any]) -> list[str]:
    measured = grid["cells"] + grid["approximate"]
    loads = [cell["load"] for cell in measured]
    kernels = sorted({_kernels(cell) for cell in measured})
    rounds = sorted({str(cell["rounds"]) for cell in measured})
    return [
        f"`python -m bench.grid`, {grid['date']}, commit {grid['commit']}; {grid['machine']['processor']}, "
        f"{grid['machine']['threads']} threads, load {min(loads, default=0):.1f} to {max(loads, default=0):.1f}; "
        f"BLAS kernels: {'; '.join(kernels)}; " + ", ".join(f"{name} {number}" for name, number in grid["versions"].items()) + ".",
        "",
        f"k = 10; medians of {' or '.join(rounds)} rounds in which fastent (`method=\"auto\"`) and its peers run in turn. A ratio is the "
        "median over the rounds of a peer's time divided by fastent's, processor time unless it says wall: above 1, fastent is "
        "faster. Each cell is measured in a process with the BLAS kernels that make faiss.knn fastest at its number of features, "
        "OpenMP threads sleep while they wait, and every answer is compared with brute force in double precision first: of "
        "fastent's lists all are right; a peer's share is given where it is below 1. Times include conversions, normalisation and "
        "building. A ratio in parentheses is of a single trial with at most 2,048 queries, which took more than 2.5 times the best peer's; other peers' times are extrapolated from the first "
        "queries where they take more than about 1.5 s of processor time.",
    ]  # fmt: skip


def _kernels(cell: dict[str, Any]) -> str:
    return ", ".join(f"{package} {kernel}" for package, kernel in sorted(cell["blas"].items()))


def _row(cell: dict[str, Any]) -> str:
    strongest = cell["peers"][cell["strongest"]]
    others = ", ".join(_other(name, peer) for name, peer in cell["peers"].items() if name != cell["strongest"])
    queries = "all" if cell["queries"] is None else f"{cell['queries']:,}"
    return (
        f"| {cell['ratio']:.2f} | {cell['wall_ratio']:.2f} | {cell['kind']} | {cell['n']:,} x {cell['d']:,} | {queries} | {cell['dtype']} "
        f"| {cell['metric']} | {_times(cell)} | {cell['strongest']}{_wrong(strongest)} | {_seconds(strongest['processor_s'])} "
        f"| {others} |"
    )


def _other(name: str, peer: dict[str, Any]) -> str:
    ratio = f"{peer['ratio']:.2f}" if peer["rounds"] > 1 else f"({peer['ratio']:.2f})"
    return f"{name} {ratio}{_wrong(peer)}"


def _wrong(peer: dict[str, Any]) -> str:
    return "" if peer["exact_lists"] == 1 else f" [{peer['exact_lists']:.1%} right]"


def _times(cell: dict[str, Any]) -> str:
    return f"{_seconds(cell['processor_s'])}, {_seconds(cell['wall_s'])}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _approximate_rows(cell: dict[str, Any]) -> list[str]:
    return [
        f"| {cell['kind']} | {cell['n']:,} x {cell['d']:,} | {_times(cell)} | {name} | {peer['ratio']:.2f} | {peer['wall_ratio']:.2f} "
        f"| {peer['recall']:.4f} |"
        for name, peer in cell["peers"].items()
    ]
