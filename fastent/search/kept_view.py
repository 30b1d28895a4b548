"""How rows were seen at the last look, for the next look at rows that have changed little: those of a layer that trains.

Any frame is exact: what is found never depends on it, only how many pairs have to be compared. So an old one is kept as long as
that probably costs less than a new one.
"""

from fastent.search.exact_index import View
from fastent.search.out_of_core import NearestSoFar

__all__ = ["KeptView"]

# A look that takes so many times the work for a pair that the first one in its frame took is the last one in it.
_GROWTH = 1.5
# So is the one with which the searches in a frame have taken so many times the work of finding it. Rows may have become easier
# to tell apart in another frame, which the work in the old one does not show: this bounds what that can cost.
_SEARCHES = 4
# Taking a frame and choosing codes, in scanned pairs: at most, and for each entry of the scatter matrix (measured on Zen 5).
_PILOT, _ENTRY, _WIDE = 1e7, 240, 512


class KeptView:
    """The frame and the coding of an index, kept from one look to the next instead of taken from a sample each time.

    They are kept for one look at first, and twice as long each time that they are renewed, unless they become too costly: when
    a look takes 1.5 times the work for a pair that the first look with them took, or when the searches with them have taken
    four times the work of renewing them. They hold 1 kB for each feature of the rows.

    Attributes
    ----------
    view : View or None
        For the next look; None where it should take a new one.
    """

    def __init__(self) -> None:
        self.view: View | None = None
        self._looks, self._most_looks = 0, 1
        self._work, self._work_for_a_pair = 0.0, 0.0

    def judge(self, look: NearestSoFar) -> None:
        """Keep how this look saw its rows, or leave it to the next one to see them afresh."""
        used = look.view
        if used is None:
            return
        if self.view is None or used.frame is not self.view.frame:
            if self._looks:
                self._most_looks *= 2
            self._looks, self._work, self._work_for_a_pair = 0, 0.0, look.work_for_a_pair
        self.view = used
        self._looks, self._work = self._looks + 1, self._work + look.work
        d = len(used.frame.origin)
        if (
            self._looks >= self._most_looks
            or look.work_for_a_pair > _GROWTH * self._work_for_a_pair
            or self._work > _SEARCHES * (_PILOT + _ENTRY * d * min(d, _WIDE))
        ):
            self.view = None
