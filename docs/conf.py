"""Configuration of the documentation, which `make docs` builds. Neither building nor reading it needs a network."""

import dataclasses
import re
from typing import Any

import fastent

project = "fastent"
author = "the fastent developers"
project_copyright = author
release = version = fastent.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
default_role = "literal"
# Docstrings give types with shapes, which annotations cannot.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
napoleon_preprocess_types = False

html_theme = "furo"
html_title = f"fastent {release}"
html_static_path, html_css_files = ["static"], ["pages.css"]
html_copy_source = html_show_sourcelink = False


def as_restructured_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read as plain text: |a - b| is a norm, and `fe.measure` refers to fastent.measure."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            line = line.replace("|", r"\|")
            lines[i] = re.sub(r"`fe\.([\w.]+)`", r":py:obj:`fe.\1 <fastent.\1>`", line)


def without_fields(app: Any, what: str, name: str, obj: Any, options: Any, arguments: str, returned: str) -> Any:
    """Users do not construct results, so their parameters are left out; their attributes follow. Neighbors is an exception."""
    if dataclasses.is_dataclass(obj) and obj is not fastent.Neighbors:
        return "", ""
    return arguments, returned


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("autodoc-process-signature", without_fields)
