"""A run in words: what its curves show, as sentences."""

import numpy as np

from fastent.report.page import Headline, percent, percent_range
from fastent.runtime.formatting import count
from fastent.statistics.inversion import Inversion, InversionSummary, summarize_inversions
from fastent.statistics.notes import sentence_list
from fastent.training.run import Run
from fastent.training.tables import because, ended_too_early, epoch_of, radius_at_end, subject, without_inversion

__all__ = ["answers", "description", "headline", "usual_turn"]

# With more classes than this, sentences give ranges instead of naming each class.
_NAMED = 3


def headline(run: Run) -> Headline:
    """What happened in the last hidden layer: in the classes that turned in at least half of the networks."""
    summaries = run.inversion_summary()
    usual = [summary for summary in summaries if summary.usual]
    if not any(summary.found for summary in summaries):
        title = f"No inversion in {_epochs(run)}"
        longer = ("Train longer to see whether the radii turn.",) if ended_too_early(summaries) else ()
        if len({_cause(summary) for summary in summaries}) == 1:
            return Headline(f"{title}: {because(summaries[0])}.", longer)
        return Headline(f"{title}.", (*without_inversion(run), *longer))
    if not usual:
        curves = f"{len(summaries)} classes, {run.n_seeds} seeds"
        title = f"{sum(s.found for s in summaries)} of {len(summaries) * run.n_seeds} radii ({curves}) have an inversion."
        sentences = ["No class has one in half of the seeds or more."]
    elif len(summaries) > 1 and _agree(run, summaries):
        together = _over_classes(run)
        title = f"Classes turned {_moment(run, together)}."
        sentences = [f"{_opening(_evidence(together))}." if together.seeds > 1 else ""]
    elif len(summaries) <= _NAMED:
        title = _opening(_findings(run, summaries)) + "."
        sentences = [
            f"{_opening(subject(run, c))}: {_evidence(summary)}."
            for c, summary in enumerate(summaries)
            if summary.seeds > 1 or not summary.found
        ]
    else:
        title = _ranges(run, usual, len(summaries))
        sentences = [f"{_opening(_found_in([s.found for s in usual], run.n_seeds))}." if run.n_seeds > 1 else ""]
        seldom = {name: s.found for name, s in zip(run.class_names, summaries, strict=True) if s.found and not s.usual}
        if seldom:
            said = sentence_list([f"class {name} in {found} of {run.n_seeds}" for name, found in seldom.items()])
            sentences.append(f"In fewer than half of the seeds: {said}.")
        without = [name for name, summary in zip(run.class_names, summaries, strict=True) if not summary.found]
        if without:
            sentences.append(f"No inversion in class{'es' * (len(without) > 1)} {sentence_list(without)}.")
    return Headline(title, (*filter(None, sentences), _stragglers(run)))


def answers(run: Run, layer: int) -> dict[str, str]:
    """What each figure shows in one hidden layer, as a sentence."""
    names, summaries = run.class_names, run.inversion_summary(layer)
    found = [(name, summary) for name, summary in zip(names, summaries, strict=True) if summary.usual]
    epoch, train, test = run.epoch, run.train_error.mean(0), run.test_error.mean(0)
    apart = run.distance[:, :, layer][..., ~np.eye(len(names), dtype=bool)]
    known = np.isfinite(apart)  # but for classes of which a network has no point
    spread = np.where(known, apart, 0).sum((0, 2)) / np.maximum(known.sum((0, 2)), 1)
    widest = int(spread.argmax())
    at_end, when = f"at the end: {spread[-1]:.2f}", ""
    if widest < len(epoch) - 1:
        when = f"at epoch {epoch_of(run, epoch[widest])}: {spread[widest]:.2f}; "
    farthest = "Farthest" if len(names) == 2 else "On average farthest"
    said = {
        "distance": f"{farthest} apart {when}{at_end}.",
        "error": f"Training error {percent(train[-1])} at the end"
        + (f", test error {percent(test[-1])}." if len(test) else "."),
    }
    if not found:
        seldom = " in half of the seeds or more" if any(summary.found for summary in summaries) else ""
        return said | {"radius": f"No class has an inversion in this layer{seldom}.", "path": ""}
    moments, errors = [s.epoch or 0.0 for _, s in found], [s.train_error or 0.0 for _, s in found]
    if len(found) <= _NAMED:
        parts = [
            f"{name} {summary.value or 0:.3f} at epoch {epoch_of(run, summary.epoch or 0)}, "
            f"{radius_at_end(run, layer, names.index(name)) or 0:.3f} at the end"
            for name, summary in found
        ]
        said["radius"] = f"Radius at the inversion: {'; '.join(parts)}."
        said["path"] = (
            f"The turn comes at {sentence_list([f'{percent(e)} ({n})' for e, (n, _) in zip(errors, found, strict=True)])}."
        )
    else:
        said["radius"] = f"Inversions between epochs {epoch_of(run, min(moments))} and {epoch_of(run, max(moments))}, by class."
        low, high = int(np.argmin(errors)), int(np.argmax(errors))
        said["path"] = (
            f"The turn comes between {percent(errors[low])} (class {found[low][0]}) and {percent(errors[high])} "
            f"(class {found[high][0]})."
        )
    if len(test):
        then = float(np.interp(np.mean(moments), run.test_epoch, test))
        said["error"] = f"Test error {percent(then)} at the inversions, {percent(test[-1])} at the end."
    return said


def _agree(run: Run, summaries: list[InversionSummary]) -> bool:
    """Whether one sentence can speak for all classes: the same seeds invert, and the intervals of eps* all overlap."""
    if any(len({bool(inversion) for inversion in row}) > 1 for row in run.inversion[:, -1]):
        return False
    intervals = [summary.interval for summary in summaries if summary.interval is not None]
    if len(intervals) < len(summaries):
        errors = [summary.train_error or 0.0 for summary in summaries]
        return max(errors) <= 1.1 * min(errors)
    return max(low for low, _ in intervals) <= min(high for _, high in intervals)


def usual_turn(run: Run) -> int | None:
    """Position of the epoch by which half of the inversions in the last hidden layer have come, of all classes and seeds."""
    turns = [inversion.index for inversion in run.inversion[:, -1].flat if inversion]
    return int(np.quantile(turns, 0.5, method="lower")) if turns else None


def _over_classes(run: Run) -> InversionSummary:
    """The summary over seeds of each seed's mean over its classes, at the usual turn."""
    means, turn = [], run.epoch[usual_turn(run)].item()
    for row in run.inversion[:, -1]:
        found = [inversion for inversion in row if inversion]
        if len(found) < len(row):
            means.append(Inversion(False, next(inversion.reason for inversion in row if not inversion)))
            continue
        error, value = (float(np.mean([getattr(i, name) for i in found])) for name in ("train_error", "value"))
        means.append(Inversion(True, epoch=turn, train_error=error, value=value))
    return summarize_inversions(means)


def _moment(run: Run, summary: InversionSummary) -> str:
    return f"at epoch {epoch_of(run, summary.epoch or 0)}, at {percent(summary.train_error or 0)} training error"


def _evidence(summary: InversionSummary) -> str:
    """How sure an eps* is, and what became of the seeds without one."""
    if not summary.found:
        return f"no inversion: {because(summary)}"
    parts = [f"95\u00a0% interval {percent_range(summary.interval)}"] if summary.interval is not None else []
    parts.append(f"inversions in {summary.found} of {summary.seeds} seeds")
    said = ", ".join(parts)
    return said if summary.found == summary.seeds else f"{said}; no inversion: {because(summary)}"


def _findings(run: Run, summaries: list[InversionSummary]) -> str:
    """One clause for each class; what the first said in full, the others say in short."""
    clauses, before = [], False
    for c, summary in enumerate(summaries):
        if not summary.usual:
            few = f"turned in only {summary.found} of {summary.seeds} seeds" if summary.found else "has no inversion"
            clauses.append(f"{subject(run, c)} {few}")
        elif before:
            error = percent(summary.train_error or 0)
            clauses.append(f"{subject(run, c)} at epoch {epoch_of(run, summary.epoch or 0)}, at {error}")
        else:
            clauses.append(f"{subject(run, c)} turned {_moment(run, summary)}")
            before = True
    return "; ".join(clauses)


def _ranges(run: Run, found: list[InversionSummary], n_classes: int) -> str:
    moments, errors = [s.epoch or 0.0 for s in found], [s.train_error or 0.0 for s in found]
    who = f"The {n_classes} classes" if len(found) == n_classes else f"{len(found)} of {n_classes} classes"
    first, last = epoch_of(run, min(moments)), epoch_of(run, max(moments))
    when = f"at epoch {first}" if first == last else f"between epochs {first} and {last}"
    least, most = percent(min(errors)), percent(max(errors))
    error = least if least == most else percent_range((min(errors), max(errors)))
    return f"{who} turned {when}, at {error} training error."


def _found_in(found: list[int], seeds: int) -> str:
    low, high = min(found), max(found)
    return f"inversions in {low if low == high else f'{low} to {high}'} of {seeds} seeds"


def _stragglers(run: Run) -> str:
    n, total = len(run.consensus_stragglers()), count(len(run.index))
    seeds = "" if run.n_seeds == 1 else " in at least half of the seeds"
    if any(not inversion for inversion in run.inversion[:, -1].flat):
        seeds += " with an inversion" if seeds else ""
    return f"Stragglers: {count(n)} of {total} points, misclassified at the inversion of their class{seeds}."


def _cause(summary: InversionSummary) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(summary.reasons.items()))


def _epochs(run: Run) -> str:
    return f"{epoch_of(run, run.epoch[-1])} epoch" + ("" if run.epoch[-1] == 1 else "s")


def _opening(sentence: str) -> str:
    """The sentence with a capital first letter; class names further on keep theirs."""
    return sentence[:1].upper() + sentence[1:]


def description(run: Run) -> list[str]:
    """What was trained on what, in a few words each."""
    config = run.config
    widths = "\u2013".join(str(width) for width in config.get("hidden", []))
    parts = [
        str(config.get("data", "data")),
        f"{count(len(run.index))} training points",
        "even against odd" if run.parity else f"{len(run.classes)} classes",
        f"{run.n_seeds} network" + "s" * (run.n_seeds != 1),
        f"{widths} {config.get('activation', '')} units".replace("  ", " ") if widths else "",
        _epochs(run),
        f"trained in {run.seconds:,.0f}\u00a0s" if run.seconds >= 1 else "",
    ]
    return [part for part in parts if part]
