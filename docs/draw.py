"""Draw the pictures of docs/statistics.md and docs/inversion.md from small seeded data: python docs/draw.py [FOLDER]."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

import fastent as fe
from fastent.io.files import atomic_path
from fastent.plots.style import COLORS
from fastent.statistics.inversion import fitted_curve

NAMES = ("class a", "class b")


def two_classes(n=60, apart=2.2, seed=3):
    """Points in the plane (n, 2) and their classes: wide enough to meet."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.standard_normal((n, 2)) * [0.9, 0.7]
    X[:, 0] += apart * y
    return X, y


def plane(figure_or_axes, X, y, **style):
    axes = figure_or_axes.subplots() if hasattr(figure_or_axes, "subplots") else figure_or_axes
    for c, name in enumerate(NAMES):
        axes.scatter(*X[y == c].T, s=18, color=COLORS[c], label=name, zorder=3, **style)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[])
    return axes


def ring(axes, centre, radius, **style):
    axes.add_patch(matplotlib.patches.Circle(centre, radius, fill=False, **style))


def inversion():
    run = fe.train("digits", seeds=3)
    figure = Figure((7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    run.plot(ax=left)
    run.plot(against="train_error", ax=right)
    return figure


def turning():
    """A curve that turns, and one that only falls to a plateau but wanders there."""
    rng = np.random.default_rng(6)
    steps, wander = rng.standard_normal(301), np.zeros(301)
    for i in range(1, 301):
        wander[i] = 0.95 * wander[i - 1] + 0.31 * steps[i]
    epoch, error = np.arange(301), np.linspace(0.5, 0, 301)
    fall = 0.8 + 0.15 * np.exp(-epoch / 25)
    rise = 0.05 * (1 - np.exp(-np.maximum(epoch - 90, 0) / 60))
    figure = Figure((7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, curve in ((left, fall + rise + 0.004 * steps), (right, fall + 0.005 * wander)):
        axes.plot(epoch, curve, ".", color="0.7", markersize=3, label="records")
        axes.plot(*fitted_curve(epoch, curve), color="black", linewidth=1.4, label="monotone pieces")
        axes.set(xscale="log", xlabel="epoch", xlim=(2, 300))
        found = fe.find_inversion(epoch, curve, error)
        if found:
            axes.axvspan(*found.epoch_interval, color=COLORS[0], alpha=0.2, linewidth=0, label="95 % interval")
            axes.plot(found.epoch, found.value, "o", color=COLORS[0], label="inversion")
            axes.set_title(f"inversion at epoch {found.epoch}, rebound {found.rebound:.2f}")
        else:
            lowest = fe.find_inversion(epoch, curve, error, rule="interior")
            axes.plot(lowest.epoch, lowest.value, "o", color=COLORS[1], fillstyle="none", label="deepest interior minimum")
            axes.set_title(f"none: {found.reason}")
        axes.legend(frameon=False)
    left.set_ylabel("gyration radius")
    return figure


def geometry():
    X, y = two_classes()
    found = fe.geometry(X, y, normalize=False)
    figure = Figure((5.2, 3.2), layout="constrained")
    axes = plane(figure, X, y, alpha=0.5)
    for c in range(2):
        ring(axes, found.means[c], found.radius[c], color=COLORS[c], linewidth=2)
        axes.plot(*found.means[c], "k+", markersize=11, markeredgewidth=2, zorder=4)
    axes.plot(*found.means.T, color="black", linewidth=1.2, zorder=4)
    axes.set_title(f"radii {found.radius[0]:.2f} and {found.radius[1]:.2f}, distance {found.distance[0, 1]:.2f}")
    axes.legend(frameon=False)
    return figure


def mixing():
    X, y = two_classes()
    near = fe.neighbors(X, k=10)
    found = fe.mixing(near, y)
    figure = Figure((7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    plane(left, X, y, alpha=0.5)
    i = int(np.abs(found.purity - 0.6).argmin())
    for j in near.indices[i]:
        left.plot(*X[[i, j]].T, color=COLORS[y[j]], linewidth=1.2)
    left.plot(*X[i], "o", color=COLORS[y[i]], markeredgecolor="black", markersize=9, zorder=5)
    left.set_title(f"purity of this point: {found.purity[i]:.1f}")
    right.imshow(found.matrix, cmap="Blues", vmin=0, vmax=1)
    for place, share in np.ndenumerate(found.matrix):
        right.text(*place[::-1], f"{share:.2f}", ha="center", va="center", color="white" if share > 0.6 else "black")
    right.set_xticks(range(2), NAMES)
    right.set_yticks(range(2), NAMES)
    right.set_title(f"overlap {found.overlap:.2f}, chance {found.chance:.2f}")
    return figure


def margins():
    X, y = two_classes()
    found = fe.margins(X, y)
    figure = Figure((5.2, 3.2), layout="constrained")
    axes = plane(figure, X, y, alpha=0.5)
    # Where both distances can be seen: one point among its own, one among the others.
    inside = np.where(found.relative > 0.4, found.hit, 0).argmax()
    outside = np.where(found.relative < -0.2, found.miss, 0).argmax()
    for i in (inside, outside):
        for j, style in ((found.hit_index[i], "-"), (found.miss_index[i], ":")):
            axes.plot(*X[[i, j]].T, style, color="black", linewidth=1.6)
        axes.plot(*X[i], "o", color=COLORS[y[i]], markeredgecolor="black", markersize=9, zorder=5)
        axes.annotate(f"{found.relative[i]:+.2f}", X[i], (9, -4), textcoords="offset points", fontweight="bold", zorder=6)
    axes.margins(0.12)
    axes.set_title("to the nearest hit (line) and the nearest miss (dotted)")
    return figure


def pairs():
    X, y = two_classes()
    i = int(fe.margins(X, y).relative.argmin())
    squared = ((X - X[i]) ** 2).sum(1)
    figure = Figure((7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    plane(left, X, y, alpha=0.5)
    for j in range(len(X)):
        left.plot(*X[[i, j]].T, color=COLORS[y[j]], linewidth=0.5, alpha=0.6)
    left.set_title(f"silhouette of this point: {fe.silhouette(X, y)[i]:+.2f}")
    soft = fe.soft_nearest_neighbor_loss(X, y, temperature=0.5)
    weights = np.exp(-squared / 0.5)
    weights[i] = 0
    for c in range(2):
        right.scatter(*X[y == c].T, s=4 + 220 * weights[y == c], color=COLORS[c], alpha=0.6)
    right.plot(*X[i], "k+", markersize=11)
    right.set_aspect("equal", adjustable="datalim")
    right.set(xticks=[], yticks=[], title=f"soft neighbours at T = 0.5: loss {soft.per_point[i]:.2f}")
    return figure


def dimension():
    rng = np.random.default_rng(0)
    figure = Figure((5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for c, d in enumerate((1, 2, 5)):
        near = fe.neighbors(rng.random((2000, d)) @ rng.standard_normal((d, 50)), k=2)
        found = fe.intrinsic_dimension(near, "twonn")
        log_ratio = np.sort(np.log(near.distances[:, 1] / near.distances[:, 0]))[:1800]
        height = -np.log1p(-np.arange(1, 1801) / 2000)
        axes.plot(log_ratio[::30], height[::30], ".", color=COLORS[c], markersize=4)
        axes.plot(log_ratio[[0, -1]], found.value * log_ratio[[0, -1]], color=COLORS[c])
        axes.text(log_ratio[-1], height[-1], f"  {d} in 50: {found.value:.2f}", color=COLORS[c], va="center")
    axes.set(xlabel="log of second over first distance", ylabel="-log(1 - share)", xlim=(0, 3.2), ylim=(0, 2.5))
    return figure


def complexity():
    X, y = two_classes()
    found = fe.complexity(X, y)
    figure = Figure((7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    plane(left, X, y, alpha=0.5)
    for i, j in zip(*minimum_spanning_tree(cdist(X, X)).nonzero(), strict=True):
        crosses = y[i] != y[j]
        left.plot(*X[[i, j]].T, color="black" if crosses else "0.7", linewidth=2 if crosses else 0.9)
    left.set_title(f"N1 = {found.n1:.2f}: on an edge between classes")
    plane(right, X, y, alpha=0.5)
    for i in np.flatnonzero(~found.absorbed):
        ring(right, X[i], found.radius[i], color=COLORS[y[i]], linewidth=1.2, zorder=4)
    right.set_title(f"T1 = {found.t1:.2f}: spheres that are needed")
    return figure


PICTURES = (inversion, turning, geometry, mixing, margins, pairs, dimension, complexity)


def main(folder):
    for draw in PICTURES:
        # Text stays text, and no date or random names: the same picture is the same file.
        style = {"svg.fonttype": "none", "svg.hashsalt": draw.__name__, "font.size": 9, "axes.titlesize": 9}
        with matplotlib.rc_context(style), atomic_path(folder / f"{draw.__name__}.svg") as temporary:
            draw().savefig(temporary, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
