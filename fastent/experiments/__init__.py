"""The claims of the source paper as experiments: each a function that returns a frozen result with verdict, table and plot."""

from typing import TYPE_CHECKING

from fastent.lazy import serve

if TYPE_CHECKING:
    from fastent.experiments.dynamics import Dynamics, dynamics
    from fastent.experiments.result import Result
    from fastent.experiments.stability import Stability, stability

__all__ = ["Dynamics", "Result", "Stability", "dynamics", "stability"]

serve(
    __name__,
    {"Dynamics": "dynamics", "Result": "result", "Stability": "stability", "dynamics": "dynamics", "stability": "stability"},
)
