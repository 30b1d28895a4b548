"""How far a search through cells is by the time that it takes: what was measured, and what that lets expect of the rest."""

from fastent.runtime.clock import working_seconds

__all__ = ["TimeLeft"]

# What a query takes in its own cell, in times of what it took to deal a row, before any was searched; and in another cell, in
# times of that, before any visited one: 5 to 18, and 0.6 to 1.0 (500,000 rows of a trained MLP, Gaussian and untrained rows and
# sentence embeddings in 8 to 16 cells, lists of 10 and of hits and misses).
_OWN, _VISIT = 10.0, 0.85
# Other cells that a query visits, before any query was searched.
_VISITS = 3


class TimeLeft:
    """The time that a search of q queries among n rows in so many cells takes, and how much of it is over.

    Attributes
    ----------
    visits : float
        How many there will be, as far as that is known.
    """

    def __init__(self, n: int, q: int, cells: int) -> None:
        self._left = {"deal": float(n), "own": float(q), "visit": 0.0}  # of visits: less than none, by those that were made
        self._done, self._seconds = dict.fromkeys(self._left, 0.0), dict.fromkeys(self._left, 0.0)
        self._last = working_seconds()
        self.visits = float(q) * min(_VISITS, cells - 1)

    def add(self, stage: str, amount: float, *, done_before: bool = False) -> None:
        """So many rows were dealt, so many queries have searched their own cells, or visited another; now, or some time ago."""
        now = working_seconds()
        if not done_before:
            self._done[stage] += amount
            self._seconds[stage] += now - self._last
        self._last = now
        self._left[stage] -= amount

    @property
    def seconds_left(self) -> float:
        dealt = self._rate("deal", 0.0)
        own = self._rate("own", _OWN * dealt)
        visit = self._rate("visit", _VISIT * own)
        return self._left["deal"] * dealt + self._left["own"] * own + max(0.0, self.visits + self._left["visit"]) * visit

    @property
    def share_over(self) -> float:
        """Of all the time, from 0 to 1."""
        spent = sum(self._seconds.values())
        return spent / max(spent + self.seconds_left, 1e-9)

    def _rate(self, stage: str, expected: float) -> float:
        return self._seconds[stage] / self._done[stage] if self._done[stage] else expected
