import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fastent as fe


def batches(points, labels, size=16):
    return [(points[i : i + size], labels[i : i + size]) for i in range(0, len(points), size)]


def random_points(n, *shape, n_classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator), torch.randint(n_classes, (n,), generator=generator)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.norm(self.conv1(x)))
        x = x + self.conv2(x)
        return self.head(self.drop(x.mean((2, 3))))


def one_by_one(model, tail, rows, label):
    """Margin of one point, from the definition: `tail` maps a layer's input (one row) to logits."""
    row = rows.detach().clone().requires_grad_()
    logits = tail(row[None])[0]
    others = [j for j in range(len(logits)) if j != label]
    margin = logits[label] - logits[max(others, key=lambda j: logits[j].item())]
    margin.backward()
    return (margin / row.grad.norm()).item()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 5), st.integers(1, 50))
def test_margins_are_what_their_definition_says(seed, n, n_classes, batch_size):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, n_classes)).double()
    points, labels = random_points(n, 4, n_classes=n_classes, seed=seed)
    points = points.double()
    found = fe.layer_margins(model, batches(points, labels, batch_size))
    assert found.layers == ("0", "2", "4")
    for i, start in enumerate((0, 2, 4)):
        rows = model[:start](points).detach()
        spread = float(((rows - rows.mean(0)) ** 2).sum() / n) ** 0.5
        assert found.spread[i] == pytest.approx(spread, abs=1e-12)
        expected = [one_by_one(model, model[start:], row, int(label)) for row, label in zip(rows, labels, strict=True)]
        if n > 1:
            np.testing.assert_allclose(found.margin[i] * spread, expected, rtol=1e-9)
    logits = model(points).detach().numpy()
    np.testing.assert_allclose(found.logit_margin, fe.logit_margin(logits, labels.numpy()), rtol=1e-12)
    assert found.accuracy == (logits.argmax(1) == labels.numpy()).mean()


def test_a_linear_model_has_distances_to_its_planes():
    """f = Wx + b: the margin is (w_y - w_j).x + b_y - b_j over |w_y - w_j|, whatever the scale of the weights."""
    torch.manual_seed(0)  # a margin near 0 may have lost more digits than the tolerance allows
    model = nn.Linear(5, 3)
    points, labels = random_points(50, 5)
    found = fe.layer_margins(model, batches(points, labels), [""])
    weight, bias = model.weight.detach().double().numpy(), model.bias.detach().double().numpy()
    logits = points.double().numpy() @ weight.T + bias
    for i, label in enumerate(labels.tolist()):
        j = max((j for j in range(3) if j != label), key=lambda j: logits[i, j])
        distance = (logits[i, label] - logits[i, j]) / np.linalg.norm(weight[label] - weight[j])
        assert found.margin[0, i] * found.spread[0] == pytest.approx(distance, rel=1e-4)
    with torch.no_grad():
        model.weight *= 7
        model.bias *= 7
    np.testing.assert_allclose(fe.layer_margins(model, batches(points, labels)).margin, found.margin, rtol=1e-4)


def test_the_scale_of_a_layer_does_not_matter():
    """Twice the activations into half the weights: the same function, and the same margins at that layer."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    points, labels = random_points(60, 6)
    before = fe.layer_margins(model, batches(points, labels))
    with torch.no_grad():
        model[0].weight *= 2
        model[0].bias *= 2
        model[2].weight /= 2
    after = fe.layer_margins(model, batches(points, labels))
    np.testing.assert_allclose(after.margin, before.margin, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.spread, before.spread * [1, 2], rtol=1e-5)


def test_gradients_of_a_residual_network_take_every_path_and_the_model_is_left_as_found():
    torch.manual_seed(0)
    model = Residual()
    model.norm.eval()
    model.head.weight.requires_grad_(False)
    points, labels = random_points(20, 1, 5, 5)
    model.train()
    model.norm.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(points, labels), batch_size=8)
    with torch.no_grad():
        found = fe.layer_margins(model, loader, ["conv2", "conv1"])
    assert found.layers == ("conv1", "conv2")
    assert [model.training, model.norm.training, model.drop.training] == [True, False, True]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.conv2._forward_pre_hooks
    assert torch.equal(torch.get_rng_state(), random_state)

    model.eval()
    rows = model.relu(model.norm(model.conv1(points))).detach()
    tail = lambda x: model.head((x + model.conv2(x)).mean((2, 3)))  # noqa: E731
    expected = [one_by_one(model, tail, row, int(label)) for row, label in zip(rows, labels, strict=True)]
    np.testing.assert_allclose(found.margin[1] * found.spread[1], expected, rtol=1e-4)


def test_quartiles_are_those_of_the_correctly_classified_points():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    points, labels = random_points(300, 4)
    found = fe.layer_margins(model, batches(points, labels))
    right = found.margin[:, found.logit_margin > 0]
    quartiles = np.quantile(right, [0.25, 0.5, 0.75], axis=1)
    names = ("first quartile", "median", "third quartile")
    np.testing.assert_allclose([found.signature[name] for name in names], quartiles)
    lower, upper = found.signature["lower fence"], found.signature["upper fence"]
    np.testing.assert_allclose(upper, np.minimum(right.max(1), quartiles[2] + 1.5 * (quartiles[2] - quartiles[0])))
    np.testing.assert_allclose(lower, np.maximum(right.min(1), quartiles[0] - 1.5 * (quartiles[2] - quartiles[0])))
    summary = found.summary()
    assert summary["2/median"] == found.signature["median"][1]
    assert len(summary) == 11
    assert "300 points" in repr(found)


def test_points_and_layers_without_say():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(-torch.eye(2))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.eye(2))
        model[2].bias.copy_(torch.tensor([1.0, 0.0]))
    # The first two are cut off by the ReLU: no step of the input, however small, moves their logits.
    points = torch.tensor([[1.0, 1.0], [2.0, 1.0], [-3.0, -1.0]])
    found = fe.layer_margins(model, [(points, torch.tensor([0, 1, 0]))])
    assert found.margin[0].tolist()[:2] == [np.inf, -np.inf]
    assert np.isfinite(found.margin[1]).all()
    assert found.signature["median"][0] == found.margin[0, 2]
    wrong = fe.layer_margins(model, [(points[:1], torch.tensor([1]))])
    assert np.isnan(wrong.signature["median"]).all()
    assert wrong.accuracy == 0


def test_inputs_that_are_integers_and_frozen_embeddings():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2)).requires_grad_(False)
    tokens = torch.randint(10, (8, 3))
    found = fe.layer_margins(model, [(tokens, torch.arange(8) % 2)])
    assert found.layers == ("2",)
    difference = model[2].weight[0] - model[2].weight[1]
    np.testing.assert_allclose(found.margin * found.spread, [found.logit_margin / float(difference.norm())], rtol=1e-5)


def test_the_given_points_are_left_as_they_are():
    class Doubles(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x.mul_(2))

    points, labels = random_points(10, 3, n_classes=2)
    before = points.clone()
    found = fe.layer_margins(Doubles(), [(points, labels)])
    assert torch.equal(points, before)
    assert not points.requires_grad
    assert found.spread[0] == pytest.approx(float((2 * points - 2 * points.mean(0)).square().sum() / 10) ** 0.5, rel=1e-5)


def test_margins_that_a_signature_leaves_out_are_counted():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.eye(2))
        model[2].bias.copy_(torch.tensor([0.5, 0.0]))
    points, labels = torch.tensor([[3.0, 1.0], [0.1, 4.0], [-1.0, -2.0], [2.0, 1.0]]), torch.tensor([0, 1, 0, 0])
    found = fe.layer_margins(model, batches(points, labels))
    assert found.notes == (
        "the logits of 1 of 4 correctly classified points do not depend on the input of layer '0': their margins are infinite, "
        "and left out of its signature",
    )
    none = fe.layer_margins(model, batches(points, 1 - labels))
    assert none.notes == ("no point is classified correctly: there are no signatures",)
    still = fe.layer_margins(model, batches(points[[0, 0]], labels[[0, 0]]))
    assert len(still.notes) == 2
    assert still.notes[0].startswith("the input of layer '0' is the same for all points: its margins are infinite")
