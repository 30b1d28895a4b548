"""One network at a time, as anybody would write it in PyTorch: the referee of `fe.train`, and its peer in the benchmarks."""

import numpy as np
import torch
from torch import nn


def train_plain(
    data, *, seed, epochs, hidden=(20,), lr=0.1, optimizer="sgd", momentum=0.0, activation="tanh", dtype=torch.float32
):
    """Train and measure one network; epochs first: train_error (E,), radius (E, L, C), distance (E, L, C, C), test_error (E,)."""
    torch.manual_seed(seed)
    widths = (data.x_train.shape[1], *hidden, len(data.classes))
    layers = []
    for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(n_in, n_out, dtype=dtype), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    parameters = network.parameters()
    rule = torch.optim.Adam(parameters, lr=lr) if optimizer == "adam" else torch.optim.SGD(parameters, lr=lr, momentum=momentum)
    inputs, targets = torch.from_numpy(data.x_train).to(dtype), torch.from_numpy(data.y_train)
    test_inputs, test_targets = torch.from_numpy(data.x_test).to(dtype), torch.from_numpy(data.y_test)
    result = {"train_error": [], "radius": [], "distance": [], "test_error": [], "wrong": []}
    for _ in range(epochs + 1):
        values, activations = inputs, []
        for layer in network:
            values = layer(values)
            if not isinstance(layer, nn.Linear):
                activations.append(values.detach())
        wrong = values.argmax(1) != targets
        result["wrong"].append(wrong.numpy())
        result["train_error"].append(wrong.double().mean().item())
        with torch.no_grad():
            result["test_error"].append((network(test_inputs).argmax(1) != test_targets).double().mean().item())
            measured = [class_geometry(rows, targets, len(data.classes)) for rows in activations]
        result["radius"].append([radius for radius, _ in measured])
        result["distance"].append([distance for _, distance in measured])
        rule.zero_grad()
        nn.functional.cross_entropy(values, targets).backward()
        rule.step()
    return {name: np.array(values) for name, values in result.items()}


def class_geometry(activations, targets, n_classes):
    unit = nn.functional.normalize(activations.double(), dim=1)
    groups = [unit[targets == c] for c in range(n_classes)]
    means = torch.stack([group.mean(0) for group in groups])
    radius = [((group - mean) ** 2).sum(1).mean().sqrt().item() for group, mean in zip(groups, means, strict=True)]
    return radius, torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").numpy()
