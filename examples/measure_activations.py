"""How tangled are the classes in each layer? Capture activations once, then measure and compare the layers.

A network is trained on scikit-learn's digits. Its layers are computed once and written to disk as float16 shards,
and each layer is measured from there: how many of a point's nearest neighbours have its label, how far the nearest point of
another class is compared with the nearest of its own, how wide the classes are compared with their distances, and how many
dimensions the layer uses. The first column shows the pixels themselves for comparison.

    python examples/measure_activations.py

This takes a few seconds on a laptop, and half a minute more the first time, when kernels are compiled. The folder `activations`
is kept; if you run the script again, it is verified instead of computed again.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import fastent as fe

LAYERS = {"1": "first hidden", "3": "second hidden", "4": "logits"}
SHOWN = (
    "mixing/overlap",
    "mixing/chance",
    "margins/relative",
    "margins/n3",
    "geometry/fisher",
    "geometry/nc1",
    "dimension/twonn",
)


def trained(inputs, labels, epochs, seed):
    """Two hidden layers of 64 and 32 units; Adam, mini-batches of 128."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="activations", help="folder for the captured layers")
    options = parser.parse_args()

    digits = load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    model = trained(inputs, labels, options.epochs, options.seed)

    # One pass over a loader that does not shuffle, so that rows keep their numbers. The labels are stored with them.
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=256)
    store = fe.capture(model, loader, list(LAYERS), options.out)

    metrics = ["mixing", "margins", "geometry", "dimension"]
    measured = {"pixels": fe.measure(inputs, labels, metrics=metrics)}
    for layer, name in LAYERS.items():
        # fe.open reads rows from disk when they are needed, so a layer may be larger than memory.
        measured[name] = fe.measure(fe.open(store.path, layer), store.labels, metrics=metrics)

    print(f"{'':20}" + "".join(f"{name:>15}" for name in measured))
    for statistic in SHOWN:
        print(f"{statistic:20}" + "".join(f"{each.summary()[statistic]:15.4f}" for each in measured.values()))

    # Every statistic of every layer, with standard errors where rows were sampled.
    comparison = fe.compare(list(measured.values()), list(measured))
    print(f"\n{len(comparison.statistics)} statistics in all: print(fe.compare(...)) shows them side by side.")

    # The points whose nearest neighbour of another class is nearest, relative to the nearest of their own class.
    worst = measured["second hidden"].margins.relative.argsort()[:5]
    print("Deepest in another class, in the second hidden layer: rows " + ", ".join(map(str, worst.tolist())))


if __name__ == "__main__":
    main()
