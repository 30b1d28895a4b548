"""Which tokens of a layer's output are padding: from the masks in the batch, and those that the model passes to its parts.

A mask counts for layers with as many tokens as it has. In a model with an encoder and a decoder, the encoder's masks do not
count for the decoder's layers. Padding that no mask describes is refused, or reported in a warning.
"""

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from fastent.activations.batching import first_tensor
from fastent.activations.masks import (
    LENGTHS,
    Mask,
    causal,
    is_decoded,
    layer_side,
    mask_takers,
    masks_of_lengths,
    padded_ids,
    padded_steps,
    padding_ids,
    read_mask,
    side_of,
    sided,
    unclear_mask,
)
from fastent.errors import FastentError, warn

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Padding"]

_REMEDY = (
    "add {} (batch, tokens) to the batch, 1 for tokens and 0 for padding; it is used for pooling even if the model's "
    "forward does not take it"
)


class Padding:
    """The masks of each pass: `begin` takes the batch, `called` the calls of modules, `of` returns the mask of a layer."""

    def __init__(self, model: "nn.Module", layers: "Mapping[str, nn.Module]", pooling: str) -> None:
        self._model, self._pooling = model, pooling
        self._names = {id(module): name for name, module in model.named_modules()}
        holding = [(sum(1 for _ in whole.modules()), whole) for whole in model.modules()]
        holding.sort(key=lambda each: each[0])
        # The modules that a layer is a part of, the smallest first.
        self._around = {
            name: [id(whole) for _, whole in holding if any(part is layer for part in whole.modules())]
            for name, layer in layers.items()
        }
        self._sides = {name: layer_side(model, name, layer) for name, layer in layers.items()}
        self._takers = mask_takers(model)
        self._decoders = {
            id(module)
            for module in self.takers
            if side_of(self._names[id(module)]) == "decoder" or (module is not model and sided(module, ()))
        }
        self._known_ids = padding_ids(model)
        self._warned: set[str] = set()
        self._calls: dict[int, list[Mask]] = {}
        self._to_come: set[int] = set()
        self._batch: list[Mask] = []
        self._inputs: Any = None
        self._sided, self._decoding, self._rows = False, False, 0

    @property
    def takers(self) -> "list[nn.Module]":
        """The modules whose calls must be passed to `called`."""
        return [module for module, _, _ in self._takers.values()]

    def begin(self, inputs: Any, rows: int) -> None:
        self._inputs, self._rows, self._calls, self._decoding = inputs, rows, {}, False
        self._to_come = set(self._takers)
        self._sided = sided(self._model, inputs)
        named = inputs if isinstance(inputs, Mapping) else {}
        self._batch = [mask for name, value in named.items() if (mask := read_mask(str(name), value, rows)) is not None]
        for mask in self._batch:
            if mask.keep.ndim == 2 and causal(mask.keep):
                self._say(
                    f"{mask.name} of shape {tuple(mask.keep.shape)} is lower triangular: it is used as a padding mask, with "
                    "each input one token longer than the one before; rename it if it is a causal mask"
                )
        self._batch += masks_of_lengths(named, rows)

    def called(self, module: "nn.Module", given: tuple[Any, ...], by_name: dict[str, Any]) -> None:
        _, signature, names = self._takers[id(module)]
        self._to_come.discard(id(module))
        module_name = self._names[id(module)]
        self._decoding |= id(module) in self._decoders
        try:
            bound = signature.bind_partial(*given, **by_name).arguments
        except TypeError:
            return
        if bound.get("query") is not bound.get("key"):
            return  # the mask is of the keys, and the output has the tokens of the queries
        for name in names:
            shape: tuple[int, ...] = tuple(getattr(bound.get(name), "shape", ()))
            mask = read_mask(name, bound.get(name), self._rows)
            # One that hides nothing may have been made up, where none was given; so may one that is causal.
            if mask is None or not mask.hides or mask.keep.ndim != 2 or causal(mask.keep):
                continue
            if len(shape) > 2 and shape[-2] > 1:
                continue
            hinted = any(hint in name for hint in ("encoder", "decoder", "src", "tgt", "memory"))
            side = mask.side if hinted else side_of(module_name) or mask.side
            self._calls.setdefault(id(module), []).append(mask._replace(side=side))

    def more_to_come(self, name: str) -> bool:
        """Whether a module that is called later may tell the mask of this layer, which is still unknown."""
        misfit = any(mask.hides for mask in self._batch)  # as a mask of samples, where a layer has frames
        return bool(self._to_come) and (misfit or not any(whole in self._takers for whole in self._around[name]))

    def of(self, name: str, positions: tuple[int, ...], last_word: bool) -> "Tensor | None":
        """(b, positions...) bool, False for padding; None where there is none, or none is known.

        Parameters
        ----------
        last_word : bool
            Whether all masks have been seen: what cannot be told then is refused, or said in a warning.
        """
        side = self._sides[name] if self._sided else None
        around = [mask for whole in self._around[name] for mask in self._calls.get(whole, [])]
        batch, anywhere = self._batch, [mask for masks in self._calls.values() for mask in masks]
        if self._sees_pictures(name, positions):
            around, batch, anywhere = _of_pictures(around), _of_pictures(batch), _of_pictures(anywhere)
        for masks in (around, batch, anywhere):
            mask = self._chosen(name, side, masks, positions, masks is around)
            if mask is not None:
                if self._pooling != "flatten":
                    _see_that_something_is_kept(mask)
                return mask.keep
        if last_word and self._pooling != "flatten":
            self._miss(name, side, positions)
        return None

    def _sees_pictures(self, name: str, positions: tuple[int, ...]) -> bool:
        """Whether a layer of a model of pictures and text is one for pictures."""
        pictures = isinstance(self._inputs, Mapping) and "pixel_values" in self._inputs
        return pictures and (len(positions) > 1 or any(part in name for part in ("vision", "visual", "image")))

    def _chosen(self, name: str, side: str | None, masks: list[Mask], positions: tuple[int, ...], nearest: bool) -> Mask | None:
        fitting = [mask._replace(keep=keep) for mask in masks if (keep := _fitted(mask.keep, positions)) is not None]
        if side is not None:
            own = [mask for mask in fitting if mask.side == side]
            if not own and side == "decoder" and self._decoder_tokens() not in (None, positions[0]):
                own = fitting  # what it sees of the encoder
            fitting = own
        elif self._sided:
            # A layer of neither stack is taken for the decoder's once that has been called, as a head is.
            fitting.sort(key=lambda mask: (mask.side == "decoder") != self._decoding)
            alone = self._decoding and self._decoder_tokens() == positions[0]
            if alone:
                fitting = [mask for mask in fitting if mask.side == "decoder"]
            nearest = nearest or self._decoding
        if not nearest and any(not _same(fitting[0], mask) for mask in fitting[1:]):
            named = [mask for mask in fitting if (part := mask.name.rpartition("_attention_mask")[0]) and part in name]
            if len(named) == 1:
                return named[0]
            self._say(
                f"{' and '.join(mask.name for mask in fitting)} differ and all fit layer {name!r}: {fitting[0].name} is taken"
            )
        return fitting[0] if fitting else None

    def _decoder_tokens(self) -> int | None:
        """How many tokens the decoder is given."""
        ids = self._ids("decoder")
        if ids is not None:
            return ids.size(1)
        return next((mask.keep.size(1) for mask in self._batch if mask.side == "decoder"), None)

    def width(self, lengths: "Tensor") -> int:
        """How many tokens inputs of these lengths were padded to: as many as their mask has, or else as the longest input."""
        masks = [*self._batch, *(mask for masks in self._calls.values() for mask in masks)]
        of_these = (m.keep for m in masks if m.keep.ndim == 2 and bool((m.keep.sum(1).cpu() == lengths.cpu()).all()))
        return next((keep.size(1) for keep in of_these), int(lengths.max()))

    def _ids(self, side: str | None) -> "Tensor | None":
        """The whole numbers or features, (b, tokens) or (b, tokens, d), that the model is given."""
        if not isinstance(self._inputs, Mapping):
            found = first_tensor(self._inputs)
            return None if found is None or found.is_nested or found.ndim not in (2, 3) else found
        import torch

        for name, value in self._inputs.items():
            usable = (
                isinstance(value, torch.Tensor) and not value.is_nested and value.ndim in (2, 3) and len(value) == self._rows
            )
            decoded = is_decoded(name)
            told = "mask" in str(name) or str(name) in ("token_type_ids", "position_ids", *LENGTHS)
            if usable and not told and decoded == (side == "decoder"):
                return value  # type: ignore[no-any-return]
        return None

    def _miss(self, name: str, side: str | None, positions: tuple[int, ...]) -> None:
        """Refuse, or say, that padding may be among what is kept of a layer."""
        masks = _of_pictures(self._batch) if self._sees_pictures(name, positions) else self._batch
        masks = [mask for mask in masks if side in (None, mask.side)]
        hiding = [mask for mask in masks if mask.hides]
        if self._sided and side is None and self._decoder_tokens() == positions[0]:
            hiding = [mask for mask in hiding if mask.side == "decoder"]
        if hiding and not any(_fitted(mask.keep, positions) is not None for mask in masks):
            mask = hiding[0]
            if self._pooling == "cls" and bool(mask.keep.flatten(1)[:, 0].all()):
                return
            misfit = (
                f"{mask.name} of shape {tuple(mask.keep.shape)} does not fit layer {name!r}, whose positions are {positions}: "
            )
            if self._pooling != "mean":
                raise FastentError(
                    f"{misfit}pooling={self._pooling!r} cannot tell its tokens from padding; use batches without padding "
                    "(of inputs of one length), or pooling='mean'"
                )
            self._say(f"{misfit}the mean includes padding; use batches without padding (of inputs of one length)")
            return
        if hiding or len(positions) > 1:
            return
        if side == "decoder" and self._decoder_tokens() is None:
            other = [m for m in self._batch if m.hides and _fitted(m.keep, positions) is not None]
            if other:
                self._say(
                    f"{other[0].name} describes the encoder's tokens, and layer {name!r} belongs to the decoder: "
                    f"pooling={self._pooling!r} includes padding unless you pass a decoder_attention_mask"
                )
            return
        self._miss_unmasked(name, side, positions)

    def _miss_unmasked(self, name: str, side: str | None, positions: tuple[int, ...]) -> None:
        named = self._inputs if isinstance(self._inputs, Mapping) else {}
        for key, value in named.items():
            marked = unclear_mask(str(key), value, self._rows)
            if marked is not None and _fitted(marked, positions) is not None:
                self._say(
                    f"{key} is not used for layer {name!r}, because its name does not say whether 1 means padding: call it "
                    "attention_mask (1 for tokens, 0 for padding) or key_padding_mask (True for padding)"
                )
                return
        if any(mask for mask in self._batch if side in (None, mask.side)):
            return
        ids = self._ids("decoder" if side == "decoder" else None)
        if ids is None:
            return
        if ids.ndim == 2 and not ids.is_floating_point():
            # The padding of one side is not met by what is taken from the other.
            start, end = self._pooling != "last", self._pooling != "cls"
            value = padded_ids(ids, self._known_ids, start=start, end=end)
            looks = None if value is None else f"the inputs look padded with {value}"
        else:
            padded = ids.ndim == 3 and self._pooling != "cls" and padded_steps(ids)
            looks = "the last steps of some inputs are zeros" if padded else None
        if looks is not None:
            remedy = _REMEDY.format("a decoder_attention_mask" if side == "decoder" else "an attention_mask")
            self._say(f"{looks}, without a mask: pooling={self._pooling!r} of layer {name!r} includes padding; {remedy}")

    def _say(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            warn(what)


def _fitted(keep: "Tensor", positions: tuple[int, ...]) -> "Tensor | None":
    if tuple(keep.shape[1:]) == positions:
        return keep
    if keep.ndim == 2 and len(positions) > 1:
        if keep.size(1) == prod(positions):
            return keep.reshape(-1, *positions)
        if keep.size(1) == positions[0]:
            return keep.reshape(*keep.shape, *(1 for _ in positions[1:])).expand(-1, *positions)
    return None


def _of_pictures(masks: list[Mask]) -> list[Mask]:
    return [mask for mask in masks if mask.keep.ndim > 2]


def _same(one: Mask, other: Mask) -> bool:
    return one.keep.shape == other.keep.shape and bool((one.keep == other.keep).all())


def _see_that_something_is_kept(mask: Mask) -> None:
    empty = ~mask.keep.flatten(1).any(1)
    if bool(empty.any()):
        raise FastentError(
            f"{mask.name} leaves no token of input {int(empty.nonzero()[0, 0])} of a batch: drop empty inputs, or invert it "
            "(attention_mask is 1 for tokens and 0 for padding, key_padding_mask is True for padding)"
        )
