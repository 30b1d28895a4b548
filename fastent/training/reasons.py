"""Why there is no inversion, in words, and how classes are called in sentences."""

from fastent.printable import shortened
from fastent.statistics.inversion import InversionSummary
from fastent.training.run_records import RunRecords

__all__ = ["because", "ended_too_early", "may_turn_later", "sentence_list", "shortly", "subject", "without_inversion"]

# More classes than this are counted, not named; longer names are no part of a sentence.
_NAMED, _LONGEST = 3, 60
_STILL_FALLING, _TOO_SHORT = "still falling at the last record", "too few records"
_RISING = "the rise is below min_rise"
_SHORT = {
    _STILL_FALLING: "still falling", _TOO_SHORT: "too few records", _RISING: "rise too small", "no rise": "no rise",
    "rose before": "rose first", "did not move": "did not move", "no larger": "noise",
    "the network is trained on no": "no points",
}  # fmt: skip
# Reasons of `find_inversion` that need a subject to be read in a sentence, of one radius and of several.
_CLAUSES = {
    _STILL_FALLING: ("the radius was still falling at the last record", "radii were still falling at the last record"),
    "rose before it fell": ("the radius rose before it fell", "radii rose before they fell"),
    "did not move": ("the radius did not move", "radii did not move"),
    "no rise after the fall": ("the radius fell and did not rise", "radii fell and did not rise"),
    _RISING: (
        "the rise after the minimum is below the least that counts",
        "rises after the minimum are below the least that counts",
    ),
    "too few records after the minimum": (
        "too few records follow the minimum",
        "too few records follow the minima",
    ),
    "no larger than the noise explains": (
        "the rise after the minimum is no larger than noise explains",
        "rises after the minimum are no larger than noise explains",
    ),
}


def shortly(reason: str) -> str:
    """A reason in a word or two, for a cell of a table."""
    return next((words for start, words in _SHORT.items() if reason.startswith(start)), reason)


def without_inversion(run: RunRecords, layer: int = -1) -> list[str]:
    """Why radii of a hidden layer (by default the last) have no inversion: one sentence for each reason."""
    summaries = run.inversion_summary(layer)
    sentences = []
    for reason in dict.fromkeys(reason for summary in summaries for reason in summary.reasons):
        times = {c: summary.reasons[reason] for c, summary in enumerate(summaries) if reason in summary.reasons}
        least, most = min(times.values()), max(times.values())
        seeds = f" in {least if least == most else f'{least} to {most}'} of {run.n_seeds} seeds"
        one = len(times) == 1 and most == 1
        why = _CLAUSES.get(reason, (reason, reason))[not one]
        sentences.append(f"No inversion in {_classes(run, list(times))}{seeds if least < run.n_seeds else ''}: {why}.")
    return sentences


def because(summary: InversionSummary) -> str:
    """The reasons of one class, most frequent first, each with its number of seeds."""
    reasons = sorted(summary.reasons.items(), key=lambda item: (-item[1], item[0]))
    seeds = "" if summary.seeds == 1 else " in {} of " + f"{summary.seeds} seeds"
    return sentence_list([_CLAUSES.get(reason, (reason,))[0] + seeds.format(times) for reason, times in reasons])


def ended_too_early(summaries: list[InversionSummary]) -> bool:
    """Whether every radius without an inversion may have one later."""
    return all(may_turn_later(reason) for summary in summaries for reason in summary.reasons)


def may_turn_later(reason: str) -> bool:
    """Whether a radius without an inversion, for this reason, may have one when training goes on."""
    return reason in (_STILL_FALLING, _RISING) or reason.startswith(_TOO_SHORT)


def subject(run: RunRecords, c: int) -> str:
    """A class as the subject of a sentence."""
    name = _short(run.class_names[c])
    return f"the {name} class" if run.config.get("classes") == "parity" else f"class {name}"


def _classes(run: RunRecords, some: list[int]) -> str:
    """Some of the classes: by name where these are few, and how many of all."""
    names = [_short(run.class_names[c]) for c in some]
    if len(some) == 1:
        return subject(run, some[0])
    of_all = f"{len(some)} of {len(run.classes)} classes"
    return of_all if len(some) == len(run.classes) or len(some) > _NAMED else f"{of_all} ({sentence_list(names)})"


def _short(name: str) -> str:
    return shortened(name, _LONGEST)


def sentence_list(parts: list[str]) -> str:
    """Join parts as in a sentence, with "and" before the last one."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
