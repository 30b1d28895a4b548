"""Tables for terminals."""

import io

import pytest
from rich.console import Console

from fastent.runtime.terminal import stacked_table, text_table


@pytest.mark.parametrize("make", [text_table, stacked_table])
def test_long_words_fold_in_narrow_terminals(make):
    long = "/a/folder/whose/name/is/longer/than/the/terminal/is/wide"
    console = Console(width=30, file=io.StringIO(), record=True)
    console.print(make("", ("", "value"), [("kernel cache", long)]))
    lines = console.export_text()
    assert "…" not in lines
    assert long in "".join(each for each in lines if each not in "│┃ \n").replace("kernelcache", "").replace("value", "")
