"""From a layer's output (b, positions..., channels), with axes in any order, to the rows that are kept."""

from typing import TYPE_CHECKING

from fastent.errors import FastentError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["POOLINGS", "flattened", "pooled", "positions_of", "token_labels"]

POOLINGS = ("mean", "cls", "last", "tokens", "flatten")


def positions_of(output: "Tensor", channels: int) -> tuple[int, ...]:
    """The sizes of the axes of positions, in order."""
    return tuple(output.shape[2:] if channels == 1 else output.shape[1:-1])


def flattened(output: "Tensor", keep: "Tensor | None" = None) -> "Tensor":
    """(b, everything), with zeros at padding."""
    if keep is not None:
        output = output.masked_fill(~_as_mask(keep, output, -1), 0)
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
    kept = _as_mask(keep, output, channels)
    axes = tuple(range(2, output.ndim)) if channels == 1 else tuple(range(1, output.ndim - 1))
    total: Tensor = output.masked_fill(~kept, 0).sum(axes, dtype=kind)
    mean: Tensor = total / keep.flatten(1).sum(1)[:, None]
    return mean


def _as_mask(keep: "Tensor", output: "Tensor", channels: int) -> "Tensor":
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
