"""A page that needs nothing else: template, style, script and data in one file that opens without a network.

What every report has in common is a `Page`, which page.html.j2 draws around the sections of its own template, and how numbers
and options are written: with no line ending between a number and its unit.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from fastent.io.files import write_text
from fastent.printable import printable, shortened
from fastent.runtime import formatting
from fastent.runtime.formatting import NOTHING, count

__all__ = ["COLORS", "Headline", "Page", "option_rows", "percent", "percent_range", "room_beside", "value_text", "write_page"]

# The number of colours that everybody can tell apart; further classes reuse them with dashes.
COLORS = 7
# Below what everybody can open and send.
_LARGEST = 7_500_000
# What text, tables and script may take of that.
_TEXT = 400_000
# Characters of a name in a figure, and of a piece of text.
_LONGEST_NAME, _LONGEST_TEXT = 80, 2000
# JavaScript takes them for such; JSON has escapes for them.
_ENDS_OF_LINES = "\u2028\u2029"
# Non-breaking.
_SPACE = "\u00a0"
# Longer lists (the rows left out of the data) are cut.
_LIST_SHOWN = 12


class Headline(NamedTuple):
    """The finding in one line, and the sentences that say how sure it is."""

    title: str
    sentences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.title, *self.sentences))


class Page(NamedTuple):
    """What every page has: title, kicker, headline, facts about what was measured, notices, options, and the command."""

    title: str
    kicker: str
    headline: Headline
    configuration: Sequence[tuple[str, str]]
    command: str | None
    facts: Sequence[str] = ()
    notices: Sequence[str] = ()
    configured: str = "Configuration"


def write_page(
    path: str | os.PathLike[str], template: str, page: Page, figures: Any = None, scripts: Sequence[str] = (), **values: Any
) -> None:
    """Write the page, whole or not at all; `figures` are for the scripts, `values` for the template, escaped."""
    text = (
        _environment()
        .get_template(template)
        .render(
            **values,
            page=page,
            figures=_json_in_html(figures),
            # These four are this package's and plotly's own text, not data; none of them contains "</script" or "</style".
            style=Markup(_source("report.css")),
            common=Markup(_source("page.js")),
            script=Markup("\n".join(_source(script) for script in scripts)),
            plotly=Markup(_plotly()) if scripts else "",
        )
    )
    write_text(path, text)


def percent(share: float, digits: int = 1) -> str:
    return formatting.percent(share, digits, _SPACE)


def percent_range(interval: tuple[float, float], digits: int = 1) -> str:
    return f"{100 * interval[0]:.{digits}f}\u2013{percent(interval[1], digits)}"


def option_rows(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of options and versions as the configuration shows them."""
    return ((name.replace("_", " "), value_text(value)) for name, value in options.items())


def value_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) > _LIST_SHOWN:
        return f"{', '.join(map(value_text, value[:_LIST_SHOWN]))}, \u2026 ({count(len(value))} in all)"
    if isinstance(value, list):
        return ", ".join(map(value_text, value)) or "none"
    if value is None:
        return NOTHING
    return "yes" if value is True else "no" if value is False else json.dumps(value, ensure_ascii=False)


def room_beside(figures: Any) -> int:
    """Bytes that are left for pictures on a page with these figures."""
    return _LARGEST - _TEXT - len(_plotly()) - len(_json_in_html(figures))


def _json_in_html(data: Any) -> Markup:
    """JSON that no HTML parser can mistake for markup, and that is JavaScript as well."""
    text = json.dumps(
        _visible(data, _LONGEST_NAME, keep=_ENDS_OF_LINES), allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )
    for character in f"<>&{_ENDS_OF_LINES}":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _visible(value: Any, most: int = _LONGEST_TEXT, keep: str = "\n") -> Any:
    """What a template or script writes: the user's text shortened and without what cannot be seen; pictures as they are."""
    if isinstance(value, dict):
        return {_visible(key, most, keep): _visible(item, most, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_visible(item, most, keep) for item in value]
    if not isinstance(value, str) or isinstance(value, Markup) or value.startswith("data:image/"):
        return value
    return shortened(printable(value, keep=keep), most)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fastent.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["enumerate"] = enumerate
    return environment


def _source(name: str) -> str:
    return files("fastent.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
