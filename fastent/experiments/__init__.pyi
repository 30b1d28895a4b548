from . import figures
from ._blocks import Blocks, Spread, blocks
from ._difficulty import Difficulty, difficulty, flip_labels
from ._dynamics import Dynamics, dynamics
from ._entanglement import Entanglement, entanglement
from ._generalization import Generalization, generalization
from ._layers import Layer, Layers, Order, layers
from ._pruning import Arm, Pruning, pruning
from ._removal import Removal, removal
from ._stability import Stability, stability
from ._stopping import Stopping, stopping
from ._subsampling import Subsampling, subsampling
from ._sweep import Factor, LayerProfile, Sweep, sweep
from .peak import Peak
from .result import Result, Table, Verdict
from .score_stability import ScoreStability

__all__ = [
    "Arm",
    "Blocks",
    "Difficulty",
    "Dynamics",
    "Entanglement",
    "Factor",
    "Generalization",
    "Layer",
    "LayerProfile",
    "Layers",
    "Order",
    "Peak",
    "Pruning",
    "Removal",
    "Result",
    "ScoreStability",
    "Spread",
    "Stability",
    "Stopping",
    "Subsampling",
    "Sweep",
    "Table",
    "Verdict",
    "blocks",
    "difficulty",
    "dynamics",
    "entanglement",
    "figures",
    "flip_labels",
    "generalization",
    "layers",
    "pruning",
    "removal",
    "stability",
    "stopping",
    "subsampling",
    "sweep",
]
