"""Find the inversion in your own training loop.

While a network learns, the points of a class first draw together in its hidden layer; later they often spread again. That turn
is the inversion, and the points that are misclassified at it are the stragglers.

Here a plain torch loop trains a small network on scikit-learn's digits, even against odd. One line in the loop lets a probe
record the hidden layer after every epoch. The probe does not change the training: weights and random numbers are bit-identical
to those without it.

    python examples/inversion_in_your_loop.py

This takes about ten seconds on a laptop, and twice as long the first time, when kernels are compiled. It writes inversion.svg,
which shows the radii with their turns and the first stragglers.
"""

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import fastent as fe

PARITY = ("even", "odd")


def train(model, probe, inputs, labels, epochs, lr):
    """A plain full-batch training loop. The probe is called before the first epoch and after each epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    probe(0)
    for epoch in range(epochs):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        probe(epoch + 1)


def draw(records, pictures, shown=12):
    """Radii against epochs with their turns on the left, the first stragglers on the right."""
    figure = Figure((9, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    _, axes = records.plot(ax=left.subplots())
    axes.set(xlabel="epoch", ylabel="gyration radius in the hidden layer", title="Radii of the classes, inversions as dots")

    rows = np.flatnonzero(records.stragglers())
    right.suptitle(f"{len(rows)} stragglers" + (f", the first {shown}" if len(rows) > shown else ""))
    for place, row in zip(right.subplots(3, 4).flat, [*rows[:shown], *[None] * shown], strict=False):
        place.set_axis_off()
        if row is not None:
            place.imshow(pictures[row], cmap="gray_r")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="inversion.svg", help="file for the picture: .svg, .pdf or .png")
    options = parser.parse_args()

    digits = load_digits()
    inputs = torch.tensor((digits.data - digits.data.mean(0)) / (digits.data.std(0) + 1e-9), dtype=torch.float32)
    labels = torch.tensor(digits.target % 2)

    torch.manual_seed(options.seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 20), torch.nn.Tanh(), torch.nn.Linear(20, 2))

    # The probe set is one batch here; any DataLoader that does not shuffle will do. "1" is the Tanh in model.named_modules().
    probe = fe.Probe(model, [(inputs, labels)], layers=["1"], classes=PARITY)
    train(model, probe, inputs, labels, options.epochs, options.lr)

    records = probe.records
    for name, turn in zip(PARITY, records.inversions()[0], strict=True):
        if turn:
            first, last = turn.epoch_interval
            print(
                f"{name}: inversion at epoch {turn.epoch} (95 % interval {first} to {last}), training error "
                f"{turn.train_error:.1%}, rebound {turn.rebound:.2f}"
            )
        else:
            print(f"{name}: no inversion, {turn.reason}")
    print(f"{records.stragglers().sum()} of {len(labels)} points are stragglers")

    draw(records, digits.images).savefig(options.out)
    print(f"Picture: {options.out}")


if __name__ == "__main__":
    main()
