"""Where a layer's channels and inputs are, and which module a name means."""

import sys
import threading
from collections import namedtuple
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn

import fastent as fe
from fastent.activations.evaluation import uncompiled
from tests.padded import Words, captured, same


class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


class Block(nn.Module):
    """As ConvNeXt has it: channels second outside, last within."""

    def __init__(self, c):
        super().__init__()
        self.depth, self.norm = nn.Conv2d(c, c, 3, padding=1, groups=c), nn.LayerNorm(c)
        self.wide, self.act, self.narrow, self.drop = nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c), nn.Dropout()

    def forward(self, x):
        inner = self.narrow(self.act(self.wide(self.norm(self.depth(x).permute(0, 2, 3, 1)))))
        return x + self.drop(inner.permute(0, 3, 1, 2))


class RootNorm(nn.Module):
    """A scaled norm of somebody's own, on the last axis."""

    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(c))

    def forward(self, x):
        return self.weight * x / x.norm(dim=-1, keepdim=True)


def stages():
    """Of pictures (n, 3, 16, 12), from channels second to channels last; the axes of positions after each."""
    torch.manual_seed(0)
    second, last = (2, 3), (1, 2)
    layers = [
        (nn.Conv2d(3, 5, 2, 2), second), (nn.BatchNorm2d(5), second), (nn.ReLU(), second), (Block(5), second),
        (nn.GroupNorm(5, 5), second), (nn.Dropout(), second), (Permute(0, 2, 3, 1), last), (nn.Identity(), last),
        (nn.LayerNorm(5), last), (nn.Sequential(nn.Linear(5, 7), nn.GELU()), last), (RootNorm(7), last), (nn.SiLU(), last),
        (nn.Linear(7, 6), last), (Permute(0, 3, 1, 2), second), (nn.Conv2d(6, 4, 3), second), (nn.Tanh(), second),
    ]  # fmt: skip
    return nn.Sequential(*(module for module, _ in layers)).eval(), [axes for _, axes in layers]


@pytest.mark.parametrize("i", range(16))
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_positions_of_pictures(tmp_path, i, memory):
    model, axes = stages()
    X = torch.randn(3, 3, 16, 12, generator=torch.Generator().manual_seed(1))
    expected = model[: i + 1](X).mean(axes[i])
    model, X = model.to(memory_format=memory), X.to(memory_format=memory)
    same(captured(tmp_path, model, [X[:2], X[2:]], str(i)), expected)
    same(captured(tmp_path, model, [X], str(i), "flatten"), model[: i + 1](X).flatten(1))


@pytest.mark.parametrize(
    ("name", "axes"), [("depth", (2, 3)), ("norm", (1, 2)), ("wide", (1, 2)), ("act", (1, 2)), ("", (2, 3))]
)
def test_positions_within_a_block(tmp_path, name, axes):
    torch.manual_seed(0)
    model, X, found = Block(5).eval(), torch.randn(2, 5, 6, 7), {}
    hook = dict(model.named_modules())[name].register_forward_hook(
        lambda module, given, output: found.update(x=output.detach())
    )
    model(X)
    hook.remove()
    same(captured(tmp_path, model, [X], name), found["x"].mean(axes))


def test_positions_of_signals_come_last_after_an_activation_too(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv1d(2, 3, 3), nn.GELU()), nn.Dropout(), Permute(0, 2, 1), nn.Linear(3, 4), nn.ReLU()
    )
    X = torch.randn(5, 2, 9)
    model.eval()
    for i, axis in enumerate((2, 2, 1, 1, 1)):
        same(captured(tmp_path, model, [X], str(i)), model[: i + 1](X).mean(axis))
    same(captured(tmp_path, model, [X], "0.1"), model[0](X).mean(2))


def test_a_cube_in_a_model_of_both_kinds_is_said(tmp_path):
    """(n, 4, 4, 4): the norm knows its axis, the permutation does not."""
    X = torch.randn(3, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 2, 2), Permute(0, 2, 3, 1), nn.LayerNorm(4))
    same(captured(tmp_path, model, [X], "2"), model(X).mean((1, 2)))
    with pytest.warns(UserWarning, match="whose channels may come second or last"):
        captured(tmp_path, model, [X], "1")
    plain = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ReLU())
    same(captured(tmp_path, plain, [X], "1"), plain(X).mean((2, 3)))


class StepsFirst(nn.Module):
    def __init__(self, kind=nn.GRU):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = kind(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.rnn(x.transpose(0, 1))[0])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_steps_that_come_before_inputs(tmp_path, kind):
    model, X = StepsFirst(kind), torch.randn(5, 7, 3)
    rows = model.rnn(X.transpose(0, 1))[0].transpose(0, 1)
    for pooling, expected in (
        ("mean", rows.mean(1)),
        ("last", rows[:, -1]),
        ("tokens", rows.flatten(0, 1)),
        ("flatten", rows.flatten(1)),
    ):
        same(captured(tmp_path, model, [X[:3], X[3:]], "rnn", pooling), expected)
    same(captured(tmp_path, model, [X], "head"), model.head(rows).mean(1))


def test_as_many_steps_as_inputs(tmp_path):
    model, X, Z = StepsFirst(), torch.randn(7, 7, 3), torch.randn(4, 7, 3)
    rows = model.rnn(X.transpose(0, 1))[0].transpose(0, 1)
    same(captured(tmp_path, model, [X], "rnn"), rows.mean(1))
    with pytest.raises(fe.FastentError, match=r"layer 'head' puts out shape \(7, 7, 2\) for 7 inputs: .* another batch size"):
        captured(tmp_path, model, [X], "head")
    # After a batch that could be told, it is known.
    expected = torch.cat([model(Z).transpose(0, 1).mean(1), model.head(rows).mean(1)])
    same(captured(tmp_path, model, [Z, X], "head"), expected)


# What a layer puts out


@dataclass
class Answer:
    loss: object
    hidden: torch.Tensor


Pair = namedtuple("Pair", "hidden other")
FORMS = {
    "tuple": lambda h: (h, None),
    "list": lambda h: [h, h + 1],
    "dict": lambda h: {"hidden": h, "more": h + 1},
    "nested": lambda h: ((None, h), h + 1),
    "namedtuple": lambda h: Pair(h, h + 1),
    "dataclass": lambda h: Answer(None, h),
}


class Puts(nn.Module):
    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.form, self.layer = form, nn.Linear(3, 4)

    def forward(self, x):
        return self.form(self.layer(x))


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        self.inner(x)
        return x


@pytest.mark.parametrize("form", FORMS)
def test_the_first_tensor_of_what_a_layer_puts_out(tmp_path, form):
    model, X = Around(Puts(FORMS[form])), torch.randn(5, 6, 3)
    same(captured(tmp_path, model, [X], "inner"), model.inner.layer(X).mean(1))


def test_in_inference_mode(tmp_path):
    with torch.inference_mode():
        model, X = Words(), torch.arange(1, 21).reshape(4, 5)
        same(captured(tmp_path, model, [X], "layer"), model.layer(model.embed(X)).mean(1))


def test_labels_that_are_no_numbers(tmp_path):
    with pytest.raises(fe.FastentError, match="labels that are no tensor of numbers"):
        captured(tmp_path, nn.Linear(3, 2), [(torch.zeros(2, 3), ["a", "b"])], "")


# Names


def three():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


class Body(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)


compiled = partial(torch.compile, backend="eager")


def in_place(model):
    model.compile(backend="eager")
    return model


def by_method():
    model = Body(three())
    model.forward = compiled(model.forward)
    return model


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Body(compiled(three())), ["body.1", "body._orig_mod.1"]),
        (lambda: compiled(Body(three())), ["body.1", "_orig_mod.body.1"]),
        (lambda: compiled(Body(compiled(three()))), ["body.1", "_orig_mod.body._orig_mod.1"]),
        (lambda: Body(in_place(three())), ["body.1"]),
        (lambda: in_place(Body(three())), ["body.1"]),
        (lambda: Body(nn.Sequential(three()[0], compiled(nn.Tanh()))), ["body.1", "body.1._orig_mod"]),
        (by_method, ["body.1"]),
        (lambda: nn.DataParallel(Body(three())), ["body.1", "module.body.1"]),
        (lambda: Body(nn.DataParallel(three())), ["body.1", "body.module.1"]),
        (lambda: nn.DataParallel(compiled(Body(three()))), ["body.1", "module._orig_mod.body.1"]),
    ],
)
def test_layers_of_compiled_and_wrapped_models_by_either_name(tmp_path, make, names):
    X = torch.randn(6, 3)
    expected = three()[:2](X)
    for warm in (False, True):
        for name in names:
            torch._dynamo.reset()
            model = make()
            if warm:  # compiled before there are hooks
                with torch.no_grad():
                    model(X)
            same(captured(tmp_path, model, [X], name), expected)
    with pytest.raises(fe.FastentError, match=r"no layer 'body\.7': choose from 'body"):
        captured(tmp_path, make(), [X], "body.7")


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch < 2.6 has no stances")
def test_the_last_of_several_threads_compiles_again():
    assert "torch._dynamo" in sys.modules or torch._dynamo
    stance = torch._dynamo.eval_frame._stance.stance
    inside, leave = threading.Event(), threading.Event()

    def other():
        with uncompiled():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with uncompiled():
        thread.start()
        assert inside.wait(20)
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"
    leave.set()
    thread.join()
    assert torch._dynamo.eval_frame._stance.stance == stance


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 3)
        self.stack = nn.ModuleList([nn.Sequential(self.first, nn.Tanh())] * 2)

    def forward(self, x):
        return self.stack[1](x)


def test_every_name_of_a_shared_module(tmp_path):
    model, X = Tied(), torch.randn(4, 3)
    names = ["first", "stack.0", "stack.1", "stack.1.0", "stack.0.1"]
    store = fe.capture(model, [X], names, tmp_path, dtype="float32")
    for name in names:
        same(store.layer(name)[:], model.first(X) if name in ("first", "stack.1.0") else model(X))


class Twice(Tied):
    def forward(self, x):
        return self.stack[1](self.stack[0](x))


def test_a_module_called_under_two_names_is_refused_with_both(tmp_path):
    message = r"layer 'stack.1' is called more than once in a pass \(it is 'stack.0', 'stack.1'\)"
    with pytest.raises(fe.FastentError, match=message):
        captured(tmp_path, Twice(), [torch.randn(4, 3)], "stack.1")


def test_parts_of_traced_models_are_refused(tmp_path):
    traced = torch.jit.trace(three(), torch.randn(2, 3))
    with pytest.raises(fe.FastentError, match=r"layer '1' is part of a torch\.jit module"):
        captured(tmp_path, traced, [torch.randn(2, 3)], "1")


def test_names_with_colons_are_opened_by_text(tmp_path):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleDict({"a:b": nn.Linear(3, 2), "a": nn.Linear(3, 4)})

        def forward(self, x):
            return self.heads["a:b"](x), self.heads["a"](x)

    folder = tmp_path / "with:colon"
    fe.capture(Heads(), [torch.randn(4, 3)], ["heads.a:b", "heads.a"], folder)
    assert fe.open(f"{folder}:heads.a:b").shape == (4, 2)
    assert fe.open(f"{folder}:heads.a").shape == (4, 4)


# Margins at layers


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel, in_place])
def test_margins_at_the_layers_of_wrapped_models(wrap):
    X, y = torch.randn(12, 3), torch.arange(12) % 2
    expected = fe.layer_margins(Body(three()), [(X, y)], ["body.0", "body.2"])
    for model in (wrap(Body(three())), Body(wrap(three()))):
        for layers in (None, ["body.0", "body.2"]):
            found = fe.layer_margins(model, [(X, y)], layers)
            assert found.layers == ("body.0", "body.2")
            same(found.margin, expected.margin)


def test_margins_take_no_steps_for_points():
    class Last(StepsFirst):
        def forward(self, x):
            return super().forward(x)[-1]

    with pytest.raises(fe.FastentError, match=r"the input of layer 'rnn' has shape \(7, 7, 3\) for 7 points"):
        fe.layer_margins(Last(), [(torch.randn(7, 7, 3), torch.arange(7) % 2)], ["rnn"])
