"""--out: results of one command are not replaced by those of another, or by others of its own, without --overwrite."""

import json
import shutil

import numpy as np
import pytest
import torch

import fastent as fe
from fastent.cli.existing_output import _experiments
from fastent.cli.experiments import EXPERIMENTS
from tests.command import fastent

COMMANDS = {
    "a run": "run --data digits --epochs 3 --seeds 1 --map none --out {}",
    "a measurement": "measure X.npy y.npy --metrics geometry --out {}",
    "near duplicates": "duplicates X.npy --radius 1 --out {}",
    "a trajectory": "trajectory acts --metrics geometry --out {}",
    "a capture": "capture --model torch.nn:Identity --data X.npy --labels y.npy --layers , --out {}",
    "a result of the experiment dynamics": "experiment dynamics --data digits --epochs 3 --seeds 2 --out {}",
}


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("existing")
    X, y = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32), np.arange(60) % 3
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    for step in (1, 2):
        fe.capture(torch.nn.Identity(), [(torch.from_numpy(X) * step, torch.from_numpy(y))], [""], folder / "acts" / f"s{step}")
    for i, command in enumerate(COMMANDS.values()):
        done = fastent(*command.format(f"out{i}").split(), cwd=folder)
        assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("there", range(len(COMMANDS)), ids=COMMANDS)
def test_no_command_replaces_what_another_wrote(here, there):
    out = here / f"out{there}"
    before = content(out)
    for i, command in enumerate(COMMANDS.values()):
        if i != there:
            refused = fastent(*command.format(out.name).split(), cwd=here)
            assert refused.exit_code == 2, command
            assert f"'{out.name}' holds {list(COMMANDS)[there]}: choose another folder, or --overwrite" in refused.stderr
    assert content(out) == before


def test_a_trajectory_replaces_itself_and_takes_more_checkpoints(here):
    command = COMMANDS["a trajectory"].format("own")
    for _ in range(2):
        assert fastent(*command.split(), cwd=here).exit_code == 0
    changed = fastent(*command.split(), "--normalize", cwd=here)
    assert "'own' holds a trajectory with normalize=False, not True: choose another folder, or --over" in changed.stderr
    shutil.copytree(here / "acts" / "s1", here / "acts" / "s3")
    assert fastent(*command.split(), cwd=here).exit_code == 0
    assert json.loads((here / "own" / "summary.json").read_text())["steps"] == [1, 2, 3]
    shutil.rmtree(here / "acts" / "s3")
    assert fastent(*command.split(), "--normalize", "--overwrite", cwd=here).exit_code == 0
    named = "trajectory acts/s1 {} --metrics geometry --out named"
    assert fastent(*named.format("").split(), cwd=here).exit_code == 0
    assert fastent(*named.format("acts/s2").split(), cwd=here).exit_code == 0
    assert "holds a trajectory with captures=" in fastent(*named.format("").split(), cwd=here).stderr


def test_what_replaced_other_results_can_be_repeated(here):
    shutil.copytree(here / "out0", here / "replaced")
    command = COMMANDS["a measurement"].format("replaced").split()
    assert fastent(*command, "--overwrite", cwd=here).exit_code == 0
    assert fastent(*command, cwd=here).exit_code == 0


@pytest.mark.parametrize("there", range(len(COMMANDS)), ids=COMMANDS)
def test_what_replaces_results_of_another_kind_leaves_none_of_their_files(here, there):
    new = (there + 1) % len(COMMANDS)
    out = here / f"again{there}"
    shutil.copytree(here / f"out{there}", out)
    (out / "notes.txt").touch()
    done = fastent(*list(COMMANDS.values())[new].format(out.name).split(), "--overwrite", cwd=here)
    assert done.exit_code == 0, done.output
    assert content(out).keys() == {*content(here / f"out{new}"), "notes.txt"}


def test_files_of_the_user_are_no_results_of_ours(here):
    out = here / "mine"
    out.mkdir()
    for name in ("manifest.json", "dynamics.json"):
        (out / name).write_text('{"name": "app"}')
    assert fastent(*COMMANDS["a measurement"].format("mine").split(), "--overwrite", cwd=here).exit_code == 0
    assert {"manifest.json", "dynamics.json"} <= content(out).keys()


def test_reports_of_what_has_none_say_what_it_is(here):
    said = {2: "near duplicates, of which", 3: "a trajectory, whose report is 'out3/report.html'", 4: "a capture, of which"}
    for i, what in said.items():
        for others in ((), ("out1",)):
            refused = fastent("report", f"out{i}", *others, "--out", "new.html", cwd=here)
            assert f"'out{i}' holds {what}" in refused.stderr
            assert refused.stderr.count("\n") == 1
    assert not (here / "new.html").exists()


def test_a_folder_that_is_read_is_not_written_to(here):
    shutil.copytree(here / "out4", here / "acts4")
    np.save(here / "acts4" / "own.npy", np.arange(60) % 2)
    (here / "link").symlink_to("acts4")
    before = content(here / "acts4")
    for command in (
        "measure acts4 --out acts4",
        "measure acts4: y.npy --metrics geometry --out link",
        "measure X.npy acts4 --out acts4",
        "duplicates acts4 --radius 1 --out acts4",
        "trajectory acts4 --out acts4",
        "trajectory . --out .",
        "capture --model torch.nn:Identity --data acts4 --layers , --out acts4",
        "run --data acts4 --labels y.npy --stream --out acts4",
        "experiment dynamics --data acts4 --out acts4",
    ):
        refused = fastent(*command.split(), "--overwrite", cwd=here)
        assert refused.exit_code == 2, command
        assert "which is read: name another folder" in refused.stderr, command
    assert content(here / "acts4") == before
    assert fastent("measure", "X.npy", "acts4/own.npy", "--metrics", "geometry", "--out", ".", cwd=here).exit_code == 0


def test_the_results_of_all_experiments_are_known():
    assert set(_experiments()) == set(EXPERIMENTS)


def test_options_that_an_earlier_version_did_not_have_were_as_by_default(here):
    command = ("measure", "X.npy", "y.npy", "--metrics", "margins", "--out", "earlier")
    assert fastent(*command, cwd=here).exit_code == 0
    place = here / "earlier" / "summary.json"
    summary = json.loads(place.read_text())
    del summary["asked"]["standardize"]
    place.write_text(json.dumps(summary))
    refused = fastent(*command, "--standardize", cwd=here)
    assert refused.exit_code == 2
    assert "holds a measurement with standardize=False, not True" in refused.stderr
    assert fastent(*command, cwd=here).exit_code == 0
