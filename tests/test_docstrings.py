"""Docstrings of public functions: every parameter in its place, what is returned, and sections in numpydoc's order."""

import inspect
import pydoc

import pytest

import fastent as fe
import fastent.experiments as ex

validate = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed").validate

# Sections in order (GL07); a docstring at all (GL08); parameters: all, no others, in order (PR01 to PR03), ` : ` before the type
# (PR10); a section on what is returned (RT01), or yielded (YD01); a summary that is a sentence on one line (SS03, SS06).
CHECKS = {"GL07", "GL08", "PR01", "PR02", "PR03", "PR10", "RT01", "SS03", "SS06", "YD01"}
PUBLIC = [
    f"{module.__name__}.{name}"
    for module in (fe, ex)
    for name in module.__all__
    if inspect.isroutine(getattr(module, name)) or inspect.isclass(getattr(module, name))
]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_docstrings(name):
    found = validate(name)
    checks = CHECKS - {"PR01"} if inspect.isclass(pydoc.locate(name)) else CHECKS  # results document their attributes
    assert [f"{code}: {said}" for code, said in found["errors"] if code in checks] == []
