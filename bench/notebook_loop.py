"""One network at a time, as the source paper describes it: an update, then an evaluation of the network.

It is written from the description of the set-up, not from the notebook. `tests/plain_loop.py` is faster, because it measures
in the forward pass of the update.
"""

import torch
from torch import nn

__all__ = ["train_and_measure"]


class Network(nn.Module):
    def __init__(self, inputs, units, outputs):
        super().__init__()
        self.hidden, self.head = nn.Linear(inputs, units), nn.Linear(units, outputs)

    def forward(self, x):
        hidden = torch.tanh(self.hidden(x))
        return self.head(hidden), hidden


def train_and_measure(data, *, seed, epochs, units=20, lr=0.1):
    """Return training and test error, radii and distances after every update."""
    torch.manual_seed(seed)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    x_test, y_test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
    network = Network(x.shape[1], units, len(data.classes))
    optimizer, loss = torch.optim.SGD(network.parameters(), lr=lr), nn.CrossEntropyLoss()
    history = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss(network(x)[0], y).backward()
        optimizer.step()
        with torch.no_grad():
            logits, hidden = network(x)
            unit = nn.functional.normalize(hidden, dim=1)
            groups = [unit[y == c] for c in range(len(data.classes))]
            means = [group.mean(0) for group in groups]
            radii = [((group - mean) ** 2).sum(1).mean().sqrt().item() for group, mean in zip(groups, means, strict=True)]
            distance = (means[0] - means[1]).norm().item()
            error = (logits.argmax(1) != y).float().mean().item()
            test_error = (network(x_test)[0].argmax(1) != y_test).float().mean().item()
        history.append((error, test_error, *radii, distance))
    return history
