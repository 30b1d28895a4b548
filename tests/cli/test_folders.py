"""What commands leave behind when they fail, and say when they go on; and the version."""

from unittest import mock

import numpy as np
import pytest

import fastent as fe
from tests.command import fastent


def test_version():
    found = fastent("--version")
    assert (found.exit_code, found.stdout) == (0, f"fastent {fe.__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        ["measure", "nothing.npy", "y.npy"],
        ["measure", "X.npy", "few.npy"],
        ["measure", "X.npy", "y.npy", "--metrics", "nonsense"],
        ["run", "--data", "nothing.npz"],
        ["run", "--subset", "1"],
        ["run", "--data", "X.npy", "--labels", "few.npy", "--stream"],
        ["experiment", "stability", "--data", "nothing.npz"],
        ["experiment", "blocks", "--size", "1"],
        ["capture", "--model", "nothing:make", "--data", "X.npy", "--layers", "a"],
        ["capture", "--model", "torch.nn:Identity", "--data", "X.npy", "--layers", "a"],
    ],
)
def test_a_command_that_fails_leaves_no_folder(command, tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((40, 3)))
    np.save(tmp_path / "y.npy", np.arange(40) % 2)
    np.save(tmp_path / "few.npy", np.arange(20) % 2)
    (tmp_path / "there").mkdir()
    for out in ("new/folder", "there"):
        assert fastent(*command, "--out", out, cwd=tmp_path).exit_code == 2
        assert not (tmp_path / "new").exists()
        assert not list((tmp_path / "there").iterdir())
    (tmp_path / "there" / "own.txt").touch()
    (tmp_path / "there" / "empty").mkdir()
    assert fastent(*command, "--out", "there", cwd=tmp_path).exit_code == 2
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"own.txt", "empty"}


def test_a_measurement_that_is_resumed_says_so(tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((40, 3)))
    np.save(tmp_path / "y.npy", np.arange(40) % 2)
    command = ("measure", "X.npy", "y.npy", "--metrics", "mixing", "--out", "out")
    with mock.patch("fastent.cli.measure._keep", side_effect=KeyboardInterrupt):
        found = fastent(*command, cwd=tmp_path)
    assert (found.exit_code, "resumes from the parts" in found.stderr) == (130, False)
    assert "the measurement resumes from the parts that 'out' keeps" in fastent(*command, cwd=tmp_path).stderr
    assert "resumes" not in fastent(*command, cwd=tmp_path).stderr
