from . import figures
from ._difficulty import Difficulty, difficulty, flip_labels
from ._dynamics import Dynamics, dynamics
from ._entanglement import Entanglement, entanglement
from ._generalization import Generalization, generalization
from ._pruning import Arm, Pruning, pruning
from ._stability import Stability, stability
from ._subsampling import Subsampling, subsampling
from ._sweep import Factor, Sweep, sweep
from .peak import Peak
from .result import Result, Table, Verdict
from .score_stability import ScoreStability

__all__ = [
    "Arm",
    "Difficulty",
    "Dynamics",
    "Entanglement",
    "Factor",
    "Generalization",
    "Peak",
    "Pruning",
    "Result",
    "ScoreStability",
    "Stability",
    "Subsampling",
    "Sweep",
    "Table",
    "Verdict",
    "difficulty",
    "dynamics",
    "entanglement",
    "figures",
    "flip_labels",
    "generalization",
    "pruning",
    "stability",
    "subsampling",
    "sweep",
]
