"""Text that is on every machine: paragraphs of the docstrings of Python and of the packages that fastent needs."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

__all__ = ["paragraphs"]

_PACKAGES = ("numpy", "scipy", "sklearn", "matplotlib", "torch", "numba", "transformers")
_LEAST_WORDS, _BEGINNING = 6, 3
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def paragraphs(n: int) -> list[str]:
    """n paragraphs of at least six words, in an order that mixes packages; always the same with the same versions.

    Of those that begin with the same three words one is taken: docstrings are full of sentences that differ in a name.
    """
    found = list({tuple(text.split()[:_BEGINNING]): text for file in _sources() for text in _paragraphs_of(file)}.values())
    if len(found) < n:
        raise ValueError(f"{n:,} paragraphs wanted, {len(found):,} found in Python and {', '.join(_PACKAGES)}")
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))[:n]]


def _sources() -> Iterator[Path]:
    folders = [Path(sysconfig.get_path("stdlib"))]
    folders += [Path(spec.origin).parent for spec in map(find_spec, _PACKAGES) if spec is not None and spec.origin is not None]
    for folder in folders:
        yield from sorted(file for file in folder.rglob("*.py") if "site-packages" not in file.relative_to(folder).parts)


def _paragraphs_of(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # sources of tests that are damaged on purpose
        return
    for node in ast.walk(tree):
        for part in re.split(r"\n\s*\n", (isinstance(node, _DOCUMENTED) and ast.get_docstring(node)) or ""):
            words = part.split()
            if len(words) >= _LEAST_WORDS and ">>>" not in words:
                yield " ".join(words)
