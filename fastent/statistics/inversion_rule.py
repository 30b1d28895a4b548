"""What counts as an inversion, for curves, runs and probes alike: the names of the rules, and the defaults of their options."""

from typing import Literal

__all__ = ["BURN_IN", "MIN_RISE", "Rule"]

Rule = Literal["shape", "interior", "first-increase"]

# Parameter updates at the start that are left out, and the least fall and rise as a share of the curve's range.
BURN_IN: float = 0
MIN_RISE = 0.05
