"""The documentation does what it says: code blocks run, page by page; cheap command lines run; the examples run.

A page's blocks run in order, in one namespace and one temporary folder. A `text` block that follows one is what that prints, with
`...` for what differs between machines. Command lines are parsed; those of a block marked `<!-- run -->` run as well. A block
marked `<!-- not run: why -->` is left out, and one marked `<!-- needs: package -->` where that package is not installed.
"""

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import fastent as fe
import fastent.experiments as ex
from fastent.cli.main import app

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<kind>python|sh|text)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"run|not run: .+|needs: [\w ]+")


class Block(NamedTuple):
    mark: str
    kind: str
    body: str
    line: int

    @property
    def commands(self):
        return [shlex.split(line, comments=True)[1:] for line in self.body.splitlines() if line.startswith("fastent ")]

    @property
    def has_what_it_needs(self):
        start, _, packages = self.mark.partition(": ")
        return start == "needs" and all(find_spec(package) for package in packages.split())


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["mark"] or "", found["kind"], found["body"], text.count("\n", 0, found.start("body")))
        for found in BLOCK.finditer(text)
    ]


PAGES = {
    str(page.relative_to(ROOT)): found
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if (found := blocks(page))
}


def marks_of(page):
    """Some of the packages that blocks need start processes when they are imported."""
    return [pytest.mark.spawn] if any(block.mark.startswith("needs") for block in PAGES[page]) else []


def parsed(words):
    """Refused by the parser, as on the command line, if there is no such command or option."""
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    if words and words[0] != "--help":
        command.make_context("fastent", list(words))


@pytest.mark.train
# Of other libraries: deprecations, few workers, a loader that pins memory for no GPU.
@pytest.mark.filterwarnings(r"ignore:.*(isinstance.treespec, LeafSpec|does not have many workers|pin_memory).*")
@pytest.mark.parametrize("page", [pytest.param(page, marks=marks_of(page)) for page in PAGES])
def test_blocks_do_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, printed = {"__name__": "__main__"}, None
    for block in PAGES[page]:
        assert not block.mark or MARK.fullmatch(block.mark), f"{page}:{block.line}: <!-- {block.mark} -->"
        if block.kind == "text":
            if printed is not None:
                assert OutputChecker().check_output(block.body, printed, ELLIPSIS | NORMALIZE_WHITESPACE), (
                    f"{page}:{block.line}: printed was\n{printed}"
                )
            printed = None
        elif block.kind == "sh":
            printed = None
            for words in block.commands:
                parsed(words)
                if block.mark == "run":
                    done = CliRunner().invoke(app, words)
                    assert done.exit_code == 0, f"{page}:{block.line}: {shlex.join(words)}\n{done.output}"
        elif block.mark and not block.has_what_it_needs:
            printed = None
        else:
            # Blank lines before it, so that a traceback names the line of the page.
            code = compile("\n" * block.line + block.body, str(ROOT / page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as caught, warnings.catch_warnings():
                if block.mark:  # other packages warn of what is theirs
                    warnings.simplefilter("ignore")
                exec(code, namespace)
            printed = caught.getvalue()


def test_blocks_are_found():
    assert sum(block.kind == "python" for page in PAGES.values() for block in page) > 15
    assert sum(len(block.commands) for page in PAGES.values() for block in page) > 15
    left_out = [block for page in PAGES.values() for block in page if block.mark.startswith("not run")]
    assert len(left_out) <= 4


@pytest.mark.train
@pytest.mark.parametrize(
    ("script", "options", "files", "says"),
    [
        ("inversion_in_your_loop", ["--epochs", "250"], ["inversion.svg"], "points are stragglers"),
        ("measure_activations", ["--epochs", "2"], ["activations"], "mixing/overlap"),
        ("find_mislabelled", ["--seeds", "2", "--epochs", "200"], [], "neighbours disagree"),
    ],
)
def test_examples(script, options, files, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *options])
    runpy.run_path(str(ROOT / "examples" / f"{script}.py"), run_name="__main__")
    assert says in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == files


def test_pictures_are_drawn():
    for draw in runpy.run_path(str(ROOT / "docs" / "draw.py"))["PICTURES"]:
        assert (ROOT / "docs" / "pictures" / f"{draw.__name__}.svg").is_file()
        if draw.__name__ != "inversion":  # which trains for seconds
            assert draw().axes


@pytest.mark.train
def test_the_pictures_of_the_paper_are_drawn(tmp_path, monkeypatch):
    """Of few points for few epochs, whatever data set is asked for."""
    spec = importlib.util.spec_from_file_location("draw_paper", ROOT / "docs" / "draw_paper.py")
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    few, entanglement = fe.load_data("digits").take(np.arange(120)), ex.entanglement
    monkeypatch.setattr(fe, "load_data", lambda name, **options: few)
    monkeypatch.setattr(ex, "entanglement", lambda name: entanglement(few, seeds=2, epochs=12, points=10, threads=1))
    monkeypatch.setattr(drawing, "SETS", dict.fromkeys(drawing.SETS, 4))
    drawing.main("nowhere", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data_sets.svg", "entanglement.svg"]
    assert all(name in (tmp_path / "data_sets.svg").read_text() for name in drawing.SETS)


def test_what_is_cited_is_this_version():
    assert f"\nversion: {fe.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {fe.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_of_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 10
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_files_that_the_pages_name_exist():
    named = {
        (page.name, name)
        for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
        for name in re.findall(r"`((?:fastent|kernels|tests|bench|docs|examples)/[\w./-]+)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    named = {(page, name) for page, name in named if (page, name[:8]) != ("loggers.md", "fastent/")}  # names of numbers
    assert sorted((page, name) for page, name in named if not (ROOT / name).exists()) == []


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE))
    assert set(fe.__all__) - {"__version__", "figures"} <= named
    assert set(fe.figures.__all__) <= named


@pytest.mark.site
@pytest.mark.spawn
def test_the_site_is_built_without_warnings_and_fetches_nothing(tmp_path):
    pytest.importorskip("sphinx")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"(?:https?:)?//[^\"]*\"", text)
        assert not fetched, f"{page.name}: {fetched}"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name
