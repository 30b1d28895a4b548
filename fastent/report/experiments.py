"""The report of experiments: each claim, whether it holds, its pictures and its table, on a page of its own."""

import base64
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastent.experiments.result import ANSWERS, HOLDS, Result
from fastent.report.page import Headline, Page, value_text, write_page

__all__ = ["write_experiments_report"]


def write_experiments_report(results: Sequence[Result], path: str | os.PathLike[str], *, command: str | None = None) -> None:
    """Write finished experiments on one data set: one as a page, several as an overview and a page for each beside it.

    The page of an experiment is called NAME.html; `command` reproduces them all.
    """
    if len(results) == 1:
        write_page(path, "experiment.html.j2", _page(results, command), e=_shown(results[0]), overview="")
        return
    experiments = [_shown(result) for result in results]
    for result, e in zip(results, experiments, strict=True):
        place = Path(path).with_name(f"{result.name}.html")
        write_page(place, "experiment.html.j2", _page([result], command), e=e, overview=Path(path).name)
    write_page(path, "experiments.html.j2", _page(results, command), experiments=experiments)


def _page(results: Sequence[Result], command: str | None) -> Page:
    data = results[0].config["data"]
    what = results[0].title if len(results) == 1 else "the claims, tested"
    return Page(
        title=f"{data}: {what}",
        kicker=f"fastent experiment \u00b7 {data}",
        headline=Headline(_headline(results)),
        configuration=_config(results),
        command=command,
    )


def _shown(result: Result) -> dict[str, Any]:
    """What the templates show of an experiment: the claim's own answer has no question."""
    together = result.claim in result.answers
    asked = {"": result.verdict, **result.further} if together else result.answers
    words = {question: ANSWERS if question else HOLDS for question in asked}
    return {
        "name": result.name,
        "title": result.title,
        "claimed": result.claimed,
        "holds": result.verdict.holds,
        "verdict": HOLDS[result.verdict.holds],
        "sentence": result.verdict.sentence,
        "answers": [
            {"question": question, "holds": each.holds, "verdict": words[question][each.holds], "sentence": each.sentence}
            for question, each in asked.items()
        ],
        "pictures": [_picture(result, drawing) for drawing in range(len(result.drawings))],
        "table": result.table(),
    }


def _headline(results: Sequence[Result]) -> str:
    if len(results) == 1:
        return f"{results[0].claim.rstrip('.')}: {HOLDS[results[0].verdict.holds].lower()}."
    held = sum(result.verdict.holds == "yes" for result in results)
    undecided = sum(result.verdict.holds == "undecided" for result in results)
    rest = f", {undecided} {'is' if undecided == 1 else 'are'} undecided" if undecided else ""
    return f"{held} of {len(results)} statements {'holds' if held == 1 else 'hold'} on {results[0].config['data']}{rest}."


def _config(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Every option; where experiments differ in one, or do not all have it, each value with the names of its experiments."""
    listed = []
    for name in dict.fromkeys(name for result in results for name in result.config):
        if name == "source":
            continue
        holders: dict[str, list[str]] = {}
        for result in results:
            value = result.config.get(name)
            if value is None or value is False or value == []:  # 0 is a value
                continue
            holders.setdefault(value_text(value), []).append(result.name)
        same = len(holders) == 1 and len(next(iter(holders.values()))) == len(results)
        said = [value if same else f"{value} ({', '.join(names)})" for value, names in holders.items()]
        if said:
            listed.append((name.replace("_", " "), "; ".join(said)))
    return listed


def _picture(result: Result, drawing: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.svg"
        result.save_picture(path, drawing)
        return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
