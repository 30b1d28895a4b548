"""Which inversions `fe.train` finds over learning rates, optimisers, batches, widths, activations, initial weights and data.

FASTENT_DATA=DIR python -m bench.inversion_grid [--rows PREFIX ...] [--seeds N] [--keep FOLDER]

FASTENT_DATA contains mnist.npz and, for the last two rows, cifar10-12k.npz. All rows took 13 minutes on two
busy cores, 5 minutes of that at width 500.
Results: bench/results/inversion-grid.json and .md; with --rows or --seeds the table is only printed.
"""

import argparse
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.revision import revision

if TYPE_CHECKING:
    from fastent.statistics.inversion import Inversion
    from fastent.training.run import Run

RESULTS = Path(__file__).parent / "results" / "inversion-grid"
# The rule before the shape of the whole curve decided: the most prominent interior minimum after 20 updates.
OLD_RULE: dict[str, Any] = {"rule": "interior", "burn_in": 20}
MNIST = {"data": "mnist", "subset": 8192, "epochs": 500}
CIFAR10 = {"data": "cifar10-12k.npz", "subset": 2048, "epochs": 400}
TURNS, NONE, OPEN = "every class turns", "no class turns", "not known"


class Row(NamedTuple):
    options: dict[str, Any]
    expected: str = TURNS
    seeds: int = 3


def mnist(expected: str = TURNS, seeds: int = 3, **options: Any) -> Row:
    return Row({**MNIST, **options}, expected, seeds)


ROWS = {
    "digits": Row({"data": "digits"}, seeds=10),
    "MNIST": mnist(seeds=10),  # learning rate 0.1, 20 units
    "lr 0.02": mnist(lr=0.02, epochs=1500),
    "lr 0.05": mnist(lr=0.05),
    "lr 0.2": mnist(lr=0.2),
    "lr 0.5": mnist(lr=0.5),
    "lr 1": mnist(lr=1.0),
    "momentum 0.9, lr 0.02": mnist(lr=0.02, momentum=0.9),
    "momentum 0.9, lr 0.1": mnist(momentum=0.9),
    "Adam 0.001": mnist(lr=0.001, optimizer="adam"),
    "Adam 0.002": mnist(lr=0.002, optimizer="adam"),
    "Adam 0.005": mnist(lr=0.005, optimizer="adam"),
    "batch 16": mnist(batch_size=16, epochs=20),
    "batch 64": mnist(batch_size=64, epochs=20),
    "batch 256": mnist(batch_size=256, epochs=20),
    "width 5": mnist(hidden=(5,)),
    "width 100": mnist(hidden=(100,)),
    "width 500": mnist(hidden=(500,)),
    "relu": mnist(activation="relu"),
    "init x 0.1": mnist(init_scale=0.1),
    "init x 0.3": mnist(init_scale=0.3),
    "init x 2": mnist(init_scale=2.0),
    "init x 5": mnist(NONE, init_scale=5.0),
    "depth 2": mnist(hidden=(20, 20)),
    "CIFAR-10, all classes": Row({**CIFAR10, "classes": "all", "hidden": (64,)}, OPEN),
    "CIFAR-10, grey, parity": Row({**CIFAR10, "classes": "parity", "grayscale": True}, OPEN),
}


def train(row: Row, seeds: int) -> "Run":
    import fastent as fe

    options = dict(row.options)
    data = options.pop("data")
    if data.endswith(".npz"):
        data = Path(os.environ.get("FASTENT_DATA", ".")) / data
    return fe.train(data, seeds=seeds, **options)


def judge(name: str, row: Row, run: "Run") -> list[dict[str, Any]]:
    """What both rules find in each layer and class of a run."""
    old = run.inversions(**OLD_RULE)
    return [
        {
            "row": name,
            "expected": row.expected,
            "layer": layer + 1,
            "class": run.class_names[c],
            "updates_per_epoch": run.updates_per_epoch,
            "seeds": [_verdict(i) for i in run.inversion[:, layer, c]],
            "old_rule": [_verdict(i) for i in old[:, layer, c]],
        }
        for layer in range(run.n_layers)
        for c in range(len(run.classes))
    ]


def _verdict(inversion: "Inversion") -> dict[str, Any]:
    names = (
        "epoch", "epoch_interval", "value", "value_interval", "train_error", "train_error_interval",
        "prominence", "rebound", "rise_to_noise", "turns",
    )  # fmt: skip
    known = {name: getattr(inversion, name) for name in names if getattr(inversion, name) is not None}
    return known if inversion else {"reason": inversion.reason}


def _found(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [verdict for verdict in verdicts if "reason" not in verdict]


def _range(values: list[float], digits: int, scale: float = 1.0) -> str:
    """The median and, if there are several values, the range."""
    scaled = [f"{scale * value:,.{digits}f}" for value in (np.median(values), min(values), max(values))]
    return scaled[0] if len(values) == 1 else f"{scaled[0]} ({scaled[1]} to {scaled[2]})"


def _line(case: dict[str, Any]) -> str:
    found, old, n = _found(case["seeds"]), _found(case["old_rule"]), len(case["seeds"])
    cells = [case["row"], str(case["layer"]), case["class"], f"{len(found)} of {n}"]
    if found:
        per_epoch = case["updates_per_epoch"]
        epochs, errors = [verdict["epoch"] for verdict in found], [verdict["train_error"] for verdict in found]
        cells += [
            _range(epochs, 0 if per_epoch == 1 else 2),
            _range(epochs, 0, per_epoch),
            f"{100 * np.mean(errors):.2f} ({100 * min(errors):.2f} to {100 * max(errors):.2f})",
            f"{np.mean([verdict['rebound'] for verdict in found]):.2f}",
            f"{min(verdict['rise_to_noise'] for verdict in found):.1f}",
        ]
    else:
        cells += [""] * 5
    reasons = [verdict["reason"] for verdict in case["seeds"] if "reason" in verdict]
    why = ", ".join(f"{reason}: {reasons.count(reason)}" for reason in sorted(set(reasons)))
    older = f"{len(old)} of {n}"
    if old:
        older += f", {_range([verdict['epoch'] for verdict in old], 0 if case['updates_per_epoch'] == 1 else 2)}"
    return f"| {' | '.join([*cells, why, older])} |"


def _share_found(cases: list[dict[str, Any]], rule: str = "seeds") -> str:
    """The share of curves with an inversion, and of networks in which every class has one."""
    curves = [("reason" not in verdict) for case in cases for verdict in case[rule]]
    networks = [
        all("reason" not in case[rule][seed] for case in cases if case["row"] == row)
        for row in dict.fromkeys(case["row"] for case in cases)
        for seed in range(len(next(case for case in cases if case["row"] == row)[rule]))
    ]
    words = f"{sum(curves)} of {len(curves)} curves"
    words += f" ({100 * np.mean(curves):.1f} %)" if curves else ""
    return f"{words}, every class in {sum(networks)} of {len(networks)} networks"


def _beside_old(case: dict[str, Any]) -> str:
    """How often the old rule's eps* and epoch lie in the new rule's intervals, over networks in which both find an inversion."""
    pairs = [
        (new, old)
        for new, old in zip(case["seeds"], case["old_rule"], strict=True)
        if "reason" not in new and "reason" not in old
    ]
    counts = [
        sum(new[f"{name}_interval"][0] <= old[name] <= new[f"{name}_interval"][1] for new, old in pairs)
        for name in ("train_error", "epoch")
    ]
    means = [100 * np.mean([verdict["train_error"] for verdict in _found(case[rule])]) for rule in ("old_rule", "seeds")]
    return (
        f"- {case['row']}, {case['class']}: both rules find one in {len(pairs)} of {len(case['seeds'])} networks; the old eps* lies "
        f"in the new interval in {counts[0]} of them, the old epoch in {counts[1]}; mean eps* {means[0]:.2f} % before, {means[1]:.2f} % now."
    )


def report(cases: list[dict[str, Any]], about: dict[str, Any]) -> str:
    lines = [
        "# Inversions over a grid of trainings",
        "",
        f"Commit {about['commit']}; `python -m bench.inversion_grid`; {about['processor']}, at most {about['threads']} threads; "
        f"{about['seconds']:.0f} s."
        + (
            f" {about['runs_of_an_earlier_commit']} runs had been trained by an earlier commit."
            * bool(about["runs_of_an_earlier_commit"])
        ),
        "",
        "Unless a row says otherwise: 8,192 digits of MNIST, even against odd, 20 tanh units, full-batch gradient descent with",
        "learning rate 0.1, 500 epochs. `found` counts networks (seeds). Epochs are passes over the data; epochs and updates are",
        "medians; eps* (the training error at the inversion, in %) and rebound are means over the networks with an inversion, with",
        "the smallest and the largest value in parentheses. `rise / noise` is the smallest in any network. The old rule took the most",
        "prominent interior minimum after 20 updates.",
        "",
        "| row | layer | class | found | epoch | updates | eps* (%) | rebound | rise / noise | otherwise | old rule: found, epoch |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_line, cases),
        "",
    ]
    first = [case for case in cases if case["layer"] == 1]
    for expected, words in (
        (TURNS, "True turns found, first layer, all rows but init x 5 and CIFAR-10"),
        (NONE, "init x 5, where radii do not turn"),
    ):
        kind = [case for case in first if case["expected"] == expected]
        if kind:
            lines.append(f"{words}: {_share_found(kind)}; by the old rule {_share_found(kind, 'old_rule')}.\n")
    lines += ["## The same inversions as before", ""]
    lines += [_beside_old(case) for case in first if case["row"] in ("digits", "MNIST") if _found(case["seeds"])]
    return "\n".join([*lines, ""])


def main() -> None:
    import llvmlite.binding as llvm
    import torch

    import fastent as fe
    from fastent.io.files import write_text

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="PREFIX", help="Only rows whose names start with PREFIX.")
    parser.add_argument("--seeds", type=int, help="Number of networks in each row.")
    parser.add_argument(
        "--keep", type=Path, help="A folder for the runs; runs that it contains are judged again, not trained again."
    )
    options = parser.parse_args()
    rows = {name: row for name, row in ROWS.items() if not options.rows or name.startswith(tuple(options.rows))}
    if not rows:
        parser.error(f"no row begins with {' or '.join(options.rows)}; there are: {', '.join(ROWS)}")
    commit, started, cases, seconds, kept = revision(), time.perf_counter(), [], {}, 0
    for name, row in rows.items():
        place = None if options.keep is None else options.keep / name.replace(" ", "-").replace(",", "")
        if place is not None and (place / "run.npz").exists():
            run, kept = fe.load_run(place), kept + 1
        else:
            run = train(row, options.seeds or row.seeds)
            if place is not None:
                run.save(place)
        cases += (judged := judge(name, row, run))
        seconds[name] = round(run.seconds, 1)
        print(f"{name}: {seconds[name]:.1f} s", *map(_line, judged), sep="\n", flush=True)
    about = {
        "commit": commit,
        "date": datetime.now().isoformat(timespec="minutes"),
        "processor": llvm.get_host_cpu_name(),
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - started, 1),
        "training_seconds": seconds,
        "runs_of_an_earlier_commit": kept,
    }
    text = report(cases, about)
    print(text)
    if not (options.rows or options.seeds):
        write_text(RESULTS.with_suffix(".json"), json.dumps({**about, "cases": cases}, indent=1) + "\n")
        write_text(RESULTS.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
