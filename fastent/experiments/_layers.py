"""Which hidden layers of a deep network turn, and in which order?"""

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.experiments.critical import (
    compared_classes,
    compared_text,
    mean_over,
    most_turn,
    reasons_text,
    share_turning,
    still_open,
    usual_epoch,
)
from fastent.experiments.result import Holds, Result, Table, Verdict, joined, overall
from fastent.experiments.setting import Setting
from fastent.plots.style import class_style, epoch_axis
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean, wilson
from fastent.training.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Layer", "Layers", "Order", "layers", "order_of"]

_HIDDEN = (20, 20, 20)
# Layers are in no order where the mean rank correlation of depth and epoch is shown to be nearer 0 than this.
_UNORDERED = 0.5
_ALL = "Do all hidden layers turn?"
_ORDER = "Does the epoch of the turn go with the depth of the layer?"


class Layer(NamedTuple):
    """One hidden layer of S networks.

    name; share: of the radii (seed and class) that have an inversion, in [0, 1], with Clopper and Pearson's interval, as if a
    network had one radius, whose upper end counts those that may turn later: the intervals of all layers hold together at 95 %;
    unfinished: share of the radii that may turn later, as they still fall, or rise by less than counts, at the last record,
    after less than 20 times the epoch at which radii usually turn: the median of the layer where that is largest; epoch: mean
    over networks of the layer's `turn_epoch`; train_error, rebound: at the inversion, means over the same networks of the means
    over the same classes; all three with Student's 95 % intervals; reasons: why radii have none; radius: (E,) mean over
    networks and classes.
    """

    name: str
    share: Estimate
    unfinished: float
    epoch: Estimate
    train_error: Estimate
    rebound: Estimate
    reasons: str
    radius: NDArray[np.float64]

    @property
    def turns(self) -> Holds:
        """Whether most of the radii turn, as far as the interval tells."""
        return most_turn(self.share)

    @property
    def share_text(self) -> str:
        return f"{percent(self.share.value, 0)} ({100 * self.share.low:.0f} to {100 * self.share.high:.0f})"


class Order(NamedTuple):
    """How the depth of layers goes with the epoch at which they turn.

    correlation: Kendall's tau-a of depth and epoch, mean over networks, in [-1, 1], positive where deeper layers turn later;
    its interval is Wilson's. p: two-sided, exact: the probability that exchangeable layers are at least as much in order.
    networks: how many have at least two layers in which every compared class turns, and are compared.
    """

    correlation: Estimate
    p: float
    networks: int

    @property
    def holds(self) -> Holds:
        """Yes if exchangeable layers would not be so much in order, no if the correlation is shown to be near 0."""
        if max(-self.correlation.low, self.correlation.high) < _UNORDERED:
            return "no"
        return "yes" if self.p < 0.05 and self.networks > 1 else "undecided"


@dataclass(frozen=True, eq=False, repr=False)
class Layers(Result):
    """Inversions of each hidden layer of deep networks.

    The null of an order: within a network, layers are exchangeable, that is, all orders of their epochs are equally likely.

    Attributes
    ----------
    epoch : (E,)
        Passes over the data made before each record.
    layers : list of Layer
        From the first hidden layer to the last.
    turn_epoch : (S, L) float64
        Epoch of the inversion in each network and layer: the geometric mean over the compared classes in parameter updates; NaN
        where one of these has none. The same classes are compared in all layers: those that turn in at least half of the
        networks in every layer in which any class does.
    order : Order
    final_error : float
        Training error after the last epoch, mean over networks, in [0, 1].
    compared : str
        Which classes are compared, if these are not all.
    """

    epoch: NDArray[Any]
    layers: list[Layer]
    turn_epoch: NDArray[np.float64]
    order: Order
    final_error: float
    compared: str

    name = "layers"
    title = "The inversion by layer"
    claim = "Every hidden layer turns, at an epoch that goes with its depth."
    of_paper = False

    @property
    def verdict(self) -> Verdict:
        return joined(self.answers)

    @property
    def answers(self) -> dict[str, Verdict]:
        return {_ALL: self._all_turn(), _ORDER: self._in_order()}

    def _all_turn(self) -> Verdict:
        said = ", ".join(f"{layer.name}: {layer.share_text}" for layer in self.layers)
        sentence = f"Radii that turn, by layer: {said}; a layer turns if that is shown to be more than half"
        falling = [layer.name for layer in self.layers if layer.unfinished]
        if falling:
            sentence += f". Some radii were still falling, or had risen too little, at the last epoch, in: {', '.join(falling)}"
        holds = overall(layer.turns for layer in self.layers)
        return Verdict(holds, f"{sentence}. The final training error is {percent(self.final_error, 1)}.")

    def _in_order(self) -> Verdict:
        found = self.order
        compared = self.compared and f" {self.compared}"
        if not found.networks:
            nothing = "No network turns in two hidden layers, so that there is nothing to order."
            return Verdict("undecided", f"{nothing}{compared}")
        later = "deeper layers turn later" if found.correlation.value > 0 else "deeper layers turn earlier"
        direction = f": {later}" if found.holds == "yes" else ""
        return Verdict(
            found.holds,
            f"Rank correlation of depth and epoch {estimate_text(found.correlation)} over {found.networks} networks that turn "
            f"in two layers or more, p = {found.p:.2g}{direction}; nearer 0 than {_UNORDERED:g} means no order.{compared}",
        )

    def table(self) -> Table:
        rows = [
            (
                layer.name,
                layer.share_text,
                percent(layer.unfinished, 0),
                NOTHING if math.isnan(layer.epoch.value) else estimate_text(layer.epoch),
                estimate_text(layer.train_error, percent=True),
                estimate_text(layer.rebound),
                layer.reasons,
            )
            for layer in self.layers
        ]
        headings = (
            "hidden layer", "radii that turn", "may turn later", "epoch", "training error", "rebound",
            "reasons for no inversion",
        )  # fmt: skip
        note = (
            "From the first hidden layer to the last. Intervals of the share of radii hold together for all layers, and their "
            "upper ends count radii that may turn later. Epoch, training error and rebound (the share of the radius's fall "
            "that is undone) are those of the compared classes: means over networks with 95 % intervals."
        )
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "layers": {layer.name: {k: v for k, v in layer._asdict().items() if k != "name"} for layer in self.layers},
            "epoch": self.epoch,
            "turn_epoch": self.turn_epoch,
            "order": self.order,
            "final_error": self.final_error,
            "compared": self.compared,
        }

    def draw(self, axes: "Axes") -> None:
        for i, layer in enumerate(self.layers):
            scaled = layer.radius / layer.radius[0]
            axes.plot(self.epoch[1:], scaled[1:], label=layer.name, **class_style(i))
            if not math.isnan(layer.epoch.value):
                at = layer.epoch.value
                axes.plot(at, np.interp(at, self.epoch, scaled), "v", color=class_style(i)["color"])
        epoch_axis(axes, self.epoch[-1])
        if len(self.epoch) > 2:
            axes.set_xscale("log")
        axes.set(ylabel="radius, share of the initial one", title=self.titled(", mean over networks and classes"))
        axes.legend(frameon=False, fontsize="small", title="hidden layer; triangle: turn")


def layers(
    data: Any = "digits", *,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Layers:  # fmt: skip
    """Train deep networks from many seeds; find which hidden layers turn, when, and whether the epoch goes with depth.

    Two questions. *Do all hidden layers turn?* Yes if in each layer more than half of the radii are shown to, no if in one of
    them fewer are; a radius that is still falling when training ends leaves it open, until it was trained for 20 times the
    median epoch at which the radii of the slowest layer turn, of those of which at least half of the radii do. One layer needs
    at least six networks for an answer, two or three layers seven. *Does the epoch of the turn go with the depth?* Yes if depth
    and epoch go together, in either direction, more than in 95 % of the cases in which layers are exchanged at random within
    each of at least two networks; no if the rank correlation is shown to be nearer 0 than 0.5. Layers without a turn have no
    place in the order. Order and epochs are those of the classes that turn in at least half of the networks in every layer in
    which any class does.

    Parameters
    ----------
    data
        As for `dynamics`.
    seeds, seed, preset, out, progress, **options
        As for `dynamics`. `hidden` is (20, 20, 20) by default, with a preset too. With a `model`, `layers` names the modules
        to record, from the first to the last; by default all whose outputs arrive at a convolution or linear layer. With
        `batch_size` there are records within the first passes.

    Returns
    -------
    Layers

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    Kendall, "A new measure of rank correlation", Biometrika 30, 1938.
    """
    if options.get("model") in (None, "mlp") and options.get("hidden") is None:
        options = {**options, "hidden": _HIDDEN}
    setting = Setting.make(
        data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options
    ).with_all_layers()
    return layers_of(setting.train("layers"), setting.config)


def layers_of(run: Run, config: dict[str, Any]) -> Layers:
    """From a run; `config` is that of the experiment."""
    # The slowest layer's, of those of which at least half of the radii turn.
    usual = max((usual_epoch(run, layer) for layer in range(run.n_layers)), key=lambda epoch: np.nan_to_num(epoch, nan=-1.0))
    names = run.config.get("layers") or [str(layer + 1) for layer in range(run.n_layers)]
    classes = _compared(run)
    times = turn_epochs(run, classes)
    return Layers(
        config=config,
        epoch=run.epoch,
        layers=[_layer(run, i, str(name), usual, times[:, i], classes) for i, name in enumerate(names)],
        turn_epoch=times,
        order=order_of(times),
        final_error=float(run.train_error[:, -1].mean()),
        compared=compared_text(run.class_names, classes),
    )


def _compared(run: Run) -> NDArray[np.bool_]:
    """(C,) the classes that turn in at least half of the networks, in every layer in which any class does.

    Some classes turn early and others late: means over other classes in each layer would not say which layer turns first.
    """
    usual = np.stack([compared_classes([run], layer) for layer in range(run.n_layers)])
    return np.asarray(usual[usual.any(1)].all(0) & usual.any())


def _layer(run: Run, layer: int, name: str, usual: float, epochs: NDArray[np.float64], classes: NDArray[np.bool_]) -> Layer:
    later = still_open(run, layer, usual)
    turns = run.inversion[~np.isnan(epochs), layer][:, classes]
    of_each = [[np.mean([getattr(i, name) for i in row]) for row in turns] for name in ("train_error", "rebound")]
    return Layer(
        name=name,
        share=share_turning(run.turned[:, layer], later, confidence=1 - 0.05 / run.n_layers),
        unfinished=float(later.mean()),
        epoch=student_mean(epochs, least=0, most=float(run.epoch[-1])),
        train_error=student_mean(of_each[0], least=0, most=1),
        rebound=student_mean(of_each[1], least=0),
        reasons=reasons_text([run], layer),
        radius=run.radius[:, :, layer].mean((0, 2)),
    )


def turn_epochs(run: Run, classes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S, L) epoch of the turn: the geometric mean over these classes, in updates; NaN where one of them has none."""
    updates = np.array([run.update[i.index] if i else np.nan for i in run.inversion.flat], float).reshape(run.inversion.shape)
    return np.exp(mean_over(classes, np.log(np.maximum(updates, 1)))) / run.updates_per_epoch


def order_of(epochs: ArrayLike) -> Order:
    """The order in which layers turn, from epochs (S, L), from the first layer to the last; NaN without a turn."""
    taus: list[float] = []
    score, chance = 0, np.ones(1)
    for row in np.asarray(epochs, float):
        known = row[~np.isnan(row)]
        if len(known) < 2:
            continue
        first, second = np.triu_indices(len(known), 1)
        own = int(np.sign(known[second] - known[first]).sum())
        taus.append(own / len(first))
        score += own
        chance = np.convolve(chance, _scores_by_chance(tuple(np.unique(known, return_counts=True)[1].tolist())))
    if not taus:
        return Order(student_mean([]), math.nan, 0)
    # chance[k] is the probability that k pairs are in the wrong order: of all scores as far apart as ours or farther.
    scores = len(chance) - 1 - 2 * np.arange(len(chance))
    share = wilson((1 + float(np.mean(taus))) / 2, len(taus))
    correlation = Estimate(2 * share.value - 1, 2 * share.standard_error, 2 * share.low - 1, 2 * share.high - 1)
    return Order(correlation, min(float(chance[np.abs(scores) >= abs(score)].sum()), 1.0), len(taus))


@lru_cache
def _scores_by_chance(counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Probability of k pairs in the wrong order, k = 0, 1, ..., if all orders of values that occur so often are equally likely.

    The inversions of a random permutation are sums of independent uniform ones; equal values divide out (MacMahon 1913).
    """
    found = _without_ties(sum(counts))
    for count in counts:
        found = np.maximum(np.polydiv(found, _without_ties(count))[0], 0)
    probability: NDArray[np.float64] = found / found.sum()
    return probability


def _without_ties(n: int) -> NDArray[np.float64]:
    found = np.ones(1)
    for size in range(2, n + 1):
        found = np.convolve(found, np.full(size, 1 / size))
    return found
