"""What every experiment works with: data, networks, finished parts, progress."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.data.datasets import known_name
from fastent.data.fingerprint import mask_fingerprint
from fastent.data.presets import PRESETS, default_epochs
from fastent.data.training_set import DATA_OPTIONS, Data, load_data
from fastent.errors import FastentError
from fastent.io.result_cache import Arrays, ResultCache
from fastent.options import choice
from fastent.runtime.progress import Progress, reporting
from fastent.training.in_memory_networks import network_factory
from fastent.training.networks import find_factory, hidden_layers, make_network, model_digest
from fastent.training.options import InMemoryOptions
from fastent.training.run import RECORDS_FILE, Run, run_to_resume
from fastent.training.train import train

__all__ = ["Setting", "spaced_epochs"]

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
    """

    data: Data
    seeds: int
    seed: int
    options: dict[str, Any]
    parts: ResultCache
    _progress: Progress
    _done: list[str] = field(default_factory=list)

    @classmethod
    def make(
        cls, data: Any, *,
        seeds: int, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
        progress: Progress = None, options: Mapping[str, Any], defaults: Mapping[str, Any] = _NOTHING, all_points: bool = False,
    ) -> "Setting":  # fmt: skip
        """Check the options, then load the data. The caller's options override the preset's, the preset's the `defaults`.

        With `all_points` the preset does not choose points: the experiment does.
        """
        known = {} if preset is None else PRESETS[choice("preset", preset, tuple(PRESETS))]._asdict()
        # Of the rest, load_data has its preset.
        own = (*_OF_TRAINING, "classes") if all_points and not isinstance(data, Data) else _OF_TRAINING
        known = {name: value for name, value in known.items() if name in own}
        chosen = {**defaults, **known, **{name: value for name, value in options.items() if value is not None}}
        strange = [name for name in chosen if name not in (*DATA_OPTIONS, *_OF_TRAINING)]
        if strange:
            raise FastentError(
                f"{strange[0]}={chosen[strange[0]]!r}: no option of load_data or train; "
                f"those are {', '.join(sorted((*DATA_OPTIONS, *_OF_TRAINING)))}"
            )
        training = {name: value for name, value in chosen.items() if name in _OF_TRAINING}
        checked = InMemoryOptions(seeds=seeds, seed=seed, **training)
        if checked.model is None:  # the fully connected network, which a configuration does not name
            training.pop("model", None)
        of_data = {name: value for name, value in chosen.items() if name in DATA_OPTIONS}
        if not isinstance(data, Data):
            data = load_data(data, preset=None if all_points else preset, **of_data)  # type: ignore[arg-type]
        elif of_data:
            raise FastentError(f"{next(iter(of_data))}: the data are loaded already; give it to load_data")
        return cls(
            data=data,
            seeds=checked.seeds,
            seed=checked.seed,
            options={"epochs": default_epochs(known_name(data.options["source"])), **training},
            parts=ResultCache(out),
            _progress=progress,
        )

    def changed(self, **options: Any) -> "Setting":
        """The same with other seeds or training options."""
        own = {name: options.pop(name) for name in ("seeds", "seed", "data") if name in options}
        return replace(self, options={**self.options, **options}, **own)

    def with_all_layers(self) -> "Setting":
        """The same, but that a `model` whose `layers` are not named records all its hidden ones, from the first to the last."""
        options = InMemoryOptions(seeds=self.seeds, seed=self.seed, **self.options)
        factory = network_factory(options.model, options.activation, self.data)
        if factory is None or self.options.get("layers") is not None:
            return self
        rows = torch.from_numpy(self.data.x_train[:2])
        return self.changed(layers=hidden_layers(make_network(factory, self.seed), rows))

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

    def train(self, name: str, *, exclude_per_seed: NDArray[np.bool_] | None = None, start: Run | None = None) -> Run:
        """Train and record the networks; finished and interrupted runs are taken up from where they are kept.

        `start` is a run of fewer epochs that is otherwise the same, which is continued.

        The tables of a finished run are written again: it may have been killed before they were.
        """
        from fastent.training.tables import write_tables

        depends_on = self.config
        if exclude_per_seed is not None:
            depends_on = {**depends_on, "mask": mask_fingerprint(exclude_per_seed)}
        place = self.parts.place(name, depends_on)
        kept = None
        if place is not None and (place / RECORDS_FILE).exists():
            kept = run_to_resume(place, f"remove {str(place)!r}, so that it is trained again")
        if kept is None or not kept.complete:
            kept = self.train_afresh(name, checkpoint=place, resume=kept or start, exclude_per_seed=exclude_per_seed)
            if place is not None:
                kept.save(place)
        elif place is not None:
            write_tables(kept, place)
        self._done.append(name)
        return kept

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


def spaced_epochs(first: int, last: int, points: int) -> NDArray[np.int64]:
    """About so many epochs, spaced logarithmically."""
    return np.unique(np.geomspace(first, last, points).round().astype(int))
