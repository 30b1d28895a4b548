"""The head of networks during training: from the last hidden layer to errors, class sums and gradients, in one pass.

Activations are (S, h, n), a contiguous row of n points for each unit, the points of a class side by side. The pass goes by
strips of one network and one class: a strip of h rows is brought into cache for its logits and norms, and used a second time
for what is summed over it and for the gradient, which takes its place. Logits are in the networks'
precision, everything else is summed in double precision. Strips do not depend on the number of threads.
"""

from typing import Any, NamedTuple

import numpy as np

from .exponential import exponential
from .jit import FUSED, SUMS, driver, kernel, step, unowned
from .recording import add_squares, dot, invert_norms
from .sharing import parallel_for

__all__ = ["RELU", "STRIP", "TANH", "add_scaled", "head"]

TANH, RELU = 0, 1

# Points of a strip: of 20 units a strip takes 20 kB in single precision, and stays in the first cache.
STRIP = 256


@step()
def _note_losses(own: Any, other: Any, wins_ties: bool, lost: Any) -> None:
    """Mark the points whose own logit is beaten by another's."""
    if wins_ties:
        for i in range(lost.shape[0]):
            lost[i] |= other[i] >= own[i]
    else:
        for i in range(lost.shape[0]):
            lost[i] |= other[i] > own[i]


@step(fastmath=FUSED)
def add_scaled(values: Any, factor: Any, total: Any) -> None:
    for i in range(total.shape[0]):
        total[i] += factor * values[i]


@step()
def _raise_to(values: Any, largest: Any) -> None:
    for i in range(largest.shape[0]):
        largest[i] = values[i] if values[i] > largest[i] else largest[i]


@step(fastmath=FUSED)
def _exponentials(values: Any, largest: Any, found: Any, total: Any) -> None:
    for i in range(found.shape[0]):
        found[i] = exponential(np.float64(values[i]) - np.float64(largest[i]))
        total[i] += found[i]


@step()
def _logit_gradient(values: Any, total: Any, own: float, weight: Any) -> None:
    """Put (softmax - one-hot) times the weight of each point in the place of the exponentials."""
    for i in range(values.shape[0]):
        values[i] = (values[i] / total[i] - own) * weight[i]


@step(fastmath=SUMS)
def _sum(values: Any) -> float:
    total = 0.0
    for i in range(values.shape[0]):
        total += np.float64(values[i])
    return total


@step(fastmath=SUMS)
def _through_tanh(gradient: Any, values: Any) -> float:
    """Put the gradient before the activation in the place of its values; return its sum."""
    total = 0.0
    for i in range(values.shape[0]):
        before = gradient[i] * (1.0 - np.float64(values[i]) * np.float64(values[i]))
        values[i] = before
        total += before
    return total


@step(fastmath=SUMS)
def _through_relu(gradient: Any, values: Any) -> float:
    total = 0.0
    for i in range(values.shape[0]):
        before = np.float64(gradient[i]) if values[i] > 0 else 0.0
        values[i] = before
        total += before
    return total


class HeadPoints(NamedTuple):
    """The points that the head passes, as `head` takes them."""

    strips: Any
    original: Any
    weights: Any


class HeadSums(NamedTuple):
    """What `head` returns."""

    sums: Any
    directed: Any
    head_gradient: Any
    bias_gradient: Any


@step()
def _learn(
    values: Any, scores: Any, factors: Any, counted: Any, strip: Any, activation: int, of_head: Any, of_bias: Any, room: Any
) -> None:
    """Write the gradients of a strip: of the head (C, h + 1), of the bias before it (h,), and in the place of its values.

    room : (C + 3, STRIP) float64
    """
    own, start, stop = strip[0], strip[1], strip[2]
    n_units, n_outputs, width = values.shape[0], scores.shape[0], stop - start
    largest, total, arriving = room[n_outputs, :width], room[n_outputs + 1, :width], room[n_outputs + 2, :width]
    largest[:], total[:] = -np.inf, 0.0
    for c in range(n_outputs):
        _raise_to(scores[c, start:stop], largest)
    for c in range(n_outputs):
        _exponentials(scores[c, start:stop], largest, room[c, :width], total)
    for c in range(n_outputs):
        _logit_gradient(room[c, :width], total, 1.0 if c == own else 0.0, counted)
        of_head[c, n_units] = _sum(room[c, :width])
    for j in range(n_units):
        row = values[j, start:stop]
        arriving[:] = 0.0
        for c in range(n_outputs):
            gradient = room[c, :width]
            of_head[c, j] = dot(row, gradient)
            add_scaled(gradient, np.float64(factors[c, j]), arriving)
        if activation == TANH:
            of_bias[j] = _through_tanh(arriving, row)
        else:
            of_bias[j] = _through_relu(arriving, row)


@kernel()
def _head(
    begin: int, end: int, hidden: Any, weight: Any, bias: Any, points: Any, activation: int, learn: bool, logits: Any,
    wrong: Any, found: Any,
) -> None:  # fmt: skip
    strips, original, weights = points.strips, points.original, points.weights
    sums, directed, head_gradient, bias_gradient = found.sums, found.directed, found.head_gradient, found.bias_gradient
    n_units, n_outputs, n_strips = hidden.shape[1], weight.shape[1], strips.shape[0]
    all_norms, all_lost, room = np.empty(STRIP), np.empty(STRIP, np.bool_), np.empty((n_outputs + 3, STRIP))
    for task in range(begin, end):
        s, t = task // n_strips, task % n_strips
        strip = strips[t]
        own, start, stop = strip[0], strip[1], strip[2]
        width = stop - start
        values, scores, factors = unowned(hidden[s]), unowned(logits[s]), unowned(weight[s])
        counted = unowned(weights[s, start:stop])
        zero = factors[0, 0] - factors[0, 0]

        norms, lost = all_norms[:width], all_lost[:width]
        norms[:], lost[:] = 0.0, False
        for c in range(n_outputs):
            scores[c, start:stop] = bias[s, c]
        for j in range(n_units):
            row = values[j, start:stop]
            add_squares(row, norms)
            for c in range(n_outputs):
                add_scaled(row, factors[c, j], scores[c, start:stop])
        for c in range(n_outputs):
            if c != own:
                _note_losses(scores[own, start:stop], scores[c, start:stop], c < own, lost)
        for i in range(width):
            if counted[i] == zero:
                lost[i] = False
                norms[i] = 0.0
            wrong[s, original[start + i]] = lost[i]
        directed[s, t] = invert_norms(norms)
        for j in range(n_units):
            sums[s, t, j] = dot(values[j, start:stop], norms)
        if learn:
            of_head, of_bias = head_gradient[s, t], bias_gradient[s, t]
            _learn(values, scores, factors, counted, strip, activation, of_head, of_bias, room)


@driver(_head)
def head(
    hidden: Any,
    weight: Any,
    bias: Any,
    strips: Any,
    original: Any,
    point_weights: Any,
    activation: int,
    learn: bool,
    logits: Any,
    wrong: Any,
) -> HeadSums:
    """Logits, errors, class sums of unit vectors, and if wanted the gradients of the head and of the last hidden layer.

    Parameters
    ----------
    hidden : (S, h, n) float32 or float64, C-contiguous
        Activations; with `learn` replaced by the gradient of the loss before the activation function.
    weight : (S, C, h), bias : (S, C)
        The head's, in the same precision.
    strips : (T, 3) int64
        Class, start and stop of strips of at most STRIP points.
    original : (n,) int64
        Where each point belongs in `wrong`.
    point_weights : (S, n) in the same precision
        What each point counts for in each network's loss; a point of weight 0 is left out of everything.
    activation : TANH or RELU
    learn : bool
    logits : (S, C, n) in the same precision, C-contiguous
        Written here.
    wrong : (S, n) bool
        Written here: points whose own logit is not the largest; of equal logits the first counts.

    Returns
    -------
    sums (S, T, h), directed (S, T) int64 : of unit vectors, and how many are not zero
    head_gradient (S, T, C, h + 1) : of weights and, last, bias
    bias_gradient (S, T, h) : of the last hidden layer

    All float64, a sum for each strip; the last two are zero without `learn`.
    """
    n_networks, n_units, _ = hidden.shape
    n_outputs, n_strips = weight.shape[1], strips.shape[0]
    found = HeadSums(
        sums=np.zeros((n_networks, n_strips, n_units)),
        directed=np.zeros((n_networks, n_strips), np.int64),
        head_gradient=np.zeros((n_networks, n_strips, n_outputs, n_units + 1)),
        bias_gradient=np.zeros((n_networks, n_strips, n_units)),
    )
    points, tasks = HeadPoints(strips, original, point_weights), n_networks * n_strips
    parallel_for(_head, tasks, hidden, weight, bias, points, activation, learn, logits, wrong, found)
    return found
