"""Tables that fit the terminal."""

from fastent.cli.output import fitting_table, show


def printed(rows, capsys, monkeypatch, width=60):
    monkeypatch.setenv("COLUMNS", str(width))
    show(fitting_table("title", ("class", "eps*", "epoch"), rows, "", dispensable=("epoch",)))
    return capsys.readouterr().out


def test_long_names_of_classes_shorten_so_that_numbers_have_room(capsys, monkeypatch):
    name = "a very long class name that a data set of medical pictures may have (details)"
    found = printed([(name, "0.1234", "1,234"), ("other", "0.2", "17")], capsys, monkeypatch)
    assert "a very long class \u2026(details)" in found
    assert "1,234" in found


def test_names_that_differ_are_not_made_the_same(capsys, monkeypatch):
    names = ["a" * 40 + middle + "z" * 40 for middle in "bc"]
    found = "".join(printed([(name, "0.1", "1") for name in names], capsys, monkeypatch, 120).split())
    assert all(name in found for name in names)
