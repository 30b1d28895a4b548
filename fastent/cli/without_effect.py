"""Options that were given and would have no effect: refused before any work, with what gives them one."""

from collections.abc import Iterable
from typing import Any

import typer

from fastent.errors import FastentError

__all__ = ["NEEDS_OUT", "refuse_given"]

NEEDS_OUT = "that is for what is written to a folder: name one with --out"


def refuse_given(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse the first of these options that was given, on the command line or with --config, as its default or not."""
    chosen = set(names)
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in chosen and source is not None and source.name != "DEFAULT":
            raise FastentError(f"{_as_typed(parameter, context.params[parameter.name])}: {why}")


def _as_typed(parameter: Any, value: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return str((parameter.opts if value else parameter.secondary_opts)[0])
    values = value if isinstance(value, list | tuple) else [value]
    return f"{parameter.opts[0]} {' '.join(map(str, values))}"
