"""A page that needs nothing else: template, style, script and data in one file that opens without a network."""

import json
import os
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from fastent.files import write_text

__all__ = ["write_page"]


def write_page(
    path: str | os.PathLike[str], template: str, figures: Any = None, script: str | None = None, **values: Any
) -> None:
    """Write the page, whole or not at all; `figures` are for the script, `values` for the template, escaped."""
    page = (
        _environment()
        .get_template(template)
        .render(
            **values,
            figures=_json_in_html(figures),
            # These four are this package's and plotly's own text, not data; none of them contains "</script" or "</style".
            style=Markup(_source("report.css")),
            common=Markup(_source("page.js")),
            script=Markup(_source(script)) if script else "",
            plotly=Markup(_plotly()) if script else "",
        )
    )
    write_text(path, page)


def _json_in_html(data: Any) -> Markup:
    """JSON that no HTML parser can mistake for markup, and that is JavaScript as well."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("fastent.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return files("fastent.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
