"""Find mislabelled training points: stragglers compared with neighbours and margins.

Five per cent of the digits' labels are flipped on purpose. Every training point then gets four scores, and for each score the
script reports how many of the k most suspicious points are really flipped.

    straggler share          share of the networks that misclassify the point at the inversion of its class
    neighbours disagree      share of its ten nearest neighbours, by pixels, that have another label
    relative margin          distance to the nearest point of another class, relative to the nearest of its own class
    final loss               cross-entropy after the last epoch, averaged over the networks

The straggler share needs a training run but no metric on the inputs; the next two need no network. On digits, where similar
pixels mean the same digit, neighbours are hard to beat. If pixel distances say little, use neighbours in a trained layer.

    python examples/find_mislabelled.py

About ten seconds on a laptop; half a minute more the first time, when kernels are compiled.
"""

import argparse

import numpy as np

import fastent as fe
from fastent.experiments import flip_labels


def scores(data, seeds, epochs):
    """Return four scores, each (n,); larger values are more suspicious."""
    loss = {}

    def observe(snapshot):
        """Called after every epoch with all networks; only the losses of the last epoch are kept."""
        if snapshot.epoch == epochs:
            own = snapshot.probability[:, np.arange(len(data.y_train)), data.y_train]
            loss["final loss"] = -np.log(np.maximum(own, 1e-300)).mean(0)

    run = fe.train(data, seeds=seeds, epochs=epochs, observe=observe)
    near = fe.mixing(fe.neighbors(data.x_train, k=10), data.y_train)
    return {
        "straggler share": run.straggler_share,
        "neighbours disagree": 1 - near.purity,
        "relative margin": -fe.margins(data.x_train, data.y_train).relative,
        **loss,
    }


def precision_at(score, flipped, k):
    """Share of the k most suspicious points whose label is flipped; points tied at the k-th place count in part."""
    bar = np.sort(score)[-k]
    above, tied = score > bar, score == bar
    return (flipped[above].sum() + (k - above.sum()) * flipped[tied].mean()) / k


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.05, help="share of the labels that are flipped")
    parser.add_argument("--seeds", type=int, default=10, help="networks, trained together")
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="which labels are flipped")
    options = parser.parse_args()

    data, flipped = flip_labels(fe.load_data("digits"), share=options.noise, seed=options.seed)
    found = scores(data, options.seeds, options.epochs)

    ks = [max(1, round(flipped.sum() * share)) for share in (0.25, 0.5, 1.0)]
    print(f"{flipped.sum()} of {len(flipped)} labels are flipped: a random score finds {flipped.mean():.1%}.\n")
    print(f"{'share flipped among the first':32}" + "".join(f"{k:>8}" for k in ks))
    for name, score in found.items():
        print(f"{name:32}" + "".join(f"{precision_at(score, flipped, k):8.0%}" for k in ks))


if __name__ == "__main__":
    main()
