"""Labels, names and paths reach terminals, pages and files without what moves a cursor, colours, hides or reorders text."""

import io
import os
import pickle
import pty
import re
import unicodedata

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import fastent as fe
from fastent.cli.output import fitting_table
from fastent.printable import printable, shortened, storable
from fastent.report.measurement import write_measurement_report
from fastent.report.run import write_run_report
from fastent.runtime.formatting import html_table
from fastent.runtime.progress import reporting
from fastent.runtime.terminal import text_table

# Each with what is shown of it.
UNSEEN = {
    "\x1b[2J\x1b[31mred": r"\x1b[2J\x1b[31mred",
    "\x9b31mred\x85": r"\x9b31mred\x85",
    "photo\u202egpj.exe": r"photo\u202egpj.exe",
    "two\nlines\r\tand a bell\x07\x08": r"two\nlines\r\tand a bell\x07\x08",
    "a\u2028b\u200bc": r"a\u2028b\u200bc",
    "half \udc80": r"half \udc80",
}
SEEN = (
    "", "[red]x[/red] [/]", ":smiley:", "\U0001f469\u200d\U0001f52c", "Z\u0335\u0321a\u0300", "\u05e9\u05dc\u05d5\u05dd",
    "95\u00a0%", "\u3000", "$a_b$", "back\\",
)  # fmt: skip
ALL = (*UNSEEN, *SEEN)
LONG = "x" * 10_000


def unseen(text):
    return [
        character
        for character in text
        if character not in "\n\u200c\u200d" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]


@pytest.mark.parametrize("text", ALL)
def test_what_cannot_be_seen_is_an_escape_and_all_else_stays(text):
    assert printable(text) == UNSEEN.get(text, text)
    assert printable(printable(text)) == printable(text)
    assert not unseen(printable(text))
    assert printable("a\n" + text, keep="\n").startswith("a\n")


def test_long_text_keeps_its_beginning_and_its_end():
    assert shortened("abcdefgh", 8) == "abcdefgh"
    assert shortened("abcdefghi", 8) == "abcd\u2026ghi"
    error = fe.FastentError(f"label {LONG!r}: shorten it")
    assert len(str(error)) == 2000
    assert str(error).endswith(": shorten it")


def test_tables_hold_text_that_utf8_has():
    labels = np.array(["a", "half \udc80", "\x1b"])
    assert storable(labels).tolist() == ["a", r"half \udc80", "\x1b"]
    assert storable(np.arange(3)).tolist() == [0, 1, 2]
    assert storable(labels.astype(labels.dtype.newbyteorder()))[1] == r"half \udc80"


@pytest.mark.parametrize("text", UNSEEN)
def test_an_error_is_one_line_that_can_be_seen(text):
    error = fe.FastentError(f"label {text}: take another")
    assert str(error) == f"label {UNSEEN[text]}: take another"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("text", [*ALL, LONG])
@pytest.mark.parametrize("colours", [True, False])
def test_a_table_on_a_terminal_shows_names_as_they_are(text, colours):
    console = Console(file=io.StringIO(), force_terminal=colours, width=300, color_system=None)
    console.print(text_table(f"of {text}", ("class", text), [(text, "1")], f"note {text}"))
    console.print(fitting_table(f"of {text}", ("class", "a b"), [(text, "1")], text, dispensable=()))
    written = console.file.getvalue()
    shown = re.sub(r"\x1b\[[\d;]*m", "", written)  # italics of titles are rich's own
    assert not unseen(shown)
    if text != LONG:
        assert UNSEEN.get(text, text) in shown
    assert max(map(len, shown.splitlines())) <= 300


@pytest.mark.parametrize("text", ["\x1b[31m\u202e", "[red]x[/red][/]", LONG])
def test_a_bar_shows_messages_as_they_are(text, monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        with reporting(True, text, 3) as report:
            report(1, text)
    written = _all_of(ours).decode("utf-8", "replace")
    assert "\u202e" not in written
    assert "\x1b[31m\\u202e" not in written
    assert (text[:12] if text == LONG else printable(text)) in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written)


def _all_of(terminal):
    """What was written to a terminal that is closed at the other end."""
    written = b""
    try:
        while piece := os.read(terminal, 1 << 16):
            written += piece
    except OSError:
        pass
    os.close(terminal)
    return written


def labelled(names, n=120):
    y = np.array(names)[np.arange(n) % len(names)]
    X = np.random.default_rng(0).standard_normal((n, 5)).astype(np.float32)
    X[:, 0] += np.arange(n) % len(names)
    return X, y


@pytest.mark.filterwarnings("ignore:Glyph")  # no font has them all
@pytest.mark.filterwarnings("ignore:y_t")  # such labels are remarked upon
def test_pages_and_files_of_a_run_are_whole(tmp_path):
    X, y = labelled((*ALL, LONG), 400)
    run = fe.train((X, y), classes="all", seeds=1, epochs=3, hidden=(4,))
    run.config["data"] = "\x1b[31mname\u202e"
    assert not unseen(repr(run))
    run.save(tmp_path)
    write_run_report(run, tmp_path / "report.html", points=None, command="\x1b[31m\u202e")
    # The library's own text in the page has control characters.
    page = re.sub(r"(?s)<script[^>]*>.{1000000,}?</script>", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not unseen(page)
    assert LONG[:3000] not in page
    assert pq.read_table(tmp_path / "curves.parquet").num_rows == len(run.epoch) * len(run.classes)
    loaded = fe.load_run(tmp_path)
    assert loaded.classes.tolist() == run.classes.tolist()
    assert not unseen(run._repr_html_())
    run.plot()[0].canvas.draw()


def test_pages_and_files_of_a_measurement_are_whole(tmp_path):
    X, y = labelled(ALL, 400)
    measured = fe.measure(X, y, metrics=["mixing", "geometry"])
    measured.to_parquet(tmp_path / "per_point.parquet")
    assert pq.read_table(tmp_path / "per_point.parquet").num_rows == 400
    write_measurement_report(measured, tmp_path / "report.html", name="\u202e", command="\x1b")
    page = re.sub(r"(?s)<script[^>]*>.{1000000,}?</script>", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not unseen(page)
    compared = fe.compare([measured, measured], ["\x1b[31m", "half \udc80"])
    console = Console(file=io.StringIO(), width=120)
    console.print(compared)
    assert not unseen(console.file.getvalue())
    assert not unseen(repr(compared))
    assert r"half \udc80" in compared.table().column_names
    assert not unseen(compared._repr_html_())


def test_names_of_layers_are_seen_in_what_a_probe_is_printed_as():
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.add_module("a\x1b[31m", torch.nn.Linear(4, 3))
    probe = fe.Probe(model, [(torch.randn(20, 4), torch.arange(20) % 3)], ["a\x1b[31m"])
    probe(0)
    for result in (probe, probe.records):
        assert r"a\x1b[31m" in repr(result)
    assert not unseen(html_table("\x1b", ("\u202e",), [("\x07",)], ("\x9b",)))


def test_a_command_prints_names_that_can_be_seen(tmp_path, monkeypatch, capsys):
    from fastent.cli.main import app

    monkeypatch.chdir(tmp_path)
    X, y = labelled(("\x1b[2J\x1b[31mred", "photo\u202egpj.exe"))
    np.savez("d.npz", X=X, y=y)
    with pytest.raises(SystemExit) as ended:
        app(["run", "--data", "d.npz", "--classes", "all", "--seeds", "1", "--epochs", "3", "--out", "o\x1b[31m\u202e"])
    assert ended.value.code == 0
    for arguments in (["report", "no\x1b[31m\nrun"], ["run", "--data", "\u202e"], ["run", "--no\x1b[31m\u202e"], ["\x1b[31m"]):
        with pytest.raises(SystemExit) as ended:
            app(arguments)
        assert ended.value.code == 2
    written = capsys.readouterr()
    assert not unseen(written.out)
    assert not unseen(written.err)
    assert r"\x1b[2J\x1b[31mred" in written.out
    assert r"photo\u202egpj.exe" in written.out
    assert r"no run in 'no\x1b[31m\nrun'" in written.err
