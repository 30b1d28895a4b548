"""Samples that are drawn class by class, so that no class is lost, and what they say about all rows.

Classes have their shares in the sample, but the small ones more: means then weigh each row by how many rows of its class it
stands for. Variances are within classes, each with its finite population correction.

References
----------
Cochran, "Sampling Techniques", 3rd edition, 1977, chapter 5.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Strata", "allocated", "fewest_rows", "stratified_rows"]

# No class has fewer rows in a sample than this, unless it has fewer in all, or so many rows of each class would be more than
# half of the sample. The other half at least is in proportion, so that means are as certain as those of half as many rows.
_FEWEST = 10


class Strata(NamedTuple):
    """Classes of the rows of a sample: in each class a random sample without replacement, with one row at least.

    codes : (q,) class of each sampled row. sizes : (C,) rows of each class in all.
    """

    codes: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def n(self) -> int:
        """How many rows there are in all."""
        return int(self.sizes.sum())

    @property
    def counts(self) -> NDArray[np.int64]:
        """(C,) sampled rows of each class."""
        return np.bincount(self.codes, minlength=len(self.sizes))

    @property
    def weights(self) -> NDArray[np.float64]:
        """(q,) how many rows each sampled row stands for."""
        weights: NDArray[np.float64] = (self.sizes / np.maximum(self.counts, 1))[self.codes]
        return weights

    def mean(self, values: NDArray[np.float64]) -> float:
        """The mean over all rows as the sample estimates it; NaN values do not count."""
        known = ~np.isnan(values)
        weights, values = self.weights[known], values[known]
        # Round-off must not move the mean of equal values.
        return float(np.clip((weights * values).sum() / weights.sum(), values.min(), values.max()))

    def residuals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(q,) how far each value lies from the mean of its class, times the square root of what it weighs in the variance of
        the estimated mean; NaN values stay."""
        known = ~np.isnan(values)
        counts = np.bincount(self.codes[known], minlength=len(self.sizes))
        sums = np.bincount(self.codes[known], values[known], len(self.sizes))
        apart: NDArray[np.float64] = values - (sums / np.maximum(counts, 1))[self.codes]
        return apart * np.sqrt(self.weights * (self.weights - 1))

    def variance_of_total(self, values: NDArray[np.float64]) -> float:
        """Estimated variance of the sum over all rows, as the sample estimates that sum, from values (q,) without NaN.

        A class with one sampled row has the pooled variance of the others, or that of all such rows about their mean if it is
        larger (as of collapsed strata): these classes are small, and may be unlike the others.
        """
        counts = self.counts
        sums = np.bincount(self.codes, values, len(counts))
        squares = np.bincount(self.codes, (values - (sums / np.maximum(counts, 1))[self.codes]) ** 2, len(counts))
        freedom = np.maximum(counts - 1, 0)
        variances = squares / np.maximum(freedom, 1)
        if (single := (counts == 1) & (self.sizes > 1)).any():
            alone = values[single[self.codes]]
            collapsed = float(alone.var(ddof=1)) if len(alone) > 1 else 0.0
            variances[single] = max(collapsed, squares.sum() / max(freedom.sum(), 1))
        return self._of_total(variances)

    def draws(self, known: NDArray[np.bool_]) -> float:
        """How many independent draws from all rows would leave open as much, were values as far apart in every class.

        known : (q,) which values count. Not all rows are sampled.
        """
        return float(self.weights[known].sum()) * self.n / self._of_total(np.ones(len(self.sizes)))

    def unseen(self, missed: float) -> float:
        """The largest share of all rows that are of one kind of which the sample has none with a probability of `missed`.

        Such rows are likeliest to be missed where the smallest share of a class is sampled.
        """
        left = self.sizes - self.counts
        some = np.flatnonzero((left > 0) & (self.counts > 0))
        costs = -np.log1p(-self.counts[some] / self.sizes[some])
        some, costs = some[np.argsort(costs, kind="stable")], np.sort(costs)
        found = np.cumsum(np.concatenate([[0.0], costs * left[some]]))
        rows = np.interp(-np.log(missed), found, np.cumsum(np.concatenate([[0], left[some]])))
        return max(float(rows), 1.0) / self.n

    def proportional(self, seed: int) -> NDArray[np.bool_]:
        """Mask (q,) of sampled rows, drawn among them, in which classes have their shares of all rows but for chance."""
        weights = self.weights
        kept: NDArray[np.bool_] = np.random.default_rng([seed, 1]).random(len(weights)) < weights / weights.max()
        return kept

    def _of_total(self, variances: NDArray[np.float64]) -> float:
        """Variance of the estimated sum over all rows, from those of the values within classes (C,)."""
        return float((self.sizes * (self.sizes - self.counts) / np.maximum(self.counts, 1) * variances).sum())


def fewest_rows(n_classes: int, total: int) -> int:
    """How many rows a sample has of a class at least, unless the class has fewer in all."""
    return min(_FEWEST, total // (2 * n_classes))


def allocated(sizes: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """How many rows of each class are sampled, (C,) with the sum `total`: in proportion to the sizes (C,), by the largest
    remainders, but at least `fewest_rows`, or all there are."""
    least = np.minimum(sizes, fewest_rows(len(sizes), total))
    in_proportion = np.ones(len(sizes), bool)
    while True:
        rows, left = int(sizes[in_proportion].sum()), total - int(least[~in_proportion].sum())
        short = in_proportion & (left * sizes < least * rows)
        if not short.any():
            break
        in_proportion &= ~short
    counts, remainders = np.divmod(left * sizes, max(rows, 1))
    counts[~in_proportion], remainders[~in_proportion] = least[~in_proportion], -1
    counts[np.argsort(-remainders, kind="stable")[: total - int(counts.sum())]] += 1
    return counts


def stratified_rows(codes: NDArray[np.int64], n_classes: int, total: int, seed: int) -> tuple[NDArray[np.int64], Strata | None]:
    """So many of all rows, ascending, drawn from each class; from all alike if that is less than two rows for each class."""
    generator = np.random.default_rng(seed)
    if 2 * n_classes > total:
        return np.sort(generator.choice(len(codes), total, replace=False)), None
    sizes = np.bincount(codes, minlength=n_classes)
    # Small numbers are sorted by their digits, in linear time.
    by_class = np.argsort(codes.astype(np.min_scalar_type(n_classes - 1)), kind="stable")
    counts = allocated(sizes, total)
    drawn = [
        first + generator.choice(size, count, replace=False, shuffle=False)
        for first, size, count in zip((np.cumsum(sizes) - sizes).tolist(), sizes.tolist(), counts.tolist(), strict=True)
    ]
    rows = np.sort(by_class[np.concatenate(drawn)])
    return rows, Strata(codes[rows], sizes)
