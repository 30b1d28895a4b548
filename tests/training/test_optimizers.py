import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastent.training.drawing import _Drawing, _DrawingUncompiled
from fastent.training.optimizers import make_optimizer


def trained(make):
    """The weights after 20 updates, and the state of the optimiser, which was stored and restored halfway."""
    torch.manual_seed(0)
    layer, X, y = nn.Linear(7, 3), torch.randn(50, 7), torch.arange(50) % 3
    optimizer = make(layer.parameters())

    def loss_and_gradient():
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(X), y)
        loss.backward()
        return loss

    for update in range(20):
        assert optimizer.step(loss_and_gradient).requires_grad
        if update == 10:
            optimizer.load_state_dict(optimizer.state_dict())
    return layer.weight, optimizer.state_dict()


@pytest.mark.parametrize(("name", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)])
def test_optimisers_are_torchs_to_the_bit(name, momentum):
    kind = torch.optim.SGD if name == "sgd" else torch.optim.Adam
    options = {"momentum": momentum} if momentum else {}
    weight, state = trained(lambda parameters: make_optimizer(name, parameters, 0.1, momentum))
    expected_weight, expected_state = trained(lambda parameters: kind(parameters, lr=0.1, **options))
    assert torch.equal(weight, expected_weight)
    assert str(state) == str(expected_state)


def test_optimisers_run_the_users_hooks_and_are_of_torchs_classes():
    parameter = nn.Parameter(torch.ones(2))
    optimizer, called = make_optimizer("sgd", [parameter], 0.5, 0.0), []
    assert isinstance(optimizer, torch.optim.SGD)
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert called == ["after"]
    assert parameter.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "draw", [lambda: torch.randn(5), lambda: torch.nn.init.orthogonal_(torch.empty(3, 3)), lambda: F.dropout(torch.ones(9))]
)
def test_numbers_do_not_depend_on_whether_anything_is_compiled(draw):
    found = []
    for kind in (_Drawing, _DrawingUncompiled):
        with kind(3):
            found.append(draw())
    assert torch.equal(*found)
