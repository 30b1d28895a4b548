"""Which axis of a layer's output holds the inputs, and which the channels; and the rows that are kept.

All other axes are positions (tokens, pixels).

The class of a linear layer, a convolution or a normalisation says where its channels are. An activation, a block or a whole
stage takes its axes from the module of a known class whose output has the same shape: one of its own parts, or else any module
that was called before it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from fastent.errors import FastentError, warn

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LAST", "POOLINGS", "Layouts", "flattened", "inputs_first", "pooled", "positions_of", "telling", "token_labels"]

FIRST, LAST = 1, -1  # where the channels are

_COUNTS = ("out_channels", "num_channels", "num_features", "out_features", "embedding_dim", "nf")
_OF_LAST_AXIS = ("nn.Linear", "nn.Embedding", "nn.RNNBase", "nn.MultiheadAttention", "nn.LayerNorm", "nn.RMSNorm")


class _Seen(NamedTuple):
    module: int  # its id
    shape: tuple[int, ...]
    axis: int


def _attention_classes() -> tuple[type, ...]:
    from torch import nn

    layers = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.MultiheadAttention)
    return (*layers, nn.TransformerEncoder, nn.TransformerDecoder, nn.Transformer)


def channels_of(module: "nn.Module", shape: tuple[int, ...]) -> int | None:
    """The axis of the channels in a module's output, where its class or its own numbers tell."""
    from torch import nn

    if len(shape) < 3:
        return None
    kind = type(module)
    count = _declared(module)
    fits = [axis for axis in (FIRST, LAST) if count is not None and shape[axis] == count]
    if kind.__name__.endswith(("1d", "2d", "3d")):
        return LAST if fits == [LAST] else FIRST
    if isinstance(module, nn.GroupNorm):
        return FIRST
    by_last_axis = [getattr(nn, name.removeprefix("nn.")) for name in _OF_LAST_AXIS if hasattr(nn, name.removeprefix("nn."))]
    if count is not None and shape[-1] == count and any(kind.forward is known.forward for known in by_last_axis):
        return LAST
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return LAST
    return fits[0] if len(fits) == 1 else None


def _declared(module: "nn.Module") -> int | None:
    """How many channels a module puts out, by its attributes."""
    for name in _COUNTS:
        if isinstance(count := getattr(module, name, None), int):
            return count
    shape = getattr(module, "normalized_shape", None)
    if isinstance(shape, (tuple, list)):
        return shape[0] if len(shape) == 1 else None  # over several axes it may normalise either
    weight = getattr(module, "weight", None) if type(module).__name__.endswith("Norm") else None
    return len(weight) if weight is not None and weight.ndim == 1 else None


def telling(model: "nn.Module") -> "list[nn.Module]":
    """The modules whose outputs tell the layout of others."""
    from torch import nn

    attention = _attention_classes()
    # Hooks on the parts of torch's own transformer layers would turn off their fast path.
    spared = {id(part) for module in model.modules() if isinstance(module, attention) for part in module.modules()}
    known = (nn.RNNBase, nn.GroupNorm)
    return [
        module
        for module in model.modules()
        if id(module) not in spared
        and (isinstance(module, known) or type(module).__name__.endswith(("1d", "2d", "3d")) or _declared(module) is not None)
    ]


class Layouts:
    """The layouts of some layers of a model; what is found for a layer in one batch holds in the next."""

    def __init__(self, model: "nn.Module", layers: "Mapping[str, nn.Module]") -> None:
        from torch import nn

        self._seen: list[_Seen] = []
        self._axes: dict[tuple[str, int], int] = {}
        self._steps_first: dict[str, bool] = {}
        self._told = {name: _told_by_class(model, module) for name, module in layers.items()}
        attention = {id(part) for each in model.modules() if isinstance(each, _attention_classes()) for part in each.modules()}
        self._warned: set[str] = set()
        self._cubes: dict[str, tuple[tuple[int, ...], int]] = {}
        self._in_attention = {name for name, module in layers.items() if id(module) in attention}
        kinds = (nn.RNNBase, nn.MultiheadAttention, nn.Transformer)
        self._mixed = any(isinstance(each, kinds) and not each.batch_first for each in model.modules())

    def begin(self) -> None:
        self._seen.clear()
        self._cubes.clear()

    def end(self) -> None:
        """Warn about layers whose shape is ambiguous, such as (b, 8, 8, 8), in a model that puts channels second and last."""
        for name, (shape, axis) in self._cubes.items():
            if len({seen.axis for seen in self._seen if len(seen.shape) == len(shape)}) > 1:
                self.say_unsure(name, shape, axis)

    def see(self, module: "nn.Module", output: "Tensor") -> None:
        """Note the layout of what such a module put out."""
        axis = channels_of(module, shape := tuple(output.shape))
        if axis is not None:
            self._seen.append(_Seen(id(module), shape, axis))

    def steps_first(self, name: str, output: "Tensor", rows: int) -> bool | None:
        """Whether the output is (steps, inputs, d), as of torch's recurrent layers; None where it is neither."""
        shape = tuple(output.shape)
        first, second = shape[0] == rows, len(shape) > 2 and shape[1] == rows
        told = self._told[name]
        if told is None and self._mixed and first and second:
            if name not in self._steps_first:
                raise FastentError(
                    f"layer {name!r} puts out shape {shape} for {rows} inputs: in a model that puts steps first "
                    "(batch_first=False) either axis may be the inputs; use another batch size"
                )
            return self._steps_first[name]
        if told if told is not None and len(shape) > 2 else self._mixed and second and not first:
            return self._keep(name, True) if second else None
        return self._keep(name, False) if first else None

    def _keep(self, name: str, value: bool) -> bool:
        self._steps_first[name] = value
        return value

    def channels(self, name: str, module: "nn.Module", shape: tuple[int, ...], steps_first: bool) -> tuple[int, bool]:
        """The axis of the channels of an output of three axes or more, and whether that is sure."""
        if steps_first or name in self._in_attention:
            return LAST, True
        kept = self._axes.get((name, len(shape)))
        if kept is not None:
            return kept, True
        axis = channels_of(module, shape)
        if axis is None:
            parts = {id(part) for part in module.modules()}
            own = [seen for seen in self._seen if seen.module in parts]
            axis = _agreed(own, shape) or _agreed(self._seen, shape)
            if axis is not None and len(set(shape[1:])) == 1:
                self._cubes[name] = shape, axis
                return axis, True
        if axis is not None:
            self._axes[name, len(shape)] = axis
            return axis, True
        alike = {seen.axis for seen in self._seen if len(seen.shape) == len(shape)}
        usual = LAST if len(shape) == 3 else FIRST
        return (alike.pop() if len(alike) == 1 else usual), len(alike) < 2

    def say_unsure(self, name: str, shape: tuple[int, ...], axis: int) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warn(
                f"layer {name!r} puts out shape {shape}, whose channels may come second or last: the "
                f"{'second' if axis == FIRST else 'last'} axis is taken; a normalisation or linear layer next to it is clear"
            )


def _told_by_class(model: "nn.Module", layer: "nn.Module") -> bool | None:
    """Whether steps come first, where torch's own class of a layer, or of what it is a part of, says so."""
    from torch import nn

    if isinstance(layer, nn.RNNBase):
        return not layer.batch_first
    for whole in model.modules():
        if isinstance(whole, _attention_classes()) and any(part is layer for part in whole.modules()):
            attention = next((part for part in whole.modules() if isinstance(part, nn.MultiheadAttention)), None)
            return None if attention is None else not attention.batch_first
    return None


def _agreed(seen: list[_Seen], shape: tuple[int, ...]) -> int | None:
    """The axis of the channels by outputs of the same shape, of the same with its axes moved, or with as many channels."""
    same = {each.axis for each in seen if each.shape == shape}
    if same:
        return same.pop() if len(same) == 1 else None
    moved = {
        -each.axis for each in seen if len(each.shape) == len(shape) and shape == _with_channels_moved(each.shape, each.axis)
    }
    if moved:
        return moved.pop() if len(moved) == 1 else None
    counts = {each.shape[each.axis] for each in seen}
    fits = [axis for axis in (FIRST, LAST) if shape[axis] in counts]
    return fits[0] if len(fits) == 1 else None


def _with_channels_moved(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1]) if axis == FIRST else (shape[0], shape[-1], *shape[1:-1])


def inputs_first(output: "Tensor", steps_first: bool) -> "Tensor":
    return output.transpose(0, 1) if steps_first else output


POOLINGS = ("mean", "cls", "last", "tokens", "flatten")


def positions_of(output: "Tensor", channels: int) -> tuple[int, ...]:
    """The sizes of the axes of positions, in order."""
    return tuple(output.shape[2:] if channels == 1 else output.shape[1:-1])


def flattened(output: "Tensor", keep: "Tensor | None" = None) -> "Tensor":
    """(b, everything), with zeros at padding."""
    if keep is not None:
        output = output.masked_fill(~_as_mask(keep, -1), 0)
        return output.reshape(len(output), -1)
    return output.reshape(len(output), -1).clone()


def pooled(name: str, output: "Tensor", pooling: str, channels: int, keep: "Tensor | None") -> "Tensor":
    """(b, d), or for "tokens" (tokens, d); of its own memory, since what follows the layer may change its output in place.

    Parameters
    ----------
    output : (b, ...) of three axes or more
    channels : 1 or -1
        Their axis.
    keep : (b, positions...) bool, optional
        False for padding; something is kept of each input.
    """
    if pooling == "mean":
        return _mean(output, channels, keep)
    if pooling == "tokens":
        tokens = output.movedim(channels, -1)
        return tokens[keep] if keep is not None else tokens.reshape(-1, tokens.size(-1)).clone()
    if channels == 1 or output.ndim > 3:
        raise FastentError(
            f"layer {name!r} puts out shape {tuple(output.shape)}, which has no tokens: use pooling='mean' or 'flatten'"
        )
    rows, n = output.size(0), output.size(1)
    if keep is None:
        return output[:, 0 if pooling == "cls" else n - 1].clone()
    import torch

    at = keep.long().argmax(1) if pooling == "cls" else n - 1 - keep.flip(1).long().argmax(1)
    return output[torch.arange(rows, device=output.device), at]


def _mean(output: "Tensor", channels: int, keep: "Tensor | None") -> "Tensor":
    import torch

    # In float32 at least: a mean of many halves would be rounded to a half, and their sum may overflow.
    kind = torch.promote_types(output.dtype, torch.float32)
    if keep is None:
        return output.flatten(2).mean(2, dtype=kind) if channels == 1 else output.flatten(1, -2).mean(1, dtype=kind)
    kept = _as_mask(keep, channels)
    axes = tuple(range(2, output.ndim)) if channels == 1 else tuple(range(1, output.ndim - 1))
    total: Tensor = output.masked_fill(~kept, 0).sum(axes, dtype=kind)
    mean: Tensor = total / keep.flatten(1).sum(1)[:, None]
    return mean


def _as_mask(keep: "Tensor", channels: int) -> "Tensor":
    return keep.unsqueeze(1) if channels == 1 else keep.unsqueeze(-1)


def token_labels(labels: "Tensor | None", keep: "Tensor") -> "Tensor | None":
    """A label for each token that is kept: its own, of labels (b, tokens), or that of its input, of labels (b,)."""
    if labels is None:
        return None
    keep = keep.to(labels.device)
    if labels.ndim == 1:
        return labels.repeat_interleave(keep.sum(1))
    if labels.shape != keep.shape:
        raise FastentError(
            f"loader yields labels of shape {tuple(labels.shape)} for tokens of shape {tuple(keep.shape)}: one label for each "
            "token, padding included, or one for each input is needed"
        )
    return labels[keep]
