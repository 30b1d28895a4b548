"""What a folder named as --out holds already: results of other kinds, options or data are replaced only with --overwrite.

Then nothing of the other kind is left, as soon as the new results are there. A folder that is read is never written to.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    "check_free", "check_not_longer", "check_not_read", "check_same_experiment", "check_same_measurement",
    "check_same_options", "kind_without_report", "longer_than_usual", "remove_other_kinds",
]  # fmt: skip


class _Kind(NamedTuple):
    """What messages call results, the files that tell them, and what else is written of them."""

    said: str
    told_by: tuple[str, ...]
    beside: tuple[str, ...] = ()


# Of a run, `RUN_FILES` has what is written. Runs and probes write curves.parquet as well.
_KINDS = {
    "measurement": _Kind("a measurement", ("per_point.parquet",), ("differences.npz", "summary.json", "report.html")),
    "run": _Kind("a run", ("run.npz", "checkpoint.pt")),
    "probe": _Kind("the records of a probe", ("probe.npz",), ("config.json", "summary.json", "curves.parquet", "report.html")),
    "capture": _Kind("a capture", ("manifest.json",)),
    "duplicates": _Kind("near duplicates", ("pairs.parquet",), ("groups.parquet", "summary.json")),
    "trajectory": _Kind("a trajectory", ("curves.parquet",), ("config.json", "summary.json", "report.html")),
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
            raise _holds(out, _KINDS[other].said)
    for name in () if kind == "experiments" else _experiments_in(out):
        raise _holds(out, f"a result of the experiment {name}")
    if there is not None and not known:
        raise _holds(out, "other results")
    for name, was, now in changed:
        raise _holds(out, f"{_KINDS[kind].said} with {name}={was!r}, not {now!r}")


def check_not_read(out: Path | None, *places: str | os.PathLike[str] | None) -> None:
    """Refuse to write into a folder that is read, FOLDER or FOLDER:NAME: results among the data would be taken for some."""
    for place in map(str, filter(None, places)):
        folder = next((each for each in (place, place.rpartition(":")[0]) if each and os.path.isdir(each)), None)
        if out is not None and folder is not None and out.is_dir() and os.path.samefile(folder, out):
            raise FastentError(f"--out {str(out)!r} is the folder of {place!r}, which is read: name another folder")


def remove_other_kinds(out: Path, kind: str) -> None:
    """Remove what fastent wrote of other kinds than this, of which the results are there: --overwrite replaces them.

    Files of other names stay, and so do finished parts, which are found by what they depend on.
    """
    own = set(_files(out, kind))
    for other in _kinds_in(out):
        if other != kind and (other != "capture" or _is_capture(out)):
            _remove(out, set(_files(out, other)) - own)
            if other == "run":
                from fastent.training.checkpoint import remove_weights

                remove_weights(out)
    for name in () if kind == "experiments" else _experiments_in(out):
        if _is_experiment(out, name):
            _remove(out, {f"{name}.json", f"{name}.svg", f"{name}.html", "report.html"} - own)


def _files(out: Path, kind: str) -> Iterable[str]:
    """The names of all that is written of a kind of result."""
    if kind == "experiments":
        return ("report.html",)
    if kind == "run":
        from fastent.training.checkpoint import RUN_FILES

        return RUN_FILES
    from fastent.io.store_manifest import SHARD

    shards = [path.name for path in out.iterdir() if SHARD.fullmatch(path.name)] if kind == "capture" else []
    return (*_KINDS[kind].told_by, *_KINDS[kind].beside, *shards)


def _remove(out: Path, names: Iterable[str]) -> None:
    for name in names:
        (out / name).unlink(missing_ok=True)


def _is_capture(out: Path) -> bool:
    """Whether the manifest is of a capture, and not of something else."""
    from fastent.io.store_manifest import read_manifest

    try:
        return read_manifest(out) is not None
    except FastentError:
        return False


def _is_experiment(out: Path, name: str) -> bool:
    try:
        return bool(read_json(out / f"{name}.json", _REMEDY)["experiment"] == name)
    except (OSError, ValueError, LookupError, TypeError):  # FastentError is a ValueError
        return False


def kind_without_report(folder: Path) -> str:
    """What messages call the results in a folder if they are neither of `fastent run` nor measured nor a probe's; else ""."""
    kinds = _kinds_in(folder)
    if {"run", "probe", "measurement"} & {*kinds}:
        return ""
    said = [_KINDS[kind].said for kind in kinds] + [f"a result of the experiment {name}" for name in _experiments_in(folder)]
    return said[0] if said else ""


def _experiments_in(out: Path) -> list[str]:
    return [name for name in _experiments() if (out / f"{name}.json").exists()]


def _experiments() -> list[str]:
    """The functions whose names their results have as well."""
    names = experiments.__all__
    return [name for name in names if name.islower() and name.title() in names]


def _kinds_in(out: Path) -> list[str]:
    found = [kind for kind, (_, files, _) in _KINDS.items() if any((out / file).exists() for file in files)]
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
