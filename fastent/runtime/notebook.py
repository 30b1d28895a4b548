"""Results as small tables in a notebook: HTML without scripts, in which all text is escaped."""

from collections.abc import Sequence
from html import escape

from fastent.printable import printable

__all__ = ["html_table"]


def html_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A table whose first column is text and whose others are numbers; notes stand below, a paragraph each."""
    head = "".join(_cell("th", text, i) for i, text in enumerate(headings))
    body = "".join(f"<tr>{''.join(_cell('td', text, i) for i, text in enumerate(row))}</tr>" for row in rows)
    below = "".join(f"<p>{_escaped(note)}</p>" for note in notes if note)
    return (
        f"<div><table><caption><strong>{_escaped(title)}</strong></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def _cell(tag: str, text: str, column: int) -> str:
    return f'<{tag} style="text-align:{"right" if column else "left"}">{_escaped(text)}</{tag}>'


def _escaped(text: str) -> str:
    return escape(printable(text, keep="\n"))
