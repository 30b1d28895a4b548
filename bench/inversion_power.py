"""How often `find_inversion` mistakes noise for an inversion, and how often it finds a true one, on synthetic curves.

python -m bench.inversion_power [--curves 200] [--processes 2]

Without its noise every curve has a range of 1. The thresholds of fastent/statistics/turning.py were chosen on half of the
shapes and evaluated on the other half. Results: bench/results/inversion-power.json and .md.
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.revision import revision

RESULTS = Path(__file__).parent / "results" / "inversion-power"
RECORDS, SPACINGS = (30, 100, 500, 1500), ("linear", "logarithmic")
LEVELS, RISES = (0.002, 0.01, 0.03, 0.1), (0.03, 0.05, 0.1, 0.3)
Array = Any
Random = np.random.Generator


def updates(n: int, spacing: str) -> Array:
    """The updates of the records: one per epoch, or a geometric series from 1 to 5,000."""
    if spacing == "linear":
        return np.arange(n, dtype=float)
    return np.concatenate([[0], np.geomspace(1, 5000, n - 1)])


def correlated(n: int, random: Random) -> Array:
    """AR(1) with coefficient 0.9 and variance 1."""
    steps = random.standard_normal(n) * np.sqrt(1 - 0.9**2)
    noise = np.empty(n)
    noise[0] = random.standard_normal()
    for i in range(1, n):
        noise[i] = 0.9 * noise[i - 1] + steps[i]
    return noise


# Noise of standard deviation 1 over the curve.
NOISES: dict[str, Callable[[int, Random], Array]] = {
    "white": lambda n, random: random.standard_normal(n),
    "AR(1) 0.9": correlated,
    "growing": lambda n, random: np.sqrt(3) * np.arange(n) / n * random.standard_normal(n),
    "heavy-tailed": lambda n, random: random.standard_t(3, n) / np.sqrt(3),
    "period 2": lambda n, random: (-1.0) ** np.arange(n) * random.choice([-1, 1]),
}


def smooth(records: int) -> Callable[[int, Random], Array]:
    """White noise, smoothed by a moving Gaussian average, with variance 1."""

    def make(n: int, random: Random) -> Array:
        weights = np.exp(-0.5 * (np.arange(-4 * records, 4 * records + 1) / records) ** 2)
        noise = np.convolve(random.standard_normal(n + len(weights) - 1), weights, mode="valid")
        return noise / np.sqrt(np.sum(weights**2))

    return make


# Smoother than a random walk from step to step; the rule mistakes it for the curve's shape, and the table says how often.
BEYOND: dict[str, Callable[[int, Random], Array]] = {f"smooth over {h} records": smooth(h) for h in (3, 10, 30)}


def _decay(values: Array) -> Array:
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else values * 0.0


def _exponential(s: Array, random: Random) -> Array:
    return np.exp(-s / np.exp(random.uniform(np.log(0.02), np.log(0.5))))


def _power(s: Array, random: Random) -> Array:
    return (1 + s / np.exp(random.uniform(np.log(0.002), np.log(0.1)))) ** -random.uniform(0.3, 1.5)


def _sigmoid(s: Array, random: Random) -> Array:
    return 1 / (1 + np.exp((s - random.uniform(0.15, 0.7)) / random.uniform(0.02, 0.15)))


def _plateau(s: Array, random: Random) -> Array:
    return np.maximum(1 - s / random.uniform(0.05, 0.4), 0)


def _steps(s: Array, random: Random) -> Array:
    return 1 - 0.5 * (s > random.uniform(0.1, 0.4)) - 0.5 * (s > random.uniform(0.5, 0.9))


def _two_rates(s: Array, random: Random) -> Array:
    share = random.uniform(0.3, 0.8)
    return share * np.exp(-s / 0.02) + (1 - share) * np.exp(-s / random.uniform(0.2, 1))


def _rise_then_fall(s: Array, random: Random) -> Array:
    top = random.uniform(0.1, 0.4)
    return np.where(s < top, 0.7 + 0.3 * np.sin(np.pi / 2 * s / top), np.cos(np.pi / 2 * (s - top) / (1 - top)))


def _random_walk(s: Array, random: Random) -> Array:
    return np.cumsum(random.standard_normal(len(s)))


# Curves without a turn, as functions of the share of the records, for each half.
FALSE: dict[str, dict[str, Callable[[Array, Random], Array]]] = {
    "chosen on": {
        "exponential": _exponential,
        "sigmoid": _sigmoid,
        "falls to a plateau": _plateau,
        "steps": _steps,
        "flat": lambda s, random: 0 * s,
        "random walk": _random_walk,
    },
    "judged on": {
        "power law": _power,
        "line": lambda s, random: 1 - s,
        "two rates": _two_rates,
        "logarithm": lambda s, random: -np.log(s + random.uniform(0.001, 0.1)),
        "rises, then falls": _rise_then_fall,
        "rises": lambda s, random: 1 - np.exp(-s / random.uniform(0.05, 0.5)),
        "random walk, random volatility": lambda s, random: np.cumsum(
            random.standard_normal(len(s)) * np.exp(0.5 * random.standard_normal(len(s)))
        ),
    },
}
# Fall from 1 to 0 over f in [0, 1], and rise from 0 to 1 over g in [0, 1].
TRUE: dict[str, dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]]] = {
    "chosen on": {
        "cosine": (lambda f: (1 + np.cos(np.pi * f)) / 2, lambda g: (1 - np.cos(np.pi * g)) / 2),
        "exponential": (
            lambda f: (np.exp(-4 * f) - np.exp(-4)) / (1 - np.exp(-4)),
            lambda g: (1 - np.exp(-3 * g)) / (1 - np.exp(-3)),
        ),
    },
    "judged on": {
        "corner": (lambda f: 1 - f, lambda g: g),
        "parabola": (lambda f: (1 - f) ** 2, lambda g: g**1.5),
        "slow, then at once": (lambda f: 1 - f**2, lambda g: 1 - (1 - g) ** 2),
    },
}


class Cell(NamedTuple):
    half: str
    shape: str
    noise: str
    level: float
    rise: float  # 0 for curves without a turn
    records: int
    spacing: str


def cells() -> list[Cell]:
    found = []
    for half, n, spacing in product(FALSE, RECORDS, SPACINGS):
        for shape in FALSE[half]:
            if "random walk" in shape:
                found.append(Cell(half, shape, "", 0.0, 0.0, n, spacing))
            else:
                found += [Cell(half, shape, noise, level, 0.0, n, spacing) for noise, level in product(NOISES, LEVELS)]
        if half == "judged on":
            found += [
                Cell(half, shape, noise, level, 0.0, n, spacing)
                for shape, noise, level in product(("power law", "two rates"), BEYOND, LEVELS[1:3])
            ]
        found += [
            Cell(half, shape, noise, level, rise, n, spacing)
            for shape, noise, level, rise in product(TRUE[half], NOISES, LEVELS, RISES)
        ]
    return found


def judge(cell: Cell, curves: int) -> dict[str, Any]:
    """The share of the curves with an inversion, and where the inversions are."""
    from fastent.statistics.inversion import find_inversion

    random = np.random.default_rng([curves, *map(ord, repr(cell))])
    at = updates(cell.records, cell.spacing)
    s = np.arange(cell.records) / (cell.records - 1)
    found, away, covered, seconds = 0, [], {"epoch": 0, "value": 0, "train_error": 0}, 0.0
    errors = 0.3 + 0.2 * np.exp(-4 * s)
    for _ in range(curves):
        lowest = 0
        if cell.rise:
            fall, rise = TRUE[cell.half][cell.shape]
            lowest = max(4, int(random.uniform(0.12, 0.6) * cell.records))
            f, g = s[: lowest + 1] / s[lowest], (s[lowest + 1 :] - s[lowest]) / (1 - s[lowest])
            curve = np.concatenate([fall(f), cell.rise * rise(g)])
        else:
            curve = _decay(FALSE[cell.half][cell.shape](s, random))
        if cell.noise:
            curve = curve + cell.level * {**NOISES, **BEYOND}[cell.noise](cell.records, random)
        started = time.perf_counter()
        noisy = (errors + cell.level * random.standard_normal(cell.records)).clip(0, 1) if cell.rise else errors
        inversion = find_inversion(at, curve, noisy)
        seconds += time.perf_counter() - started
        found += bool(inversion)
        if inversion and cell.rise:
            away.append(abs(np.log(max(inversion.epoch, 0.5) / at[lowest])))
            for name, truth in (("epoch", at[lowest]), ("value", 0.0), ("train_error", errors[lowest])):
                low, high = getattr(inversion, f"{name}_interval")
                covered[name] += low <= truth <= high
    return {
        **cell._asdict(),
        "found": found / curves,
        "away": float(np.median(away)) if away else None,
        **{f"{name} covered": times / found if away else None for name, times in covered.items()},
        "milliseconds": 1e3 * seconds / curves,
    }


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %".replace(".0 ", " ")


def report(rows: list[dict[str, Any]], commit: str, curves: int) -> str:
    """Tables with the worst cell of each kind, for each half of the shapes."""
    lines = [
        "# Inversions in synthetic curves",
        "",
        f"Commit {commit}; `python -m bench.inversion_power`; {curves} curves per cell. A cell is a shape, a noise, its level, the",
        "number of records and their spacing. The thresholds were chosen on one half of the shapes and judged on the other; after",
        "the bins were made finer, they were raised slightly, based on both halves.",
        "",
        "## Noise mistaken for an inversion: the highest share in any cell, and the mean over cells",
        "",
        "| half | noise | up to 3 %: highest | mean | 10 %: highest | mean |",
        "|---|---|---|---|---|---|",
    ]
    false = [row for row in rows if not row["rise"]]
    for half, noise in product(FALSE, [*NOISES, ""]):
        kind = [row for row in false if row["half"] == half and row["noise"] == noise]
        low, high = ([row["found"] for row in kind if (row["level"] <= 0.03) == small] for small in (True, False))
        words = [f"{_share(max(part))} | {_share(float(np.mean(part)))}" if part else " | " for part in (low, high)]
        lines.append(f"| {half} | {noise or 'random walks'} | {' | '.join(words)} |")
    false = [row for row in false if row["noise"] not in BEYOND]
    above = [row for row in false if row["found"] > 0.05 and row["level"] <= 0.03]
    lines += ["", f"Cells above 5 % with noise of at most 3 %: {len(above)} of {sum(row['level'] <= 0.03 for row in false)}."]
    for row in sorted(above, key=lambda row: -row["found"])[:12]:
        lines.append(
            f"- {row['shape']}, {row['noise'] or 'no other noise'} {_share(row['level'])}, {row['records']} {row['spacing']} records: {_share(row['found'])}"
        )
    lines += ["", "## Waves smoother than a random walk, on falling curves: the share called an inversion", ""]
    lines += ["| noise | level | " + " | ".join(f"{n} records" for n in RECORDS) + " |", "|---|---|" + "---|" * len(RECORDS)]
    for noise, level in product(BEYOND, LEVELS[1:3]):
        kind = [row for row in rows if (row["noise"], row["level"]) == (noise, level)]
        shares = [_share(float(np.mean([row["found"] for row in kind if row["records"] == n]))) for n in RECORDS]
        lines.append(f"| {noise} | {_share(level)} | {' | '.join(shares)} |")
    lines += [
        "",
        "## True turns found: turns of at least 5 times the noise and 10 % of the range",
        "",
        "| half | records | noise | lowest share | mean | epoch off by (median) | intervals cover: epoch | radius | training error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    true = [row for row in rows if row["rise"] >= max(0.1, 5 * row["level"])]
    for half, n, noise in product(TRUE, RECORDS, NOISES):
        kind = [row for row in true if (row["half"], row["records"], row["noise"]) == (half, n, noise)]
        found = [row["found"] for row in kind]
        known = [row for row in kind if row["away"] is not None]
        of = ("away", "epoch covered", "value covered", "train_error covered")
        means = [_share(float(np.mean([row[name] for row in known]))) if known else "" for name in of]
        shares = (_share(min(found)), _share(float(np.mean(found))), *means)
        lines.append(f"| {half} | {n} | {noise} | {' | '.join(shares)} |")
    below = [row for row in true if row["found"] < 0.9]
    lines += ["", f"Cells below 90 %: {len(below)} of {len(true)}, by records: "
              + ", ".join(f"{n}: {sum(row['records'] == n for row in below)}" for n in RECORDS) + "."]  # fmt: skip
    lines += [
        "",
        "## All turns: mean share found, over noises, shapes and spacings",
        "",
        "| turn | noise | " + " | ".join(f"{n} records" for n in RECORDS) + " |",
        "|---|---|" + "---|" * len(RECORDS),
    ]
    for rise, level in product(RISES, LEVELS):
        shares = [
            _share(float(np.mean([r["found"] for r in rows if (r["rise"], r["level"], r["records"]) == (rise, level, n)])))
            for n in RECORDS
        ]
        lines.append(f"| {_share(rise)} | {_share(level)} | {' | '.join(shares)} |")
    cost = {n: float(np.median([row["milliseconds"] for row in rows if row["records"] == n])) for n in RECORDS}
    lines += [
        "",
        "Time per curve, median over cells: " + ", ".join(f"{cost[n]:.2f} ms for {n} records" for n in RECORDS) + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--curves", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    commit, every = revision(), cells()
    with ProcessPoolExecutor(options.processes) as pool:
        rows = list(pool.map(judge, every, [options.curves] * len(every), chunksize=8))
    text = report(rows, commit, options.curves)
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"commit": commit, "curves": options.curves, "cells": rows}, indent=0) + "\n"
    )
    RESULTS.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
