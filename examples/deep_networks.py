"""A small residual network and a small vision transformer for CIFAR-10 in colour, as factories for `--model`.

    fastent experiment layers --data cifar10 --model examples.deep_networks:resnet --layers stem,block1,block2,block3 \\
        --optimizer adam --lr 0.002 --batch-size 64 --epochs 30 --seeds 7 --subset 2000

Run it from the folder that contains `examples`. Rows are pictures (32, 32, 3) flattened in that order, as `fe.load_data` makes
them. Neither network has batch normalisation or dropout: each picture is computed by itself, and the same in training as in
evaluation.
"""

import torch
from torch import Tensor, nn

SIDE, COLOURS = 32, 3


class Block(nn.Module):
    """Two 3 x 3 convolutions and a way around them; with a stride of 2 it halves the sides."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.GroupNorm(4, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(4, after),
        )
        self.around = nn.Identity() if (before, stride) == (after, 1) else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.body(maps) + self.around(maps))


class ResNet(nn.Module):
    """A convolution and three residual blocks, whose mean over places goes to a linear layer (He et al. 2016)."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(COLOURS, channels, 3, stride=2, padding=1, bias=False), nn.GroupNorm(4, channels), nn.ReLU()
        )
        self.block1 = Block(channels, channels)
        self.block2 = Block(channels, 2 * channels, stride=2)
        self.block3 = Block(2 * channels, 4 * channels, stride=2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * channels, n_classes)

    def forward(self, rows: Tensor) -> Tensor:
        maps = rows.unflatten(1, (SIDE, SIDE, COLOURS)).permute(0, 3, 1, 2).contiguous()
        logits: Tensor = self.head(self.pool(self.block3(self.block2(self.block1(self.stem(maps))))))
        return logits


class Encoder(nn.Module):
    """Self-attention and a layer of hidden units, each added to what it is given (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        queries, keys, values = (
            self.mixed(self.before_attention(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        weights = (queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5).softmax(3)
        tokens = tokens + self.joined((weights @ values).transpose(1, 2).flatten(2))
        added: Tensor = tokens + self.mlp(self.before_mlp(tokens))
        return added


class VisionTransformer(nn.Module):
    """Patches as tokens with learnt places, encoders, and the tokens' mean to a linear layer (Dosovitskiy et al. 2021)."""

    def __init__(self, patch: int, width: int, heads: int, depth: int, n_classes: int) -> None:
        super().__init__()
        self.patch = patch
        self.patches = nn.Linear(patch * patch * COLOURS, width)
        self.places = nn.Parameter(0.02 * torch.randn((SIDE // patch) ** 2, width))
        for i in range(depth):
            self.add_module(f"encoder{i + 1}", Encoder(width, heads))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)

    def forward(self, rows: Tensor) -> Tensor:
        many = SIDE // self.patch
        cut = rows.unflatten(1, (many, self.patch, many, self.patch * COLOURS)).transpose(2, 3)
        tokens = self.patches(cut.flatten(1, 2).flatten(2)) + self.places
        for name, encoder in self.named_children():
            if name.startswith("encoder"):
                tokens = encoder(tokens)
        logits: Tensor = self.head(self.norm(tokens).mean(1))
        return logits


def resnet() -> nn.Module:
    """For two classes: blocks of 8, 16 and 32 channels."""
    return ResNet(8, 2)


def resnet10() -> nn.Module:
    """The same for ten classes."""
    return ResNet(8, 10)


def vit() -> nn.Module:
    """For two classes: 16 patches of 8 x 8, three encoders of 32 units and 4 heads."""
    return VisionTransformer(8, 32, 4, 3, 2)
