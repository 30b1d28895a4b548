"""Reading masks: which tokens of a batch are padding, by the names and forms of masks in transformers and torch.

A name that ends in `attention_mask` keeps what is not 0; in additive form (0 and large negative numbers) it keeps what is 0.
A name that ends in `key_padding_mask` leaves out what is True, or a large negative number.
"""

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastent.errors import FastentError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "LENGTHS", "Mask", "accepted", "causal", "is_decoded", "layer_side", "mask_parameters", "mask_takers",
    "masks_of_lengths", "padded_ids", "padded_steps", "padding_ids", "read_mask", "side_of", "sided", "unclear_mask",
]  # fmt: skip

_KEEPS = re.compile(r"(?:.*_)?(?:attention_mask|pixel_mask|input_mask|token_mask|features_mask)")
_LEAVES_OUT = re.compile(r"(?:.*_)?(?:padding_mask|pad_mask)")
# Masks that say something other than what is padding.
_OTHER = re.compile(
    r"(?:.*_)?(?:global_attention_mask|cross_attention_mask|special_tokens_mask|loss_mask|head_mask|masked_pos)|mask_.*"
)
LENGTHS = ("lengths", "input_lengths", "src_lengths", "seq_lengths", "sequence_lengths", "seq_lens", "lens")
_DECODER = re.compile(r"decoder|tgt|trg|target")
_DECODED = re.compile(r"decoder_.*|(?:tgt|trg)(?:_.*)?")
_FAR_BELOW = -1e3


class Mask(NamedTuple):
    """What a mask keeps: (b, tokens) bool, or (b, height, width) of pictures; `side` is "encoder" or "decoder"."""

    name: str
    side: str
    keep: "Tensor"

    @property
    def hides(self) -> bool:
        return not bool(self.keep.all())


def read_mask(name: str, value: Any, rows: int) -> Mask | None:
    """Read a mask by its name and form; None if it is not a mask, or says which tokens see which, not which are padding."""
    import torch

    if not isinstance(value, torch.Tensor) or value.is_nested or _OTHER.fullmatch(name):
        return None
    leaves_out = bool(_LEAVES_OUT.fullmatch(name))
    if not leaves_out and not _KEEPS.fullmatch(name):
        return None
    added = value.is_floating_point() and bool((value < 0).any())
    if leaves_out and not name.endswith("key_padding_mask") and value.dtype != torch.bool and not added:
        return None  # of this name some keep what is 1: see unclear_mask
    if value.ndim == 2:
        _check_values(name, value)
    kept = _kept(value, leaves_out)
    if added and causal(kept):
        return None
    keep = kept if name.endswith(("pixel_mask", "pixel_attention_mask")) else _by_token(kept)
    if keep is None or keep.ndim < 2:
        return None
    if keep.size(0) == 1 and rows > 1:
        keep = keep.expand(rows, *keep.shape[1:])
    if keep.size(0) != rows:
        return None
    return Mask(name, "decoder" if _DECODER.search(name) else "encoder", keep)


def _check_values(name: str, value: "Tensor") -> None:
    """Refuse a mask (b, tokens) whose values are neither flags nor numbers that are added to scores."""
    flags = (value == 0) | (value == 1)
    if not value.is_floating_point():
        flags |= value > 1  # numbers of the pieces that were packed into a row
    added = (value == 0) | (value <= _FAR_BELOW) if value.is_floating_point() else flags
    if not bool(flags.all()) and not bool(added.all()):
        strange = value[~flags][0].item()
        raise FastentError(
            f"mask {name!r} holds {strange:g}: 1 for tokens and 0 for padding, True and False, or 0 and large negative numbers "
            "are needed"
        )


def _kept(value: "Tensor", leaves_out: bool) -> "Tensor":
    # A mask that keeps ones keeps something, so one of zeros only is added to scores and hides nothing.
    if value.is_floating_point() and (not bool((value > 0).any()) or bool((value < 0).any())):
        return value > _FAR_BELOW
    return (value == 0) if leaves_out else (value != 0)


def _by_token(keep: "Tensor") -> "Tensor | None":
    """(b, tokens), of what may be (b, 1, 1, tokens) or (b, heads, queries, tokens); None where that is no padding."""
    while keep.ndim > 2 and keep.size(1) == 1:
        keep = keep.squeeze(1)
    if keep.ndim == 2:
        return keep
    if keep.ndim == 4:
        keep = keep[:, 0]
    if keep.ndim != 3:
        return None
    if bool((keep == keep[:, :1]).all()):
        return keep[:, 0]
    if keep.size(1) == keep.size(2) and not bool(keep.triu(1).any()):
        return keep.diagonal(dim1=1, dim2=2)  # causal: a token that does not see itself is padding
    return None


def causal(keep: "Tensor") -> bool:
    """Whether (tokens, tokens) says that a token sees those up to itself."""
    n = keep.size(0)
    return n > 1 and tuple(keep.shape) == (n, n) and bool((keep == keep.new_ones(n, n).tril()).all())


def unclear_mask(name: str, value: Any, rows: int) -> "Tensor | None":
    """A mask, (b, tokens) bool, that may mark padding but whose name does not say whether 0 or 1 does."""
    import torch

    if "mask" not in name or _OTHER.fullmatch(name) or not isinstance(value, torch.Tensor) or value.is_nested:
        return None
    if read_mask(name, value, rows) is not None or value.ndim < 2 or value.is_complex():
        return None
    marked = _by_token(value != 0)
    if marked is None or marked.size(0) != rows or causal(marked) or causal(~marked):
        return None
    return marked if 0 < int(marked.sum()) < marked.numel() else None


def sided(model: "nn.Module", inputs: Any) -> bool:
    """Whether the model has an encoder and a decoder, with tokens of their own."""
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False) is True:
        return True
    names = list(inputs) if isinstance(inputs, Mapping) else []
    from torch import nn

    decoders = (nn.TransformerDecoderLayer, nn.Transformer)
    if any(map(is_decoded, names)) or any(isinstance(module, decoders) for module in model.modules()):
        return True
    parts = {part for name, _ in model.named_modules() for part in name.split(".")}
    return any("decoder" in part for part in parts) and any("encoder" in part for part in parts)


def is_decoded(name: Any) -> bool:
    """Whether an input, by its name, is the decoder's."""
    return isinstance(name, str) and bool(_DECODED.fullmatch(name))


def side_of(layer: str) -> str | None:
    """Whether a layer of such a model is the encoder's or the decoder's, by its name."""
    parts = layer.lower().split(".")
    if any(part.startswith(("encoder_attn", "encdecattention", "crossattention", "cross_attn")) for part in parts[:-1]):
        return "encoder" if parts[-1] in ("k", "v", "k_proj", "v_proj", "key", "value") else "decoder"
    for part in parts:
        if _DECODER.search(part):
            return "decoder"
        if "encoder" in part or part.startswith("src"):
            return "encoder"
    return None


def mask_parameters(module: "nn.Module") -> list[str]:
    """Names of the masks of padding that a module's forward takes."""
    try:
        names = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in names if not _OTHER.fullmatch(name) and (_KEEPS.fullmatch(name) or _LEAVES_OUT.fullmatch(name))]


def accepted(model: "nn.Module", inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the model is called with: without masks and lengths that its forward does not take."""
    try:
        takes = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return dict(inputs)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in takes.values()):
        return dict(inputs)

    def spare(name: Any) -> bool:
        known = isinstance(name, str) and (_KEEPS.fullmatch(name) or _LEAVES_OUT.fullmatch(name) or name in LENGTHS)
        return bool(known) and name not in takes

    return {name: value for name, value in inputs.items() if not spare(name)}


def padded_ids(ids: "Tensor", known: set[int], *, start: bool = True, end: bool = True) -> int | None:
    """The number that integer rows (b, tokens) seem to be padded with; None if they do not seem padded.

    It is one of the known padding numbers at an end of a row, or a number that occurs nowhere but in runs at that end.
    """
    if ids.size(1) < 2:
        return None
    for side in [ids] * end + [ids.flip(1)] * start:
        for value in set(side[:, -1].tolist()):
            there = side == value
            run = there.flip(1).long().cumprod(1).sum(1)  # how many at the end of each row
            if value in known and int(run.min()) < ids.size(1):
                return int(value)
            # One row that ends in a number twice may do so by chance, unless that is 0.
            long = int(run.max()) > (1 if value == 0 else 2) or int((run > 1).sum()) > 1
            nowhere_else = bool((there.sum(1) == run).all())
            if long and nowhere_else and int(run.min()) < int(run.max()) < ids.size(1):
                return int(value)
    return None


def padded_steps(steps: "Tensor") -> bool:
    """Whether (b, steps, d) seems to be padded: some rows end in steps of zeros, not all alike, and no other step is zero."""
    zero = (steps == 0).all(2)
    run = zero.flip(1).long().cumprod(1).sum(1)
    return bool((zero.sum(1) == run).all()) and int(run.min()) < int(run.max()) < steps.size(1)


def masks_of_lengths(named: Mapping[str, Any], rows: int) -> list[Mask]:
    """Masks of padding at the end, from the lengths of the inputs: for as many steps as are given, and as the longest has."""
    import torch

    for name in LENGTHS:
        lengths = named.get(name)
        if not isinstance(lengths, torch.Tensor) or lengths.is_floating_point() or lengths.shape != (rows,):
            continue
        given = [v for k, v in named.items() if isinstance(v, torch.Tensor) and k != name and v.ndim > 1 and not v.is_nested]
        steps = {int(lengths.max())} | {value.size(1) for value in given[:1]}
        return [
            Mask(name, "encoder", torch.arange(n, device=lengths.device) < lengths[:, None])
            for n in sorted(steps)
            if n >= int(lengths.max())
        ]
    return []


def padding_ids(model: "nn.Module") -> set[int]:
    """The token numbers that a model pads with, by its embeddings and its configuration."""
    from torch import nn

    found = {module.padding_idx for module in model.modules() if isinstance(module, nn.Embedding)}
    found.add(getattr(getattr(model, "config", None), "pad_token_id", None))
    return {value for value in found if isinstance(value, int)}


def layer_side(model: "nn.Module", name: str, layer: "nn.Module") -> str | None:
    """Whether a layer is the encoder's or the decoder's: by the torch class that it is a part of, or by its name."""
    from torch import nn

    decoders, encoders = (
        (nn.TransformerDecoder, nn.TransformerDecoderLayer),
        (nn.TransformerEncoder, nn.TransformerEncoderLayer),
    )
    for side, kinds in (("decoder", decoders), ("encoder", encoders)):
        if any(part is layer for whole in model.modules() if isinstance(whole, kinds) for part in whole.modules()):
            return side
    return side_of(name)


def mask_takers(model: "nn.Module") -> "dict[int, tuple[nn.Module, inspect.Signature, list[str]]]":
    """Modules whose forward takes padding masks. Parts of torch's encoders are spared: hooks would turn off their fast path."""
    from torch import nn

    encoders = [module for module in model.modules() if isinstance(module, (nn.TransformerEncoder, nn.TransformerEncoderLayer))]
    inner = {id(part) for encoder in encoders for part in encoder.modules() if part is not encoder}
    names_of: dict[type, list[str]] = {}  # classes are fewer than modules
    found = {}
    for module in model.modules():
        names = names_of.get(type(module)) if "forward" not in module.__dict__ else None
        if names is None:
            names = mask_parameters(module)
            if "forward" not in module.__dict__:
                names_of[type(module)] = names
        if names and id(module) not in inner:
            found[id(module)] = (module, inspect.signature(module.forward), names)
    return found
