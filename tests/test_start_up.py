"""What is imported, and when: no command or call waits for a package that it does not use. No times are taken."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.spawn

HEAVY = ("torch", "numba", "numpy", "scipy", "sklearn", "pandas", "faiss", "matplotlib", "plotly", "pyarrow", "jinja2", "PIL")
# What nothing needs on the way to the first epoch.
UNUSED = (
    "torch._dynamo", "torch._inductor", "sklearn", "pandas", "scipy.stats", "scipy.ndimage", "scipy.signal", "scipy.optimize",
    "faiss", "matplotlib", "plotly", "pyarrow", "jinja2", "PIL",
)  # fmt: skip

_COMMAND = """
import json, sys

def imported():
    return [name for name in {names!r} if name in sys.modules]

at_start = None
def note_start(session):
    def train(self, *arguments):
        global at_start
        at_start = imported()
        return session(self, *arguments)
    return train

if {arguments!r}[0] == "run" and "--help" not in {arguments!r}:
    from fastent.training.in_memory_session import InMemorySession
    from fastent.training.streamed_session import StreamedSession
    InMemorySession.train = note_start(InMemorySession.train)
    StreamedSession.result = note_start(StreamedSession.result)

from fastent.cli.main import main
sys.argv = ["fastent", *{arguments!r}]
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, at_start, imported()]), file=sys.stderr)
"""


def python(code, cwd=None):
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)


def command(*arguments, names, cwd=None):
    """The exit status, and which of the modules were imported before training began and at the end."""
    return json.loads(python(_COMMAND.format(names=names, arguments=arguments), cwd).stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["run", "--help"], 0),
        (["experiment", "--help"], 0),
        (["--nonsense"], 2),
        (["measure", "--nonsense"], 2),
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(arguments, status):
    assert command(*arguments, names=HEAVY) == [status, None, []]


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(120, 5)), np.arange(120) % 3
    np.savez(tmp_path / "own.npz", x_train=X, y_train=y)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "pictures.npy", X[:, :4].reshape(-1, 2, 2))
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--data", "own.npz", "--optimizer", "adam", "--batch-size", "40"],
        ["--data", "X.npy", "--labels", "y.npy", "--momentum", "0.9"],
        ["--data", "pictures.npy", "--labels", "y.npy", "--model", "cnn"],
        ["--data", "X.npy", "--labels", "y.npy", "--stream", "--batch-size", "40"],
    ],
)
def test_training_begins_without_what_it_does_not_use(folder, options):
    status, at_start, _ = command("run", *options, "--epochs", "3", "--seeds", "2", "--json", names=UNUSED, cwd=folder)
    assert (status, at_start) == (0, [])


def test_a_run_that_writes_nothing_imports_nothing_for_it(folder):
    status, _, at_end = command("run", "--data", "own.npz", "--epochs", "30", "--seeds", "3", names=UNUSED, cwd=folder)
    assert (status, at_end) == (0, [])


@pytest.mark.parametrize(
    ("call", "unused"),
    [
        ("fe.neighbors(X)", ("torch", *UNUSED)),
        ("fe.margins(X, y)", ("torch", *UNUSED)),
        ("fe.geometry(X, y)", ("torch", *UNUSED)),
        ("fe.measure(X, y)", ("torch", "sklearn", "pandas", "matplotlib", "plotly", "pyarrow", "jinja2")),
        ("fe.train((X, y), seeds=2, epochs=20)", UNUSED),
        ("fe.load_data('digits')", ("torch", "numba", *UNUSED)),
    ],
)
def test_calls_import_what_they_use(call, unused):
    code = (
        "import sys, numpy as np, fastent as fe\n"
        "X, y = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32), np.arange(300) % 3\n"
        f"{call}\n"
        f"print([name for name in {unused!r} if name in sys.modules])"
    )
    assert python(code).stdout.strip() == "[]"
