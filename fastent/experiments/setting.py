"""What every experiment works with (data, networks, finished parts, progress), and what makes an experiment of a function."""

import functools
import hashlib
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastent.data.datasets import known_name
from fastent.data.presets import PRESETS, default_epochs
from fastent.data.training_set import DATA_OPTIONS, Data, load_data
from fastent.errors import FastentError
from fastent.io.result_cache import Arrays, ResultCache
from fastent.options import choice, whole_number
from fastent.runtime.progress import Progress, reporting
from fastent.training.networks import find_factory, model_digest
from fastent.training.options import InMemoryOptions
from fastent.training.run import RECORDS_FILE, Run, run_to_resume
from fastent.training.train import train

__all__ = ["Experiment", "Setting", "experiment", "spaced_epochs"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_OF_TRAINING = tuple(each.name for each in fields(InMemoryOptions) if each.name not in ("seeds", "seed"))


@dataclass(frozen=True, eq=False)
class Setting:
    """Data and networks of an experiment.

    Attributes
    ----------
    data : Data
    seeds, seed : int
        How many networks, and the first one's seed.
    options : dict
        Further options of `fe.train`; `epochs` is always there.
    preset : str or None
    """

    data: Data
    seeds: int
    seed: int
    options: dict[str, Any]
    preset: str | None
    parts: ResultCache
    _progress: Progress
    _done: list[str] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        data: Any,
        *,
        seeds: int,
        seed: int = 0,
        preset: str | None = None,
        out: str | os.PathLike[str] | None = None,
        progress: Progress = None,
        options: Mapping[str, Any],
        defaults: Mapping[str, Any] = _NOTHING,
    ) -> "Setting":
        """Load the data. What the caller says comes before the preset, and that before the experiment's defaults."""
        known = {} if preset is None else PRESETS[choice("preset", preset, tuple(PRESETS))]._asdict()
        known = {name: value for name, value in known.items() if name in _OF_TRAINING}  # load_data has a preset for the rest
        chosen = {**defaults, **known, **{name: value for name, value in options.items() if value is not None}}
        strange = [name for name in chosen if name not in (*DATA_OPTIONS, *_OF_TRAINING)]
        if strange:
            raise FastentError(
                f"{strange[0]}={chosen[strange[0]]!r}: no option of load_data or train; "
                f"those are {', '.join(sorted((*DATA_OPTIONS, *_OF_TRAINING)))}"
            )
        of_data = {name: value for name, value in chosen.items() if name in DATA_OPTIONS}
        if not isinstance(data, Data):
            data = load_data(data, preset=preset, **of_data)  # type: ignore[arg-type]
        elif of_data:
            raise FastentError(f"{next(iter(of_data))}: the data are loaded already; give it to load_data")
        training = {name: value for name, value in chosen.items() if name in _OF_TRAINING}
        return cls(
            data=data,
            seeds=whole_number("seeds", seeds, minimum=1),
            seed=whole_number("seed", seed, minimum=0),
            options={"epochs": default_epochs(known_name(data.options["source"])), **training},
            preset=preset,
            parts=ResultCache(out),
            _progress=progress,
        )

    def changed(self, **options: Any) -> "Setting":
        """The same with other seeds or training options."""
        own = {name: options.pop(name) for name in ("seeds", "seed", "data") if name in options}
        return replace(self, options={**self.options, **options}, **own)

    @property
    def config(self) -> dict[str, Any]:
        """All that results depend on, JSON throughout."""
        model = self.options.get("model")
        named = {}
        if callable(model):
            named["model"] = f"{model.__module__}:{getattr(model, '__qualname__', model)}"
        if model not in (None, "cnn"):
            factory = model if callable(model) else find_factory(str(model))
            named["model_digest"] = model_digest(factory, self.seed, self.data.x_train)
        return {
            "data": self.data.name,
            "fingerprint": self.data.fingerprint,
            **self.data.options,
            "seeds": self.seeds,
            "seed": self.seed,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in self.options.items()},
            **named,
        }

    def train(self, name: str, *, total: int = 1, **options: Any) -> Run:
        """Train and record the networks; finished and interrupted runs are taken up from where they are kept.

        The tables of a finished run are written again: it may have been killed before they were.
        """
        from fastent.training.tables import write_tables

        setting = self.changed(**{key: value for key, value in options.items() if key != "exclude_per_seed"})
        mask = options.get("exclude_per_seed")
        depends_on = setting.config if mask is None else {**setting.config, "mask": self.digest(mask)}
        place = self.parts.place(name, depends_on)
        resume = None
        if place is not None and (place / RECORDS_FILE).exists():
            resume = run_to_resume(place, f"remove {str(place)!r}, so that it is trained again")
        if resume is None or not resume.complete:
            resume = setting.train_afresh(name, total=total, checkpoint=place, resume=resume, exclude_per_seed=mask)
            if place is not None:
                resume.save(place)
        elif place is not None:
            write_tables(resume, place)
        self._done.append(name)
        return resume

    def train_afresh(self, name: str, *, total: int = 1, **options: Any) -> Run:
        """Train without keeping the run: for parts that keep what they take from it."""
        with reporting(self._progress, name, total) as report:

            def tell(done: int, epochs: int, message: str) -> None:
                report(self._done.count(name), f"epoch {done} of {epochs}, {message}")

            return train(self.data, seeds=self.seeds, seed=self.seed, progress=tell, **{**self.options, **options})

    def keep(self, name: str, make: Callable[[], Arrays], **depends_on: Any) -> Arrays:
        """Arrays of a part; `depends_on` is what they depend on other than data and networks."""
        arrays = self.parts.keep(name, {**self.config, **depends_on}, make)
        self._done.append(name)
        return arrays

    @staticmethod
    def digest(mask: NDArray[np.bool_]) -> str:
        """What stands for a mask among the things that a part depends on."""
        return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]


def spaced_epochs(first: int, last: int, points: int) -> NDArray[np.int64]:
    """About so many epochs, spaced logarithmically."""
    return np.unique(np.geomspace(first, last, points).round().astype(int))


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


class Experiment(Protocol[R_co]):
    """An experiment as it is called: with data, its own options, and those that every experiment takes."""

    def __call__(self, data: Any = "digits", **options: Any) -> R_co: ...


def experiment(
    *,
    seeds: int = 10,
    defaults: Mapping[str, Any] = _NOTHING,
    paper: Mapping[str, Any] = _NOTHING,
    varied: Sequence[str] = (),
    checks: Mapping[str, Callable[[str, Any], Any]] = _NOTHING,
) -> Callable[[Callable[Concatenate[Setting, P], R]], Experiment[R]]:
    """Give a function of a `Setting` and its own options the signature and the docstring of a public experiment.

    `defaults` are this experiment's for options of `fe.train`; `paper` are further ones with preset "paper". Callers cannot
    give the options named in `varied`, which the experiment sets itself. `checks` refuse values of the function's own options,
    before any data are read.
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
            chosen = {each.name: given.pop(each.name, each.default) for each in own}
            for name, check in checks.items():
                check(name, chosen[name])
            for name in varied:
                if given.get(name) is not None:
                    raise FastentError(f"{name}={given[name]!r}: that varies in a {carry_out.__name__}; leave it out")
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
