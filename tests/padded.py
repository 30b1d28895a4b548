"""Padded sequences, a small model of tokens, and the plain loop over rows that pools what it puts out."""

import numpy as np
import torch
from torch import nn

import fastent as fe

POOLINGS = ("mean", "cls", "last", "tokens")
LENGTHS = torch.tensor([3, 5, 2, 6, 1, 4])
WIDTH = 6


def kept(lengths=LENGTHS, side="right"):
    """(n, WIDTH) bool: what is no padding."""
    mask = torch.arange(WIDTH) < lengths[:, None]
    return mask if side == "right" else mask.flip(1)


def sentences(side="right", lengths=LENGTHS):
    """The same words, padded on either side with 0, and their mask."""
    generator = torch.Generator().manual_seed(0)
    mask, ids = kept(lengths, side), torch.zeros(len(lengths), WIDTH, dtype=torch.int64)
    ids[mask] = torch.randint(1, 30, (int(lengths.sum()),), generator=generator)
    return ids, mask


class Words(nn.Module):
    """Each token by itself, so that padding changes nothing but what is pooled; logits of the mean of all."""

    def __init__(self, d=4):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.layer, self.head = nn.Embedding(30, d, padding_idx=0), nn.Linear(d, d), nn.Linear(d, 2)

    def forward(self, input_ids, attention_mask=None):
        return self.head(self.layer(self.embed(input_ids)).mean(1))


def by_hand(rows, mask, pooling):
    """What is to be kept of (n, tokens, d), input by input."""
    found = []
    for row, keep in zip(rows.detach(), mask):
        tokens = row[keep.bool()]
        one = {"mean": tokens.mean(0, keepdim=True), "cls": tokens[:1], "last": tokens[-1:], "tokens": tokens}
        found.append(one[pooling])
    return torch.cat(found).numpy()


def captured(folder, model, batches, layer, pooling="mean"):
    """A layer's rows, as float32."""
    store = fe.capture(model, batches, [layer], folder, pooling=pooling, dtype="float32", overwrite=True)
    return store.layer(layer)[:]


def same(found, expected):
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
