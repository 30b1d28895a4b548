"""The command `fastent` in this process: one of its own takes seconds to import what it needs."""

import contextlib
import os
import sys
from unittest import mock

from typer.testing import CliRunner

from fastent.cli.main import app


def fastent(*arguments, cwd=None, **environment):
    """The result has exit_code, stdout and stderr."""
    words = [str(argument) for argument in arguments]
    with contextlib.chdir(cwd or os.getcwd()), mock.patch.object(sys, "argv", ["fastent", *words]):
        return CliRunner().invoke(app, words, env={"COLUMNS": "120", **environment}, prog_name="fastent")
