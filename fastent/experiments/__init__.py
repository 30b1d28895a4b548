"""The claims of the source paper as experiments: each a function that returns a frozen result with verdict, table and plot."""

from typing import TYPE_CHECKING

from fastent.lazy import serve

if TYPE_CHECKING:
    from fastent.experiments.difficulty import Difficulty, difficulty, flip_labels
    from fastent.experiments.dynamics import Dynamics, dynamics
    from fastent.experiments.entanglement import Entanglement, entanglement
    from fastent.experiments.generalization import Generalization, generalization
    from fastent.experiments.pruning import Arm, Pruning, pruning
    from fastent.experiments.result import Result, Table, Verdict
    from fastent.experiments.stability import Stability, stability
    from fastent.experiments.subsampling import Subsampling, subsampling
    from fastent.experiments.sweep import Factor, Sweep, sweep

__all__ = [
    "Arm",
    "Difficulty",
    "Dynamics",
    "Entanglement",
    "Factor",
    "Generalization",
    "Pruning",
    "Result",
    "Stability",
    "Subsampling",
    "Sweep",
    "Table",
    "Verdict",
    "difficulty",
    "dynamics",
    "entanglement",
    "flip_labels",
    "generalization",
    "pruning",
    "stability",
    "subsampling",
    "sweep",
]

_HOME = {
    "Difficulty": "difficulty",
    "difficulty": "difficulty",
    "flip_labels": "difficulty",
    "Dynamics": "dynamics",
    "dynamics": "dynamics",
    "Entanglement": "entanglement",
    "entanglement": "entanglement",
    "Generalization": "generalization",
    "generalization": "generalization",
    "Arm": "pruning",
    "Pruning": "pruning",
    "pruning": "pruning",
    "Result": "result",
    "Table": "result",
    "Verdict": "result",
    "Stability": "stability",
    "stability": "stability",
    "Subsampling": "subsampling",
    "subsampling": "subsampling",
    "Factor": "sweep",
    "Sweep": "sweep",
    "sweep": "sweep",
}

serve(__name__, _HOME)
