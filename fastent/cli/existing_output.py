"""What a folder named as --out holds already: results of other kinds, options or data are replaced only with --overwrite."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastent.errors import FastentError
from fastent.io.reading import is_there, read_json, reading

if TYPE_CHECKING:
    from fastent.experiments.result import Result
    from fastent.training.run import Run

__all__ = ["check_free_for_experiments", "check_free_for_run", "check_same_experiment", "say_if_longer"]

_REMEDY = "choose another folder, or --overwrite"
# Where rows and labels come from, which their fingerprint stands for, and what they are computed with.
_NOT_COMPARED = ("source", "labels", "data_dir", "threads", "device")


def check_free_for_run(out: Path, experiments: Mapping[str, Any]) -> None:
    """Refuse the folder of a measurement or of experiments."""
    if (out / "per_point.parquet").exists():
        raise FastentError(f"{str(out)!r} holds a measurement: {_REMEDY}")
    for name in experiments:
        if (out / f"{name}.json").exists():
            raise FastentError(f"{str(out)!r} holds a result of the experiment {name}: {_REMEDY}")


def say_if_longer(run: "Run", asked: int | None, out: Path) -> str:
    """What there is to say of a run that was trained for more epochs than are asked for; "" if it was not."""
    trained = float(run.epoch[-1])
    if asked is None or trained <= asked:
        return ""
    return (
        f"{str(out)!r} holds a run of {trained:g} epochs, more than the {asked} asked for: its result is shown, of all "
        f"{trained:g}; for a run of {asked}, {_REMEDY}"
    )


def check_free_for_experiments(out: Path, names: tuple[str, ...], asked: dict[str, Any]) -> None:
    """Refuse the folder of a run or a measurement, and results of the same experiments with other options."""
    for what, file in (("run", "run.npz"), ("measurement", "per_point.parquet")):
        if (out / file).exists():
            raise FastentError(f"{str(out)!r} holds a {what}: {_REMEDY}")
    for name in names:
        before = _kept(out, name).get("asked") or {}
        for option, value in asked.items():
            was = before.get(option)
            if None not in (was, value) and was != value:
                raise _another(out, name, option, was, value)


def check_same_experiment(result: "Result", out: Path) -> None:
    """Refuse to replace a result of other options or data; the parts of the new one are kept in any case."""
    there = _kept(out, result.name)
    before, now = there.get("config", {}), json.loads(json.dumps(result.as_json()["config"]))
    for option in sorted({*before, *now}) if there else []:
        if option not in _NOT_COMPARED and before.get(option) != now.get(option):
            raise _another(out, result.name, option, before.get(option), now.get(option))


def _kept(out: Path, name: str) -> dict[str, Any]:
    place = out / f"{name}.json"
    if not is_there(place):
        return {}
    kind = "no result of an experiment"
    found = read_json(place, _REMEDY, kind)
    with reading(place, _REMEDY, kind):
        return {"config": dict(found["config"]), "asked": dict(found.get("asked") or {})}


def _another(out: Path, name: str, option: str, was: Any, now: Any) -> FastentError:
    what = f"{option}={was!r}, not {now!r}" if option != "fingerprint" else f"other data (fingerprint {was}, not {now})"
    return FastentError(f"{str(out)!r} holds a result of {name} with {what}: {_REMEDY}")
