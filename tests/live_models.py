"""A small CNN and a small transformer encoder, digits for them, and the plain loop that trains them."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def digits(n, start=0):
    data = load_digits()
    images = torch.tensor(data.images[start : start + n] / 16, dtype=torch.float32)
    return images, torch.tensor(data.target[start : start + n])


class CNN(nn.Module):
    """(b, 8, 8) -> logits, with all that a probe could disturb."""

    layers = ("norm", "conv2")

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x, labels=None):
        x = torch.relu(self.norm(self.conv1(x[:, None])))
        x = torch.relu(self.conv2(self.drop(torch.max_pool2d(x, 2))))
        return answer(self.head(x.mean((2, 3))), labels)


class Encoder(nn.Module):
    """The rows of a picture are its tokens."""

    layers = ("encoder.layers.0", "encoder.layers.1")

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 10)

    def forward(self, x, labels=None):
        return answer(self.head(self.encoder(self.embed(x)).mean(1)), labels)


def answer(logits, labels):
    """As transformers' models answer."""
    return {"logits": logits} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def named(rows):
    """Batches as mappings, of a dataset of pairs."""
    images, labels = zip(*rows)
    return {"x": torch.stack(images), "labels": torch.stack(labels)}


def loader(n=200, batch_size=32, start=0, **options):
    return DataLoader(TensorDataset(*digits(n, start)), batch_size, **options)


def train(model, batches, epochs, *, lr=0.05, after=lambda epoch: None):
    """Plain torch; `after` is called before the first epoch and after each."""
    rule = torch.optim.SGD(model.parameters(), lr=lr)
    after(0)
    for epoch in range(epochs):
        model.train()
        for x, labels in batches:
            rule.zero_grad()
            model(x, labels)["loss"].backward()
            rule.step()
        after(epoch + 1)
