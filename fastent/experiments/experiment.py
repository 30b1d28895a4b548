"""What makes an experiment of a function: every experiment takes data and networks alike, and documents them alike."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from fastent.errors import FastentError
from fastent.experiments.setting import Setting

__all__ = ["Experiment", "experiment"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# What `Setting.make` takes of every experiment: the data, keyword arguments, and any further options.
_DATA, *_COMMON, _OPTIONS, _ = inspect.signature(Setting.make).parameters.values()
_DESCRIBED = {
    "data": "str, path, arrays or Data\n    As for `fe.train`.",
    "seeds": "int\n    How many networks, trained together.",
    "seed": "int\n    Seed of the first network.",
    "preset": '"paper"\n    The source paper\'s set-up: the first 8192 points, classes by parity, 20 tanh units.',
    "out": "path\n    Folder for finished parts, from which an interrupted experiment continues, to the same bits.",
    "progress": "bool or callable\n    True shows a bar on stderr; a function is called with (done, total, message).",
    "options": "any\n    Further options of `fe.load_data` and `fe.train`",
}
_PAPER = (
    'Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.'
)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Experiment(Protocol[R_co]):
    """An experiment as it is called: with data, its own options, and those that every experiment takes."""

    def __call__(self, data: Any = "digits", **options: Any) -> R_co: ...


def experiment(
    *, seeds: int = 10, defaults: Mapping[str, Any] = _NOTHING, paper: Mapping[str, Any] = _NOTHING, varied: Sequence[str] = ()
) -> Callable[[Callable[Concatenate[Setting, P], R]], Experiment[R]]:
    """Give a function of a `Setting` and its own options the signature and the docstring of a public experiment.

    `defaults` are this experiment's for options of `fe.train`; `paper` are further ones with preset "paper". Callers cannot
    give the options named in `varied`, which the experiment sets itself.
    """

    def decorate(function: Callable[Concatenate[Setting, P], R]) -> Experiment[R]:
        _, *own = inspect.signature(function).parameters.values()
        common = [each.replace(default=seeds) if each.name == "seeds" else each for each in _COMMON]
        parameters = [
            _DATA.replace(default="digits"), *own, *common,
            _OPTIONS.replace(kind=inspect.Parameter.VAR_KEYWORD, annotation=Any),
        ]  # fmt: skip
        result = inspect.signature(function).return_annotation

        @functools.wraps(function)
        def carry_out(data: Any = "digits", **given: Any) -> R:
            for name in varied:
                if given.get(name) is not None:
                    raise FastentError(f"{name}={given[name]!r}: that varies in a {carry_out.__name__}; leave it out")
            chosen = {each.name: given.pop(each.name) for each in own if each.name in given}
            shared = {each.name: given.pop(each.name, each.default) for each in common}
            train = {**defaults, **(paper if shared["preset"] == "paper" else {})}
            return function(Setting.make(data, **shared, options=given, defaults=train), **chosen)  # type: ignore[call-arg]

        carry_out.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
        carry_out.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": result}
        here = [f"`{name}` is {value} by default" for name, value in defaults.items()]
        here += [f'`{name}` is {value} with preset "paper"' for name, value in paper.items()]
        carry_out.__doc__ = _documented(inspect.getdoc(function) or "", parameters, result.__name__, here)
        return carry_out

    return decorate


def _documented(text: str, parameters: list[inspect.Parameter], result: str, here: list[str]) -> str:
    """The docstring with every parameter in the order of the signature, and the sections that all experiments share."""
    summary, *sections = re.split(r"\n+(Parameters|References)\n-+\n", text)
    own = dict(zip(sections[::2], sections[1::2], strict=True))
    described = _DESCRIBED | dict(re.findall(r"^(\w+) : (.+(?:\n(?: .*)?)*)", own.get("Parameters", ""), re.M))
    described["options"] = "; ".join([described["options"], *here]) + "."
    entries = []
    for each in parameters:
        kind, more = described[each.name].strip().split("\n", 1)
        name = f"**{each.name}" if each.default is each.empty else each.name
        default = "" if each.default is each.empty else ", optional" if each.default is None else f", default {each.default!r}"
        entries.append(f"{name} : {kind}{default}\n{more}")
    bodies = {
        "Parameters": "\n".join(entries),
        "Returns": result,
        "Raises": "FastentError\n    Bad data or options.",
        "References": "\n".join([*filter(None, [own.get("References", "").strip()]), _PAPER]),
    }
    return "\n\n".join([summary, *(f"{name}\n{'-' * len(name)}\n{body}" for name, body in bodies.items())])
