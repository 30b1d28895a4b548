"""`--config file.toml`: options of a command by the same names; those on the command line win."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from fastent.cli_options import OUTPUT, plain_errors
from fastent.errors import FastentError

__all__ = ["Config"]


@plain_errors
def _read_config(context: typer.Context, path: Path | None) -> None:
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
            raise FastentError(f"{path}: {context.command_path} has no option {key!r}: {remedy}")
        found[options[name].name] = _checked(f"{path}: {key} = {value!r}", value, options[name], context)
    context.default_map = found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FastentError(f"no file {str(path)!r}: check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FastentError(f"{path} is no TOML ({error}): write lines such as epochs = 500 or data = 'mnist'") from None


def _checked(said: str, value: Any, option: Any, context: typer.Context) -> Any:
    """What the command line would make of a value: text, which the option reads, or whether a flag is set."""
    if isinstance(value, dict):
        raise FastentError(f"{said}: a table has no meaning here, write the options one below the other")
    if option.is_flag or isinstance(value, bool):
        if not (option.is_flag and isinstance(value, bool)):
            raise FastentError(f"{said}: {'true or false' if option.is_flag else 'a value'} is needed")
        return value
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        option.process_value(context, text)
    except typer.BadParameter as error:
        raise FastentError(f"{said}: {error.message.rstrip('.')}") from None
    return text


# Read first, so that whatever the command line leaves open is taken from it.
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Options from a TOML file, by the same names (epochs = 500); those on the command line win.",
        rich_help_panel=OUTPUT,
        metavar="FILE",
        callback=_read_config,
        is_eager=True,
        expose_value=False,
    ),
]
