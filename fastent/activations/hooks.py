"""What a live model's layers put out: one vector for each input, batch by batch; the model is left as it was.

with hooked(model, ["encoder.layers.1", "head"], pooling="mean") as run_model:
    for inputs, labels in batches(loader, device):
        output, found = run_model(inputs)  # found["head"]: (b, d)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastent.activations.batching import Inputs, first_tensor, n_rows
from fastent.activations.evaluation import aliases, evaluating, named_layers, uncompiled, unwrapped
from fastent.activations.layouts import LAST, POOLINGS, Layouts, flattened, inputs_first, pooled, positions_of, telling
from fastent.activations.masks import accepted
from fastent.activations.padding import Padding
from fastent.errors import FastentError
from fastent.options import choice

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["HookedModel", "hooked"]


@contextmanager
def hooked(model: "nn.Module", layers: Sequence[str], pooling: str = "mean") -> "Iterator[HookedModel]":
    """Yield `run_model(inputs)`, which runs the model and returns its output and each layer's (b, d).

    The model runs in eval mode without gradients. Afterwards, also after errors, it is as it was, without hooks.

    Parameters
    ----------
    model : torch.nn.Module
        Inside wrappers for several devices and for compilation, the inner module runs; compiled parts run as they were
        written.
    layers : sequence of str
        Names as in `model.named_modules()`; "" is the model itself.
    pooling : "mean", "cls", "last", "tokens" or "flatten"
        What is kept of a layer that puts out positions or tokens: see `fe.capture`. (b, d) stays what it is.

    Raises
    ------
    FastentError
        Unknown layers and poolings; from `run_model`, layers that are not called, or are called twice in a pass, or that put
        out no tensor of real numbers with one row for each input.
    """
    model = unwrapped(model)
    modules = named_layers(model, layers)
    choice("pooling", pooling, POOLINGS)
    run_model = HookedModel(model, modules, pooling)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(uncompiled())
        run_model.attach(stack)
        yield run_model


class HookedModel:
    """Runs the model on inputs; returns its output and for each layer (b, d), or (tokens, d) for pooling="tokens".

    Attributes
    ----------
    kept_tokens : (b, tokens) bool tensor, or None
        After a pass with pooling="tokens": which tokens there is a row for.
    """

    def __init__(self, model: "nn.Module", modules: "dict[str, nn.Module]", pooling: str) -> None:
        self._model, self._modules, self._pooling = model, modules, pooling
        self._layouts = Layouts(model, modules)
        self._padding = Padding(model, modules, pooling)
        self._rows = 0
        self._found: dict[str, Tensor] = {}
        self._waiting: dict[str, tuple[Tensor, int]] = {}
        self.kept_tokens: Tensor | None = None

    def attach(self, stack: ExitStack) -> None:
        """Hook the layers, and the modules that tell their layout and padding."""
        if self._pooling != "flatten":
            for module in telling(self._model):
                stack.callback(module.register_forward_hook(self._tell).remove)
        for module in self._padding.takers:
            stack.callback(module.register_forward_pre_hook(self._padding.called, with_kwargs=True).remove)
        for name, module in self._modules.items():
            stack.callback(module.register_forward_hook(partial(self._note, name)).remove)

    def __call__(self, given: Inputs) -> "tuple[Any, dict[str, Tensor]]":
        self._found, self._waiting, self.kept_tokens = {}, {}, None
        self._rows = n_rows(given)
        self._layouts.begin()
        self._padding.begin(given, self._rows)
        output = self._model(**accepted(self._model, given)) if isinstance(given, Mapping) else self._model(given)
        for name, (tensor, channels) in self._waiting.items():
            self._keep(name, tensor, channels, self._padding.of(name, positions_of(tensor, channels), True))
        for name, module in self._modules.items():
            if name not in self._found:
                raise FastentError(f"layer {name!r} {_why_not(module)}")
        self._layouts.end()
        return output, {name: self._found[name] for name in self._modules}

    def _tell(self, module: "nn.Module", given: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and not tensor.is_nested:
            self._layouts.see(module, tensor)

    def _note(self, name: str, module: "nn.Module", given: Any, output: Any) -> None:
        if name in self._found or name in self._waiting:
            names = ", ".join(map(repr, aliases(self._model, module)))
            also = f" (it is {names})" if "," in names else ""
            raise FastentError(
                f"layer {name!r} is called more than once in a pass{also}, so it has no one output: choose others"
            )
        tensor, keep = self._opened(name, output)
        steps_first = None
        if tensor is not None and tensor.is_floating_point() and tensor.ndim:
            steps_first = False if keep is not None else self._layouts.steps_first(name, tensor, self._rows)
        if tensor is None or steps_first is None or tensor.size(int(steps_first)) != self._rows:
            what = "no tensor" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise FastentError(
                f"layer {name!r} puts out {what} for {self._rows} inputs: choose layers that put out real numbers, "
                "(inputs, ...)"
            )
        shape = tuple(tensor.shape)
        tensor = inputs_first(tensor.detach(), steps_first)
        if tensor.ndim <= 2:
            if self._pooling == "tokens":
                raise FastentError(
                    f"layer {name!r} puts out shape {shape}, which has no tokens: choose others, or keep it with pooling='mean'"
                )
            self._found[name] = flattened(tensor)
            return
        channels = LAST
        if keep is None and self._pooling != "flatten":
            channels, sure = self._layouts.channels(name, module, shape, steps_first)
            if not sure:
                self._layouts.say_unsure(name, shape, channels)
        elif keep is None and tensor.ndim > 3:
            self._found[name] = flattened(tensor)
            return
        positions = positions_of(tensor, channels)
        if keep is None:
            wait = self._padding.more_to_come(name)
            keep = self._padding.of(name, positions, not wait)
            if keep is None and wait:
                self._waiting[name] = tensor.clone(), channels
                return
        self._keep(name, tensor, channels, keep)

    def _opened(self, name: str, output: Any) -> "tuple[Tensor | None, Tensor | None]":
        """A layer's tensor; if its rows have different lengths, padded with zeros, and a mask of what is not padding."""
        import torch

        first = output[0] if isinstance(output, tuple) and type(output) is tuple and output else output  # of (output, state)
        if isinstance(first, torch.nn.utils.rnn.PackedSequence):
            tensor, lengths = torch.nn.utils.rnn.pad_packed_sequence(first, batch_first=True)
        else:
            found = first_tensor(output)
            if found is None or not found.is_nested:
                return found, None
            rows = list(found.detach().unbind())
            tensor = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            lengths = torch.tensor([len(row) for row in rows])
        if not lengths.all():
            raise FastentError(
                f"layer {name!r} puts out nothing for input {int((lengths == 0).nonzero()[0, 0])} of a batch: drop it"
            )
        missing = self._padding.width(lengths) - tensor.size(1)
        if missing > 0:
            tensor = torch.cat([tensor, tensor.new_zeros(tensor.size(0), missing, *tensor.shape[2:])], 1)
        lengths = lengths.to(tensor.device)
        return tensor, torch.arange(tensor.size(1), device=tensor.device) < lengths[:, None]

    def _keep(self, name: str, tensor: "Tensor", channels: int, keep: "Tensor | None") -> None:
        if self._pooling == "flatten":
            self._found[name] = flattened(tensor, keep)
            return
        self._found[name] = pooled(name, tensor, self._pooling, channels, keep)
        if self._pooling == "tokens":
            self._check_tokens(name, tensor, channels, keep)

    def _check_tokens(self, name: str, tensor: "Tensor", channels: int, keep: "Tensor | None") -> None:
        """Refuse layers whose rows are of different tokens."""
        if keep is None:
            keep = tensor.new_ones((self._rows, *positions_of(tensor, channels)), dtype=bool)  # type: ignore[call-overload]
        keep = keep.flatten(1)
        others = self.kept_tokens
        if others is None:
            self.kept_tokens = keep
        elif others.shape != keep.shape or not bool((others == keep).all()):
            first = next(iter(self._found))
            raise FastentError(
                f"layers {first!r} and {name!r} differ in their tokens ({int(others.sum())} of {tuple(others.shape)} and "
                f"{int(keep.sum())} of {tuple(keep.shape)} are not padding): with pooling='tokens', capture them separately"
            )


def _why_not(module: "nn.Module") -> str:
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return "is part of a torch.jit module, which runs its parts unseen: choose the whole, or use the model it was made from"
    return "is not called by the model: choose others"
