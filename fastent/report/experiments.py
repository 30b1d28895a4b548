"""The report of experiments: each claim, whether it holds, its picture and its table."""

import base64
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fastent.experiments.result import ANSWERS, HOLDS, Result
from fastent.report.page import Headline, Page, value_text, write_page

__all__ = ["write_experiments_report"]


def write_experiments_report(results: Sequence[Result], path: str | os.PathLike[str], *, command: str | None = None) -> None:
    """Write finished experiments on one data set as one HTML page; `command` reproduces them."""
    data = results[0].config["data"]
    write_page(
        path,
        "experiments.html.j2",
        Page(
            title=f"{data}: the claims, tested",
            kicker=f"fastent experiment \u00b7 {data}",
            headline=Headline(_headline(results)),
            configuration=_config(results),
            command=command,
        ),
        experiments=[
            {
                "name": result.name,
                "title": result.title,
                "claim": result.claim,
                "holds": result.verdict.holds,
                "verdict": HOLDS[result.verdict.holds],
                "sentence": result.verdict.sentence,
                "further": [
                    {"question": question, "holds": each.holds, "verdict": ANSWERS[each.holds], "sentence": each.sentence}
                    for question, each in result.further.items()
                ],
                "picture": _picture(result),
                "table": result.table(),
            }
            for result in results
        ],
    )


def _headline(results: Sequence[Result]) -> str:
    if len(results) == 1:
        return f"{results[0].claim.rstrip('.')}: {HOLDS[results[0].verdict.holds].lower()}."
    held = sum(result.verdict.holds == "yes" for result in results)
    undecided = sum(result.verdict.holds == "undecided" for result in results)
    rest = f", {undecided} {'is' if undecided == 1 else 'are'} undecided" if undecided else ""
    return f"{held} of {len(results)} claims hold on {results[0].config['data']}{rest}."


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


def _picture(result: Result) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.svg"
        result.save_picture(path)
        return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
