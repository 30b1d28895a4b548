"""`--config file.toml`: options of a command by the same names; those on the command line take precedence."""

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fastent.cli.options import OUTPUT, plain_errors
from fastent.errors import FastentError
from fastent.io.reading import reading
from fastent.printable import first_line, printable

__all__ = ["Config"]


@plain_errors
def _read_config(context: typer.Context, path: Path | None) -> None:
    import difflib

    if path is None or context.resilient_parsing:
        return
    options = {
        name.lstrip("-"): parameter
        for parameter in context.command.params
        for name in getattr(parameter, "opts", ())
        if name.startswith("--") and name not in ("--config", "--help")
    }
    found = {}
    for key, value in _read(path).items():
        name = key.replace("_", "-")
        if name not in options:
            near = difflib.get_close_matches(name, options, 3)
            remedy = f"did you mean {' or '.join(near)}?" if near else f"see {context.command_path} --help"
            raise FastentError(f"{printable(path)}: {context.command_path} has no option {key!r:.80}: {remedy}")
        found[options[name].name] = _checked(f"{printable(path)}: {key} = {_clipped(value)}", value, options[name], context)
    context.default_map = found


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    with reading(path, "check the path"):
        if path.is_dir():
            raise FastentError(f"{str(path)!r} is a folder: name a TOML file")
        content = path.read_bytes()
    remedy = "write lines such as epochs = 500 or data = 'mnist'"
    try:
        # As Windows writes it, with a mark at the beginning, it is read too.
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise FastentError(
            f"{printable(path)} is no TOML, it is not in UTF-8 ({first_line(error)}): {remedy}, in UTF-8"
        ) from None
    except RecursionError:
        raise FastentError(f"{printable(path)} is no TOML of options, it is nested too deeply: {remedy}") from None
    except ValueError as error:  # of tomllib, and of numbers with too many digits
        raise FastentError(f"{printable(path)} is no TOML ({first_line(error)}): {remedy}") from None


def _clipped(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return "what is nested too deeply"
    except ValueError:  # 0x... of more digits than Python writes out
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _checked(said: str, value: Any, option: Any, context: typer.Context) -> Any:
    """What the command line would make of a value: text, which the option reads, or whether a flag is set."""
    if isinstance(value, dict):
        raise FastentError(f"{said}: a table has no meaning here, write the options one below the other")
    if option.is_flag or isinstance(value, bool):
        if not (option.is_flag and isinstance(value, bool)):
            raise FastentError(f"{said}: {'true or false' if option.is_flag else 'a value'} is needed")
        return value
    if isinstance(value, list) and any(isinstance(each, list | dict | bool) for each in value):
        raise FastentError(f"{said}: a list of plain values is needed")
    if isinstance(value, datetime.date | datetime.time):
        raise FastentError(f"{said}: dates and times have no meaning here, a number or text is needed")
    text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
    try:
        option.process_value(context, text)
    except typer.BadParameter as error:
        raise FastentError(f"{said}: {error.message.rstrip('.')}") from None
    return text


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # 0x... of more digits than Python writes out
        return hex(value)


# Read first, so that whatever the command line leaves open is taken from it.
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file of options by the same names (epochs = 500); options on the command line take precedence.",
        rich_help_panel=OUTPUT,
        metavar="FILE",
        callback=_read_config,
        is_eager=True,
        expose_value=False,
    ),
]
