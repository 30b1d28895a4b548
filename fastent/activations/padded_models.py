"""What a model's modules tell about padding before it runs: which take masks, what side a layer is on, which ids pad."""

from typing import TYPE_CHECKING

from fastent.activations.masks import mask_parameters, side_of

if TYPE_CHECKING:
    import inspect

    from torch import nn

__all__ = ["layer_side", "mask_takers", "padding_ids"]


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
    from inspect import signature

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
            found[id(module)] = (module, signature(module.forward), names)
    return found
