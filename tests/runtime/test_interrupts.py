"""Ctrl-C ends the command in one line and exit status 130, whatever it is doing."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.spawn

SAID = "fastent: interrupted"


def slow(tmp_path, where):
    """A module that stands in the place of typer's, torch's ... and takes a minute to be imported."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / f"{where}.py").write_text(
        "import pathlib, time\npathlib.Path('reached').touch()\nfor _ in range(600): time.sleep(0.1)\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "slow"), *sys.path])}


def wait_for(place, process):
    for _ in range(600):
        if place.exists() or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("module", ["typer", "torch"])
def test_while_modules_are_imported(tmp_path, module, script):
    """typer before options are parsed, torch within the command."""
    variables = slow(tmp_path, module)
    command = [sys.executable, "-m", "fastent"]
    if script:
        (tmp_path / "fastent").write_text("import sys\nfrom fastent.cli.main import main\nsys.exit(main())\n")
        command = [sys.executable, str(tmp_path / "fastent")]
    process = subprocess.Popen(
        [*command, "run", "--data", "digits", "--seeds", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, env=os.environ | variables,
    )  # fmt: skip
    wait_for(tmp_path / "reached", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, f"{SAID}\n")


# What becomes of the exception in a callback from C, in a careless library, and in one that turns it into its own.
LOST = {
    "reported": "import ctypes; callback = ctypes.CFUNCTYPE(None)(spin); callback()",
    "caught": "try: spin()\n    except BaseException: pass",
    "turned": "try: spin()\n    except BaseException: raise RuntimeError('no compiled object yet')",
}


@pytest.mark.parametrize("how", LOST)
def test_an_interrupt_that_is_lost_on_its_way_counts(tmp_path, how):
    code = (
        "import pathlib, sys, time\n"
        "sys.argv = ['fastent', 'info']\n"
        "import fastent.cli.main, fastent.cli.options as options\n"
        "def spin():\n"
        "    pathlib.Path('reached').touch()\n"
        "    while True: time.sleep(0.01)\n"
        "@options.plain_errors\n"
        "def command():\n"
        f"    {LOST[how]}\n"
        "    while True: time.sleep(0.01)\n"
        "fastent.cli.main.app = lambda **options: command()\n"
        "fastent.cli.main.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    wait_for(tmp_path / "reached", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, f"{SAID}\n")


def test_a_second_one_ends_it_at_once(tmp_path):
    code = (
        "import pathlib, sys, time, fastent.cli.main, fastent.cli.options as options\n"
        "@options.plain_errors\n"
        "def command():\n"
        "    try:\n"
        "        pathlib.Path('reached').touch()\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        pathlib.Path('tidying').touch()\n"
        "        time.sleep(60)\n"
        "fastent.cli.main.app = lambda **options: command()\n"
        "fastent.cli.main.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    for place in ("reached", "tidying"):
        wait_for(tmp_path / place, process)
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, f"{SAID}\n")
