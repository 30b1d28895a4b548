"""What a folder named as --out holds already: results of other kinds, options or data are replaced only with --overwrite."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastent import experiments
from fastent.errors import FastentError
from fastent.io.reading import is_there, read_json, reading
from fastent.runtime.formatting import as_plain

if TYPE_CHECKING:
    import typer

    from fastent.experiments.result import Result
    from fastent.measurement.result import Measurement
    from fastent.training.run import Run

__all__ = [
    "check_free", "check_not_longer", "check_same_experiment", "check_same_measurement", "check_same_options",
    "longer_than_usual",
]  # fmt: skip

# What messages call results, and files that tell them. Runs and probes write curves.parquet as well.
_KINDS = {
    "measurement": ("a measurement", "per_point.parquet"),
    "run": ("a run", "run.npz", "checkpoint.pt"),
    "probe": ("the records of a probe", "probe.npz"),
    "capture": ("a capture", "manifest.json"),
    "duplicates": ("near duplicates", "pairs.parquet"),
    "trajectory": ("a trajectory", "curves.parquet"),
}
_REMEDY = "choose another folder, or --overwrite"
# Where rows and labels come from, which their fingerprint stands for, and what they are computed with.
_NOT_COMPARED = ("source", "labels", "data_dir", "threads", "device")


def check_free(out: Path, kind: str, asked: Mapping[str, Any] | None = None, command: "typer.Context | None" = None) -> None:
    """Refuse a folder of results of another kind, and where `asked` is given, of the same kind with other options.

    kind : one of those that `_KINDS` has, or "experiments". Of an option that is a list, more may be asked for than before.
    command : whose options these are.
    """
    asked = asked or {}
    there = _asked_before(out) if asked else None
    # Options that an earlier version did not have were as they are by default.
    defaults = {} if command is None else {str(each.name): each.default for each in command.command.params if not each.required}
    before = {**{name: value for name, value in defaults.items() if name in asked}, **there} if there else {}
    known = bool(asked) and asked.keys() <= before.keys()
    changed = [(name, before[name], now) for name, now in asked.items() if known and not _covers(now, before[name])]
    if known and not changed:
        return
    for other in _kinds_in(out):
        if other != kind:
            raise _holds(out, _KINDS[other][0])
    for name in () if kind == "experiments" else _experiments():
        if (out / f"{name}.json").exists():
            raise _holds(out, f"a result of the experiment {name}")
    if there is not None and not known:
        raise _holds(out, "other results")
    for name, was, now in changed:
        raise _holds(out, f"{_KINDS[kind][0]} with {name}={was!r}, not {now!r}")


def _experiments() -> list[str]:
    """The functions whose names their results have as well."""
    names = experiments.__all__
    return [name for name in names if name.islower() and name.title() in names]


def _kinds_in(out: Path) -> list[str]:
    found = [kind for kind, (_, *files) in _KINDS.items() if any((out / file).exists() for file in files)]
    return [kind for kind in found if kind != "trajectory" or not {"run", "probe"} & {*found}]


def _asked_before(out: Path) -> dict[str, Any] | None:
    """The options of the command that wrote the folder: None of an empty one, {} if they are not known."""
    found = out / "summary.json"
    if not found.exists() and not (out / "report.html").exists():
        return None
    try:
        return dict(read_json(found, _REMEDY)["asked"])
    except (OSError, ValueError, LookupError, TypeError):  # FastentError is a ValueError
        return {}


def _covers(now: Any, was: Any) -> bool:
    several = isinstance(now, list) and isinstance(was, list)
    return all(each in now for each in was) if several else bool(now == was)


def check_not_longer(run: "Run", epochs: int | None, out: Path) -> None:
    """Refuse to show a run of more epochs than --epochs asks for: its inversions may lie beyond them."""
    trained = float(run.epoch[-1])
    if epochs is not None and trained > epochs:
        raise _holds(out, f"a run of {trained:g} epochs, more than --epochs {epochs}", f"ask for {trained:g}, {_REMEDY}")


def longer_than_usual(run: "Run", data: str, out: Path) -> str:
    """What to say about a run of more epochs than are the default; "" if it has no more."""
    from fastent.data.datasets import known_name
    from fastent.data.presets import default_epochs

    trained, usual = float(run.epoch[-1]), default_epochs(known_name(data))
    if trained <= usual:
        return ""
    return (
        f"{str(out)!r} holds a run of {trained:g} epochs, more than the default of {usual}: its result is shown, of all "
        f"{trained:g}"
    )


def check_same_measurement(measured: "Measurement", out: Path) -> None:
    """Refuse to replace a measurement of what was under the same path before; the parts of the new one are kept."""
    found = out / "summary.json"
    there = read_json(found, _REMEDY).get("fingerprint") if found.exists() else None
    if there not in (None, measured.fingerprint):
        raise _holds(out, f"a measurement of other data (fingerprint {there}, not {measured.fingerprint})")


def check_same_options(out: Path, names: Iterable[str], asked: Mapping[str, Any]) -> None:
    """Refuse to replace results of the same experiments with other options."""
    for name in names:
        before = _kept(out, name).get("asked") or {}
        for option, value in asked.items():
            was = before.get(option)
            if None not in (was, value) and was != value:
                raise _holds_another(out, name, option, was, value)


def check_same_experiment(result: "Result", out: Path) -> None:
    """Refuse to replace a result of other options or data; the parts of the new one are kept in any case."""
    there = _kept(out, result.name)
    before, now = there.get("config", {}), as_plain(result.config)
    for option in sorted({*before, *now}) if there else []:
        if option not in _NOT_COMPARED and before.get(option) != now.get(option):
            raise _holds_another(out, result.name, option, before.get(option), now.get(option))


def _kept(out: Path, name: str) -> dict[str, Any]:
    place = out / f"{name}.json"
    if not is_there(place):
        return {}
    kind = "no result of an experiment"
    found = read_json(place, _REMEDY, kind)
    with reading(place, _REMEDY, kind):
        return {"config": dict(found["config"]), "asked": dict(found.get("asked") or {})}


def _holds_another(out: Path, name: str, option: str, was: Any, now: Any) -> FastentError:
    what = f"{option}={was!r}, not {now!r}" if option != "fingerprint" else f"other data (fingerprint {was}, not {now})"
    return _holds(out, f"a result of {name} with {what}")


def _holds(out: Path, what: str, remedy: str = _REMEDY) -> FastentError:
    return FastentError(f"{str(out)!r} holds {what}: {remedy}")
